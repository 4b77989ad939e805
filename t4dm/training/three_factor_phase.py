"""Phase 2: local learning. A synapse keeps what it did; a third factor says later whether it was good."""

from __future__ import annotations

import math
from contextlib import nullcontext
from typing import Any, Literal, final

import torch

from t4dm.errors import NothingToTrainError
from t4dm.memory.memory import Memory
from t4dm.model import MemoryLM
from t4dm.plasticity.bcm_tape import BCMTape
from t4dm.plasticity.eligibility_tape import EligibilityTape
from t4dm.plasticity.homeostat import Homeostat
from t4dm.plasticity.stdp_tape import STDPTape
from t4dm.plasticity.tape import Tape
from t4dm.plasticity.three_factor import ThreeFactor
from t4dm.sleep.report import SleepReport
from t4dm.spiking.neuromodulator_bus import BusState, NeuromodulatorBus
from t4dm.spiking.neuromodulators import NE_GAIN, learning
from t4dm.spiking.neuron import Neurons
from t4dm.training.event_clock import EventClock
from t4dm.training.phase import Batch, Phase, Wake, slim

TWO_TRACES = ("stdp", "bcm")  # signals that mark LTP and LTD apart


@final
class ThreeFactorPhase(Phase):
    """dw = lr * M * eligibility on the synapses of the stack; everything else is frozen.

    `signal="reward"` is purely local and runs without gradients: M = tanh(z) with z the loss below its
    running mean in deviations, dopamine as a reward prediction error (Schultz, Dayan & Montague 1997),
    the same for all synapses. `signal="loss"` gives each neuron its own error, the derivative of the loss
    by its spikes (e-prop, Bellec et al. 2020), and M = -(1 + ne_gain * surprise): gradients reach spikes,
    no weight is updated by one. `signal="stdp"` marks two traces per synapse by STDP; the neuromodulator bus
    hears the reward and the loss, and noradrenaline cashes in the trace of LTP, serotonin that of LTD (He et
    al. 2015), both at a rate set by dopamine; with serotonin traces last longer. `signal="bcm"` marks them
    by rates against sliding thresholds (Bienenstock et al. 1982) instead, cashed in alike.

    A day's change of a weight is capped (`max_drift`); an epoch or a night begins the next day. In the
    morning after a night, neurons may be scaled towards their target rates (`homeostasis`).

    Args:
        model, memory, clock: see `Phase`.
        lr: learning rate.
        signal: where the third factor comes from.
        trace_decay: lambda per token, what eligibility keeps. With `signal="loss"` it is the plain sum over
            the batch, of which nothing is kept for the next.
        max_dw: largest change of one element in one step.
        max_drift: largest relative change of a weight matrix in a day.
        ne_gain: how much more a surprising batch teaches, with `signal="loss"`.
        memory_of_loss: share of its past that the running mean of the loss keeps in each step.
        homeostasis: gamma of the morning's scaling of neurons, at most 0.25; None leaves their gains alone.
        bus: what turns reward and loss into levels, with two traces; one without coupling by default.
        calibrate: see `Phase`; for a stack that no phase 1 has trained, whose gains this would overwrite.

    Raises:
        NothingToTrainError: the model has no stack.
        SettingError: a gamma of homeostasis at which rates would not settle.
    """

    def __init__(
        self,
        *,
        model: MemoryLM,
        memory: Memory | None = None,
        clock: EventClock | None = None,
        lr: float = 1e-2,
        signal: Literal["reward", "loss", "stdp", "bcm"] = "reward",
        trace_decay: float = 0.98,
        max_dw: float = 1e-3,
        max_drift: float = 0.01,
        ne_gain: float = NE_GAIN,
        memory_of_loss: float = 0.95,
        homeostasis: float | None = None,
        bus: NeuromodulatorBus | None = None,
        calibrate: bool = False,
    ) -> None:
        super().__init__(
            model=model, memory=memory, clock=clock, goodness_weight=0.0, negatives=0, calibrate=calibrate
        )
        if model.stack is None:
            raise NothingToTrainError
        self.automatic_optimization = False
        self._signal, self._ne_gain, self._kept_share = signal, ne_gain, memory_of_loss
        self._rule = {"lr": lr, "max_dw": max_dw, "max_drift": max_drift}
        self._trace_decay = 1.0 if signal == "loss" else trace_decay
        self.synapses = model.stack.synapses()
        self._bus = NeuromodulatorBus() if bus is None else bus
        layers = [module for module in model.stack.modules() if isinstance(module, Neurons)]
        self.homeostat = None if homeostasis is None else Homeostat(layers, gamma=homeostasis)
        learning = {id(synapse.linear.weight) for synapse in self.synapses}
        for parameter in model.parameters():
            parameter.requires_grad_(signal == "loss" and id(parameter) in learning)

    @property
    def step_metrics(self) -> tuple[str, ...]:
        """Names of all metrics that a training step logs."""
        losses = ("train/loss", "train/ce", "train/goodness", "train/recall_accuracy")
        return (*losses, "train/modulator", "train/drift", *self.rate_metrics)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Any]:
        """Read the batch while synapses take note, then let the third factor speak."""
        optimizer: Any = self.optimizers()
        rule: ThreeFactor = optimizer.optimizer
        if batch_idx == 0:  # Lightning calls no epoch hook after a resume at an epoch's last batch
            rule.new_cycle()
        wake = self._listen(batch, rule)
        modulator, depress = self._modulators(float(wake.ce.detach()), rule, batch)
        rule.set_modulator(modulator, depress=depress)
        optimizer.step()
        drift = max(rule.drift().values(), default=0.0)
        self.log_step(wake, batch, {"train/modulator": modulator, "train/drift": drift})
        return {"loss": wake.loss.detach(), "output": slim(wake.output)}

    def configure_optimizers(self) -> ThreeFactor:
        """The rule itself: as a torch optimizer its steps count, and its traces are in the checkpoint."""
        rule = ThreeFactor(
            list(dict.fromkeys(synapse.linear.weight for synapse in self.synapses)), **self._rule
        )
        rule.param_groups[0].update(loss_mean=math.nan, loss_variance=0.0)
        return rule

    def after_night(self, report: SleepReport) -> None:
        """Neurons return towards their target rates; the next day may change as much again."""
        if self.homeostat is not None:
            self.homeostat.scale()
        self.optimizers().optimizer.new_cycle()  # type: ignore[union-attr]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the rates that the morning will scale by."""
        super().on_save_checkpoint(checkpoint)
        if self.homeostat is not None:
            checkpoint["t4dm"]["homeostat"] = self.homeostat.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the rates back."""
        super().on_load_checkpoint(checkpoint)
        if self.homeostat is not None and "homeostat" in checkpoint["t4dm"]:
            self.homeostat.load_state_dict(checkpoint["t4dm"]["homeostat"])

    def _tape(self, rule: ThreeFactor) -> Tape:
        if self._signal in TWO_TRACES:
            group = rule.param_groups[0]
            state = group.get("bus") or self._bus.init_state(1)
            patience = float(learning(self._bus.levels(BusState(*state))).trace_exponent)
            decay = self._trace_decay**patience
            if self._signal == "stdp":
                return STDPTape(self.synapses, trace_decay=decay)
            return BCMTape(self.synapses, theta=group.get("theta"), trace_decay=decay)
        signal = "gradient" if self._signal == "loss" else "none"
        return EligibilityTape(self.synapses, trace_decay=self._trace_decay, signal=signal)

    def _listen(self, batch: Batch, rule: ThreeFactor) -> Wake:
        learns_from_loss = self._signal == "loss"
        with (
            torch.set_grad_enabled(learns_from_loss),
            nullcontext() if self.homeostat is None else self.homeostat as homeostat,
            self._tape(rule) as tape,
        ):
            if homeostat is not None:
                homeostat.window(mask=batch["attention_mask"])
            tape.window(mask=batch["attention_mask"], reset=batch["reset"])
            wake = self.wake(batch)
            if learns_from_loss:
                self.manual_backward(wake.ce)
        if learns_from_loss:
            for state in rule.state.values():
                state["eligibility"].zero_()
        if isinstance(tape, BCMTape):
            rule.param_groups[0]["theta"] = tape.theta
        tokens = torch.count_nonzero(batch["attention_mask"])
        tape.deposit(rule, scale=1.0 if learns_from_loss else 1.0 / max(1, int(tokens)))
        self.zero_grad()
        return wake

    def _modulators(self, loss: float, rule: ThreeFactor, batch: Batch) -> tuple[float, float]:
        """What cashes in the two traces; the second is 0 where synapses keep one."""
        modulator = self._modulator(loss, rule)
        if self._signal not in TWO_TRACES:
            return modulator, 0.0
        group = rule.param_groups[0]
        device = batch["input_ids"].device
        state = group.get("bus") or self._bus.init_state(1, device)
        heard = {"reward": modulator, "surprise": loss, "invalidity": 0.0}
        levels, after = self._bus.step(
            BusState(*(part.to(device) for part in state)),  # from a checkpoint it comes on the CPU
            **{name: torch.tensor([value], device=device) for name, value in heard.items()},
            tokens=float(batch["input_ids"].shape[1]),
        )
        group["bus"] = list(after)  # tensors alone, which any checkpoint takes
        effect = learning(levels)
        return float(effect.rate * effect.potentiate), float(effect.rate * effect.depress)

    def _modulator(self, loss: float, rule: ThreeFactor) -> float:
        """M for this batch; moves the loss's running mean and variance, kept in the optimizer's state."""
        group = rule.param_groups[0]
        if math.isnan(group["loss_mean"]):
            group["loss_mean"] = loss
        surprise = loss - group["loss_mean"]
        deviation = math.sqrt(group["loss_variance"])
        z = surprise / deviation if deviation > 1e-8 else 0.0
        share = 1.0 - self._kept_share
        group["loss_mean"] += share * surprise
        group["loss_variance"] = self._kept_share * (group["loss_variance"] + share * surprise**2)
        if self._signal != "loss":
            return math.tanh(-z)
        return -(1.0 + self._ne_gain * math.tanh(max(0.0, z)))
