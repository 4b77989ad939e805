"""The speed rows of the cortical stack, at a tiny size and without the peers' packages."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = {"bench", "system", "metric", "value", "ratio", "target", "machine", "versions", "command"}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import experiments.spiking_bench as package
    from experiments.spiking_bench import (  # noqa: F401
        neurons,
        references,
        report,
        scans,
        sizes,
        stacks,
        stages,
        targets,
        timing,
    )

    return package


@pytest.fixture
def setting(bench: ModuleType) -> Any:
    return bench.timing.Setting("cpu", 1, 2, 2, 0.05)


def test_every_group_has_figures_for_every_system_that_is_here(bench: ModuleType, setting: Any) -> None:
    tiny = bench.sizes.TINY
    found = bench.neurons.lif(setting, tiny)
    assert set(found["figures"]) == {"lif_t4_d16", "lif_t8_d16"}
    for systems in found["figures"].values():
        assert systems.keys() >= {"t4dm", "t4dm, learned leaks", "eager loop", "eager loop that indexes"}
        assert all(entry["p50"] > 0 and entry["saved_bytes_per_token"] > 0 for entry in systems.values())
    for name, scan in (("attention_t8_k4", bench.scans.attention), ("rwkv_t8_k8", bench.scans.rwkv)):
        assert scan(setting, tiny)["figures"][name].keys() >= {"t4dm", "naive loop"}


def test_a_system_with_other_answers_loses_its_row(bench: ModuleType, setting: Any) -> None:
    """snnTorch's neuron in place of ours: another reset, other spikes."""
    timing, neurons, loops = bench.timing, bench.neurons, bench.references
    given = neurons.draw((2, 64, 32), "cpu")
    alpha = given.alpha

    def made(loop: Any) -> Any:
        return lambda: neurons._batch_first(given, lambda x: loop(x, alpha, 1.0, neurons.ATAN))

    systems = {"right": made(loops.indexing_loop), "wrong": made(loops.delayed_loop)}
    found = timing.race(systems, neurons.references(given), setting, tokens=128, steps=64, spiking=True)
    assert found["figures"].keys() == {"right"}
    (lost,) = found["missing"]
    assert lost["label"] == "wrong"
    assert "of the spikes differ" in lost["why"]


def test_the_right_spikes_with_another_gradient_lose_the_row_too(bench: ModuleType) -> None:
    timing, answer = bench.timing, bench.timing.Answer
    spikes, grad = torch.zeros(2, 50, 100), torch.randn(2, 50, 100)
    wanted = answer(spikes, (grad,))
    assert timing.disagreement(answer(spikes, (grad + 1e-7,)), wanted, spiking=True) is None
    assert "of the gradient differ" in timing.disagreement(
        answer(spikes, (1.01 * grad,)), wanted, spiking=True
    )


@pytest.mark.parametrize(("factor", "why"), [(1.0, None), (1.001, "output off by an RMS of 1.0e-03")])
def test_floats_agree_within_an_rms(bench: ModuleType, factor: float, why: str | None) -> None:
    out, grad = torch.randn(3, 4), torch.randn(3, 4)
    wanted = bench.timing.Answer(out, (grad,))
    found = bench.timing.Answer(factor * out, (grad,))
    assert bench.timing.disagreement(found, wanted, spiking=False) == why


