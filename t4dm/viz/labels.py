"""Keeps labels at the ends of lines from lying on one another."""

from __future__ import annotations

from collections.abc import Sequence


def spread(wanted: Sequence[float], *, gap: float, low: float, high: float) -> list[float]:
    """Positions as near to `wanted` as a distance of `gap` allows, inside `[low, high]`, order kept.

    Labels that would touch form a group that stays centred on the mean of its wishes. Where the labels do
    not fit at all, the gap shrinks.
    """
    if not wanted:
        return []
    gap = min(gap, (high - low) / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    groups: list[list[int]] = []
    for index in order:
        groups.append([index])
        while len(groups) > 1 and _start(groups[-1], wanted, gap, low, high) < (
            _start(groups[-2], wanted, gap, low, high) + len(groups[-2]) * gap
        ):
            last = groups.pop()
            groups[-1].extend(last)
    placed = [0.0] * len(wanted)
    for group in groups:
        start = _start(group, wanted, gap, low, high)
        for place, index in enumerate(group):
            placed[index] = start + place * gap
    return placed


def _start(group: list[int], wanted: Sequence[float], gap: float, low: float, high: float) -> float:
    extent = (len(group) - 1) * gap
    centre = sum(wanted[index] for index in group) / len(group)
    return min(max(centre - extent / 2, low), high - extent)
