"""One adapter per store, imported only when it is measured: a missing package costs its rows only."""

from __future__ import annotations

import subprocess
import tomllib
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Final

from experiments.storage_bench.systems.base import System

_MODULES: Final = {
    "t4dx": ("t4dx", "t4dx"),
    "sqlite": ("sqlite", ""),
    "qdrant-edge": ("qdrant", "qdrant-edge-py"),
    "lancedb": ("lance", "lancedb"),
    "chroma": ("chroma", "chromadb"),
    "kuzu": ("kuzu", "kuzu"),
}


def system(label: str) -> System:
    """The adapter for a label: an engine's name and, after a blank, its durability ("sqlite full").

    Raises:
        ImportError: its package is not installed.
    """
    engine, _, durability = label.partition(" ")
    module = import_module(f"{__name__}.{_MODULES[engine][0]}_system")
    found: System = module.Adapter(label, durability)
    return found


def release(label: str) -> str:
    """The version of an engine."""
    engine = label.partition(" ")[0]
    if engine == "sqlite":
        import sqlite3

        return sqlite3.sqlite_version
    return t4dm_version() if engine == "t4dx" else version(_MODULES[engine][1])


def t4dm_version() -> str:
    """The version of this source tree, and its commit."""
    root = Path(__file__).resolve().parents[3]
    number = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    return f"{number}+{found.stdout.strip()}" if found.returncode == 0 else str(number)
