"""Facts told to a trained run line by line and asked for later, with and without its own words in memory.

python -m experiments.glass_box.tell_and_ask RUN
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from t4dm.apps.chat import chat
from t4dm.data import words
from t4dm.model.sampling import Sampler

FACTS = 12


def main() -> None:
    """Print how many of the answers begin with what was told."""
    run = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    people = [words.ENTITIES[i] for i in rng.permutation(len(words.ENTITIES))[:FACTS]]
    kinds = [list(words.ATTRIBUTES)[i] for i in rng.integers(len(words.ATTRIBUTES), size=FACTS)]
    values = [words.ATTRIBUTES[kind][rng.integers(len(words.ATTRIBUTES[kind]))] for kind in kinds]
    told = [words.fact(*each) for each in zip(people, kinds, values, strict=True)]
    asked = [words.question(*each) for each in zip(people, kinds, strict=True)]
    for said in (False, True):
        with tempfile.TemporaryDirectory() as room, contextlib.redirect_stdout(io.StringIO()):
            folder = chat(
                run, said=said, sampler=Sampler(), out=Path(room) / "chat", lines=[*told, *asked], seed=0
            )
            rows = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
        answers = [row["answer"].strip() for row in rows[FACTS:]]
        right = sum(answer.startswith(value) for answer, value in zip(answers, values, strict=True))
        found = sum(
            bool(row["recalled"]) and row["recalled"][0]["text"] == fact
            for row, fact in zip(rows[FACTS:], told, strict=True)
        )
        print(f"own words {'kept' if said else 'left out'}: {right} of {FACTS} right, fact first {found}")


if __name__ == "__main__":
    main()
