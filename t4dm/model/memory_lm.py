"""The language model with a memory: a frozen backbone, the cortical stack between two of its layers, T4DX
behind it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from t4dm.backbone.load import Backbone
from t4dm.backbone.tap import inserted, stream_at
from t4dm.errors import SettingError
from t4dm.memory.embedders import LexicalEmbedder
from t4dm.memory.memory import Memory, Recall
from t4dm.memory.policies import AnyPolicy, Policy
from t4dm.model.in_stream import Contrast, InStream, MemoryRows
from t4dm.model.losses import token_losses, weighted_mean
from t4dm.model.projections import Entry, Exit
from t4dm.model.reads import Reads, RecallRows, recall_rows, visibility
from t4dm.model.working_memory import Held, Writes, earlier, hold, places, spans_of
from t4dm.spiking.neuromodulators import Neuromod
from t4dm.spiking.stack import CorticalStack
from t4dm.spiking.state import StackAux, StackState


class MemoryLMOutput(NamedTuple):
    """What one forward pass gives."""

    logits: Tensor
    """`[B, T, V]`."""
    loss: Tensor | None
    """Weighted cross-entropy in nats, where labels were given."""
    token_losses: Tensor | None
    """`[B, T]` nats, where labels were given: the prediction error of each token."""
    state: StackState | None
    aux: StackAux | None
    contrast: Contrast | None
    """For the goodness loss, where asked for and something was recalled."""
    recall: Recall | None
    """What was recalled, one row for each (row, read) of the batch, or None where the memory was not
    asked.
    """
    rows: MemoryRows | None
    """The same as the stack read it, and behind it what the working memory held."""
    reconstruction: Tensor | None = None
    """What the projections lose of the stream, a share of its square, where asked for."""


class MemoryLM(nn.Module):
    """Layers below -> tap -> normalise, project -> cortical stack with recalled memories -> project, gate
    -> layers above.

    A recalled item is read token by token: its stored tokens pass through the layers below the insertion
    (as in RETRO, Borgeaud et al. 2022), so the stack sees memories in the form in which it sees the text. A
    row's key is the state *before* a token, its value is that token (as in kNN-LM, Khandelwal et al. 2020):
    a position about to predict looks for moments when something like it was about to come. Search keys are
    made of words (`LexicalEmbedder`), so they stay valid while the model learns.

    What T4DX gives back are constants. With `working` items a read also recalls what rows of the same batch
    told before it, in the same form but from the stream as it passed, with gradients (`working_memory`).

    Args:
        backbone: frozen, with or without LoRA.
        stack: the cortical blocks; None leaves the backbone alone (the arms `frozen` and `lora`).
        insert_at: the decoder layer before which the stack stands.
        embedder: makes search keys of token spans.
        recalled: k, items for each read.
        recall_tokens: tokens of an item that are read.
        working: items of the working memory for each read; 0 goes without one.

    Raises:
        InsertionPointError: there is no such layer.
        SettingError: `working` is negative.
    """

    def __init__(
        self,
        *,
        backbone: Backbone,
        stack: CorticalStack | None,
        insert_at: int,
        embedder: LexicalEmbedder | None = None,
        recalled: int = 4,
        recall_tokens: int = 16,
        working: int = 0,
    ) -> None:
        super().__init__()
        backbone.layer(insert_at)
        if working < 0:
            raise SettingError("model.memory_lm.working", working, "0 or more: ++model.memory_lm.working=2")
        self._backbone = (backbone,)
        self.language_model = backbone.model
        self.insert_at, self.recalled, self.recall_tokens = insert_at, recalled, recall_tokens
        self.working = working
        self.embedder = embedder
        self.stack = stack
        if stack is not None:
            self.entry = Entry(stream_width=backbone.width, width=stack.width)
            self.exit = Exit(entry=self.entry)
            self.recency = nn.Parameter(torch.zeros(recalled + working, stack.width))
            nn.init.normal_(self.recency, std=0.02)

    @property
    def backbone(self) -> Backbone:
        return self._backbone[0]

    def forward(
        self,
        input_ids: Tensor,
        *,
        attention_mask: Tensor | None = None,
        labels: Tensor | None = None,
        loss_weights: Tensor | None = None,
        state: StackState | None = None,
        reads: Reads | None = None,
        writes: Writes | None = None,
        memory: Memory | None = None,
        policy: Policy | None = None,
        rows: MemoryRows | None = None,
        cache: Any = None,
        positions: Tensor | None = None,
        keep_logits: int = 0,
        modulators: Neuromod | None = None,
        reset: Tensor | None = None,
        negatives: int = 0,
        reconstruct: bool = False,
        bypass: bool = False,
        count_accesses: bool = True,
    ) -> MemoryLMOutput:
        """One pass over `[B, T]` tokens.

        Args:
            input_ids: `[B, T]`.
            attention_mask: `[B, T]`, False at padding; with a cache `[B, past + T]`.
            labels: `[B, T]`, the token itself or -100; the shift is made here.
            loss_weights: `[B, T]`.
            state: of the stack, from the window before; None starts anew.
            reads: where the memory is asked; needs `memory`.
            writes: what the working memory may hold; nothing where it is None or `working` is 0.
            memory: what is asked.
            policy: which memories count; all by default.
            rows: memories that were recalled before, instead of asking anew.
            cache: the backbone's key-value cache (a transformers `Cache`), extended in place.
            positions: `[B, T]` place of each token in its sequence, where padding on the left shifts it.
            keep_logits: how many positions, from the last, get logits; 0 gives them to all.
            modulators: levels of the four neuromodulators; the stack's own when None.
            reset: `[B, T]`, True where a new document starts.
            negatives: rows for which the stack runs twice more, with their own memories and with another
                row's.
            reconstruct: measure what the projections lose of the stream, see `reconstruction_error`.
            bypass: leave the stack out; what remains is the backbone with its LoRA.
            count_accesses: whether what is recalled counts as used.
        """
        mask = (
            torch.ones_like(input_ids, dtype=torch.bool) if attention_mask is None else attention_mask.bool()
        )
        bypass = bypass or self.stack is None
        recall = None
        if not bypass:
            recall = self.recall(input_ids, reads, memory, policy or AnyPolicy(), count=count_accesses)
        held = None
        if not bypass and self.working and reads is not None and writes is not None:
            held = self.hold(input_ids, reads, writes, reset=reset, mask=mask)
        if recall is not None and reads is not None:
            rows = self.rows(recall, reads, input_ids)
        adapter = InStream(self, mask[:, -input_ids.shape[1] :], reset, state, modulators, negatives, rows)
        if held is not None and reads is not None:
            adapter.hold(held, input_ids, visibility(reads, input_ids.shape[1]).to(input_ids.device))
        adapter.reconstruct = reconstruct
        with nullcontext() if bypass else inserted(self.backbone, self.insert_at, adapter):
            logits = self.language_model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=keep_logits,
            ).logits
        losses = None if labels is None else token_losses(logits, labels)
        loss = None if losses is None or labels is None else weighted_mean(losses, labels, loss_weights)
        return MemoryLMOutput(
            logits,
            loss,
            losses,
            adapter.state,
            adapter.aux,
            adapter.contrast,
            recall,
            adapter.rows,
            adapter.reconstruction,
        )

    def keys(self, input_ids: Tensor, spans: Sequence[tuple[int, int, int]]) -> NDArray[np.float32]:
        """Search keys `[N, K]` of token spans `(row, start, end)`; an empty span gives zeros."""
        if self.embedder is None:
            raise ValueError("a model that reads or writes needs an embedder")
        ids = input_ids.cpu().numpy()
        return self.embedder.encode([ids[row, start:end].tolist() for row, start, end in spans])

    def recall(
        self,
        input_ids: Tensor,
        reads: Reads | None,
        memory: Memory | None,
        policy: Policy,
        *,
        count: bool = True,
    ) -> Recall | None:
        """Ask the memory at every read of the batch, in one search; None where there is nothing to ask."""
        if memory is None or reads is None or not bool((reads.end > 0).any()):
            return None
        batch, per_row = reads.end.shape
        sessions = [reads.sessions[b] for b in range(batch) for _ in range(per_row)]
        queries = torch.from_numpy(self.keys(input_ids, spans_of(reads.start, reads.end)))
        found = memory.read(queries, policy=policy, k=self.recalled, sessions=sessions, count=count)
        asked = (reads.end > 0).reshape(-1, 1).to(found.mask.device)
        return found._replace(mask=found.mask & asked)

    def hold(
        self, input_ids: Tensor, reads: Reads, writes: Writes, *, reset: Tensor | None, mask: Tensor
    ) -> Held | None:
        """What the working memory holds for each read; None where no read may recall anything of it."""
        allowed = earlier(reads, writes, reset=reset, mask=mask)
        if not bool(allowed.any()):
            return None
        asked, told = (
            torch.from_numpy(self.keys(input_ids, spans_of(*spans)))
            for spans in ((reads.start, reads.end), (writes.start, writes.end))
        )
        likeness = (asked @ told.T).view(allowed.shape).to(allowed.device)
        return hold(allowed, likeness, writes, k=self.working, limit=self.recall_tokens)

    def rows(self, recall: Recall, reads: Reads, input_ids: Tensor) -> MemoryRows:
        """Recalled items as rows for the stack."""
        batch, length = input_ids.shape
        rows = recall_rows(recall, batch=batch, limit=self.recall_tokens, pad_id=0, device=input_ids.device)
        states = self._encode(rows)
        k, per_item = recall.mask.shape[1], states.shape[2]
        seen = visibility(reads, length).to(input_ids.device).repeat_interleave(k * per_item, dim=-1)
        filled = rows.mask[:, 1:][rows.content] & rows.found[..., None]
        return MemoryRows(states.flatten(1, 2), seen & filled.flatten(1)[:, None])

    def _encode(self, rows: RecallRows) -> Tensor:
        """Keys and values `[B, Q * k, L - 1, 2 D]`: the state before each token, and the token's
        embedding.
        """
        stream = stream_at(self.backbone, self.insert_at, rows.tokens, rows.mask)
        keys = self.entry(stream[:, :-1])[rows.content] + self.recency[rows.recency][:, :, None]
        words = self.backbone.decoder.embed_tokens.weight[rows.tokens[:, 1:]]
        return torch.cat([keys, self.entry(words)[rows.content]], dim=-1)

    def working_rows(self, e: Tensor, input_ids: Tensor, held: Held, seen: Tensor) -> MemoryRows:
        """What the working memory holds as rows for the stack; their marks of recency are their own.

        Args:
            e: `[B, T, D]`, the projected stream of the batch, with its graph.
            input_ids: `[B, T]`.
            held: k spans for each read.
            seen: `[B, T, Q]`, which read each position sees.
        """
        at, inside = places(held)
        row = held.row[..., None]
        keys = e[row, at[..., :-1]] + self.recency[self.recalled + held.recency][..., None, :]
        words = self.backbone.decoder.embed_tokens.weight[input_ids[row, at[..., 1:]]]
        states = torch.cat([keys, self.entry(words)], dim=-1).flatten(1, 3)
        filled = inside[..., 1:].flatten(2)  # [B, Q, k * (L - 1)]
        visible = seen.repeat_interleave(filled.shape[-1], dim=-1) & filled.flatten(1)[:, None]
        return MemoryRows(states, visible)

    def lora_parameters(self) -> Iterator[nn.Parameter]:
        """Trainable parameters inside the backbone."""
        return (p for p in self.language_model.parameters() if p.requires_grad)

    def projection_parameters(self) -> Iterator[nn.Parameter]:
        """The doors of the stack."""
        if self.stack is not None:
            yield from self.entry.parameters()
            yield from self.exit.parameters()
            yield self.recency

    def trainable_named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All that learns, by name."""
        return ((name, p) for name, p in self.named_parameters() if p.requires_grad)
