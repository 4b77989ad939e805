"""`t4dm generate`: text from a trained model, with the memories of its run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from t4dm.apps import finished
from t4dm.apps.assembly import port, streams
from t4dm.apps.job import app, guarded, run
from t4dm.apps.run_store import newest_session, run_store
from t4dm.config import check, plain
from t4dm.errors import NoMemoryError
from t4dm.memory.memory import Memory, Recall
from t4dm.model import MemoryLM
from t4dm.model.generate import generate_batch, positions, prompt_ids
from t4dm.model.hearing import remember
from t4dm.model.hits import hits
from t4dm.model.sampling import Sampler
from t4dm.training.event_clock import EventClock
from t4dm.training.run_record import RunRecord


def generate(cfg: DictConfig) -> str:
    """Continue the prompts of `cfg` on the terminal, in generated.txt and, with what was recalled and
    written, in generated.json. Returns the texts, one below the other.

    The store is a copy unless `cfg.store` says otherwise, and nothing is written to it unless `cfg.write`.

    Raises:
        RunFolderError: `cfg.run` is no run folder with a checkpoint.
        NoPromptError, PromptTooLongError, SettingError: see `generate_batch`.
        NoMemoryError: there is nothing to write to.
    """
    check(cfg, whole=True)
    c, folder = plain(cfg), Path(cfg.paths.output)
    sampler = Sampler(**{name: c[name] for name in SAMPLING})
    prompts = [str(p) for p in c["prompt"]] if isinstance(c["prompt"], list) else [str(c["prompt"])]
    run_folder = Path(c["run"])
    trained, rngs = finished.load(run_folder, changes={}), streams(c["seed"])
    for prompt in prompts:
        prompt_ids(trained.parts.model, prompt)
    clock = EventClock()
    with (
        RunRecord.open(
            folder, config=c, seed=c["seed"], app="generate", experiment=c["name"], parent=c["run"]
        ) as record,
        run_store(trained, run=run_folder, which=c["store"], copy_to=folder / "store", clock=clock) as store,
    ):
        memory = port(store, clock=clock, rng=rngs.memory)
        if c["write"] and memory is None:
            raise NoMemoryError(c["run"])
        session = newest_session(store) if c["session"] is None else c["session"]
        told = _Telling(prompts)
        for piece in generate_batch(
            trained.parts.model,
            prompts,
            max_new_tokens=c["max_new_tokens"],
            memory=memory,
            sessions=[session] * len(prompts),
            refresh=c["refresh"],
            sampler=sampler,
            generators=[torch.Generator().manual_seed(c["seed"] + row) for row in range(len(prompts))],
            stop=c["stop"],
            on_recall=told.recalled,
        ):
            told.take(piece.row, piece.text, piece.token, piece.end)
        told.close()
        if c["write"] and memory is not None:
            _write(trained, memory, told, session=session, clock=clock)
        text = "\n".join(told.texts)
        (folder / "generated.txt").write_text(text + "\n", encoding="utf-8")
        record.write_json("generated.json", told.rows(session))
    return text


SAMPLING = ("temperature", "top_k", "top_p", "min_p", "repetition_penalty")


class _Telling:
    """What is shown and kept: one prompt streams, several are shown whole, one below the other."""

    def __init__(self, prompts: list[str]) -> None:
        self.prompts, self.texts = prompts, list(prompts)
        self.tokens: list[list[int]] = [[] for _ in prompts]
        self.ends = [""] * len(prompts)
        self.recalls: list[list[Recall]] = [[] for _ in prompts]
        self.offered: list[list[Any]] = [[] for _ in prompts]
        if len(prompts) == 1:
            self._say(prompts[0])

    def recalled(self, key: int, recall: Recall) -> None:
        """What a search gave one prompt."""
        self.recalls[key].append(recall)

    def take(self, key: int, text: str, token: int, end: str) -> None:
        """One piece."""
        self.texts[key] += text
        self.ends[key] = end
        if end != "end":
            self.tokens[key].append(token)
        if len(self.prompts) == 1:
            self._say(text)

    def close(self) -> None:
        """The last line."""
        self._say("\n" if len(self.prompts) == 1 else "".join(f"{text}\n" for text in self.texts))

    def rows(self, session: str) -> list[dict[str, Any]]:
        """One for each prompt."""
        return [
            {
                "prompt": prompt,
                "text": text[len(prompt) :],
                "end": end,
                "session": session,
                "searches": [[hit._asdict() for hit in hits(recall)] for recall in recalls],
                "offered": [offered._asdict() for offered in spans],
            }
            for prompt, text, end, recalls, spans in zip(
                self.prompts, self.texts, self.ends, self.recalls, self.offered, strict=True
            )
        ]

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _write(
    trained: finished.Finished, memory: Memory, told: _Telling, *, session: str, clock: EventClock
) -> None:
    """Offer what each prompt and its answer say to the gate, a second after what was last."""
    model: MemoryLM = trained.parts.model
    for key, prompt in enumerate(told.prompts):
        clock.advance(clock() + 1.0)
        ids = [*prompt_ids(model, prompt), *told.tokens[key]][: positions(model)]
        told.offered[key] = remember(
            model,
            memory,
            trained.parts.writer,
            ids,
            session=session,
            event_time=clock(),
            recall=told.recalls[key][0] if told.recalls[key] else None,
        )
    memory.flush_accesses()


def objective(cfg: DictConfig) -> None:
    """Generate; there is nothing to optimise."""
    generate(cfg)


@app("generate")
def main(cfg: DictConfig) -> float | None:
    """One job."""
    return guarded(objective, cfg)


if __name__ == "__main__":
    run(main, "generate")