def test_a_package_that_is_absent_costs_its_rows_only(
    bench: ModuleType, setting: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("spikingjelly", "spikingjelly.activation_based", "snntorch", "norse", "norse.torch"):
        monkeypatch.setitem(sys.modules, package, None)
    found = bench.neurons.lif(setting, bench.sizes.TINY._replace(steps=(4,)))
    lost = {entry["label"].split()[0] for entry in found["missing"]}
    assert lost == {"spikingjelly", "snntorch", "norse"}
    assert "t4dm" in found["figures"]["lif_t4_d16"]


def test_a_linear_scan_keeps_its_output_for_the_backward_and_nothing_twice(bench: ModuleType) -> None:
    """x * x of 1000 floats saves x, a leaf, and exp saves its 4000 bytes."""
    x = torch.randn(1000, requires_grad=True)
    system = bench.timing.System(lambda: (x * x).exp(), (x,), torch.ones(1000))
    assert bench.timing.saved_bytes(system) == 4000
    # out, then the gradient of x * x: one product per factor and their sum
    assert 8000 <= bench.timing.peak_bytes(system) <= 24000


def test_the_exponent_of_a_power_law_is_its_power(bench: ModuleType) -> None:
    steps = (512, 1024, 2048)
    slope, half = bench.timing.exponent(steps, [[3e-3 * step**1.25] * 3 for step in steps])
    assert slope == pytest.approx(1.25)
    assert half == pytest.approx(0.0, abs=1e-6)


def test_the_interval_of_an_exponent_is_that_of_least_squares(bench: ModuleType) -> None:
    """ln T = 0, 1, 2 and ln ms = 0, 1.3, 2: slope 1, residuals -.1, .2, -.1, error (.06 / 1 / 2)^1/2."""
    steps, milliseconds = (
        [1.0, 2.718281828459045, 7.38905609893065],
        [1.0, 3.669296667619244, 7.38905609893065],
    )
    slope, half = bench.timing.exponent(steps, [[ms] for ms in milliseconds])
    assert slope == pytest.approx(1.0)
    assert half == pytest.approx(bench.timing.student(1) * 0.17320508)


@pytest.mark.parametrize(("freedom", "quantile"), [(3, 3.182), (7, 2.365), (13, 2.160)])
def test_students_quantile_is_the_tabled_one(bench: ModuleType, freedom: int, quantile: float) -> None:
    assert bench.timing.student(freedom) == pytest.approx(quantile, rel=0.01)


def test_a_block_makes_four_lif_scans_and_the_count_leaves_no_trace(bench: ModuleType, setting: Any) -> None:
    from t4dm.spiking import neuron

    before = neuron.lif_trajectory
    found = bench.stacks.block(setting, bench.sizes.TINY)
    assert found["figures"]["lif_scans_per_block"]["t4dm"]["count"] == 4
    assert neuron.lif_trajectory is before


def test_the_state_of_a_stream_does_not_grow(bench: ModuleType, setting: Any) -> None:
    found = bench.stacks.stream(setting, bench.sizes.TINY)["figures"]
    sizes = found["stream_state_d32_n2"]["t4dm"]["bytes_after"]
    assert sizes.keys() == {"4", "8", "16"}
    assert len(set(sizes.values())) == 1
    assert found["stream_token_d32_n2"]["t4dm"]["calls"] == 2 * 3


def test_the_stages_and_the_rest_make_up_the_block(bench: ModuleType, setting: Any) -> None:
    found = {row["part"]: row for row in bench.stages.stages(setting, bench.sizes.TINY)["stages"]}
    assert found.keys() >= {*bench.stages.STAGES, "block", "stack", "rest of the block", "LIF, leaks learned"}
    rows = [
        {"part": "block", "forward_ms": 10.0, "backward_ms": 5.0},
        *({"part": name, "forward_ms": 1.0, "backward_ms": 1.0} for name in bench.stages.STAGES),
    ]
    rest = bench.stages.with_rest(rows)[-1]
    assert (rest["forward_ms"], rest["backward_ms"]) == (3.0, 0.0)


def entry(figures: dict[str, Any], device: str = "cpu") -> dict[str, Any]:
    return {
        "name": "group", "figures": figures, "missing": [], "others": 0.0, "machine": "m", "device": device,
        "threads": 1, "calibration": [], "versions": {}, "command": "make bench", "when": "2026-01-01",
    }  # fmt: skip


def times(*rounds: float) -> dict[str, Any]:
    return {"p50": rounds[0], "p99": 9.0, "rounds_p50": list(rounds), "rounds": len(rounds)}


def test_both_targets_of_the_neuron_are_judged_each_by_its_peer(bench: ModuleType) -> None:
    systems = {"t4dm": times(2.0, 2.2), "eager loop": times(10.0, 10.0), "spikingjelly": times(1.5, 1.5)}
    rows = bench.report.rows_of([entry({"lif_t512_d1024": systems})])
    ours = [row for row in rows if row["system"] == "t4dm"]
    assert [(row["against"], row["target"], row["met"]) for row in ours] == [
        ("eager loop", "<= 0.29", True),
        ("spikingjelly", "<= 1", False),
    ]
    assert ours[0]["ratio"] == pytest.approx(0.21)
    assert all(row["target"] is None for row in rows if row["system"] != "t4dm")


def test_the_gpu_has_targets_of_its_own(bench: ModuleType) -> None:
    systems = {"t4dm": times(1.0), "eager loop": times(10.0), "spikingjelly": times(2.0)}
    long, short = (
        bench.report.rows_of([entry({f"lif_t{steps}_d1024": systems}, "cuda")]) for steps in (2048, 512)
    )
    assert [(row["target"], row["met"]) for row in long if row["target"]] == [
        ("<= 0.05", False),
        ("<= 1", True),
    ]
    assert [row["target"] for row in short if row["target"]] == ["<= 1"]


@pytest.mark.parametrize(("exponent", "met"), [(0.94, False), (0.96, True), (1.05, True), (1.06, False)])
def test_linear_means_neither_steeper_nor_flatter(bench: ModuleType, exponent: float, met: bool) -> None:
    figure = {"exponent": exponent, "half_interval": 0.01, "points_ms": {"512": 1.0}}
    (row,) = bench.report.rows_of([entry({"curve_stack_d256": {"t4dm": figure}})])
    assert (row["value"], row["target"], row["met"]) == (exponent, ">= 0.95 and <= 1.05", met)


@pytest.mark.parametrize(("last", "met"), [(100, True), (101, False), (99, False)])
def test_a_state_that_changes_size_is_not_constant(bench: ModuleType, last: int, met: bool) -> None:
    figure = {"bytes_after": {"512": 100, "8192": last}}
    (row,) = bench.report.rows_of([entry({"stream_state_d256_n6": {"t4dm": figure}})])
    assert row["met"] is met


def test_without_the_peer_nothing_is_claimed(bench: ModuleType) -> None:
    rows = bench.report.rows_of([entry({"lif_t512_d1024": {"t4dm": times(1.0)}})])
    assert [(row["ratio"], row["met"]) for row in rows] == [(None, None), (None, None)]


def test_every_target_belongs_to_a_row_that_is_measured(bench: ModuleType, setting: Any) -> None:
    tiny, stacks = bench.sizes.TINY, bench.stacks
    made = [
        "lif_t2048_d1024",
        *stacks.block(setting, tiny)["figures"],
        *stacks.stream(setting, tiny)["figures"],
    ]
    made += [*stacks.curve(setting, tiny)["figures"], *stacks.kept_memory(setting, tiny)["figures"]]
    judged = {
        target for name in made for kind in ("cpu", "cuda") for target in bench.targets.targets_of(name, kind)
    }
    assert judged == set(bench.targets.TARGETS)


def test_a_bench_name_reads_as_words(bench: ModuleType) -> None:
    title = bench.targets.title
    assert title("lif_t512_d1024") == "LIF, T 512, D 1024"
    assert title("stack_b4_t2048_d1024_n6") == "stack, B 4, T 2048, D 1024, N 6"
    assert title("curve_stack_d256") == "cost against T: stack, D 256"


def test_a_run_writes_its_rows_beside_the_other_wings(
    bench: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from experiments.spiking_bench import __main__ as command

    monkeypatch.setattr(torch, "set_num_threads", lambda count: None)  # this process runs other tests too
    docs = tmp_path / "docs"
    docs.mkdir()
    other = {"bench": "get", "system": "t4dx os", "value": 1.0}
    (docs / "benchmarks.json").write_text(json.dumps({"rows": [other]}))
    run = ["--sizes", "tiny", "--rounds", "2", "--calls", "2", "--budget", "0.02", "--threads", "1"]
    run += ["--work", str(tmp_path / "work"), "--docs", str(docs)]
    for name in command.names():
        assert command.main([*run, "--child", f"{name} cpu 1"]) == 0
    assert command.main(run) == 0
    told = capsys.readouterr().out
    assert all(f"{name} cpu 1: stored" in told for name in command.names())
    rows = json.loads((docs / "benchmarks.json").read_text())["rows"]
    assert rows[0] == other
    assert all(row.keys() >= COLUMNS | {"device", "threads"} for row in rows[1:])
    assert all(row["value"] > 0 for row in rows[1:] if row["metric"] != "exponent")
    assert {row["bench"].split("_")[0] for row in rows[1:]} == {
        "lif", "attention", "rwkv", "block", "stack", "curve", "kept", "stream"
    }  # fmt: skip
    page = (docs / "benchmarks_spiking.md").read_text()
    for line in (
        "## Targets",
        "## Where the time of a block goes (CPU x 1)",
        "## Calibration",
        "No GPU was there",
    ):
        assert line in page
    assert command.main([*run, "--report"]) == 0
    assert json.loads((docs / "benchmarks.json").read_text())["rows"] == rows


def test_the_rows_of_the_other_tables_survive_byte_for_byte(bench: ModuleType, tmp_path: Path) -> None:
    from experiments.storage_bench.report import owns as of_the_store

    before = (ROOT / "docs" / "benchmarks.json").read_text()
    file = tmp_path / "docs" / "benchmarks.json"
    file.parent.mkdir()
    file.write_text(before)
    every = json.loads(before)["rows"]
    kept = [row for row in every if of_the_store(row) or row["bench"].startswith("lm_")]
    bench.report.write([entry({"lif_t512_d1024": {"t4dm": times(1.0)}})], file.parent)
    bench.report.write([], file.parent)
    assert file.read_text() == json.dumps({"rows": kept}, indent=1) + "\n"
    store = json.dumps({"rows": [row for row in kept if of_the_store(row)]}, indent=1)
    assert before.startswith(store[: -len("\n ]\n}")])


def test_the_picture_has_one_line_and_one_exponent_per_curve(bench: ModuleType, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from experiments.spiking_bench import plots

    points = {"exponent": 1.02, "half_interval": 0.03, "points_ms": {"512": 1.0, "1024": 2.0}}
    figures = {f"curve_{name}_d256": {"t4dm": points} for name in plots.STYLES}
    (name,) = plots.draw(bench.report.rows_of([entry(figures)]), tmp_path)
    assert name == "spiking_cost_cpu.svg"
    drawn = (tmp_path / name).read_text()
    assert drawn.count("time ~ T^1.020 ± 0.030") == len(plots.STYLES)


def test_one_command_runs_the_groups_of_all_wings(
    bench: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.bench import __main__ as command

    ran: list[tuple[str, str, int]] = []
    for wing, module in command.WINGS.items():
        monkeypatch.setattr(
            module, "run", lambda options, wing=wing: ran.append((wing, options.only, options.rounds)) or 0
        )
    assert command.main(["--only", "get,lif,block", "--rounds", "3"]) == 0
    assert ran == [("storage", "get", 3), ("spiking", "lif,block", 3)]
    ran.clear()
    assert command.main(["--n", "500", "--sizes", "tiny"]) == 0
    assert ran == [("storage", "", 5), ("spiking", "", 5), ("lm", "", 5)]
    ran.clear()
    assert command.main(["--only", "spiking"]) == 0
    assert ran == [("spiking", "", 5)]
    with pytest.raises(SystemExit):
        command.main(["--only", "liff"])
    assert "no row group liff; choose from storage, spiking, lm, load" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.main(["--only", "lif", "--n", "500"])
    assert "no option --n" in capsys.readouterr().err


def test_tiny_figures_are_not_published_unasked(bench: ModuleType, tmp_path: Path) -> None:
    from experiments.spiking_bench import __main__ as command

    def docs(*given: str) -> Path:
        return command.docs_of(command.parser().parse_args([*given, "--work", str(tmp_path)]))

    assert docs() == ROOT / "docs"
    assert docs("--sizes", "tiny") == tmp_path / "docs"
    assert docs("--sizes", "tiny", "--docs", "elsewhere") == Path("elsewhere")


def test_the_command_repeats_what_was_not_default(bench: ModuleType) -> None:
    from experiments.spiking_bench import __main__ as command

    options = command.parser().parse_args(["--rounds", "2", "--sizes", "tiny"])
    assert command.repeat(options, "lif") == "make bench ARGS='--only lif --again --rounds 2 --sizes tiny'"
