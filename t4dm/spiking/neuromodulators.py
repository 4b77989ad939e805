"""Four neuromodulators, what each does to a block, and the bus that moves them.

Levels lie in [0, 1]; 0.5 is the baseline, at which every effect is exactly the identity. Roles after
Schultz, Dayan & Montague 1997 (DA), Aston-Jones & Cohen 2005 (NE), Hasselmo 2006 (ACh), Doya 2002 (5-HT).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

DA_WRITE = 0.35
NE_GAIN = 0.5
ACH_GATE = 2.0
ACH_READOUT = 0.5
HT_DEPRESSION = 0.5
HT_PERSISTENCE = 0.4


class Neuromod(NamedTuple):
    """Dopamine, noradrenaline, acetylcholine, serotonin in [0, 1]: each `[B]`, `[B, T]` or a number."""

    da: Tensor | float = 0.5
    ne: Tensor | float = 0.5
    ach: Tensor | float = 0.5
    ht: Tensor | float = 0.5


BASELINE = Neuromod()


class Effects(NamedTuple):
    """Factors that broadcast to `[B, T, D]`; None is the identity.

    `write` scales what spike attention writes (DA, up to +-35 %); `gain` the currents of all neurons (NE);
    `gate` is added to the thalamic gate's logit and `readout` scales recurrent readout (ACh: encode against
    retrieve); `depression` scales LTD and `persistence` the log decay of the recurrent state (5-HT:
    patience).
    """

    write: Tensor | None = None
    gain: Tensor | None = None
    gate: Tensor | None = None
    readout: Tensor | None = None
    depression: Tensor | None = None
    persistence: Tensor | None = None


NO_EFFECTS = Effects()


def effects(levels: Neuromod) -> Effects:
    """What the given levels do to a block; at the baseline object itself, nothing at all."""
    if levels is BASELINE:
        return NO_EFFECTS
    da, ne, ach, ht = (_swing(level) for level in levels)
    return Effects(
        write=1.0 + DA_WRITE * da,
        gain=1.0 + NE_GAIN * ne,
        gate=0.5 * ACH_GATE * ach,
        readout=1.0 - ACH_READOUT * ach,
        depression=1.0 + HT_DEPRESSION * ht,
        persistence=1.0 - HT_PERSISTENCE * ht,
    )


def _swing(level: Tensor | float) -> Tensor:
    """Distance from baseline in [-1, 1], `[B or 1, T or 1, 1]`; no gradient reaches the level."""
    swing = 2.0 * (torch.as_tensor(level, dtype=torch.float32).detach().clamp(0.0, 1.0) - 0.5)
    return swing.view(swing.shape + (1,) * (3 - swing.dim())) if swing.dim() else swing.view(1, 1, 1)


class BusParams(NamedTuple):
    """Time constants in tokens, slope, and `coupling[i][j]`: how level i's swing pulls level j's drive."""

    tau_da: float = 5.0
    tau_ne: float = 10.0
    tau_ach: float = 200.0
    tau_ht: float = 500.0
    tau_expected: float = 200.0
    discount: float = 0.98
    slope: float = 1.0
    coupling: tuple[tuple[float, ...], ...] = ((0.0,) * 4, (0.0, 0.0, -0.5, 0.0), (0.0,) * 4, (0.0,) * 4)


class BusState(NamedTuple):
    """Latents `[B]` of the bus: phasic DA, NE, ACh, 5-HT, the expected surprise and the expected reward."""

    da: Tensor
    ne: Tensor
    ach: Tensor
    ht: Tensor
    expected_surprise: Tensor
    value: Tensor


DEFAULT_BUS = BusParams()


class NeuromodulatorBus:
    """Turns what happened into levels: state in, state out, one call per window or turn.

    DA follows the reward prediction error r + discount * V' - V, NE surprise beyond what was expected, ACh a
    slow mean of cue invalidity, 5-HT a slow mean of reward. A surprise coupled with weight -0.5 lets NE push
    ACh down (Yu & Dayan 2005: unexpected uncertainty ends expected uncertainty).
    """

    def __init__(self, *, params: BusParams = DEFAULT_BUS) -> None:
        self.params = params

    def init_state(self, batch: int, device: torch.device | str | None = None) -> BusState:
        """All latents at zero, hence all levels at the baseline."""
        return BusState(*(torch.zeros(batch, device=device) for _ in BusState._fields))

    def step(
        self,
        state: BusState,
        *,
        reward: Tensor,
        surprise: Tensor,
        invalidity: Tensor,
        next_value: Tensor | None = None,
        tokens: float = 1.0,
    ) -> tuple[Neuromod, BusState]:
        """Advance by `tokens` tokens.

        Args:
            state: the latents.
            reward: reward received `[B]`.
            surprise: prediction error of the window `[B]`, any non-negative scale.
            invalidity: how wrong the recalled cues were `[B]`, 0 = as before; centred by the caller.
            next_value: value of what follows `[B]`; zeros when missing.
            tokens: how much time passed.

        Returns:
            The levels, each `[B]` in (0, 1), and the new latents.
        """
        p = self.params
        following = torch.zeros_like(reward) if next_value is None else next_value
        delta = reward + p.discount * following - state.value
        excess = surprise - state.expected_surprise
        drives = torch.stack([delta, excess, invalidity, reward])
        swings = torch.stack([torch.tanh(p.slope * latent) for latent in state[:4]])
        coupling = torch.tensor(p.coupling, dtype=drives.dtype, device=drives.device)
        drives = drives + coupling.t() @ swings
        taus = (p.tau_da, p.tau_ne, p.tau_ach, p.tau_ht)
        latents = [
            _leak(old, new, tau, tokens) for old, new, tau in zip(state[:4], drives, taus, strict=True)
        ]
        expected = _leak(state.expected_surprise, surprise, p.tau_expected, tokens)
        value = _leak(state.value, reward + p.discount * following, p.tau_da, tokens)
        levels = Neuromod(*(0.5 + 0.5 * torch.tanh(p.slope * latent) for latent in latents))
        return levels, BusState(*(*latents, expected, value))


def _leak(old: Tensor, new: Tensor, tau: float, tokens: float) -> Tensor:
    keep = math.exp(-tokens / tau)
    return keep * old + (1.0 - keep) * new
