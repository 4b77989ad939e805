"""Back-ends of attention and RWKV are chosen in the open; fla's kernels are called by fla's conventions."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from t4dm.errors import MissingBackendError
from t4dm.plasticity.traces import linear_scan
from t4dm.spiking import attention_backends, fla_kernels, rwkv_naive
from t4dm.spiking.attention_backends import choose, explain_attention_backends
from t4dm.spiking.context import Context, make_context
from t4dm.spiking.lif import LIFParams, LIFState, lif_trajectory
from t4dm.spiking.rwkv import rwkv6
from t4dm.spiking.spike_attention import FastWeights, STDPWindow, stdp_attention
from t4dm.spiking.stdp_attention import BLOCKED

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
BATCH, STEPS, HEADS, WIDTH = 2, 12, 2, 3
KINDS = ["plain", "mask", "reset", "mask and reset"]


@pytest.fixture
def without_fla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_backends, "find_spec", lambda name: None)


@pytest.fixture
def with_fla(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_backends, "find_spec", lambda name: object())


def normal(*shape: int, seed: int = 0, device: str = "cpu") -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(device)


def places(kind: str, steps: int = STEPS, device: str = "cpu") -> Context:
    generator = torch.Generator().manual_seed(3)
    mask = (torch.rand(BATCH, steps, generator=generator) > 0.3).to(device) if "mask" in kind else None
    reset = torch.rand(BATCH, steps, generator=generator) > 0.7
    reset[:, 0] = torch.tensor([True, False])
    return make_context(mask=mask, reset=reset.to(device) if "reset" in kind else None)


@pytest.mark.usefixtures("without_fla")
def test_fla_without_fla_is_an_error_and_never_another_backend() -> None:
    tokens = [normal(1, 2, 1, 2) for _ in range(3)]
    with pytest.raises(
        MissingBackendError,
        match=r"fla-core is not installed\); pass .*'torch_chunk', .*\.rwkv_backend=auto$",
    ):
        rwkv6(*tokens, tokens[0], torch.ones(1, 2), torch.zeros(1, 1, 2, 2), backend="fla")
    state = FastWeights(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2), torch.zeros(1, 2))
    window = STDPWindow(*torch.full((2, 1, 2), -0.1), *torch.ones(2, 1, 1))
    with pytest.raises(
        MissingBackendError,
        match=r"spike attention.*pass backend='auto' or 'chunk', .*\.attention_mode=auto$",
    ):
        stdp_attention(*tokens, state, window, mode="fla")


@pytest.mark.usefixtures("with_fla")
def test_fla_for_tokens_on_the_cpu_is_an_error() -> None:
    with pytest.raises(MissingBackendError, match="the tokens are on cpu, and it runs on cuda"):
        choose("rwkv", "fla", CPU)


@pytest.mark.usefixtures("with_fla")
def test_auto_takes_fla_on_a_gpu_and_chunks_elsewhere() -> None:
    told = explain_attention_backends(CUDA)
    assert {kernel: lines["auto"] for kernel, lines in told.items()} == {
        "spike attention": "fla",
        "rwkv": "fla",
    }
    assert told["rwkv"]["fla"].startswith("Triton chunk kernels")
    assert (choose("spike attention", "auto", CPU), choose("rwkv", "auto", CPU)) == ("chunk", "torch_chunk")


@pytest.mark.usefixtures("without_fla")
def test_explain_says_why_fla_is_not_here_and_what_runs_instead() -> None:
    told = explain_attention_backends(CUDA)
    assert told["rwkv"].keys() == {"torch_chunk", "torch_recurrent", "fla", "auto"}
    assert told["spike attention"].keys() == {"chunk", "recurrent", "quadratic", "fla", "auto"}
    assert told["rwkv"]["fla"] == "not here: fla-core is not installed"
    assert (told["spike attention"]["auto"], told["rwkv"]["auto"]) == ("chunk", "torch_chunk")


def test_documents_are_cut_at_rows_and_starts() -> None:
    reset = torch.tensor([[0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]).bool()
    cut = fla_kernels.documents(reset)
    assert cut.bounds.tolist() == [0, 2, 4, 7, 8, 12]
    assert cut.first.tolist() == [0, 2, 4]
    assert cut.last.tolist() == [1, 3, 4]
    assert cut.fresh.tolist() == [False, True, False]


def scaled(queries: Tensor, scale: float | None) -> Tensor:
    """fla's queries: times K^-1/2 unless told otherwise."""
    return queries * (queries.shape[-1] ** -0.5 if scale is None else scale)


