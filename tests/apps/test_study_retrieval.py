"""`t4dm study retrieval`: a run folder of figures, weights that score again, a line for a mistake."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from t4dm.apps.study_retrieval import default_data, read_weights, show, study_retrieval
from t4dm.errors import FolderExistsError, TooFewConversationsError, WeightsFileError
from t4dm.evaluation.retrieval import ARMS
from t4dm.evaluation.retrieval_weights import Weights

Cli = Callable[..., tuple[int, str, str]]
SECRET = "Ann keeps a heron"


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    vectors = np.full((len(texts), 8), 0.01, np.float32)
    for row, text in enumerate(texts):
        for word in text.lower().split():
            vectors[row, zlib.crc32(word.encode()) % 8] += 1.0
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def locomo(folder: Path, conversations: int) -> Path:
    """Made-up conversations of three turns and two questions each."""
    told = []
    for number in range(conversations):
        texts = [SECRET, f"Bob has {number} boats", "good night"]
        turns = [
            {"dia_id": f"D1:{place}", "speaker": ("Ann", "Bob")[place % 2], "text": text}
            for place, text in enumerate(texts, 1)
        ]
        asked = [("What does Ann keep?", "D1:1", 4), ("How many boats has Bob?", "D1:2", 1)]
        told.append(
            {
                "sample_id": f"conv-{number}",
                "conversation": {
                    "speaker_a": "Ann",
                    "speaker_b": "Bob",
                    "session_1_date_time": "1:56 pm on 8 May, 2023",
                    "session_1": turns,
                },
                "qa": [{"question": q, "evidence": [e], "category": c} for q, e, c in asked],
            }
        )
    (folder / "dev").mkdir(parents=True)
    (folder / "dev" / "locomo_dev.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def test_a_study_writes_figures_weights_and_questions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("snowballstemmer")
    data, out = locomo(tmp_path / "locomo", 2), tmp_path / "out"
    page = study_retrieval(data=data, out=out, encode=encode)
    assert page == out / "results.md"
    results = json.loads((out / "results.json").read_text())
    assert list(results["arms"]) == list(ARMS)
    assert results["arms"]["BM25"]["all"]["n"] == 4
    assert results["arms"]["BM25"]["single-hop"]["R@10"]["mean"] == 1.0
    assert {measure for pair in results["differences"].values() for measure in pair} == {"R@10", "nDCG@10"}
    assert set(results["differences"]) == {
        "hybrid + edges - MiniLM",
        "hybrid + edges - BM25",
        "hybrid + edges - BM25, chosen",
        "hybrid + edges - hybrid",
        "hybrid + edges - hybrid + shuffled edges",
        "hybrid - hybrid, plain",
    }
    weights = read_weights(out / "weights.json")
    assert set(weights["hybrid + edges"]) == {"conv-0", "conv-1", "all"}
    assert isinstance(weights["hybrid + edges"]["all"], Weights)
    run = json.loads((out / "run.json").read_text())
    assert run["command"] == ["t4dm", "study", "retrieval", "--data", str(data), "--split", "dev"]
    assert run["status"] == "done"
    figures = [file for file in out.iterdir() if file.is_file()]
    assert {file.name for file in figures} >= {"questions.csv", "results.json", "results.md", "weights.json"}
    assert not any("heron" in file.read_text() for file in figures)
    show(page)
    assert str(page) in capsys.readouterr().out
    with pytest.raises(FolderExistsError):
        study_retrieval(data=data, out=out, encode=encode)

    one = locomo(tmp_path / "one", 1)
    with pytest.raises(TooFewConversationsError):
        study_retrieval(data=one, out=tmp_path / "none", encode=encode)
    again = study_retrieval(data=one, weights=out / "weights.json", out=tmp_path / "again", encode=encode)
    kept = read_weights(again.parent / "weights.json")
    assert kept["hybrid + edges"]["all"] == weights["hybrid + edges"]["all"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ('{"hybrid": {"all": {"txet": 1}}}', "unexpected keyword argument 'txet'"),
        (
            '{"hybrid": {"all": {"text": 0.4}}}',
            "it has none for BM25, chosen, hybrid + neighbours, hybrid + edges",
        ),
        ('{"hybrid": {"all": {"words": "runes"}}}', "words 'runes' are none of written, stems, stems of"),
    ],
)
def test_a_file_without_weights_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    file = tmp_path / "w.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(
        WeightsFileError, match=r"w\.json holds no weights .*--weights RUN/weights\.json$"
    ) as told:
        read_weights(file)
    assert said in str(told.value)


def test_without_conversations_it_is_one_line(
    t4dm: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("T4DM_DATA", str(tmp_path))
    assert default_data() == tmp_path / "locomo"
    code, out, err = t4dm("study", "retrieval")
    assert (code, out) == (1, "")
    assert err.startswith(
        f"t4dm: there is no {tmp_path}/locomo/dev/locomo_dev.json; LoCoMo does not come with"
    )
    assert err.count("\n") == 1
    assert not (tmp_path / "outputs" / "study").exists()
    monkeypatch.delenv("T4DM_DATA")
    assert default_data() == Path("../shared/data/locomo")
