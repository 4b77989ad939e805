"""A page: the shared template, filled and written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import jinja2

from t4dm.errors import ReportNotWrittenError
from t4dm.viz.palette import dash_css, palette_css

TEMPLATE = "report.html.j2"


def filled(**contents: object) -> str:
    """The template with `contents` and the colours of both pages."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    colours = {"light": palette_css(dark=False), "dark": palette_css(dark=True), "dashes": dash_css()}
    return environment.get_template(TEMPLATE).render(**contents, **colours)


def write_whole(target: Path, text: str) -> None:
    """Writes beside the target and renames, so an older page survives a full disk.

    Raises:
        ReportNotWrittenError: the page cannot be saved.
    """
    try:
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".report-", suffix=".html")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
                file.write(text)
            os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ReportNotWrittenError(target, error.strerror or str(error)) from error
