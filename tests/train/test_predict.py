"""Long videos in pieces give what whole ones give; other features are refused."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from weaktal.core import Detections, SnippetScores, TimeAxis
from weaktal.methods.protocol import Batch, MethodConfig, SnippetMethod
from weaktal.train import predict
from weaktal.train.predict import clearest, feature_difference, piece_starts, score_video


class Local(SnippetMethod):
    """Looks 3 snippets to each side; `keep` samples every so-many-th row of what it is given."""

    name: ClassVar[str] = "local"
    supervision: ClassVar[Any] = "video"
    Config = MethodConfig

    def __init__(self, keep: int = 1) -> None:
        super().__init__(MethodConfig(), dim=4, classes=("a", "b"))
        torch.manual_seed(0)
        self.conv, self.keep = torch.nn.Conv1d(4, 3, 7, padding=3), keep
        self.seen: list[int] = []

    def score(self, batch: Batch) -> list[SnippetScores]:
        self.seen.append(batch.features.shape[1])
        out = self.conv(batch.features.transpose(1, 2))[0].T.sigmoid()[:: self.keep].detach().numpy()
        axis = batch.axes[0].resampled(len(out)) if self.keep > 1 else batch.axes[0]
        return [SnippetScores(batch.names[0], out[:, :2], out[:, 2], out[:, :2].mean(0), axis)]


def features(length: int) -> np.ndarray:
    return np.random.default_rng(length).standard_normal((length, 4)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(length=st.integers(1, 300), chunk=st.integers(16, 400), overlap=st.integers(8, 40))
def test_pieces_equal_the_whole(length: int, chunk: int, overlap: int) -> None:
    method, x = Local().eval(), features(length)
    axis = TimeAxis.uniform(length, rate=3.75, offset=0.1)
    whole = score_video(method, "v", x, axis)
    pieces = score_video(method, "v", x, axis, chunk=chunk, overlap=overlap)
    for part in ("cas", "foreground", "video_scores"):
        np.testing.assert_allclose(getattr(pieces, part), getattr(whole, part), atol=1e-6)
    np.testing.assert_allclose(pieces.axis.centers(), whole.axis.centers())


@given(length=st.integers(1, 500), chunk=st.integers(2, 60), share=st.floats(0, 0.5))
def test_pieces_cover_everything_and_overlap(length: int, chunk: int, share: float) -> None:
    overlap = int(share * chunk)
    starts = piece_starts(length, chunk, overlap)
    assert starts[0] == 0
    if length > chunk:
        assert starts[-1] + chunk == length
        assert all(0 < b - a <= chunk - overlap for a, b in pairwise(starts))


def test_a_very_long_video_is_never_seen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "MOST", 256)
    monkeypatch.setattr(predict, "BLOCK", 32)
    method, x = Local().eval(), features(1000)
    axis = TimeAxis.uniform(1000, rate=1.0)
    found = [score_video(method, "v", x, axis, chunk=chunk, overlap=16) for chunk in (None, 100, 250)]
    assert max(method.seen) <= 256
    for other in found[1:]:
        for part in ("cas", "foreground", "video_scores"):
            np.testing.assert_allclose(getattr(other, part), getattr(found[0], part), atol=1e-6)
    everything = method.score(
        Batch(torch.from_numpy(x)[None], torch.tensor([1000]), torch.zeros(1, 2), ("v",), (axis,))
    )[0]
    np.testing.assert_allclose(found[0].cas, everything.cas, atol=1e-6)
    np.testing.assert_allclose(found[0].video_scores, everything.video_scores, atol=0.02)


def test_a_method_that_samples_keeps_its_times() -> None:
    method, x = Local(keep=2).eval(), features(200)
    scores = score_video(method, "v", x, TimeAxis.uniform(200, rate=2.0), chunk=60, overlap=20)
    centers = scores.axis.centers()
    assert np.all(np.diff(centers) > 0)
    np.testing.assert_allclose(centers, np.arange(0.5, 100, 1.0), atol=0.51)


def test_features_are_compared_by_what_matters() -> None:
    i3d = {
        "backbone": "i3d",
        "rate": 1.5625,
        "dims": [1024, 1024],
        "weights": {"rgb": {"file": "a.pt", "sha256": "12"}},
        "extractor": {"name": "i3d"},
    }
    same = {**i3d, "dims": {"rgb": 1024, "flow": 1024}, "weights": {"rgb": {"file": "b.pt", "sha256": "12"}}}
    assert feature_difference(i3d, {**same, "extractor": {"name": "other"}, "layout": "npy"}) is None
    assert feature_difference({}, same) is None
    other = {**same, "weights": {"rgb": {"file": "a.pt", "sha256": "13"}}}
    assert "weights {'rgb': '13'}, trained on {'rgb': '12'}" in str(feature_difference(i3d, other))
    assert "rate 3.75, trained on 1.5625" in str(feature_difference(i3d, {**same, "rate": 3.75}))
    assert "dims [512], trained on [1024, 1024]" in str(feature_difference(i3d, {**same, "dims": [512]}))


def test_clearest_segments_do_not_overlap() -> None:
    found = Detections(
        ("v", "w"),
        ("a", "b"),
        [0, 0, 0, 0, 1],
        [5, 4, 0, 20, 0],
        [9, 8, 3, 22, 9],
        [0, 1, 1, 0, 0],
        [0.9, 0.8, 0.6, 0.2, 1],
    )
    kept = clearest(found, "v", 0.5)
    assert list(zip(kept.start, kept.label, strict=True)) == [(0, 1), (5, 0)]
    assert len(clearest(found, "v", 2.0)) == 0


def test_what_is_clear_is_a_matter_of_each_video() -> None:
    columns = [0, 0, 0, 1, 1], [0, 4, 8, 0, 4], [2, 6, 9, 2, 6], [0] * 5, [9.0, 7.0, 4.0, 0.3, 0.1]
    found = Detections(("v", "w", "none"), ("a",), *columns)
    assert clearest(found, "v").score.tolist() == [9.0, 7.0]
    assert clearest(found, "w").score.tolist() == [0.3]  # though "v" has ones 30 times as strong
    assert len(clearest(found, "none")) == 0
