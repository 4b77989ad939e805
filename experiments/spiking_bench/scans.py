"""Groups `attention` and `rwkv`: the decayed scans under both stages beside a loop over tokens and fla.

fla's fast kernels need a GPU; on a CPU it has its naive references, which are what is measured there. All
get the same q, k, v and log decays, laid out as each wants them before the clock starts, and q scaled
against fla's own K^-1/2.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from experiments.spiking_bench.references import attention_loop, rwkv_loop
from experiments.spiking_bench.sizes import Sizes
from experiments.spiking_bench.timing import Answer, Result, Setting, System, answer, race
from t4dm.spiking.linear_attention import chunk_attention
from t4dm.spiking.rwkv import rwkv6

Make = Callable[[], System]
CHECKED: Final = 4  # q, k, v and log decay


class Input(NamedTuple):
    """q, k, log decay `[B, H, T, K]`, v and what flows in `[B, H, T, V]`, bonus `[H, K]`."""

    q: Tensor
    k: Tensor
    v: Tensor
    log: Tensor
    above: Tensor
    bonus: Tensor

    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(x.clone().requires_grad_() for x in (self.q, self.k, self.v, self.log))

    def tokens_first(self) -> tuple[Tensor, ...]:
        """The leaves as `[B, T, H, K]`."""
        return tuple(
            x.transpose(1, 2).contiguous().requires_grad_() for x in (self.q, self.k, self.v, self.log)
        )


def attention(setting: Setting, sizes: Sizes) -> Result:
    """Decayed linear attention: the scan under spike attention."""
    return _all("attention", setting, sizes, sizes.scan[2], _attention_systems, _attention_reference)


def rwkv(setting: Setting, sizes: Sizes) -> Result:
    """The version-6 recurrence of stage 5."""
    return _all("rwkv", setting, sizes, sizes.scan[3], _rwkv_systems, _rwkv_reference)


def _all(
    name: str,
    setting: Setting,
    sizes: Sizes,
    key: int,
    systems: Callable[[Input, bool], dict[str, Make]],
    reference: Callable[[Input], Answer],
) -> Result:
    batch, heads, _, _, value = sizes.scan
    found: Result = {"figures": {}, "missing": []}
    for steps in (steps for steps in sizes.steps if steps <= sizes.loop_steps):
        given = draw((batch, heads, steps, key), value, setting.device)
        one = race(
            systems(given, setting.device == "cuda"),
            {"same": partial(reference, given)},
            setting,
            tokens=batch * steps,
            steps=steps,
            spiking=False,
        )
        shape = f"{name}_t{steps}_k{key}"
        found["figures"][shape] = one["figures"]
        found["missing"] += [{**entry, "bench": shape} for entry in one["missing"]]
    return found


def draw(shape: tuple[int, int, int, int], value: int, device: str) -> Input:
    """Log decays between -0.5 and -0.002: time constants of 2 to 500 tokens."""
    random = torch.Generator().manual_seed(7)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=random)

    batch, heads, steps, key = shape
    wide = (batch, heads, steps, value)
    log = -torch.exp(torch.empty(shape).uniform_(-6.0, -0.7, generator=random))
    q, k = normal(*shape), normal(*shape) * key**-0.5
    return Input(*(x.to(device) for x in (q, k, normal(*wide), log, normal(*wide), normal(heads, key))))


def _attention_reference(given: Input) -> Answer:
    leaves = given.leaves()
    return answer(System(lambda: attention_loop(*leaves), leaves, given.above, compared=CHECKED))


def _rwkv_reference(given: Input) -> Answer:
    leaves = given.leaves()
    return answer(System(lambda: rwkv_loop(*leaves, given.bonus), leaves, given.above, compared=CHECKED))


def _attention_systems(given: Input, gpu: bool) -> dict[str, Make]:
    def ours() -> System:
        leaves = given.leaves()
        first = given.q.new_zeros(*given.q.shape[:2], given.q.shape[3], given.v.shape[3])
        return System(lambda: chunk_attention(*leaves, first)[0], leaves, given.above, compared=CHECKED)

    def loop() -> System:
        leaves = given.leaves()
        return System(lambda: attention_loop(*leaves), leaves, given.above, compared=CHECKED)

    def fla() -> System:
        scale = given.q.shape[3] ** 0.5
        if gpu:
            from fla.ops.gla import chunk_gla

            return _tokens_first(given, lambda q, k, v, g: chunk_gla(q, k, v, g, scale=1.0)[0])
        from fla.ops.gla.naive import naive_recurrent_gla

        return _tokens_first(given, lambda q, k, v, g: naive_recurrent_gla(scale * q, k, v, g)[0])

    return {"t4dm": ours, "naive loop": loop, fla_name(gpu): fla}


def _rwkv_systems(given: Input, gpu: bool) -> dict[str, Make]:
    first = given.q.new_zeros(*given.q.shape[:2], given.q.shape[3], given.v.shape[3])

    def ours() -> System:
        return _tokens_first(
            given, lambda r, k, v, w: rwkv6(r, k, v, w, given.bonus, first, backend="torch_chunk")[0]
        )

    def loop() -> System:
        leaves = given.leaves()
        return System(lambda: rwkv_loop(*leaves, given.bonus), leaves, given.above, compared=CHECKED)

    def fla() -> System:
        if gpu:
            from fla.ops.rwkv6 import chunk_rwkv6

            return _tokens_first(given, lambda r, k, v, w: chunk_rwkv6(r, k, v, w, given.bonus, scale=1.0)[0])
        from fla.ops.rwkv6.recurrent_naive import naive_recurrent_rwkv6

        leaves = given.leaves()

        def forward() -> Tensor:
            out: Tensor = naive_recurrent_rwkv6(*leaves, given.bonus, scale=1.0)[0]
            return out

        return System(forward, leaves, given.above, compared=CHECKED)

    return {"t4dm": ours, "naive loop": loop, fla_name(gpu): fla}


def fla_name(gpu: bool) -> str:
    return "fla" if gpu else "fla, naive reference"


def _tokens_first(given: Input, forward: Callable[..., Tensor]) -> System:
    leaves, above = given.tokens_first(), given.above.transpose(1, 2).contiguous()
    return System(lambda: forward(*leaves), leaves, above, lambda x: x.transpose(1, 2), compared=CHECKED)
