"""What a study of the blocks records is what the model computes on the text, and nothing of it changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from t4dm.backbone.load import load_backbone
from t4dm.errors import BlockChoiceError, NoStackError, NoTextError, TextTooLongError
from t4dm.model import MemoryLM
from t4dm.spiking.recorder import recording
from t4dm.spiking.stack import CorticalStack
from t4dm.studies.block import QUANTITIES, STAGES, look_inside, save, token_ids

TEXT = "The color of Ann is red. Bob lives in Oslo."
T, D, P, H, C = 15, 32, 16, 2, 4


@pytest.fixture(scope="module")
def model() -> MemoryLM:
    torch.manual_seed(5)
    stack = CorticalStack(width=D, blocks=3, heads=H, capsules=C)
    return MemoryLM(backbone=load_backbone(), stack=stack, insert_at=2).eval()


def test_every_array_has_the_shape_that_is_promised(model: MemoryLM) -> None:
    inside = look_inside(model, TEXT)
    assert "".join(inside.tokens) == TEXT
    assert len(inside.tokens) == T
    assert inside.blocks == (0, 1, 2)
    assert inside.target_rate == 0.05
    assert inside.dropped == ()
    shapes = {"integrate": (T, D), "qk": (T, D), "apical": (T, 2 * P), "out": (T, D), "gate": (T, D)}
    shapes |= {f"{stage}.membrane": shapes[stage] for stage in STAGES}
    shapes |= {"opening": (T, P), "calcium": (T, P), "attention": (T, H, T), "capsules": (T, C)}
    shapes |= {"prediction_error": (T,), "goodness": (T,), "rate": (D,)}
    expected = {f"block{b}.{name}": shape for b in range(3) for name, shape in shapes.items()}
    assert {name: array.shape for name, array in inside.arrays.items()} == expected
    assert set(shapes) >= {*STAGES, *QUANTITIES}


def test_the_figures_are_those_of_a_plain_forward_pass(model: MemoryLM) -> None:
    inside = look_inside(model, TEXT)
    with torch.no_grad():
        aux = model(torch.tensor([token_ids(model, TEXT)])).aux
    for block in inside.blocks:
        of = {
            what: inside.arrays[f"block{block}.{what}"] for what in ("goodness", "prediction_error", "rate")
        }
        assert np.array_equal(of["goodness"], aux.goodness[block, 0].numpy())
        assert np.array_equal(of["prediction_error"], aux.prediction_error[block, 0].numpy())
        spikes = inside.arrays[f"block{block}.out"]
        np.testing.assert_allclose(of["rate"], spikes.mean(axis=0), atol=1e-6)
        assert np.array_equal(spikes, inside.arrays[f"block{block}.out.membrane"] >= 1.0)
        assert spikes.any()
        assert not inside.arrays[f"block{block}.attention"][0, :, 1:].any()


def test_the_model_is_left_as_it_was(model: MemoryLM) -> None:
    assert model.stack is not None
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    try:
        look_inside(model, TEXT)
        assert model.training
    finally:
        model.eval()
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not model.stack._forward_pre_hooks


def test_a_model_in_training_is_read_without_its_dropout(model: MemoryLM) -> None:
    attention = model.backbone.decoder.layers[0].self_attn
    attention.attention_dropout = 0.5
    model.train()
    try:
        one, other = (look_inside(model, TEXT, blocks=[0]).arrays["block0.gate"] for _ in range(2))
        assert np.array_equal(one, other)
    finally:
        attention.attention_dropout = 0.0
        model.eval()


def test_the_hook_goes_when_the_forward_pass_fails(model: MemoryLM) -> None:
    assert model.stack is not None
    with pytest.raises(RuntimeError), recording(model.stack, None):  # type: ignore[arg-type]
        model.stack(torch.zeros(1, 2, D + 1))
    assert not model.stack._forward_pre_hooks


def test_a_chosen_block_is_read_like_in_the_whole(model: MemoryLM) -> None:
    whole, one = look_inside(model, TEXT), look_inside(model, TEXT, blocks=[2, 2])
    assert one.blocks == (2,)
    assert set(one.arrays) == {name for name in whole.arrays if name.startswith("block2.")}
    assert all(np.array_equal(whole.arrays[name], array) for name, array in one.arrays.items())


@pytest.mark.parametrize("blocks", [[3], [-1], [0, 7], []])
def test_blocks_that_are_not_there_are_a_mistake(model: MemoryLM, blocks: list[int]) -> None:
    with pytest.raises(BlockChoiceError, match=r"the stack has 0 to 2; write for example: --blocks 0,2$"):
        look_inside(model, TEXT, blocks=blocks)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_text_without_words_is_a_mistake(model: MemoryLM, text: str) -> None:
    with pytest.raises(NoTextError, match=r"put it in quotes: t4dm study block 'Ann lives in Rome\.'$"):
        look_inside(model, text)


def test_a_text_that_is_too_long_is_told_where_to_be_cut(model: MemoryLM) -> None:
    with pytest.raises(TextTooLongError, match=r"has 15 tokens and a study reads at most 9; cut it after "):
        look_inside(model, TEXT, longest=9)
    with pytest.raises(TextTooLongError) as told:
        token_ids(model, TEXT, longest=9)
    kept = TEXT[: int(str(told.value).split("first ")[1].split()[0])]
    assert token_ids(model, kept, longest=9) == token_ids(model, TEXT)[:9]
    # the tiny backbone has 512 positions, whatever is asked for
    with pytest.raises(TextTooLongError, match="at most 512"):
        token_ids(model, "a " * 600, longest=10_000)


def test_a_bare_backbone_has_nothing_to_look_into(model: MemoryLM) -> None:
    bare = MemoryLM(backbone=model.backbone, stack=None, insert_at=2)
    with pytest.raises(NoStackError, match=r"without ablation=no_stack: t4dm runs ls$"):
        look_inside(bare, TEXT)


def test_what_does_not_fit_is_named_and_the_rest_is_there(model: MemoryLM) -> None:
    # the gate is met first, 15 x 32 numbers of 4 bytes; capsules are 15 x 4; nothing else is as small
    inside = look_inside(model, TEXT, blocks=[1], byte_budget=4 * T * (D + C))
    kept = {"gate", "capsules", "prediction_error", "goodness", "rate"}
    assert set(inside.arrays) == {f"block1.{name}" for name in kept}
    assert set(inside.dropped) == {f"block1.{name}" for name in (*STAGES, *QUANTITIES) if name not in kept}


def test_a_saved_study_is_read_back_as_it_was_and_the_same_twice(model: MemoryLM, tmp_path: Path) -> None:
    inside = look_inside(model, "Na\u00efve \U0001f600 <b>", blocks=[0])
    file = save(inside, tmp_path)
    with np.load(file, allow_pickle=False) as archive:
        assert tuple(archive["tokens"]) == inside.tokens
        assert archive["blocks"].tolist() == [0]
        assert float(archive["target_rate"]) == 0.05
        assert np.array_equal(archive["block0.attention"], inside.arrays["block0.attention"])
    first = file.read_bytes()
    assert save(look_inside(model, "Na\u00efve \U0001f600 <b>", blocks=[0]), tmp_path).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["inside.npz"]
