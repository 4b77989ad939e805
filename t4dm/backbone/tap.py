"""Doors into the residual stream between two decoder layers: one to read it, one to add to it.

Both are hooks on a decoder layer. A module is never inserted into `layers`, which transformers slices and
indexes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from t4dm.backbone.load import Backbone

Adapter = Callable[[Tensor], Tensor]
"""Residual stream `[B, T, W]` to residual stream `[B, T, W]`."""


@contextmanager
def inserted(backbone: Backbone, layer: int, adapter: Adapter) -> Iterator[None]:
    """Within the block, decoder layer `layer` receives `adapter(stream)` instead of the stream.

    Gradients flow through, down to the LoRAs of the layers below. The hook stands outside the layer's
    activation checkpoint, so it is called once for each forward pass.
    """

    def before(
        _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (adapter(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": adapter(kwargs["hidden_states"])}

    handle = backbone.layer(layer).register_forward_pre_hook(before, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


class _Reached(Exception):
    """Carries the stream out of a forward pass that need not go on."""

    def __init__(self, stream: Tensor) -> None:
        super().__init__()
        self.stream = stream


def _stop(stream: Tensor) -> Tensor:
    raise _Reached(stream)


def stream_at(backbone: Backbone, layer: int, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The residual stream `[B, T, W]` that enters decoder layer `layer`, without gradient; upper layers
    do not run.
    """
    try:
        with torch.no_grad(), inserted(backbone, layer, _stop):
            backbone.decoder(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
    except _Reached as reached:
        return reached.stream
    raise AssertionError("the hook stops every pass")
