"""The README of an exported model, in the form that model hubs read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml

CARD = """---
{head}---

# {title}

What the t4dm run `{name}` (seed {seed}) learnt beside a frozen language model: a LoRA in it, and a spiking
cortical stack before its layer {layer}. The language model is not in this folder, and neither are memories:
a store belongs to its run.

| | |
| --- | --- |
| base model | {base} |
| revision | {revision} |
| trainable parameters | {trainable:,} (LoRA {lora:,}, stack and doors {stack:,}) |
| LoRA | {settings} |
| data | {data} |
| licence | {licence} |

## Measured by the run

{metrics}

## Use

```python
from pathlib import Path
from t4dm.apps.exported import load_export

model, writer = load_export(Path("{folder}"))
```
"""


def model_card(
    *,
    folder: str,
    config: Mapping[str, Any],
    identity: Mapping[str, Any],
    lora: Mapping[str, Any],
    parameters: Mapping[str, int],
    summary: Mapping[str, Any],
) -> str:
    """README.md of an export.

    Args:
        folder: name of the export.
        config: of the run.
        identity: of the backbone.
        lora: rank, alpha and targets; empty without one.
        parameters: trained ones of `lora` and `stack`.
        summary: summary.json of the run, as far as there is one.
    """
    shipped = identity["name"] == "tiny"
    head = {
        "base_model": "t4dm/tiny (shipped with t4dm)" if shipped else identity["name"],
        "library_name": "t4dm",
        "license": "apache-2.0" if shipped else "other",
        "tags": ["t4dm", "lora", "memory", "spiking"],
    }
    return CARD.format(
        head=yaml.safe_dump(head, sort_keys=False),
        title=folder,
        name=config["name"],
        seed=config["seed"],
        layer=config["model"]["memory_lm"]["insert_at"],
        base=f"{identity['name']} ({identity['type']}, {identity['layers']} layers of {identity['width']})",
        revision=identity["revision"] or f"none; weights {identity['weights']}",
        trainable=sum(parameters.values()),
        lora=parameters["lora"],
        stack=parameters["stack"],
        settings=_settings(lora),
        data=_data(config["data"]),
        licence=_licence(identity["name"], shipped),
        metrics=_metrics(summary),
        folder=folder,
    )


def _settings(lora: Mapping[str, Any]) -> str:
    if not lora:
        return "none"
    return f"rank {lora['rank']}, alpha {lora['alpha']}, on {', '.join(lora['targets'])}"


def _data(node: Mapping[str, Any]) -> str:
    """Kind of data, and the names of files without their folders."""
    parts = [part for part in (node, *node.values()) if isinstance(part, Mapping) and "_target_" in part]
    named = [str(part["_target_"]).rpartition(".")[2] for part in parts]
    sources = [PurePath(str(file)).name for part in parts for file in part.get("files") or []]
    sources += [str(part["hub"]) for part in parts if part.get("hub")]
    return ", ".join([*dict.fromkeys(named), *sources])


def _licence(name: str, shipped: bool) -> str:
    if shipped:
        return "Apache-2.0, as t4dm and the base model it ships"
    return f"t4dm is Apache-2.0; who passes this folder on also keeps to the licence of {name}"


def _metrics(summary: Mapping[str, Any]) -> str:
    rows = [(f"loss, {name}", value, "nats") for name, value in (summary.get("losses") or {}).items()]
    for arm, by_distance in (summary.get("recall") or {}).items():
        for distance, cell in by_distance.items():
            low, high = cell["ci"]
            told = f"95 % interval {low:.3f} to {high:.3f}, n = {cell['n']}"
            rows.append((f"recall, {arm}, {distance} windows back", cell["mean"], told))
    lines = [f"| {what} | {value:.3f} | {unit} |" for what, value, unit in rows if _is_number(value)]
    if not lines:
        return "The run has no summary.json."
    return "\n".join(["| measure | value | |", "| --- | --- | --- |", *lines])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and value == value
