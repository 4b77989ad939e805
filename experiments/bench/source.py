"""Which source tree was measured."""

from __future__ import annotations

import platform
import subprocess
import tomllib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


def t4dm_version() -> str:
    """The version of this source tree, and its commit."""
    number = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return f"{number}+{found.stdout.strip()}" if found.returncode == 0 else str(number)


def installed(packages: Sequence[str]) -> dict[str, str]:
    """Versions of what may have been measured; what is absent is left out."""
    found = {"python": platform.python_version(), "t4dm": t4dm_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
