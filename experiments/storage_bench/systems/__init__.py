"""One adapter per store, imported only when it is measured: a missing package costs its rows only."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from experiments.bench.source import t4dm_version
from experiments.storage_bench.systems.base import Searcher

_MODULES: Final = {
    "t4dx": ("t4dx", "t4dx"),
    "sqlite": ("sqlite", ""),
    "qdrant-edge": ("qdrant", "qdrant-edge-py"),
    "lancedb": ("lance", "lancedb"),
    "chroma": ("chroma", "chromadb"),
    "kuzu": ("kuzu", "kuzu"),
    "t4dx-hnswlib": ("t4dx", "t4dx"),
    "faiss": ("faiss", "faiss-cpu"),
    "hnswlib": ("hnswlib", "hnswlib"),
}


def system(label: str) -> Any:
    """The adapter for a label: an engine's name and, after a blank, its durability ("sqlite full").

    Raises:
        ImportError: its package is not installed.
    """
    engine, _, durability = label.partition(" ")
    module = import_module(f"{__name__}.{_MODULES[engine][0]}_system")
    found: Searcher = module.Adapter(label, durability)
    return found


def release(label: str) -> str:
    """The version of an engine."""
    engine = label.partition(" ")[0]
    if engine == "sqlite":
        import sqlite3

        return sqlite3.sqlite_version
    return t4dm_version() if engine.startswith("t4dx") else version(_MODULES[engine][1])
