"""The table of moves: what may happen to a store between two writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Move = Callable[[Any], None]
MOVES: dict[str, tuple[Move, int]] = {}
"""Name -> (function of the game, weight)."""


def move(weight: int) -> Callable[[Move], Move]:
    """Put a move into the table."""

    def enter(function: Move) -> Move:
        MOVES[function.__name__] = function, weight
        return function

    return enter