def by_sequence(run: Callable[..., tuple[Tensor, Tensor]], tokens: list[Tensor], options: dict) -> tuple:  # type: ignore[type-arg]
    """fla's variable-length convention: one row, sequences between `cu_seqlens`, a state for each."""
    S, bounds = options["initial_state"], options.get("cu_seqlens")
    assert S.dtype == torch.float32
    assert options["output_final_state"]
    assert all(x.is_contiguous() for x in tokens)
    if bounds is None:
        return run(*tokens, S)
    assert all(x.shape[0] == 1 for x in tokens)
    assert S.shape[0] == len(bounds) - 1
    spans = [slice(a, b) for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)]
    parts = [run(*(x[:, span] for x in tokens), S[i : i + 1]) for i, span in enumerate(spans)]
    return torch.cat([out for out, _ in parts], 1), torch.cat([S for _, S in parts])


def kernel_rwkv6(
    r: Tensor, k: Tensor, v: Tensor, w: Tensor, u: Tensor, scale: float | None = None, **options
):  # type: ignore[no-untyped-def]
    """The signature of fla's `chunk_rwkv6`, computed token by token."""

    def run(r: Tensor, k: Tensor, v: Tensor, w: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        return rwkv_naive.recurrent(scaled(r, scale), k, v, w, u, S, Context())

    return by_sequence(run, [r, k, v, w], options)


def kernel_gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, scale: float | None = None, **options):  # type: ignore[no-untyped-def]
    """The signature of fla's `chunk_gla`, by fla's naive reference one sequence at a time."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from fla.ops.gla.naive import naive_recurrent_gla

    def run(q: Tensor, k: Tensor, v: Tensor, g: Tensor, S: Tensor) -> tuple[Tensor, Tensor]:
        # the reference knows no scale but its own
        return naive_recurrent_gla(scaled(q, scale) * q.shape[-1] ** 0.5, k, v, g, S, True)

    return by_sequence(run, [q, k, v, g], options)


@pytest.mark.parametrize("kind", KINDS)
def test_fla_is_called_so_that_padding_documents_and_states_come_out_right(kind: str) -> None:
    context, shape = places(kind), (BATCH, STEPS, HEADS, WIDTH)
    r, k, v, w = (normal(*shape, seed=i) for i in range(4))
    w, u, S = -torch.sigmoid(w), normal(HEADS, WIDTH, seed=5), normal(BATCH, HEADS, WIDTH, WIDTH, seed=6)
    expected = rwkv6(r, k, v, w, u, S, context=context, backend="torch_recurrent")
    if context.mask is not None:
        keep = context.mask[:, :, None, None]
        k, w = k * keep, w * keep
    got = fla_kernels.rwkv6(r, k, v, w, u, S, reset=context.reset, kernel=kernel_rwkv6)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


@pytest.mark.skipif(
    find_spec("fla") is None or find_spec("triton") is None, reason="fla-core or triton is not installed"
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_reference_of_fla_behind_our_conventions_is_our_chunked_form(kind: str) -> None:
    context = places(kind)
    q, k, v = ((normal(BATCH, STEPS, HEADS, WIDTH, seed=i) > 0.5).float() for i in range(3))
    window = STDPWindow(*-torch.sigmoid(normal(2, HEADS, WIDTH)), torch.ones(HEADS, 1), torch.zeros(HEADS, 1))
    zeros = torch.zeros(BATCH, HEADS * WIDTH)
    S = normal(BATCH, HEADS, WIDTH, WIDTH)
    expected, fast = stdp_attention(
        q, k, v, FastWeights(S, zeros, zeros), window, context=context, epsilon=1e6, mode="chunk"
    )
    log = window.log_plus.expand(BATCH, STEPS, -1, -1)
    if context.mask is not None:
        keep = context.mask[:, :, None, None]
        q, k, log = q * keep, k * keep, log * keep
    out, after = fla_kernels.gla(q, k, v, log, S, reset=context.reset, kernel=kernel_gla)
    # with epsilon at 1e6 the normaliser is 1e6 to five digits
    torch.testing.assert_close(out, 1e6 * expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after, fast.S, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["naive", "cpu", pytest.param("triton", marks=pytest.mark.gpu)])
def test_a_neuron_behind_a_threshold_that_nothing_reaches_is_a_leaky_trace(kind: str, backend: str) -> None:
    """On a GPU the traces of spike attention run in the neurons' fused kernel."""
    device = "cuda" if backend == "triton" else "cpu"
    context = places(kind, device=device)

    def leaves() -> list[Tensor]:
        drive = normal(BATCH, STEPS, 5, device=device)
        if context.mask is not None:
            drive = drive * context.mask.unsqueeze(-1)
        decay = torch.sigmoid(normal(5, seed=1, device=device))
        return [x.requires_grad_() for x in (drive, decay, normal(BATCH, 5, seed=2, device=device))]

    def both(out: Tensor, last: Tensor, x: list[Tensor]) -> list[Tensor]:
        loss = (out * normal(*out.shape, seed=4, device=device)).sum() + last.square().sum()
        return [out, last, *torch.autograd.grad(loss, x)]

    x = leaves()
    fired = lif_trajectory(
        x[0],
        LIFState(x[2]),
        LIFParams(x[1], BLOCKED),
        mask=context.mask,
        reset=context.reset,
        backend=backend,
    )
    mine = both(fired.membrane, fired.state.u, x)
    x = leaves()
    y, last = linear_scan(*x, mask=context.mask, reset=context.reset)
    torch.testing.assert_close(mine, both(y, last, x), atol=1e-5, rtol=1e-5)
    assert not bool(fired.spikes.any())


