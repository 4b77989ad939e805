"""Configs: every shipped file composes and fits its classes, and a misfit is told whole, with its path."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from t4dm.apps import config_verbs
from t4dm.config import build, check, compose, config_dir, locate, plain
from t4dm.errors import ConfigError

GATE = "t4dm.memory.temporal_gate.TemporalGate"
TASK = "t4dm.data.recall.RecallTask"


def problems(tree: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(OmegaConf.create(tree))
    return caught.value.problems


def test_every_problem_is_told_at_once_with_its_path() -> None:
    tree = {
        "memory": {"gate": {"_target_": GATE, "tresh": 0.4, "decay": "slow"}},
        "model": {"stack": {"_target_": "t4dm.spiking.stack.CorticalStack", "blokcs": 2}},
        "data": [{"_target_": "t4dm.data.recall.RecalTask"}],
        "seed": "???",
        "rate": "${nowhere.at.all}",
    }
    found = problems(tree)
    assert [problem.split(maxsplit=1)[0].rstrip(":") for problem in found] == [
        "memory.gate.tresh",
        "memory.gate.decay='slow'",
        "model.stack.blokcs",
        "model.stack.width",
        "data[0]._target_",
        "seed",
        "rate",
    ]
    assert found[0].endswith("TemporalGate has no argument 'tresh'; did you mean threshold?")
    assert found[1].endswith("is no float; set memory.gate.decay=<float>")
    assert found[2].endswith("did you mean blocks?")
    assert found[3].endswith("CorticalStack needs it; add model.stack.width=<value>")
    assert found[4].endswith("did you mean RecallTask?")
    assert found[5] == "seed is not set; add seed=<value>"
    assert "rate cannot be resolved" in found[6]


def test_one_problem_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^gate\.tresh: .* did you mean threshold\?$"):
        check(OmegaConf.create({"gate": {"_target_": GATE, "tresh": 0.4}}))


@pytest.mark.parametrize(
    ("field", "value", "fits"),
    [
        ("threshold", 1, True),
        ("threshold", True, False),
        ("target_rate", None, True),
        ("target_rate", "much", False),
        ("weights", [1.0, 0.0, 0.0], True),
        ("weights", 1.0, True),  # a sequence is no plain hint: left to the constructor
    ],
)
def test_plain_values_are_held_against_plain_hints(field: str, value: object, fits: bool) -> None:
    tree = {"gate": {"_target_": GATE, field: value}}
    if fits:
        check(OmegaConf.create(tree))
    else:
        assert len(problems(tree)) == 1


def test_what_the_app_gives_later_is_not_missing() -> None:
    node = {"_target_": "t4dm.memory.memory.Memory", "_partial_": True}
    check(OmegaConf.create({"memory": node}))
    assert len(problems({"memory": {**node, "_partial_": False}})) == 3


def test_locate_tells_a_missing_module_from_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import absent_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"no module 't5dm\.data'; check its spelling"):
        locate("t5dm.data")
    with pytest.raises(
        ConfigError, match=r"needs_more\.f needs absent_package; run: pip install absent_package"
    ):
        locate("needs_more.f")
    with pytest.raises(ConfigError, match="cannot be called"):
        locate("t4dm.data.recall.CHANCE")


def test_build_gives_each_constructor_what_it_has_a_name_for() -> None:
    node = {
        "_target_": "builtins.dict",
        "_partial_": True,
        "task": {"_target_": TASK, "_partial_": True, "windows": 3},
        "whole": {"_target_": TASK, "facts": 1},
    }
    built = build(node, facts=2, windows=9, unknown=1)
    assert (built["task"].windows, built["task"].facts) == (3, 2)  # what the config chose stands
    assert (built["whole"].windows, built["whole"].facts) == (6, 1)  # not partial: nothing is added
    assert isinstance(build({"_target_": TASK}), locate(TASK))  # type: ignore[arg-type]


def test_build_hands_over_plain_lists() -> None:
    assert type(build({"_target_": TASK, "distances": [1, 2]}).distances) is list


def test_build_shows_the_mistake_itself() -> None:
    from t4dm.errors import TextSourceError

    node = {"_target_": "t4dm.data.text.TextDataModule", "_partial_": True, "files": []}
    with pytest.raises(TextSourceError):
        build(node, encode=len)


EVERY = config_verbs.names()
APPS = {"train", "evaluate", "generate", "sleep", "study"}


def overrides_for(name: str) -> list[str]:
    """The overrides that bring one file into the composed train config."""
    group, _, choice = name.rpartition("/")
    return [f"{group}={choice}"]


def composed_groups() -> list[str]:
    return [name for name in EVERY if "/" in name and not name.startswith(("hydra/", "paths/", "local/"))]


@functools.cache
def text_file() -> str:
    return str(Path(__file__))


@pytest.mark.parametrize("name", composed_groups())
def test_every_file_composes_and_fits_its_classes(name: str) -> None:
    check(compose("train", overrides_for(name)))


@pytest.mark.parametrize("app", sorted(APPS & set(EVERY)))
def test_every_app_composes_and_fits(app: str) -> None:
    cfg = plain(
        compose(app, [] if app == "train" else ["run=somewhere"] if app != "study" else ["runs=somewhere"])
    )
    assert cfg["paths"]["output"] == "outputs/check"


@pytest.mark.parametrize("name", EVERY)
def test_every_file_says_what_it_is_in_its_first_lines(name: str) -> None:
    lines = (config_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert any(line.startswith("# ") and "@package" not in line for line in lines[:2])


@pytest.mark.parametrize("name", [name for name in EVERY if name.startswith(("experiment/", "ablation/"))])
def test_experiments_are_global_and_show_their_command(name: str) -> None:
    lines = (config_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# @package _global_"
    assert "t4dm train" in lines[1] or name == "ablation/none"


def test_an_ablation_takes_out_one_organ() -> None:
    def leaves(*overrides: str) -> Mapping[str, Any]:
        return plain(compose("train", ["experiment=first_night", *overrides]))

    whole = leaves()
    assert leaves("ablation=no_memory")["storage"]["open"] is None
    assert leaves("ablation=no_sleep")["sleep"]["phases"] is None
    spikeless = leaves("ablation=no_spikes")
    assert spikeless["model"]["stack"].pop("neuron") == "gelu"
    assert spikeless == whole
