"""The stack as it stands between two layers of the backbone: what it reads of memory, what it adds, what it
leaves for the losses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, final

import torch
from torch import Tensor

from t4dm.model.projections import reconstruction_error
from t4dm.model.working_memory import Held
from t4dm.spiking.goodness import wrong_memories
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import StackAux, StackState

if TYPE_CHECKING:
    from t4dm.model.memory_lm import MemoryLM


class MemoryRows(NamedTuple):
    """Recalled memories as the stack reads them."""

    states: Tensor
    """`[B, M, 2 D]`, key and value of each token of each recalled item that another token follows."""
    visible: Tensor
    """`[B, T, M]`, which rows each position may read."""


class Contrast(NamedTuple):
    """Goodness of the first n rows of a batch; no gradient of it passes from block to block."""

    right: Tensor
    """`[L, n, T]`, each row with its own memories."""
    wrong: Tensor
    """`[L, n, T]`, each row with those of the row before it."""
    mask: Tensor
    """bool `[n, T]`, False at padding."""


@final
class InStream:
    """The stack as it stands in the residual stream during one forward pass, and what it leaves behind.

    Args:
        model: with a stack.
        mask: bool `[B, T]`, False at padding.
        reset, state, modulators, negatives, rows: as in `MemoryLM.forward`.
    """

    def __init__(
        self,
        model: MemoryLM,
        mask: Tensor,
        reset: Tensor | None,
        state: StackState | None,
        modulators: Neuromod | None,
        negatives: int,
        rows: MemoryRows | None,
    ) -> None:
        self._model, self._mask, self._reset, self._modulators = model, mask, reset, modulators
        self._negatives, self.rows = negatives, rows
        self._held: tuple[Held, Tensor, Tensor] | None = None
        self.reconstruct = False
        self.reconstruction: Tensor | None = None
        self.state: StackState | None = state
        self.aux: StackAux | None = None
        self.contrast: Contrast | None = None

    def hold(self, held: Held, input_ids: Tensor, seen: Tensor) -> None:
        """Read what the working memory holds, too."""
        self._held = held, input_ids, seen

    def __call__(self, stream: Tensor) -> Tensor:
        model = self._model
        assert model.stack is not None
        e = model.entry(stream)
        if self.reconstruct:
            self.reconstruction = reconstruction_error(
                stream.detach(), entry=model.entry, exit=model.exit, mask=self._mask
            )
        if self._held is not None:
            held, input_ids, seen = self._held
            self.rows = _joined(self.rows, model.working_rows(e, input_ids, held, seen))
        states, visible = self.rows if self.rows is not None else (None, None)
        out = model.stack(
            e,
            self.state,
            recall=states,
            recall_mask=visible,
            modulators=self._modulators,
            mask=self._mask,
            reset=self._reset,
        )
        # A batch of one row has no other row's memories.
        if self._negatives and self.rows is not None and len(stream) > 1:
            self.contrast = self._contrasted(model.stack, e.detach(), self.rows)
        self.state, self.aux = out.state, out.aux
        return model.exit(stream, out.h)

    def _contrasted(self, stack: CorticalStack, e: Tensor, rows: MemoryRows) -> Contrast:
        """The first rows of the batch with their own memories beside those of the row before, in one pass.

        The window's own pass would give the first half too, but there a gradient of goodness would pass from
        block to block, mixed with that of the loss.
        """
        n = self._negatives

        def pair(own: Tensor, others: Tensor) -> Tensor:
            return torch.cat([own[:n], others[:n]])

        goodness = stack(
            pair(e, e),
            None,
            recall=pair(rows.states, wrong_memories(rows.states)).detach(),
            recall_mask=pair(rows.visible, wrong_memories(rows.visible)),
            mask=pair(self._mask, self._mask),
            reset=None if self._reset is None else pair(self._reset, self._reset),
            local=True,
        ).aux.goodness
        right, wrong = goodness.chunk(2, dim=1)
        return Contrast(right, wrong, self._mask[:n])


def _joined(long_term: MemoryRows | None, working: MemoryRows) -> MemoryRows:
    if long_term is None:
        return working
    pairs = zip(long_term, working, strict=True)
    states, visible = (torch.cat(pair, dim=dim) for pair, dim in zip(pairs, (1, 2), strict=True))
    return MemoryRows(states, visible)
