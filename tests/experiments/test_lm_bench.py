"""The speed rows of the language model, at a tiny size."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import experiments.lm_bench as package
    from experiments.lm_bench import __main__, groups, models, report  # noqa: F401

    return package


@pytest.mark.parametrize(("name", "parameters"), [("QWEN05", 494_032_768), ("QWEN3B", 3_085_938_688)])
def test_the_shapes_are_those_of_the_published_models(bench: ModuleType, name: str, parameters: int) -> None:
    """Parameters as their model cards count them: 0.49 B and 3.09 B."""
    from transformers import Qwen2ForCausalLM

    shape = getattr(bench.models, name)
    with torch.device("meta"):
        model = Qwen2ForCausalLM(bench.models.config(shape))
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert 0 < shape.insert_at < shape.layers


def test_the_stack_of_the_measured_model_is_at_work(bench: ModuleType) -> None:
    shape = bench.models.TINY
    model = bench.models.adapted(bench.models.backbone(shape, "cpu"), shape).eval()
    ids = torch.arange(2, 10)[None]
    with torch.no_grad():
        assert not torch.equal(model(ids).logits, model(ids, bypass=True).logits)


def test_linear_layers_become_nf4_and_the_answers_stay_near(bench: ModuleType) -> None:
    pytest.importorskip("bitsandbytes")
    from t4dm.backbone.tiny import tiny_qwen2

    torch.manual_seed(0)
    model = tiny_qwen2(vocab_size=256, hidden_size=64).requires_grad_(False)
    ids = torch.arange(2, 40)[None]
    before = model(ids).logits
    bench.models.quantised(model)
    kinds = {name.rpartition(".")[2]: type(m).__name__ for name, m in model.named_modules()}
    assert {kinds[name] for name in ("q_proj", "v_proj", "down_proj")} == {"Linear4bit"}
    assert kinds["lm_head"] == "Linear"
    after = model(ids).logits.float()
    assert 0 < float((after - before).norm() / before.norm()) < 0.3


def test_every_group_measures_both_arms_and_the_report_judges_them(bench: ModuleType, tmp_path: Path) -> None:
    options = [
        "--rounds",
        "1",
        "--calls",
        "1",
        "--stored",
        "60",
        "--work",
        str(tmp_path),
        "--docs",
        str(tmp_path),
    ]
    main = bench.__main__
    for group in main.GROUPS:
        parsed = main.parser().parse_args([*options, "--child", f"{group} cpu"])
        assert main.run(parsed) == 0
    (tmp_path / "benchmarks.json").write_text('{"rows": [{"bench": "get"}, {"bench": "lm_old"}]}')
    assert main.main([*options, "--report"]) == 0
    rows = json.loads((tmp_path / "benchmarks.json").read_text())["rows"]
    assert {row["bench"] for row in rows} == {
        *("get", "lm_step_tiny_b4_t64", "lm_decode_tiny", "lm_search_tiny_n60"),
    }
    systems = {(row["bench"].split("_tiny")[0], row["system"]): row for row in rows if row["bench"] != "get"}
    step = systems["lm_step", "t4dm"]
    assert step["against"] == "LoRA"
    assert step["ratio"] == pytest.approx(step["value"] / systems["lm_step", "LoRA"]["value"])
    assert step["extra_peak_bytes"] == step["peak_bytes"] - systems["lm_step", "LoRA"]["peak_bytes"]
    assert ("lm_step", "t4dm, reading") in systems
    judged = systems["lm_search", "t4dm"]
    assert (judged["target"], judged["met"]) == ("<= 1", judged["ratio"] <= 1)
    page = (tmp_path / "benchmarks_lm.md").read_text()
    assert "No GPU was there" in page or torch.cuda.is_available()
    assert "search hidden behind compute" in page


def test_a_target_names_what_it_judges(bench: ModuleType) -> None:
    report = bench.report
    wanted = {target.of for target in report.targets_of("lm_step_qwen25_3b_b4_t2048", "cuda")}
    assert wanted == {"time", "forward_peak_bytes", "peak_bytes", "extra_peak_bytes"}
    assert report.targets_of("lm_step_qwen25_3b_b4_t2048", "cpu") == []
    figure = {"rounds_p50": [2.0], "peak_bytes": 19 * 2**30}
    row = report._judged(wanted_target(report, "peak_bytes"), {"ratio": 1.1}, figure)
    assert (row["value_judged"], row["met"]) == (19.0, False)


def wanted_target(report: ModuleType, of: str):
    return next(target for target in report.TARGETS if target.of == of)


def test_an_unknown_group_is_refused(bench: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.__main__.main(["--only", "lm_fly"])
    assert "choose from lm_step, lm_decode, lm_search" in capsys.readouterr().err
    assert sys.modules["experiments.lm_bench"] is bench
