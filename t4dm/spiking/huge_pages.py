"""Fresh windows of floats whose memory Linux may map in pages of 2 MB.

The C library returns what is freed beyond a threshold to the kernel, and asks anew for every block above 32
MB. So each window `[B, T, D]` of a scan is mapped anew, and touching it takes a page fault for every 4 KB:
four times the time of the copy that fills it. numpy gives the same advice for its arrays of 4 MB or more.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

HUGE = 1 << 21
LEAST = 1 << 22  # bytes below which nothing is advised, as in numpy
MADV_HUGEPAGE = 14


def empty_window(like: Tensor) -> Tensor:
    """An uninitialised contiguous tensor of that shape, dtype and device.

    On Linux's CPU its whole pages of 2 MB are advised to be huge (`madvise`, MADV_HUGEPAGE); a kernel that
    has none ignores it. Nowhere does it change a value.
    """
    x = torch.empty_like(like, memory_format=torch.contiguous_format)
    size = x.numel() * x.element_size()
    if size >= LEAST and x.device.type == "cpu" and type(x) is Tensor:
        first = -(-x.data_ptr() // HUGE) * HUGE
        end = (x.data_ptr() + size) // HUGE * HUGE
        advise = _madvise()
        if advise is not None and end > first:
            advise(first, end - first, MADV_HUGEPAGE)
    return x


@cache
def _madvise() -> Callable[[int, int, int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    function = ctypes.CDLL(None).madvise
    function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    called: Callable[[int, int, int], int] = function
    return called
