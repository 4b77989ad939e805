"""The row groups: a training step, a token, the most memory, and a search beside the pass that it serves."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from torch import Tensor

from experiments.bench import measure
from experiments.bench.memory import peak_bytes
from experiments.lm_bench.models import SHAPES, Shape, adapted, backbone
from t4dm.backbone.load import new_cache
from t4dm.memory.memory import Memory
from t4dm.memory.policies import AnyPolicy
from t4dm.model import MemoryLM, Reads
from t4dm.t4dx import T4DX, Item

STORED: Final = 10_000
"""Items in the store that is searched."""
SPAN: Final = 16
WORDS: Final = 2000
PROMPT, NEW = 64, 16
Result = dict[str, Any]


class Setting(NamedTuple):
    """Where and how long: `calls` and `budget` (seconds) bound one system in one round."""

    device: str
    rounds: int
    calls: int
    budget: float
    stored: int = STORED


def step(setting: Setting) -> Result:
    """One step of AdamW on LoRA alone, on LoRA and stack, and the same reading a memory."""
    return _over(setting, _step)


def decode(setting: Setting) -> Result:
    """Token after token with the key-value cache, with the stack and without it."""
    return _over(setting, _decode)


def search(setting: Setting) -> Result:
    """Keys and search for all reads of a batch, beside the forward pass that waits for them."""
    return _over(setting, _search)


GROUPS: Final[dict[str, Callable[[Setting], Result]]] = {
    "lm_step": step,
    "lm_decode": decode,
    "lm_search": search,
}


def _over(setting: Setting, measured: Callable[[Setting, Shape, MemoryLM], Result]) -> Result:
    figures: Result = {}
    for shape in SHAPES[setting.device]:
        model = adapted(backbone(shape, setting.device), shape)
        figures |= measured(setting, shape, model)
        del model
        if setting.device == "cuda":
            torch.cuda.empty_cache()
    return {"figures": figures, "missing": []}


def _step(setting: Setting, shape: Shape, model: MemoryLM) -> Result:
    ids = _ids(model, shape.batch, shape.tokens)
    with _memory(model, setting) as memory:
        systems: dict[str, Callable[[], object]] = {}
        for label, options in {
            "LoRA": {"bypass": True},
            "t4dm": {},
            "t4dm, reading": {"memory": memory, "reads": _reads(shape)},
        }.items():
            systems[label] = _stepper(model, ids, **options)
        found = _times(setting, systems, tokens=shape.batch * shape.tokens)
        for label, system in systems.items():
            found[label]["peak_bytes"] = peak_bytes(system, setting.device)
        found["t4dm"]["forward_peak_bytes"] = peak_bytes(_forward(model, ids), setting.device)
        found["t4dm"]["extra_peak_bytes"] = found["t4dm"]["peak_bytes"] - found["LoRA"]["peak_bytes"]
    return {f"lm_step_{shape.name}_b{shape.batch}_t{shape.tokens}": found}


def _stepper(model: MemoryLM, ids: Tensor, **options: Any) -> Callable[[], object]:
    """A step that is not taken far: the learning rate is so small that every step sees the same model."""
    bypass = bool(options.get("bypass"))
    parameters = (
        list(model.lora_parameters()) if bypass else [p for p in model.parameters() if p.requires_grad]
    )
    optimizer = torch.optim.AdamW(parameters, lr=1e-9)

    def run() -> None:
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            loss = model(ids, labels=ids, **options).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        _wait(ids)

    return run


def _forward(model: MemoryLM, ids: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad(), torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.is_cuda):
            model(ids)
        _wait(ids)

    return run


def _decode(setting: Setting, shape: Shape, model: MemoryLM) -> Result:
    model.eval()
    systems = {
        "bare": _decoder(model, _ids(model, 1, PROMPT), bypass=True),
        "t4dm": _decoder(model, _ids(model, 1, PROMPT), bypass=False),
    }
    found = _times(setting, systems, tokens=NEW)
    model.train()
    return {f"lm_decode_{shape.name}": found}


def _decoder(model: MemoryLM, prompt: Tensor, *, bypass: bool) -> Callable[[], object]:
    """NEW tokens after a prompt of PROMPT that is not timed apart: both systems read the same one."""

    @torch.no_grad()
    def run() -> None:
        cache, ids, state, length = new_cache(), prompt, None, prompt.shape[1]
        for _ in range(NEW):
            mask = torch.ones(1, length, dtype=torch.bool, device=prompt.device)
            with torch.autocast(prompt.device.type, torch.bfloat16, enabled=prompt.is_cuda):
                out = model(ids, attention_mask=mask, cache=cache, state=state, bypass=bypass)
            ids, state, length = out.logits[:, -1:].argmax(-1), out.state, length + 1
        _wait(prompt)

    return run


def _search(setting: Setting, shape: Shape, model: MemoryLM) -> Result:
    model.eval()
    ids, reads = _ids(model, shape.batch, shape.tokens), _reads(shape)
    with _memory(model, setting) as memory:
        systems = {
            "forward pass": _forward(model, ids),
            "t4dm": lambda: model.recall(ids, reads, memory, AnyPolicy(), count=False),
        }
        found = _times(setting, systems, tokens=shape.batch * shape.tokens)
    model.train()
    return {f"lm_search_{shape.name}_n{setting.stored}": found}


@contextmanager
def _memory(model: MemoryLM, setting: Setting) -> Iterator[Memory]:
    """A store of random items in a folder that is gone afterwards, behind the model's port."""
    rng, embedder = np.random.default_rng(5), model.embedder
    assert embedder is not None
    vocab = min(int(model.backbone.decoder.config.vocab_size), WORDS)
    with (
        tempfile.TemporaryDirectory(prefix="t4dm-bench-") as folder,
        T4DX.open(f"{folder}/store", dim=embedder.dim, clock=lambda: 1.0) as store,
    ):
        for start in range(0, setting.stored, 1000):
            count = min(1000, setting.stored - start)
            spans = rng.integers(2, vocab, (count, SPAN)).tolist()
            keys = embedder.encode(spans)
            store.insert_many(_item(start + n, span, keys[n]) for n, span in enumerate(spans))
        store.flush()
        yield Memory(store, clock=lambda: 1e6, rng=rng)


