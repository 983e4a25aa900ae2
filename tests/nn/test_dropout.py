"""Dropout against torch's: the same values with the same probability, and the gradient of its mask."""

from __future__ import annotations

import pytest
import torch

from weaktal.nn.dropout import Dropout, dropout_mask, dropout_mask_naive

SHAPES = [(1, 1), (2, 3), (63, 5), (300, 7), (0, 4), (1, 0, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_mask_has_the_values_of_torchs(shape: tuple[int, ...], p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    like = torch.empty(shape, dtype=dtype)
    mask, naive = dropout_mask(like, p), dropout_mask_naive(like, p)
    assert mask.shape == shape
    assert mask.dtype == dtype
    allowed = {0.0, *torch.tensor([1 / (1 - p)], dtype=dtype).tolist()}
    assert {*mask.flatten().tolist()} <= allowed
    assert {*naive.flatten().tolist()} <= allowed


@pytest.mark.parametrize("p", [0.1, 0.5, 0.6])
def test_elements_fall_independently(p: float) -> None:
    """Each element, and each pair of the four that share a random number, over many masks."""
    torch.manual_seed(0)
    zero = (dropout_mask(torch.empty(40_000, 8), p) == 0).double()
    torch.testing.assert_close(zero.mean(0), torch.full((8,), p).double(), rtol=0, atol=0.015)
    both = zero.T @ zero / len(zero)
    expected = torch.where(torch.eye(8) > 0, p, p * p).double()
    torch.testing.assert_close(both, expected, rtol=0, atol=0.015)


def test_gradients_are_those_of_the_mask_and_evaluation_changes_nothing() -> None:
    torch.manual_seed(0)
    layer, x = Dropout(0.4), torch.ones(20, 30, requires_grad=True)
    out = layer(x)
    (gradient,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(gradient, out.detach())
    assert 0 < int((out == 0).sum()) < out.numel()
    assert layer.eval()(x) is x
