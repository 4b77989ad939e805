"""T4DM: a frozen language model that remembers awake and consolidates asleep."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("t4dm")
except PackageNotFoundError:  # a source tree on the path, never installed
    __version__ = "0+unknown"
