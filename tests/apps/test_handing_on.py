"""`t4dm export` and `t4dm merge`: what a run learnt comes back elsewhere, to the last bit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from t4dm.apps import finished
from t4dm.apps.exported import load_export
from t4dm.apps.handing_on import export
from t4dm.apps.train import RunResult, train
from t4dm.backbone.load import TINY, load_backbone
from t4dm.config import compose
from t4dm.errors import BackboneMismatchError, BundleFormatError, ExportBrokenError, LoraMismatchError

IDS = torch.arange(2, 66).reshape(2, 32)
Command = Callable[..., tuple[int, str, str]]

LOAD = """
import sys
from pathlib import Path
import numpy as np, torch
from t4dm.apps.exported import load_export
exported = load_export(Path(sys.argv[1]))
with np.load(sys.argv[2]) as told, torch.no_grad():
    ids = torch.from_numpy(told["ids"])
    assert np.array_equal(exported.model(ids).logits.numpy(), told["logits"]), "logits"
    keys = exported.model.keys(ids, [(0, 0, 32), (1, 3, 9)])
    assert np.array_equal(keys, told["keys"]), "keys"
assert exported.writer.gate.state_dict()["seen"] == int(sys.argv[3]), "gate"
"""


@pytest.fixture(scope="module")
def folder(finished_run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(finished_run.folder, tmp_path_factory.mktemp("export") / "my_model")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_fresh_process_loads_an_export_to_the_same_bits(
    finished_run: RunResult, folder: Path, tmp_path: Path
) -> None:
    trained = finished.load(finished_run.folder, changes={}).parts
    with torch.no_grad():
        logits = trained.model(IDS).logits
        bare = load_backbone("tiny").model(input_ids=IDS).logits
    assert not torch.equal(logits, bare)  # it learnt something
    keys = trained.model.keys(IDS, [(0, 0, 32), (1, 3, 9)])
    np.savez(tmp_path / "told.npz", ids=IDS.numpy(), logits=logits.numpy(), keys=keys)
    seen = trained.writer.gate.state_dict()["seen"]
    arguments = [str(folder), str(tmp_path / "told.npz"), str(seen)]
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_export_is_small_whole_and_names_no_path_of_this_machine(folder: Path) -> None:
    files = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert files == [
        "README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "config.yaml",
        "export.json", "keys.safetensors", "stack.safetensors",
    ]  # fmt: skip
    for name in files:
        if not name.endswith(".safetensors"):
            assert str(folder.parent) not in (folder / name).read_text()
            assert str(TINY) not in (folder / name).read_text()
    assert not any("language_model" in name for name in load_file(folder / "stack.safetensors"))


def test_two_exports_of_a_run_are_the_same_bytes(
    finished_run: RunResult, folder: Path, tmp_path: Path
) -> None:
    again = export(finished_run.folder, tmp_path / folder.name)
    for file in (p for p in folder.rglob("*") if p.is_file()):
        assert (again / file.relative_to(folder)).read_bytes() == file.read_bytes(), file.name


def test_the_card_says_base_parameters_data_metrics_and_licence(
    finished_run: RunResult, folder: Path
) -> None:
    card = (folder / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert head["license"] == "apache-2.0"
    model = finished.load(finished_run.folder, changes={}).parts.model
    learns = sum(p.numel() for _, p in model.trainable_named_parameters())
    assert f"| trainable parameters | {learns:,} (LoRA" in card
    assert "| LoRA | rank 16, alpha 32, on q_proj, v_proj |" in card
    assert "| data | RecallDataModule, RecallTask |" in card
    losses = finished_run.summary["losses"]
    assert f"| loss, train | {losses['train']:.3f} | nats |" in card
    assert "recall, memory, 1 windows back" in card


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        ("stack.safetensors", lambda file: file.unlink(), "stack.safetensors is missing"),
        ("config.yaml", lambda file: file.write_text("model: {}\n"), "config.yaml has been altered"),
        ("export.json", lambda file: file.write_text("{"), "export.json cannot be read"),
        ("export.json", lambda file: file.unlink(), "export.json cannot be read"),
    ],
)
def test_a_broken_export_is_one_line(
    copy: Path, name: str, damage: Callable[[Path], None], message: str
) -> None:
    damage(copy / name)
    with pytest.raises(ExportBrokenError) as caught:
        load_export(copy)
    assert str(caught.value) == f"{copy} is no whole export: {message}; write it anew: t4dm export RUN {copy}"


def test_one_flipped_bit_of_the_stack_is_found(copy: Path) -> None:
    tensors = load_file(copy / "stack.safetensors")
    tensors["exit.gamma"][0] += 1.0
    save_file(tensors, copy / "stack.safetensors")
    with pytest.raises(ExportBrokenError, match=r"stack.safetensors has been altered"):
        load_export(copy)


def test_the_card_may_be_edited(copy: Path) -> None:
    (copy / "README.md").write_text("my words")
    assert load_export(copy).model.insert_at == 2


def test_an_export_of_a_newer_version_says_so(copy: Path) -> None:
    index = json.loads((copy / "export.json").read_text())
    (copy / "export.json").write_text(json.dumps({**index, "format": 99}))
    with pytest.raises(BundleFormatError, match=r"has format 99, .* pip install -U t4dm$"):
        load_export(copy)


def test_the_backbone_of_an_export_may_be_loaded_otherwise_but_not_be_another(
    folder: Path, tmp_path: Path
) -> None:
    four_bits = load_export(folder, quantize="nf4").model
    with torch.no_grad():
        assert not torch.equal(four_bits(IDS).logits, load_export(folder).model(IDS).logits)
    with pytest.raises(BackboneMismatchError, match=r"^the export .* was trained on tiny \(qwen2, 4 layers"):
        load_export(folder, name=str(another(tmp_path)))


def another(folder: Path) -> Path:
    """A backbone of the tiny one's shape, with one other weight."""
    backbone = load_backbone("tiny")
    with torch.no_grad():
        backbone.decoder.embed_tokens.weight[0, 0] += 1.0
    backbone.model.save_pretrained(folder / "another")
    backbone.tokenizer.save_pretrained(folder / "another")
    return folder / "another"


