"""What a retrieval study writes down: measures of each question, their means with intervals, by category."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from t4dm.evaluation.locomo import CATEGORIES, Question
from t4dm.evaluation.ranking import bootstrap_interval, ndcg_at, recall_at, reciprocal_rank

MEASURES = ("R@1", "R@5", "R@10", "nDCG@10", "MRR")
GROUPS: Mapping[str, tuple[int, ...]] = {
    "all": (1, 2, 3, 4, 5),
    "answerable": (1, 2, 3, 4),
    **{name: (category,) for category, name in CATEGORIES.items()},
}
"""Questions that are told of together, by their categories."""


class Scored(NamedTuple):
    """One question under one arm."""

    question: Question
    ranks: tuple[int, ...]
    """Places of its evidence, from 1, in the order of the evidence; 0 where it was not among the ranked."""
    measures: Mapping[str, float]

    @property
    def conversation(self) -> str:
        return self.question.id.partition("/")[0]


def scored(question: Question, ranked: Sequence[str]) -> Scored:
    """Measures of a ranking of turns, best first; MRR is that of the ranking as far as it goes."""
    place = {name: rank for rank, name in enumerate(ranked, 1)}
    ranks = tuple(place.get(name, 0) for name in question.evidence)
    relevant = question.evidence
    measures = {f"R@{k}": recall_at(ranked, relevant, k) for k in (1, 5, 10)}
    measures |= {"nDCG@10": ndcg_at(ranked, relevant, 10), "MRR": reciprocal_rank(ranked, relevant)}
    return Scored(question, ranks, measures)


def summary(rows: Sequence[Scored], *, seed: int, draws: int = 10_000) -> dict[str, dict[str, Any]]:
    """`{group of questions: {"n", measure: {"mean", "ci", "ci_conversations"}}}`.

    `ci` is the 95 % bootstrap interval over questions, `ci_conversations` that over whole conversations.
    Groups without a question are left out.
    """
    told: dict[str, dict[str, Any]] = {}
    for name, categories in GROUPS.items():
        group = [row for row in rows if row.question.category in categories]
        if group:
            told[name] = {"n": len(group)}
            told[name] |= {measure: _mean(group, measure, seed=seed, draws=draws) for measure in MEASURES}
    return told


def _mean(group: Sequence[Scored], measure: str, *, seed: int, draws: int) -> dict[str, Any]:
    values = [row.measures[measure] for row in group]
    of = [row.conversation for row in group]
    # the same seed for each, so that arms are compared on the same draws
    single = bootstrap_interval(values, rng=np.random.default_rng(seed), draws=draws)
    whole = bootstrap_interval(values, rng=np.random.default_rng(seed), groups=of, draws=draws)
    return {"mean": float(np.mean(values)), "ci": list(single), "ci_conversations": list(whole)}


def difference(one: Sequence[Scored], other: Sequence[Scored], measure: str, *, seed: int) -> dict[str, Any]:
    """Mean of `one - other` over the same questions, with both intervals: a paired comparison.

    Raises:
        ValueError: the questions differ.
    """
    if [row.question.id for row in one] != [row.question.id for row in other]:
        raise ValueError("the arms were asked different questions; pass rows of the same questions")
    both = zip(one, other, strict=True)
    rows = [Scored(a.question, (), {measure: a.measures[measure] - b.measures[measure]}) for a, b in both]
    return _mean(rows, measure, seed=seed, draws=10_000)


def write_questions(file: Path, arms: Mapping[str, Sequence[Scored]]) -> None:
    """One row for each arm and question: ids, places and figures, no text."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["arm", "question", "category", "evidence", "ranks", *MEASURES])
        for arm, rows in arms.items():
            for row in rows:
                asked = row.question
                figures = [f"{row.measures[measure]:.4f}" for measure in MEASURES]
                places = " ".join(map(str, row.ranks))
                writer.writerow([arm, asked.id, asked.category, " ".join(asked.evidence), places, *figures])


def markdown(
    arms: Mapping[str, Mapping[str, Mapping[str, Any]]],
    differences: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> str:
    """Three tables, in percent: all measures of each arm over all questions; recall and nDCG at 10 of each
    arm by category; differences of arms with both intervals.
    """
    lines = ["| arm | " + " | ".join(MEASURES) + " |", "|---|" + "---|" * len(MEASURES)]
    for arm, told in arms.items():
        cells = [_cell(told["all"][measure], ci=measure in ("R@10", "nDCG@10")) for measure in MEASURES]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    names = list(next(iter(arms.values()))) if arms else []
    sizes = [f"{name} ({told['n']})" for name, told in next(iter(arms.values())).items()] if arms else []
    lines += ["", "| arm: R@10, nDCG@10 | " + " | ".join(sizes) + " |", "|---|" + "---|" * len(sizes)]
    for arm, told in arms.items():
        cells = [f"{_cell(told[name]['R@10'])}, {_cell(told[name]['nDCG@10'])}" for name in names]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    lines += ["", "| difference | R@10 [questions] [conversations] | nDCG@10 |", "|---|---|---|"]
    for pair, told in differences.items():
        cells = [f"{_cell(one, ci=True)} {_span(one['ci_conversations'])}" for one in told.values()]
        lines.append(f"| {pair} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(told: Mapping[str, Any], *, ci: bool = False) -> str:
    return f"{100 * told['mean']:.1f}" + (f" {_span(told['ci'])}" if ci else "")


def _span(interval: Sequence[float]) -> str:
    low, high = interval
    return f"[{100 * low:.1f}, {100 * high:.1f}]"
