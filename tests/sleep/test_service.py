"""Sleep in a thread: the same cycle, only when due."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from t4dm.memory.memory import Memory
from t4dm.sleep.night import Night
from t4dm.sleep.nrem import Nrem
from t4dm.sleep.pressure import SleepPressure
from t4dm.sleep.service import SleepService

NOW = 1000.0


def _service(memory: Memory, pressure: SleepPressure, **options) -> tuple[SleepService, threading.Event]:
    slept = threading.Event()
    options = {"phases": [Nrem()], "on_report": lambda _: slept.set()} | options
    service = SleepService(
        memory,
        None,
        pressure=pressure,
        clock=lambda: NOW,
        rng=np.random.default_rng(0),
        poll=0.01,
        **options,
    )
    return service, slept


def test_it_sleeps_once_when_due_and_not_before(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("a"))
    service, slept = _service(memory, SleepPressure(items_per_night=10))
    with service:
        service.recorded(5)
        service.nudge()
        assert not slept.wait(0.1)
        service.recorded(6)
        service.nudge()
        assert slept.wait(10.0)
    assert [report.replayed for report in service.reports] == [1]
    assert memory.store.get("a").kappa == pytest.approx(0.15)  # type: ignore[union-attr]


def test_reading_and_writing_go_on_during_a_night(memory: Memory, make_item) -> None:
    """A phase that blocks until the main thread has read and written: were the store locked, both would
    wait.
    """
    entered, released = threading.Event(), threading.Event()

    class Dream:
        def decide(self, night: Night) -> None:
            entered.set()
            assert released.wait(10.0)

    memory.store.insert(make_item("a"))
    service, slept = _service(memory, SleepPressure(items_per_night=1), phases=[Dream(), Nrem()])
    with service:
        service.recorded(2)
        service.nudge()
        assert entered.wait(10.0)
        (name,) = memory.write(np.ones((1, 32)), ["written at night"], [1.0])
        assert memory.read(np.ones((1, 32)), k=1).ids == [[name]]
        released.set()
        assert slept.wait(10.0)
    assert memory.store.count() == 2
    assert memory.store.get(str(name)).kappa == 0.0  # type: ignore[union-attr]


def test_stopping_logs_accesses_and_flushes(memory: Memory, make_item) -> None:
    memory.store.insert(make_item("a"))
    service, _ = _service(memory, SleepPressure())
    service.start()
    memory.read(np.asarray([make_item("a").vector]), k=1)
    service.stop()
    assert memory.store.get("a").access_count == 1  # type: ignore[union-attr]
    assert memory.store.stats()["memtable_items"] == 0


def test_a_failed_night_is_raised_by_stop(memory: Memory, make_item) -> None:
    failed = threading.Event()

    class Nightmare:
        def decide(self, night: Night) -> None:
            failed.set()
            raise RuntimeError("nightmare")

    memory.store.insert(make_item("a"))
    service, _ = _service(memory, SleepPressure(items_per_night=1), phases=[Nightmare()])
    service.start()
    service.recorded(2)
    service.nudge()
    assert failed.wait(10.0)
    with pytest.raises(RuntimeError, match="nightmare"):
        service.stop()
    assert memory.store.count() == 1


def test_it_can_be_started_again(memory: Memory) -> None:
    service, _ = _service(memory, SleepPressure())
    for _ in range(2):
        assert service.start() is service.start()
        service.stop()
    assert service.reports == []
