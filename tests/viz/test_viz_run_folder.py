from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from t4dm.errors import BrokenRunFileError, RunFolderError, T4DMError
from t4dm.viz.night import read_nights
from t4dm.viz.run_folder import FILES, figure, figures, mapping, read_run_folder

RunMaker = Callable[..., Path]


def test_a_whole_folder_has_nothing_to_note(make_run: RunMaker) -> None:
    run = read_run_folder(make_run())
    assert run.notes == ()
    assert len(run.nights) == 4
    assert run.metrics.rows > 100
    assert run.traces["spikes_block0"].shape == (len(run.traces["tokens"]), 128)
    assert run.store_bytes == 4096


@pytest.mark.parametrize("name", FILES)
def test_each_missing_file_is_noted_by_name(make_run: RunMaker, name: str) -> None:
    notes = read_run_folder(make_run(without=(name,))).notes
    assert [name in note for note in notes] == [True]


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello", encoding="utf-8")
    with pytest.raises(RunFolderError, match="t4dm runs ls"):
        read_run_folder(tmp_path)
    with pytest.raises(RunFolderError, match="t4dm runs ls"):
        read_run_folder(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["run.json", "summary.json"])
@pytest.mark.parametrize(
    ("text", "reason"), [("{", "is not JSON"), ("[1]", "holds a list"), ("", "is not JSON")]
)
def test_broken_json_names_the_file_and_the_way_out(
    make_run: RunMaker, name: str, text: str, reason: str
) -> None:
    folder = make_run()
    (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(BrokenRunFileError, match=reason) as caught:
        read_run_folder(folder)
    assert isinstance(caught.value, RunFolderError)
    assert isinstance(caught.value, T4DMError)
    assert str(folder / name) in str(caught.value)
    assert "restore it from a copy" in str(caught.value)


def test_a_broken_night_names_its_line(make_run: RunMaker) -> None:
    folder = make_run()
    path = folder / "nights.jsonl"
    path.write_text("{}\nnot json\n{}\n", encoding="utf-8")
    with pytest.raises(BrokenRunFileError, match="line 2 is not JSON"):
        read_run_folder(folder)


def test_a_night_cut_short_by_a_kill_is_left_out(make_run: RunMaker) -> None:
    folder = make_run()
    path = folder / "nights.jsonl"
    path.write_text(path.read_text(encoding="utf-8") + '{"replayed": 9, "pru', encoding="utf-8")
    run = read_run_folder(folder)
    assert len(run.nights) == 4
    assert any("cut short" in note for note in run.notes)


def test_a_last_night_that_only_lacks_its_line_end_counts(make_run: RunMaker) -> None:
    folder = make_run()
    path = folder / "nights.jsonl"
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    assert len(read_run_folder(folder).nights) == 4


def test_torn_traces_are_a_note(make_run: RunMaker) -> None:
    folder = make_run()
    raw = (folder / "traces.npz").read_bytes()
    (folder / "traces.npz").write_bytes(raw[: len(raw) // 2])
    run = read_run_folder(folder)
    assert any("traces.npz could not be read" in note for note in run.notes)


def test_an_interrupted_run_says_how_to_go_on(make_run: RunMaker) -> None:
    notes = read_run_folder(make_run(status="interrupted")).notes
    assert [note for note in notes if "t4dm train resume=" in note]


@pytest.mark.parametrize("value", [None, True, "3", float("nan"), float("inf"), 10**400, [], 1e200])
def test_what_is_no_figure_is_none(value: object) -> None:
    assert figure(value) is None


def test_figures_and_mappings_forgive_other_types() -> None:
    assert figure(3) == 3.0
    assert figures([1, None, "x", 2.5]) == [1.0, 0.0, 0.0, 2.5]
    assert figures("12") == []
    assert mapping([1]) == {}


def test_a_night_is_read_as_sleep_writes_it(make_run: RunMaker) -> None:
    night = read_nights(read_run_folder(make_run()).nights)[0]
    assert night.number == 1
    assert night.counts["pruned"] == 90.0
    assert night.items == (260.0, 170.0)
    assert (sum(night.kappa_before), sum(night.kappa_after)) == (260.0, 170.0)
    assert night.clusters[0].size == 5
    assert night.clusters[0].members[1] == "Mira rows an amber boat."
    assert night.pruned[0].content == "Nobody on the quay spoke."
    assert night.pruned[0].note == "reason weak, importance 0.04"


def test_a_night_of_other_types_is_read_as_far_as_it_goes() -> None:
    night = read_nights(
        ({"replayed": "many", "replayed_samples": ["a", 3], "cluster_samples": [None], "items_before": []},)
    )[0]
    assert night.counts["replayed"] is None
    assert [sample.content for sample in night.replayed] == ["a", "3"]
    assert night.clusters[0].members == ()
    assert night.items == (None, None)
