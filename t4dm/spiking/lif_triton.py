"""The LIF neuron as one Triton kernel over the sequence each way. Import it only where Triton is installed.

Each program owns one row of the batch and a block of channels and walks through time with the membrane in
registers. Blocks are small because the walk is bound by latency: many programs, little work each. As in
`lif_cpu`, whose equations these are, only h is saved.
"""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found]
import triton.language as tl  # type: ignore[import-not-found]
from torch import Tensor

from t4dm.spiking.lif_params import Drive, LIFParams, LIFTrajectory
from t4dm.spiking.state import LIFState

BLOCK = 32
KINDS = {"atan": 0, "fast_sigmoid": 1, "sigmoid": 2, "ste_rect": 3, "superspike": 4}


def run(drive: Drive, params: LIFParams) -> LIFTrajectory:
    """Integrate on the GPU, or in Triton's interpreter."""
    code, theta = _code(drive), drive.theta
    if theta is None and drive.current.dtype != torch.float32:
        theta = drive.current.new_full((1, 1, 1), params.threshold)  # a kernel's scalars are fp32
    spikes, membrane, last = lif_forward(
        drive.current,
        drive.u0,
        drive.decay,
        theta,
        code,
        params.threshold,
        params.surrogate.name,
        params.detach_reset,
    )
    return LIFTrajectory(spikes, membrane, LIFState(last))


def _code(drive: Drive) -> Tensor | None:
    """Bit 0 is padding, bit 1 a document's start, `[B, T]`."""
    if drive.mask is None:
        return None if drive.reset is None else drive.reset.to(torch.uint8) * 2
    padding = (~drive.mask).to(torch.uint8)
    return padding if drive.reset is None else padding + drive.reset.to(torch.uint8) * 2


