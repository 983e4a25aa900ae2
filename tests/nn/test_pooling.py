"""Top-k pooling over time against plain loops."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weaktal.nn.pooling import best_share_mean


@given(st.lists(st.integers(1, 70), min_size=1, max_size=4), st.integers(1, 9), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_the_best_share_of_every_video_is_averaged(lengths: list[int], divisor: int, seed: int) -> None:
    x = torch.randn(len(lengths), max(lengths), 3, generator=torch.Generator().manual_seed(seed))
    x.requires_grad_()
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    found = best_share_mean(x, divisor, mask)
    for row, video, n in zip(found, x, lengths, strict=True):
        best = video[:n].sort(0, descending=True).values[: max(1, n // divisor)]
        torch.testing.assert_close(row, best.mean(0))
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert not gradient[~mask].any()
    if len(set(lengths)) == 1:
        torch.testing.assert_close(best_share_mean(x, divisor), found)
