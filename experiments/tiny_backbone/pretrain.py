"""Pre-train the tiny backbone on text and in-window recall, then measure it against n-gram baselines.

python experiments/tiny_backbone/pretrain.py experiments/tiny_backbone/recipe.yaml
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from ngram import KneserNey, unigram_perplexity
from torch.nn.functional import cross_entropy

from t4dm.backbone.tiny import tiny_qwen2, tiny_tokenizer
from t4dm.data.recall import RecallTask
from t4dm.data.recall_windows import WindowEncoder

HERE = Path(__file__).parent
BROAD, MIXED = (8,), (1, 2, 8, 8)


def read_texts(recipe: dict[str, Any]) -> tuple[str, str]:
    """Training text and held-out text: each file's first and last part."""
    folder = Path(os.environ.get("T4DM_DATA", "../shared/data")) / "lm_text" / "dev"
    train, held_out = [], []
    for name in recipe["texts"]:
        text = (folder / name).read_text(encoding="utf-8")
        cut = int(len(text) * (1 - recipe["held_out"]))
        train.append(text[:cut])
        held_out.append(text[cut:])
    return "\n".join(train), "\n".join(held_out)


def recall_batch(
    encoder: WindowEncoder,
    rows: int,
    facts: tuple[int, int],
    rng: np.random.Generator,
    attribute_counts: Sequence[int] = MIXED,
) -> dict:
    """Windows of a few facts, each asked within the window.

    Where a window speaks of one or two attributes only, the entity alone tells its facts apart.
    """
    episodes = []
    for row in range(rows):
        n = int(rng.integers(facts[0], facts[1] + 1))
        attributes = int(rng.choice(attribute_counts))
        task = RecallTask(
            windows=1,
            facts=n,
            questions=5 if n < 6 else 4,
            distances=(0,),
            entities=max(int(rng.integers(2, 9)), -(-n // attributes)),
            attributes=attributes,
            distractors=1 if n < 6 else 0,
            update_rate=0.15,
        )
        episodes.append((task.episode(rng, session=str(row)), 0))
    return encoder.batch(episodes)


def corpus(text: str, encoder_words: Iterator[str]) -> Iterator[str]:
    """What the tokenizer learns from: the text by lines, and the words of recall episodes."""
    yield from text.splitlines(keepends=True)
    yield from encoder_words


def episode_texts(count: int, seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    task = RecallTask(windows=1, facts=5, questions=5, distances=(0,), entities=8)
    for i in range(count):
        for sentence in task.episode(rng, session=str(i)).windows[0]:
            yield f" {sentence.text}" + (f" {sentence.answer}." if sentence.answer else "")


def token_losses(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Cross-entropy of each next token, weighted; mean over weights."""
    logits = model(input_ids=batch["input_ids"]).logits[:, :-1]
    losses = cross_entropy(logits.flatten(0, 1), batch["input_ids"][:, 1:].flatten(), reduction="none")
    weights = batch["loss_weights"][:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def recall_accuracy(
    model: torch.nn.Module, encoder: WindowEncoder, facts: int, rng: np.random.Generator
) -> float:
    """Share of in-window answers that are the most likely next token."""
    right = total = 0
    for _ in range(8):
        batch = recall_batch(encoder, 64, (facts, facts), rng)
        guess = model(input_ids=batch["input_ids"]).logits[:, :-1].argmax(-1)
        hit = (guess == batch["input_ids"][:, 1:])[batch["answers"][:, 1:]]
        right, total = right + int(hit.sum()), total + hit.numel()
    return right / total


@torch.no_grad()
def perplexity(model: torch.nn.Module, ids: np.ndarray, length: int) -> float:
    """Per token, each window read from its own start."""
    rows = torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))
    losses = [
        cross_entropy(model(input_ids=part).logits[:, :-1].flatten(0, 1), part[:, 1:].flatten())
        for part in rows.split(64)
    ]
    return math.exp(torch.stack(losses).mean().item())


def main(path: str) -> None:
    """Run the recipe from end to end; write weights, log and results."""
    recipe = yaml.safe_load(Path(path).read_text())
    torch.manual_seed(recipe["seed"])
    rng = np.random.default_rng(recipe["seed"])
    train_text, held_text = read_texts(recipe)
    tokenizer = tiny_tokenizer(corpus(train_text, episode_texts(4000, 0)), vocab_size=recipe["vocab_size"])
    encode = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    train, held = np.array(encode(train_text)), np.array(encode(held_text))
    model = tiny_qwen2(
        vocab_size=recipe["vocab_size"], hidden_size=recipe["hidden_size"], layers=recipe["layers"]
    )
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{len(train)} training tokens, {len(held)} held out, {parameters} parameters", flush=True)
    length, out = recipe["length"], Path(recipe["out"])
    encoder = WindowEncoder(
        encode=encode, length=length, reads=8, writes=8, pad_id=1, answer_weight=recipe["answer_weight"]
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe["learning_rate"], betas=(0.9, 0.95), weight_decay=recipe["weight_decay"]
    )
    warmup, steps = recipe["warmup"], recipe["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    log = (HERE / "log.csv").open("w")
    print("step,seconds,text_loss,recall_loss,accuracy_2_facts,accuracy_4_facts,accuracy_6_facts", file=log)
    start, text_loss, recall_loss = time.time(), 0.0, 0.0
    for step in range(steps + 1):
        if step % 250 == 0:
            check = [recall_accuracy(model, encoder, n, np.random.default_rng(99)) for n in (2, 4, 6)]
            line = [
                step,
                round(time.time() - start),
                round(text_loss, 4),
                round(recall_loss, 4),
                *(round(c, 4) for c in check),
            ]
            print(*line, sep=",", file=log, flush=True)
            print(line, flush=True)
            save(model, tokenizer, out)
        at = rng.integers(0, len(train) - length, size=recipe["rows"]["text"])
        text = torch.from_numpy(np.stack([train[i : i + length] for i in at]))
        loss_t = token_losses(model, {"input_ids": text, "loss_weights": torch.ones(text.shape)})
        attributes = BROAD if step < recipe["broad_steps"] else MIXED
        told = recall_batch(encoder, recipe["rows"]["recall"], tuple(recipe["facts"]), rng, attributes)
        loss_r = token_losses(model, told)
        optimizer.zero_grad()
        (loss_t + loss_r).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        text_loss, recall_loss = loss_t.item(), loss_r.item()
    model.eval()
    five_gram = KneserNey(order=5, vocab_size=recipe["vocab_size"]).fit(train)
    results = {
        "parameters": parameters,
        "perplexity": {
            "backbone": perplexity(model, held, length),
            "unigram": unigram_perplexity(train, held, recipe["vocab_size"]),
            "five_gram": five_gram.perplexity(held, window=length),
        },
        "recall_in_window": {
            str(n): recall_accuracy(model, encoder, n, np.random.default_rng(7)) for n in range(2, 7)
        },
        "seconds": round(time.time() - start),
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def save(model: torch.nn.Module, tokenizer: Any, out: Path) -> None:
    """Weights as float16 safetensors and the tokenizer, ready for `from_pretrained`."""
    out.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() for k, v in model.state_dict().items()}
    model.save_pretrained(out, state_dict=state, safe_serialization=True)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
