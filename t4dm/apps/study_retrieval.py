"""`t4dm study retrieval`: LoCoMo's turns in T4DX, ranked for its questions by text, vector and edges."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from t4dm.backbone.minilm import NAME, MiniLM
from t4dm.backbone.vector_cache import VectorCache
from t4dm.errors import FolderExistsError, WeightsFileError
from t4dm.evaluation.locomo import read_split
from t4dm.evaluation.retrieval import ARMS, EDGES, Choices, Encode, Study, study
from t4dm.evaluation.retrieval_scores import difference, markdown, summary, write_questions
from t4dm.evaluation.retrieval_weights import Weights
from t4dm.evaluation.retrieval_words import WORDS
from t4dm.training.run_record import RunRecord

SEED = 1234
PAIRS = (
    *((EDGES, other) for other in ("MiniLM", "BM25", "BM25, chosen", "hybrid", "hybrid + shuffled edges")),
    ("hybrid", "hybrid, plain"),
)
"""Arms that are compared question by question."""


def study_retrieval(
    *,
    data: Path | None = None,
    split: str = "dev",
    weights: Path | None = None,
    cache: Path | None = None,
    out: Path | None = None,
    encode: Encode | None = None,
) -> Path:
    """Rank, and write a run folder with results.json, results.md, questions.csv, weights.json and the stores.

    Args:
        data: folder with `<split>/locomo_<split>.json`; locomo in $T4DM_DATA or in ../shared/data by default.
        split: which conversations.
        weights: weights.json of an earlier study; nothing is chosen then.
        cache: the file of vectors that were computed before; one among the outputs by default.
        out: a new folder for the study; a dated one among the outputs by default.
        encode: texts to unit vectors; MiniLM by default.

    Returns:
        The path of results.md.

    Raises:
        LocomoMissingError, LocomoFormatError: there are no conversations.
        WeightsFileError: `weights` holds none. TooFewConversationsError: none can be chosen.
        MissingExtra: MiniLM or the stemmer is not installed.
        FolderExistsError: `out` holds something.
    """
    folder = out or _outputs() / "study" / "retrieval" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(str(folder))
    source = data or default_data()
    conversations = read_split(source, split)
    chosen = None if weights is None else read_weights(weights)
    embed = encode or VectorCache(
        cache or _outputs() / "cache" / "minilm.npz", encode=MiniLM().encode, model=NAME
    )
    settings = {"data": str(source), "split": split, "weights": None if weights is None else str(weights)}
    told = Console(stderr=True)
    with RunRecord.open(
        folder, config=settings, seed=SEED, app="study", experiment="retrieval", command=_command(settings)
    ) as record:
        found = study(
            conversations,
            encode=embed,
            folder=folder / "stores",
            rng=np.random.default_rng(SEED),
            weights=chosen,
            progress=lambda word: told.print(word, style="dim", highlight=False),
        )
        return write_results(record, found)


def write_results(record: RunRecord, found: Study) -> Path:
    """The files of a study in its folder; returns that of the tables."""
    results = {arm: summary(rows, seed=SEED) for arm, rows in found.rows.items()}
    pairs = {
        f"{one} - {other}": {
            measure: difference(found.rows[one], found.rows[other], measure, seed=SEED)
            for measure in ("R@10", "nDCG@10")
        }
        for one, other in PAIRS
    }
    record.write_json("results.json", {"arms": results, "differences": pairs})
    chosen = {
        arm: {name: weights._asdict() for name, weights in of.items()} for arm, of in found.weights.items()
    }
    record.write_json("weights.json", chosen)
    write_questions(record.path / "questions.csv", found.rows)
    page = record.path / "results.md"
    page.write_text(markdown(results, pairs), encoding="utf-8")
    return page


def read_weights(file: Path) -> Choices:
    """weights.json of a study.

    Raises:
        WeightsFileError: it is not there, or holds something else.
    """
    try:
        told: Mapping[str, Mapping[str, Mapping[str, Any]]] = json.loads(file.read_text(encoding="utf-8"))
        found = {arm: {name: _weights(one) for name, one in of.items()} for arm, of in told.items()}
        missing = [name for name, arm in ARMS.items() if arm.fields and "all" not in found.get(name, {})]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsFileError(str(file), f"{type(error).__name__}: {error}") from error
    if missing:
        raise WeightsFileError(str(file), f"it has none for {', '.join(missing)}")
    return found


def _weights(told: Mapping[str, Any]) -> Weights:
    read: dict[str, Any] = {
        key: str(value) if key == "words" else float(value) for key, value in told.items()
    }
    found = Weights(**read)
    if found.words not in WORDS:
        raise ValueError(f"words {found.words!r} are none of {', '.join(WORDS)}")
    return found


def show(page: Path) -> None:
    """Print the tables of a study, and where it is."""
    console = Console()
    console.print(Markdown(page.read_text(encoding="utf-8")))
    console.print(f"results: {page}", highlight=False, soft_wrap=True)


def default_data() -> Path:
    """Where LoCoMo is looked for."""
    root = os.environ.get("T4DM_DATA")
    return (Path(root) if root else Path("..") / "shared" / "data") / "locomo"


def _command(settings: Mapping[str, Any]) -> list[str]:
    options = [part for key, value in settings.items() if value is not None for part in (f"--{key}", value)]
    return ["t4dm", "study", "retrieval", *options]


def _outputs() -> Path:
    return Path(os.environ.get("T4DM_OUTPUTS", "outputs"))
