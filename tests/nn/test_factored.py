"""Factored gradients, and the optimizer that takes them, against ordinary ones."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from weaktal.nn import factored
from weaktal.nn.factored import FactoredAdam, FactoredLinear, adam_naive


def test_an_ordinary_layer_until_told_otherwise() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4)
    layer(x).square().sum().backward()
    assert layer.factors == []
    expected = nn.functional.linear(x, layer.weight, layer.bias)
    (gradient,) = torch.autograd.grad(expected.square().sum(), layer.weight)
    torch.testing.assert_close(layer.weight.grad, gradient)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 4), (2, 4), (4,), (63, 4), (3, 200, 4), (0, 4)])
def test_value_and_gradients_are_those_of_a_linear_layer(bias: bool, shape: tuple[int, ...]) -> None:
    layer = FactoredLinear(4, 3, bias=bias).double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    expected = layer(x)
    to_x, *to_bias, to_weight = torch.autograd.grad(
        expected.exp().sum(), [x, *([layer.bias] if bias else []), layer.weight]
    )
    layer.factored = True
    found = layer(x)
    torch.testing.assert_close(found, expected)
    found.exp().sum().backward()
    torch.testing.assert_close(x.grad, to_x)
    if bias:
        torch.testing.assert_close(layer.bias.grad, to_bias[0])
    assert layer.weight.grad is None
    gradients, inputs = layer.take_factors()
    torch.testing.assert_close(gradients.T @ inputs, to_weight)
    assert layer.factors == []


def test_no_factors_without_training() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4, requires_grad=True)
    layer.factored = True
    with torch.no_grad():
        layer(x)
    layer.weight.requires_grad_(False)
    layer(x).sum().backward()
    assert layer.factors == []


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), FactoredLinear(5, 7))


def losses(passes: int, dtype: torch.dtype) -> list[Tensor]:
    generator = torch.Generator().manual_seed(passes)
    return [torch.randn(3, 6, generator=generator, dtype=torch.float64).to(dtype) for _ in range(passes)]


def trained(module: nn.Module, optimizer: torch.optim.Optimizer, schedule: tuple[int, ...]) -> list[Tensor]:
    """Parameters after a step for each entry: so many backward passes, behind one that is cleared."""
    dtype = next(module.parameters()).dtype
    for passes in schedule:
        module(torch.ones(1, 6, dtype=dtype)).sum().backward()
        optimizer.zero_grad()
        for x in losses(passes, dtype):
            module(x).square().sum().backward()
        optimizer.step()
    return [p.detach() for p in module.parameters()]


@pytest.mark.parametrize("block", [1, 10, 1000])
def test_the_optimizer_is_adam(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Block by block, over several steps, one of them with two backward passes."""
    monkeypatch.setattr(factored, "_BLOCK", block)
    net = network().double()
    twin = copy.deepcopy(net)
    ours = FactoredAdam(net, lr=0.1, weight_decay=0.01)
    plain = adam_naive(twin, lr=0.1, weight_decay=0.01)
    schedule = (1, 2, 1, 1)
    for a, b in zip(trained(net, ours, schedule), trained(twin, plain, schedule), strict=True):
        torch.testing.assert_close(a, b)
    # the state is Adam's: training goes on with either
    plain.load_state_dict(ours.state_dict())
    for a, b in zip(ours.state.values(), plain.state.values(), strict=True):
        assert a.keys() == b.keys()
        assert a["step"] == b["step"] == 4


def test_its_rounding_is_that_of_adam() -> None:
    """Moments, which are what is summed, in float32 against float64: at most twice the error of the twin."""
    state = {}
    for name, dtype in (("exact", torch.float64), ("naive", torch.float32), ("ours", torch.float32)):
        net = network().to(dtype)
        make = FactoredAdam if name == "ours" else adam_naive
        optimizer = make(net, lr=1e-6, weight_decay=0.0)
        trained(net, optimizer, (1, 2, 1))
        state[name] = optimizer.state[net[2].weight]["exp_avg"].double()
    error = {k: (state[k] - state["exact"]).abs().max().item() for k in ("naive", "ours")}
    assert error["ours"] <= 2 * error["naive"] + 1e-9
    assert 0 < error["naive"] < 1e-4


def test_no_factors_no_step() -> None:
    layer = FactoredLinear(4, 3)
    optimizer = FactoredAdam(layer, lr=0.1, weight_decay=0.01)
    before = layer.weight.detach().clone()
    optimizer.step()
    assert torch.equal(layer.weight, before)


def test_the_closure_is_called_once_with_gradients() -> None:
    layer, x = FactoredLinear(4, 3), torch.randn(2, 4)
    optimizer, calls = FactoredAdam(layer, lr=0.1, weight_decay=0.0), []

    def closure() -> float:
        optimizer.zero_grad()
        loss = layer(x).square().sum()
        loss.backward()
        calls.append(loss.item())
        return calls[-1]

    before = layer.weight.detach().clone()
    assert optimizer.step(closure) == calls[0]
    assert len(calls) == 1
    assert not torch.equal(layer.weight, before)
