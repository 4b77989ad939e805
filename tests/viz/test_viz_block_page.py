"""The page of a study: every figure of every block, for any text, whole by itself, the same bytes again."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from t4dm.errors import BrokenRunFileError, RunFolderError
from t4dm.viz.attention_map import attention_map, pooled, strongest
from t4dm.viz.block_page import write_block_page
from t4dm.viz.heat import heat_strip
from t4dm.viz.panels.block import telling_neurons
from t4dm.viz.png import opacity_png
from t4dm.viz.raster import WIDTH
from t4dm.viz.traces import TraceRow, trace_rows

FIGURES = 9
StudyMaker = Callable[..., Path]


def written(folder: Path) -> str:
    return write_block_page(folder).read_text(encoding="utf-8")


def drawings(html: str) -> list[ElementTree.Element]:
    """Every picture of the page, parsed: what is not well-formed fails here."""
    found = re.findall(r'<svg [^>]*class="chart".*?</svg>(?=</div><figcaption>)', html, re.S)
    return [ElementTree.fromstring(picture) for picture in found]


def test_every_block_has_every_figure_with_a_caption_of_one_sentence(make_study: StudyMaker) -> None:
    html = written(make_study())
    assert len(drawings(html)) == 2 * FIGURES
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.S)
    assert len(captions) == 2 * FIGURES
    assert all(caption.endswith(".") and ". " not in caption for caption in captions)
    for start in (
        "Each stroke is a spike",
        "Membranes of",
        "Openings of the thalamic gate",
        "Openings of the apical gate",
        "How much of each token",
        "Firing rate of every output channel",
        "How far the basal drive",
        "Calcium of",
        "Weights of the capsules",
    ):
        assert sum(caption.startswith(start) for caption in captions) == 2, start


def test_the_header_names_command_model_seed_code_and_versions(make_study: StudyMaker) -> None:
    html = written(make_study(text="Ann & Bob"))
    assert "t4dm study block &#39;Ann &amp; Bob&#39; --seed 7" in html
    assert "11 tokens through the shipped tiny backbone with a fresh stack" in html
    for cell in ("3f1c2d9 with uncommitted changes", "2.13.0", "7"):
        assert f"<td>{cell}</td>" in html
    assert "has not been trained" in html


def test_the_same_study_gives_the_same_bytes_wherever_and_whenever(make_study: StudyMaker) -> None:
    one, other = make_study(), make_study()
    record = json.loads((other / "run.json").read_text())
    (other / "run.json").write_text(json.dumps({**record, "started": "2027-01-01", "seconds": 9.0}))
    assert written(one) == written(other)
    assert str(one) not in written(one)


def test_a_page_needs_nothing_but_itself(make_study: StudyMaker) -> None:
    html = written(make_study())
    assert not re.search(r"""(?:src|href)=["'](?!data:|\#)""", html)
    assert not re.search(r"@import|url\((?!\#)|<script|https?:", html.replace("http://www.w3.org", ""))
    assert "prefers-color-scheme:dark" in html
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)
    assert "#fff" not in "".join(re.findall(r"<figure.*?</figure>", html, re.S))


def test_every_picture_says_what_it_is(make_study: StudyMaker) -> None:
    for picture in drawings(written(make_study())):
        assert picture.get("role") == "img"
        assert re.match(r"Block [01]: \w+", picture.get("aria-label", ""))


@pytest.mark.parametrize(
    "tokens",
    [
        ["a"],
        ["a", " b"],
        [f" w{i}" for i in range(300)],
        ["<script>", "alert(1)", "</script>", "&", '"', "'", "\x00", "\x1b", "\n", "\t", " "],
        ["\U0001f600", "\ufffd", "\u65e5\u672c", "\u05e9\u05dc\u05d5\u05dd", "na\u00ef", "e\u0301", "x" * 80],
    ],
    ids=["one", "two", "three hundred", "markup and controls", "scripts of the world"],
)
def test_any_text_makes_a_page_whose_pictures_stay_inside(make_study: StudyMaker, tokens: list[str]) -> None:
    folder = make_study(tokens)
    html = written(folder)
    assert "<script" not in html
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", html)
    pictures = drawings(html)
    assert len(pictures) == 2 * FIGURES
    for picture in pictures:
        _, _, width, height = map(float, picture.get("viewBox", "").split())
        assert width == WIDTH
        for part in picture.iter("text"):
            assert 0 <= float(part.get("x", "")) <= width
            assert 0 <= float(part.get("y", "")) <= height
        for part in picture.iter("rect"):
            assert float(part.get("x", "")) + float(part.get("width", "")) <= width + 0.1
            assert "nan" not in ElementTree.tostring(part, "unicode")
    assert (folder / "block.html").stat().st_size < 2_000_000


def test_many_channels_and_heads_still_fit(make_study: StudyMaker) -> None:
    html = written(make_study(blocks=1, width=1024, heads=16))
    heights = [float(picture.get("viewBox", "").split()[3]) for picture in drawings(html)]
    assert max(heights) < 600
    assert html.count(">head ") == 16
    assert "neighbours of 1024 channels averaged" in html
    assert len(html) < 2_000_000


def test_what_was_not_recorded_is_named_and_the_rest_is_drawn(make_study: StudyMaker) -> None:
    html = written(make_study(blocks=1, without=("attention", "gate", "out", "out.membrane")))
    assert "Not recorded, over the byte budget: attention, gate, out, out.membrane." in html
    assert len(drawings(html)) == FIGURES - 3


