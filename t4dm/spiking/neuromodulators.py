"""Four neuromodulators: what each does, in which cortical layer, and to learning.

Levels lie in [0, 1]; 0.5 is the baseline, at which every effect is exactly the identity. Roles after
Schultz, Dayan & Montague 1997 (DA), Aston-Jones & Cohen 2005 (NE), Hasselmo 2006 (ACh), Doya 2002 (5-HT).
`NeuromodulatorBus` turns what happened into levels.

| | layers | acts on |
|---|---|---|
| DA | 2/3, 5 | what spike attention writes (2/3); the learning rate of the three-factor rule (5 and 2/3) |
| NE | 5 | the gain of the neurons of stages 4 and 6; of stages 2 and 3 where 2/3 is named too |
| ACh | 1, 4 | opens the thalamic gate (4); lowers the readout of recurrent and recalled memory (1) |
| 5-HT | 5, 6 | the decay of the recurrent state (stage 5); LTD of spike attention where 2/3 is named too |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, final

import torch
from torch import Tensor

from t4dm.errors import SettingError

DA_WRITE = 0.35
NE_GAIN = 0.5
ACH_GATE = 2.0
ACH_READOUT = 0.5
HT_DEPRESSION = 0.5
HT_PERSISTENCE = 0.4
HT_DISCOUNT = 0.015

REACH = {"da": ("L2/3", "L5"), "ne": ("L2/3", "L5"), "ach": ("L1", "L4"), "ht": ("L2/3", "L5", "L6")}


class Neuromod(NamedTuple):
    """Dopamine, noradrenaline, acetylcholine, serotonin in [0, 1]: each `[B]`, `[B, T]` or a number."""

    da: Tensor | float = 0.5
    ne: Tensor | float = 0.5
    ach: Tensor | float = 0.5
    ht: Tensor | float = 0.5


BASELINE = Neuromod()


class Effects(NamedTuple):
    """Factors that broadcast to `[B, T, D]`; None is the identity.

    `write` scales what spike attention writes (DA, up to +-35 %); `gain` the currents of the neurons of
    layer 5 and `upper_gain` those of layer 2/3 (NE); `gate` is added to the thalamic gate's logit and
    `readout` scales what is read of recurrent and of recalled memory (ACh: encode against retrieve);
    `depression` scales LTD and `persistence` the log decay of the recurrent state (5-HT: patience).
    """

    write: Tensor | None = None
    gain: Tensor | None = None
    upper_gain: Tensor | None = None
    gate: Tensor | None = None
    readout: Tensor | None = None
    depression: Tensor | None = None
    persistence: Tensor | None = None

    def in_upper_layers(self) -> Effects:
        """The same as stages 2 and 3 meet it: their neurons lie in layer 2/3."""
        return self._replace(gain=self.upper_gain)


NO_EFFECTS = Effects()


@final
class Injection:
    """Which cortical layers each transmitter reaches, and how strongly each block takes it up.

    Args:
        da, ne, ach, ht: layers, of `REACH`; none switches the transmitter off.
        strength: factor on every swing from baseline, for each block; the last holds for all that follow.
        gradient: whether gradients reach the levels; for an ablation, in phase 1 they must not.

    Raises:
        SettingError: a layer in which the transmitter has nothing to act on, or no strength.
    """

    def __init__(
        self,
        *,
        da: Sequence[str] = ("L2/3", "L5"),
        ne: Sequence[str] = ("L5",),
        ach: Sequence[str] = ("L1", "L4"),
        ht: Sequence[str] = ("L5", "L6"),
        strength: Sequence[float] = (1.0,),
        gradient: bool = False,
    ) -> None:
        self.layers = {"da": tuple(da), "ne": tuple(ne), "ach": tuple(ach), "ht": tuple(ht)}
        for name, layers in self.layers.items():
            if not set(layers) <= set(REACH[name]):
                fix = f"name some of {', '.join(REACH[name])}"
                raise SettingError(f"model.stack.injection.{name}", list(layers), fix)
        if not strength:
            fix = "give one number for each block, or a single one for all"
            raise SettingError("model.stack.injection.strength", list(strength), fix)
        self.strength = tuple(float(value) for value in strength)
        self.gradient = gradient

    def effects(self, levels: Neuromod, *, block: int = 0) -> Effects:
        """What the given levels do to a block; at the baseline object itself, nothing at all."""
        if levels is BASELINE:
            return NO_EFFECTS
        strength = self.strength[min(block, len(self.strength) - 1)]
        da, ne, ach, ht = (strength * _swing(level, gradient=self.gradient) for level in levels)
        return Effects(
            write=1.0 + DA_WRITE * da if self._reaches("da", "L2/3") else None,
            gain=1.0 + NE_GAIN * ne if self._reaches("ne", "L5") else None,
            upper_gain=1.0 + NE_GAIN * ne if self._reaches("ne", "L2/3") else None,
            gate=0.5 * ACH_GATE * ach if self._reaches("ach", "L4") else None,
            readout=1.0 - ACH_READOUT * ach if self._reaches("ach", "L1") else None,
            depression=1.0 + HT_DEPRESSION * ht if self._reaches("ht", "L2/3") else None,
            persistence=1.0 - HT_PERSISTENCE * ht if self._reaches("ht", "L5", "L6") else None,
        )

    def _reaches(self, transmitter: str, *layers: str) -> bool:
        return any(layer in self.layers[transmitter] for layer in layers)


BY_LAYER = Injection()


def effects(levels: Neuromod) -> Effects:
    """What levels do to a block where each transmitter reaches its own layers, at full strength."""
    return BY_LAYER.effects(levels)


class Learning(NamedTuple):
    """What levels do to rules of plasticity, each of the levels' shape.

    `rate` is a factor on the learning rate and `surprise` one on the third factor, 1 at baseline; `reward`
    is dopamine's part of the third factor, in [-1, 1]; `potentiate` and `depress` cash in the two traces of
    a synapse (He et al. 2015: NE by beta-2, 5-HT by 5-HT2C receptors), 0 at baseline and below;
    `trace_exponent` makes an eligibility decay of lambda one of lambda^trace_exponent; `discount_shift` is
    added to the discount of future reward.
    """

    rate: Tensor
    reward: Tensor
    surprise: Tensor
    potentiate: Tensor
    depress: Tensor
    trace_exponent: Tensor
    discount_shift: Tensor


def learning(levels: Neuromod) -> Learning:
    """What levels do to learning, with the constants by which they act on a block.

    The third factor of the three-factor rule is `reward * surprise` (times a neuron's own error).
    """
    da, ne, _, ht = (_swing_of(level) for level in levels)
    return Learning(
        rate=1.0 + DA_WRITE * da,
        reward=da,
        surprise=1.0 + NE_GAIN * ne.clamp(min=0.0),
        potentiate=ne.clamp(min=0.0),
        depress=ht.clamp(min=0.0),
        trace_exponent=1.0 - HT_PERSISTENCE * ht,
        discount_shift=HT_DISCOUNT * ht,
    )


def _swing_of(level: Tensor | float) -> Tensor:
    return 2.0 * (torch.as_tensor(level, dtype=torch.float32).clamp(0.0, 1.0) - 0.5)


def _swing(level: Tensor | float, *, gradient: bool) -> Tensor:
    """Distance from baseline in [-1, 1], `[B or 1, T or 1, 1]`."""
    swing = _swing_of(level)
    swing = swing if gradient else swing.detach()
    return swing.view(swing.shape + (1,) * (3 - swing.dim())) if swing.dim() else swing.view(1, 1, 1)
