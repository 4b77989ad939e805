"""Going on with a run: its own config, but for the trainer, the loggers and what the machine does."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as compose_here
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from t4dm import config
from t4dm.errors import ResumeMismatchError, RunFolderError
from t4dm.training.run_record import changed, read_config

OPEN = ("trainer", "logger", "keep_freed_memory")
ITS_OWN = ("paths", "resume")
HERE = "<here>"


def resumed(folder: Path, typed: Sequence[str], *, output: str) -> tuple[dict[str, Any], list[str]]:
    """The config and the overrides with which a run goes on.

    What was typed is held against the run: its effect is the difference between the run's overrides composed
    with it and without it. So a default that has changed since does not count as a change of the run.

    Args:
        folder: of the run that is continued.
        typed: overrides of this command.
        output: folder of the new run.

    Raises:
        RunFolderError: `folder` holds no run.
        ResumeMismatchError: the overrides change more than what is `OPEN`.
    """
    run = read_config(folder)
    before = _overrides(folder)
    added = [override for override in typed if override.lstrip("+").partition("=")[0] != "resume"]
    old, new = (_compose(overrides) for overrides in (before, [*before, *added]))
    refused = {}
    for path, (was, typed_value) in changed(_shared(old), _shared(new)).items():
        here = _at(run, path)
        if path.partition(".")[0] not in OPEN and typed_value != here:
            refused[path] = (here if here is not None else was, typed_value)
    if refused:
        raise ResumeMismatchError(str(folder), refused)
    merged = copy.deepcopy(run)
    for part in OPEN:
        if old[part] != new[part]:
            merged[part] = new[part]
    return {**_moved(merged, run["paths"]["output"], output), "resume": str(folder)}, [*before, *added]


def filed_under(arguments: Sequence[str]) -> list[str]:
    """The override that files a resumed run with its experiment; none for other runs."""
    typed = dict(argument.partition("=")[::2] for argument in arguments)
    folder = Path(typed.get("resume", ""))
    if "resume" not in typed or "name" in typed:
        return []
    try:
        return [f"name='{read_config(folder)['name']}'"]
    except RunFolderError:  # the command itself says so
        return []


def _compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Under Hydra by its own loader, so that --config-dir counts; else from the shipped configs."""
    if GlobalHydra.instance().is_initialized():
        cfg = compose_here("train", overrides=[*overrides, f"paths.output='{HERE}'"])
    else:
        cfg = config.compose("train", overrides, output=HERE)
    return config.plain(cfg)


def _overrides(folder: Path) -> list[str]:
    file = folder / "overrides.yaml"
    if not file.is_file():
        raise RunFolderError(str(folder), "overrides.yaml")
    return [str(override) for override in yaml.safe_load(file.read_text(encoding="utf-8")) or []]


def _shared(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in cfg.items() if key not in ITS_OWN}


def _at(cfg: Mapping[str, Any], path: str) -> Any:
    return OmegaConf.select(OmegaConf.create(dict(cfg)), path)


def _moved(node: Any, old: str, new: str) -> Any:
    """The same tree with every path under `old` moved under `new`: store, loggers, profiler."""
    if isinstance(node, Mapping):
        return {key: _moved(value, old, new) for key, value in node.items()}
    if isinstance(node, list):
        return [_moved(value, old, new) for value in node]
    if isinstance(node, str):
        for root in (old, HERE):
            if node == root or node.startswith(f"{root}/"):
                return new + node.removeprefix(root)
    return node
