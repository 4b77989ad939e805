"""Writes block.html: what happened inside each block while a text was read, on one page without network."""

from __future__ import annotations

import shlex
from pathlib import Path

from t4dm.viz.inside_folder import InsideFolder, read_inside
from t4dm.viz.page import filled, write_whole
from t4dm.viz.panel import Panel, Table
from t4dm.viz.panels import block
from t4dm.viz.raster import legible
from t4dm.viz.run_folder import mapping
from t4dm.viz.text import NONE, listed, percent

NAME = "block.html"
LONGEST_TITLE, LONGEST_WORD = 60, 160


def write_block_page(folder: Path) -> Path:
    """Reads the run folder of a study and writes its block.html; the same arrays give the same bytes.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: no study is there, or a file of it is broken.
        ReportNotWrittenError: the page cannot be saved.
    """
    target = Path(folder) / NAME
    write_whole(target, render(read_inside(Path(folder))))
    return target


def render(inside: InsideFolder) -> str:
    """The page as text."""
    text = legible(" ".join(str(inside.study.get("text", "")).split()))
    return filled(
        title=f"Inside {'a block' if len(inside.blocks) == 1 else 'the blocks'}: "
        f"\u201c{_cut(text, LONGEST_TITLE)}\u201d",
        folder=shlex.join(_cut(word, LONGEST_WORD) for word in _words(inside)),
        headline=_headline(inside),
        night="",
        scores=[],
        panels=[*(block.build(inside, index) for index in inside.blocks), _origin(inside)],
        notes=_notes(inside),
    )


def _words(inside: InsideFolder) -> list[str]:
    """What makes this page again, word by word."""
    return [legible(str(word)) for word in inside.run.get("command") or []]


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}\u2026"


def _headline(inside: InsideFolder) -> str:
    rates = [inside.of(index, "rate") for index in inside.blocks]
    shown = [percent(float(rate.mean()), 1) for rate in rates if rate is not None]
    named = listed([str(index) for index in inside.blocks])
    return (
        f"{_counted(len(inside.tokens), 'token')} through {_model(inside)}: the output neurons of block"
        f"{'' if len(inside.blocks) == 1 else 's'} {named} fire at {listed(shown or [NONE])} of the tokens."
    )


def _model(inside: InsideFolder) -> str:
    return str(inside.study.get("model") or "an unknown model")


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _notes(inside: InsideFolder) -> list[str]:
    notes = []
    if inside.study.get("trained") is False:
        notes.append(
            "The stack has not been trained: this is how it starts. Look into a trained one with --run RUN."
        )
    notes.append("No memory is read here, and every block starts from a state of zeros.")
    if any("\ufffd" in token for token in inside.tokens):
        notes.append("\ufffd stands for a part of a character that takes several tokens.")
    return notes


def _origin(inside: InsideFolder) -> Panel:
    """Command, model, seed, code and versions; nothing of the moment, so that a page can be compared."""
    git, versions = mapping(inside.run.get("git")), mapping(inside.run.get("versions"))
    commit = f"{git.get('sha')}{' with uncommitted changes' if git.get('dirty') else ''}" if git else ""
    rows = [
        ("command", shlex.join(_words(inside))),
        ("model", _model(inside)),
        ("seed", str(inside.run.get("seed", ""))),
        ("commit", commit),
        *((name, str(version)) for name, version in versions.items()),
    ]
    table = Table(("Origin", "Value"), tuple(row for row in rows if row[1]))
    return Panel("run", "Where this comes from", tables=(table,))
