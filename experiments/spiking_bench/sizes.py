"""How large each group runs: for the record on a CPU, on a GPU, and a tiny one that proves the paths."""

from __future__ import annotations

from typing import Final, NamedTuple


class Sizes(NamedTuple):
    """Shapes of all groups. `scan`: (B, H, K of attention, K of RWKV, V); loops stop at `loop_steps`."""

    batch: int
    steps: tuple[int, ...]
    widths: tuple[int, ...]
    scan: tuple[int, int, int, int, int]
    loop_steps: int
    model: tuple[int, int, int, int]  # B, T, width and blocks of the block and stack rows
    curve: tuple[int, int]  # width and blocks of cost against T
    curve_steps: tuple[int, ...]
    stream: int  # tokens fed one by one at the model's width


CPU: Final = Sizes(
    batch=4,
    steps=(128, 512, 2048),
    widths=(1024, 4096),
    scan=(1, 4, 128, 256, 256),
    loop_steps=512,
    model=(1, 512, 1024, 6),
    curve=(256, 6),
    curve_steps=(512, 1024, 2048, 4096, 8192),
    stream=32,
)
GPU: Final = CPU._replace(scan=(4, 4, 128, 256, 256), model=(4, 2048, 1024, 6), curve=(1024, 6), stream=128)
TINY: Final = Sizes(
    batch=2,
    steps=(4, 8),
    widths=(16,),
    scan=(1, 2, 4, 8, 8),
    loop_steps=8,
    model=(1, 8, 32, 2),
    curve=(32, 2),
    curve_steps=(4, 8, 16),
    stream=3,
)
NAMED: Final = {"full": {"cpu": CPU, "cuda": GPU}, "tiny": {"cpu": TINY, "cuda": TINY}}
