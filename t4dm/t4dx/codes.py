"""One-bit codes: 128 bytes that tell how near a vector can be at most, so that only a few are scored exactly.

A direction less a centre is turned at random and cut to its signs. The signs of two vectors at an angle t
differ with probability t/pi each (Goemans and Williamson 1995; Charikar 2002), whatever the vectors: the
turning alone is random. So the share that differs has a confidence bound (Wilson 1927), and with it the
largest cosine that is plausible: a row that is left out although it belongs to the best is left out with
probability 1 - recall at most. The centre is the mean of the first rows of a column. It decides what a
search costs and never what the bound promises, and those rows never change, so codes depend on their column
alone: not on who asked before, nor on how often.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import threading
import warnings
import weakref
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from t4dm.t4dx.sources import Source
from t4dm.t4dx.types import Float32s

Words = NDArray[np.uint64]  # [n, W], 64 signs each

FEWEST: Final = 1024
"""Rows of a column below which it has no codes; the centre is their mean."""
NARROWEST: Final = 192
"""Vector size below which the vectors themselves are about as short as their codes."""
_BITS: Final = 1024
_BLOCK: Final = 32  # rows turned at once: what they need stays in the cache
_MANY: Final = 2048  # rows from which on a call to a library pays
_SLACK: Final = 1e-5  # float32 sums of up to some thousand products of numbers below 2
_SEED: Final = 0x74346478
_LANES: Final = np.uint64(0x00FF00FF00FF00FF)
_ONES: Final = np.uint64(0x0001000100010001)


class Codes(NamedTuple):
    """The codes of the first rows of a vector column: signs [n, W], and of each direction x less the centre
    c what turns an angle between such into a cosine: <x, c> and |x - c| [n].
    """

    signs: Words
    lean: Float32s
    reach: Float32s

    def first(self, n: int) -> Codes:
        """Those of the first n rows, without a copy."""
        return Codes(self.signs[:n], self.lean[:n], self.reach[:n])

    def take(self, places: NDArray[np.int64]) -> Codes:
        """Those of some rows, copied."""
        return Codes(self.signs[places], self.lean[places], self.reach[places])

    def put(self, span: slice, fresh: Codes) -> None:
        """Write those of a span of rows."""
        self.signs[span], self.lean[span], self.reach[span] = fresh


@final
class Turning:
    """A random orthogonal turning of vectors [n, D], the same in every process: twice random signs and a
    Hadamard transform, as often as fills the bits (Ailon and Chazelle 2009).

    Every row is transformed by products of its own, so it has one code, alone or among others.
    """

    def __init__(self, dim: int) -> None:
        power = max(1, (dim - 1).bit_length())
        self.width, self.copies = 1 << power, max(1, _BITS >> power)
        raw = np.random.PCG64(_SEED).random_raw(2 * self.copies * self.width).astype(np.uint64)
        self._flips = np.where(raw >> np.uint64(63), np.float32(-1), np.float32(1)).reshape(
            2, self.copies, self.width
        )
        self._left, self._right = _hadamard(power // 2), _hadamard(power - power // 2)

    @property
    def bits(self) -> int:
        """Signs of a code."""
        return self.copies * self.width

    def signs(self, rows: Float32s) -> Words:
        """The signs [n, W] of rows [n, D]."""
        return signs_of(self.turned(rows))

    def turned(self, rows: Float32s) -> Float32s:
        """The coordinates [n, 64 W] of rows [n, D], whose signs are the code; linear but for rounding."""
        count, dim = rows.shape
        turned = np.zeros((count, self.copies, self.width), np.float32)
        np.multiply(rows[:, None], self._flips[0, :, :dim], out=turned[:, :, :dim])
        turned = self._transformed(turned)
        turned *= self._flips[1]
        return self._transformed(turned).reshape(count, -1)

    def _transformed(self, values: Float32s) -> Float32s:
        """The Hadamard transform along the last axis: the product of one of its square root on each side."""
        square = values.reshape(-1, len(self._left), len(self._right))
        product: Float32s = np.matmul(np.matmul(self._left, square), self._right)
        return product.reshape(values.shape)


def _hadamard(power: int) -> Float32s:
    matrix = np.ones((1, 1), np.float32)
    for _ in range(power):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


def signs_of(turned: Float32s) -> Words:
    """The code [n, W] of turned rows [n, 64 W]."""
    return np.packbits(turned > 0, axis=1).view(np.uint64)


@lru_cache(maxsize=64)
def turning(dim: int) -> Turning:
    """The turning of vectors of a size."""
    return Turning(dim)


@lru_cache(maxsize=64)
def plausible(bits: int, sureness: float) -> Float32s:
    """By the number of differing signs, the largest cosine that is plausible: `sureness` is in standard
    deviations, one-sided.
    """
    share, square = np.arange(bits + 1) / bits, sureness**2 / bits
    spread = sureness * np.sqrt(share * (1 - share) / bits + square / (4 * bits))
    least = (share + square / 2 - spread) / (1 + square)
    cosines: Float32s = np.cos(math.pi * np.clip(least, 0, 1)).astype(np.float32)
    return cosines


@final
class Probe:
    """Directions [Q, D] of queries, coded as the rows of one column are. `turned` [Q, 64 W] are their own
    coordinates, which serve every column: those of the centre are taken off.
    """

    def __init__(self, column: CodedColumn, directions: Float32s, turned: Float32s) -> None:
        self._square = column.square
        rest = directions - column.centre
        self._codes = Codes(
            signs_of(turned - column.turned_centre),
            (directions * column.centre).sum(axis=1),
            np.sqrt(np.square(rest).sum(axis=1)),
        )

    def ceilings(self, codes: Codes, place: int, sureness: float) -> Float32s:
        """For each row the largest plausible cosine with one query."""
        bits, reach = 64 * codes.signs.shape[1], float(self._codes.reach[place])
        table = plausible(bits, sureness) * np.float32(reach)
        ceilings = table[hamming(codes.signs, self._codes.signs[place])]
        ceilings *= codes.reach
        ceilings += codes.lean
        ceilings += np.float32(float(self._codes.lean[place]) - self._square + _SLACK)
        return ceilings


@final
class CodedColumn:
    """The codes of one vector column, which may grow: made when they are asked for, only for what is new.

    Readers share them without a lock: rows are only added behind those that anyone holds, and a block that is
    full is replaced, never resized.

    Attributes:
        centre: [D], and turned [64 W]; zero before there are codes.
        done: how many rows have one.
        saved: seconds that searches would have saved with the codes that are still to be made.
    """

    def __init__(self, dim: int) -> None:
        self._turning, self._lock = turning(dim), threading.Lock()
        self.centre = np.zeros(dim, np.float32)
        self.turned_centre = np.zeros(self._turning.bits, np.float32)
        self._codes = _empty(0, self._turning.bits)
        self.square, self.done, self.saved = 0.0, 0, 0.0

    def codes(self, vectors: Float32s, n: int) -> Codes:
        """The codes of the first n rows of the column, and perhaps of more; n is FEWEST at least."""
        if n > self.done:
            with self._lock:
                if not self.done:
                    self._find_centre(vectors)
                if n > self.done:
                    self._extend(vectors, n)
        return self._codes

    def encoded(self, directions: Float32s) -> Codes:
        """The codes of directions [n, D] of length 1 or 0."""
        codes = _empty(len(directions), self._turning.bits)
        for start in range(0, len(directions), _BLOCK):
            span = slice(start, start + _BLOCK)
            rest = directions[span] - self.centre
            codes.signs[span] = self._turning.signs(rest)
            codes.lean[span] = (directions[span] * self.centre).sum(axis=1)
            codes.reach[span] = np.sqrt(np.square(rest).sum(axis=1))
        return codes

    def _find_centre(self, vectors: Float32s) -> None:
        total = _directions(vectors[:FEWEST]).sum(axis=0, dtype=np.float64)
        self.centre = (total / FEWEST).astype(np.float32)
        self.turned_centre = self._turning.turned(self.centre[None])[0]
        self.square = float(np.square(self.centre.astype(np.float64)).sum())

    def _extend(self, vectors: Float32s, n: int) -> None:
        done, codes = self.done, self._codes
        if n > len(codes.lean):
            grown = _empty(n if not done else max(n, 2 * done), self._turning.bits)
            grown.put(slice(0, done), codes.first(done))
            codes = grown
        for start in range(done, n, _BLOCK):
            span = slice(start, min(start + _BLOCK, n))
            codes.put(span, self.encoded(_directions(vectors[span])))
        self._codes = codes
        self.done, self.saved = n, 0.0


def hamming(signs: Words, probe: Words) -> NDArray[np.integer]:
    """How many signs [n, W] of each row differ from those of one code [W]: by faiss where it is installed."""
    library = _faiss() if len(signs) >= _MANY else None
    return differing(signs, probe) if library is None else _by_faiss(library, signs, probe)


def differing(signs: Words, probe: Words) -> NDArray[np.uint64]:
    """The reference: `hamming` by numpy alone."""
    octets = _counts(signs ^ probe).view(np.uint64)  # eight counts in each, of at most 64
    lanes = (octets & _LANES) + ((octets >> np.uint64(8)) & _LANES)
    total = lanes[:, 0]
    for column in range(1, lanes.shape[1]):
        total = total + lanes[:, column]
    found: NDArray[np.uint64] = (total * _ONES) >> np.uint64(48)
    return found


def _by_faiss(library: Any, signs: Words, probe: Words) -> NDArray[np.int32]:
    found, own, pointer = np.empty(len(signs), np.int32), np.ascontiguousarray(signs), library.swig_ptr
    one = np.ascontiguousarray(probe).view(np.uint8)
    library.hammings(pointer(one), pointer(own.view(np.uint8)), 1, len(own), 8 * own.shape[1], pointer(found))
    return found


@lru_cache(maxsize=1)
def _faiss() -> Any:
    """The library, None where it is not installed, or has no count of all distances."""
    if importlib.util.find_spec("faiss") is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its bindings, on some Pythons
        library = importlib.import_module("faiss")
    return library if hasattr(library, "hammings") else None


_TABLE: Final = np.array([number.bit_count() for number in range(256)], np.uint8)


def _counts_by_table(words: Words) -> NDArray[np.uint8]:
    return _TABLE[words.view(np.uint8)]


_counts: Final[Callable[[Words], NDArray[np.uint8]]] = getattr(np, "bitwise_count", _counts_by_table)
"""Set bits of each word, or of each octet: numpy before 2.0 cannot count them."""


_KNOWN: Final[weakref.WeakKeyDictionary[Source, dict[int, CodedColumn]]] = weakref.WeakKeyDictionary()
_LOCK: Final = threading.Lock()


def coded_column(source: Source, collection: int, dim: int) -> CodedColumn:
    """The codes of a vector column of a source, made or not, kept as long as the source."""
    with _LOCK:
        columns = _KNOWN.setdefault(source, {})
        found = columns.get(collection)
        if found is None:
            found = columns[collection] = CodedColumn(dim)
        return found


def _empty(n: int, bits: int) -> Codes:
    return Codes(np.empty((n, bits // 64), np.uint64), np.empty(n, np.float32), np.empty(n, np.float32))


def _directions(vectors: Float32s) -> Float32s:
    """Rows of length 1, and zeros as they are."""
    wide = vectors.astype(np.float64)
    norms = np.sqrt(np.square(wide).sum(axis=1, keepdims=True))
    found: Float32s = np.divide(wide, norms, out=wide, where=norms > 0).astype(np.float32)
    return found
