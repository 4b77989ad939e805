"""One recorder for all of a model: backbone, LoRAs, stack, memory. Where it is not used it costs nothing.

`observing` hangs hooks on the parts of a model for as long as its block lasts, and takes them all away again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor, nn

from t4dm.memory.memory import Memory, Recall
from t4dm.model.hits import hits
from t4dm.model.memory_lm import MemoryLM
from t4dm.model.recall_reading import watching_recall
from t4dm.spiking.recorder import SpikeRecorder

MEMORY = "memory"
TOP = 5


@final
class GlassBox:
    """Keeps what passes through a model under names, within one budget for all of it.

    What would exceed the budget is left out before it is copied, its name is added to `dropped`, and nothing
    more is kept under that name. All is kept on the CPU and detached, spikes as uint8, all else as fp32.

    Names, for T tokens, W channels of the stream, H heads, M recalled rows:

    - `embedding.norm`, `layer<i>.norm` `[B, T]`: length of the stream after each decoder layer; `.stream`
      `[B, T, W]` the stream itself, where `streams`;
    - `layer<i>.<linear>.lora` `[B, T, out]`: scale * B A x, what a LoRA adds, where `streams`; `.lora_norm`
      and `.base_norm` `[B, T]`: its length, and that of the frozen layer's own output;
    - `insert.before.norm`, `insert.after.norm` (and `.stream`): the stream around the stack;
    - `block<i>.<stage>`: spikes of each stage; `block<i>.gate` and so on where `inner`: see `SpikeRecorder`;
      `block<i>.prediction_error`, `block<i>.goodness` `[B, T]`;
    - `block<i>.reading` `[B, T, H, M]`: which rows each head of the recall attention reads;
    - `output.top` and `output.ids` `[B, T, 5]`: probabilities and ids of the likeliest next tokens;
    - `memory`: the operations in `operations`, counted by their length as JSON.

    Args:
        byte_budget: the most that everything together may take.
        streams: keep whole streams and LoRA outputs, not only their lengths.
        inner: keep what the stages compute between spikes.
        rows: how many rows of a batch, from the first.
    """

    def __init__(
        self, *, byte_budget: int = 256 << 20, streams: bool = True, inner: bool = True, rows: int = 1
    ) -> None:
        self.byte_budget, self.streams, self.rows = byte_budget, streams, rows
        self.spikes = SpikeRecorder(byte_budget=byte_budget, inner=inner, rows=rows)
        """Of the stack; it may take what the rest has left."""
        self.operations: list[dict[str, Any]] = []
        self._values: dict[str, list[Tensor]] = {}
        self._own_bytes = 0
        self._own_dropped: list[str] = []
        self._asked: list[str] = []

    @property
    def bytes(self) -> int:
        """What everything kept takes."""
        return self._own_bytes + self.spikes.bytes

    @property
    def dropped(self) -> list[str]:
        """Names that did not fit."""
        return [*self._own_dropped, *self.spikes.dropped]

    def keep(self, name: str, values: Tensor) -> None:
        """Keep one window `[B, T, ...]` under a name."""
        part = values[: self.rows]
        if self._has_room(name, 4 * part.numel()):
            copy = part.detach().to("cpu", torch.float32, copy=True)
            self._values.setdefault(name, []).append(copy)

    def names(self) -> list[str]:
        """The names that `keep` filled, in the order in which they came first."""
        return list(self._values)

    def values(self, name: str) -> Tensor:
        """All windows of a name joined over time, `[rows, T, ...]`."""
        return torch.cat(self._values[name], dim=1)

    def windows(self, name: str) -> list[Tensor]:
        """The windows one by one: reads of different searches have different widths."""
        return list(self._values[name])

    def asking(self, texts: Sequence[str]) -> None:
        """The texts that the next search's queries are made of."""
        self._asked = list(texts)

    def searched(self, recall: Recall, sessions: Sequence[str] | None) -> None:
        """Keep a search: query text, session, hits with scores and ages."""
        for row in range(len(recall.ids)):
            self._operation(
                {
                    "operation": "search",
                    "query": self._asked[row] if row < len(self._asked) else None,
                    "session": None if sessions is None else sessions[row],
                    "hits": [hit._asdict() for hit in hits(recall, row)],
                }
            )
        self._asked = []

    def wrote(
        self,
        ids: Sequence[str | None],
        contents: Sequence[str],
        gate: Sequence[float],
        sessions: Sequence[str],
    ) -> None:
        """Keep what a write did with each moment: its tau and its item's id."""
        for name, text, tau, session in zip(ids, contents, gate, sessions, strict=True):
            self._operation(
                {"operation": "write", "text": text, "session": session, "tau": float(tau), "id": name}
            )

    def _operation(self, told: Mapping[str, Any]) -> None:
        if self._has_room(MEMORY, len(json.dumps(told))):
            self.operations.append(dict(told))

    def _has_room(self, name: str, size: int) -> bool:
        if name not in self._own_dropped and self.bytes + size > self.byte_budget:
            self._own_dropped.append(name)
        if name in self._own_dropped:
            return False
        self._own_bytes += size
        self.spikes.byte_budget = self.byte_budget - self._own_bytes
        return True


