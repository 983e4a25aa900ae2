"""Which classes of a video are localized."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def likely_classes(scores: ArrayLike, threshold: float, *, strict: bool = False) -> NDArray[np.int64]:
    """The classes of at least this score or, where there is none, the best one.

    Args:
        scores: (C,) of one video, C at least 1.
        threshold: in the unit of the scores.
        strict: a class needs a score > threshold in place of >=.

    Returns:
        Indices of classes in ascending order, at least one; of equally good ones the first.

    >>> likely_classes([0.1, 0.6, 0.3], 0.3).tolist(), likely_classes([0.1, 0.2, 0.2], 0.3).tolist()
    ([1, 2], [1])
    """
    x = np.asarray(scores)
    likely = np.flatnonzero(x > threshold if strict else x >= threshold)
    return likely if len(likely) else np.array([x.argmax()])
