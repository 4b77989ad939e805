"""`t4dm study block`: what happens inside each cortical block while a text is read, on one page."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from t4dm.apps import finished
from t4dm.apps.assembly import assemble, streams
from t4dm.config import compose, plain
from t4dm.errors import BlockChoiceError, FolderExistsError, SeedOfARunError
from t4dm.model import MemoryLM
from t4dm.model.calibration import calibrate
from t4dm.studies.block import look_inside, save
from t4dm.training.run_record import RunRecord, read_run
from t4dm.viz.block_page import write_block_page

SEED = 1234


def study_block(
    text: str,
    *,
    run: Path | None = None,
    blocks: str = "",
    seed: int | None = None,
    out: Path | None = None,
) -> Path:
    """Read `text`, write a run folder with inside.npz and block.html, and return the page's path.

    Args:
        text: what is read.
        run: a run folder whose trained model reads it; the shipped backbone with a fresh stack by default.
        blocks: which ones, such as `"0,3"`; all by default.
        seed: of the fresh stack's weights.
        out: a new folder for the study; a dated one among the outputs by default.

    Raises:
        NoTextError, TextTooLongError, BlockChoiceError, NoStackError: see `look_inside`.
        SeedOfARunError: both `run` and `seed`.
        RunFolderError: `run` is no run folder with a checkpoint.
        FolderExistsError: `out` holds something.
    """
    if run is not None and seed is not None:
        raise SeedOfARunError(str(run))
    folder = out or _dated()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(str(folder))
    text = text.encode("utf-8", errors="replace").decode()  # what a shell hands over may be no text
    model, seed, told = _trained(run) if run is not None else fresh_model(SEED if seed is None else seed)
    chosen = _chosen(blocks, count=0 if model.stack is None else len(model.stack.blocks))
    inside = look_inside(model, text, blocks=chosen)
    settings = {
        "text": text,
        "run": None if run is None else str(run),
        "blocks": list(inside.blocks),
        "seed": seed,
    }
    with RunRecord.open(
        folder,
        config=settings,
        seed=seed,
        app="study",
        experiment="block",
        parent=None if run is None else str(run),
        command=_command(text, run, blocks, seed),
    ) as record:
        record.write_json("study.json", {"text": text, "model": told, "trained": run is not None})
        save(inside, folder)
        return write_block_page(folder)


def fresh_model(seed: int) -> tuple[MemoryLM, int, str]:
    """The shipped backbone with a stack as training starts it: calibrated on the first batch.

    Without LoRA, which says nothing before training and takes long to import.
    """
    streams(seed)
    parts = assemble(plain(compose("train", ["model=tiny", "model.lora=null"])))
    batch = next(iter(parts.data.train_dataloader()))
    calibrate(parts.model, batch["input_ids"], attention_mask=batch["attention_mask"], reset=batch["reset"])
    name = parts.model.backbone.name
    return parts.model.eval(), seed, f"the shipped {name} backbone with a fresh stack"


def _trained(run: Path) -> tuple[MemoryLM, int, str]:
    """The model of a run, its seed, and what it is."""
    model = finished.load(run, changes={}).parts.model
    told = read_run(run)
    return model, int(told["seed"]), f"{model.backbone.name} as {told['experiment']} trained it"


def _chosen(typed: str, *, count: int) -> list[int] | None:
    if not typed:
        return None
    parts = [part.strip() for part in typed.split(",")]
    if count and not all(part.isdecimal() and int(part) < count for part in parts):
        raise BlockChoiceError(typed, count)
    return [int(part) for part in parts if part.isdecimal()]


def _command(text: str, run: Path | None, blocks: str, seed: int) -> list[str]:
    """What makes the same page again: where it is written to is no part of it."""
    origin = ["--seed", str(seed)] if run is None else ["--run", str(run)]
    return ["t4dm", "study", "block", text, *(["--blocks", blocks] if blocks else []), *origin]


def _dated() -> Path:
    root = Path(os.environ.get("T4DM_OUTPUTS", "outputs"))
    return root / "study" / "block" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