@contextmanager
def observing(
    model: MemoryLM, box: GlassBox, *, memory: Memory | None = None, passes: bool = True
) -> Iterator[GlassBox]:
    """Inside the block, all that `model` and `memory` do is kept in `box`, whoever makes them do it.

    The passes through the lower layers that encode recalled memories, and the second pass of the goodness
    loss, are no part of the reading of a text and are not kept.

    Args:
        model: what is watched.
        box: where it is kept.
        memory: watch its searches and writes too.
        passes: watch the model's own passes; False keeps the memory's operations alone.
    """
    embedder = model.embedder
    with ExitStack() as hooks:
        watch = _Watch(model, box, hooks) if passes else None
        if watch is not None and model.stack is not None:
            hooks.enter_context(watching_recall(model.stack, watch.reading))
        if memory is not None:
            memory.observer = box
        if embedder is not None:
            model.embedder = cast(Any, _Listening(embedder, box, model.backbone.tokenizer))
        try:
            yield box
        finally:
            model.embedder = embedder
            if memory is not None:
                memory.observer = None


class _Watch:
    """The hooks, and whether a pass is one that is kept."""

    def __init__(self, model: MemoryLM, box: GlassBox, hooks: ExitStack) -> None:
        self._box, self._hooks = box, hooks
        self._reading_text = self._local = False
        whole = model.language_model
        self._add(whole.register_forward_pre_hook(self._begin))
        self._add(whole.register_forward_hook(self._end, always_call=True))
        decoder = model.backbone.decoder
        self._output(decoder.embed_tokens, "embedding")
        for index, layer in enumerate(decoder.layers):
            self._loras(layer, f"layer{index}")
            self._output(layer, f"layer{index}")
        if model.stack is not None:
            self._add(model.stack.register_forward_pre_hook(self._into_stack, with_kwargs=True))
            self._add(model.stack.register_forward_hook(self._out_of_stack))
            self._add(model.exit.register_forward_hook(self._inserted))

    def reading(self, name: str, weights: Tensor) -> None:
        """Which rows the recall attention reads."""
        if self._kept():
            self._box.keep(name, weights.transpose(1, 2))

    def _add(self, handle: Any) -> None:
        self._hooks.callback(handle.remove)

    def _kept(self) -> bool:
        return self._reading_text and not self._local

    def _begin(self, _module: nn.Module, _args: Any) -> None:
        self._reading_text = True

    def _end(self, _module: nn.Module, _args: Any, out: Any) -> None:
        self._reading_text = False
        if out is not None:
            top = out.logits[: self._box.rows].detach().float().softmax(-1).topk(TOP, dim=-1)
            self._box.keep("output.top", top.values)
            self._box.keep("output.ids", top.indices)

    def _output(self, module: nn.Module, name: str) -> None:
        def after(_module: nn.Module, _args: Any, out: Any) -> None:
            if self._kept():
                self._stream(name, out[0] if isinstance(out, tuple) else out)

        self._add(module.register_forward_hook(after))

    def _stream(self, name: str, stream: Tensor) -> None:
        self._box.keep(f"{name}.norm", _length(stream))
        if self._box.streams:
            self._box.keep(f"{name}.stream", stream)

    def _loras(self, layer: nn.Module, prefix: str) -> None:
        """A LoRA layer of peft holds `base_layer`, and for each adapter `lora_B` and `scaling`."""
        for name, module in layer.named_modules():
            if not hasattr(module, "lora_B") or not hasattr(module, "base_layer"):
                continue
            where = f"{prefix}.{name}"
            lora: Any = module
            self._base(lora.base_layer, where)
            for adapter, up in lora.lora_B.items():
                suffix = "" if adapter == "default" else f".{adapter}"
                self._lora(up, f"{where}.lora{suffix}", float(lora.scaling[adapter]))

    def _base(self, module: nn.Module, name: str) -> None:
        def after(_module: nn.Module, _args: Any, out: Tensor) -> None:
            if self._kept():
                self._box.keep(f"{name}.base_norm", _length(out))

        self._add(module.register_forward_hook(after))

    def _lora(self, module: nn.Module, name: str, scale: float) -> None:
        def after(_module: nn.Module, _args: Any, out: Tensor) -> None:
            if self._kept():
                self._box.keep(f"{name}_norm", scale * _length(out))
                if self._box.streams:
                    self._box.keep(name, scale * out)

        self._add(module.register_forward_hook(after))

    def _into_stack(self, _stack: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
        self._local = bool(kwargs.get("local", False))
        return (args, {**kwargs, "recorder": self._box.spikes}) if self._kept() else None

    def _out_of_stack(self, _stack: nn.Module, _args: Any, out: Any) -> None:
        if self._kept():
            for index, (error, good) in enumerate(
                zip(out.aux.prediction_error, out.aux.goodness, strict=True)
            ):
                self._box.keep(f"block{index}.prediction_error", error)
                self._box.keep(f"block{index}.goodness", good)
        self._local = False

    def _inserted(self, _exit: nn.Module, args: Any, out: Tensor) -> None:
        if self._kept():
            self._stream("insert.before", args[0])
            self._stream("insert.after", out)


class _Listening:
    """An embedder that says aloud what it encodes."""

    def __init__(self, embedder: Any, box: GlassBox, tokenizer: Any) -> None:
        self._embedder, self._box, self._tokenizer = embedder, box, tokenizer

    def encode(self, token_spans: Sequence[Sequence[int]]) -> Any:
        """Keys of token spans."""
        self._box.asking([str(self._tokenizer.decode(list(span))) for span in token_spans])
        return self._embedder.encode(token_spans)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._embedder, name)


def _length(stream: Tensor) -> Tensor:
    return stream.detach().float().norm(dim=-1)
