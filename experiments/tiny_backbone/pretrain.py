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
from typing import Any, TextIO

import numpy as np
import torch
import yaml
from induction_start import induction_start
from ngram import KneserNey, unigram_perplexity
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from t4dm.backbone.tiny import tiny_qwen2, tiny_tokenizer
from t4dm.data.recall import RecallTask
from t4dm.data.recall_windows import Encode, WindowEncoder
from t4dm.evaluation.intervals import wilson

HERE = Path(__file__).parent
BROAD, MIXED = (8,), (1, 2, 8, 8)
COLUMNS = "step,seconds,text_loss,recall_loss,accuracy_2_facts,accuracy_4_facts,accuracy_6_facts"


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
    model: torch.nn.Module,
    encoder: WindowEncoder,
    facts: int,
    rng: np.random.Generator,
    attribute_counts: Sequence[int] = MIXED,
) -> float:
    """Share of in-window answers that are the most likely next token."""
    right = total = 0
    for _ in range(8):
        batch = recall_batch(encoder, 64, (facts, facts), rng, attribute_counts)
        hit = answers_right(model, batch)
        right, total = right + int(hit.sum()), total + hit.numel()
    return right / total


def answers_right(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    """For each answer of a batch, whether it is the most likely next token."""
    guess = model(input_ids=batch["input_ids"]).logits[:, :-1].argmax(-1)
    return (guess == batch["input_ids"][:, 1:])[batch["answers"][:, 1:]]


@torch.no_grad()
def perplexity(model: torch.nn.Module, ids: np.ndarray, length: int) -> float:
    """Per token, each window read from its own start."""
    rows = torch.from_numpy(ids[: len(ids) // length * length].reshape(-1, length))
    losses = [
        cross_entropy(model(input_ids=part).logits[:, :-1].flatten(0, 1), part[:, 1:].flatten())
        for part in rows.split(64)
    ]
    return math.exp(torch.stack(losses).mean().item())


def main(path: str, only: str = "") -> None:
    """Run the recipe and measure what it made; with `--measure`, only measure what is there."""
    recipe = yaml.safe_load(Path(path).read_text())
    train_text, held_text = read_texts(recipe)
    if only != "--measure":
        pretrain(recipe, train_text)
    tokenizer, model = AutoTokenizer.from_pretrained(recipe["out"]), load(recipe["out"])
    save(model, tokenizer, Path(recipe["out"]))  # in the form in which it is loaded, whatever made it
    train, held = (np.array(tokenizer(text)["input_ids"]) for text in (train_text, held_text))
    encoder = window_encoder(recipe, lambda text: tokenizer(text)["input_ids"])
    vocab, length = recipe["vocab_size"], recipe["length"]
    results = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out_tokens": len(held),
        "perplexity": {
            "backbone": perplexity(model, held, length),
            "unigram": unigram_perplexity(train, held, vocab),
            "five_gram": KneserNey(order=5, vocab_size=vocab).fit(train).perplexity(held, window=length),
        },
        "recall_in_window": {
            "windows of data=recall": default_windows(model, encoder),
            "by facts told, all attributes": accuracies(model, encoder, BROAD),
            "by facts told, half of the windows with one or two attributes": accuracies(
                model, encoder, MIXED
            ),
        },
        "command": f"python experiments/tiny_backbone/pretrain.py {path} --measure",
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


@torch.no_grad()
def default_windows(model: torch.nn.Module, encoder: WindowEncoder, rows: int = 768) -> dict[str, Any]:
    """Windows as `data=recall` tells them (three facts, sixteen names), asked in the same window."""
    task, rng = RecallTask(windows=1, questions=3, distances=(0,)), np.random.default_rng(7)
    right = total = 0
    for _ in range(rows // 64):
        batch = encoder.batch([(task.episode(rng, session=str(row)), 0) for row in range(64)])
        hit = answers_right(model, batch)
        right, total = right + int(hit.sum()), total + hit.numel()
    return {"mean": round(right / total, 4), "ci": [round(x, 4) for x in wilson(right, total)], "n": total}


def accuracies(model: torch.nn.Module, encoder: WindowEncoder, attributes: Sequence[int]) -> dict[str, float]:
    """In-window accuracy by number of facts, over some 1,000 questions each."""
    return {
        str(n): round(recall_accuracy(model, encoder, n, np.random.default_rng(7), attributes), 4)
        for n in range(1, 7)
    }


def load(folder: str) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def window_encoder(recipe: dict[str, Any], encode: Encode) -> WindowEncoder:
    return WindowEncoder(
        encode=encode,
        length=recipe["length"],
        reads=8,
        writes=8,
        pad_id=1,
        answer_weight=recipe["answer_weight"],
    )


def pretrain(recipe: dict[str, Any], train_text: str) -> None:
    """Train tokenizer and model; a line of the log and a checkpoint every 250 steps."""
    torch.manual_seed(recipe["seed"])
    tokenizer = tiny_tokenizer(corpus(train_text, episode_texts(4000, 0)), vocab_size=recipe["vocab_size"])
    model = tiny_qwen2(
        vocab_size=recipe["vocab_size"], hidden_size=recipe["hidden_size"], layers=recipe["layers"]
    )
    induction_start(model, seed=recipe["seed"])
    with (HERE / "log.csv").open("w") as log:
        print(COLUMNS, file=log)
        learn(recipe, model, tokenizer, train_text, log)


def learn(
    recipe: dict[str, Any], model: torch.nn.Module, tokenizer: Any, train_text: str, log: TextIO
) -> None:
    """AdamW with warm-up and one cosine down to 5 % of the peak."""
    rng = np.random.default_rng(recipe["seed"])
    encode = lambda text: tokenizer(text)["input_ids"]  # noqa: E731
    train, length = np.array(encode(train_text)), recipe["length"]
    encoder = window_encoder(recipe, encode)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe["learning_rate"], betas=(0.9, 0.95), weight_decay=recipe["weight_decay"]
    )
    warmup, steps = recipe["warmup"], recipe["steps"]
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warmup, 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * s / steps)))
    )
    start, losses = time.time(), [0.0, 0.0]
    for step in range(steps + 1):
        if step % 250 == 0:
            check = [recall_accuracy(model, encoder, n, np.random.default_rng(99)) for n in (2, 4, 6)]
            figures = [round(x, 4) for x in (*losses, *check)]
            print(step, round(time.time() - start), *figures, sep=",", file=log, flush=True)
            print(step, figures, flush=True)
            save(model, tokenizer, Path(recipe["out"]))
        at = rng.integers(0, len(train) - length, size=recipe["rows"]["text"])
        text = torch.from_numpy(np.stack([train[i : i + length] for i in at]))
        told = recall_batch(encoder, recipe["rows"]["recall"], tuple(recipe["facts"]), rng)
        loss_t = token_losses(model, {"input_ids": text, "loss_weights": torch.ones(text.shape)})
        loss_r = token_losses(model, told)
        optimizer.zero_grad()
        (loss_t + loss_r).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = [loss_t.item(), loss_r.item()]


def save(model: torch.nn.Module, tokenizer: Any, out: Path) -> None:
    """Weights as float16 safetensors and the tokenizer, ready for `from_pretrained`."""
    out.mkdir(parents=True, exist_ok=True)
    state = {
        k: v.half() for k, v in model.state_dict().items() if k != "lm_head.weight"
    }  # it is the embedding
    model.save_pretrained(out, state_dict=state, safe_serialization=True)
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