def _item(number: int, span: list[int], key: Any) -> Item:
    return Item(
        id=f"{number:08d}",
        content=" ".join(map(str, span)),
        vector=key,
        session=f"row-{number % 4}",
        metadata={"tokens": span},
        event_time=float(number),
    )


def _reads(shape: Shape) -> Reads:
    """Two reads a row, as in the recall experiments."""
    ends = torch.tensor([[shape.tokens // 3, 2 * shape.tokens // 3]]).repeat(shape.batch, 1)
    return Reads(ends - SPAN, ends, [f"row-{n % 4}" for n in range(shape.batch)])


def _ids(model: MemoryLM, batch: int, tokens: int) -> Tensor:
    vocab = min(int(model.backbone.decoder.config.vocab_size), WORDS)
    made = torch.randint(2, vocab, (batch, tokens), generator=torch.Generator().manual_seed(6))
    return made.to(model.backbone.device)


def _times(setting: Setting, systems: dict[str, Callable[[], object]], *, tokens: int) -> dict[str, Any]:
    for system in systems.values():
        system()
    runs = {
        label: (
            lambda turn, system=system: measure.block(
                lambda _: system(), range(setting.calls), budget=setting.budget
            )
        )
        for label, system in systems.items()
    }
    times = measure.interleave(runs, rounds=setting.rounds)
    return {label: {**measure.summary(rounds), "tokens": tokens} for label, rounds in times.items()}


def _wait(like: Tensor) -> None:
    if like.is_cuda:
        torch.cuda.synchronize()
