"""The closing table: summary.json for the eye."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

ARMS = {
    "frozen": "frozen backbone",
    "lora": "LoRA only",
    "no_memory": "adapter, memory off",
    "shuffled": "adapter, another's memories",
    "memory": "adapter, memory on",
    "after_night": "after a night of sleep",
    "in_prompt": "facts in the prompt",
}


def closing_table(summary: Mapping[str, Any]) -> RenderableType:
    """Recall by arm and distance, then one line each for losses, memories, sleep and cost."""
    recall: Mapping[str, Mapping[str, Mapping[str, float]]] = summary.get("recall") or {}
    distances = sorted({distance for row in recall.values() for distance in row}, key=int)
    title = f"recall by windows between fact and question, chance {_percent(summary.get('chance'))}"
    table = Table("", *distances, title=title, title_justify="left")
    for arm in [*(arm for arm in ARMS if arm in recall), *(arm for arm in recall if arm not in ARMS)]:
        cells = [_cell(recall[arm].get(distance)) for distance in distances]
        table.add_row(ARMS.get(arm, arm), *cells, style="bold" if arm == "memory" else None)
    return Group(*([table] if recall else []), *(Text(line) for line in _lines(summary)))


def _lines(summary: Mapping[str, Any]) -> list[str]:
    items, seconds = summary.get("items") or {}, summary.get("seconds") or {}
    lines = {
        "losses": _pairs(summary.get("losses") or {}, "{:.3f}"),
        "memories": _pairs(items, "{:,.0f}"),
        "kappa": _pairs({"mean": (summary.get("kappa") or {}).get("mean")}, "{:.3f}"),
        "nights": str(summary.get("nights", "")),
        "seconds": _pairs(seconds, "{:.1f}"),
        "peak memory": _pairs({"MiB": summary.get("peak_memory_mib")}, "{:,.0f}"),
    }
    return [f"{name:12} {line}" for name, line in lines.items() if line]


def _pairs(values: Mapping[str, Any], form: str) -> str:
    return "  ".join(f"{name} {form.format(value)}" for name, value in values.items() if value is not None)


def _cell(value: Mapping[str, float] | None) -> str:
    if not value:
        return ""
    spread = value.get("ci")
    return _percent(value["mean"]) + (f" ± {100 * spread:.0f}" if isinstance(spread, int | float) else "")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
