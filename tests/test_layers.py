"""Who may import whom: a package imports strictly lower rows, and heavy libraries live in one wing each."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1] / "t4dm"
ROWS = {
    0: "errors",
    1: "t4dx plasticity",
    2: "memory spiking backbone",
    3: "model sleep persistence biology",
    4: "data training",
    5: "studies evaluation viz integrations migration",
    6: "apps cli cli_store config",
}
ROW = {wing: row for row, wings in ROWS.items() for wing in wings.split()}
INSIDE_A_ROW = {
    ("training", "data"),
    ("biology", "sleep"),
    ("apps", "config"),
    ("cli", "config"),
    ("cli", "apps"),
    ("cli", "cli_store"),
    ("cli_store", "apps"),
}
HOMES = {
    "hydra": "apps cli config",
    "omegaconf": "apps cli config",
    "typer": "cli cli_store",
    "lightning": "training data",
    "transformers": "backbone",
    "peft": "backbone",
    "bitsandbytes": "backbone",
    "faiss": "t4dx",
    "hnswlib": "t4dx",
    "msgpack": "t4dx",
}


def wing_of(path: Path, root: Path) -> str:
    return path.relative_to(root).parts[0].removesuffix(".py")


def imported(tree: ast.AST, package: str) -> Iterator[str]:
    """Absolute dotted names of everything imported, at any depth of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package.split(".")[: 1 - node.level or None]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            yield from (f"{module}.{alias.name}" for alias in node.names)


def violations(root: Path) -> list[str]:
    found = []
    for path in sorted(root.rglob("*.py")):
        wing = wing_of(path, root)
        if wing == "__init__":
            continue
        package = ".".join(["t4dm", *path.relative_to(root).parent.parts])
        for name in imported(ast.parse(path.read_text(encoding="utf-8")), package):
            first, _, rest = name.partition(".")
            other = rest.partition(".")[0]
            if first == "t4dm" and other in ROW and other != wing:
                allowed = ROW[other] < ROW[wing] or (wing, other) in INSIDE_A_ROW
            else:
                allowed = wing in HOMES.get(first, wing).split() and not (wing == "t4dx" and first == "torch")
            if not allowed:
                found.append(f"{path.relative_to(root)} imports {name}")
    return found


def test_every_package_has_a_row() -> None:
    wings = {wing_of(path, ROOT) for path in ROOT.rglob("*.py")} - {"__init__", "__main__"}
    assert wings <= set(ROW), f"name the row of {sorted(wings - set(ROW))}"


def test_packages_import_strictly_lower_rows() -> None:
    assert violations(ROOT) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("t4dx/engine.py", "import torch"),
        ("t4dx/engine.py", "from t4dm.memory import Memory"),
        ("memory/memory.py", "from ..spiking import stack"),
        ("memory/memory.py", "from t4dm import spiking"),
        ("model/memory_lm.py", "def f():\n    import transformers"),
        ("sleep/cycle.py", "from omegaconf import DictConfig"),
        ("data/recall.py", "from t4dm.training import surrogate_phase"),
    ],
)
def test_the_walk_sees_a_breach(tmp_path: Path, file: str, line: str) -> None:
    path = tmp_path / file
    path.parent.mkdir()
    path.write_text(line, encoding="utf-8")
    assert len(violations(tmp_path)) == 1
