"""A run that has trained, loaded again: its model, its gate, its store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from t4dm.apps.assembly import Parts, assemble
from t4dm.backbone.identity import check_stamp
from t4dm.config import build
from t4dm.errors import RunFolderError
from t4dm.persistence.bundle import BundleInfo
from t4dm.persistence.recovery import newest_bundle
from t4dm.training.bundle_io import BundleIO
from t4dm.training.run_record import read_config


class Finished(NamedTuple):
    """What a run learnt."""

    config: dict[str, Any]
    parts: Parts
    bundle: BundleInfo
    """Its newest checkpoint; the store in it stands at the same moment as the weights."""


def load(folder: Path, *, changes: Mapping[str, Any]) -> Finished:
    """Assemble the run's model and put back what it learnt.

    Args:
        folder: of the run.
        changes: top-level parts of its config that this command replaces.

    Raises:
        RunFolderError: no run, or no checkpoint in it.
        BackboneMismatchError: the run was trained on another backbone than its config now loads.
        LoraMismatchError: its LoRA has another rank, alpha or other targets.
        ModelMismatchError: the checkpoint does not fit the model of the run's config.
    """
    c = {**read_config(folder), **changes}
    bundle, _ = newest_bundle(folder / "checkpoints")
    if bundle is None:
        raise RunFolderError(str(folder), "whole checkpoint in checkpoints/")
    parts = assemble(c)
    saved = BundleIO().load_checkpoint(bundle.info.path)
    check_stamp(saved["t4dm"], parts.model.backbone, what=f"the checkpoint {bundle.info.path}")
    build(c["phase"], model=parts.model, memory=None, clock=None).load_state_dict(bundle.tensors)
    for name, state in saved["callbacks"].items():
        if name.startswith("MemoryWriteCallback"):
            parts.writer.load_state_dict(state["writer"])
    parts.model.eval()
    return Finished(c, parts, bundle.info)
