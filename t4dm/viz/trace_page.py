"""Writes trace.html: one text from token to output, layer by layer, on one page without network."""

from __future__ import annotations

import shlex
from pathlib import Path

from t4dm.viz.page import filled, write_whole
from t4dm.viz.panel import Panel, Table
from t4dm.viz.panels import trace as panels
from t4dm.viz.raster import legible
from t4dm.viz.run_folder import mapping
from t4dm.viz.text import size
from t4dm.viz.trace_folder import TraceFolder, read_trace

NAME = "trace.html"
LONGEST = 60


def write_trace_page(folder: Path) -> Path:
    """Reads the run folder of a trace and writes its trace.html; the same files give the same bytes.

    Raises:
        RunFolderError: no whole trace is there, or a file of it is broken.
        ReportNotWrittenError: the page cannot be saved.
    """
    target = Path(folder) / NAME
    write_whole(target, render(read_trace(Path(folder))))
    return target


def render(trace: TraceFolder) -> str:
    """The page as text."""
    text = panels.printable_text(trace.told.get("text"))
    return filled(
        title=f"From token to output: \u201c{_cut(text)}\u201d",
        folder=shlex.join(_words(trace)),
        headline=_headline(trace),
        night="",
        scores=[],
        panels=[
            panels.output(trace),
            panels.memory(trace),
            panels.lens(trace),
            panels.streams(trace),
            panels.blocks(trace),
            _origin(trace),
        ],
        notes=_notes(trace),
    )


def _headline(trace: TraceFolder) -> str:
    answer = panels.printable_text(trace.told.get("answer"))
    model = str(trace.study.get("model") or "an unknown model")
    return f"{model} reads {trace.told.get('prompt_tokens')} tokens and goes on: \u201c{answer}\u201d."


def _notes(trace: TraceFolder) -> list[str]:
    dropped = [str(name) for name in trace.told.get("dropped", [])]
    if not dropped:
        return []
    budget = size(float(trace.told.get("byte_budget", 0)))
    return [f"Not recorded in full, over the budget of {budget} (--budget): {', '.join(dropped)}."]


def _origin(trace: TraceFolder) -> Panel:
    git, versions = mapping(trace.run.get("git")), mapping(trace.run.get("versions"))
    commit = f"{git.get('sha')}{' with uncommitted changes' if git.get('dirty') else ''}" if git else ""
    rows = [
        ("command", shlex.join(_words(trace))),
        ("model", str(trace.study.get("model", ""))),
        ("seed", str(trace.run.get("seed", ""))),
        ("recorded", size(float(trace.told.get("bytes", 0)))),
        ("commit", commit),
        *((name, str(version)) for name, version in versions.items()),
    ]
    table = Table(("Origin", "Value"), tuple(row for row in rows if row[1]))
    return Panel("run", "Where this comes from", tables=(table,))


def _words(trace: TraceFolder) -> list[str]:
    return [legible(str(word)) for word in trace.run.get("command") or []]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}\u2026"
