"""AR@AN against the definition as loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evaluate import oracle
from tests.evaluate.scenes import annotate, detect, scenes
from weaktal.core import InputError
from weaktal.evaluate import average_recall

LEVELS = (0.5, 0.75, 1.0)


@settings(max_examples=40)
@given(scenes(), st.sampled_from([None, 1.0, 2.5, 20.0]))
def test_equals_the_loop(scene, wanted) -> None:  # type: ignore[no-untyped-def]
    truth, found, score = scene
    result = average_recall(detect(found, score), annotate(truth), tiou=LEVELS, max_average=wanted)
    videos = sorted({r[0] for r in truth})
    average = len(found) / len(videos) if wanted is None else wanted
    ratio = average * len(videos) / len(found) if found else 0.0
    kept = {}
    for v in videos:
        mine = sorted((i for i, r in enumerate(found) if r[0] == v), key=lambda i: (-score[i], -i))
        kept[v] = mine[: min(int(len(mine) * ratio), len(mine))]
    total = sum(map(len, kept.values()))
    if not total:
        assert result.auc == 0
        assert not result.recall.any()
        return
    for j in (0, 9, 49, 99):
        share = (j + 1) / 100.0 * (average * len(videos) / total)
        assert result.proposals_per_video[j] == pytest.approx(share * total / len(videos))
        for h, level in enumerate(LEVELS):
            recalled = 0
            for t in truth:
                mine = kept[t[0]]
                top = mine[: min(int(len(mine) * share), len(mine))]
                recalled += any(oracle.overlap(t, found[i], 0.0) >= level for i in top)
            assert result.recall[h, j] == pytest.approx(recalled / len(truth))


def test_reading_the_curve() -> None:
    rows = [(0, 0.0, 4.0, 0), (1, 0.0, 4.0, 0)]
    result = average_recall(detect(rows, [1, 1]), annotate(rows))
    assert result.at(1) == 1
    assert np.isnan(result.at(2))
    assert 0 < result.auc <= 100


def test_nothing_to_recall() -> None:
    with pytest.raises(InputError, match="no annotated instance"):
        average_recall(detect([], []), annotate([]))
