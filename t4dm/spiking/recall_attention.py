"""Gated cross-attention from the stream to recalled memories, read as rows of keys and values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, scaled_dot_product_attention


class RecallAttention(nn.Module):
    """Multi-head cross-attention with a tanh gate (Alayrac et al. 2022, Flamingo, eq. of sec. 2.1).

    o = tanh(g) * W_o softmax(q k^T / sqrt(d) + mask) v, with q from the RMS-normalised stream and k, v from
    the RMS-normalised memory rows. A position that may read no row gets exactly zero.

    At the start query and key are the same orthogonal matrix and W_o undoes W_v: what is alike is found, and
    what is found is passed on as it is (the idea of mimetic initialisation, Trockman & Kolter 2023).

    Args:
        width: D of stream and memory rows.
        heads: attention heads; must divide `width`.
        gate_init: g at the start; the stack's output gate already is zero then, so this one may be open.
    """

    def __init__(self, *, width: int, heads: int, gate_init: float = 1.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(self.key.weight)
        nn.init.orthogonal_(self.value.weight)
        with torch.no_grad():
            self.query.weight.copy_(self.key.weight)
            self.out.weight.copy_(self.value.weight.T)
        self.gate = nn.Parameter(torch.tensor(float(gate_init)))

    def forward(self, h: Tensor, recall: Tensor, mask: Tensor) -> Tensor:
        """Increment `[B, T, D]` for the stream `h`.

        Args:
            h: `[B, T, D]`.
            recall: rows `[B, M, D]`, or keys and values side by side `[B, M, 2 D]`.
            mask: `[B, T, M]`, which rows a position may read.
        """
        seen = mask.any(-1, keepdim=True)
        width = h.shape[-1]
        keys, values = (rms_norm(part, (width,)) for part in (recall[..., :width], recall[..., -width:]))
        q = self._split(self.query(rms_norm(h, h.shape[-1:])))
        k, v = self._split(self.key(keys)), self._split(self.value(values))
        # A row of all False would give NaN: such positions look at everything, and are set to zero below.
        read = scaled_dot_product_attention(q, k, v, attn_mask=(mask | ~seen)[:, None])
        merged = read.transpose(1, 2).flatten(2)
        return torch.where(seen, torch.tanh(self.gate) * self.out(merged), 0.0)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
