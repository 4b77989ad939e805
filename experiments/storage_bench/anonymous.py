"""Anonymous memory of a process that opens one store and searches: python -m ...anonymous LABEL FOLDER QUERY.

Growth since just before the store's own modules are imported, in MB: after the open and the first search, and
after some more. Files that are only mapped do not count.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from experiments.storage_bench.data import DEGREE, Data
from experiments.storage_bench.systems import system

SMAPS: Final = Path("/proc/self/smaps_rollup")
_QUERIES: Final = 200
_SETTLE: Final = 0.5  # seconds that background threads get


def main(arguments: Sequence[str]) -> int:
    """Print the figures as one line of JSON."""
    label, folder, query = arguments
    vectors = np.load(query)
    none = np.zeros((0, DEGREE))
    data = Data(0, vectors, [], none[:, 0], none.astype(np.int64), none)
    before = anonymous()
    store = system(label)
    store.open(Path(folder), data)
    assert _answer(store, vectors[0]), f"{label} finds nothing"
    time.sleep(_SETTLE)
    first = anonymous() - before
    rng = np.random.default_rng(0)
    for _ in range(_QUERIES):
        noise = rng.standard_normal(data.dim).astype(np.float32)
        _answer(store, vectors[0] + noise * np.float32(0.3 / np.sqrt(data.dim)))
    later = anonymous() - before
    store.close()
    print(json.dumps({"anonymous_MB": round(first / 1e6, 2), "later_MB": round(later / 1e6, 2)}))
    return 0


def anonymous() -> int:
    """Bytes of this process that no file backs."""
    for line in SMAPS.read_text().splitlines():
        if line.startswith("Anonymous:"):
            return 1024 * int(line.split()[1])
    raise LookupError(f"{SMAPS} tells no Anonymous; this row needs Linux 4.14 or newer")


def _answer(store: object, vector: object) -> bool:
    search = getattr(store, "search", None)
    assert search is not None
    return len(search(vector, 10)) > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
