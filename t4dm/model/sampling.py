"""From logits to the next token: penalty, temperature, top-k, top-p, min-p, one draw for each sequence.

It stands at the end of each decoding step; the order of the controls is that of transformers' `generate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from t4dm.errors import BrokenLogitsError, SettingError


@final
class Sampler:
    """Draws tokens. With the defaults it takes the most likely one and draws nothing.

    Args:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: only the k most likely tokens may be drawn (ties with the last stay); None allows all.
        top_p: only the fewest tokens that together reach this probability (Holtzman et al. 2020).
        min_p: only tokens at least this often as probable as the most likely one (Nguyen et al. 2024).
        repetition_penalty: logits of tokens that were there before are divided by it where positive and
            multiplied where negative (Keskar et al. 2019, CTRL); 1 changes nothing.

    Raises:
        SettingError: a value outside its range.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
    ) -> None:
        if not 0.0 <= temperature < float("inf"):
            raise SettingError("temperature", temperature, "0 takes the most likely token: temperature=0")
        if top_k is not None and top_k < 1:
            raise SettingError("top_k", top_k, "1 or more, or all tokens: top_k=null")
        if not 0.0 < top_p <= 1.0:
            raise SettingError("top_p", top_p, "above 0 and at most 1, which allows all tokens: top_p=1")
        if not 0.0 <= min_p <= 1.0:
            raise SettingError("min_p", min_p, "from 0, which allows all tokens, to 1: min_p=0")
        if not 0.0 < repetition_penalty < float("inf"):
            raise SettingError("repetition_penalty", repetition_penalty, "above 0: repetition_penalty=1")
        self.temperature, self.top_k, self.top_p, self.min_p = temperature, top_k, top_p, min_p
        self.repetition_penalty = repetition_penalty

    def warp(self, logits: Tensor, seen: Sequence[Sequence[int]]) -> Tensor:
        """Logits `[B, V]` in fp32 as they are drawn from: what may not be drawn is -inf.

        Args:
            logits: `[B, V]`.
            seen: B lists of the tokens before, prompt and answer.
        """
        logits = self._penalised(logits.float(), seen)
        if self.temperature == 0.0:
            return logits
        logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[-1]:
            last = logits.topk(self.top_k, dim=-1).values[:, -1:]
            logits = logits.masked_fill(logits < last, -torch.inf)
        if self.top_p < 1.0:
            logits = _nucleus(logits, self.top_p)
        if self.min_p > 0.0:
            probable = logits.softmax(-1)
            rare = probable < self.min_p * probable.amax(-1, keepdim=True)
            logits = logits.masked_fill(rare, -torch.inf)
        return logits

    def draw(
        self,
        logits: Tensor,
        seen: Sequence[Sequence[int]],
        generators: Sequence[torch.Generator | None],
    ) -> list[int]:
        """The next token of each row. A row takes one number from its own generator, on the CPU, so that
        a sequence is drawn alike alone and in a batch, on any device.

        Args:
            logits: `[B, V]`.
            seen: B lists of the tokens before.
            generators: B CPU generators; torch's own where None. Not touched at temperature 0.

        Raises:
            BrokenLogitsError: a row holds NaN.
        """
        if bool(logits.isnan().any()):
            raise BrokenLogitsError
        warped = self.warp(logits, seen)
        if self.temperature == 0.0:
            return [int(token) for token in warped.argmax(-1).tolist()]
        probable = warped.softmax(-1).cpu().double()
        return [_drawn(row, generator) for row, generator in zip(probable, generators, strict=True)]

    def _penalised(self, logits: Tensor, seen: Sequence[Sequence[int]]) -> Tensor:
        if self.repetition_penalty == 1.0:
            return logits
        logits = logits.clone()
        for row, tokens in zip(logits, seen, strict=True):
            used = torch.tensor(sorted(set(tokens)), dtype=torch.long, device=logits.device)
            level = row[used]
            row[used] = torch.where(
                level < 0, level * self.repetition_penalty, level / self.repetition_penalty
            )
        return logits


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The tail of rising probabilities that sums to 1 - top_p or less is left out; the most likely token
    stays.
    """
    rising, order = logits.sort(dim=-1)
    out = rising.softmax(-1).cumsum(-1) <= 1.0 - top_p
    out[:, -1] = False
    return logits.masked_fill(torch.zeros_like(out).scatter(-1, order, out), -torch.inf)


def _drawn(probable: Tensor, generator: torch.Generator | None) -> int:
    """Where a uniform number falls in the cumulated probabilities."""
    heap = probable.cumsum(0)
    at = torch.rand((), dtype=torch.float64, generator=generator) * heap[-1]
    last = int(probable.nonzero()[-1])  # where rounding lifts the number to the very top
    return min(int(torch.searchsorted(heap, at, right=True)), last)
