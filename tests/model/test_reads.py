"""Who sees which recall, and how recalled items are laid out."""

from __future__ import annotations

import torch

from t4dm.memory.memory import Recall
from t4dm.model.reads import Reads, recall_rows, visibility


def test_a_read_is_seen_from_its_last_token_until_the_next_reads_last_token() -> None:
    reads = Reads(torch.tensor([[0, 4], [1, -1]]), torch.tensor([[2, 6], [3, -1]]), ["a", "b"])
    seen = visibility(reads, 8)
    assert seen[0, :, 0].tolist() == [False, True, True, True, True, False, False, False]
    assert seen[0, :, 1].tolist() == [False, False, False, False, False, True, True, True]
    assert seen[1, :, 0].tolist() == [False, False, True, True, True, True, True, True]
    assert not bool(seen[1, :, 1].any())


def made(tokens: list[list[list[int]]], ages: list[list[float]], mask: list[list[bool]]) -> Recall:
    zeros = torch.zeros(len(ages), len(ages[0]))
    return Recall(
        vectors=zeros[..., None], ids=[["x"] * len(t) for t in tokens], contents=[[""] * len(t) for t in
        tokens], tokens=tokens, ages=torch.tensor(ages), kappas=zeros, scores=zeros, mask=torch.tensor(mask),
    )  # fmt: skip


def lay(recall: Recall, limit: int = 8):
    return recall_rows(recall, batch=1, limit=limit, pad_id=0, device=torch.device("cpu"))


def test_equal_contents_are_encoded_once_and_the_newest_has_recency_zero() -> None:
    rows = lay(
        made([[[5, 6], [7, 8, 9]], [[7, 8, 9], [5, 6]]], [[10.0, 3.0], [4.0, 9.0]], [[True, True]] * 2)
    )
    assert rows.tokens.tolist() == [[5, 6, 0], [7, 8, 9]]
    assert rows.mask.tolist() == [[True, True, False], [True, True, True]]
    assert rows.content.tolist() == [[0, 1, 1, 0]]
    assert rows.recency.tolist() == [[1, 0, 0, 1]]


def test_what_was_not_found_and_what_has_no_second_token_is_masked() -> None:
    rows = lay(made([[[5, 6]], [[7], [4, 8]]], [[1.0, 0.0], [1.0, 2.0]], [[True, False], [True, True]]))
    assert rows.found.tolist() == [[True, False, False, True]]


def test_long_contents_are_cut() -> None:
    assert lay(made([[[1, 2, 3, 4]]], [[0.0]], [[True]]), limit=2).tokens.tolist() == [[1, 2]]


def test_nothing_found_still_gives_a_row_to_encode() -> None:
    rows = lay(made([[]], [[0.0]], [[False]]))
    assert rows.tokens.shape == (1, 2)
    assert rows.mask.tolist() == [[True, False]]
    assert not bool(rows.found.any())
