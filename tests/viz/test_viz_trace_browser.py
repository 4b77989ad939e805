"""The page of a trace in a real browser. Skipped only where no Chromium is installed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t4dm.apps.train import RunResult
from t4dm.viz.trace_page import write_trace_page

from .test_viz_browser import CHROMIUM, chromium, probed

PANELS = ("output", "memory", "lens", "streams", "blocks", "run")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


@pytest.fixture(scope="module")
def traced(finished_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trace of a trained run. Read it, do not write into it."""
    from t4dm.apps.trace import trace_run

    out = tmp_path_factory.mktemp("traces") / "one"
    return trace_run(finished_run.folder, " What is the color of Anna?", max_new_tokens=3, out=out)


def copied(folder: Path, to: Path, **told: object) -> Path:
    to.mkdir()
    for name in ("trace.npz", "trace.json", "run.json", "study.json"):
        (to / name).write_bytes((folder / name).read_bytes())
    changed = {**json.loads((to / "trace.json").read_text()), **told}
    (to / "trace.json").write_text(json.dumps(changed))
    return to


@pytest.mark.parametrize("width", [1200, 700, 400])
def test_every_section_is_there_and_every_picture_fits(traced: Path, tmp_path: Path, width: int) -> None:
    dom, probe = probed(tmp_path, traced, width)
    for panel in PANELS:
        assert f'<section class="panel" id="{panel}">' in dom
    boxes = re.findall(r"\[(\d+),(\d+),(\d+),\[(.*?)\]\]", probe)
    assert len(boxes) >= 4
    for box_width, box_height, marks, outside in boxes:
        assert int(box_width) > 200
        assert int(box_height) > 60
        assert int(marks) >= 4
        assert outside == ""
    assert '"wide":false' in probe


def test_a_long_word_and_an_empty_recording_do_not_widen_the_page(traced: Path, tmp_path: Path) -> None:
    folder = copied(
        traced.parent, tmp_path / "a", text="w" * 400, answer="v" * 400, dropped=["layer1.stream"]
    )
    np.savez(folder / "trace.npz")
    dom, probe = probed(tmp_path, write_trace_page(folder), 700)
    assert dom.count('class="missing"') >= 3
    assert '"wide":false' in probe


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_is_neither_blank_nor_of_the_wrong_colour(
    traced: Path, tmp_path: Path, scheme: str
) -> None:
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    chromium(tmp_path, traced, "--window-size=1200,2600", setting, f"--screenshot={picture}")
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))[:2400]
    background = (0x15, 0x17, 0x1A) if scheme == "dark" else (0xFF, 0xFF, 0xFF)
    assert tuple(pixels[5, 5].tolist()) == background
    inked = (pixels != np.array(background)).any(axis=2)
    assert 0.02 < inked.mean() < 0.5
    assert inked.any(axis=1).reshape(24, 100).any(axis=1).all()
