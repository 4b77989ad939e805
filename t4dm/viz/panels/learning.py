"""Loss and recall while training."""

from __future__ import annotations

from t4dm.viz.over_training import Curve, chart_over_training, how_drawn, night_steps
from t4dm.viz.panel import Figure, Panel
from t4dm.viz.run_folder import RunFolder

LOSSES = (
    (("train/loss", "train/loss_step", "train/loss_epoch"), "train", "s-train", True),
    (("val/loss", "val/loss_epoch"), "validation", "s-val", False),
    (("val/text_loss", "text_val/loss", "val/loss_text"), "plain text", "s-text", False),
)
PARTS = (
    (("train/ce", "train/ce_step"), "cross-entropy", "s-train", True),
    (("train/goodness", "train/goodness_step"), "goodness", "s-text", True),
)
RECALL = (
    (("train/recall_accuracy", "train/recall_accuracy_step"), "train", "s-train", True),
    (("val/recall_accuracy", "val/recall_accuracy_epoch"), "validation", "s-val", False),
)


def build(run: RunFolder) -> Panel:
    """Training and validation loss, the parts of the training loss, recall accuracy."""
    nights = night_steps(run)
    figures, missing = [], []
    for rows, title, unit, span in (
        (LOSSES, "Loss", "Loss (nats per token)", None),
        (RECALL, "Recall while training", "Recall accuracy (fraction of answers)", (0.0, 1.0)),
        (PARTS, "Parts of the training loss", "Loss term (nats; goodness unitless)", None),
    ):
        curves = _curves(run, rows)
        if not curves:
            missing.append(f"metrics.csv has no figures for: {title.lower()}.")
            continue
        svg = chart_over_training(curves, y_title=unit, name=title, nights=nights, y_range=span)
        figures.append(Figure(svg, f"{title}. {how_drawn(curves, nights)}".strip()))
    return Panel("learning", "Learning curves", figures=tuple(figures), missing=tuple(missing))


def _curves(run: RunFolder, rows: tuple[tuple[tuple[str, ...], str, str, bool], ...]) -> list[Curve]:
    found = ((run.metrics.series(*names), label, class_, noisy) for names, label, class_, noisy in rows)
    return [
        Curve(series, label, class_, noisy) for series, label, class_, noisy in found if series is not None
    ]
