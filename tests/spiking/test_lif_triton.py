"""The Triton kernels against the CPU function: on a GPU (`-m gpu`), without one in Triton's interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from t4dm.spiking.lif import LIFParams, LIFState, lif_trajectory
from t4dm.spiking.surrogate import REGISTRY, surrogate

HERE = Path(__file__).parent
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FILES = ("test_lif_triton.py", "test_lif_judges.py", "test_lif_invariance.py", "test_lif_backends.py")
SWITCHES: dict[str, bool | int] = {f"HAS_{name}": True for name in ("GS", "GH", "GU", "THETA", "CODE")}
SWITCHES |= {"DETACH": False, "KIND": 0, "BLOCK": 32}


@pytest.mark.parametrize(
    "which",
    [
        pytest.param("stored or registered or one_graph", id="in short"),
        pytest.param("", id="in full", marks=pytest.mark.slow),
    ],
)
def test_the_kernels_hold_in_tritons_interpreter(which: str) -> None:
    pytest.importorskip("triton")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-k", which, "-p", "no:cacheprovider"]
        + [str(HERE / name) for name in FILES],
        cwd=HERE.parents[1],
        env=os.environ | {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="an interpreter compiles nothing")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", ["_forward", "_backward"])
def test_the_kernels_compile_for_a_gpu_that_is_not_here_and_keep_every_rounding(
    name: str, capability: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget  # type: ignore[import-not-found]

    from t4dm.spiking import lif_triton

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = getattr(lif_triton, name)
    kinds = {"code": "*u8", "threshold": "fp32", "steps": "i32", "width": "i32"}
    kinds |= {f"stride_{axis}": "i32" for axis in "btd"}
    given = {key: value for key, value in SWITCHES.items() if key in kernel.arg_names}
    signature = {key: "constexpr" if key in given else kinds.get(key, "*fp32") for key in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel, signature, constexprs=given)
    options = {"num_warps": 1, "enable_fp_fusion": False}
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert built.asm["cubin"]
    assert "fma.rn.f32" not in built.asm["ptx"]


def normal(random: torch.Generator, dtype: torch.dtype, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=random, dtype=dtype).to(DEVICE)


def answers(
    backend: str, dtype: torch.dtype, *, marked: bool, shift: int, detach: bool, name: str, width: int = 37
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Outputs and all gradients; `shift` is the width of the threshold shift, 0 for none."""
    random = torch.Generator().manual_seed(3)
    shape = (2, 9, width)
    marks = torch.rand(2, 2, 9, generator=random).to(DEVICE)
    decay = torch.rand(width, generator=random, dtype=dtype).to(DEVICE)
    x = [normal(random, dtype, *shape), decay, 0.3 * normal(random, dtype, 2, width)]
    x += [0.1 * normal(random, dtype, 2, 9, shift)] if shift else []
    weights = [normal(random, dtype, *shape), normal(random, dtype, *shape), normal(random, dtype, 2, width)]
    for part in x:
        part.requires_grad_()
    out = lif_trajectory(
        x[0],
        LIFState(x[2]),
        LIFParams(x[1], 0.7, surrogate(name), detach),
        threshold_shift=x[3] if shift else None,
        mask=marks[0] > 0.3 if marked else None,
        reset=marks[1] > 0.7 if marked else None,
        backend=backend,
    )
    parts = (out.spikes, out.membrane, out.state.u)
    loss = sum((0.3 * part * weight).sum() for part, weight in zip(parts, weights, strict=True))
    return parts, torch.autograd.grad(loss, x)


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(REGISTRY))
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("shift", [0, 1, 37])
@pytest.mark.parametrize("marked", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
def test_every_output_and_gradient_is_the_cpu_functions(
    dtype: torch.dtype, marked: bool, shift: int, detach: bool, name: str
) -> None:
    how: dict[str, Any] = {"marked": marked, "shift": shift, "detach": detach, "name": name}
    (expected, grads), (got, mine) = answers("cpu", dtype, **how), answers("triton", dtype, **how)
    close = 2e-6 if dtype == torch.float32 else 1e-12
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got, expected, atol=close / 2, rtol=close / 2)
    torch.testing.assert_close(mine, grads, atol=close, rtol=close)


@pytest.mark.gpu
@pytest.mark.parametrize("width", [1, 31, 32, 33, 65])
def test_channels_that_do_not_fill_a_block_are_as_good_as_those_that_do(width: int) -> None:
    how: dict[str, Any] = {"marked": True, "shift": 1, "detach": True, "name": "atan", "width": width}
    expected, got = answers("cpu", torch.float64, **how), answers("triton", torch.float64, **how)
    torch.testing.assert_close(got, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.gpu
def test_currents_and_gradients_may_lie_in_memory_as_they_like() -> None:
    random = torch.Generator().manual_seed(0)
    base = normal(random, torch.float64, 7, 2, 12)
    params = LIFParams(torch.full((6,), 0.8, dtype=torch.float64, device=DEVICE))

    def gradient(backend: str) -> Tensor:
        x = base.clone().requires_grad_()
        out = lif_trajectory(x.transpose(0, 1)[:, :, ::2], None, params, backend=backend)
        return torch.autograd.grad(out.spikes.transpose(0, 2).cumsum(0).sum() + out.membrane.sum(), x)[0]

    torch.testing.assert_close(gradient("triton"), gradient("cpu"), atol=1e-12, rtol=1e-12)


def arguments(*, theta: bool, code: bool) -> tuple[Any, ...]:
    random = torch.Generator().manual_seed(0)
    x = [normal(random, torch.float32, *shape) for shape in ((2, 5, 3), (2, 3), (3,), (2, 5, 1))]
    level = x[3].abs().requires_grad_() if theta else None
    marks = torch.tensor([[0, 1, 2, 0, 3], [2, 0, 0, 1, 0]], dtype=torch.uint8, device=DEVICE)
    inputs = (x[0].requires_grad_(), x[1].requires_grad_(), x[2].sigmoid().detach().requires_grad_())
    return (*inputs, level, marks if code else None, 0.7, "atan", False)


@pytest.mark.gpu
@pytest.mark.parametrize("theta", [False, True])
@pytest.mark.parametrize("code", [False, True])
def test_the_custom_op_is_registered_as_torch_asks(theta: bool, code: bool) -> None:
    from t4dm.spiking.lif_triton import lif_forward

    torch.library.opcheck(lif_forward, arguments(theta=theta, code=code))


@pytest.mark.gpu
def test_it_compiles_to_one_graph_with_the_same_gradients() -> None:
    def loss(current: Tensor, decay: Tensor) -> Tensor:
        params = LIFParams(decay, 0.7)
        out = lif_trajectory(2.0 * current, None, params, backend="triton")
        return (out.spikes * out.membrane).sum() + out.state.u.sum()

    random = torch.Generator().manual_seed(0)
    current = normal(random, torch.float32, 2, 9, 5).requires_grad_()
    decay = torch.full((5,), 0.8, device=DEVICE, requires_grad=True)
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(loss(current, decay), (current, decay))
    torch.testing.assert_close(torch.autograd.grad(compiled(current, decay), (current, decay)), expected)
