"""One-bit codes: what they say of an angle, and that their bound holds for every shape of data."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from t4dm.t4dx import codes
from t4dm.t4dx.codes import FEWEST, CodedColumn, Probe, Turning, differing, hamming, plausible
from t4dm.t4dx.costs import sureness

DIM = 256
SHAPES = ("isotropic", "offset", "clustered", "outliers", "one-hot", "sparse", "few distinct", "equal")


def shape(name: str, n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Unit vectors [n, DIM]."""
    rows = rng.standard_normal((n, DIM))
    if name == "offset":  # all of them within some 25 degrees
        rows = rows / math.sqrt(DIM) * 0.45 + np.eye(DIM)[0]
    elif name == "clustered":
        rows = rng.standard_normal((20, DIM))[rng.integers(0, 20, n)] + 0.4 * rows
    elif name == "outliers":
        rows[:, :3] *= 12.0
    elif name == "one-hot":
        rows = np.eye(DIM)[rng.integers(0, DIM, n)]
    elif name == "sparse":
        rows *= rng.random((n, DIM)) < 0.02
        rows[:, 0] += 0.1
    elif name == "few distinct":
        rows = rows[:7][rng.integers(0, 7, n)]
    elif name == "equal":
        rows = np.broadcast_to(rows[:1], rows.shape)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_differing_signs_are_counted_as_python_counts_them() -> None:
    rng = np.random.default_rng(1)
    for words in (8, 16, 32):
        rows = rng.integers(0, 2**64, (50, words), dtype=np.uint64)
        rows[0], rows[1] = ~rows[2], rows[2]
        expected = [
            sum((int(a) ^ int(b)).bit_count() for a, b in zip(row, rows[2], strict=True)) for row in rows
        ]
        assert hamming(rows, rows[2]).tolist() == differing(rows, rows[2]).tolist() == expected
        assert expected[:2] == [64 * words, 0]


def test_a_code_does_not_depend_on_its_neighbours() -> None:
    """Sparse vectors bring sums near zero, whose sign another order of addition would change."""
    rng = np.random.default_rng(2)
    rows = np.concatenate([shape(name, 40, rng) for name in SHAPES])
    rng.shuffle(rows)
    turning = Turning(DIM)
    together = turning.signs(rows)
    assert together.shape == (320, 16)
    for count in (1, 3, 64):
        for start in range(0, 320, count):
            assert np.array_equal(turning.signs(rows[start : start + count]), together[start : start + count])


def test_a_turning_is_the_same_in_every_process_and_fills_the_bits() -> None:
    sizes = {dim: (Turning(dim).bits, Turning(dim).copies) for dim in (192, 256, 384, 768, 1024, 1536)}
    assert sizes == {
        192: (1024, 4), 256: (1024, 4), 384: (1024, 2), 768: (1024, 1), 1024: (1024, 1), 1536: (2048, 1)
    }  # fmt: skip
    ones = np.ones((1, 192), np.float32)
    assert [int(word) for word in Turning(192).signs(ones)[0, :2]] == FIRST_WORDS


FIRST_WORDS = [17578460630398772631, 2431153481667402533]


@pytest.mark.parametrize("degrees", [5, 30, 60, 90, 150])
def test_signs_differ_as_often_as_the_angle_says(degrees: int) -> None:
    """The share is t/pi for dense vectors and for pairs of coordinates alike; 5 deviations of a binomial."""
    angle, rng, turning = math.radians(degrees), np.random.default_rng(3), Turning(DIM)
    for first, second in (
        (np.eye(DIM)[4], np.eye(DIM)[9]),
        *np.linalg.qr(rng.normal(size=(DIM, 4)))[0].T.reshape(2, 2, DIM),
    ):
        pair = np.stack([first, math.cos(angle) * first + math.sin(angle) * second]).astype(np.float32)
        signs = turning.signs(pair)
        share = int(hamming(signs[:1], signs[1])[0]) / turning.bits
        p = degrees / 180
        assert abs(share - p) < 5 * math.sqrt(p * (1 - p) / turning.bits)


def test_the_plausible_cosine_is_that_of_wilson() -> None:
    sure = 2.0
    table = plausible(1024, sure)
    p = 256 / 1024
    low = (p + 2 / 1024 - sure * math.sqrt(p * (1 - p) / 1024 + 1 / 1024**2)) / (1 + 4 / 1024)
    assert table[256] == pytest.approx(math.cos(math.pi * low), abs=1e-6)
    assert plausible(1024, 0.0)[256] == pytest.approx(math.cos(math.pi / 4), abs=1e-6)
    assert table[0] == 1.0
    assert np.all(np.diff(table) <= 0)


@pytest.mark.parametrize("name", SHAPES)
def test_the_bound_fails_no_more_often_than_it_says(name: str) -> None:
    """Of all pairs, at most one in a hundred has a cosine above the bound of sureness 0.99."""
    rng = np.random.default_rng(4)
    rows = shape(name, FEWEST + 400, rng)
    column = CodedColumn(DIM)
    kept = column.codes(rows, len(rows))
    queries = np.concatenate([rows[:10], shape(name, 10, rng), shape("isotropic", 10, rng)])
    probe, above = Probe(column, queries, Turning(DIM).turned(queries)), []
    for number, query in enumerate(queries.astype(np.float64)):
        above.append(rows.astype(np.float64) @ query > probe.ceilings(kept, number, sureness(0.99)))
    assert np.mean(above) <= 0.012
    assert not np.array(above)[:10, :10].diagonal().any()  # a row is never above the bound of itself


def test_codes_grow_without_touching_what_a_reader_holds() -> None:
    rng = np.random.default_rng(5)
    rows = np.concatenate([shape("offset", 2000, rng), np.zeros((50, DIM), np.float32)])
    whole, grown = CodedColumn(DIM), CodedColumn(DIM)
    expected = whole.codes(rows, 2050)
    held = [(n, grown.codes(rows, n)) for n in (FEWEST, 1100, 1101, 1900, 2050)]
    assert grown.codes(rows, 1500) is held[-1][1]
    for n, kept in held:
        for own, other in zip(kept, expected, strict=True):
            assert np.array_equal(own[:n], other[:n])
    assert held[1][1].signs is held[2][1].signs  # there was room
    assert grown.done == 2050


def test_threads_that_ask_at_once_get_the_same_codes() -> None:
    rows = shape("clustered", 1500, np.random.default_rng(6))
    column, expected = CodedColumn(DIM), CodedColumn(DIM).codes(rows, 1500).signs
    with ThreadPoolExecutor(8) as pool:
        sizes = [1024 + 50 * (number % 9) for number in range(64)]
        found = list(pool.map(lambda n: (n, column.codes(rows, n).signs), sizes))
    assert all(np.array_equal(signs[:n], expected[:n]) for n, signs in found)


def test_faiss_counts_the_same() -> None:
    pytest.importorskip("faiss")
    rng = np.random.default_rng(8)
    for words in (8, 16, 32):
        rows = rng.integers(0, 2**64, (2100, words), dtype=np.uint64)
        assert np.array_equal(hamming(rows, rows[5]), differing(rows, rows[5]))
        assert np.array_equal(hamming(rows[1::2][:2048], rows[5]), differing(rows[1::2], rows[5])[:2048])


def test_counting_by_table_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a numpy before 2.0."""
    rows = np.random.default_rng(7).integers(0, 2**64, (20, 16), dtype=np.uint64)
    expected = differing(rows, rows[3])
    monkeypatch.setattr(codes, "_counts", codes._counts_by_table)
    assert np.array_equal(differing(rows, rows[3]), expected)
