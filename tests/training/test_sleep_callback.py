"""When the model sleeps, and what a night leaves behind."""

from __future__ import annotations

import csv

import pytest

from t4dm.sleep.nrem import Nrem
from t4dm.sleep.pressure import SleepPressure
from t4dm.training.callbacks.memory_write import MemoryWriteCallback
from t4dm.training.callbacks.progress import ProgressCallback
from t4dm.training.callbacks.sleep import SleepCallback
from t4dm.training.metrics_csv import MetricsCsv
from t4dm.training.surrogate_phase import SurrogatePhase


def fit(world, sleep, *, threshold: float = 0.0, **options):
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    writes = MemoryWriteCallback(writer=world.writer(threshold=threshold))
    trainer = world.trainer(writes, sleep, limit_val_batches=0, **options)
    trainer.fit(module, world.data)
    return trainer


def test_a_tired_model_sleeps_after_the_epoch(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=4), folder=world.folder)
    fit(world, sleep, max_epochs=2)
    assert sleep.nights == 2
    assert [world.read_night(i)["step"] for i in (0, 1)] == [3, 6]
    assert [world.read_night(i)["night"] for i in (0, 1)] == [1, 2]
    assert world.read_night(0)["items_before"] == 12
    assert world.read_night(1)["replayed"] > 0
    assert sleep.replayed == sum(world.read_night(i)["replayed"] for i in (0, 1))


def test_a_fresh_model_stays_awake(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=13), folder=world.folder)
    fit(world, sleep)
    assert sleep.nights == 0
    assert not (world.folder / "nights.jsonl").exists()


def test_what_a_closed_gate_kept_out_tires_nobody(make_world):
    world = make_world()
    pressure = SleepPressure(items_per_night=1)
    fit(world, SleepCallback(pressure=pressure, folder=world.folder), threshold=1.0)
    assert pressure.level == pytest.approx(0.17)


def test_nights_may_begin_after_a_batch(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=3), folder=world.folder, at="batch")
    fit(world, sleep)
    assert [world.read_night(i)["step"] for i in range(3)] == [1, 2, 3]


def test_a_night_is_a_row_of_the_metrics_and_a_line_above_the_bar(make_world, capsys):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder, phases=[Nrem()])
    log = MetricsCsv(folder=world.folder)
    writes = MemoryWriteCallback(writer=world.writer(threshold=0.0))
    module = SurrogatePhase(model=world.model, memory=world.memory, clock=world.clock)
    trainer = world.trainer(
        writes, sleep, ProgressCallback(), limit_val_batches=0, enable_progress_bar=True, logger=log
    )
    trainer.fit(module, world.data)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("night ")]
    assert len(lines) == 1
    night = world.read_night()
    assert lines[0].startswith(
        f"night 1 after step 3: replayed {night['replayed']}, 0 new prototypes, pruned 0; "
    )
    with log.path.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["sleep/seconds"] not in ("", "nan")]
    assert len(rows) == 1
    assert float(rows[0]["sleep/replayed_items"]) == night["replayed"]
    assert rows[0]["step"] == "3"
    assert set(sleep.metric_names) <= rows[0].keys()


def test_declared_metrics_are_those_that_a_night_logs(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder)
    log = MetricsCsv(folder=world.folder)
    fit(world, sleep, logger=log)
    assert sleep.nights == 1
    assert {name for name in log.columns if name.startswith("sleep/")} == set(sleep.metric_names)


def test_state_is_plain_and_needs_no_open_store(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder)
    fit(world, sleep)
    world.store.close()
    state = sleep.state_dict()
    other = SleepCallback(pressure=SleepPressure(items_per_night=2), folder=world.folder)
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert other.nights == 1
    assert (sleep.seconds > 0, other.seconds) == (True, 0.0)
    assert all(isinstance(value, int | float | dict) for value in state.values())


def test_a_model_without_memory_does_not_sleep(make_world):
    world = make_world()
    sleep = SleepCallback(pressure=SleepPressure(items_per_night=1), folder=world.folder)
    sleep.pressure.record(100)
    module = SurrogatePhase(model=world.model, memory=None)
    world.trainer(sleep, limit_val_batches=0).fit(module, world.data)
    assert sleep.nights == 0
