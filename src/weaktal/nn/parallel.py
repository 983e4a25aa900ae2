"""Data-parallel training whose losses still see the whole batch.

The losses of this field look across videos: pairs of videos, mix-up with a neighbour, running statistics,
memories, batch normalisation. Averaging the losses of processes would change them. So every process holds
the whole batch, runs the expensive part, the network, on its share of the rows only (`by_rows`), gathers the
outputs of all processes, and computes the losses of the whole batch. Everything after the network is the
same computation on every process; gradients flow back through the gather to the rows of each process and
the loop sums them. The result is that of one process, to rounding. In one process `by_rows` is a plain call.

The rule for gradients: every process back-propagates ``loss / processes`` and the loop sums gradients over
processes. A parameter used outside `by_rows` is then counted once; `_Gather` multiplies by the number of
processes, so that a parameter inside is counted once as well; `_Scatter` divides again. The loop's side of it
is `weaktal.train.parallel`.
"""

from __future__ import annotations

import hashlib
import itertools
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


def _shares(rows: int, parts: int) -> list[int]:
    """Rows per process, as even as possible; none is empty when there are enough rows."""
    return [rows // parts + (i < rows % parts) for i in range(parts)]


def _own(x: Tensor, shares: list[int]) -> Tensor:
    """The rows of this process."""
    start = sum(shares[: dist.get_rank()])
    return x[start : start + shares[dist.get_rank()]]


def _all_gather_rows(x: Tensor, shares: list[int]) -> Tensor:
    most = max(shares)
    if not most:
        return x
    padded = x.new_zeros((most, *x.shape[1:]))
    padded[: len(x)] = x
    # gloo has no bool or half: their bytes travel
    wire = padded.contiguous()
    wire = wire.view(torch.uint8) if x.dtype in (torch.bool, torch.bfloat16, torch.float16) else wire
    parts = [torch.empty_like(wire) for _ in shares]
    dist.all_gather(parts, wire)
    return torch.cat([p.view(x.dtype)[:n] for p, n in zip(parts, shares, strict=True)])


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shares: list[int]) -> Tensor:
        ctx.shares = shares
        return _all_gather_rows(x, shares)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _own(grads[0], ctx.shares) * len(ctx.shares), None


class _Scatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, shares: list[int]) -> Tensor:
        ctx.shares = shares
        return _own(x, shares).clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _all_gather_rows(grads[0].contiguous(), ctx.shares) / len(ctx.shares), None


class _Share(torch.autograd.Function):
    """A tensor that all processes use whole, each for its own rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        out = grads[0].clone()
        dist.all_reduce(out)
        return out / dist.get_world_size()


def _apply(function: type[torch.autograd.Function], *args: Any) -> Tensor:
    out: Tensor = function.apply(*args)  # type: ignore[no-untyped-call]
    return out


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
    processes = world_size()
    if processes == 1:
        return function(*rows, **shared)
    sizes: set[int] = set()

    def note(x: Tensor) -> Tensor:
        sizes.add(len(x))
        return x

    _map(rows, note)
    if len(sizes) != 1:
        raise ValueError(f"by_rows: first axes of different lengths: {sorted(sizes)}")
    (batch,) = sizes
    if batch < processes:  # too few to share out: every process does all, with the same random numbers
        with paused():
            return function(*rows, **shared)
    shares = _shares(batch, processes)
    mine = _map(rows, lambda x: _scattered(x, shares))
    with _own_random_stream():
        out = function(*mine, **_map(shared, _shared))
    return _map(out, lambda x: _apply(_Gather, x, shares))


def by_videos(
    function: Callable[..., Any], rows: Tensor | Sequence[Tensor], lengths: Sequence[int], **shared: Any
) -> Any:
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
    if len(lengths) < processes:
        with paused():
            return function(rows, lengths, **shared)
    cuts = [0, *itertools.accumulate(_shares(len(lengths), processes))]
    counts = [sum(lengths[a:b]) for a, b in itertools.pairwise(cuts)]
    mine = _map(rows, lambda x: _scattered(x, counts))
    rank = dist.get_rank()
    with _own_random_stream():
        out = function(mine, lengths[cuts[rank] : cuts[rank + 1]], **_map(shared, _shared))

    def gather(x: Tensor) -> Tensor:
        sizes = torch.tensor([len(x)], device=x.device)
        found = [torch.empty_like(sizes) for _ in range(processes)]
        dist.all_gather(found, sizes)
        return _apply(_Gather, x, [int(n) for n in found])

    return _map(out, gather)


def _shared(x: Tensor) -> Tensor:
    return _apply(_Share, x) if x.requires_grad else x


def _scattered(x: Tensor, shares: list[int]) -> Tensor:
    return _apply(_Scatter, x, shares) if x.requires_grad else _own(x, shares)


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
