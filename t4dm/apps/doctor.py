"""`t4dm doctor`: what is installed, what the machine has, and which experiments fit it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from rich.console import Console
from rich.table import Table

from t4dm.apps.config_verbs import names
from t4dm.backbone.load import TINY
from t4dm.config import compose, locate, plain
from t4dm.training.run_record import versions

GIB = 2**30
# Python with torch, transformers, lightning and scikit-learn, before any tensor, and what their allocators
# keep: whole runs of first_night, whose tensors come to 0.05 GiB, were measured to peak at 1,150 to 1,185 MiB
PROCESS = 1.15 * GIB
ADAM = 16  # bytes a trained parameter: weight, gradient and two moments in fp32
KEPT = 34  # bytes a token, channel and layer that the backward pass keeps (Korthikanti et al. 2022, eq. 2)


class Shape(NamedTuple):
    """Size of a backbone."""

    parameters: float
    width: int
    layers: int
    vocabulary: int


SHAPES = {
    "Qwen/Qwen2.5-0.5B": Shape(0.494e9, 896, 24, 151_936),
    "Qwen/Qwen2.5-3B": Shape(3.086e9, 2048, 36, 151_936),
}


class Need(NamedTuple):
    """An estimate in bytes, and what else an experiment asks for."""

    memory: float
    gpu: bool
    lacks: str


def run() -> None:
    """Print everything."""
    console = Console()
    console.print(_versions())
    ram, disk = psutil.virtual_memory(), shutil.disk_usage(Path.cwd())
    console.print(f"memory  {ram.available / GIB:.1f} of {ram.total / GIB:.1f} GiB free")
    console.print(f"disk    {disk.free / GIB:.1f} of {disk.total / GIB:.1f} GiB free here")
    console.print("device  " + (", ".join(_gpus()) or f"CPU, {psutil.cpu_count()} cores; no CUDA device"))
    console.print(fits())


def _versions() -> Table:
    table = Table("package", "version", box=None, header_style="bold")
    for package, version in versions().items():
        table.add_row(package, version)
    return table


def _gpus() -> list[str]:
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(f"{torch.cuda.get_device_name(index)}, {free / GIB:.1f} of {total / GIB:.1f} GiB free")
    return found


def fits() -> Table:
    """One row for each experiment: its estimate and whether this machine can hold it."""
    free = float(psutil.virtual_memory().available)
    gpu = float(torch.cuda.mem_get_info()[0]) if torch.cuda.is_available() else None
    table = Table("experiment", "needs", "here", title="experiments", title_justify="left")
    for name in names("experiment"):
        need = estimate(plain(compose("train", [name.replace("/", "=", 1)])))
        where = "GPU" if need.gpu else "memory"
        table.add_row(
            name.partition("/")[2], f"{need.memory / GIB:.1f} GiB {where}", verdict(need, ram=free, gpu=gpu)
        )
    return table


def verdict(need: Need, *, ram: float, gpu: float | None) -> str:
    """Yes, or what is in the way; `ram` and `gpu` are free bytes, `gpu` is None without one."""
    if need.gpu and gpu is None:
        return "no CUDA device"
    if need.lacks:
        return f"needs {need.lacks}: pip install 't4dm[gpu]'"
    free = gpu if need.gpu and gpu is not None else ram
    return "fits" if need.memory <= free else f"too large: {free / GIB:.1f} GiB free"


def estimate(cfg: Mapping[str, Any]) -> Need:
    """Peak bytes of training: weights, trained parameters with their moments, kept activations, logits."""
    backbone, data = cfg["model"]["backbone"], cfg["data"]
    shape = SHAPES.get(backbone["name"]) or _tiny_shape()
    gpu = cfg["trainer"].get("accelerator") == "gpu"
    quantised = backbone.get("quantize") == "nf4"
    width = 2 if backbone.get("dtype") == "bfloat16" else 4
    embedding = shape.vocabulary * shape.width
    body = shape.parameters - embedding
    weights = embedding * width + body * (0.56 if quantised else width)  # 4 bits and the scales of 64 weights
    rank = (cfg["model"].get("lora") or {}).get("rank", 0)
    trained = _stack_parameters(cfg["model"]["stack"]) + 4 * rank * shape.width * shape.layers
    tokens = _tokens(data)
    kept = KEPT * tokens * shape.width * (2 if backbone.get("checkpointing") else shape.layers)
    logits = 3 * 4 * tokens * shape.vocabulary
    missing = "bitsandbytes" if quantised and "bitsandbytes" not in versions() else ""
    return Need(weights + ADAM * trained + kept + logits + PROCESS, gpu, missing)


def _tiny_shape() -> Shape:
    size = sum(file.stat().st_size for file in TINY.glob("*.safetensors"))
    return Shape(max(size / 2, 1e6), 128, 4, 2048)


def _stack_parameters(node: Mapping[str, Any] | None) -> int:
    if not node or "_target_" not in node:
        return 0
    options = {key: value for key, value in node.items() if not key.startswith("_")}
    with torch.device("meta"):
        stack = locate(node["_target_"])(**options)
    return sum(parameter.numel() for parameter in stack.parameters())


def _tokens(data: Mapping[str, Any]) -> int:
    """Tokens of a batch, by the constructor's defaults where the config leaves them open."""
    import inspect

    if "recall" in data and "text" in data:
        return max(_tokens(data["recall"]), _tokens(data["text"]))
    defaults = {name: p.default for name, p in inspect.signature(locate(data["_target_"])).parameters.items()}
    chosen = {**defaults, **data}
    return int(chosen.get("lanes") or chosen.get("batch_size") or 1) * int(chosen.get("length") or 1)
