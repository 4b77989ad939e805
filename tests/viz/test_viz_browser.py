"""The page in a real browser. Skipped only where no Chromium is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t4dm.viz.block_page import write_block_page
from t4dm.viz.report import write_report

RunMaker = Callable[..., Path]
StudyMaker = Callable[..., Path]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next((path for name in NAMES if (path := shutil.which(name))), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--log-level=0",
)
PROBE = """
<script>
const boxes = [...document.querySelectorAll('figure svg.chart')].map(svg => {
  const marks = [...svg.querySelectorAll('path,rect,circle,line')].filter(mark => {
    const box = mark.getBoundingClientRect(), style = getComputedStyle(mark);
    return box.width + box.height > 0 && (style.stroke !== 'none' || style.fill !== 'none');
  });
  const box = svg.getBoundingClientRect();
  const outside = [...svg.querySelectorAll('text')].filter(text => {
    const at = text.getBoundingClientRect();
    return at.left < box.left - 1 || at.right > box.right + 1 || at.bottom > box.bottom + 1;
  });
  return [Math.round(box.width), Math.round(box.height), marks.length, outside.map(t => t.textContent)];
});
const wide = document.documentElement.scrollWidth > document.documentElement.clientWidth;
document.body.dataset.probe = JSON.stringify({boxes, wide});
</script>
"""
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


def chromium(tmp_path: Path, page: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = tmp_path / "profile"
    shutil.rmtree(profile, ignore_errors=True)
    profile.mkdir()
    command = [str(CHROMIUM), *FLAGS, f"--user-data-dir={profile}", *options, page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert not re.findall(r".*:CONSOLE.*", done.stderr)
    return done


def probed(tmp_path: Path, page: Path, width: int) -> tuple[str, str]:
    """The page as the browser has it, and what PROBE measured on it."""
    copy = tmp_path / "probed.html"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{PROBE}</body>"), encoding="utf-8")
    dom = chromium(tmp_path, copy, f"--window-size={width},900", "--dump-dom").stdout
    found = re.search(r'data-probe="(.*?)"', dom)
    assert found is not None
    return dom, found[1].replace("&quot;", '"')


@pytest.mark.parametrize("width", [1200, 700])
def test_every_picture_is_drawn_and_fits(make_run: RunMaker, tmp_path: Path, width: int) -> None:
    dom, probe = probed(tmp_path, write_report(make_run()), width)
    for panel in ("recall", "learning", "spikes", "writing", "kappa", "nights", "store", "run", "config"):
        assert f'<section class="panel" id="{panel}">' in dom
    boxes = re.findall(r"\[(\d+),(\d+),(\d+),\[(.*?)\]\]", probe)
    assert len(boxes) == 14
    for box_width, box_height, marks, outside in boxes:
        assert int(box_width) > 200
        assert int(box_height) > 100
        assert int(marks) > 10
        assert outside == ""
    assert '"wide":false' in probe


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_screenshot_is_neither_blank_nor_of_the_wrong_colour(
    make_run: RunMaker, tmp_path: Path, scheme: str
) -> None:
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    chromium(
        tmp_path, write_report(make_run()), "--window-size=1200,2600", setting, f"--screenshot={picture}"
    )
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))[:2400]  # the lowest 87 rows of a window are not the page's
    assert pixels.shape == (2400, 1200, 3)
    background = (0x15, 0x17, 0x1A) if scheme == "dark" else (0xFF, 0xFF, 0xFF)
    assert tuple(pixels[5, 5].tolist()) == background
    inked = (pixels != np.array(background)).any(axis=2)
    assert 0.02 < inked.mean() < 0.5
    assert inked.any(axis=1).reshape(24, 100).any(axis=1).all()


def test_a_page_of_an_interrupted_run_opens_without_complaint(make_run: RunMaker, tmp_path: Path) -> None:
    folder = make_run(
        without=("summary.json", "nights.jsonl", "traces.npz", "metrics.csv"), status="interrupted"
    )
    dom = chromium(tmp_path, write_report(folder), "--dump-dom").stdout
    assert dom.count('class="missing"') >= 9


@pytest.mark.parametrize(("width", "tokens"), [(1200, 40), (700, 40), (1200, 300), (1200, 1)])
def test_every_picture_of_a_study_is_drawn_and_fits(
    make_study: StudyMaker, tmp_path: Path, width: int, tokens: int
) -> None:
    words = [f" {'w' * (1 + index % 11)}" for index in range(tokens)]
    words[0] = "\u65e5\u672c\u8a9e" * 5
    dom, probe = probed(tmp_path, write_block_page(make_study(words)), width)
    boxes = re.findall(r"\[(\d+),(\d+),(\d+),\[(.*?)\]\]", probe)
    assert len(boxes) == 18
    for box_width, box_height, marks, outside in boxes:
        assert int(box_width) > 200
        assert int(box_height) > 100
        assert int(marks) >= 4
        assert outside == ""
    assert '"wide":false' in probe
    assert dom.count("<mask") >= 8


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_heat_map_is_painted_in_the_colours_of_its_block(
    make_study: StudyMaker, tmp_path: Path, scheme: str
) -> None:
    """Only painting shows whether a mask works: here one token of one channel is at its darkest."""
    folder = make_study([" a", " b"], blocks=1)
    with np.load(folder / "inside.npz") as archive:
        arrays = dict(archive)
    arrays["block0.gate"] = np.array([[0.0, 0.0], [1.0, 0.0]], dtype=np.float32)
    np.savez(folder / "inside.npz", **arrays)
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    chromium(
        tmp_path, write_block_page(folder), "--window-size=1200,1600", setting, f"--screenshot={picture}"
    )
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB"))
    darkest = (0x3B, 0x2A, 0x6E) if scheme == "light" else (0xB9, 0xA5, 0xF0)
    painted = (np.abs(pixels.astype(int) - np.array(darkest)) <= 2).all(axis=2)
    # 60 pixels of one token by half the height of two channels: a full patch, not a line
    rows = painted[:, 131 + 60 : 131 + 120].mean(axis=1) > 0.95
    assert 25 <= int(rows.sum()) <= 80
