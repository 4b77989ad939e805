"""The page of a rank search, from figures made by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.rank_page import write_rank_page


def row(rank: int, targets: str, parameters: int, *, seeds: int = 3) -> dict[str, Any]:
    error = 0.2 if seeds > 1 else None
    return {
        **{"rank": rank, "targets": targets, "seeds": seeds, "parameters": parameters},
        **{"perplexity": 30.0 - rank / 8, "perplexity_error": error, "recall": 0.9, "recall_error": error},
        **{"memory_mib": 800.0, "seconds": 61.0, "tokens_per_s": None},
    }


def page(folder: Path, rows: list[dict[str, Any]], best: dict[str, Any] | None) -> str:
    results = {"rows": rows, "recommendation": best and {"row": best, "reason": "it is small"}}
    (folder / "results.json").write_text(json.dumps(results))
    return write_rank_page(folder).read_text()


def test_each_rank_is_a_point_and_each_set_of_layers_a_line(tmp_path: Path) -> None:
    rows = [row(8, "qv", 1000), row(16, "qv", 2000), row(8, "all", 7000)]
    text = page(tmp_path, rows, rows[1])
    assert "Take rank 16 on qv: it is small." in text
    assert "qv, rank 16: 28" in text
    assert "all, rank 8: 29" in text
    assert text.count("recommended") == 1
    assert "28 \u00b1 0.2" in text
    assert "One seed" not in text


def test_a_single_job_of_one_seed_is_drawn_and_says_what_it_cannot_tell(tmp_path: Path) -> None:
    rows = [row(8, "qv", 1000, seeds=1)]
    text = page(tmp_path, rows, None)
    assert "Nothing can be recommended" in text
    assert "One seed tells nothing of the spread" in text
    assert text.count('class="chart"') == 2


def test_no_study_and_a_broken_one_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"results\.json"):
        write_rank_page(tmp_path)
    (tmp_path / "results.json").write_text('{"rows": [{}], "recommendation": null}')
    with pytest.raises(BrokenRunFileError, match="it lacks figures"):
        write_rank_page(tmp_path)
