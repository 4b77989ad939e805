from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4dm.errors import BrokenRunFileError, ReportNotWrittenError
from t4dm.viz.metrics import EMPTY, Metrics
from t4dm.viz.report import panels, render, write_report
from t4dm.viz.run_folder import FILES, RunFolder

RunMaker = Callable[..., Path]
PANELS = ("recall", "learning", "spikes", "writing", "kappa", "nights", "store", "run", "config")
MARKS = ("path", "rect", "circle")
VOID = {"meta", "link", "br"}
HOSTILE = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"


class Outline(HTMLParser):
    """Checks that tags nest, and collects what the page holds."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split()).replace("\u00a0", " ")


def page_of(folder: Path) -> str:
    return write_report(folder).read_text(encoding="utf-8")


def folder_with(**values: Any) -> RunFolder:
    empty: dict[str, Any] = {"path": Path("a/b"), "run": {}, "summary": {}, "metrics": EMPTY, "nights": ()}
    empty |= {"traces": {}, "config": "", "overrides": "", "store_bytes": None, "notes": ()}
    return RunFolder(**{**empty, **values})


def test_the_page_shows_every_part_of_a_whole_run(make_run: RunMaker) -> None:
    page = page_of(make_run())
    outline = Outline(page)
    sections = [attrs["id"] for _, attrs in outline.tags if attrs.get("class") == "panel"]
    assert sections == list(PANELS)
    assert not [attrs for _, attrs in outline.tags if attrs.get("class") == "missing"]
    for words in (
        "With memory the model answers",
        "memory is better at every distance",
        "Distance between the fact and the question (windows)",
        "Loss (nats per token)",
        "Optimiser step",
        "Firing rate (% of neurons per token)",
        "48 evenly spaced neurons of 128",
        "Gate value tau (0 to 1)",
        "1 210 of 2 048 offered spans were written (59 %)",
        "Night 4: mean kappa",
        "Mira rows an amber boat.",
        "Nobody on the quay spoke.",
        "260 → 170",
        "t4dm train experiment=first_night",
        "3f1c2d9",
        "2.13.0",
        "3 min 57 s",
        "1.4 GiB",
        "blocks: 4",
    ):
        assert words in outline.text, words


def test_every_picture_is_well_formed_and_has_marks(make_run: RunMaker) -> None:
    pictures = re.findall(r'<div class="hold">(<svg.*?</svg>)</div>', page_of(make_run()), re.S)
    assert len(pictures) == 14
    for picture in pictures:
        marks = [element for element in ET.fromstring(picture).iter() if element.tag in MARKS]
        assert marks
        assert "nan" not in picture.lower()
        assert "inf" not in picture.lower()


def test_the_page_needs_nothing_from_elsewhere(make_run: RunMaker) -> None:
    page = page_of(make_run())
    outline = Outline(page)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|<script|javascript:", page)
    assert not [attrs["src"] for _, attrs in outline.tags if "src" in attrs]
    assert {attrs["href"] for tag, attrs in outline.tags if tag == "link"} == {"data:,"}
    targets = {attrs["href"] for tag, attrs in outline.tags if tag == "a"}
    assert targets == {f"#{panel}" for panel in PANELS}


def test_whatever_a_run_wrote_is_escaped(make_run: RunMaker, summary: dict[str, Any]) -> None:
    summary["experiment"] = HOSTILE
    summary["recall"][HOSTILE] = summary["recall"]["memory"]
    folder = make_run(summary=summary, content=HOSTILE, config=f"seed: '{HOSTILE}'\n")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record[HOSTILE] = HOSTILE * 9
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "overrides.yaml").write_text(HOSTILE, encoding="utf-8")
    with np.load(folder / "traces.npz") as archive:
        arrays = dict(archive)
    np.savez(folder / "traces.npz", **{**arrays, "tokens": np.array(["<b>x</b>"] * 40)})
    page = page_of(folder)
    tags = {tag for tag, _ in Outline(page).tags}
    assert not tags & {"script", "img", "b"}
    assert page.count("&lt;script&gt;") > 5


@pytest.mark.parametrize("name", FILES)
def test_a_run_without_one_file_still_has_its_page(make_run: RunMaker, name: str) -> None:
    assert f"{name} is missing" in Outline(page_of(make_run(without=(name,)))).text


def test_a_run_stopped_at_its_start_says_what_is_missing(make_run: RunMaker) -> None:
    folder = make_run(without=("summary.json", "nights.jsonl", "traces.npz"), status="interrupted")
    (folder / "metrics.csv").write_text("step,train/loss\n", encoding="utf-8")
    outline = Outline(page_of(folder))
    missing = [attrs for tag, attrs in outline.tags if tag == "p" and attrs.get("class") == "missing"]
    assert len(missing) >= 9
    assert "The run was interrupted" in outline.text
    assert "no result to state yet" in outline.text
    assert "metrics.csv is empty" in outline.text


def test_a_run_without_nights_shows_its_curves_without_marks(make_run: RunMaker) -> None:
    folder = make_run(nights=0)
    rows = [
        line
        for line in (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
        if "2.1" not in line
    ]
    (folder / "metrics.csv").write_text("\n".join(rows), encoding="utf-8")
    outline = Outline(page_of(folder))
    assert "No night of sleep was recorded." in outline.text
    assert "Dashed: nights of sleep." not in outline.text


def test_cells_of_nan_are_dashes(make_run: RunMaker, summary: dict[str, Any]) -> None:
    summary["recall"]["memory"]["16"] = {"mean": float("nan"), "ci": float("nan"), "n": 0}
    summary["losses"]["val"] = None
    text = Outline(page_of(make_run(summary=summary))).text
    assert "1, 2, 4 and 8 windows back" in text
    assert "nan" not in text.lower()


def test_broken_json_leaves_the_old_report_alone(make_run: RunMaker) -> None:
    folder = make_run()
    before = page_of(folder)
    (folder / "summary.json").write_text("{", encoding="utf-8")
    with pytest.raises(BrokenRunFileError):
        write_report(folder)
    assert (folder / "report.html").read_text(encoding="utf-8") == before


def test_a_page_that_cannot_be_saved_is_one_error_and_leaves_no_debris(make_run: RunMaker) -> None:
    folder = make_run()
    (folder / "report.html").mkdir()
    before = sorted(folder.iterdir())
    with pytest.raises(
        ReportNotWrittenError, match=r"free some space or fix its permissions, then run: t4dm runs report"
    ):
        write_report(folder)
    assert sorted(folder.iterdir()) == before


def test_the_same_run_gives_the_same_page(make_run: RunMaker) -> None:
    folder = make_run()
    assert page_of(folder) == page_of(folder)


def test_many_nights_are_thinned_and_say_so(make_run: RunMaker) -> None:
    text = Outline(page_of(make_run(nights=30))).text
    assert "12 of 30 nights are shown." in text
    assert "Night 30: mean kappa" in text


def test_old_figures_of_rates_come_from_the_metrics(make_run: RunMaker) -> None:
    folder = make_run(without=("traces.npz",))
    text = Outline(page_of(folder)).text
    assert "Mean firing rate of each block." in text
    assert "traces.npz has no spikes of an example window." in text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["1", "16", "mean", "ci"]), inner)
    ),
    max_leaves=6,
)
SUMMARY = st.fixed_dictionaries(
    {},
    optional={
        "recall": JSON | st.dictionaries(st.sampled_from(["memory", "no_memory", "x"]), JSON),
        **{
            name: JSON
            for name in ("chance", "seed", "experiment", "items", "kappa", "seconds", "losses", "nights")
        },
    },
)
NIGHT = st.dictionaries(
    st.sampled_from(
        ["replayed", "kappa_before", "kappa_after", "items_before", "cluster_samples", "pruned_samples"]
    ),
    JSON | st.lists(st.floats(), min_size=2, max_size=2),
)
ARRAYS = st.sampled_from(
    [
        np.zeros(0),
        np.zeros((2, 3)),
        np.array("x"),
        np.full(4, np.nan),
        np.array([1e300, -1e300]),
        np.ones((3, 0)),
    ]
)
TRACES = st.dictionaries(
    st.sampled_from(["spikes_block0", "rates", "steps", "tau", "write_rate", "tokens"]), ARRAYS
)
COLUMNS = st.dictionaries(
    st.sampled_from(
        ["step", "train/loss", "val/loss", "store/items", "write/rate", "sleep/seconds", "spikes/rate_block0"]
    ),
    st.lists(st.floats(-1e99, 1e99) | st.just(float("nan")), min_size=3, max_size=3).map(np.array),
)


@settings(max_examples=40, deadline=None)
@given(SUMMARY, st.lists(NIGHT, max_size=2), TRACES, COLUMNS)
def test_no_content_however_strange_breaks_the_page(
    summary: dict[str, Any], nights: list[dict[str, Any]], traces: dict[str, Any], columns: dict[str, Any]
) -> None:
    metrics = Metrics(columns, 3)
    run = folder_with(summary=summary, nights=tuple(nights), traces=traces, metrics=metrics, run=summary)
    assert [panel.id for panel in panels(run)] == list(PANELS)
    Outline(render(run))
