"""A handle is dead in a forked child: the lock and the log belong to the parent."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol


class Abandons(Protocol):
    """What drops its descriptors in a child."""

    def abandon(self) -> None: ...


_LIVE: Final[weakref.WeakSet[Abandons]] = weakref.WeakSet()


def watch(handle: Abandons) -> None:
    """Call `handle.abandon()` in every child that is forked from now on."""
    _LIVE.add(handle)


def _abandon_in_child() -> None:
    for handle in list(_LIVE):
        handle.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_in_child)
