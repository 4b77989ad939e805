"""Signals set a flag; the work happens on leaving."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from t4dm.persistence.shutdown import Shutdown


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_flag_and_nothing_else(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    done: list[str] = []
    with Shutdown() as shutdown:
        shutdown.on_exit(lambda: done.append("flushed"))
        os.kill(os.getpid(), number)
        assert shutdown.wait(5.0)
        assert shutdown.requested
        assert shutdown.signum == number
        assert done == []
    assert done == ["flushed"]
    assert signal.getsignal(number) is before


def test_a_second_signal_interrupts() -> None:
    done: list[str] = []
    shutdown = Shutdown()
    shutdown.on_exit(lambda: done.append("flushed"))

    def loop_that_does_not_look() -> None:
        with shutdown:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            done.append("never here")

    with pytest.raises(KeyboardInterrupt):
        loop_that_does_not_look()
    assert done == ["flushed"]


def _fail(text: str) -> None:
    raise OSError(text)


def _leave(shutdown: Shutdown) -> None:
    with shutdown:
        pass


def test_steps_run_in_order_even_after_an_error() -> None:
    done: list[int] = []
    shutdown = Shutdown()
    shutdown.on_exit(lambda: done.append(1))
    shutdown.on_exit(lambda: _fail("bundle"))
    shutdown.on_exit(lambda: done.append(3))
    with pytest.raises(OSError, match="bundle"):
        _leave(shutdown)
    assert done == [1, 3]


def test_two_failing_steps_are_both_reported() -> None:
    shutdown = Shutdown()
    shutdown.on_exit(lambda: _fail("first"))
    shutdown.on_exit(lambda: _fail("second"))
    with pytest.raises(ExceptionGroup) as caught:
        _leave(shutdown)
    assert [str(error) for error in caught.value.exceptions] == ["first", "second"]


def test_outside_the_main_thread_only_request_sets_the_flag() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with Shutdown() as shutdown:
            seen.append(signal.getsignal(signal.SIGTERM) is before)
            shutdown.request()
            seen.append(shutdown.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, True]
