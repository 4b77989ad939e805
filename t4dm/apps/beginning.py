"""`init_from=RUN`: a run that begins with what another one learnt, for example phase 2 after phase 1.

Weights and the writer's gate are taken over. Time, memories, the optimizer and the plan of training are the
new run's own: to go on with a run as it stood is `resume=RUN`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from t4dm.backbone.identity import check_stamp
from t4dm.errors import BeginningMismatchError, ModelMismatchError, RunFolderError
from t4dm.model.writer import MemoryWriter
from t4dm.persistence.recovery import newest_bundle
from t4dm.training.bundle_io import BundleIO
from t4dm.training.phase import Phase
from t4dm.training.run_record import read_config


class Beginning(NamedTuple):
    """The newest whole checkpoint of a run, read and not yet used."""

    folder: Path
    weights: Mapping[str, Tensor]
    callbacks: Mapping[str, Any]
    stamp: Mapping[str, Any]


def beginning(folder: Path) -> Beginning:
    """Read what the run in `folder` learnt.

    Raises:
        RunFolderError: no run, or no checkpoint in it.
    """
    read_config(folder)
    bundle, _ = newest_bundle(folder / "checkpoints")
    if bundle is None:
        raise RunFolderError(str(folder), "whole checkpoint in checkpoints/")
    saved = BundleIO().load_checkpoint(bundle.info.path)
    return Beginning(folder, saved["state_dict"], saved["callbacks"], saved["t4dm"])


def begin(phase: Phase, writer: MemoryWriter, found: Beginning) -> None:
    """Give a fresh phase the weights, and the writer its gate.

    Raises:
        BackboneMismatchError, LoraMismatchError: it was trained on another backbone, or with other LoRA.
        BeginningMismatchError: a tensor is missing, unknown, or of another shape.
    """
    check_stamp(found.stamp, phase.model.backbone, what=f"the run {found.folder}")
    try:
        phase.begin_with(found.weights)
    except ModelMismatchError as error:
        raise BeginningMismatchError(str(found.folder), error.difference) from error
    for name, state in found.callbacks.items():
        if name.startswith("MemoryWriteCallback"):
            writer.load_state_dict(state["writer"])
