"""Text from the model, token by token, with its memory at hand: one prompt, or several side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from t4dm.errors import NoPromptError, PromptTooLongError, SettingError
from t4dm.memory.memory import Memory, Recall
from t4dm.memory.policies import AnyPolicy, Policy
from t4dm.model.decoding import Running, begin, keep, padded_left, step
from t4dm.model.hits import one_query
from t4dm.model.in_stream import MemoryRows
from t4dm.model.memory_lm import MemoryLM
from t4dm.model.reads import Reads
from t4dm.model.sampling import Sampler
from t4dm.model.text_stream import TextStream

OnRecall = Callable[[int, Recall], None]
"""Told of every search: for which prompt it was, and what came back, as a recall of one query."""


class Piece(NamedTuple):
    """One token of one sequence."""

    row: int
    """Which prompt it continues."""
    text: str
    """What can be said since the piece before; often nothing, never half a character."""
    token: int
    end: str = ""
    """Why the sequence ends with it: `"end"` of text, `"stop"` string, `"length"`; empty while it goes on."""


def generate(
    model: MemoryLM,
    prompt: str,
    *,
    max_new_tokens: int = 32,
    memory: Memory | None = None,
    session: str = "",
    policy: Policy | None = None,
    query_tokens: int = 16,
    refresh: int = 0,
    sampler: Sampler | None = None,
    generator: torch.Generator | None = None,
    stop: Sequence[str] = (),
) -> Iterator[str]:
    """Yield the continuation of `prompt` in pieces of text; see `generate_batch`."""
    pieces = generate_batch(
        model,
        [prompt],
        max_new_tokens=max_new_tokens,
        memory=memory,
        sessions=[session],
        policy=policy,
        query_tokens=query_tokens,
        refresh=refresh,
        sampler=sampler,
        generators=[generator],
        stop=stop,
    )
    return (piece.text for piece in pieces if piece.text)


def generate_batch(
    model: MemoryLM,
    prompts: Sequence[str | Sequence[int]],
    *,
    max_new_tokens: int = 32,
    memory: Memory | None = None,
    sessions: Sequence[str] | None = None,
    policy: Policy | None = None,
    query_tokens: int = 16,
    queries: Sequence[Sequence[int]] | None = None,
    refresh: int = 0,
    sampler: Sampler | None = None,
    generators: Sequence[torch.Generator | None] | None = None,
    stop: Sequence[str] = (),
    on_recall: OnRecall | None = None,
    count_accesses: bool = True,
) -> Iterator[Piece]:
    """Continue several prompts at once; each gets the tokens that it would get alone.

    The memory is asked with the last `query_tokens` tokens of each prompt, and again with the last ones of
    prompt and answer after every `refresh` new tokens; what a search gives stays visible until the next.

    Args:
        model: it runs in evaluation mode and is left as it was.
        prompts: texts, or token ids.
        max_new_tokens: of each.
        memory: where to look; None reads nothing.
        sessions: whose memories each prompt may recall.
        policy: which memories count; all by default.
        query_tokens: length of a search's query.
        queries: token ids that the first search asks with, one list for each prompt, instead of its end.
        refresh: new tokens between two searches; 0 searches once.
        sampler: how a token is chosen; the most likely one by default.
        generators: source of randomness of each prompt, on the CPU.
        stop: strings that end a text; they are not part of it.
        on_recall: told what came back.
        count_accesses: whether what is recalled counts as used.

    Raises:
        NoPromptError, PromptTooLongError: a prompt without a token, or with more than there are positions.
        SettingError: a number below what makes sense, or an empty stop string.
        BrokenLogitsError: the model gives NaN.
    """
    _at_least("max_new_tokens", max_new_tokens, 1)
    _at_least("query_tokens", query_tokens, 1)
    _at_least("refresh", refresh, 0)
    texts = [prompt_ids(model, prompt) for prompt in prompts]
    streams = [TextStream(model.backbone.tokenizer, prompt=ids, stop=stop) for ids in texts]
    sampler, ends = sampler or Sampler(), end_tokens(model)
    generators = [None] * len(texts) if generators is None else generators
    sessions = [""] * len(texts) if sessions is None else sessions
    limit = positions(model)

    def searched(keys: Sequence[int], asked: Sequence[Sequence[int]] | None = None) -> MemoryRows | None:
        asked = asked or [texts[key][-query_tokens:] for key in keys]
        theirs = [sessions[key] for key in keys]
        found = recalled(model, memory, asked, theirs, policy=policy, count=count_accesses)
        if found is None:
            return None
        if on_recall is not None:
            for row, key in enumerate(keys):
                on_recall(key, one_query(found[0], row))
        return found[1]

    def pieces() -> Iterator[Piece]:
        running = begin(model, texts, rows=searched(range(len(texts)), queries))
        for count in range(1, max_new_tokens + 1):
            if count > 1:
                if refresh and (count - 1) % refresh == 0:
                    running = running._replace(rows=searched(running.keys))
                running = step(model, running, [texts[key][-1] for key in running.keys])
            staying = []
            for row, (key, token) in enumerate(zip(running.keys, drawn(running), strict=True)):
                over = count == max_new_tokens or len(texts[key]) + 1 >= limit
                piece = _piece(key, token, texts[key], streams[key], over=over, ends=ends)
                staying += [] if piece.end else [row]
                yield piece
            if not staying:
                return
            running = keep(running, staying)

    def drawn(running: Running) -> list[int]:
        before = [texts[key] for key in running.keys]
        return sampler.draw(running.logits, before, [generators[key] for key in running.keys])

    return _evaluating(model, pieces) if texts else iter(())


@torch.no_grad()
def recalled(
    model: MemoryLM,
    memory: Memory | None,
    queries: Sequence[Sequence[int]],
    sessions: Sequence[str],
    *,
    policy: Policy | None = None,
    count: bool = True,
) -> tuple[Recall, MemoryRows] | None:
    """What the memory has for each query of token ids, and the same as rows that the next token may read,
    `visible` `[B, 1, M]`; None where the model reads no memory.
    """
    if memory is None or model.stack is None:
        return None
    ids, reads = _at_the_end(model, queries, sessions)
    found = model.recall(ids, reads, memory, policy or AnyPolicy(), count=count)
    return None if found is None else (found, recall_rows(model, found, queries))


@torch.no_grad()
def recall_rows(model: MemoryLM, recall: Recall, queries: Sequence[Sequence[int]]) -> MemoryRows:
    """What `queries` brought back, as rows that the next token may read, `visible` `[B, 1, M]`."""
    ids, reads = _at_the_end(model, queries, [""] * len(queries))
    rows = model.rows(recall, reads, ids)
    return MemoryRows(rows.states, rows.visible[:, -1:])


def _at_the_end(
    model: MemoryLM, queries: Sequence[Sequence[int]], sessions: Sequence[str]
) -> tuple[Tensor, Reads]:
    """Queries flush right, each read at its own last token."""
    ids, mask = padded_left(queries, device=model.backbone.device)
    length = ids.shape[1]
    start = length - mask.sum(-1, keepdim=True)
    return ids, Reads(start, torch.full_like(start, length), list(sessions))


def prompt_ids(model: MemoryLM, prompt: str | Sequence[int]) -> list[int]:
    """The tokens of a prompt.

    Raises:
        NoPromptError, PromptTooLongError: none, or more than there are positions.
    """
    tokenizer: Any = model.backbone.tokenizer
    ids: list[int] = (
        list(tokenizer(prompt, verbose=False)["input_ids"] if prompt.strip() else ())
        if isinstance(prompt, str)
        else list(prompt)
    )
    if not ids:
        raise NoPromptError
    if len(ids) > positions(model):
        raise PromptTooLongError(len(ids), positions(model))
    return ids


def positions(model: MemoryLM) -> int:
    """The most tokens that prompt and answer may have together."""
    return int(model.backbone.decoder.config.max_position_embeddings)


def end_tokens(model: MemoryLM) -> frozenset[int]:
    """The tokens that end a text: the tokenizer's, and those of the model's own generation settings."""
    settings = getattr(model.language_model, "generation_config", None)
    listed = getattr(settings, "eos_token_id", None)
    found = [model.backbone.tokenizer.eos_token_id, *(listed if isinstance(listed, list) else [listed])]
    return frozenset(int(token) for token in found if token is not None)


def _piece(
    key: int, token: int, text: list[int], stream: TextStream, *, over: bool, ends: frozenset[int]
) -> Piece:
    """Take a token into a sequence."""
    if token in ends:
        return Piece(key, stream.end(), token, "end")
    text.append(token)
    said = stream.push(token)
    if stream.stopped:
        return Piece(key, said, token, "stop")
    return Piece(key, said + stream.end(), token, "length") if over else Piece(key, said, token)


def _evaluating(model: MemoryLM, pieces: Callable[[], Iterator[Piece]]) -> Iterator[Piece]:
    was_training = model.training
    model.eval()
    try:
        yield from pieces()
    finally:
        model.train(was_training)


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise SettingError(name, value, f"{least} or more: {name}={least}")
