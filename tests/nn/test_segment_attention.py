"""Attention within segments: the fast path against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from weaktal.nn.segment_attention import segment_attention, segment_attention_naive


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_covers(batch: int, length: int, segments: int, seed: int, longest: int = 12) -> Tensor:
    """(B, T, N) of segments of up to `longest` snippets; one in five is empty, the first video has none."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.randint(0, length, (batch, 1, segments), generator=generator)
    size = torch.randint(0, longest, low.shape, generator=generator)
    size *= torch.rand(low.shape, generator=generator) > 0.2
    size[0] = 0
    at = torch.arange(length)[:, None]
    return (at >= low) & (at < low + size)


def attend(function: object, q: Tensor, k: Tensor, v: Tensor, covers: Tensor, heads: int) -> Tensor:
    """Attention of given queries, keys and values: thirds of one input."""
    width = q.shape[-1]
    thirds = [lambda x, i=i: x[..., i * width : (i + 1) * width] for i in range(3)]
    out: Tensor = function(torch.cat([q, k, v], -1), covers, heads, *thirds)  # type: ignore[operator]
    return out


def results(
    function: object, q: Tensor, k: Tensor, v: Tensor, covers: Tensor, heads: int = 2
) -> list[Tensor]:
    """Value and gradients."""
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    out = attend(function, *inputs, covers, heads)
    weights = random(*out.shape, seed=9).to(out.dtype)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)]


@pytest.mark.parametrize("length", [1, 2, 63, 300])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_fast_path_gives_value_and_gradient_of_the_plain_one(length: int, batch: int) -> None:
    inputs = [random(batch, length, 8, seed=s) for s in range(3)]
    covers = random_covers(batch, length, 9, seed=length)
    fast, plain = (results(f, *inputs, covers) for f in (segment_attention, segment_attention_naive))
    torch.testing.assert_close(fast, plain)
    assert not fast[0][~covers.any(-1)].any()
    for a, exact in zip(results(segment_attention, *(x.float() for x in inputs), covers), plain, strict=True):
        torch.testing.assert_close(a.double(), exact, rtol=1e-5, atol=1e-5)


def test_the_error_of_the_fast_path_is_at_most_twice_that_of_the_plain_one() -> None:
    inputs = [random(4, 200, 32, seed=s) for s in range(3)]
    covers = random_covers(4, 200, 12, seed=1, longest=60)
    exact = results(segment_attention_naive, *inputs, covers)
    single = [x.float() for x in inputs]
    errors = [
        [(a.double() - e).norm() for a, e in zip(results(f, *single, covers), exact, strict=True)]
        for f in (segment_attention, segment_attention_naive)
    ]
    assert all(fast <= 2 * plain for fast, plain in zip(*errors, strict=True))


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_plain_path_is_a_loop_over_snippets(length: int, segments: int, seed: int) -> None:
    q, k, v = (random(2, length, 4, seed=seed + s) for s in range(3))
    covers = random_covers(2, length, segments, seed)
    found = attend(segment_attention_naive, q, k, v, covers, 2)
    for b in range(2):
        for t in range(length):
            seen = (covers[b] & covers[b, t]).any(-1)
            for head in (slice(0, 2), slice(2, 4)):
                weights = (k[b, seen, head] @ q[b, t, head] / 2**0.5).softmax(0)
                torch.testing.assert_close(found[b, t, head], weights @ v[b, seen, head])


def test_without_any_segment_gradients_are_zeros_not_missing() -> None:
    inputs = [random(2, 5, 4, seed=s) for s in range(3)]
    found = results(segment_attention, *inputs, torch.zeros(2, 5, 1, dtype=torch.bool))
    assert not any(x.any() for x in found)


def test_half_precision_keeps_its_type() -> None:
    inputs = [random(2, 30, 4, seed=s).bfloat16() for s in range(3)]
    covers = random_covers(2, 30, 4, seed=2)
    fast, plain = (attend(f, *inputs, covers, 2) for f in (segment_attention, segment_attention_naive))
    assert fast.dtype == plain.dtype == torch.bfloat16
    torch.testing.assert_close(fast, plain, rtol=0.02, atol=0.02)
