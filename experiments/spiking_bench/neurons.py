"""Group `lif`: one layer of neurons forward and backward, every library by its own best call and layout.

Inputs are laid out for each library before the clock starts (time first for SpikingJelly, snnTorch and
Norse). Each is compared with the loop of the neuron that it implements: SpikingJelly and ours with the soft
reset, snnTorch with the delayed one (`reset_delay=True`), Norse with a gradient through the reset and
1/(1+|x|)^2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from experiments.spiking_bench.references import delayed_loop, indexing_loop, lif_loop
from experiments.spiking_bench.sizes import Sizes
from experiments.spiking_bench.timing import Answer, Result, Setting, System, answer, race
from t4dm.spiking.lif import LIFParams, lif_scan
from t4dm.spiking.surrogate import ATAN, surrogate

ALPHA: Final = 0.9
THETA: Final = 1.0
STRENGTH: Final = 0.53  # standard deviation of the current: 5 % of entries are spikes at this alpha


class Input(NamedTuple):
    """Currents, what flows in from above, decays: `[B, T, D]`, `[B, T, D]`, `[D]`."""

    current: Tensor
    above: Tensor
    alpha: Tensor


def lif(setting: Setting, sizes: Sizes) -> Result:
    """All shapes, one race each."""
    found: Result = {"figures": {}, "missing": []}
    for width in sizes.widths:
        for steps in sizes.steps:
            given = draw((sizes.batch, steps, width), setting.device)
            shape = f"lif_t{steps}_d{width}"
            one = race(
                systems(given, small=steps <= sizes.loop_steps and width == sizes.widths[0]),
                references(given),
                setting,
                tokens=sizes.batch * steps,
                steps=steps,
                spiking=True,
                pick=ends,
            )
            found["figures"][shape] = one["figures"]
            found["missing"] += [{**entry, "bench": shape} for entry in one["missing"]]
    return found


def draw(shape: tuple[int, int, int], device: str) -> Input:
    random = torch.Generator().manual_seed(7)
    current, above = (torch.randn(*shape, generator=random) for _ in range(2))
    return Input(
        (STRENGTH * current).to(device), above.to(device), torch.full(shape[2:], ALPHA, device=device)
    )


def ends(x: Tensor) -> Tensor:
    """The first and the last row of the batch: the loops of the comparison then run on these only."""
    return x[[0, -1]]


def systems(given: Input, *, small: bool) -> dict[str, Callable[[], System]]:
    """Makers by label. The loop that indexes is quadratic in T: only where it is `small`."""
    alpha = given.alpha
    makers: dict[str, Callable[[], System]] = {
        "t4dm": partial(_ours, given),
        "t4dm, learned leaks": partial(_ours, given, learned=True),
        "eager loop": partial(
            _batch_first, given, lambda x: lif_loop(x, given.alpha, THETA, ATAN, detach=True)
        ),
        "spikingjelly": partial(_spikingjelly, given),
        "snntorch (delayed reset)": partial(_snntorch, given),
        "norse (gradient through the reset)": partial(_norse, given),
    }
    if small:
        makers["eager loop that indexes"] = partial(
            _batch_first, given, lambda x: indexing_loop(x, alpha, THETA, ATAN)
        )
    return makers


def references(given: Input) -> dict[str, Callable[[], Answer]]:
    """The loop of each kind of neuron over the first and the last row."""
    part = Input(ends(given.current), ends(given.above), given.alpha)
    through, alpha = surrogate("superspike"), given.alpha
    loops: dict[str, Callable[[Tensor], Tensor]] = {
        "same": lambda x: lif_loop(x, alpha, THETA, ATAN, detach=True),
        "delayed": lambda x: delayed_loop(x, alpha, THETA, ATAN),
        "through": lambda x: lif_loop(x, alpha, THETA, through, detach=False),
    }
    return {
        name: lambda loop=loop: answer(_batch_first(part, loop))  # type: ignore[misc]
        for name, loop in loops.items()
    }


def _batch_first(given: Input, forward: Callable[[Tensor], Tensor]) -> System:
    current = given.current.clone().requires_grad_()
    return System(lambda: forward(current), (current,), given.above)


def _ours(given: Input, *, learned: bool = False) -> System:
    current, alpha = given.current.clone().requires_grad_(), given.alpha.clone().requires_grad_(learned)
    leaves = (current, alpha) if learned else (current,)
    return System(lambda: lif_scan(current, None, LIFParams(alpha, THETA))[0], leaves, given.above)


def _time_first(given: Input, forward: Callable[[Tensor], Tensor], wanted: str = "same") -> System:
    current = given.current.transpose(0, 1).contiguous().requires_grad_()
    above = given.above.transpose(0, 1).contiguous()
    return System(lambda: forward(current), (current,), above, lambda x: x.transpose(0, 1), wanted)


def _spikingjelly(given: Input) -> System:
    """Its operator for the device: C++ on a CPU, CUDA or Triton on a GPU."""
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based import surrogate as theirs

    u0, kind = torch.zeros_like(given.current[:, 0]), theirs.ATan(2.0)

    def forward(x: Tensor) -> Tensor:
        spikes: Tensor = functional.lif_multi_step(
            x, u0, tau=1.0 / (1.0 - ALPHA), decay_input=False, v_threshold=THETA, v_reset=None,
            surrogate_function=kind, detach_reset=True, store_v_seq=False,
        )[0]  # fmt: skip
        return spikes

    return _time_first(given, forward)


def _snntorch(given: Input) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from snntorch import Leaky
        from snntorch import surrogate as theirs

    cell = Leaky(
        beta=ALPHA,
        threshold=THETA,
        reset_mechanism="subtract",
        reset_delay=True,
        spike_grad=theirs.atan(alpha=2.0),
    ).to(given.current.device)
    first = torch.zeros_like(given.current[:, 0])

    def forward(x: Tensor) -> Tensor:
        membrane, spikes = first, []
        for step in x.unbind(0):
            s, membrane = cell(step, membrane)
            spikes.append(s)
        return torch.stack(spikes)

    return _time_first(given, forward, "delayed")


def _norse(given: Input) -> System:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from norse.torch.functional.lif_box import (
            LIFBoxFeedForwardState,
            LIFBoxParameters,
            lif_box_feed_forward_step,
        )
        from norse.torch.functional.reset import reset_subtract

    dt, device = 0.001, given.current.device
    rate, level = (torch.as_tensor(x, device=device) for x in ((1.0 - ALPHA) / dt, THETA))
    parameters = LIFBoxParameters(tau_mem_inv=rate, v_th=level, reset_method=reset_subtract)
    first = torch.zeros_like(given.current[:, 0])

    def forward(x: Tensor) -> Tensor:
        state, spikes = LIFBoxFeedForwardState(first), []
        for step in (x / (1.0 - ALPHA)).unbind(0):
            z, state = lif_box_feed_forward_step(step, state, parameters, dt)
            spikes.append(z)
        return torch.stack(spikes)

    return _time_first(given, forward, "through")
