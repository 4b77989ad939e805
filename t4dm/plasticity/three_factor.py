"""Three-factor learning as a torch optimizer: pre trace x post sensitivity, waiting for a modulator.

    e_ij <- lambda e_ij + sum_t L_i(t) psi_i(t) xbar_ij(t)        dw_ij = lr * (M e_ij - D d_ij)

With L the exact derivative of the loss by the spikes, one layer and a detached reset, the sum is the gradient
(Bellec et al. 2020, e-prop, eq. 1-4). The second trace d is optional: where a synapse keeps one for
potentiation and one for depression, noradrenaline is M and serotonin is D (He et al. 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, final, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

from t4dm.errors import LearningRuleError
from t4dm.plasticity.eligibility import cash_in

_TRACES = ("eligibility", "depression")


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
    reference: float | None = None,
) -> UpdateStats:
    """Add lr * modulator * eligibility to the weight in place, within both caps.

    Args:
        weight: changed in place.
        eligibility: of the weight's shape.
        modulator: scalar, or one value per output `[M, 1]`.
        lr: learning rate.
        max_dw: largest change of a single element.
        max_drift: largest norm of the change, relative to `reference`.
        reference: norm that drift is measured by; the weight's own when None. A weight of zeros has no norm
            to drift by and stays.

    Raises:
        LearningRuleError: the change is not finite; the weight is left as it was.
    """
    wanted = (lr * modulator * eligibility).to(weight.dtype)
    change = wanted.clamp(-max_dw, max_dw)
    capped = float((wanted != change).float().mean())
    norm = float(weight.norm()) if reference is None else reference
    drift = float(change.norm()) / max(norm, 1e-12)
    if not math.isfinite(drift):
        raise LearningRuleError(
            "a three-factor change is not finite; look for nan in the modulator and in the eligibility"
        )
    if drift > max_drift:
        change = change * (max_drift / drift)
        drift = max_drift
    weight.add_(change)
    return UpdateStats(drift, capped)


@final
class ThreeFactor(Optimizer):
    """Applies lr * (modulator * eligibility - depress * depression); no gradient is read, positive change is
    what a positive modulator wants.

    A synapse has one trace, or two once a `depression` was deposited. Eligibility, step count and drift live
    in the optimizer's state, so `state_dict` resumes a run exactly. `step` leaves the traces in place: they
    fade with the next deposits (`trace_decay` per deposit), as a biological trace fades with time. To
    descend on a loss, deposit the gradient and set a modulator of -1.

    Args:
        params: parameters or groups; `lr`, `modulator`, `depress`, `trace_decay`, `max_dw`, `max_drift` can
            be set per group.
        lr: learning rate.
        modulator: third factor M; 0 learns nothing until `set_modulator`.
        trace_decay: lambda, what a deposit keeps of the eligibility before it.
        max_dw: cap on the change of an element per step.
        max_drift: cap on the summed change of a parameter per cycle, relative to its norm when the cycle
            began; `new_cycle` starts the next. So no weight ends a cycle further than that from its start.
        depress: what cashes in the second trace, for example serotonin.

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
        depress: float = 0.0,
    ) -> None:
        ranges = {"lr": (lr, 0.0, float("inf")), "trace_decay": (trace_decay, 0.0, 1.0)}
        ranges |= {"max_dw": (max_dw, 0.0, float("inf")), "max_drift": (max_drift, 0.0, float("inf"))}
        for name, (value, low, high) in ranges.items():
            if not low <= value <= high:
                raise LearningRuleError(f"ThreeFactor has {name}={value}; set it between {low} and {high}")
        defaults = {"lr": lr, "modulator": modulator, "depress": depress, "trace_decay": trace_decay}
        super().__init__(params, {**defaults, "max_dw": max_dw, "max_drift": max_drift})

    def deposit(
        self,
        parameter: Tensor,
        eligibility: Tensor,
        *,
        depression: Tensor | None = None,
        decay: float | None = None,
    ) -> None:
        """Add to a parameter's traces after they faded by `decay` (by the group's when None).

        Args:
            parameter: the weight.
            eligibility: what the modulator will add, for example the LTP part of STDP.
            depression: what `depress` will subtract, non-negative; None adds nothing to the second trace.
            decay: what the traces keep.
        """
        for given in (eligibility, depression):
            if given is not None and given.shape != parameter.shape:
                raise LearningRuleError(
                    f"eligibility of shape {tuple(given.shape)} for a weight of shape "
                    f"{tuple(parameter.shape)}; deposit one value per weight"
                )
        group = self._group_of(parameter)
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            state["drift"] = 0.0
        keep = group["trace_decay"] if decay is None else decay
        for name, given in zip(_TRACES, (eligibility, depression), strict=True):
            if given is not None and name not in state:
                wide = torch.promote_types(parameter.dtype, torch.float32)
                state[name] = torch.zeros_like(parameter, dtype=wide)
            if name in state:
                state[name].mul_(keep)
            if given is not None:
                state[name].add_(given.detach())

    def set_modulator(self, value: float, *, depress: float | None = None, group: int | None = None) -> None:
        """Set the third factor of one group, or of all; `depress` stays as it is when None."""
        chosen = self.param_groups if group is None else [self.param_groups[group]]
        for each in chosen:
            each["modulator"] = value
            if depress is not None:
                each["depress"] = depress

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; traces keep their precision, which torch would lower to that of a bf16 weight."""
        super().load_state_dict(state_dict)
        for parameter, saved in zip(self._parameters(), self._saved(state_dict), strict=True):
            for name in _TRACES:
                if name in saved:
                    self.state[parameter][name] = saved[name].to(parameter.device, copy=True)
        for group in self.param_groups:
            group.setdefault("depress", 0.0)  # written before there was a second trace

    def new_cycle(self) -> None:
        """Give every parameter its drift allowance back, for example after a night's sleep."""
        for state in self.state.values():
            state["drift"] = 0.0
            state.pop("norm", None)

    def drift(self) -> dict[int, float]:
        """Summed relative change in this cycle by position of the parameter over all groups."""
        every = enumerate(self._parameters())
        return {index: self.state[p]["drift"] for index, p in every if self.state.get(p)}

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
        if "norm" not in state:
            state["norm"] = float(parameter.norm())
        eligibility, modulator = state["eligibility"], group["modulator"]
        if "depression" in state:
            eligibility = cash_in(
                eligibility, state["depression"], potentiate=modulator, depress=group["depress"]
            )
            modulator = 1.0
        stats = apply_three_factor(
            parameter,
            eligibility,
            modulator,
            lr=group["lr"],
            max_dw=group["max_dw"],
            max_drift=max(group["max_drift"] - state["drift"], 0.0),
            reference=state["norm"],
        )
        state["drift"] += stats.drift
        state["step"] += 1

    def _parameters(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    @staticmethod
    def _saved(state_dict: dict[str, Any]) -> list[dict[str, Any]]:
        indices = [index for group in state_dict["param_groups"] for index in group["params"]]
        return [state_dict["state"].get(index, {}) for index in indices]

    def _group_of(self, parameter: Tensor) -> dict[str, Any]:
        for group in self.param_groups:
            if any(parameter is each for each in group["params"]):
                return group
        raise LearningRuleError(
            "this optimizer does not hold that weight; pass it to ThreeFactor(params=...)"
        )
