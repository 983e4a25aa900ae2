"""Data-parallel training whose losses still see the whole batch: docs/distributed.md says why.

Every process holds the whole batch, runs the network on its share of the rows only (`by_rows`), gathers the
outputs of all processes, and computes the losses of the whole batch. Gradients flow back through the gather
to the rows of each process and the loop sums them. The result is that of one process, to rounding. In one
process `by_rows` is a plain call.

The rule for gradients: every process back-propagates ``loss / processes`` and the loop sums gradients over
processes. A parameter used outside `by_rows` is then counted once; `_Gather` multiplies by the number of
processes, so that a parameter inside is counted once as well; `_Whole` divides again. The loop's side of it
is `weaktal.train.parallel`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

_paused = False


@contextmanager
def paused() -> Iterator[None]:
    """A stretch in which this process works alone, such as an evaluation on the first process only."""
    global _paused
    before, _paused = _paused, True
    try:
        yield
    finally:
        _paused = before


def world_size() -> int:
    """Processes that train together, 1 without `torch.distributed`."""
    return 1 if _paused or not (dist.is_available() and dist.is_initialized()) else int(dist.get_world_size())


def by_rows(function: Callable[..., Any], *rows: Any, **shared: Any) -> Any:
    """Call a network on a batch; with several processes each takes its share of the rows.

    Args:
        function: row ``b`` of every output may depend on row ``b`` of `rows` only (batch normalisation
            excepted: the loop makes it global). Every tensor it returns has the batch as its first axis.
        rows: tensors with the batch as their first axis, or tuples, dicts, dataclasses of them; or None.
        shared: passed on as they are, tensors whole.

    Returns:
        What `function` returns for the whole batch, on every process.
    """
    if world_size() == 1:
        return function(*rows, **shared)
    sizes = {len(x) for x in _tensors(rows)}
    if len(sizes) != 1:
        raise ValueError(f"by_rows: first axes of different lengths: {sorted(sizes)}")
    return by_videos(lambda own, _, **whole: function(*own, **whole), rows, [1] * sizes.pop(), **shared)


def by_videos(function: Callable[..., Any], rows: Any, lengths: Sequence[int], **shared: Any) -> Any:
    """`by_rows` for videos packed one after another.

    Args:
        function: called with rows and their lengths. The tensors it returns have the rows, some of
            the rows, or the videos as their first axis, in order.
        rows: (N, D), or several such tensors.
        lengths: B lengths with sum N.
        shared: passed on as they are, tensors whole.
    """
    processes = world_size()
    if processes == 1:
        return function(rows, lengths, **shared)
    if len(lengths) < processes:  # too few to share out: every process does all, with the same random numbers
        with paused():
            return function(rows, lengths, **shared)
    parts = [part.tolist() for part in torch.tensor(lengths).tensor_split(processes)]
    counts = [sum(part) for part in parts]
    own = _map(rows, lambda x: _own(_whole(x), counts))
    with _own_random_stream():
        out = function(own, parts[dist.get_rank()], **_map(shared, _whole))
    found = _tensors(out)
    size = torch.tensor([len(x) for x in found], device=found[0].device)
    sizes = [torch.empty_like(size) for _ in parts]
    dist.all_gather(sizes, size)
    each = iter(torch.stack(sizes, 1).tolist())
    return _map(out, lambda x: _Gather.apply(x, next(each)))  # type: ignore[no-untyped-call]


def _map(x: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A nested structure of tensors with every tensor changed."""
    if isinstance(x, Tensor):
        return change(x)
    if isinstance(x, dict):
        return {k: _map(v, change) for k, v in x.items()}
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*(_map(v, change) for v in x))
    if isinstance(x, (list, tuple)):
        return type(x)(_map(v, change) for v in x)
    if is_dataclass(x) and not isinstance(x, type):
        return replace(x, **{f.name: _map(getattr(x, f.name), change) for f in fields(x) if f.init})
    return x


def _tensors(x: Any) -> list[Tensor]:
    """All tensors of a nested structure, in the order in which `_map` meets them."""
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _map(x, note)
    return found


def _own(x: Tensor, counts: list[int]) -> Tensor:
    """The rows of this process, of which each one has so many."""
    first = sum(counts[: dist.get_rank()])
    return x[first : first + counts[dist.get_rank()]]


class _Gather(torch.autograd.Function):
    """The rows of all processes, of which each one has so many."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, counts: list[int]) -> Tensor:
        ctx.counts = counts
        if not max(counts):
            return x
        wire = x.new_zeros((max(counts), *x.shape[1:]))
        wire[: len(x)] = x
        # gloo has no bool or half: their bytes travel
        wire = wire.view(torch.uint8) if x.dtype in (torch.bool, torch.bfloat16, torch.float16) else wire
        parts = [torch.empty_like(wire) for _ in counts]
        dist.all_gather(parts, wire)
        return torch.cat([p.view(x.dtype)[:n] for p, n in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _own(grads[0], ctx.counts) * len(ctx.counts), None


class _Whole(torch.autograd.Function):
    """A tensor of which every process uses a part, or all for its own rows; gradients are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(out)
        return out / dist.get_world_size()


def _whole(x: Tensor) -> Tensor:
    out: Tensor = _Whole.apply(x) if x.requires_grad else x  # type: ignore[no-untyped-call]
    return out


_streams = (0, 0)  # the seed of this step, and how many streams were made from it


@contextmanager
def _own_random_stream() -> Iterator[None]:
    """Random numbers of this process alone; afterwards all go on where the common stream was.

    Depends on the seed that the loop sets for the step, on the call within the step, and on the process.
    """
    global _streams
    seed = torch.initial_seed()
    _streams = (seed, _streams[1] + 1 if _streams[0] == seed else 0)
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        key = [seed, _streams[1], dist.get_rank()]
        torch.manual_seed(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:7]))
        yield
