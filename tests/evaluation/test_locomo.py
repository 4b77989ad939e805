"""The reader of LoCoMo's files, on a made-up conversation in their form, and on the real one where it is."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from t4dm.errors import LocomoFormatError, LocomoMissingError
from t4dm.evaluation.locomo import read_locomo, read_split, session_time, turn_ids

DATA = Path(os.environ.get("T4DM_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")) / "locomo"


def turn(place: str, speaker: str, text: str, **more: str) -> dict[str, str]:
    return {"dia_id": place, "speaker": speaker, "text": text, **more}


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return [
        {
            "sample_id": "conv-30",
            "conversation": {
                "speaker_a": "Ann",
                "speaker_b": "Bob",
                # sessions are ordered by number, not by name
                "session_10_date_time": "12:05 am on 3 July, 2023",
                "session_10": [turn("D10:1", "Bob", "I moved to Lima.")],
                "session_2_date_time": "1:56 pm on 8 May, 2023",
                "session_2": [
                    turn("D2:1", "Ann", " Look at my cat! ", blip_caption="a cat on a mat"),
                    turn("D2:2", "Bob", "Lovely."),
                ],
                "session_11_date_time": "1:00 pm on 9 July, 2023",  # dated, and never held
            },
            "qa": [
                {"question": "What pet has Ann?", "answer": "a cat", "category": 4, "evidence": ["D2:01"]},
                {"question": "Where is Bob?", "answer": "Lima", "category": 2, "evidence": ["D2:2"]},
                {"question": "Who?", "category": 5, "adversarial_answer": "x", "evidence": []},
                {"question": "Why?", "answer": "?", "category": 3, "evidence": ["D9:9", "D2:2; D10:1"]},
            ],
        }
    ]


def write(folder: Path, told: object, errata: object | None = None) -> Path:
    (folder / "dev").mkdir(parents=True)
    (folder / "dev" / "locomo_dev.json").write_text(json.dumps(told), encoding="utf-8")
    if errata is not None:
        (folder / "dev" / "errata_dev.json").write_text(json.dumps(errata), encoding="utf-8")
    return folder


def test_turns_come_in_the_order_of_their_sessions_with_their_times(tmp_path: Path, told: Any) -> None:
    (conversation,) = read_split(write(tmp_path / "locomo", told))
    assert (conversation.id, conversation.speakers) == ("conv-30", ("Ann", "Bob"))
    assert [turn.id for turn in conversation.turns] == ["D2:1", "D2:2", "D10:1"]
    first, second, third = conversation.turns
    assert (first.session, first.speaker, first.text) == (2, "Ann", "Look at my cat!")
    assert (first.caption, second.caption) == ("a cat on a mat", "")
    assert first.time == 1683554160.0  # date -u -d '2023-05-08 13:56' +%s
    assert second.time == first.time + 10.0
    assert third.time == session_time("12:05 am on 3 July, 2023") == 1688342700.0


def test_evidence_names_turns_that_were_said(tmp_path: Path, told: Any) -> None:
    (conversation,) = read_split(write(tmp_path / "locomo", told))
    found = {question.id: question.evidence for question in conversation.questions}
    # the third has none; of the last one turn does not exist, and two share a string
    assert found == {
        "conv-30/0": ("D2:1",),
        "conv-30/1": ("D2:2",),
        "conv-30/3": ("D2:2", "D10:1"),
    }
    assert [question.category for question in conversation.questions] == [4, 2, 3]


def test_errata_replace_the_evidence_of_their_question(tmp_path: Path, told: Any) -> None:
    errata = [
        {"question_id": "locomo_1_qa1", "correct_evidence": ["D10:1"]},
        {"question_id": "locomo_2_qa0", "correct_evidence": ["D2:2"]},  # of another conversation
    ]
    (conversation,) = read_split(write(tmp_path / "locomo", told, errata))
    assert [question.evidence for question in conversation.questions][:2] == [("D2:1",), ("D10:1",)]


@pytest.mark.parametrize(
    ("cited", "ids"),
    [
        (["D8:6; D9:17"], ("D8:6", "D9:17")),
        (["D30:05", "D30:5"], ("D30:5",)),
        (["D9:1 D4:4 D4:6"], ("D9:1", "D4:4", "D4:6")),
        (["D", ""], ()),
        ([], ()),
    ],
)
def test_turn_ids_are_read_out_of_careless_citations(cited: list[str], ids: tuple[str, ...]) -> None:
    assert turn_ids(cited) == ids


def test_an_absent_file_says_where_it_is_to_be_had(tmp_path: Path) -> None:
    with pytest.raises(LocomoMissingError, match=r"locomo10\.json.*t4dm study retrieval --data FOLDER$"):
        read_split(tmp_path)


@pytest.mark.parametrize("spoil", ["{", "[{}]", '["a"]', '{"a": 1}'])
def test_a_file_of_another_form_is_named(tmp_path: Path, spoil: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(spoil)
    with pytest.raises(LocomoFormatError, match=r"other\.json is not in LoCoMo's form .*--data FOLDER$"):
        read_locomo(file)


def test_a_date_that_is_none_is_named(tmp_path: Path, told: Any) -> None:
    told[0]["conversation"]["session_2_date_time"] = "8 May"
    with pytest.raises(LocomoFormatError, match="'8 May' does not match"):
        read_split(write(tmp_path / "locomo", told))


@pytest.mark.skipif(not (DATA / "dev").is_dir(), reason=f"LoCoMo is not at {DATA}")
def test_the_real_conversations_have_the_size_that_their_paper_tells() -> None:
    conversations = read_split(DATA)
    assert [c.id for c in conversations] == ["conv-26", "conv-30", "conv-41", "conv-42", "conv-43"]
    assert all(369 <= len(c.turns) <= 689 for c in conversations)
    assert all(19 <= len({turn.session for turn in c.turns}) <= 32 for c in conversations)
    asked = Counter(question.category for c in conversations for question in c.questions)
    assert sum(asked.values()) == 997  # of 999, two cite nothing
