"""Temporal convolutions of packed sequences against torch's own, one sequence after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from weaktal.nn.temporal_conv import convolve_rows


@pytest.mark.parametrize("lengths", [[4, 1, 7, 2], [5, 5, 5], [1, 1]])
@pytest.mark.parametrize("with_bias", [True, False])
def test_packed_sequences_do_not_see_each_other(with_bias: bool, lengths: list[int]) -> None:
    torch.manual_seed(0)
    rows = torch.randn(sum(lengths), 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 5, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(6, dtype=torch.float64, requires_grad=True) if with_bias else None
    parameters = [p for p in (rows, weight, bias) if p is not None]

    def usual() -> torch.Tensor:
        parts = [F.conv1d(x.T[None], weight, bias, padding=1)[0].T for x in rows.split(lengths)]
        return torch.cat(parts)

    found = []
    for out in (convolve_rows(rows, lengths, weight, bias), usual()):
        given = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        found.append((out, *torch.autograd.grad(out, parameters, given)))
    torch.testing.assert_close(found[0], found[1])


def test_under_mixed_precision_the_result_is_that_of_torch() -> None:
    rows, weight, bias = torch.randn(9, 4), torch.randn(3, 4, 3), torch.randn(3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = convolve_rows(rows, [5, 4], weight, bias)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), convolve_rows(rows, [5, 4], weight, bias), rtol=0.05, atol=0.05)