@torch.library.custom_op("t4dm::lif_forward", mutates_args=())
def lif_forward(
    current: Tensor,
    u0: Tensor,
    decay: Tensor,
    theta: Tensor | None,
    code: Tensor | None,
    threshold: float,
    surrogate: str,
    detach_reset: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes and membranes `[B, T, D]` and the last state `[B, D]`; the surrogate is for the backward."""
    current, code = current.contiguous(), None if code is None else code.contiguous()
    batch, steps, width = current.shape
    s, h, u = torch.empty_like(current), torch.empty_like(current), current.new_empty(batch, width)
    levels = None if theta is None else theta.expand_as(current)
    with torch.cuda.device_of(current):
        _forward[(batch, triton.cdiv(width, BLOCK))](
            current,
            u0.contiguous(),
            decay.contiguous(),
            levels,
            code,
            s,
            h,
            u,
            threshold,
            steps,
            width,
            *((0, 0, 0) if levels is None else levels.stride()),
            HAS_THETA=levels is not None,
            HAS_CODE=code is not None,
            BLOCK=BLOCK,
            num_warps=1,
            enable_fp_fusion=False,  # as the CPU rounds: the same spikes, not almost the same
        )
    return s, h, u


@torch.library.custom_op("t4dm::lif_backward", mutates_args=())
def lif_backward(
    gs: Tensor | None,
    gh: Tensor | None,
    gu: Tensor | None,
    h: Tensor,
    u0: Tensor,
    decay: Tensor,
    theta: Tensor | None,
    code: Tensor | None,
    threshold: float,
    surrogate: str,
    detach_reset: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the current, the first state, the decay and the threshold (empty where it is constant)."""
    batch, steps, width = h.shape
    levels = None if theta is None else theta.expand_as(h)
    grads = [None if g is None else g.contiguous() for g in (gs, gh, gu)]
    code = None if code is None else code.contiguous()
    g_current, g_u0, g_decay = torch.empty_like(h), h.new_empty(batch, width), h.new_empty(batch, width)
    g_theta = h.new_empty(0) if levels is None else torch.empty_like(h)
    with torch.cuda.device_of(h):
        _backward[(batch, triton.cdiv(width, BLOCK))](
            *grads,
            h,
            u0.contiguous(),
            decay.contiguous(),
            levels,
            code,
            g_current,
            g_u0,
            g_decay,
            g_theta,
            threshold,
            steps,
            width,
            *((0, 0, 0) if levels is None else levels.stride()),
            HAS_GS=gs is not None,
            HAS_GH=gh is not None,
            HAS_GU=gu is not None,
            HAS_THETA=levels is not None,
            HAS_CODE=code is not None,
            DETACH=detach_reset,
            KIND=KINDS[surrogate],
            BLOCK=BLOCK,
            num_warps=1,
            enable_fp_fusion=False,  # as the CPU rounds: the same spikes, not almost the same
        )
    return g_current, g_u0, g_decay.sum(0), g_theta if theta is None else g_theta.sum_to_size(theta.shape)


@lif_forward.register_fake
def _(current, u0, decay, theta, code, threshold, surrogate, detach_reset):  # type: ignore[no-untyped-def]
    like = current.new_empty(current.shape)
    return like, torch.empty_like(like), current.new_empty(u0.shape)


@lif_backward.register_fake
def _(gs, gh, gu, h, u0, decay, theta, code, threshold, surrogate, detach_reset):  # type: ignore[no-untyped-def]
    g_theta = h.new_empty(0) if theta is None else h.new_empty(theta.shape)
    return torch.empty_like(h), h.new_empty(u0.shape), h.new_empty(decay.shape), g_theta


def _save(ctx, inputs, output):  # type: ignore[no-untyped-def]
    _, u0, decay, theta, code, *ctx.settings = inputs
    ctx.save_for_backward(output[1], u0, decay, theta, code)
    ctx.set_materialize_grads(False)


def _differentiate(ctx, gs, gh, gu):  # type: ignore[no-untyped-def]
    h, u0, decay, theta, code = ctx.saved_tensors
    g_current, g_u0, g_decay, g_theta = lif_backward(gs, gh, gu, h, u0, decay, theta, code, *ctx.settings)
    return g_current, g_u0, g_decay, None if theta is None else g_theta, None, None, None, None


lif_forward.register_autograd(_differentiate, setup_context=_save)


@triton.jit
def _forward(
    current,
    u0,
    decay,
    theta,
    code,
    s_out,
    h_out,
    u_out,
    threshold,
    steps,
    width,
    stride_b,
    stride_t,
    stride_d,
    HAS_THETA: tl.constexpr,
    HAS_CODE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < width
    alpha = tl.load(decay + d, mask=inside, other=0.0)
    u = tl.load(u0 + b * width + d, mask=inside, other=0.0)
    for t in range(steps):
        at = (b * steps + t) * width + d
        a = alpha
        level = threshold
        if HAS_THETA:
            level = tl.load(theta + b * stride_b + t * stride_t + d * stride_d, mask=inside, other=0.0)
        if HAS_CODE:
            c = tl.load(code + b * steps + t)
            a = _step_decay(alpha, c)
        h = a * u + tl.load(current + at, mask=inside, other=0.0)
        s = (h >= level).to(h.dtype)
        if HAS_CODE:
            s = tl.where((c & 1) == 1, 0.0, s)
        u = h - level * s
        tl.store(h_out + at, h, mask=inside)
        tl.store(s_out + at, s, mask=inside)
    tl.store(u_out + b * width + d, u, mask=inside)


@triton.jit
def _backward(
    gs,
    gh,
    gu,
    h_in,
    u0,
    decay,
    theta,
    code,
    g_current,
    g_u0,
    g_decay,
    g_theta,
    threshold,
    steps,
    width,
    stride_b,
    stride_t,
    stride_d,
    HAS_GS: tl.constexpr,
    HAS_GH: tl.constexpr,
    HAS_GU: tl.constexpr,
    HAS_THETA: tl.constexpr,
    HAS_CODE: tl.constexpr,
    DETACH: tl.constexpr,
    KIND: tl.constexpr,
    BLOCK: tl.constexpr,
):
    b = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = d < width
    alpha = tl.load(decay + d, mask=inside, other=0.0)
    on_u = tl.zeros_like(alpha)  # dL/du of the step at hand
    if HAS_GU:
        on_u = tl.load(gu + b * width + d, mask=inside, other=0.0)
    on_decay = tl.zeros_like(alpha)
    leaking = tl.zeros_like(alpha)  # dL/dh of the step after, 0 where that step's decay is not alpha
    for back in range(steps):
        t = steps - 1 - back
        at = (b * steps + t) * width + d
        a = alpha
        level = threshold
        if HAS_THETA:
            level = tl.load(theta + b * stride_b + t * stride_t + d * stride_d, mask=inside, other=0.0)
        h = tl.load(h_in + at, mask=inside, other=0.0)
        psi = _derivative(h - level, KIND)
        s = (h >= level).to(h.dtype)
        if HAS_CODE:
            c = tl.load(code + b * steps + t)
            a = _step_decay(alpha, c)
            psi = tl.where((c & 1) == 1, 0.0, psi)
            s = tl.where((c & 1) == 1, 0.0, s)
        on_decay += leaking * (h - level * s)
        on_s = tl.zeros_like(alpha)
        if HAS_GS:
            on_s = tl.load(gs + at, mask=inside, other=0.0)
        if not DETACH:
            on_s -= level * on_u
        if HAS_THETA:
            tl.store(g_theta + at, -on_s * psi - s * on_u, mask=inside)
        total = on_s * psi + on_u
        if HAS_GH:
            total += tl.load(gh + at, mask=inside, other=0.0)
        tl.store(g_current + at, total, mask=inside)
        leaking = total
        if HAS_CODE:
            leaking = tl.where(c == 0, total, 0.0)
        on_u = a * total
    on_decay += leaking * tl.load(u0 + b * width + d, mask=inside, other=0.0)
    tl.store(g_u0 + b * width + d, on_u, mask=inside)
    tl.store(g_decay + b * width + d, on_decay, mask=inside)


@triton.jit
def _step_decay(alpha, code):
    """1 on padding, 0 where a document starts, alpha elsewhere."""
    return tl.where(code >= 2, 0.0, tl.where(code == 1, 1.0, alpha))


@triton.jit
def _derivative(x, KIND: tl.constexpr):
    """The registered surrogates, numbered as in KINDS."""
    if KIND == 0:
        y = x * 3.141592653589793
        psi = 1.0 / (y * y + 1.0)
    elif KIND == 1:
        y = tl.abs(x) * 10.0 + 1.0
        psi = 1.0 / (y * y)
    elif KIND == 2:
        p = 1.0 / (1.0 + tl.exp(-4.0 * x))
        psi = 4.0 * p * (1.0 - p)
    elif KIND == 3:
        psi = (tl.abs(x) < 0.5).to(x.dtype)
    else:
        y = tl.abs(x) + 1.0
        psi = 1.0 / (y * y)
    return psi
