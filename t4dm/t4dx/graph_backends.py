"""Which library builds and searches graphs: the one that is asked for, or the next that is installed."""

from __future__ import annotations

import importlib.util
import warnings
from typing import Final

from t4dm.errors import GraphLibraryWarning, OptionError
from t4dm.t4dx.ann import Backend

CHAINS: Final = {
    "auto": ("faiss", "hnswlib"),
    "faiss": ("faiss", "hnswlib"),
    "hnswlib": ("hnswlib",),
    "exact": (),
}
"""For each value of `Options.index` the libraries in the order in which they are tried; none means exact."""


def chosen(index: str) -> str:
    """The library for a value of `Options.index`, "" for none; warns where it is not the first choice.

    Raises:
        OptionError: no such value.
    """
    if index not in CHAINS:
        raise OptionError(f"index is {index!r}; choose one of {', '.join(CHAINS)}")
    chain = CHAINS[index]
    found = next((name for name in chain if importlib.util.find_spec(name) is not None), "")
    if chain and found != chain[0]:
        warnings.warn(GraphLibraryWarning(chain[0], found), stacklevel=5)
    return found


def backend(name: str) -> Backend:
    """The back-end of a library, imported at its first use; raises ImportError where it is broken."""
    if name == "faiss":
        from t4dm.t4dx.ann_faiss import FaissBackend

        return FaissBackend()
    from t4dm.t4dx.ann_hnswlib import HnswlibBackend

    return HnswlibBackend()
