"""What a training process does with memory that it frees.

The C library returns large blocks to the kernel and asks for them anew, and the kernel hands them out page by
page, zeroed: in a step over thousands of tokens that takes as long as the arithmetic. A training asks for the
same windows in every step.
"""

from __future__ import annotations

import ctypes
from typing import Final

_TRIM_THRESHOLD: Final = -1
_MMAP_MAX: Final = -4
"""Parameters of glibc's mallopt(3), from malloc.h."""


def keep_freed_memory() -> bool:
    """From now on what this process frees serves its next allocations and is not given back to the kernel.

    It cannot be taken back. Returns whether the C library could: False for others than glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
