"""What the loop does where several processes train together; `weaktal.nn.parallel` is the networks' side."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from weaktal.nn.parallel import world_size


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes; the gradient of the sum is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone()
        dist.all_reduce(out)
        return out


def _summed(x: Tensor) -> Tensor:
    out: Tensor = _SumOverProcesses.apply(x)  # type: ignore[no-untyped-call]
    return out


class GlobalBatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation with the statistics of the rows of all processes (CPU and GPU).

    Within `by_rows` only; the running statistics stay equal on all processes. Weighs every value equally, so
    shares of unequal size are handled.
    """

    def forward(self, input: Tensor) -> Tensor:
        if world_size() == 1 or not self.training:
            return super().forward(input)
        axes = [0] if input.dim() == 2 else [0, 2]
        shape = [1, -1] if input.dim() == 2 else [1, -1, 1]
        x = input if input.dtype == torch.float64 else input.float()
        count = x.new_full((1,), x.numel() / x.shape[1])
        sums = _summed(torch.cat([x.sum(axes), count]))
        n, mean = sums[-1], sums[:-1] / sums[-1]
        centred = x - mean.view(shape)
        variance = _summed(centred.square().sum(axes)) / n
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                unbiased = variance * (n / (n - 1).clamp(min=1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        out = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        result: Tensor = out.to(input.dtype)
        return result


def make_batch_norm_global(module: nn.Module) -> None:
    """Let every `nn.BatchNorm1d` inside use the statistics of all processes, in place; names stay."""
    for child in module.modules():
        if type(child) is nn.BatchNorm1d:
            child.__class__ = GlobalBatchNorm1d


def sum_gradients(module: nn.Module) -> None:
    """Sum the gradients of all parameters over processes, in few large messages."""
    if world_size() == 1:
        return
    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for parameter in module.parameters():
        if parameter.grad is not None:
            groups.setdefault((parameter.grad.dtype, parameter.grad.device), []).append(parameter.grad)
    for grads in groups.values():
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for grad, part in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(part.view_as(grad))
