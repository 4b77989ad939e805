"""`t4dm trace`: one text from token to output through a trained model, as a file and on one page."""

from __future__ import annotations

import os
import tempfile
from datetime import datetime
from pathlib import Path

from t4dm.apps import finished
from t4dm.apps.assembly import port, streams
from t4dm.apps.run_store import newest_session, run_store
from t4dm.errors import FolderExistsError, SettingError
from t4dm.model.trace import save, trace
from t4dm.training.event_clock import EventClock
from t4dm.training.run_record import RunRecord, read_run
from t4dm.viz.trace_page import write_trace_page


def trace_run(
    run: Path,
    text: str,
    *,
    session: str | None = None,
    position: int | None = None,
    max_new_tokens: int = 8,
    budget_mib: float = 256.0,
    out: Path | None = None,
) -> Path:
    """Read and continue `text` with the model of a run; writes a run folder with trace.npz, trace.json and
    trace.html, and returns the path of the page. The run's memories are read, and written to, in a copy
    that is gone afterwards.

    Args:
        run: a run folder with a checkpoint.
        text: what is read.
        session: whose memories; the newest where None.
        position: the prompt token, from 0, that the lens looks at; the last one where None.
        max_new_tokens: of the answer.
        budget_mib: of the recorder, in MiB.
        out: a new folder; a dated one among the outputs by default.

    Raises:
        RunFolderError: `run` is no run folder with a checkpoint.
        NoPromptError, PromptTooLongError, PositionError, SettingError: see `trace`.
        FolderExistsError: `out` holds something.
    """
    folder = out or _dated()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(str(folder))
    if not budget_mib > 0.0:
        raise SettingError("budget", budget_mib, "a number of MiB above 0: --budget 256")
    text = text.encode("utf-8", errors="replace").decode()  # what a shell hands over may be no text
    trained, info, clock = finished.load(run, changes={}), read_run(run), EventClock()
    seed = int(info["seed"])
    with (
        tempfile.TemporaryDirectory(prefix="t4dm-") as room,
        run_store(trained, run=run, which="copy", copy_to=Path(room) / "store", clock=clock) as store,
    ):
        made = trace(
            trained.parts.model,
            text,
            memory=port(store, clock=clock, rng=streams(seed).memory),
            writer=trained.parts.writer,
            session=newest_session(store) if session is None else session,
            max_new_tokens=max_new_tokens,
            position=position,
            byte_budget=int(budget_mib * 2**20),
            event_time=clock() + 1.0,
        )
    typed = ["t4dm", "trace", str(run), text]
    typed += [] if position is None else ["--position", str(position)]
    settings = {"run": str(run), "text": text, "session": session, "position": position}
    with RunRecord.open(
        folder,
        config={**settings, "max_new_tokens": max_new_tokens, "budget_mib": budget_mib},
        seed=seed,
        app="trace",
        experiment="trace",
        parent=str(run),
        command=typed,
    ) as record:
        model = f"{trained.parts.model.backbone.name} as {info['experiment']} trained it"
        record.write_json("study.json", {"text": text, "model": model, "trained": True})
        save(made, folder)
        return write_trace_page(folder)


def _dated() -> Path:
    root = Path(os.environ.get("T4DM_OUTPUTS", "outputs"))
    return root / "trace" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
