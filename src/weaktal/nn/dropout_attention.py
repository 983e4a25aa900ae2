"""Multi-head attention with dropout on its weights, of videos packed one after another.

A CPU spends its time on the (T, T) weights: on drawing what is dropped, and on moving them through memory.
Here a few rows of them at a time stay in the cache, with the cheap random numbers of `weaktal.nn.dropout`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from weaktal.nn.dropout import kept_elements

_BLOCK = 1 << 18  # elements of a block of the weights, 1 MiB


def packed_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], heads: int, p: float) -> Tensor:
    """Attention of all rows of a sequence to all of them.

    Args:
        q, k, v: (N, D), the rows of sequences one after another; `heads` divides D.
        lengths: of the sequences, their sum is N.
        heads: number of heads; the products are scaled by 1 / sqrt(D / heads).
        p: dropout probability of the attention weights; 0 in evaluation.

    Returns:
        (N, D).
    """
    q, k, v = (x.view(len(x), heads, -1).transpose(0, 1) for x in (q, k, v))  # (H, N, D / H)
    sequences = zip(*(torch.split(x, list(lengths), 1) for x in (q, k, v)), strict=True)
    if p > 0 and q.device.type == "cpu":
        parts = [_attend_on_cpu(a, b, c, p) for a, b, c in sequences]
    else:
        parts = [
            F.scaled_dot_product_attention(a[None], b[None], c[None], dropout_p=p)[0] for a, b, c in sequences
        ]
    return torch.cat(parts, 1).transpose(0, 1).flatten(1)


def dropout_attention_naive(q: Tensor, k: Tensor, v: Tensor, kept: Tensor, p: float) -> Tensor:
    """What a block computes: softmax(Q Kᵀ) with dropout, times V.

    Args:
        q, k, v: (H, T, d), `q` scaled.
        kept: (H, T, T) 1 where a weight is kept, 0 where it is dropped.
        p: the probability of a zero there.
    """
    weights = (q @ k.mT).softmax(-1)
    return (weights * kept / (1 - p)) @ v


def _attend_on_cpu(q: Tensor, k: Tensor, v: Tensor, p: float) -> Tensor:
    """At least in single precision: half precision is slow there. A compiled step fuses what it can."""
    kept = kept_elements((len(q), q.shape[1], k.shape[1]), p, q.device)
    a, b, c = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in (q * q.shape[2] ** -0.5, k, v))
    with torch.autocast("cpu", enabled=False):
        if torch.compiler.is_compiling():
            return dropout_attention_naive(a, b, c, kept, p).to(q.dtype)
        out: Tensor = _InBlocks.apply(a, b, c, kept, p)  # type: ignore[no-untyped-call]
    return out.to(q.dtype)


class _InBlocks(torch.autograd.Function):
    """`dropout_attention_naive`, some rows of all heads at a time."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, kept: Tensor, p: float) -> Tensor:
        k, v = k.contiguous(), v.contiguous()
        weights, parts = [], []
        for of, keep in _blocks(q, kept, keys=k):
            weights.append((of @ k.mT).softmax(-1))
            parts.append((weights[-1] * keep.to(q.dtype)) @ v)
        out = torch.cat(parts, 1) / (1 - p)
        ctx.p = p
        ctx.save_for_backward(q, k, v, kept, out, *weights)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, kept, out, *weights = ctx.saved_tensors
        # the softmax' backward pass subtracts from each row its sum of gradient times weight, which is this
        mean = (grads[0] * out).sum(-1, keepdim=True)
        of_out = grads[0] / (1 - ctx.p)
        of_q, of_k, of_v = [], torch.zeros_like(k), torch.zeros_like(v)
        blocks = _blocks(q, of_out, mean, kept, keys=k)
        for (queries, grad, row_mean, keep), weight in zip(blocks, weights, strict=True):
            keep = keep.to(q.dtype)
            of_v.baddbmm_((weight * keep).mT, grad)
            of_logits = (grad @ v.mT).mul_(keep).sub_(row_mean).mul_(weight)
            of_q.append(of_logits @ k)
            of_k.baddbmm_(of_logits.mT, queries)
        return torch.cat(of_q, 1), of_k, of_v, None, None


def _blocks(*rows: Tensor, keys: Tensor) -> zip[tuple[Tensor, ...]]:
    """Tensors (H, T, ...) in pieces of as many rows as a block of the weights has."""
    size = max(1, _BLOCK // (len(keys) * keys.shape[1]))
    return zip(*(torch.split(x, size, 1) for x in rows), strict=True)
