"""Attention with dropout in blocks: the same numbers and gradients as in one piece, and as torch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weaktal.nn import dropout_attention
from weaktal.nn.dropout import kept_elements
from weaktal.nn.dropout_attention import dropout_attention_naive, packed_attention

HEADS, DIM, P = 2, 6, 0.3
LENGTHS = [5, 1, 9]


def packed(seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(sum(LENGTHS), DIM, generator=draw, requires_grad=True) for _ in range(3)]


def in_heads(x: torch.Tensor) -> torch.Tensor:
    return x.view(len(x), HEADS, -1).transpose(0, 1)


def plain(qkv: list[torch.Tensor], p: float) -> torch.Tensor:
    """One sequence after the other, by the twin, with the draws of the same random stream."""
    out = []
    for q, k, v in zip(*(torch.split(x, LENGTHS) for x in qkv), strict=True):
        kept = kept_elements((HEADS, len(q), len(q)), p, q.device)
        scaled = in_heads(q) * (DIM // HEADS) ** -0.5
        out.append(dropout_attention_naive(scaled, in_heads(k), in_heads(v), kept, p))
    return torch.cat(out, 1).transpose(0, 1).flatten(1)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(0, 9))
def test_blocks_of_any_size_give_what_the_whole_gives(block: int, seed: int) -> None:
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dropout_attention, "_BLOCK", block)
        for name, function in (
            ("blocks", lambda x: packed_attention(*x, LENGTHS, HEADS, P)),
            ("plain", lambda x: plain(x, P)),
        ):
            qkv = packed(seed)
            torch.manual_seed(seed)
            out = function(qkv)
            weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
            found[name] = [out, *torch.autograd.grad((out * weight).sum(), qkv)]
    for ours, theirs in zip(found["blocks"], found["plain"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    kept = kept_elements((2, 4, 4), 0.4, torch.device("cpu"))
    qkv = [torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    attend = dropout_attention._InBlocks.apply
    torch.autograd.gradcheck(lambda q, k, v: attend(q, k, v, kept, 0.4), qkv)  # type: ignore[no-untyped-call]


def test_without_dropout_it_is_that_of_torch() -> None:
    module = torch.nn.MultiheadAttention(DIM, HEADS, bias=False, batch_first=True)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.eye(DIM).repeat(3, 1))
        module.out_proj.weight.copy_(torch.eye(DIM))
    qkv = packed()
    found = packed_attention(*qkv, LENGTHS, HEADS, 0.0)
    parts = zip(*(torch.split(x, LENGTHS) for x in qkv), strict=True)
    expected = [module(q[None], k[None], v[None], need_weights=False)[0][0] for q, k, v in parts]
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-5)


def test_weights_are_dropped_as_often_as_asked_and_the_mean_stays() -> None:
    torch.manual_seed(0)
    kept = kept_elements((2, 300, 300), 0.1, torch.device("cpu"))
    assert set(kept.unique().tolist()) == {0, 1}
    assert kept.float().mean().item() == pytest.approx(0.9, abs=3e-3)
    q, ones = torch.zeros(300, 4), torch.ones(300, 4)
    found = packed_attention(q, q, ones, [300], 2, 0.1)  # means of 300 weights, some dropped
    assert found.mean().item() == pytest.approx(1, abs=3e-3)
    assert found.std() > 1e-3
