"""What `t4dm configs ls|show|check|copy` do."""

from __future__ import annotations

import shutil
from pathlib import Path

from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from t4dm import config
from t4dm.apps.job import explain
from t4dm.errors import ConfigError, FolderExistsError, T4DMError, UnknownConfigError


def names(group: str = "") -> list[str]:
    """Config names below a group, without `.yaml`, for example `experiment/first_night`."""
    root = config.config_dir()
    found = [path.relative_to(root).with_suffix("").as_posix() for path in sorted(root.rglob("*.yaml"))]
    return [name for name in found if not group or name == group or name.startswith(f"{group}/")]


def listing(group: str) -> str:
    """Names with the first comment line of each file.

    Raises:
        UnknownConfigError: no such group.
    """
    found = names(group)
    if not found:
        raise UnknownConfigError(group, sorted({name.partition("/")[0] for name in names()}))
    width = max(map(len, found))
    return "\n".join(f"{name:{width}}  {_first_line(name)}".rstrip() for name in found)


def _first_line(name: str) -> str:
    lines = (config.config_dir() / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    comments = [line[1:].strip() for line in lines if line.startswith("#") and "@package" not in line]
    return comments[0] if comments else ""


def shown(name: str, overrides: list[str]) -> str:
    """One file as it is written, or an app's config composed with `overrides`.

    Raises:
        UnknownConfigError: no such file.
    """
    name = name.removesuffix(".yaml")
    if name in config.APPS and overrides:
        return OmegaConf.to_yaml(composed(name, overrides), resolve=False).rstrip()
    if name not in names():
        raise UnknownConfigError(name, names(name.partition("/")[0]) or names())
    return (config.config_dir() / f"{name}.yaml").read_text(encoding="utf-8").rstrip()


def checked(app: str, overrides: list[str] | None) -> str:
    """Check one config, or every experiment where `overrides` is None.

    Raises:
        UnknownConfigError: no such app.
        ConfigError: all problems of all configs that were checked.
    """
    if app not in config.APPS:
        raise UnknownConfigError(app, list(config.APPS))
    experiments = [[name.replace("/", "=", 1)] for name in names("experiment")]
    todo = experiments if overrides is None else [overrides]
    problems = []
    for wanted in todo:
        cfg, found = composable(app, wanted)
        try:
            config.check(cfg, whole=True)
        except ConfigError as error:
            found += error.problems
        problems += [f"{' '.join(wanted)}: {problem}" for problem in found]
    if problems:
        raise ConfigError(problems)
    return "\n".join(f"{app} {' '.join(wanted)}: fits".replace(" :", ":") for wanted in todo)


def composed(app: str, overrides: list[str]) -> DictConfig:
    """`config.compose`, with Hydra's errors explained."""
    try:
        return config.compose(app, overrides)
    except CompactHydraException as error:
        raise explain(error, app) from error


def composable(app: str, overrides: list[str]) -> tuple[DictConfig, list[str]]:
    """What composes of the overrides, and one problem for each that does not."""
    try:
        return composed(app, overrides), []
    except T4DMError:
        groups = {path.relative_to(config.config_dir()).as_posix() for path in config.config_dir().rglob("*")}
        fits, problems = list[str](), list[str]()
        # a choice of a group first: it decides which keys there are
        for override in sorted(overrides, key=lambda typed: typed.partition("=")[0] not in groups):
            try:
                composed(app, [*fits, override])
                fits.append(override)
            except T4DMError as error:
                problems.append(str(error))
        return composed(app, fits), problems


def copied(folder: Path) -> str:
    """Copy every config to `folder`.

    Raises:
        FolderExistsError: there is something in it.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(str(folder))
    shutil.copytree(config.config_dir(), folder, dirs_exist_ok=True)
    return (
        f"{len(names())} configs in {folder}; use them: t4dm train --config-dir {folder} experiment=<yours>"
    )
