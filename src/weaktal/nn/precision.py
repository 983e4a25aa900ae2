"""Functions with a backward pass of our own, under mixed precision."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def apply_whole(function: type[torch.autograd.Function], first: Tensor, *others: Any) -> Any:
    """Call a function; where autocast is on, outside of it, with half-precision tensors made float32.

    Its backward pass then meets the types that its forward pass had.
    """
    if not torch.is_autocast_enabled(first.device.type):
        return function.apply(first, *others)  # type: ignore[no-untyped-call]

    def whole(x: Any) -> Any:
        return x.float() if isinstance(x, Tensor) and x.dtype in (torch.float16, torch.bfloat16) else x

    with torch.autocast(first.device.type, enabled=False):
        return function.apply(*map(whole, (first, *others)))  # type: ignore[no-untyped-call]
