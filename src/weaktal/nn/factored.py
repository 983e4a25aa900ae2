"""Very wide linear layers, such as those on top of second-order descriptors, with less work and memory.

The gradient of a linear layer's weight has no more than rank B for B inputs, so its factors do in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.adam import adam

from weaktal.nn.parallel import world_size

# elements of a block of the gradient, 8 MiB: a product of fewer rows is slow
_BLOCK = 1 << 21


class FactoredLinear(nn.Linear):
    """`torch.nn.Linear` that can leave its weight gradient as factors, for `FactoredAdam`.

    The gradient of W in y = x Wᵀ is gᵀ x, with g the gradient of y. While `factored` is false the layer is an
    ordinary one; while it is true, a backward pass leaves ``weight.grad`` alone and appends (g, x) to
    `factors`.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.factored = False
        self.factors: list[tuple[Tensor, Tensor]] = []

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Inputs (..., in) to outputs (..., out)."""
        trained = torch.is_grad_enabled() and self.weight.requires_grad
        # half precision comes with a scaling of the loss, which looks into `grad`
        if not (self.factored and trained) or _half_precision(input.device):
            return super().forward(input)
        out = F.linear(input, self.weight.detach(), self.bias)
        if not out.requires_grad:  # neither a bias nor an input that is trained
            out.requires_grad_()
        out.register_hook(  # type: ignore[no-untyped-call]
            lambda gradient: self.factors.append((gradient.detach(), input.detach()))
        )
        return out

    def take_factors(self) -> tuple[Tensor, Tensor]:
        """All factors since the last call: (B, out) and (B, in), whose product gᵀ x is the gradient."""
        gradients, inputs = (
            torch.cat([x.reshape(-1, x.shape[-1]) for x in side]).to(self.weight.dtype)
            for side in zip(*self.factors, strict=True)
        )
        self.factors.clear()
        return gradients, inputs


def _half_precision(device: torch.device) -> bool:
    on = torch.is_autocast_enabled(device.type)
    return on and torch.get_autocast_dtype(device.type) == torch.float16


def adam_naive(module: nn.Module, *, lr: float, weight_decay: float) -> torch.optim.Adam:
    """`FactoredAdam` with whole gradients."""
    return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=weight_decay, fused=True)


class FactoredAdam(torch.optim.Adam):
    """Fused Adam in which the gradients of `FactoredLinear` weights exist a block of rows at a time.

    The numbers are those of `adam_naive` up to the rounding of the matrix product, and the state has the same
    layout. What is saved is the gradient itself: its memory, and the time to write and read it. Not where
    several processes train together and sum their gradients: there this is fused Adam.

    Args:
        module: all its parameters are trained; its `FactoredLinear` layers keep factors from now on.
        lr, weight_decay: as for Adam (L2 regularisation in the gradient).
    """

    def __init__(self, module: nn.Module, *, lr: float, weight_decay: float) -> None:
        super().__init__(module.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
        self.layers = [layer for layer in module.modules() if isinstance(layer, FactoredLinear)]
        for layer in self.layers:
            layer.factored = world_size() == 1

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for layer in self.layers:
            layer.factors.clear()

    def step(self, closure: Callable[[], float] | None = None) -> Any:
        loss = super().step(closure)
        for layer in self.layers:
            if layer.factors:
                self._step_layer(layer)
        return loss

    @torch.no_grad()
    def _step_layer(self, layer: FactoredLinear) -> None:
        weight, group = layer.weight, self.param_groups[0]  # the only one
        settings = {name: group[name] for name in ("lr", "weight_decay", "eps", "amsgrad", "maximize")}
        state = self.state[weight]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=weight.device)
            state["exp_avg"] = torch.zeros_like(weight)
            state["exp_avg_sq"] = torch.zeros_like(weight)
        gradients, inputs = layer.take_factors()
        rows = max(1, _BLOCK // weight.shape[1])
        steps = state["step"].clone()
        for part in (slice(low, low + rows) for low in range(0, len(weight), rows)):
            state["step"].copy_(steps)  # every block counts the same step
            adam(
                [weight[part]],
                [gradients[:, part].T @ inputs],
                [state["exp_avg"][part]],
                [state["exp_avg_sq"][part]],
                [],
                [state["step"]],
                fused=True,
                beta1=group["betas"][0],
                beta2=group["betas"][1],
                **settings,
            )
