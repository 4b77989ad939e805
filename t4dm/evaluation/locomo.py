"""LoCoMo: very long conversations of two people and questions with the turns that answer them.

Maharana et al. 2024 (ACL), 10 conversations, CC BY-NC 4.0: the text stays in its own folder. Faults of the
evidence are corrected by the published errata (locomo-audit), where the caller has them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from t4dm.errors import LocomoFormatError, LocomoMissingError

CATEGORIES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
ORDER = tuple(f"conv-{number}" for number in (26, 30, 41, 42, 43, 44, 47, 48, 49, 50))
"""The conversations as the official file has them: errata count in it."""
SECONDS_PER_TURN = 10.0
"""Only sessions are dated; turns follow each other at this distance."""


class Turn(NamedTuple):
    """What one of the two said."""

    id: str
    """`D<session>:<number>`, as evidence names it."""
    session: int
    speaker: str
    text: str
    caption: str
    """Of the picture that was sent with it; empty where there is none."""
    time: float
    """Seconds since 1970, UTC: the session's date, then SECONDS_PER_TURN for each turn before."""


class Question(NamedTuple):
    """A question about a conversation."""

    id: str
    """`<conversation>/<number>`, the number as in the file, from 0."""
    category: int
    text: str
    evidence: tuple[str, ...]
    """Turns that answer it, each one a turn of the conversation; of an adversarial question those that it
    plays with.
    """


class Conversation(NamedTuple):
    """One conversation with its questions."""

    id: str
    speakers: tuple[str, str]
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]
    """Those that have evidence."""


def read_split(folder: Path, split: str = "dev") -> list[Conversation]:
    """`<folder>/<split>/locomo_<split>.json` with the errata beside it, `errata_<split>.json`.

    Raises:
        LocomoMissingError: there is no such file.
        LocomoFormatError: it is not what the official release looks like.
    """
    file = folder / split / f"locomo_{split}.json"
    errata = folder / split / f"errata_{split}.json"
    if not file.is_file():
        raise LocomoMissingError(str(file))
    return read_locomo(file, errata=errata if errata.is_file() else None)


def read_locomo(file: Path, *, errata: Path | None = None) -> list[Conversation]:
    """Conversations of a file of the official form.

    Args:
        file: a list of conversations with `sample_id`, `conversation`, `qa`.
        errata: a list of faults with `question_id` and `correct_evidence`, which replaces the cited one.

    Raises:
        LocomoFormatError: a field is missing, or a date is none.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
        faults = json.loads(errata.read_text(encoding="utf-8")) if errata is not None else []
        corrected = {str(fault["question_id"]): fault["correct_evidence"] for fault in faults}
        return [_conversation(sample, corrected) for sample in told]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LocomoFormatError(str(file), f"{type(error).__name__}: {error}") from error


def session_time(date: str) -> float:
    """Seconds since 1970 of a session's date, taken as UTC: `"1:56 pm on 8 May, 2023"`."""
    return datetime.strptime(date.strip(), "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp()


def _conversation(sample: Mapping[str, Any], corrected: Mapping[str, Sequence[str]]) -> Conversation:
    name, told = str(sample["sample_id"]), sample["conversation"]
    numbers = sorted(int(found[1]) for key in told if (found := re.fullmatch(r"session_(\d+)", key)))
    turns = tuple(turn for number in numbers for turn in _session(told, number))
    known = {turn.id for turn in turns}
    prefix = f"locomo_{ORDER.index(name)}_qa" if name in ORDER else None
    questions = []
    for number, asked in enumerate(sample["qa"]):
        cited = corrected.get(f"{prefix}{number}", asked.get("evidence") or ())
        evidence = tuple(turn for turn in turn_ids(cited) if turn in known)
        if evidence:
            category, text = int(asked["category"]), str(asked["question"])
            questions.append(Question(f"{name}/{number}", category, text, evidence))
    return Conversation(name, (told["speaker_a"], told["speaker_b"]), turns, tuple(questions))


def _session(told: Mapping[str, Any], number: int) -> list[Turn]:
    start = session_time(told[f"session_{number}_date_time"])
    return [
        Turn(
            id=turn["dia_id"],
            session=number,
            speaker=turn["speaker"],
            text=turn["text"].strip(),
            caption=(turn.get("blip_caption") or "").strip(),
            time=start + SECONDS_PER_TURN * place,
        )
        for place, turn in enumerate(told[f"session_{number}"])
    ]


def turn_ids(cited: Sequence[str]) -> tuple[str, ...]:
    """Turn ids in the order cited, each once. The release has some together in one string, and some with
    leading zeros (`"D8:6; D9:17"`, `"D30:05"`).
    """
    found = [f"D{int(s)}:{int(t)}" for text in cited for s, t in re.findall(r"D(\d+):(\d+)", text)]
    return tuple(dict.fromkeys(found))
