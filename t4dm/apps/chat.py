"""`t4dm chat`: talk to a trained model, and see what it recalls and what it writes down."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, final

import torch

from t4dm.apps import finished
from t4dm.apps.assembly import port, streams
from t4dm.apps.recall_text import ago, hit_line, offered_line, why_lines
from t4dm.apps.run_store import run_store
from t4dm.errors import FolderExistsError, T4DMError
from t4dm.memory.memory import Memory, Recall
from t4dm.model import MemoryLM
from t4dm.model.conversation import Conversation
from t4dm.model.generate import generate_batch, positions, recall_rows
from t4dm.model.hearing import remember
from t4dm.model.hits import hits
from t4dm.model.sampling import Sampler
from t4dm.model.writer import MemoryWriter
from t4dm.persistence.shutdown import Shutdown
from t4dm.t4dx import Filter
from t4dm.training.event_clock import EventClock
from t4dm.training.run_record import RunRecord

HELP = """\
/memory [WORDS]  the newest memories, or those that WORDS find
/forget ID       remove a memory; the beginning of its id will do
/why             what the last answer read in memory, head by head
/help            this
/quit            leave (Ctrl-D too); Ctrl-C stops an answer"""
SHOWN = 10
LONGEST_QUERY = 64
LONGEST_CONTEXT = 2048


def chat(
    run: Path,
    *,
    session: str = "chat",
    store: str = "copy",
    write: bool = True,
    said: bool = False,
    context: int | None = None,
    max_new_tokens: int = 64,
    stop: Iterable[str] = (),
    sampler: Sampler,
    seed: int = 1234,
    out: Path | None = None,
    lines: Iterable[str] | None = None,
    now: Callable[[], float] = time.monotonic,
) -> Path:
    """Answer lines until they end; returns the run folder with transcript.jsonl.

    Args:
        run: a run folder with a checkpoint.
        session: whose memories are recalled and written.
        store: `"copy"` of the checkpoint's, `"run"` for the run's own, or a store's folder.
        write: offer what was read and said to the write gate.
        said: offer the model's own words too; a small model makes facts up, and remembers them.
        context: tokens of earlier turns that the model sees again; without a chat template 0 by default, so
            that the memory alone remembers.
        max_new_tokens: of an answer.
        stop: texts that end an answer.
        sampler: how a token is chosen.
        seed: of the answers and of the ids of what is written.
        out: a new folder; a dated one among the outputs by default.
        lines: what is said; the terminal's or the pipe's by default.
        now: seconds; tells how much later a turn is than the one before.

    Raises:
        RunFolderError: no run with a checkpoint.
        StoreLockedError, NoStoreError, StoreDimensionError: see `run_store`.
    """
    folder = out or _dated()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FolderExistsError(str(folder))
    trained, rngs, clock = finished.load(run, changes={}), streams(seed), EventClock()
    model = trained.parts.model
    settings = {"run": str(run), "session": session, "store": store, "write": write, "said": said}
    with (
        run_store(trained, run=run, which=store, copy_to=folder / "store", clock=clock) as opened,
        RunRecord.open(
            folder,
            config={**settings, "seed": seed},
            seed=seed,
            app="chat",
            experiment="chat",
            parent=str(run),
        ),
        (folder / "transcript.jsonl").open("w", encoding="utf-8") as transcript,
    ):
        talk = Chat(
            model,
            port(opened, clock=clock, rng=rngs.memory),
            trained.parts.writer if write else None,
            session=session,
            said=said,
            conversation=Conversation(
                model.backbone.tokenizer, context=_context(model) if context is None else context
            ),
            max_new_tokens=max_new_tokens,
            stop=tuple(stop),
            sampler=sampler,
            generator=torch.Generator().manual_seed(seed),
            clock=clock,
            now=now,
            say=_say,
        )
        _say(f"{model.backbone.name}, memories of session {session!r}: {talk.count()}. /help tells more.\n")
        for line in typed() if lines is None else lines:
            if line.strip() == "/quit":
                break
            if row := talk.take(line.strip()):
                transcript.write(json.dumps(row, ensure_ascii=False) + "\n")
                transcript.flush()
    return folder


@final
class Chat:
    """One conversation: lines in, text out through `say`; every turn is in the store before the next."""

    def __init__(
        self,
        model: MemoryLM,
        memory: Memory | None,
        writer: MemoryWriter | None,
        *,
        session: str,
        said: bool,
        conversation: Conversation,
        max_new_tokens: int,
        stop: tuple[str, ...],
        sampler: Sampler,
        generator: torch.Generator,
        clock: EventClock,
        now: Callable[[], float],
        say: Callable[[str], None],
    ) -> None:
        self._model, self._memory, self._writer, self._session = model, memory, writer, session
        self._said = said
        self._conversation, self._most, self._stop = conversation, max_new_tokens, stop or conversation.stop
        self._sampler, self._generator, self._clock, self._say = sampler, generator, clock, say
        self._now, self._start, self._latest = now, now(), clock()
        self._last: tuple[list[int], list[int], Recall | None] | None = None
        """Query and prompt of the last answer, and what was recalled for it."""

    def take(self, line: str) -> dict[str, Any] | None:
        """A command, or a line to answer; what a transcript keeps of the turn. A mistake is one line."""
        if not line:
            return None
        command, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self._say(f"{HELP}\n"),
            "/memory": self._show,
            "/forget": self._forget,
            "/why": self._why,
        }
        try:
            if line.startswith("/"):
                commands.get(command, self._unknown)(rest.strip())
                return None
            return self._turn(line)
        except T4DMError as error:
            self._say(f"t4dm: {error}\n")
            return None

    def count(self) -> int:
        """Memories of this session."""
        if self._memory is None:
            return 0
        return sum(1 for _ in self._memory.store.scan(Filter(session=self._session)))

    def _turn(self, line: str) -> dict[str, Any]:
        self._clock.advance(self._latest + 1.0 + self._now() - self._start)
        asked = self._conversation.line_ids(line)
        query, prompt = asked[-LONGEST_QUERY:], self._conversation.prompt(line)
        recalls: list[Recall] = []
        answer, ids, stopped = "", [], False
        with Shutdown(signals=(signal.SIGINT,)) as interrupt:
            pieces = generate_batch(
                self._model,
                [prompt],
                max_new_tokens=self._most,
                memory=self._memory,
                sessions=[self._session],
                queries=[query],
                sampler=self._sampler,
                generators=[self._generator],
                stop=self._stop,
                on_recall=lambda _, recall: self._recalled(recall, recalls),
            )
            for piece in pieces:
                ids += [] if piece.end == "end" else [piece.token]
                answer += piece.text
                self._say(piece.text)
                if interrupt.requested and not piece.end:
                    stopped = True
                    break
            self._say(f"{' [stopped]' if stopped else ''}\n")
            self._last = (query, prompt, recalls[0] if recalls else None)
            offered = self._write([*asked, *(ids if self._said else [])], recalls)
        self._conversation.add(line, answer, ids)
        return {
            "line": line,
            "answer": answer,
            "stopped": stopped,
            "recalled": [hit._asdict() for recall in recalls for hit in hits(recall)],
            "offered": offered,
        }

    def _recalled(self, recall: Recall, recalls: list[Recall]) -> None:
        recalls.append(recall)
        for hit in hits(recall):
            self._say(f"  recalled {hit_line(hit)}\n")

    def _write(self, ids: list[int], recalls: list[Recall]) -> list[dict[str, Any]]:
        if self._memory is None:
            return []
        self._memory.flush_accesses()
        if self._writer is None:
            return []
        offered = remember(
            self._model,
            self._memory,
            self._writer,
            ids[: positions(self._model)],
            session=self._session,
            event_time=self._clock(),
            recall=recalls[0] if recalls else None,
        )
        for each in offered:
            self._say(f"  {offered_line(each)}\n")
        return [each._asdict() for each in offered]

    def _show(self, words: str) -> None:
        if self._memory is None:
            self._say("this model has no memory\n")
        elif words:
            keys = self._model.keys(torch.tensor([self._conversation.line_ids(words)]), [(0, 0, 10**6)])
            found = self._memory.read(keys, k=SHOWN, sessions=[self._session], count=False)
            for hit in hits(found):
                self._say(f"  {hit_line(hit)}\n")
        else:
            items = list(
                self._memory.store.scan(Filter(session=self._session), limit=SHOWN, order="-event_time")
            )
            for item in items:
                age = ago(self._clock() - item.event_time)
                self._say(f"  {item.id[:8]}  {age}, kappa {item.kappa:.2f}: {item.content}\n")
            self._say("" if items else "  nothing yet\n")

    def _forget(self, name: str) -> None:
        items = [] if self._memory is None else self._memory.store.scan(Filter(session=self._session))
        found = [item for item in items if name and item.id.startswith(name)]
        if len(found) != 1 or self._memory is None:
            how = "no memory" if not found else f"{len(found)} memories"
            self._say(f"{how} of this session begin with {name!r}; see ids: /memory\n")
            return
        with Shutdown(signals=(signal.SIGINT,)):
            self._memory.store.delete(found[0].id)
        self._say(f"  forgot {found[0].id[:8]}: {found[0].content}\n")

    def _why(self, _: str) -> None:
        if self._last is None or self._model.stack is None:
            self._say("nothing was answered yet\n" if self._last is None else "this model has no stack\n")
            return
        query, prompt, recall = self._last
        if recall is None or not bool(recall.mask.any()):
            self._say("  nothing was recalled\n")
            return
        for line in why_lines(self._model, prompt, recall, recall_rows(self._model, recall, [query])):
            self._say(f"  {line}\n")

    def _unknown(self, _: str) -> None:
        self._say("no such command; see /help\n")


def typed() -> Iterator[str]:
    """Lines of the terminal, or of a pipe, shown again so that the transcript can be read. Ctrl-C at an empty
    prompt changes nothing; the end of the input (Ctrl-D) ends it.
    """
    interactive = sys.stdin.isatty()
    if interactive:
        import readline  # noqa: F401  # arrow keys and a history for input()
    while True:
        try:
            line = input("> ") if interactive else sys.stdin.readline()
        except KeyboardInterrupt:
            _say("\n(Ctrl-D or /quit leaves)\n")
            continue
        except EOFError:
            _say("\n")
            return
        if not interactive:
            if not line:
                return
            _say(f"> {line.rstrip()}\n")
        yield line


def _say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _context(model: MemoryLM) -> int:
    has = getattr(model.backbone.tokenizer, "chat_template", None) is not None
    return min(LONGEST_CONTEXT, positions(model) // 2) if has else 0


def _dated() -> Path:
    root = Path(os.environ.get("T4DM_OUTPUTS", "outputs"))
    return root / "chat" / datetime.now().strftime("%Y-%m-%d_%H-%M-%S-%f")