def rms(mine: Tensor, exact: Tensor) -> float:
    return float(
        (mine.double() - exact.double()).square().mean().sqrt() / exact.double().square().mean().sqrt()
    )


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 5e-3), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("steps", [1, 65, 257])
def test_the_kernels_of_fla_say_what_ours_say_both_ways(
    steps: int, dtype: torch.dtype, tolerance: float, kind: str
) -> None:
    """Their products run in tf32 or bf16 whatever the inputs: the bounds are those of fla's own tests."""
    context, shape = places(kind, steps, "cuda"), (BATCH, steps, HEADS, 32)
    r, k, v, w = (normal(*shape, seed=i, device="cuda").to(dtype) for i in range(4))
    S = normal(BATCH, HEADS, 32, 32, seed=6, device="cuda")
    u, on = normal(HEADS, 32, seed=5, device="cuda"), normal(*shape, seed=7, device="cuda")

    def both(backend: str) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (r, k, v, w, u, S)]
        decay = -0.6065 * torch.sigmoid(leaves[3].float())
        out, after = rwkv6(*leaves[:3], decay, *leaves[4:], backend=backend, context=context)
        return [out, after, *torch.autograd.grad((out * on).sum() + after.sum(), leaves)]

    for mine, exact in zip(both("fla"), both("torch_recurrent"), strict=True):
        assert rms(mine, exact) < tolerance


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", [1, 65, 257])
def test_spike_attention_by_fla_is_spike_attention_both_ways(steps: int, kind: str) -> None:
    context, shape = places(kind, steps, "cuda"), (BATCH, steps, HEADS, 32)
    q, k = ((normal(*shape, seed=i, device="cuda") > 1.0).float() for i in range(2))
    v, S = normal(*shape, seed=2, device="cuda"), normal(BATCH, HEADS, 32, 32, seed=6, device="cuda")
    z, ybar = normal(2, BATCH, HEADS * 32, seed=3, device="cuda").abs()
    logit = normal(2, HEADS, 32, seed=4, device="cuda")

    def both(mode: str) -> list[Tensor]:
        leaves = [x.clone().requires_grad_() for x in (q, k, v, S, z, ybar, logit)]
        log = -0.6 * torch.sigmoid(leaves[6])
        ones = torch.ones(HEADS, 1, device="cuda")
        out, fast = stdp_attention(
            *leaves[:3],
            FastWeights(*leaves[3:6]),
            STDPWindow(log[0], log[1], ones, 0.35 * ones),
            mode=mode,
            context=context,
        )
        return [out, *fast, *torch.autograd.grad(out.square().sum() + fast.S.sum(), leaves)]

    for mine, exact in zip(both("fla"), both("recurrent"), strict=True):
        assert rms(mine, exact) < 5e-3
