"""Writes docs/help.md from the help of every verb.   .venv/bin/python docs/make_help.py"""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from t4dm import cli

GROUPS = {"configs": ("ls", "show", "check", "copy"), "runs": ("ls", "show", "diff", "report")}
GROUPS["study"] = ("block", "retrieval")
GROUPS["store"] = (
    *("stats", "get", "scan", "search", "timeline", "verify", "repair"),
    *("backup", "restore", "export", "import", "compact"),
)
PLAIN = ("train", "evaluate", "generate", "chat", "trace", "sleep", "study", "export", "merge", "doctor")
LOOK = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def page() -> str:
    """The whole page."""
    verbs = [
        [],
        *([verb] for verb in PLAIN),
        *([group, verb] for group, names in GROUPS.items() for verb in names),
    ]
    parts = ["# The command", "What `--help` says of every verb."]
    for verb in verbs:
        name = " ".join(["t4dm", *verb])
        shown = CliRunner().invoke(cli.app, [*verb, "--help"], env=LOOK, prog_name="t4dm").output
        clean = "\n".join(
            line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", shown).strip("\n").splitlines()
        )
        parts.append(f"## {name}\n\n```text\n{clean}\n```")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    Path(__file__).with_name("help.md").write_text(page(), encoding="utf-8")
