"""The only bridge from YAML to classes: find the configs, compose them, check them, build from them.

Constructors are the schema. `check` binds every `_target_` and tells all problems before anything heavy is
built; `build` is the only caller of `instantiate`; below `apps` nobody meets a DictConfig.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import inspect
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union

import hydra.utils
import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import InstantiationException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from t4dm.errors import ConfigError, MissingExtra, T4DMError

APPS = ("train", "evaluate", "generate", "sleep", "study")
TRUSTED = ["t4dm.*", "lightning.pytorch.*", "torch.*"]
OPTIONAL = ("wandb", "tensorboard")  # packages that bear the name of their extra
RESERVED = {"_target_", "_partial_", "_args_", "_recursive_", "_convert_"}


def config_dir() -> Path:
    """The folder of the shipped configs: inside the wheel, or at the root of a clone.

    Raises:
        ConfigError: neither holds train.yaml.
    """
    here = Path(__file__).resolve().parent
    for folder in (here / "_configs", here.parent / "configs"):
        if (folder / "train.yaml").is_file():
            return folder
    raise ConfigError([f"no configs beside {here}; install again: pip install --force-reinstall t4dm"])


def compose(
    app: str, overrides: Sequence[str] = (), *, output: Path | str = "outputs/composed"
) -> DictConfig:
    """Compose the config of `app` as the command line would, without starting Hydra's job.

    Args:
        app: one of `APPS`.
        overrides: as typed, for example `["experiment=smoke", "seed=2"]`.
        output: the run folder; stands in for Hydra's output directory.
    """
    GlobalHydra.instance().clear()
    with initialize_config_dir(config_dir=str(config_dir()), version_base="1.3"):
        return hydra_compose(app, overrides=[*overrides, f"paths.output='{output}'"])


def plain(cfg: DictConfig) -> dict[str, Any]:
    """The config as resolved plain dicts and lists."""
    return typing.cast("dict[str, Any]", OmegaConf.to_container(cfg, resolve=True, enum_to_str=True))


def chosen(nodes: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Those nodes that name a class: an experiment may have settings for what an ablation removed."""
    values = (nodes or {}).values()
    return [node for node in values if isinstance(node, Mapping) and "_target_" in node]


def build(node: Mapping[str, Any], **given: Any) -> Any:
    """Instantiate a plain `node`; nodes marked `_partial_`, at the top or below, are completed from `given`.

    Args:
        node: from `plain`, with a `_target_`.
        given: what only the app can give, such as the open store; each constructor gets those that it has a
            name for.

    Raises:
        T4DMError: what a constructor raised itself, unwrapped.
    """
    parts = {
        key: build(value, **given)
        for key, value in node.items()
        if isinstance(value, Mapping) and value.get("_partial_")
    }
    rest = {key: value for key, value in node.items() if key not in parts}
    make = _instantiate({**rest, "_partial_": True})
    takes = inspect.signature(make).parameters
    fitting = {
        key: value for key, value in given.items() if key in takes and key not in {*parts, *make.keywords}
    }
    try:
        return make(**parts, **fitting) if parts or node.get("_partial_") else make()
    except ModuleNotFoundError as error:
        raise _missing_extra(error) from None


def _instantiate(node: Mapping[str, Any]) -> functools.partial[Any]:
    whitelist = getattr(hydra.utils, "execution_whitelist", None)  # exists from hydra 1.4 on
    try:
        with whitelist(TRUSTED) if whitelist else contextlib.nullcontext():
            made: functools.partial[Any] = hydra.utils.instantiate(node, _convert_="all")
            return made
    except InstantiationException as error:
        if isinstance(error.__cause__, T4DMError | OSError):
            raise error.__cause__ from None
        raise


def _missing_extra(error: ModuleNotFoundError) -> Exception:
    """By the extra that brings the package, where it is one of ours."""
    named = (package for package in OPTIONAL if package in str(error))
    return next((MissingExtra(package, package) for package in named), error)


def check(cfg: DictConfig, *, whole: bool = False) -> None:
    """Bind every `_target_` of the config to its signature.

    Args:
        cfg: a config, or a part of one.
        whole: it is all of an app's config; then a key at its top that nothing reads is a problem too.

    Raises:
        ConfigError: with *all* problems: unknown, missing and mistyped arguments, unset values, broken
            interpolations.
    """
    # a value that many refer to is one problem
    problems = list(dict.fromkeys([*(_unread(cfg) if whole else ()), *_problems(cfg, "")]))
    if problems:
        raise ConfigError(problems)


