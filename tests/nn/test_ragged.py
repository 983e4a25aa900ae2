"""Packed and padded layouts against plain loops over the sequences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from weaktal.nn.ragged import Ragged, partition

CPU = torch.device("cpu")
lengths = st.lists(st.integers(1, 12), min_size=1, max_size=6)
wastes = st.sampled_from([1.0, 1.5, 100.0])


@given(lengths, wastes)
def test_pad_and_pack_are_inverse(sizes: list[int], waste: float) -> None:
    layout = Ragged(sizes, CPU, waste=waste)
    rows = torch.randn(layout.total, 3)
    assert torch.equal(layout.pack(layout.padded(rows)), rows)


@given(lengths, wastes)
def test_groups_hold_every_sequence_once_and_waste_little(sizes: list[int], waste: float) -> None:
    groups = Ragged(sizes, CPU, waste=waste).groups
    assert sorted(i for g in groups for i in g) == list(range(len(sizes)))
    for g in groups:
        assert max(sizes[i] for i in g) * len(g) <= waste * sum(sizes[i] for i in g) + 1e-9


@given(lengths, wastes)
def test_reductions_equal_plain_loops(sizes: list[int], waste: float) -> None:
    layout = Ragged(sizes, CPU, waste=waste)
    x, w = torch.randn(layout.total, 3), torch.rand(layout.total, 2)
    parts, weights = x.split(sizes), w.split(sizes)
    torch.testing.assert_close(layout.sums(x), torch.stack([p.sum(0) for p in parts]))
    torch.testing.assert_close(layout.means(x), torch.stack([p.mean(0) for p in parts]))
    expected = torch.stack([a.T @ b for a, b in zip(weights, parts, strict=True)])
    torch.testing.assert_close(layout.weighted_sums(w, x), expected)


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 7)), min_size=1, max_size=5), wastes)
def test_attention_equals_plain_loops(sizes: list[tuple[int, int]], waste: float) -> None:
    queries = Ragged([q for q, _ in sizes], CPU, waste=waste)
    keys = Ragged([k for _, k in sizes], CPU, waste=waste)
    q = torch.randn(queries.total, 4, dtype=torch.float64, requires_grad=True)
    k = torch.randn(keys.total, 4, dtype=torch.float64, requires_grad=True)
    found = queries.attend(q, k, keys)
    pairs = zip(q.split(queries.lengths), k.split(keys.lengths), strict=True)
    expected = torch.cat([(a @ b.T).softmax(1) @ b if len(b) else torch.zeros_like(a) for a, b in pairs])
    torch.testing.assert_close(found, expected)

    def gradients(out: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = out.square().sum() + 0 * q.sum() + 0 * k.sum()  # also where nothing depends on the keys
        return torch.autograd.grad(loss, (q, k))

    wanted = gradients(expected)
    got = gradients(found)
    for a, b in zip(got, wanted, strict=True):
        assert torch.isfinite(a).all()
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("waste", [1.0, 1.5])
def test_an_empty_sequence_has_mean_zero(waste: float) -> None:
    layout = Ragged([2, 0], CPU, waste=waste)
    assert layout.means(torch.ones(2, 3)).tolist() == [[1, 1, 1], [0, 0, 0]]


@given(lengths, wastes)
def test_products_are_added_in_place(sizes: list[int], waste: float) -> None:
    layout = Ragged(sizes, CPU, waste=waste)
    rows, matrices = torch.randn(layout.total, 3), torch.randn(len(sizes), 3, 2)
    out = torch.ones(layout.total, 2)
    layout.add_products(out, rows, matrices)
    expected = torch.cat([r @ m for r, m in zip(rows.split(sizes), matrices, strict=True)])
    torch.testing.assert_close(out, 1 + expected)


@given(st.lists(st.booleans(), min_size=1, max_size=20))
def test_partition_keeps_order_and_gradients(mask: list[bool]) -> None:
    rows = torch.randn(len(mask), 2, dtype=torch.float64, requires_grad=True)
    chosen = torch.tensor(mask)
    for found, expected in zip(partition(rows, chosen), (rows[chosen], rows[~chosen]), strict=True):
        assert torch.equal(found, expected)
    torch.autograd.gradcheck(lambda x: torch.cat([p.square() for p in partition(x, chosen)]), rows)
