"""Three-factor learning as a torch optimizer: pre trace x post sensitivity, waiting for a modulator.

    e_ij <- lambda e_ij + sum_t L_i(t) psi_i(t) xbar_j(t)         dw_ij = lr * M * e_ij

With L the exact derivative of the loss by the spikes, one layer and a detached reset, the sum is the gradient
(Bellec et al. 2020, e-prop, eq. 1-4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, final, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from t4dm.errors import LearningRuleError


class UpdateStats(NamedTuple):
    """Of one update: its norm relative to the weight's, and the share of elements that the cap cut."""

    drift: float
    capped: float


def apply_three_factor(
    weight: Tensor,
    eligibility: Tensor,
    modulator: Tensor | float,
    *,
    lr: float,
    max_dw: float,
    max_drift: float,
) -> UpdateStats:
    """Add lr * modulator * eligibility to the weight in place, within both caps.

    Args:
        weight: changed in place.
        eligibility: of the weight's shape.
        modulator: scalar, or one value per output `[M, 1]`.
        lr: learning rate.
        max_dw: largest change of a single element.
        max_drift: largest norm of the change, relative to the norm of the weight.
    """
    wanted = (lr * modulator * eligibility).to(weight.dtype)
    change = wanted.clamp(-max_dw, max_dw)
    capped = float((wanted != change).float().mean())
    norm = float(weight.norm())
    drift = float(change.norm()) / max(norm, 1e-12)
    if drift > max_drift:
        change = change * (max_drift / drift)
        drift = max_drift
    weight.add_(change)
    return UpdateStats(drift, capped)


@final
class ThreeFactor(Optimizer):
    """Applies lr * modulator * eligibility; no gradient is read, positive change is what a positive
    modulator wants.

    Eligibility, step count and drift live in the optimizer's state, so `state_dict` resumes a run exactly.
    `step` leaves the eligibility in place: it fades with the next deposits (`trace_decay` per deposit), as a
    biological trace fades with time. To descend on a loss, deposit the gradient and set a modulator of -1.

    Args:
        params: parameters or groups; `lr`, `modulator`, `trace_decay`, `max_dw`, `max_drift` can be set per
            group.
        lr: learning rate.
        modulator: third factor M; 0 learns nothing until `set_modulator`.
        trace_decay: lambda, what a deposit keeps of the eligibility before it.
        max_dw: cap on the change of an element per step.
        max_drift: cap on the summed relative change of a parameter per cycle; `new_cycle` starts the next.

    Raises:
        LearningRuleError: a hyperparameter outside its range, or a deposit of the wrong shape.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        *,
        lr: float = 1e-3,
        modulator: float = 0.0,
        trace_decay: float = 0.9,
        max_dw: float = 1e-2,
        max_drift: float = 0.01,
    ) -> None:
        ranges = {"lr": (lr, 0.0, float("inf")), "trace_decay": (trace_decay, 0.0, 1.0)}
        ranges |= {"max_dw": (max_dw, 0.0, float("inf")), "max_drift": (max_drift, 0.0, float("inf"))}
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise LearningRuleError(f"ThreeFactor has {name}={value}; set it between {low} and {high}")
        defaults = {"lr": lr, "modulator": modulator, "trace_decay": trace_decay}
        super().__init__(params, {**defaults, "max_dw": max_dw, "max_drift": max_drift})

    def deposit(self, parameter: Tensor, eligibility: Tensor, *, decay: float | None = None) -> None:
        """Add to a parameter's eligibility after it faded by `decay` (by the group's when None)."""
        if eligibility.shape != parameter.shape:
            raise LearningRuleError(
                f"eligibility of shape {tuple(eligibility.shape)} for a weight of shape "
                f"{tuple(parameter.shape)}; deposit one value per weight"
            )
        group = self._group_of(parameter)
        state = self.state[parameter]
        if not state:
            wide = torch.promote_types(parameter.dtype, torch.float32)
            state["step"] = 0
            state["drift"] = 0.0
            state["eligibility"] = torch.zeros_like(parameter, dtype=wide)
        keep = group["trace_decay"] if decay is None else decay
        state["eligibility"].mul_(keep).add_(eligibility.detach())

    def set_modulator(self, value: float, *, group: int | None = None) -> None:
        """Set the third factor of one group, or of all."""
        chosen = self.param_groups if group is None else [self.param_groups[group]]
        for each in chosen:
            each["modulator"] = value

    def new_cycle(self) -> None:
        """Give every parameter its drift allowance back, for example after a night's sleep."""
        for state in self.state.values():
            state["drift"] = 0.0

    def drift(self) -> dict[int, float]:
        """Summed relative change in this cycle by position of the parameter over all groups."""
        every = [p for group in self.param_groups for p in group["params"]]
        return {index: self.state[p]["drift"] for index, p in enumerate(every) if self.state.get(p)}

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Apply the rule to every parameter that holds eligibility."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state.get(parameter)
                if state:
                    self._update(parameter, state, group)
        return loss

    def _update(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        stats = apply_three_factor(
            parameter,
            state["eligibility"],
            group["modulator"],
            lr=group["lr"],
            max_dw=group["max_dw"],
            max_drift=max(group["max_drift"] - state["drift"], 0.0),
        )
        state["drift"] += stats.drift
        state["step"] += 1

    def _group_of(self, parameter: Tensor) -> dict[str, Any]:
        for group in self.param_groups:
            if any(parameter is each for each in group["params"]):
                return group
        raise LearningRuleError(
            "this optimizer does not hold that weight; pass it to ThreeFactor(params=...)"
        )
