"""Temporal convolutions over (B, T, C), the fastest way for their width and device.

Narrow layers of three taps are three matrix products of rows on a CPU, the outer two shifted by a row: rows
are what every other layer works on, and the gradient of the weight is three products as well.

Wide layers of three taps use Winograd's F(6, 3) there (Lavin and Gray 2016): six outputs come from eight
products of transformed inputs and weights in place of eighteen. Results are those of the usual convolution
to rounding, about 1e-6 of the largest output.

A tile is six outputs and the eight inputs that they see. Tiles are made, multiplied and read in blocks of
videos, in memory that all blocks share: fresh memory costs more than the transforms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# a layer of at least this many input-output pairs is wide: below it the transforms cost more than they save
WIDE = 2**18
# tiles that are multiplied at once: enough for the full speed of a matrix product, and few enough that 2048
# channels of them stay below the 32 MiB from which the allocator takes fresh pages
BLOCK = 448

SEEN, MADE = 8, 6  # inputs and outputs of a tile
# to the products of a tile: from its inputs, from the three taps; and from the products to its outputs
_INPUTS = (
    (1, 0, -21 / 4, 0, 21 / 4, 0, -1, 0),
    (0, 1, 1, -17 / 4, -17 / 4, 1, 1, 0),
    (0, -1, 1, 17 / 4, -17 / 4, -1, 1, 0),
    (0, 1 / 2, 1 / 4, -5 / 2, -5 / 4, 2, 1, 0),
    (0, -1 / 2, 1 / 4, 5 / 2, -5 / 4, -2, 1, 0),
    (0, 2, 4, -5 / 2, -5, 1 / 2, 1, 0),
    (0, -2, 4, 5 / 2, -5, -1 / 2, 1, 0),
    (0, -1, 0, 21 / 4, 0, -21 / 4, 0, 1),
)
_TAPS = (
    (1, 0, 0),
    (-2 / 9, -2 / 9, -2 / 9),
    (-2 / 9, 2 / 9, -2 / 9),
    (1 / 90, 1 / 45, 2 / 45),
    (1 / 90, -1 / 45, 2 / 45),
    (32 / 45, 16 / 45, 8 / 45),
    (32 / 45, -16 / 45, 8 / 45),
    (0, 0, 1),
)
_OUTPUTS = (
    (1, 1, 1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 1 / 2, -1 / 2, 0),
    (0, 1, 1, 4, 4, 1 / 4, 1 / 4, 0),
    (0, 1, -1, 8, -8, 1 / 8, -1 / 8, 0),
    (0, 1, 1, 16, 16, 1 / 16, 1 / 16, 0),
    (0, 1, -1, 32, -32, 1 / 32, -1 / 32, 1),
)


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d` of one or three taps that keeps the length, for (B, T, C) in and out."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        if kernel not in (1, 3):
            raise ValueError(f"one or three taps, not {kernel}")
        super().__init__(inputs, outputs, kernel, padding=kernel // 2)
        self._kept: Tensor | None = None  # transformed taps within `constant_weights`
        self._keeps = False

    def forward(self, input: Tensor) -> Tensor:
        if self.kernel_size[0] == 1 and input.is_contiguous():
            return F.linear(input, self.weight[..., 0], self.bias)
        narrow = self.kernel_size[0] == 3 and self.in_channels * self.out_channels < WIDE
        if narrow and input.device.type == "cpu":
            b, t, _ = input.shape
            return convolve_rows(input.flatten(0, 1), [t] * b, self.weight, self.bias).view(b, t, -1)
        if self.kernel_size[0] == 1 or not _on_cpu(input):
            return super().forward(input.transpose(1, 2)).transpose(1, 2)
        taps = _weight_tiles(self.weight.detach()) if self._kept is None else self._kept
        if self._keeps:
            self._kept = taps
        out: Tensor = _Winograd.apply(input, self.weight, self.bias, taps)  # type: ignore[no-untyped-call]
        return out


def convolve_rows(rows: Tensor, lengths: Sequence[int], weight: Tensor, bias: Tensor | None) -> Tensor:
    """Convolution of three taps within each of B sequences whose rows stand one after another.

    Args:
        rows: (N, C).
        lengths: B lengths with sum N; outside of a sequence there are zeros.
        weight: (O, C, 3).
        bias: (O,) or None.

    Returns:
        (N, O).
    """
    if _on_cpu(rows) and not torch.is_autocast_enabled("cpu"):
        out: Tensor = _Taps.apply(rows, weight, bias, list(lengths))  # type: ignore[no-untyped-call]
        return out
    if len(set(lengths)) == 1:
        video = rows.view(len(lengths), lengths[0], -1)
        return F.conv1d(video.mT, weight, bias, padding=1).mT.flatten(0, 1)
    # in one line, with a row of zeros after every sequence
    sizes = torch.tensor(lengths)
    place = torch.arange(len(rows)) + torch.repeat_interleave(torch.arange(len(sizes)), sizes)
    place = place.to(rows.device)
    line = rows.new_zeros(len(rows) + len(sizes), rows.shape[1]).index_copy(0, place, rows)
    return F.conv1d(line.T[None], weight, bias, padding=1)[0].T.index_select(0, place)


def _on_cpu(x: Tensor) -> bool:
    """Whether the products below serve."""
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


class _Taps(torch.autograd.Function):
    """`convolve_rows` as products of rows: with the middle tap, and one row up and down with the others."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None, lengths: list[int]) -> Tensor:
        ctx.save_for_backward(rows, weight)
        ctx.lengths = lengths
        before, here, after = weight.permute(2, 1, 0).contiguous()
        out = rows @ here if bias is None else torch.addmm(bias, rows, here)
        for x, y in zip(_videos(rows, lengths), _videos(out, lengths), strict=True):
            _add_products(y[:, 1:], x[:, :-1], before)
            _add_products(y[:, :-1], x[:, 1:], after)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        g, lengths = grads[0].contiguous(), ctx.lengths
        parts = list(zip(_videos(rows, lengths), _videos(g, lengths), strict=True))
        dx = dweight = None
        if ctx.needs_input_grad[0]:
            before, here, after = weight.permute(2, 0, 1).contiguous()
            dx = g @ here
            for d, (_, y) in zip(_videos(dx, lengths), parts, strict=True):
                _add_products(d[:, :-1], y[:, 1:], before)
                _add_products(d[:, 1:], y[:, :-1], after)
        if ctx.needs_input_grad[1]:
            taps = weight.new_zeros(3, *weight.shape[:2])
            torch.mm(g.T, rows, out=taps[1])
            for x, y in parts:
                taps[0].addbmm_(y[:, 1:].mT, x[:, :-1])
                taps[2].addbmm_(y[:, :-1].mT, x[:, 1:])
            dweight = taps.permute(1, 2, 0)
        return dx, dweight, g.sum(0) if ctx.needs_input_grad[2] else None, None


