"""Named tensors out of nested state, and back: NamedTuples, dicts, lists and tuples of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from torch import Tensor

from t4dm.errors import BundleStateError

__all__ = ["flatten", "restore"]

Tree = TypeVar("Tree")


def flatten(tree: Any, prefix: str) -> dict[str, Tensor]:
    """Every tensor of a nested state under a path such as ``stack/0/lif/u``; None and plain values are left
    out.
    """
    if isinstance(tree, Tensor):
        return {prefix: tree}
    return {
        name: leaf
        for key, child in _children(tree)
        for name, leaf in flatten(child, f"{prefix}/{key}").items()
    }


def restore(template: Tree, tensors: Mapping[str, Tensor], prefix: str) -> Tree:
    """A state shaped like `template` with the tensors that `flatten` named, on the template's devices and
    dtypes.

    Raises:
        BundleStateError: a tensor is missing or has another shape.
    """
    if isinstance(template, Tensor):
        found = tensors.get(prefix)
        if found is None or found.shape != template.shape:
            shape = None if found is None else tuple(found.shape)
            raise BundleStateError(problem=f"{prefix} is {shape} instead of {tuple(template.shape)}")
        return found.to(device=template.device, dtype=template.dtype)  # type: ignore[return-value]
    values = {key: restore(child, tensors, f"{prefix}/{key}") for key, child in _children(template)}
    if isinstance(template, tuple) and hasattr(template, "_fields"):
        return type(template)(**values)
    if isinstance(template, list | tuple):
        return type(template)(values.values())
    return values if isinstance(template, Mapping) else template  # type: ignore[return-value]


def _children(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return list(zip(tree._fields, tree, strict=True))
    if isinstance(tree, list | tuple):
        return [(str(index), child) for index, child in enumerate(tree)]
    return [(str(key), child) for key, child in tree.items()] if isinstance(tree, Mapping) else []