def test_a_silent_block_is_a_page_too(make_study: StudyMaker) -> None:
    folder = make_study(blocks=1)
    with np.load(folder / "inside.npz") as archive:
        arrays = dict(archive)
    quiet = {name: np.zeros_like(a) for name, a in arrays.items() if name.startswith("block0.")}
    np.savez(folder / "inside.npz", **{**arrays, **quiet})
    html = written(folder)
    assert "12 of 12 (100\u00a0%) never fire in this text, where 57\u00a0% would be silent by chance" in html
    assert "no weight" in html
    assert len(drawings(html)) == FIGURES


def test_a_folder_without_a_study_or_with_a_torn_one_is_a_mistake(
    make_study: StudyMaker, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match=r"has no inside\.npz"):
        write_block_page(tmp_path)
    folder = make_study()
    file = folder / "inside.npz"
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(BrokenRunFileError, match=r"inside\.npz is broken"):
        write_block_page(folder)
    np.savez(file, tokens=np.array(["a"]))
    with pytest.raises(BrokenRunFileError, match="blocks"):
        write_block_page(folder)


def test_a_mask_holds_the_levels_as_opacity() -> None:
    levels = np.array([[0.0, 0.5, 1.0], [2.0, -1.0, np.nan]])
    with Image.open(BytesIO(opacity_png(levels))) as picture:
        picture.load()
        assert picture.mode == "LA"
        pixels = np.asarray(picture)
    assert pixels[..., 1].tolist() == [[0, 128, 255], [255, 0, 0]]
    assert (pixels[..., 0] == 255).all()


def test_the_scale_beside_a_heat_map_names_its_ends() -> None:
    values = np.array([[0.25, 0.5], [0.75, 2.0]])
    drawn = heat_strip(values, ["a", "b"], class_="b-0", name="n", y_title="y", x_title="x")
    assert ">2</text>" in drawn
    assert ">0.25</text>" in drawn
    flat = heat_strip(np.full((2, 2), 0.5), ["a", "b"], class_="b-0", name="n", y_title="y", x_title="x")
    assert flat.count(">0.5</text>") == 1


def test_every_spike_of_a_shown_membrane_is_a_dot_and_a_fall(make_study: StudyMaker) -> None:
    pictures = drawings(written(make_study()))
    (picture,) = [p for p in pictures if p.get("aria-label", "").startswith("Block 0: membranes")]
    lines = [part.get("d", "") for part in picture.iter("path")]
    spikes = sum(1 for _ in picture.iter("circle"))
    assert spikes > 0
    assert sum(len(line.split()) // 2 for line in lines) == len(lines) * 11 + spikes


def test_the_busiest_the_median_the_quietest_and_the_nearest_silent_neuron_are_shown() -> None:
    spikes = np.zeros((6, 6), dtype=np.uint8)
    for neuron, count in enumerate((2, 5, 1, 0, 0, 3)):
        spikes[:count, neuron] = 1
    membrane = np.full((6, 6), 0.1)
    membrane[3, 4] = 0.9
    assert telling_neurons(spikes, membrane) == [1, 0, 2, 4]
    assert telling_neurons(np.zeros((6, 6)), membrane) == [4]
    assert telling_neurons(np.ones((6, 1)), membrane) == [0]


def test_the_strongest_looks_back_leave_out_a_look_at_oneself() -> None:
    weights = np.zeros((3, 2, 3))
    weights[0, :, 0] = 9.0
    weights[2, 0, 1], weights[1, 1, 0] = -0.8, 0.5
    assert strongest(weights, count=5) == [(2, 1, -0.4), (1, 0, 0.25)]
    assert strongest(weights, count=1) == [(2, 1, -0.4)]
    assert strongest(np.zeros((3, 2, 3)), count=5) == []


def test_a_thin_line_survives_the_pooling_with_its_sign() -> None:
    matrix = np.zeros((9, 9))
    matrix[4, 2], matrix[8, 7], matrix[8, 8] = -3.0, 1.0, 2.0
    small = pooled(matrix, 3)
    assert small.tolist() == [[0.0, 0.0, 0.0], [-3.0, 0.0, 0.0], [0.0, 0.0, 2.0]]
    assert pooled(matrix, 9) is matrix


def test_a_head_without_negative_weights_has_no_second_colour() -> None:
    weights = np.tril(np.ones((1, 4, 4))).transpose(1, 0, 2)
    assert "s-after_night" not in attention_map(weights, list("abcd"), name="n")
    assert "s-after_night" in attention_map(-weights, list("abcd"), name="n")


def test_a_membrane_falls_by_one_threshold_where_it_spikes() -> None:
    row = TraceRow(
        "m", np.array([0.5, 1.5]), "b-0", after=np.array([0.5, 0.5]), level=1.0, level_text="threshold"
    )
    drawn = trace_rows([row], ["a", "b"], name="n", y_title="y", x_title="x")
    path = re.search(r'<path d="M([^"]*)" class="line', drawn)
    assert path is not None
    numbers = [float(value) for value in path[1].split()]
    xs, ys = numbers[0::2], numbers[1::2]
    assert len(xs) == 3
    assert xs[1] == xs[2]
    assert ys[2] == ys[0]
