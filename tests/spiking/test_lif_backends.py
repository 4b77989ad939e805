"""Back-ends are chosen in the open: what was asked for runs or is refused, and `explain` says which."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from t4dm.errors import MissingBackendError, UnknownBackendError
from t4dm.spiking import lif_backends
from t4dm.spiking.lif import LIFParams, LIFState, explain_backends, lif_scan, lif_trajectory
from t4dm.spiking.surrogate import ATAN, REGISTRY, Surrogate

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BACKENDS = ["naive", "cpu", pytest.param("triton", marks=pytest.mark.gpu)]


@pytest.fixture
def without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lif_backends, "find_spec", lambda name: None)


@pytest.fixture
def with_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lif_backends, "find_spec", lambda name: object())
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)


def test_a_backend_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(
        UnknownBackendError, match="pass backend= one of auto, cpu, naive, triton, in a config"
    ):
        lif_scan(torch.ones(1, 1, 1), None, LIFParams(torch.tensor([0.5])), backend="cuda_magic")


@pytest.mark.usefixtures("without_triton")
def test_triton_without_triton_is_an_error_and_never_another_backend() -> None:
    with pytest.raises(MissingBackendError, match=r"'triton' cannot run here .*not installed"):
        lif_scan(torch.ones(1, 1, 1), None, LIFParams(torch.tensor([0.5])), backend="triton")


@pytest.mark.usefixtures("with_triton")
def test_triton_for_currents_on_the_cpu_is_an_error() -> None:
    with pytest.raises(MissingBackendError, match="the current is on cpu, and it runs on cuda"):
        lif_scan(torch.ones(1, 1, 1), None, LIFParams(torch.tensor([0.5])), backend="triton")


@pytest.mark.usefixtures("with_triton")
def test_triton_refuses_a_surrogate_that_its_kernels_do_not_know() -> None:
    mine = Surrogate("mine", ATAN.spike, ATAN.derivative)
    with pytest.raises(MissingBackendError, match="registered surrogates only, and 'mine' is not one"):
        lif_backends.choose("triton", CUDA, mine)
    assert lif_backends.choose("auto", CUDA, mine) == "cpu"


@pytest.mark.usefixtures("with_triton")
def test_auto_takes_triton_on_a_gpu_and_the_cpu_function_elsewhere() -> None:
    assert lif_backends.choose("auto", CUDA, ATAN) == "triton"
    assert lif_backends.choose("auto", CPU, ATAN) == "cpu"
    assert explain_backends(CUDA)["auto"] == "triton"
    assert explain_backends(CUDA)["triton"].startswith("one GPU kernel")


@pytest.mark.usefixtures("without_triton")
def test_explain_says_why_a_backend_is_not_here() -> None:
    told = explain_backends(CUDA)
    assert told.keys() == {"naive", "cpu", "triton", "auto"}
    assert told["triton"] == "not here: triton is not installed"
    assert told["auto"] == "cpu"


@pytest.mark.parametrize("name", ["naive", "cpu"])
def test_the_portable_backends_are_what_their_names_say_on_any_device(name: str) -> None:
    assert lif_backends.choose(name, CPU, ATAN) == lif_backends.choose(name, CUDA, ATAN) == name
    assert lif_backends.backend(name).__module__ == f"t4dm.spiking.lif_{name}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_membrane_exactly_at_threshold_fires_and_its_reset_leaves_nothing_to_leak(backend: str) -> None:
    decay = torch.tensor([0.5], device=DEVICE).requires_grad_()
    current = torch.tensor([1.0, 0.25], device=DEVICE).view(1, 2, 1)
    out = lif_trajectory(current, None, LIFParams(decay), backend=backend)
    assert out.spikes.flatten().tolist() == [1.0, 0.0]
    assert out.membrane.flatten().tolist() == [1.0, 0.25]
    (gradient,) = torch.autograd.grad(out.membrane.sum(), decay)
    assert gradient.item() == 0.0


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_no_backend_has_a_surrogate_whose_gradient_is_zero(name: str, backend: str) -> None:
    random = torch.Generator().manual_seed(0)
    current = torch.randn(2, 12, 5, generator=random).to(DEVICE).requires_grad_()
    params = LIFParams(torch.full((5,), 0.7, device=DEVICE), surrogate=REGISTRY[name])
    spikes, _ = lif_scan(current, None, params, backend=backend)
    (gradient,) = torch.autograd.grad(spikes.sum(), current)
    assert float((gradient.abs() > 1e-4).float().mean()) > 0.2


def saved_windows(backend: str, **options: Tensor) -> float:
    """How much memory the backward keeps alive, in windows, leaving out what is smaller than one."""
    current = torch.randn(2, 30, 8, device=DEVICE).requires_grad_()
    params = LIFParams(torch.full((8,), 0.7, device=DEVICE).requires_grad_())
    window, kept = current.numel() * 4, {}

    def pack(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.nbytes() >= window:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        lif_trajectory(
            current, LIFState(torch.zeros(2, 8, device=DEVICE)), params, backend=backend, **options
        )
    return sum(kept.values()) / window


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_the_fused_backends_save_one_window_h_and_nothing_else(backend: str) -> None:
    some = torch.rand(2, 30, device=DEVICE) > 0.3
    shift = torch.zeros(2, 30, 1, device=DEVICE).requires_grad_()
    assert saved_windows(backend) == 1
    assert saved_windows(backend, mask=some, reset=~some, threshold_shift=shift) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_checkpointed_layer_has_the_same_gradients(backend: str) -> None:
    current = torch.randn(2, 12, 5, generator=torch.Generator().manual_seed(0)).to(DEVICE).requires_grad_()
    decay = torch.full((5,), 0.7, device=DEVICE).requires_grad_()

    def layer(x: Tensor, leak: Tensor) -> Tensor:
        return lif_scan(2.0 * x, None, LIFParams(leak), backend=backend)[0]

    plain = torch.autograd.grad(layer(current, decay).sum(), (current, decay))
    again = checkpoint(layer, current, decay, use_reentrant=False)
    for one, other in zip(torch.autograd.grad(again.sum(), (current, decay)), plain, strict=True):
        assert torch.equal(one, other)
