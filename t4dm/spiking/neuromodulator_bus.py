"""The bus: what happened becomes levels of the four neuromodulators, with their own time constants.

    delta = r + gamma V' - V                  DA   clip(delta) + EMA of clip(delta)   (Schultz et al. 1997)
    excess = surprise - expected surprise     NE   leaky, tau 10 tokens               (Yu & Dayan 2005)
    cue invalidity                            ACh  EMA, tau 200, which NE wipes out   (Yu & Dayan 2005)
    reward                                    5-HT EMA, tau 500; gamma = gamma0 + k * 5-HT  (Doya 2002)

Each latent x gives the level 1/2 + tanh(slope * x) / 2, so a latent of 0 is the baseline exactly.
"""

from __future__ import annotations

import math
from typing import NamedTuple, final

import torch
from torch import Tensor

from t4dm.errors import SettingError
from t4dm.spiking.neuromodulators import Neuromod, learning

_UNCOUPLED = ((0.0,) * 4,) * 4


class BusState(NamedTuple):
    """Latents `[B]`: tonic DA, NE, ACh, 5-HT; the levels' swings `[B, 4]` of the step before; expected
    surprise, value, and tokens seen `[B]`.
    """

    tonic: Tensor
    ne: Tensor
    ach: Tensor
    ht: Tensor
    swings: Tensor
    expected_surprise: Tensor
    value: Tensor
    tokens: Tensor


@final
class NeuromodulatorBus:
    """State in, state out, one call per window or turn.

    Args:
        tau_tonic: of tonic dopamine, in tokens.
        tau_value: of the running value V.
        tau_ne: of noradrenaline.
        tau_expected: of the expected surprise.
        tau_ach: of acetylcholine.
        tau_ht: of serotonin.
        phasic_clip: bound on the reward prediction error.
        discount: gamma at the baseline of serotonin.
        ach_reset: how many times faster than itself noradrenaline, fully up, wipes acetylcholine out.
        slope: of the levels.
        coupling: `coupling[i][j]`, how the swing of level i (DA, NE, ACh, 5-HT) pulls the drive of level j.

    Raises:
        SettingError: the coupling is not 4 x 4.
    """

    def __init__(
        self,
        *,
        tau_tonic: float = 50.0,
        tau_value: float = 5.0,
        tau_ne: float = 10.0,
        tau_expected: float = 200.0,
        tau_ach: float = 200.0,
        tau_ht: float = 500.0,
        phasic_clip: float = 1.0,
        discount: float = 0.98,
        ach_reset: float = 5.0,
        slope: float = 1.0,
        coupling: tuple[tuple[float, ...], ...] = _UNCOUPLED,
    ) -> None:
        if len(coupling) != 4 or any(len(row) != 4 for row in coupling):
            raise SettingError("bus.coupling", [list(row) for row in coupling], "give 4 rows of 4 numbers")
        self.tau_tonic, self.tau_value, self.tau_ne = tau_tonic, tau_value, tau_ne
        self.tau_expected, self.tau_ach, self.tau_ht = tau_expected, tau_ach, tau_ht
        self.phasic_clip, self.discount, self.ach_reset, self.slope = phasic_clip, discount, ach_reset, slope
        self.coupling = tuple(tuple(float(value) for value in row) for row in coupling)

    def init_state(self, batch: int, device: torch.device | str | None = None) -> BusState:
        """All latents at zero, hence all levels at the baseline."""
        zeros = torch.zeros(batch, device=device)
        return BusState(*(zeros,) * 4, torch.zeros(batch, 4, device=device), *(zeros,) * 3)

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

        The first call has no surprise to compare with, so its surprise is the expected one.

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
        following = torch.zeros_like(reward) if next_value is None else next_value
        discount = self.discounts(state)
        delta = (reward + discount * following - state.value).clamp(-self.phasic_clip, self.phasic_clip)
        excess = torch.where(state.tokens > 0, surprise - state.expected_surprise, 0.0)
        coupling = torch.tensor(self.coupling, dtype=reward.dtype, device=reward.device)
        phasic, excess, invalidity, pleasure = (
            drive + pull
            for drive, pull in zip(
                (delta, excess, invalidity, reward), (state.swings @ coupling).unbind(1), strict=True
            )
        )
        tonic = _leak(state.tonic, phasic, self.tau_tonic, tokens)
        ne = _leak(state.ne, excess, self.tau_ne, tokens)
        alarm = torch.tanh(self.slope * ne).clamp(min=0.0)
        ach = _leak(state.ach, invalidity, self.tau_ach, tokens)
        ach = ach * torch.exp(-self.ach_reset * alarm * tokens / self.tau_ne)
        ht = _leak(state.ht, pleasure, self.tau_ht, tokens)
        swings = torch.tanh(self.slope * torch.stack([phasic + tonic, ne, ach, ht], dim=1))
        after = BusState(
            tonic,
            ne,
            ach,
            ht,
            swings,
            _running_mean(state, surprise, self.tau_expected, tokens),
            _leak(state.value, reward + discount * following, self.tau_value, tokens),
            state.tokens + tokens,
        )
        return self.levels(after), after

    def levels(self, state: BusState) -> Neuromod:
        """The levels as the last step left them, each `[B]`."""
        return Neuromod(*(0.5 + 0.5 * state.swings).unbind(1))

    def discounts(self, state: BusState) -> Tensor:
        """gamma `[B]`: serotonin above baseline makes the future count for more."""
        shifted = self.discount + learning(self.levels(state)).discount_shift
        return shifted.clamp(0.0, 1.0)


def _leak(old: Tensor, new: Tensor, tau: float, tokens: float) -> Tensor:
    keep = math.exp(-tokens / tau)
    return keep * old + (1.0 - keep) * new


def _running_mean(state: BusState, surprise: Tensor, tau: float, tokens: float) -> Tensor:
    """A plain mean at first and an exponential one later, so that the start at zero leaves no bias."""
    share = torch.clamp(tokens / (state.tokens + tokens), min=1.0 - math.exp(-tokens / tau))
    return state.expected_surprise + share * (surprise - state.expected_surprise)
