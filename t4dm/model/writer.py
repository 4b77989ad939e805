"""From a forward pass to memories: which spans of the text are worth keeping, and what becomes of that
judgement.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from t4dm.memory.memory import Memory, Recall, novelty
from t4dm.memory.temporal_gate import FEATURES, TemporalGate
from t4dm.model.memory_lm import MemoryLM, MemoryLMOutput

EMBEDDING_FEATURES = 24


class Written(NamedTuple):
    """What one batch offered and what was kept."""

    ids: list[str | None]
    """Ids of the N spans; None where the gate was closed."""
    tau: NDArray[np.float32]
    """`[N]` gate values."""
    kept: NDArray[np.bool_]
    """`[N]`."""
    told: NDArray[np.bool_]
    """`[N]` whether the data says that the span tells something; all True where it does not say."""


@final
class MemoryWriter:
    """Offers every span of a batch to the gate, writes what passes, and teaches the gate what was of use.

    Features of a span are its mean prediction error (nats a token), its novelty (1 - best cosine among the
    session's memories), a reward (0 until a task gives one), and a fixed random projection of its mean word
    embedding, which lets the gate learn *what kind* of span is asked for later. A memory that is the best
    answer of a later read was of use; one that was not within `patience` later offers of its size was not.

    Args:
        gate: tau(t); build it with `gate_features()` weights.
        threshold: tau from which a span is written.
        patience: offers that a span may wait for its first use before it counts as useless.
        seed: of the projection.
    """

    def __init__(
        self, *, gate: TemporalGate, threshold: float = 0.1, patience: int = 2000, seed: int = 0
    ) -> None:
        self.gate, self.threshold, self.patience, self.seed = gate, threshold, patience, seed
        self._pending: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._projection: Tensor | None = None

    def write(
        self,
        model: MemoryLM,
        memory: Memory,
        batch: Mapping[str, Any],
        output: MemoryLMOutput,
        *,
        learn: bool = True,
    ) -> Written:
        """Write the batch's spans, after `output` was computed from it with labels.

        Args:
            learn: move the gate's statistics and weights; False in evaluation.
        """
        spans = _spans(batch["write_start"], batch["write_end"])
        if not spans:
            empty = np.zeros(0, dtype=np.float32)
            return Written([], empty, empty.astype(bool), empty.astype(bool))
        ids = batch["input_ids"]
        keys = torch.from_numpy(model.keys(ids, spans))
        sessions = [batch["sessions"][b] for b, _, _ in spans]
        errors = _span_means(output.token_losses, spans)
        known = memory.read(keys, k=1, sessions=sessions, count=False)
        features = np.column_stack(
            [errors, novelty(known).numpy(), np.zeros(len(spans)), self._kinds(model, ids, spans)]
        ).astype(np.float32)
        if learn:
            self._teach(output.recall)
        tau = self.gate(features, update=learn)
        links = _best_by_row(output.recall, len(ids))
        tokens = [ids[b, s:e].tolist() for b, s, e in spans]
        written = memory.write(
            keys,
            [text.strip() for text in model.backbone.tokenizer.batch_decode(tokens)],
            tau,
            tokens=tokens,
            sessions=sessions,
            event_times=[float(batch["event_times"][b]) + 1e-3 * s for b, s, _ in spans],
            links=[links[b] for b, _, _ in spans],
            prediction_errors=errors.tolist(),
            threshold=self.threshold,
        )
        if learn:
            self._await(written, features)
        told = batch.get("told")
        facts = np.ones(len(spans), bool) if told is None else _by_span(told, batch["write_end"])
        return Written(written, tau, np.array([i is not None for i in written]), facts)

    def state_dict(self) -> dict[str, Any]:
        """The gate and the spans still waiting for their first use, as plain values."""
        waiting = {name: row.tolist() for name, row in self._pending.items()}
        return {"gate": self.gate.state_dict(), "waiting": waiting}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.gate.load_state_dict(state["gate"])
        waiting = state.get("waiting", {})
        self._pending = OrderedDict((name, np.asarray(row, np.float32)) for name, row in waiting.items())

    def _kinds(self, model: MemoryLM, ids: Tensor, spans: list[tuple[int, int, int]]) -> NDArray[np.float32]:
        """`[N, 24]`: what words a span is made of, by a fixed projection of its mean embedding."""
        table: Tensor = model.backbone.decoder.embed_tokens.weight
        if self._projection is None:
            generator = torch.Generator().manual_seed(self.seed)
            self._projection = torch.randn(table.shape[1], EMBEDDING_FEATURES, generator=generator)
        with torch.no_grad():
            means = torch.stack([table[ids[b, s:e]].float().mean(0) for b, s, e in spans])
            return (means.cpu() @ self._projection).numpy()

    def _teach(self, recall: Recall | None) -> None:
        """Spans that just proved of use are positive examples, those that waited too long negative ones."""
        used = [self._pending.pop(i) for i in _best(recall) if i in self._pending]
        useless = []
        while len(self._pending) > self.patience:
            useless.append(self._pending.popitem(last=False)[1])
        if used or useless:
            labels = np.concatenate([np.ones(len(used)), np.zeros(len(useless))])
            self.gate.learn(np.stack([*used, *useless]), labels)

    def _await(self, ids: list[str | None], features: NDArray[np.float32]) -> None:
        self._pending.update({i: row for i, row in zip(ids, features, strict=True) if i is not None})


def gate_features(*, error: float = 0.0, novelty: float = 0.5, reward: float = 0.5) -> list[float]:
    """Starting weights of a gate for `MemoryWriter`: one for each feature, none yet for the kind of span."""
    return [*dict(zip(FEATURES, (error, novelty, reward), strict=True)).values(), *[0.0] * EMBEDDING_FEATURES]


def _spans(start: Tensor, end: Tensor) -> list[tuple[int, int, int]]:
    rows, columns = torch.nonzero(end > 0, as_tuple=True)
    return [(int(b), int(start[b, s]), int(end[b, s])) for b, s in zip(rows, columns, strict=True)]


def _by_span(values: Tensor, end: Tensor) -> NDArray[np.bool_]:
    return np.asarray(values[end > 0].cpu(), dtype=bool)


def _span_means(losses: Tensor | None, spans: list[tuple[int, int, int]]) -> NDArray[np.float32]:
    if losses is None:
        raise ValueError("writing needs a forward pass with labels: the prediction error comes from it")
    table = losses.detach().float().cpu().numpy()
    return np.array([table[b, s:e].mean() for b, s, e in spans], dtype=np.float32)


def _best(recall: Recall | None) -> list[str]:
    """The best answer of each read."""
    return (
        []
        if recall is None
        else [row[0] for row, found in zip(recall.ids, recall.mask[:, 0], strict=True) if found and row]
    )


def _best_by_row(recall: Recall | None, rows: int) -> list[list[str]]:
    """The best answers of the reads of each row of the batch."""
    links: list[list[str]] = [[] for _ in range(rows)]
    if recall is not None:
        reads = len(recall.ids) // rows
        for n, (ids, found) in enumerate(zip(recall.ids, recall.mask[:, 0], strict=True)):
            if found and ids:
                links[n // reads].append(ids[0])
    return links
