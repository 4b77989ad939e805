"""Load a frozen causal language model: the shipped tiny one, or any decoder of the hub by name and
revision.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from huggingface_hub import constants
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from t4dm.errors import BackboneUnavailableError, InsertionPointError, MissingExtra

TINY = Path(__file__).parent / "tiny"


@dataclass(frozen=True, slots=True)
class Backbone:
    """A causal language model whose own weights are frozen, and its tokenizer.

    `model` is the hub class, wrapped by peft once LoRA is added; `decoder` is always the inner stack of
    layers.
    """

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None

    @property
    def decoder(self) -> Any:
        """The module that owns `layers`, `embed_tokens` and `config`."""
        model: Any = self.model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        return base.model

    @property
    def layers(self) -> nn.ModuleList:
        return self.decoder.layers

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        return int(self.decoder.config.hidden_size)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def layer(self, index: int) -> nn.Module:
        """Decoder layer `index`.

        Raises:
            InsertionPointError: there is no such layer.
        """
        if not 0 < index < len(self.layers):
            raise InsertionPointError(index, len(self.layers))
        return self.layers[index]


def load_backbone(
    name: str = "tiny",
    *,
    revision: str | None = None,
    quantize: Literal["none", "nf4"] = "none",
    dtype: Literal["float32", "bfloat16"] = "float32",
    device: str = "cpu",
    checkpointing: bool = False,
) -> Backbone:
    """Load and freeze a causal language model.

    Args:
        name: `"tiny"` for the shipped one, a folder, or a hub name such as `"Qwen/Qwen2.5-3B"`.
        revision: commit of the hub repository; pin it.
        quantize: `"nf4"` stores linear weights in 4 bits with double quantisation (Dettmers et al. 2023).
        dtype: of the weights that are not quantised, and of the computation.
        device: one device; the store has one writer anyway.
        checkpointing: recompute activations in the backward pass, non-reentrant.

    Raises:
        BackboneUnavailableError: the model is neither here nor reachable.
        MissingExtra: `nf4` without bitsandbytes.
    """
    source = str(TINY) if name == "tiny" else name
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "device_map": {"": device}}
    if quantize == "nf4":
        options["quantization_config"] = _nf4(getattr(torch, dtype))
    elif device == "cpu":
        options.pop("device_map")
    if Path(source).is_dir():
        logging.disable_progress_bar()
    try:
        tokenizer, model = _read(source, revision, options)
    except OSError as error:
        raise BackboneUnavailableError(name, revision) from error
    freeze(model)
    if checkpointing:
        _checkpoint_activations(model)
    return Backbone(model.eval(), tokenizer, name, revision)


def _read(
    source: str, revision: str | None, options: dict[str, Any]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    """From this machine where it is here whole; else from the hub, if that answers at all.

    The hub's own client asks for a minute, and in 40 lines, before it believes that there is no network.
    """
    here = {"revision": revision, "local_files_only": True}
    try:
        return _tokenizer_and_model(source, here, options)
    except OSError:
        if Path(source).is_dir() or constants.HF_HUB_OFFLINE:
            raise
    with contextlib.suppress(HTTPError), urlopen(constants.ENDPOINT, timeout=10):  # any answer will do
        pass
    return _tokenizer_and_model(source, {"revision": revision}, options)


def _tokenizer_and_model(
    source: str, place: dict[str, Any], options: dict[str, Any]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    tokenizer = AutoTokenizer.from_pretrained(source, **place)
    return tokenizer, AutoModelForCausalLM.from_pretrained(source, **place, **options)


def _checkpoint_activations(model: PreTrainedModel) -> None:
    # transformers 5.23 renames the method and warns at the old name.
    new = getattr(model, "activation_checkpointing_enable", None)
    (new or model.gradient_checkpointing_enable)({"use_reentrant": False})


def freeze(model: nn.Module) -> None:
    """Freeze every weight by hand.

    peft's `prepare_model_for_kbit_training` would also cast the embedding to float32, over 1 GB at 3B.
    """
    model.requires_grad_(False)


def new_cache() -> DynamicCache:
    """An empty key-value cache, for token-by-token decoding."""
    return DynamicCache()


def _nf4(compute: torch.dtype) -> Any:
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise MissingExtra("bitsandbytes", "gpu") from error
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )
