"""The wheel: it holds what a run needs, and works from another folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from t4dm.apps import config_verbs

ROOT = Path(__file__).resolve().parents[1]
CHECK = """
import sys
from pathlib import Path
import t4dm
from t4dm.apps import config_verbs
from t4dm.backbone.load import TINY
from t4dm.config import check, compose, config_dir

site = Path(sys.argv[1])
assert Path(t4dm.__file__).is_relative_to(site), t4dm.__file__
assert config_dir() == site / "t4dm/_configs", config_dir()
assert TINY.is_relative_to(site), TINY
for name in config_verbs.names("experiment"):
    check(compose("train", [name.replace("/", "=", 1)]))
    print(name)
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built with the tools that are installed: no network."""
    out = tmp_path_factory.mktemp("dist")
    command = [
        sys.executable,
        "-m",
        "build",
        "--no-isolation",
        "--wheel",
        "--sdist",
        "--outdir",
        str(out),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return next(dist.glob("*.whl"))


def test_the_wheel_holds_code_configs_types_and_backbone(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    configs = {f"t4dm/_configs/{name}.yaml" for name in config_verbs.names() if not name.startswith("local/")}
    assert configs <= names
    assert {"t4dm/py.typed", "t4dm/cli.py", "t4dm/viz/report.html.j2"} <= names
    assert {
        f"t4dm/backbone/tiny/{name}" for name in ("config.json", "model.safetensors", "tokenizer.json")
    } <= names
    assert not [name for name in names if name.startswith(("tests/", "configs/", "outputs/", "experiments/"))]
    assert sum(path.stat().st_size for path in (ROOT / "t4dm/backbone/tiny").iterdir()) <= 10 * 2**20


def test_the_wheel_names_its_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = next(name for name in archive.namelist() if name.endswith("METADATA"))
        metadata = archive.read(info).decode()
        commands = archive.read(info.replace("METADATA", "entry_points.txt")).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: <3.14,>=3.11" in metadata
    assert "t4dm = t4dm.cli:main" in commands


def test_the_sdist_holds_what_the_wheel_is_made_of(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "LICENSE", "README.md", "configs/train.yaml", "tests/test_wheel.py"} <= names
    # what its own tests read
    assert {
        "experiments/tiny_backbone/ngram.py",
        "CONTRIBUTING.md",
        "mkdocs.yml",
        "docs/make_help.py",
    } <= names
    assert {"Makefile", ".ci/run"} <= names
    assert [name for name in names if name.startswith("outputs/")] == ["outputs/README.md"]


def test_every_experiment_composes_from_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHECK, str(site)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == config_verbs.names("experiment")
