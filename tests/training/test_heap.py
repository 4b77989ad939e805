"""A process that keeps the memory it frees."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from t4dm.training import heap

# Page faults of the last ten of twenty steps that fill and free windows of 36 MB: malloc maps each anew.
_SCRIPT = """
import resource, sys
import torch
from t4dm.training.heap import keep_freed_memory

def step():
    one = torch.ones(9 << 20)
    return one + one

if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(what: str) -> int:
    command = [sys.executable, "-c", _SCRIPT, what]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_windows_that_were_freed_come_back_without_page_faults() -> None:
    given_back, kept = faults("give back"), faults("keep")
    assert kept < given_back / 4


def test_another_c_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    class Musl:
        pass

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Musl())
    assert not heap.keep_freed_memory()
