"""How an app becomes a command: Hydra around it, every failure in one line, and in a file of its folder.

`app` decorates the main of an app, `guarded` runs one job of it, `run` runs the command. A job that fails in
a sweep leaves FAILED in its folder and the others run; `SweepTable` then shows all jobs and exits non-zero.
"""

from __future__ import annotations

import difflib
import inspect
import json
import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from t4dm import config
from t4dm.errors import JobFailedError, OverrideError, T4DMError

Task = Callable[[DictConfig], Any]


def app(name: str) -> Callable[[Task], Callable[[], None]]:
    """`hydra.main` on the shipped configs; also where Hydra wants to be told which targets to trust (1.4)."""
    trusts = "execution_whitelist" in inspect.signature(hydra.main).parameters
    extra: dict[str, Any] = {"execution_whitelist": config.TRUSTED} if trusts else {}
    main: Callable[[Task], Callable[[], None]] = hydra.main(
        version_base="1.3", config_path=str(config.config_dir()), config_name=name, **extra
    )
    return main


def guarded(task: Callable[[DictConfig], float | None], cfg: DictConfig) -> float | None:
    """Run one job; a failure leaves FAILED and one line. In a sweep it becomes NaN, and the other jobs run.

    Raises:
        SystemExit: this is the only job and it failed (1), or it was interrupted (130). Hydra would print a
            preamble for any other exception.
    """
    folder = Path(cfg.paths.output)
    try:
        return task(cfg)
    except (KeyboardInterrupt, SystemExit):
        go_on = f"; go on with: t4dm train resume={folder}" if "resume" in cfg else ""
        sys.stderr.write(f"\nInterrupted{go_on}\n")
        raise SystemExit(130) from None
    except Exception as error:
        failed = error if isinstance(error, T4DMError) else JobFailedError(error, str(folder))
        _leave_failed(folder, error)
        if HydraConfig.get().mode != RunMode.MULTIRUN:
            fail(failed)
        sys.stderr.write(f"t4dm: {failed}\n")
        return math.nan


def _leave_failed(folder: Path, error: BaseException) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "FAILED").exists():
            (folder / "FAILED").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        if not (folder / "overrides.yaml").exists():  # it failed before it was a run
            OmegaConf.save(HydraConfig.get().overrides.task, folder / "overrides.yaml")
    except OSError as full:  # the disk may be what failed: the line on the terminal is all that is left
        sys.stderr.write(f"t4dm: could not write {folder}/FAILED ({full.strerror})\n")


def run(main: Callable[[], None], name: str) -> None:
    """Run a decorated main; a user's mistake costs one line and exit code 1."""
    if "HYDRA_FULL_ERROR" in os.environ:
        main()
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra would print its own traceback and exit
    try:
        main()
    except T4DMError as error:
        fail(error)
    except (CompactHydraException, ValueError) as error:  # jobs raise neither: these come from composing
        fail(explain(error, name))


def fail(error: Exception) -> NoReturn:
    """One line on stderr, exit code 1."""
    sys.stderr.write(f"t4dm: {error}\n")
    raise SystemExit(1)


def explain(error: Exception, name: str) -> T4DMError:
    """What Hydra says in a paragraph, in a sentence that ends with the fix."""
    text = str(error)
    if "Config group override" in text:
        return OverrideError(
            "a group of configs takes a name", f"write key=value, for example: t4dm {name} data=recall"
        )
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, choice = str(error.missing_cfg_file).rpartition("/")
        return OverrideError(f"no {group} {choice!r}", f"choose one of: {', '.join(sorted(error.options))}")
    if isinstance(error, OverrideParseException):
        return OverrideError(
            f"cannot read the override {error.override!r}", "write key=value, and quote it: 'key=[1,2]'"
        )
    if match := re.search(r"An item is already at '([^']+)'", text):
        return OverrideError(f"{match[1]} is in the config already", f"without the plus: {match[1]}=<value>")
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(match[1], name)
    return OverrideError(" ".join(text.split("\n")[0].split()), f"see what there is: t4dm {name} --cfg job")


def unknown_key(key: str, name: str) -> OverrideError:
    """The error for an override of a key that the config does not hold, with the nearest one."""
    cfg = config.compose(name)
    groups = [path.name for path in config.config_dir().iterdir() if path.is_dir()]
    parent, _, last = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else None
    if isinstance(node, DictConfig) and "_target_" in node:
        target = config.locate(node["_target_"])
        if last in inspect.signature(target).parameters:
            return OverrideError(f"{key} is left at its default in the config", f"to set it: +{key}=<value>")
    keys = [*_keys(OmegaConf.to_container(cfg, resolve=False)), *groups]
    near = difflib.get_close_matches(key, keys, n=1, cutoff=0.6)
    fix = f"did you mean {near[0]}=<value>?" if near else f"see what there is: t4dm {name} --cfg job"
    return OverrideError(f"no setting {key!r} in {name}", fix)


def _keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        found += [f"{prefix}{key}", *_keys(value, f"{prefix}{key}.")]
    return found


class SweepTable(Callback):
    """After a sweep: one line per job, and exit code 1 where one failed."""

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Read the job folders under `hydra.sweep.dir`."""
        from rich.console import Console
        from rich.table import Table

        root = Path(str(config.hydra.sweep.dir))
        jobs = sorted(
            (path for path in root.iterdir() if path.name.isdigit()), key=lambda path: int(path.name)
        )
        table = Table("job", "overrides", "status", "seconds", title=str(root))
        for folder in jobs:
            info = _read(folder / "run.json")
            status = "failed" if (folder / "FAILED").exists() else info.get("status", "?")
            overrides = _read_lines(folder / "overrides.yaml")
            table.add_row(folder.name, overrides, status, str(info.get("seconds") or ""))
        Console().print(table)
        failed = [str(folder) for folder in jobs if (folder / "FAILED").exists()]
        if failed:
            sys.stderr.write(f"t4dm: {len(failed)} of {len(jobs)} jobs failed; see: cat {failed[0]}/FAILED\n")
            raise SystemExit(1)


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _read_lines(path: Path) -> str:
    return " ".join(OmegaConf.load(path)) if path.is_file() else ""
