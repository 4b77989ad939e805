"""Text from the model, one token at a time, with its memory at hand."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from t4dm.backbone.load import new_cache
from t4dm.memory.memory import Memory
from t4dm.memory.policies import Policy
from t4dm.model.memory_lm import MemoryLM, MemoryRows
from t4dm.model.reads import Reads


def generate(
    model: MemoryLM,
    prompt: str,
    *,
    max_new_tokens: int = 32,
    memory: Memory | None = None,
    session: str = "",
    policy: Policy | None = None,
    query_tokens: int = 16,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[str]:
    """Yield the continuation of `prompt` in pieces of text; stops at the end-of-text token.

    The memory is asked once, with the last `query_tokens` tokens of the prompt; what it gives stays visible
    throughout.

    Args:
        memory: where to look; None reads nothing.
        session: whose memories.
        policy: which memories count.
        temperature: 0 takes the most likely token.
        generator: source of randomness above temperature 0.
    """
    tokenizer = model.backbone.tokenizer
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"].to(model.backbone.device)
    length = ids.shape[1]
    reads = Reads(torch.tensor([[max(0, length - query_tokens)]]), torch.tensor([[length]]), [session])
    cache, state, rows = new_cache(), None, None
    pieces: list[int] = []
    model.eval()
    for _ in range(max_new_tokens):
        with torch.no_grad():
            mask = torch.ones(1, length, dtype=torch.bool, device=ids.device)
            out = model(
                ids,
                attention_mask=mask,
                state=state,
                cache=cache,
                reads=reads,
                memory=memory,
                policy=policy,
                rows=rows,
            )
        rows, state = _last_position(out.rows), out.state
        token = _draw(out.logits[0, -1].float(), temperature, generator)
        if token == tokenizer.eos_token_id:
            return
        before = str(tokenizer.decode(pieces))
        pieces.append(token)
        if not (text := str(tokenizer.decode(pieces))).endswith("\ufffd"):
            yield text[len(before.rstrip("\ufffd")) :]
        ids, length, memory = torch.tensor([[token]], device=ids.device), length + 1, None


def _last_position(rows: MemoryRows | None) -> MemoryRows | None:
    """What the last token saw, for the next one."""
    return None if rows is None else MemoryRows(rows.states, rows.visible[:, -1:])


def _draw(logits: Tensor, temperature: float, generator: torch.Generator | None) -> int:
    if temperature <= 0.0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
