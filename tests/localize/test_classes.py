"""The rule by which a video's classes are chosen."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from weaktal.localize.classes import likely_classes

# few different values, so that scores are equal to each other and to the threshold
values = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0])


@given(st.lists(values, min_size=1, max_size=6), values, st.booleans())
def test_those_that_pass_or_the_first_of_the_best(
    scores: list[float], threshold: float, strict: bool
) -> None:
    passing = [i for i, x in enumerate(scores) if x > threshold or (x == threshold and not strict)]
    expected = passing or [scores.index(max(scores))]
    assert likely_classes(np.array(scores, np.float32), threshold, strict=strict).tolist() == expected
