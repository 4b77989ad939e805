"""Load a frozen causal language model: the shipped tiny one, or any decoder of the hub by name and
revision.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import HTTPError
from urllib.request import urlopen

import torch
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from t4dm.backbone.quantize import keep_layout, nf4_config
from t4dm.backbone.weights import check_room, free_bytes
from t4dm.errors import (
    BackboneUnavailableError,
    InsertionPointError,
    UnsupportedBackboneError,
)

TINY = Path(__file__).parent / "tiny"
DECODERS = ("qwen2", "qwen3", "llama", "mistral")
"""Model types whose layers the tap was proved on; Qwen2.5 is of type qwen2."""
FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""What is fetched of a hub repository: configs, tokenizer, weights."""


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
        quantize: `"nf4"` stores linear weights in 4 bits with double quantisation (Dettmers et al. 2023), on
            a GPU or a CPU.
        dtype: of the weights that are not quantised, and of the computation.
        device: one device; the store has one writer anyway.
        checkpointing: recompute activations in the backward pass, non-reentrant.

    Raises:
        BackboneUnavailableError: the model is neither here nor reachable.
        UnsupportedBackboneError: it is no decoder of a type in `DECODERS`.
        BackboneTooLargeError: its weights need more memory than the device has free; told before loading.
        NoGpuError: `device` is a GPU and there is none.
        MissingExtra: `nf4` without bitsandbytes.
    """
    source = str(TINY) if name == "tiny" else name
    free = free_bytes(device)
    options: dict[str, Any] = {"dtype": getattr(torch, dtype), "device_map": {"": device}}
    if quantize == "nf4":
        options["quantization_config"] = nf4_config(getattr(torch, dtype))
    elif device == "cpu":
        options.pop("device_map")
    if Path(source).is_dir():
        logging.disable_progress_bar()

    def admit(config: Any) -> None:
        _check_decoder(name, config.model_type)
        check_room(config, name=name, quantize=quantize, dtype=dtype, device=device, free=free)

    try:
        tokenizer, model, commit = _read(source, revision, options, admit)
    except (OSError, HFValidationError) as error:
        raise BackboneUnavailableError(name, revision) from error
    freeze(model)
    keep_layout(model)
    if checkpointing:
        _checkpoint_activations(model)
    return Backbone(model.eval(), tokenizer, name, commit)


def _read(
    source: str, revision: str | None, options: dict[str, Any], admit: Callable[[Any], None]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel, str | None]:
    """From this machine where it is here whole; else from the hub, if that answers at all.

    The hub's own client asks for a minute, and in 40 lines, before it believes that there is no network; so
    what is here is read as a folder, about which nobody is asked. The last value is the commit, also where
    the revision was a branch or none.
    """
    if Path(source).is_dir():
        return (*_from_folder(source, options, admit), revision)
    try:
        folder = snapshot_download(source, revision=revision, local_files_only=True)
        return (*_from_folder(folder, options, admit), Path(folder).name)
    except OSError:
        if constants.HF_HUB_OFFLINE:
            raise
    with contextlib.suppress(HTTPError), urlopen(constants.ENDPOINT, timeout=10):  # any answer will do
        pass
    admit(_config(source, revision))  # before gigabytes are fetched
    folder = snapshot_download(source, revision=revision, allow_patterns=FILES)
    return (*_from_folder(folder, options, admit), Path(folder).name)


def _from_folder(
    folder: str, options: dict[str, Any], admit: Callable[[Any], None]
) -> tuple[PreTrainedTokenizerBase, PreTrainedModel]:
    admit(_config(folder, None))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    return tokenizer, AutoModelForCausalLM.from_pretrained(folder, **options)


def _config(source: str, revision: str | None) -> Any:
    try:
        return AutoConfig.from_pretrained(source, revision=revision)
    except ValueError as error:  # a type that this transformers does not know
        raise UnsupportedBackboneError(source, "model of a type unknown here", DECODERS) from error


def _check_decoder(name: str, model_type: str) -> None:
    if model_type not in DECODERS:
        raise UnsupportedBackboneError(name, f"{model_type} model", DECODERS)


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
