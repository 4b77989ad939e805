"""Configs: every shipped file composes and fits its classes, and a misfit is told whole, with its path."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from t4dm.apps import config_verbs
from t4dm.config import build, check, compose, config_dir, locate, plain
from t4dm.errors import ConfigError, MissingExtra, NothingToTrainError, UnknownBackendError

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
        "data.0._target_",
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
        "_target_": "t4dm.data.recall_module.RecallDataModule",
        "_partial_": True,
        "lanes": 4,
        "task": {"_target_": TASK, "_partial_": True, "windows": 3},
        "held_out": {"_target_": TASK, "facts": 1},
    }
    built = build(node, encode=len, lanes=9, facts=2, windows=9, unknown=1)
    assert built.lanes == 4  # what the config chose stands
    assert (built.task.windows, built.task.facts) == (3, 2)
    assert (built.held_out.windows, built.held_out.facts) == (6, 1)  # not partial: nothing is added


def test_build_hands_over_plain_lists() -> None:
    assert type(build({"_target_": TASK, "distances": [1, 2]}).distances) is list


def test_build_shows_the_mistake_itself() -> None:
    from t4dm.errors import TextSourceError

    node = {"_target_": "t4dm.data.text.TextDataModule", "_partial_": True, "files": []}
    with pytest.raises(TextSourceError):
        build(node, encode=len)


EVERY = config_verbs.names()
APPS = {"train", "evaluate", "generate", "sleep", "study"}
NEEDS_A_GPU = {name for name in EVERY if "qwen" in name} | {"trainer/gpu", "model/stack/cortical6"}
NOT_A_CHOICE = {name for name in EVERY if name.startswith(("hydra/", "paths/", "sweep/", "local/"))} | APPS


def overrides_for(name: str) -> list[str]:
    """The overrides that bring one file into the composed train config."""
    group, _, choice = name.rpartition("/")
    return [f"{group}={choice}"]


def composed_groups() -> list[str]:
    return [name for name in EVERY if "/" in name and not name.startswith(("hydra/", "paths/", "local/"))]


@pytest.mark.parametrize("name", composed_groups())
def test_every_file_composes_and_fits_its_classes(name: str) -> None:
    check(compose("train", overrides_for(name)))


@pytest.mark.parametrize("app", sorted(APPS & set(EVERY)))
def test_every_app_composes_and_fits(app: str) -> None:
    cfg = plain(
        compose(app, [] if app == "train" else ["run=somewhere"] if app != "study" else ["runs=somewhere"])
    )
    assert cfg["paths"]["output"] == "outputs/composed"


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
    assert leaves("ablation=no_sleep")["sleep"]["callback"] is None
    spikeless = leaves("ablation=no_spikes")
    assert spikeless["model"]["stack"].pop("neuron") == "gelu"
    assert spikeless == whole


def stack_of(*overrides: str) -> Any:
    torch.manual_seed(0)
    c = plain(compose("train", [*overrides, "model.stack.width=32"]))
    return build(c["model"]["stack"])


def test_rhythms_come_from_the_config() -> None:
    h = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))
    off = {f"++model.stack.oscillators.{name}=0" for name in ("theta", "gamma", "phase_coding")}
    silent = stack_of("model/stack=rhythmic", *off)(h).h
    assert torch.equal(silent, stack_of("model/stack=small")(h).h)
    for one, amplitude in {"theta": 0.1, "gamma": 0.1, "delta": 0.1, "phase_coding": 0.3}.items():
        others = off - {f"++model.stack.oscillators.{one}=0"}
        alone = stack_of("model/stack=rhythmic", *others, f"++model.stack.oscillators.{one}={amplitude}")
        assert not torch.equal(alone(h).h, silent), one


def test_each_modulator_comes_from_the_config_and_reaches_the_layers_that_it_names() -> None:
    h = torch.randn(2, 12, 32, generator=torch.Generator().manual_seed(1))
    plain_out = stack_of("model/stack=small")(h).h
    for one in ("da", "ne", "ach", "ht"):
        base = [f"model.stack.modulators.{name}=0.5" for name in ("da", "ne", "ach", "ht") if name != one]
        assert not torch.equal(stack_of("model/stack=modulated", *base)(h).h, plain_out), one
        cut_off = stack_of("model/stack=modulated", *base, f"++model.stack.injection.{one}=[]")
        assert torch.equal(cut_off(h).h, plain_out), one


def test_backends_first_spikes_and_silent_projections_come_from_the_config() -> None:
    told = stack_of("++model.stack.lif_backend=naive", "++model.stack.rwkv_backend=torch_recurrent")
    assert (told.explain("cpu")["lif"], told.explain("cpu")["rwkv"]) == ("naive", "torch_recurrent")
    chosen = stack_of("++model.stack.first_spike=true", "++model.stack.zero_output=true")
    assert chosen.blocks[0].attention.first_spike
    assert not chosen.blocks[0].time_mix.out.weight.any()
    with pytest.raises(UnknownBackendError, match=r"\+\+model\.stack\.lif_backend=auto$"):
        stack_of("++model.stack.lif_backend=magic")


RUNS = {
    "another neuron, another store": [
        "model/lora=all_15m",
        *("ablation=no_spikes", "storage=ram", "sleep=nrem_only", "logger=tensorboard", "debug=profile"),
        *("exam=none", "trainer.limit_train_batches=2", "trainer.limit_val_batches=1"),
        "callbacks=early_stopping",
    ],
    "pairs, no memory": [
        "model/lora=qv_2m",
        *("data=mqar", "ablation=no_memory", "logger=wandb", "debug=overfit", "trainer.max_epochs=2"),
        *("exam=none", "+data.rounds=1"),
    ],
    "local rules on a mixture": [
        "model/lora=qv_7m",
        *("data=mixture", "data.text.files=['{text}']", "+data.text.batch_size=2", "+data.recall.lanes=2"),
        *("phase=three_factor", "ablation=no_sleep", "exam=none", "model/stack=modulated"),
        *("+phase.signal=stdp", "+phase.homeostasis=0.2"),
        "+phase.bus._target_=t4dm.spiking.neuromodulator_bus.NeuromodulatorBus",
        "+phase.bus.coupling=[[0,0,0,0],[0,0,0.5,0],[0,0,0,0],[0,0,0,0]]",
    ],
    "text alone, with rhythms": [
        "model/lora=qv_15m",
        *("data=text", "data.files=['{text}']", "+data.batch_size=2", "exam=none", "model/stack=rhythmic"),
    ],
    "LoRA alone, a long exam cut short": [
        *("experiment=first_night_full", "ablation=no_stack", "data.lanes=2", "exam.arms=[frozen,lora]"),
    ],
    "a job of a rank search": [
        "model/lora=attention_15m",
        *("experiment=rank_search", "data.text.files=['{text}']", "+data.text.batch_size=2"),
        "data.recall.lanes=2",
    ],
    "text and recall": [
        *("experiment=text_and_recall", "data.text.files=['{text}']", "+data.text.batch_size=2"),
        *("data.recall.lanes=2", "data.recall.rounds=1", "exam.arms=[memory]"),
    ],
    "gradients through a working memory": [
        *("experiment=working_memory", "exam.arms=[memory]", "data.lanes=2"),
        "++phase.reconstruction_weight=0.1",
    ],
    "the first night": ["experiment=first_night", "exam.arms=[memory]", "data.lanes=2"],
}
DEFAULTS = {
    *(
        "model/tiny",
        "model/backbone/tiny",
        "model/lora/qv",
        "model/stack/small",
        "storage/t4dx",
        "sleep/nightly",
    ),
    *("phase/surrogate", "data/recall", "trainer/cpu", "callbacks/default", "logger/csv"),
    *("exam/recall", "ablation/none", "debug/fast", "experiment/smoke"),
}  # what `finished_run` runs


def test_every_file_that_needs_no_gpu_is_run_below() -> None:
    chosen = {override.replace("=", "/", 1) for run in RUNS.values() for override in run}
    assert set(EVERY) - NEEDS_A_GPU - NOT_A_CHOICE - DEFAULTS - {"storage/none", "sleep/none"} <= chosen


@pytest.mark.parametrize("name", RUNS)
def test_it_runs(name: str, tmp_path: Path, tiny: list[str]) -> None:
    from t4dm.apps.train import train

    text = tmp_path / "book.txt"
    text.write_text(
        "\n\n".join(f"Chapter {n}. " + "It was a quiet night by the sea. " * 160 for n in range(6))
    )
    chosen = [override.format(text=text) if "{text}" in override else override for override in RUNS[name]]
    keys = {override.lstrip("+").partition("=")[0] for override in chosen}
    base = [override for override in tiny if override.lstrip("+").partition("=")[0] not in keys]
    if {"data=text", "data=mixture", "experiment=rank_search", "experiment=text_and_recall"} & set(chosen):
        base.remove("+data.lanes=2")
    if {"ablation=no_memory", "ablation=no_sleep", "ablation=no_stack"} & set(chosen):
        base.remove("sleep.pressure.items_per_night=4")
    if "ablation=no_stack" in chosen:
        base = [override for override in base if "model.stack." not in override]
    if "exam=none" in chosen:
        base = [override for override in base if "exam." not in override]
    result = train(compose("train", [*base, *chosen], output=tmp_path / "run"))
    assert result.metrics["train/loss"] > 0
    assert (result.folder / "report.html").is_file()
    unstored = {"storage=ram", "ablation=no_memory", "ablation=no_stack"}
    assert (result.folder / "store").exists() == (not unstored & set(chosen))
    if "logger=tensorboard" in chosen:
        assert list(result.folder.rglob("events.out.tfevents.*"))
        assert (result.folder / "fit-profile.txt").is_file()
    if "logger=wandb" in chosen:
        file = next(result.folder.glob("wandb/offline-run-*/run-*.wandb"))
        until = time.monotonic() + 30  # a process of its own writes it, on a busy machine later
        while b"train/loss" not in file.read_bytes() and time.monotonic() < until:
            time.sleep(0.1)
        assert file.read_bytes().startswith(b":W&B")  # how `wandb sync` knows a run
        assert b"train/loss" in file.read_bytes()


def test_a_logger_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning.pytorch.loggers.wandb as module
    from lightning_utilities.core.imports import RequirementCache

    monkeypatch.setattr(module, "_WANDB_AVAILABLE", RequirementCache("wandb>=9999"))
    with pytest.raises(MissingExtra, match=r"wandb is not installed; run: pip install 't4dm\[wandb\]'"):
        build({"_target_": "lightning.pytorch.loggers.WandbLogger"})


def test_the_parts_that_errors_advise_exist() -> None:
    advised = [word for word in str(NothingToTrainError()).split() if "=" in word]
    assert len(advised) == 2
    for override in advised:
        check(compose("train", ["experiment=smoke", override]))
