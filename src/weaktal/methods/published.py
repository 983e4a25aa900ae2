"""Official checkpoints: weights by the names of a method's published code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from weaktal.core import InputError, did_you_mean


def published_weights(state_dict: Mapping[str, Any]) -> dict[str, Tensor]:
    """Tensors by name, without the "module." that data-parallel training puts in front."""
    return {
        name.removeprefix("module."): torch.as_tensor(value).detach().cpu()
        for name, value in state_dict.items()
    }


def shape_of(weights: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    """The shape of a weight, from which a network's sizes are read.

    Raises:
        InputError: it is missing or has another number of axes.
    """
    if name not in weights:
        raise InputError("the checkpoint lacks a weight", field=name, hint=did_you_mean(name, weights))
    shape = tuple(weights[name].shape)
    if len(shape) != axes:
        raise InputError("a weight has the wrong shape", field=name, found=shape, expected=f"{axes} axes")
    return shape


def class_names(classes: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Class names for `count` outputs; "class 0", "class 1", ... where none are given.

    Raises:
        InputError: their number differs from the checkpoint's.
    """
    if classes is None:
        return tuple(f"class {i}" for i in range(count))
    if len(classes) != count:
        raise InputError(
            "the number of classes differs from the checkpoint's", found=len(classes), expected=count
        )
    return tuple(classes)


def load_published(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights whose names are the module's own.

    Raises:
        InputError: a weight is missing, unexpected or has the wrong shape.
    """
    own = module.state_dict()
    missing = [n for n in own if n not in weights]
    unexpected = [n for n in weights if n not in own]
    if missing or unexpected:
        raise InputError(
            "the checkpoint does not fit this method",
            field=(missing or unexpected)[0],
            found="unexpected " + (", ".join(unexpected) or "nothing"),
            expected="also " + (", ".join(missing) or "nothing"),
            hint=did_you_mean(unexpected[0], own) if unexpected else None,
        )
    for name, value in own.items():
        if weights[name].shape != value.shape:
            raise InputError(
                "a weight has the wrong shape",
                field=name,
                found=tuple(weights[name].shape),
                expected=tuple(value.shape),
            )
    module.load_state_dict(dict(weights))
