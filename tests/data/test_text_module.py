"""Text as a Lightning data module, alone and in turns with other batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from t4dm.data.loader import BatchLoader
from t4dm.data.mixture import MixtureDataModule, interleave
from t4dm.data.packing import unpack
from t4dm.data.text import TextDataModule
from t4dm.errors import TextEmptyError, TextSourceError

TEXTS = [f"text {chr(97 + i)} tells of {i}." for i in range(12)]


def encode(text: str) -> list[int]:
    return [ord(c) for c in text]


@pytest.fixture
def files(tmp_path):
    for i, text in enumerate(TEXTS):
        (tmp_path / f"{i:02}.txt").write_text(text)
    return [str(tmp_path / "*.txt")]


def module(files, **options):
    defaults = {"length": 16, "batch_size": 3, "held_out": 0.25, "seed": 4, "end_id": 1}
    return TextDataModule(encode=encode, files=files, **(defaults | options))


def test_every_document_is_on_one_side_whole(files):
    data = module(files)
    sides = [["".join(map(chr, ids)) for ids in unpack(p, end_id=1)] for p in (data.train, data.held_out)]
    assert sorted(sides[0] + sides[1]) == sorted(TEXTS)
    assert sides[0]
    assert sides[1]


def test_a_batch_has_nothing_to_read_and_nothing_to_write(files):
    batch = next(iter(module(files, reads=2, writes=5).train_dataloader()))
    assert batch["input_ids"].shape == batch["distance"].shape == (3, 16)
    assert batch["read_start"].tolist() == batch["read_end"].tolist() == [[-1, -1]] * 3
    assert batch["write_start"].shape == (3, 5)
    assert (batch["write_end"] == -1).all()
    assert not batch["answers"].any()
    assert (batch["distance"] == -1).all()
    assert batch["sessions"] == ["text"] * 3
    assert batch["event_times"].dtype == torch.float64


def test_labels_weights_and_resets_agree_with_the_tokens(files):
    for batch in module(files).train_dataloader():
        labelled = batch["labels"] != -100
        assert torch.equal(batch["labels"][labelled], batch["input_ids"][labelled])
        assert torch.equal(labelled, batch["attention_mask"] & ~batch["reset"])
        assert torch.equal(batch["loss_weights"] > 0, batch["attention_mask"])


def test_an_epoch_holds_every_training_window_once(files):
    data = module(files)
    loader = data.train_dataloader()
    first, again = (torch.cat([b["input_ids"] for b in loader]) for _ in range(2))
    assert torch.equal(first, again)
    loader.set_epoch(1)
    second = torch.cat([b["input_ids"] for b in loader])
    assert not torch.equal(first, second)
    for order in (first, second):
        assert sorted(order.tolist()) == sorted(data.train.tokens.tolist())


def test_held_out_windows_come_in_order(files):
    data = module(files)
    seen = torch.cat([b["input_ids"] for b in data.val_dataloader()])
    assert np.array_equal(seen.numpy(), data.held_out.tokens)


def test_no_text_and_one_document_are_refused(tmp_path):
    empty, single = tmp_path / "empty.txt", tmp_path / "one.txt"
    empty.write_text("\n \n")
    single.write_text("this")
    with pytest.raises(TextEmptyError, match=r"empty\.txt holds no text; add text with data\.files"):
        module([str(empty)]).setup()
    with pytest.raises(TextEmptyError, match="a single word, so nothing can be held out"):
        module([str(single)]).setup()
    assert len(module([str(single)], held_out=0.0).train_dataloader()) == 1


def test_one_source_must_be_named():
    for options in ({}, {"files": ["a.txt"], "hub": "b"}):
        with pytest.raises(TextSourceError, match=r"either data\.files=\[book\.txt\] or data\.hub"):
            TextDataModule(encode=encode, **options)


def counting(name, steps):
    return BatchLoader(batch_at=lambda epoch, step: {"at": (name, epoch, step)}, steps=steps)


def test_batches_alternate_and_text_goes_on_over_epochs():
    loader = interleave(counting("recall", 3), counting("text", 4), share=0.5)
    assert [b["at"] for b in loader] == [
        ("recall", 0, 0), ("text", 0, 0), ("recall", 0, 1), ("text", 0, 1), ("recall", 0, 2), ("text", 0, 2),
    ]  # fmt: skip
    loader.set_epoch(1)
    assert [b["at"][1:] for b in loader if b["at"][0] == "text"] == [(0, 3), (1, 0), (1, 1)]


@given(st.integers(0, 60), st.integers(1, 9), st.floats(0, 0.95), st.integers(0, 3))
def test_every_recall_step_comes_once_in_order_and_text_has_its_share(main, other, share, epoch):
    loader = interleave(counting("recall", main), counting("text", other), share=share)
    loader.set_epoch(epoch)
    seen = [b["at"] for b in loader]
    assert [at for at in seen if at[0] == "recall"] == [("recall", epoch, s) for s in range(main)]
    assert len(seen) == len(loader)
    assert abs((len(seen) - main) - share * len(seen)) < 1.1


def test_a_mixture_validates_on_both(files):
    data = MixtureDataModule(recall=module(files, seed=1), text=module(files), text_share=0.25)
    data.setup("fit")
    recall, text = data.val_dataloader()
    assert len(recall) == len(data.recall.val_dataloader())
    assert torch.equal(next(iter(text))["input_ids"], next(iter(data.text.val_dataloader()))["input_ids"])
    assert len(data.train_dataloader()) == int(len(data.recall.train_dataloader()) / 0.75)
    with pytest.raises(ValueError, match="text_share"):
        MixtureDataModule(recall=data.recall, text=data.text, text_share=1.0)
    with pytest.raises(ValueError, match="holds no batch"):
        interleave(counting("recall", 2), counting("text", 0), share=0.5)
