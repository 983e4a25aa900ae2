"""Packed layouts against plain loops over the sequences."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from weaktal.nn.ragged import Ragged

CPU = torch.device("cpu")
lengths = st.lists(st.integers(0, 12), min_size=1, max_size=6)


@given(lengths)
def test_rows_know_their_sequence(sizes: list[int]) -> None:
    layout = Ragged(sizes, CPU)
    assert (len(layout), layout.total) == (len(sizes), sum(sizes))
    assert layout.video.tolist() == [i for i, n in enumerate(sizes) for _ in range(n)]
    rows = torch.randn(layout.total, 3)
    for i, part in enumerate(layout.split(rows)):
        assert torch.equal(part, rows[layout.offsets[i] : layout.offsets[i + 1]])
        assert torch.equal(part, rows[layout.video == i])


@given(lengths)
def test_reductions_equal_plain_loops(sizes: list[int]) -> None:
    layout = Ragged(sizes, CPU)
    x = torch.randn(layout.total, 3, dtype=torch.float64, requires_grad=True)
    w = torch.rand(layout.total, 2, dtype=torch.float64, requires_grad=True)
    parts, weights = x.split(sizes), w.split(sizes)
    torch.testing.assert_close(layout.sums(x), torch.stack([p.sum(0) for p in parts]))
    found = layout.weighted_sums(w, x)
    expected = torch.stack([(a[:, :, None] * b[:, None]).sum(0) for a, b in zip(weights, parts, strict=True)])
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y.square().sum(), (w, x)) for y in (found, expected))
    for ours, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, plain)


@given(lengths)
def test_a_table_has_a_row_for_each_sequence(sizes: list[int]) -> None:
    layout = Ragged(sizes, CPU)
    values = torch.randn(layout.total)
    table, place, valid = layout.table(values, -9.0)
    assert table.shape == valid.shape == (len(sizes), max(sizes))
    assert place.tolist() == list(range(max(sizes)))
    assert torch.equal(table[valid], values)
    assert torch.all(table[~valid] == -9)
    assert valid.sum(1).tolist() == sizes
