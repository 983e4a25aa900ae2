"""Comparisons that every golden check uses."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def close(actual: object, expected: object, rtol: float = 1e-5) -> None:
    """Equal to `rtol` relative to each value, and to the largest value where a value is nearly zero."""
    a = actual.detach().cpu().numpy() if isinstance(actual, torch.Tensor) else np.asarray(actual)
    e = np.asarray(expected)
    np.testing.assert_allclose(a, e, rtol=rtol, atol=rtol * max(float(np.abs(e).max(initial=0)), 1e-8))


def ragged(data: dict[str, np.ndarray], name: str, suffix: str = "_len") -> list[NDArray]:
    """The parts of a ragged list: all rows in `name`, the number of rows of each part in `name + suffix`."""
    return np.split(data[name], np.cumsum(data[name + suffix])[:-1]) if len(data[name + suffix]) else []


def same_rows(actual: NDArray, expected: NDArray, rtol: float = 1e-6, atol: float = 1e-6) -> None:
    """The same rows in any order; columns are compared from the left when sorting."""
    assert actual.shape == expected.shape, (actual.shape, expected.shape)
    order_a, order_e = (np.lexsort(np.round(x, 5).T[::-1]) for x in (actual, expected))
    np.testing.assert_allclose(actual[order_a], expected[order_e], rtol=rtol, atol=atol)
