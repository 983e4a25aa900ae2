"""Multi-head attention, and that of snippets to those that share a segment with them."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Projection = Callable[[Tensor], Tensor]
_GROWTH = 1.25  # islands are padded to at most this multiple of their length, those of a size together


def attention(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, heads: int) -> Tensor:
    """Multi-head attention of (B, T, D); every row of `allowed` (B, T, T) needs a true entry."""
    q, k, v = (x.view(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed[:, None])
    return out.transpose(1, 2).flatten(2)


def segment_attention_naive(
    x: Tensor, covers: Tensor, heads: int, query: Projection, key: Projection, value: Projection
) -> Tensor:
    """Multi-head attention in which a snippet sees the snippets that share a segment with it.

    Args:
        x: (B, T, C).
        covers: (B, T, N) bool, true where a segment, a stretch of time, covers a snippet.
        heads: number of heads; the products are scaled by 1 / sqrt(D / heads).
        query, key, value: row-wise maps of (..., C) to (..., D); `heads` divides D.

    Returns:
        (B, T, D); zeros at snippets outside of all segments.
    """
    out = attention(query(x), key(x), value(x), _sharing(covers), heads)
    return out * covers.any(-1)[..., None]


def segment_attention(
    x: Tensor, covers: Tensor, heads: int, query: Projection, key: Projection, value: Projection
) -> Tensor:
    """`segment_attention_naive`, on a CPU of covered snippets alone, and without pairs that do not meet.

    Attention does not leave an *island*, a stretch of snippets each of which shares a segment with the next
    one. Islands of similar length are attended to together. A GPU, or a compiled step, works on all pairs.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return segment_attention_naive(x, covers, heads, query, key, value)
    b, t = x.shape[:2]
    begins = covers.any(-1)
    place = begins.flatten().cumsum(0) - 1  # of a covered snippet among `rows`
    rows = begins.flatten().nonzero()[:, 0]
    projected = torch.cat([f(x.flatten(0, 1).index_select(0, rows)) for f in (query, key, value)], -1)
    d = projected.shape[1] // 3
    begins[:, 1:] &= ~(covers[:, 1:] & covers[:, :-1]).any(-1)
    begins = begins.flatten()[rows]
    first, length = rows[begins], torch.bincount(begins.cumsum(0) - 1)
    size = (_GROWTH ** (length.log2() / torch.tensor(_GROWTH).log2()).ceil()).long().clamp(max=t)
    sizes = sorted(set(size.tolist()))
    index = [(first[size == s, None] + torch.arange(s)).clamp(max=b * t - 1) for s in sizes]
    real = [torch.arange(s) < length[size == s, None] for s in sizes]
    every = torch.cat([rows[:0], *(i.flatten() for i in index)])
    packed = projected.index_select(0, place[every])
    members, results = covers.flatten(0, 1), [packed[:0, :d]]
    for i, r, part in zip(index, real, torch.split(packed, [i.numel() for i in index]), strict=True):
        allowed = _sharing(members[i] & r[..., None])
        q, k, v = part.view(*i.shape, 3 * d).chunk(3, -1)
        results.append(attention(q, k, v, allowed, heads).flatten(0, 1))
    inside = torch.cat([begins[:0], *(r.flatten() for r in real)]).nonzero()[:, 0]
    out = torch.cat(results).index_select(0, inside)
    return out.new_zeros(b * t, d).index_copy(0, every[inside], out).view(b, t, d)


def _sharing(covers: Tensor) -> Tensor:
    """(B, T, T) bool, which snippets share a segment; each one sees itself, so that no softmax is empty."""
    members = covers.float()
    itself = torch.eye(covers.shape[1], dtype=torch.bool, device=covers.device)
    return (members @ members.mT > 0) | itself