def changed(run: Path, tmp_path: Path, **model: object) -> Path:
    """A copy of a run whose config was edited."""
    copy = Path(shutil.copytree(run, tmp_path / "run"))
    config = yaml.safe_load((copy / "config.yaml").read_text())
    for part, changes in model.items():
        config["model"][part].update(changes)
    (copy / "config.yaml").write_text(yaml.safe_dump(config))
    return copy


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 8, "alpha": 32}, r"has rank 16, the model's has 8; set model.lora.rank=16$"),
        ({"alpha": 5}, r"has alpha 32, the model's has 5; set model.lora.alpha=32$"),
        ({"targets": ["q_proj"]}, r"has targets \[q_proj,v_proj\], .*model.lora.targets=\[q_proj,v_proj\]$"),
    ],
)
def test_a_run_whose_config_asks_for_another_lora_is_refused_in_one_line(
    finished_run: RunResult, tmp_path: Path, lora: dict[str, object], message: str
) -> None:
    with pytest.raises(LoraMismatchError, match=message):
        finished.load(changed(finished_run.folder, tmp_path, lora=lora), changes={})


def test_a_run_whose_config_names_another_backbone_is_refused_in_one_line(
    finished_run: RunResult, tmp_path: Path
) -> None:
    run = changed(finished_run.folder, tmp_path, backbone={"name": str(another(tmp_path))})
    with pytest.raises(BackboneMismatchError) as caught:
        finished.load(run, changes={})
    assert re.fullmatch(
        r"the checkpoint \S+ was trained on tiny \(qwen2, 4 layers of 128, weights \w{16}\), "
        r"not on \S+/another \(qwen2, 4 layers of 128, weights \w{16}\); set model.backbone.name=tiny",
        str(caught.value),
    )


def test_the_commands_write_say_and_refuse(t4dm: Command, finished_run: RunResult, tmp_path: Path) -> None:
    run, out = finished_run.folder, tmp_path / "out"
    code, said, _ = t4dm("merge", run, out)
    assert code == 0
    found = re.match(r"largest logit difference to the adapter model: (\S+) \(float32\)\n", said)
    assert found
    assert float(found[1]) < 1e-3
    assert load_backbone(str(out)).width == 128
    code, _, told = t4dm("export", run, out)
    assert (code, told) == (
        1,
        f"t4dm: {out} exists and is not empty; name a new folder, or remove it: rm -r {out}\n",
    )
    code, _, told = t4dm("export", tmp_path / "nothing", tmp_path / "new")
    assert code == 1
    assert told.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "outputs") == ["out"]


def test_a_run_without_lora_has_nothing_to_merge_and_exports_its_stack(
    t4dm: Command, tiny: list[str], tmp_path: Path
) -> None:
    run = train(compose("train", [*tiny, "model.lora=null"], output=tmp_path / "bare")).folder
    code, _, told = t4dm("merge", run, tmp_path / "merged")
    assert code == 1
    assert told.endswith(
        f"t4dm: {run} was trained without LoRA, so there is nothing to merge; hand on its stack instead: "
        f"t4dm export {run} OUT\n"
    )
    assert not (tmp_path / "merged").exists()
    folder = export(run, tmp_path / "stack_only")
    assert not (folder / "adapter").exists()
    with torch.no_grad():
        expected = finished.load(run, changes={}).parts.model(IDS).logits
        assert torch.equal(load_export(folder).model(IDS).logits, expected)