def _unread(cfg: DictConfig) -> Iterator[str]:
    """Keys at the top that no app has, no group fills and no value refers to: a `+` lets any typo in."""
    folder = config_dir()
    known = {path.name for path in folder.iterdir() if path.is_dir()}
    for app in APPS:
        known |= set(yaml.safe_load((folder / f"{app}.yaml").read_text(encoding="utf-8")))
    text = OmegaConf.to_yaml(cfg, resolve=False)
    for key in map(str, cfg):
        if key not in known and f"${{{key}" not in text:
            yield f"{key}: nothing reads it; {_suggest(key, sorted(known - {'defaults', 'hydra'}))}"


def _problems(node: DictConfig | ListConfig, path: str) -> Iterator[str]:
    values: dict[str, Any] = {}
    keys = list(node) if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        where = f"{path}.{key}" if path else str(key)
        if OmegaConf.is_missing(node, key):
            yield f"{where} is not set; add {where}=<value>"
            values[str(key)] = None
            continue
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            yield f"{where} cannot be resolved ({str(error).splitlines()[0]}); set {where}=<value>"
            continue
        values[str(key)] = value
        if isinstance(value, DictConfig | ListConfig):
            yield from _problems(value, where)
    if isinstance(node, DictConfig) and "_target_" in values:
        origins = {key: _origin(node, key, path) for key in values}
        yield from _target_problems(values, path, origins)


def _origin(node: DictConfig, key: str, path: str) -> str:
    """Where a value is set: its own path, or that of the one it refers to as a whole."""
    raw = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[index,call-overload]
    found = re.fullmatch(r"\$\{([A-Za-z_][\w.]*)\}", raw) if isinstance(raw, str) else None
    return found[1] if found else f"{path}.{key}"


def _target_problems(values: Mapping[str, Any], path: str, origins: Mapping[str, str]) -> Iterator[str]:
    try:
        target = locate(str(values["_target_"]))
    except T4DMError as error:
        yield f"{path}._target_: {error}"
        return
    parameters = inspect.signature(target).parameters
    given = [key for key in values if key not in RESERVED]
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        for key in given:
            if key not in parameters:
                fix = _suggest(key, list(parameters))
                yield f"{path}.{key}: {_name(target)} has no argument {key!r}; {fix}"
    if not values.get("_partial_") and "_args_" not in values:
        for name, parameter in parameters.items():
            variadic = parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
            if parameter.default is parameter.empty and not variadic and name not in values:
                yield f"{path}.{name}: {_name(target)} needs it; add {path}.{name}=<value>"
    yield from _type_problems(target, {key: values[key] for key in given}, origins)


def _type_problems(
    target: Callable[..., Any], values: Mapping[str, Any], origins: Mapping[str, str]
) -> Iterator[str]:
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except (NameError, TypeError, AttributeError):  # names only type checkers import: nothing to compare with
        return
    for key, value in values.items():
        if key in hints and not _fits(value, hints[key]):
            wanted = _hint_name(hints[key])
            yield f"{origins[key]}={value!r} is no {wanted}; set {origins[key]}=<{wanted}>"


def _hint_name(hint: Any) -> str:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return " or ".join(
            "null" if part is type(None) else _hint_name(part) for part in typing.get_args(hint)
        )
    plain_name = None if typing.get_origin(hint) else getattr(hint, "__name__", None)
    return plain_name or str(hint).replace("typing.", "").replace("collections.abc.", "")


def _fits(value: Any, hint: Any) -> bool:
    """False only where a plain value certainly contradicts a plain hint."""
    origin = typing.get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    if isinstance(value, DictConfig | ListConfig):
        return hint not in (int, float, bool, str)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (bool, str):
        return isinstance(value, hint)
    return hint is not type(None) or value is None


def locate(target: str) -> Callable[..., Any]:
    """The callable that a `_target_` names.

    Raises:
        ConfigError: no such module or attribute, with the nearest name.
    """
    parts = target.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError as error:
            if error.name and not ".".join(parts[:cut]).startswith(error.name):
                raise ConfigError([f"{target} needs {error.name}; run: pip install {error.name}"]) from error
            continue
        except ImportError as error:
            raise ConfigError([f"{target} does not import ({error}); repair it, then check again"]) from error
        for name in parts[cut:]:
            if not hasattr(found, name):
                raise ConfigError([f"no {name!r} in {'.'.join(parts[:cut])}; {_suggest(name, dir(found))}"])
            found = getattr(found, name)
        if not callable(found):
            raise ConfigError([f"{target} cannot be called; name a class or a function"])
        return typing.cast("Callable[..., Any]", found)
    raise ConfigError([f"no module {target!r}; check its spelling"])


def _name(target: Any) -> str:
    return str(getattr(target, "__qualname__", target))


def _suggest(word: str, choices: Sequence[str]) -> str:
    public = [
        choice
        for choice in choices
        if not choice.startswith("_") and choice not in ("self", "args", "kwargs")
    ]
    near = difflib.get_close_matches(word, public, n=1, cutoff=0.5)
    if near:
        return f"did you mean {near[0]}?"
    return f"it takes {', '.join(public[:12])}" if public else "take it out"
