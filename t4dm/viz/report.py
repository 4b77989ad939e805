"""Writes report.html: one file, no network, no scripts; light or dark as the reader's system is."""

from __future__ import annotations

from pathlib import Path

from t4dm.viz.page import filled, write_whole
from t4dm.viz.palette import arm_style, style_class
from t4dm.viz.panel import Panel
from t4dm.viz.panels import kappa, learning, nights, provenance, recall, spikes, store, writing
from t4dm.viz.recall_cells import headline, night_sentence, recall_cells
from t4dm.viz.run_folder import RunFolder, figure, read_run_folder
from t4dm.viz.text import percent

NAME = "report.html"
HEADLINE_ARMS = ("memory", "no_memory", "shuffled")


def write_report(run_folder: Path) -> Path:
    """Reads a run folder and writes its report.html, whole or not at all.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: this is no run folder, a file of it is broken JSON, or the page cannot be saved.
    """
    page = render(read_run_folder(Path(run_folder)))
    target = Path(run_folder) / NAME
    write_whole(target, page)
    return target


def render(run: RunFolder) -> str:
    """The page as text."""
    return filled(
        title=_title(run),
        folder=run.path.name,
        headline=headline(run.summary),
        night=night_sentence(run.summary),
        scores=_scores(run),
        panels=panels(run),
        notes=run.notes,
    )


def panels(run: RunFolder) -> list[Panel]:
    """Every part of the page, in reading order."""
    parts = (recall, learning, spikes, writing, kappa, nights, store)
    return [*(part.build(run) for part in parts), provenance.build_run(run), provenance.build_config(run)]


def _scores(run: RunFolder) -> list[dict[str, object]]:
    """The headline figures: for each distance, memory beside its two controls."""
    cells = {arm: line for arm, line in recall_cells(run.summary).items() if arm in HEADLINE_ARMS}
    distances = sorted({distance for line in cells.values() for distance in line})
    return [
        {
            "distance": f"{distance} window{'' if distance == 1 else 's'} back",
            "arms": [
                {
                    "class": style_class(arm),
                    "name": arm_style(arm).name,
                    "text": percent(line[distance].mean),
                    "width": f"{100 * min(max(line[distance].mean, 0.0), 1.0):.1f}",
                }
                for arm, line in cells.items()
                if distance in line
            ],
        }
        for distance in distances
    ]


def _title(run: RunFolder) -> str:
    experiment = run.summary.get("experiment") or run.run.get("experiment") or run.path.parent.name
    seed = figure(run.summary.get("seed", run.run.get("seed")))
    return f"{experiment}, seed {seed:.0f}" if seed is not None else str(experiment)
