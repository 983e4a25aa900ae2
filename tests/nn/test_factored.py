"""Factored gradients against ordinary ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from weaktal.nn import factored
from weaktal.nn.factored import FactoredAdam, FactoredLinear


def test_an_ordinary_layer_until_told_otherwise() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4)
    layer(x).square().sum().backward()
    assert layer.factors == []
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    (gradient,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, gradient)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(2, 4), (4,), (3, 2, 4)])
def test_factors_multiply_to_the_gradient(bias: bool, shape: tuple[int, ...]) -> None:
    layer, x = FactoredLinear(4, 3, bias=bias), torch.randn(shape)
    layer(x).exp().sum().backward()
    expected = layer.weight.grad
    layer.weight.grad = None
    layer.factored = True
    layer(x).exp().sum().backward()
    assert layer.weight.grad is None
    gradient, inputs = layer.take_factors()
    torch.testing.assert_close(gradient.T @ inputs, expected)
    assert layer.factors == []


def test_no_factors_without_training() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4, requires_grad=True)
    layer.factored = True
    with torch.no_grad():
        layer(x)
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.factors == []


@pytest.mark.parametrize("block", [1, 10, 1000])
def test_the_optimizer_is_adam(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block, over several steps, one of them with two backward passes, one with a cleared one."""
    monkeypatch.setattr(factored, "_BLOCK", block)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), FactoredLinear(5, 7)).double()
    twin = copy.deepcopy(net)
    ours = FactoredAdam(net.parameters(), [net[2]], lr=0.1, weight_decay=0.01)
    plain = torch.optim.Adam(twin.parameters(), lr=0.1, weight_decay=0.01)
    for passes in (1, 2, 1, 1):
        for optimizer, module in ((ours, net), (plain, twin)):
            torch.manual_seed(passes)
            module(torch.ones(1, 6).double()).sum().backward()
            optimizer.zero_grad()
            for _ in range(passes):
                module(torch.randn(3, 6).double()).square().sum().backward()
            optimizer.step()
        ours.zero_grad()
        plain.zero_grad()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    # the state is Adam's: training goes on with either
    plain.load_state_dict(ours.state_dict())
    for a, b in zip(ours.state.values(), plain.state.values(), strict=True):
        assert a.keys() == b.keys()
        assert a["step"] == b["step"] == 4


def test_no_factors_no_step() -> None:
    layer = FactoredLinear(4, 3)
    optimizer = FactoredAdam(layer.parameters(), [layer], lr=0.1, weight_decay=0.01)
    before = layer.weight.detach().clone()
    optimizer.step()
    assert torch.equal(layer.weight, before)


def test_in_half_precision_the_gradient_is_whole_for_the_scaling_of_the_loss() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4)
    layer.factored = True
    for dtype, whole in ((torch.bfloat16, False), (torch.float16, True)):
        layer.weight.grad = None
        layer.factors.clear()
        with torch.autocast("cpu", dtype):
            out = layer(x)
        out.sum().backward()
        assert (layer.weight.grad is not None) == whole
        assert bool(layer.factors) != whole
