"""Temporal convolutions of packed videos against their definition, one video after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from weaktal.nn.pooling import video_of_rows
from weaktal.nn.temporal_conv import Conv1d, convolve_rows, convolve_rows_naive


def value_and_gradients(lengths: list[int], fast: bool, dtype: torch.dtype, bias: bool) -> list[Tensor]:
    torch.manual_seed(0)
    parameters = [torch.randn(*size).to(dtype) for size in ((sum(lengths), 5), (6, 5, 3), (6,))]
    rows, weight, shift = (p.requires_grad_() for p in parameters)
    if fast:
        out = convolve_rows(rows, video_of_rows(lengths, rows), weight, shift if bias else None)
    else:
        out = convolve_rows_naive(rows, lengths, weight, shift if bias else None)
    wanted = [rows, weight, shift] if bias else [rows, weight]
    given = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
    return [out, *torch.autograd.grad(out, wanted, given)]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("lengths", [[1], [2], [63], [4, 1, 0, 7, 2], [5, 5, 5], [1, 1], [300, 0, 170]])
def test_packed_videos_do_not_see_each_other(lengths: list[int], bias: bool) -> None:
    exact = value_and_gradients(lengths, False, torch.float64, bias)
    torch.testing.assert_close(value_and_gradients(lengths, True, torch.float64, bias), exact)
    ours, plain = (value_and_gradients(lengths, fast, torch.float32, bias) for fast in (True, False))
    for x, y, z in zip(ours, plain, exact, strict=True):
        assert (x - z).abs().max() <= 2 * (y - z).abs().max() + 4e-6 * max(1, z.abs().max().item())


def test_under_mixed_precision_the_result_is_that_of_torch() -> None:
    rows, weight, bias, video = torch.randn(9, 4), torch.randn(3, 4, 3), torch.randn(3), torch.zeros(9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = convolve_rows(rows, video, weight, bias)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), convolve_rows(rows, video, weight, bias), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_layer_of_padded_videos_is_that_of_torch_with_time_in_the_middle(kernel: int) -> None:
    ours, usual = Conv1d(5, 7, kernel), nn.Conv1d(5, 7, kernel, padding=kernel // 2)
    usual.load_state_dict(ours.state_dict())
    x = torch.randn(2, 9, 5)
    torch.testing.assert_close(ours(x), usual(x.mT).mT)
