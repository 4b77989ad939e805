"""Which rows are judged, against whom, and what is wanted; the rest of the rows say how it is.

A ratio is a time over a time, ours over the peer's, so below 1 is ahead. Three targets are no ratio of times:
the exponent of cost against T is itself, the state's bytes are the last over the first, the scans of a block
are counted.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OURS: Final = "t4dm"


class Target(NamedTuple):
    """`bench` is a regular expression over bench names; `at_least` bounds from below as well where given."""

    bench: str
    device: str
    against: str
    at_most: float
    wish: str
    at_least: float | None = None

    @property
    def words(self) -> str:
        """The bound as the rows state it."""
        bound = f"<= {self.at_most:.4g}"
        return bound if self.at_least is None else f">= {self.at_least:.4g} and {bound}"


TARGETS: Final = (
    Target(r"lif_t\d+_d\d+", "cpu", "eager loop", 0.29, "<= 0.29x the eager loop"),
    Target(r"lif_t\d+_d\d+", "cpu", "spikingjelly", 1.0, "<= 1x SpikingJelly's CPU operator"),
    Target(r"lif_t2048_d\d+", "cuda", "eager loop", 0.05, "<= 0.05x the eager loop at T = 2048"),
    Target(r"lif_t\d+_d\d+", "cuda", "spikingjelly", 1.0, "<= 1x SpikingJelly's GPU operator"),
    Target(r"curve_stack_d\d+", "", "linear in T", 1.05, "linear in T: exponent 1.00 +- 0.05", 0.95),
    Target(r"kept_memory_stack_d\d+", "", "linear in T", 1.05, "linear in T: exponent 1.00 +- 0.05", 0.95),
    Target(r"stream_state_d\d+_n\d+", "", "the first window", 1.0, "constant state bytes", 1.0),
    Target(r"lif_scans_per_block", "", "4 scans", 4.0, "<= 4 LIF scans"),
)
PEERS: Final = {"lif": "eager loop", "attention": "naive loop", "rwkv": "naive loop", "block": "gelu twin"}


def targets_of(bench: str, device: str) -> list[Target]:
    """The targets of one bench on one kind of device."""
    return [
        target for target in TARGETS if re.fullmatch(target.bench, bench) and target.device in ("", device)
    ]


def title(bench: str) -> str:
    """A bench name in words: "lif_t512_d1024" is "LIF, T 512, D 1024"."""
    words = {
        "lif": "LIF", "attention": "attention scan", "rwkv": "RWKV scan", "block": "block", "stack": "stack",
        "curve_lif": "cost against T: LIF", "curve_attention": "cost against T: spike attention",
        "curve_rwkv": "cost against T: RWKV time mix", "curve_block": "cost against T: block",
        "curve_stack": "cost against T: stack",
        "kept_memory_stack": "cost against T: stack, in a training process",
        "stream_state": "state of the stack in streaming",
        "stream_token": "one token after the other", "lif_scans_per_block": "LIF scans in a block",
    }  # fmt: skip
    head = bench if bench in words else re.sub(r"(_[btdnk]\d+)+$", "", bench)
    letters = {"b": "B", "t": "T", "d": "D", "n": "N", "k": "K"}
    sizes = [
        f"{letters[letter]} {number}" for letter, number in re.findall(r"_([btdnk])(\d+)", bench[len(head) :])
    ]
    return ", ".join([words[head], *sizes])
