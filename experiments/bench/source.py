"""Which source tree was measured."""

from __future__ import annotations

import subprocess
import tomllib
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