def _videos(rows: Tensor, lengths: list[int]) -> list[Tensor]:
    """Views (b, T, C) of the sequences: all together if they are equally long, else one by one."""
    if len(set(lengths)) == 1:
        return [rows.view(len(lengths), lengths[0], rows.shape[1])]
    return [x[None] for x in torch.split(rows, lengths)]


def _add_products(out: Tensor, a: Tensor, b: Tensor) -> None:
    torch.baddbmm(out, a, b.expand(len(a), -1, -1), out=out)


@contextmanager
def constant_weights(module: nn.Module) -> Iterator[None]:
    """A stretch in which no weight of `module` changes, so that each is transformed once for all calls."""
    convs = [child for child in module.modules() if isinstance(child, Conv1d)]
    for conv in convs:
        conv._keeps = True
    try:
        yield
    finally:
        for conv in convs:
            conv._keeps, conv._kept = False, None


class _Winograd(torch.autograd.Function):
    """Convolution of x (B, T, C) with `weight` (O, C, 3), of which `taps` are the `_weight_tiles`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, taps: Tensor) -> Tensor:
        ctx.save_for_backward(x, taps if ctx.needs_input_grad[0] else None)
        return _convolve(x, taps, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, taps = ctx.saved_tensors
        g = grads[0].contiguous()
        dx, dweight = _gradients(x, taps, g, ctx.needs_input_grad[1])
        return dx, dweight, g.sum((0, 1)) if ctx.needs_input_grad[2] else None, None


def _weight_tiles(weight: Tensor) -> Tensor:
    """(O, C, 3) to (8, O, C), in one product."""
    tiles = weight.new_tensor(_TAPS) @ weight.reshape(-1, 3).T
    return tiles.reshape(SEEN, *weight.shape[:2])


class _Blocks:
    """Whole videos of (B, T, C) in blocks, as tiles.

    Args:
        like: gives B and T, type and device.
        channels: C.
    """

    def __init__(self, like: Tensor, channels: int) -> None:
        b, self.t = like.shape[:2]
        self.n = -(-self.t // MADE)
        self.videos = max(1, min(b, BLOCK // self.n))
        self.padded = like.new_empty(self.videos, MADE * self.n + 2, channels)
        self.padded[:, 0] = self.padded[:, self.t + 1 :] = 0
        self.tiles = like.new_empty(self.videos * self.n, SEEN, channels)
        self.matrix = like.new_tensor(_INPUTS).expand(self.n, SEEN, SEEN)

    def __call__(self, x: Tensor) -> Tensor:
        """(at most `videos`, T, C) to (tiles, 8, C)."""
        size = (self.n, SEEN, x.shape[2])
        self.padded[: len(x), 1 : self.t + 1] = x
        for video, padded in enumerate(self.padded[: len(x)]):
            seen = padded.as_strided(size, (MADE * size[2], size[2], 1))
            torch.bmm(self.matrix, seen, out=self.tiles[video * self.n : (video + 1) * self.n])
        return self.tiles[: len(x) * self.n]


def _convolve(x: Tensor, taps: Tensor, bias: Tensor | None) -> Tensor:
    """(B, T, C) and transformed taps (8, O, C) to (B, T, O)."""
    b, t, outputs = len(x), x.shape[1], taps.shape[1]
    blocks = _Blocks(x, x.shape[2])
    n, matrix = blocks.n, x.new_tensor(_OUTPUTS)
    out = x.new_empty(b, MADE * n, outputs)
    products = x.new_empty(len(blocks.tiles), SEEN, outputs)
    for low in range(0, b, blocks.videos):
        tiles = blocks(x[low : low + blocks.videos])
        made = products[: len(tiles)]
        for i in range(SEEN):
            torch.mm(tiles[:, i], taps[i].T, out=made[:, i])
        if bias is not None:
            made[:, 1] += bias  # which counts once in every output
        part = out[low : low + blocks.videos].view(-1, MADE, outputs)
        torch.bmm(matrix.expand(len(tiles), MADE, SEEN), made, out=part)
    return out if t == MADE * n else out[:, :t].contiguous()


def _gradients(
    x: Tensor, taps: Tensor | None, g: Tensor, needs_weight: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of the inputs and of the weight.

    Args:
        x: (B, T, C), inputs.
        taps: (8, O, C), transformed; None if the inputs need no gradient.
        g: (B, T, O), gradient of the outputs.
    """
    b, t, channels = x.shape
    outputs = g.shape[2]
    blocks = _Blocks(x, channels)
    n, videos = blocks.n, blocks.videos
    if MADE * n != t:
        g = F.pad(g, (0, 0, 0, MADE * n - t))
    matrix, back = x.new_tensor(_OUTPUTS).T, blocks.matrix[0].T
    g_tiles = x.new_empty(len(blocks.tiles), SEEN, outputs)
    x_tiles = torch.empty_like(blocks.tiles)
    dx = None if taps is None else x.new_empty(b, MADE * n, channels)
    dtaps = x.new_zeros(SEEN, outputs, channels) if needs_weight else None
    for low in range(0, b, videos):
        part = g[low : low + videos].reshape(-1, MADE, outputs)
        made = g_tiles[: len(part)]
        torch.bmm(matrix.expand(len(part), SEEN, MADE), part, out=made)
        if dtaps is not None:
            tiles = blocks(x[low : low + videos])
            for i in range(SEEN):
                torch.addmm(dtaps[i], made[:, i].T, tiles[:, i], out=dtaps[i])
        if dx is not None and taps is not None:
            tiles = x_tiles[: len(part)]
            for i in range(SEEN):
                torch.mm(made[:, i], taps[i], out=tiles[:, i])
            # a tile's inner inputs are snippets in turn; the first and last belong to its neighbours
            own = dx[low : low + videos].view(-1, n, MADE, channels)
            torch.bmm(back[1:-1].expand(len(part), MADE, SEEN), tiles, out=own.flatten(0, 1))
            per_video = tiles.view(-1, n, SEEN, channels)
            own[:, 1:, 0] += per_video[:, :-1, -1]
            own[:, :-1, -1] += per_video[:, 1:, 0]
    dweight = None
    if dtaps is not None:
        dweight = (dtaps.view(SEEN, -1).T @ x.new_tensor(_TAPS)).view(outputs, channels, 3)
    return None if dx is None else dx[:, :t], dweight
