"""Temporal convolutions over (B, T, C), the fastest way for their width and device.

Wide layers of three taps use Winograd's F(4, 3) on a CPU (Lavin and Gray 2016): four outputs come from six
products of transformed inputs and weights in place of twelve, so that one batched matrix product of half the
size does the work. Results are those of the usual convolution to rounding, about 1e-6 of the largest output.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# a layer of at least this many input-output pairs is wide: below it the transforms cost more than they save
WIDE = 2**18


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` of one or three taps that keeps the length, for (B, T, C) in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        if kernel not in (1, 3):
            raise ValueError(f"one or three taps, not {kernel}")
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size[0] == 1 and input.is_contiguous():
            return F.linear(input, self.weight[..., 0], self.bias)
        wide = self.in_channels * self.out_channels >= WIDE
        usual = self.kernel_size[0] == 1 or not wide or input.device.type != "cpu"
        if usual or input.dtype not in (torch.float32, torch.float64):
            return super().forward(input.transpose(1, 2)).transpose(1, 2)
        out: Tensor = _Winograd.apply(input, self.weight)  # type: ignore[no-untyped-call]
        if self.bias is None:
            return out
        return out + self.bias if torch.is_grad_enabled() else out.add_(self.bias)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        taps = weight.permute(2, 0, 1).contiguous()
        return _outputs(_input_tiles(x) @ _weight_tiles(taps).transpose(1, 2), *x.shape[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        (g,) = grads
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            turned = _weight_tiles(weight.permute(2, 0, 1).flip(0))
            dx = _outputs(_input_tiles(g) @ turned, *g.shape[:2])
        if ctx.needs_input_grad[1]:
            dtaps = _taps_of_tiles(_output_tiles(g).transpose(1, 2) @ _input_tiles(x))
            dweight = dtaps.permute(1, 2, 0).contiguous()
        return dx, dweight


def _input_tiles(x: Tensor) -> Tensor:
    """(B, T, C) to (6, B n, C): six transformed values for each of n tiles of four snippets."""
    b, t, c = x.shape
    n = -(-t // 4)
    padded = F.pad(x, (0, 0, 1, 4 * n + 1 - t))
    d = [padded[:, i : i + 4 * n - 3 : 4] for i in range(6)]
    out = x.new_empty(6, b, n, c)
    torch.add(d[4] - 5 * d[2], d[0], alpha=4, out=out[0])
    even, odd = torch.sub(d[4], d[2], alpha=4), torch.sub(d[3], d[1], alpha=4)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    even, odd = d[4] - d[2], d[3] - d[1]
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.add(d[5] - 5 * d[3], d[1], alpha=4, out=out[5])
    return out.flatten(1, 2)


def _weight_tiles(taps: Tensor) -> Tensor:
    """(3, O, C) to (6, O, C)."""
    a, b, c = taps
    out = taps.new_empty(6, *a.shape)
    torch.mul(a, 1 / 4, out=out[0])
    ends, middle = (a + c).mul_(-1 / 6), b * (1 / 6)
    torch.sub(ends, middle, out=out[1])
    torch.add(ends, middle, out=out[2])
    ends = torch.add(a, c, alpha=4).mul_(1 / 24)
    torch.add(ends, middle, alpha=1 / 2, out=out[3])
    torch.sub(ends, middle, alpha=1 / 2, out=out[4])
    out[5] = c
    return out


def _outputs(m: Tensor, b: int, t: int) -> Tensor:
    """(6, B n, O) products to (B, T, O)."""
    near, far = m[1] + m[2], m[3] + m[4]
    near_odd, far_odd = m[1] - m[2], m[3] - m[4]
    out = m.new_empty(m.shape[1], 4, m.shape[2])
    torch.add(near + far, m[0], out=out[:, 0])
    torch.add(near_odd, far_odd, alpha=2, out=out[:, 1])
    torch.add(near, far, alpha=4, out=out[:, 2])
    torch.add(near_odd + m[5], far_odd, alpha=8, out=out[:, 3])
    return out.reshape(b, -1, m.shape[2])[:, :t]


def _output_tiles(g: Tensor) -> Tensor:
    """The transpose of `_outputs`: (B, T, O) to (6, B n, O)."""
    b, t, o = g.shape
    n = -(-t // 4)
    g0, g1, g2, g3 = F.pad(g, (0, 0, 0, 4 * n - t)).reshape(b * n, 4, o).unbind(1)
    near, far = g0 + g2, g0 + 4 * g2
    near_odd, far_odd = g1 + g3, 2 * g1 + 8 * g3
    return torch.stack([g0, near + near_odd, near - near_odd, far + far_odd, far - far_odd, g3])


def _taps_of_tiles(u: Tensor) -> Tensor:
    """The transpose of `_weight_tiles`: (6, O, C) to (3, O, C)."""
    near, far = (u[1] + u[2]).mul_(1 / 6), (u[3] + u[4]).mul_(1 / 6)
    a = u[0] / 4 - near + far / 4
    b = (u[2] - u[1]) / 6 + (u[3] - u[4]) / 12
    return torch.stack([a, b, far - near + u[5]])
