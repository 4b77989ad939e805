"""Initial weights that hold one induction circuit: two layers that can look up what was said of a name.

Left to itself a model of this size needs millions of questions before it binds a value to its entity (see
experiments/LOG.md). Induction heads (Olsson et al. 2022, In-context Learning and Induction Heads) are the
circuit that is missing; like mimetic initialisation (Trockman & Kolter 2023) this writes down its skeleton
and leaves the rest to training.

Layer 0, heads 0 and 1: attend one and two tokens back, whatever the content, and write a projection P of what
stands there to two places R1, R2 of the residual stream. With rotary embedding a bias does that:
score(back) = sum_i s^2 cos(theta_i (back - b)).
Layer 1, heads 0 and 1: queries read R1, keys read R2, in the slow rotary planes. A question's last token has
the entity one back, the value of a fact has it two back: they match. The value's own embedding is passed on.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


@torch.no_grad()
def induction_start(model: torch.nn.Module, *, seed: int, sharp: float = 5.0, gain: float = 1.6) -> None:
    """Write the circuit into a freshly initialised Qwen2 of two or more layers, in place.

    Args:
        model: a `Qwen2ForCausalLM` whose heads 0 and 1 share their keys and values.
        seed: of the random projections.
        sharp: size s of the positional biases; 5 puts 0.9 of the attention on one token.
        gain: scale of the matching queries and keys.
    """
    generator = torch.Generator().manual_seed(seed)
    config = model.config
    width, head = config.hidden_size, config.hidden_size // config.num_attention_heads
    places = _orthonormal(2 * head, width, generator)
    # what a layer writes is as large as an embedding
    loudness = config.initializer_range * math.sqrt(width / head)
    first, second = (layer.self_attn for layer in model.model.layers[:2])
    _look_back(first, head, sharp, theta=config.rope_parameters["rope_theta"])
    _pass_on(first, head, _orthonormal(head, width, generator), (places[:head], places[head:]), loudness)
    _match(second, head, places, gain)
    seen = _orthonormal(head, width, generator)
    _pass_on(second, head, seen, (seen, seen), loudness)


def _orthonormal(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(columns, rows, generator=generator))[0].T.contiguous()


def _look_back(attention: torch.nn.Module, head: int, sharp: float, *, theta: float) -> None:
    half = head // 2
    turn = theta ** (-torch.arange(half) / half)  # radians a token, of each rotary plane
    attention.k_proj.weight[:head] = 0.0
    attention.k_proj.bias[:head] = torch.cat([torch.full((half,), sharp), torch.zeros(half)])
    for number, back in enumerate((1, 2)):
        rows = slice(number * head, (number + 1) * head)
        attention.q_proj.weight[rows] = 0.0
        attention.q_proj.bias[rows] = sharp * torch.cat([torch.cos(turn * back), -torch.sin(turn * back)])


def _match(attention: torch.nn.Module, head: int, places: Tensor, gain: float) -> None:
    half = head // 2
    slow = torch.cat([torch.arange(half // 2, half), torch.arange(half + half // 2, head)])
    attention.k_proj.weight[:head] = 0.0
    attention.k_proj.weight[slow] = gain * places[head : head + len(slow)]
    for start in (0, head):
        attention.q_proj.weight[start : start + head] = 0.0
        attention.q_proj.weight[start + slow] = gain * places[: len(slow)]


def _pass_on(
    attention: torch.nn.Module, head: int, read: Tensor, write: tuple[Tensor, Tensor], loudness: float
) -> None:
    attention.v_proj.weight[:head] = read
    attention.v_proj.bias[:head] = 0.0
    for number, place in enumerate(write):
        attention.o_proj.weight[:, number * head : (number + 1) * head] = loudness * place.T
