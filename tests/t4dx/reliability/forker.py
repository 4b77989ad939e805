"""A warm parent of processes that are meant to die: it forks, waits, and says how the child ended.

A process of its own with one thread, because forking beside threads is unsafe; the engine is imported once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]
LIMIT = 120.0


class Forker:
    """Use as a context manager; `run` starts a child and waits, `start` and `wait` do it in two steps."""

    def __enter__(self) -> Forker:
        path = os.pathsep.join([str(HERE), str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "reliability.forker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(LIMIT)
        self._process.stdout.close()

    def run(self, call: str, *args: Any, kill_after: float | None = None) -> int:
        """The exit code of a child, negative for a signal; kill -9 after some seconds where told so."""
        return self.wait(self.start(call, *args), kill_after=kill_after)

    def start(self, call: str, *args: Any) -> int:
        """The pid of a child that calls `module:function`."""
        return int(self._ask({"call": call, "args": args}))

    def wait(self, pid: int, *, kill_after: float | None = None) -> int:
        """Wait for a child to end."""
        return int(self._ask({"wait": pid, "kill_after": kill_after}))

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())


def serve() -> None:
    """Orders on stdin, one line each; answers on stdout."""
    import_module("t4dm.t4dx")
    for line in sys.stdin:
        order = json.loads(line)
        answer = _wait(order) if "wait" in order else _start(order)
        print(json.dumps(answer), flush=True)


def _start(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(2, 1)
        module, _, name = order["call"].partition(":")
        code = int(getattr(import_module(module), name)(*order["args"]) or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _wait(order: dict[str, Any]) -> int:
    pid, until = order["wait"], time.monotonic() + (order["kill_after"] or LIMIT)
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.0005)


if __name__ == "__main__":
    serve()
