"""LAC: seeds and losses against their plain definitions, quirks, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weaktal.core import InputError, Points, SnippetScores, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.localize.curves import Runs, outer_inner_contrast
from weaktal.methods.lac import (
    LAC,
    LACBatch,
    LACConfig,
    segment_contrast,
    three_snippets,
)
from weaktal.methods.protocol import TrainingData
from weaktal.nn.clicks import seeds
from weaktal.nn.pooling import packed_video_scores, row_table, video_of_rows

CLASSES = ("jump", "run", "throw")
DIM = 6


def training_data(lengths: list[int], seed: int = 0, clicks: int = 2) -> TrainingData:
    rng = np.random.default_rng(seed)
    bank = FeatureBank.of(
        [f"v{i}" for i in range(len(lengths))],
        [rng.random((n, DIM)).astype(np.float32) for n in lengths],
        25 / 16,
    )
    videos = []
    for name, axis in zip(bank.names, bank.axes, strict=True):
        label = rng.integers(0, len(CLASSES), clicks)
        points = Points(rng.uniform(0, axis.end, clicks), label)
        videos.append(WeakVideo(name, tuple(sorted(set(label.tolist()))), points))
    return TrainingData(bank, WeakLabels(CLASSES, tuple(videos)), seed)


def method(**config: object) -> LAC:
    torch.manual_seed(0)
    changes = {"hidden": 8, "dropout": 0.0, "batch_size": 4, **config}
    return LAC(LACConfig.model_validate(changes), dim=DIM, classes=CLASSES)


def losses_of(lac: LAC, batch: LACBatch) -> dict[str, torch.Tensor]:
    return lac.losses(lac(batch.rows, batch.sizes), batch)


def plain_seeds(
    background: NDArray[np.float32], points: NDArray[np.float32], low: float, high: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The rules of the paper's code, one snippet at a time."""
    length = len(background)
    clicks = np.nonzero(points.any(1))[0].tolist()
    action, is_background = np.zeros_like(points), np.zeros(length, np.bool_)
    if not clicks:
        return action, is_background
    for before, after in zip([-1, *clicks], [*clicks, length], strict=True):
        gap = list(range(before + 1, after))
        if not gap:
            continue
        sure = [t for t in gap if background[t] >= high]
        peak = max(gap, key=lambda t: (background[t], -t))
        first, last = (sure[0], sure[-1]) if sure else (peak, peak)
        if before == -1:
            first = 0
        if after == length:
            last = length - 1
        is_background[first : last + 1] = True
    for click in clicks:
        action[click] = points[click]
        for step in (-1, 1):
            t = click + step
            while 0 <= t < length and t not in clicks and background[t] <= low and not is_background[t]:
                action[t] = points[click]
                t += step
    return action, is_background


@settings(deadline=None, max_examples=80)
@given(st.data())
def test_seeds_follow_the_rules_snippet_by_snippet(data: st.DataObject) -> None:
    videos = data.draw(st.integers(1, 3))
    lengths = data.draw(st.lists(st.integers(1, 25), min_size=videos, max_size=videos))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    levels = np.array([0.02, 0.1, 0.3, 0.8, 0.95, 0.99], np.float32)
    background = rng.choice(levels, sum(lengths))
    points = (rng.random((sum(lengths), 3)) < 0.06).astype(np.float32)
    clicks = torch.from_numpy(points)
    video = video_of_rows(lengths, clicks)
    action, is_background = seeds(
        torch.from_numpy(background), clicks, video, torch.tensor(lengths), 0.1, 0.95
    )
    for n, low in zip(lengths, np.cumsum([0, *lengths]), strict=False):
        rows = slice(low, low + n)
        expected = plain_seeds(background[rows], points[rows], np.float32(0.1), np.float32(0.95))
        np.testing.assert_array_equal(action[rows], expected[0])
        np.testing.assert_array_equal(is_background[rows], expected[1])


def test_a_video_score_is_the_mean_of_the_best_eighth_and_never_empty() -> None:
    scores, lengths = torch.rand(23, 3), torch.tensor([20, 3])

    def video_scores(labels: torch.Tensor) -> torch.Tensor:
        video = video_of_rows(lengths.tolist(), scores)
        return packed_video_scores(scores, video, lengths, row_table(lengths), labels.nonzero(), 8)

    top = video_scores(torch.ones(2, 3))
    torch.testing.assert_close(top[0], scores[:20, :3].topk(2, dim=0).values.mean(0))
    torch.testing.assert_close(top[1], scores[20:, :3].amax(0))
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0]])
    both = video_scores(labels)
    torch.testing.assert_close(both[0, 0], top[0, 0])
    torch.testing.assert_close(both[0, 1:], scores[:20, 1:3].mean(0))
    torch.testing.assert_close(both[1, 0], scores[20:, 0].mean())


def test_segment_contrast_is_that_of_localization() -> None:
    rng = np.random.default_rng(0)
    lengths = np.array([30, 12])
    fused = rng.random((42, 4)).astype(np.float32)
    rows = [(v, c, a, b) for v in (0, 1) for c in (0, 2) for a in (0, 3, 7) for b in (8, 11, lengths[v])]
    segment = torch.tensor(rows)
    for action in (True, False):
        flags = torch.full((len(rows),), action)
        ours = segment_contrast(torch.from_numpy(fused), segment, flags, 0.25, torch.from_numpy(lengths))
        for value, (v, c, a, b) in zip(ours.tolist(), rows, strict=True):
            curve = fused[30 * v :][: lengths[v], c]
            zero = np.zeros(1, np.int64)
            run = Runs(zero, zero, np.array([a]), np.array([b]))
            expected = outer_inner_contrast(curve[None] if action else 1 - curve[None], run, 0.25)
            assert value == pytest.approx(expected.item(), abs=1e-6)


@given(seed=st.integers(0, 1000), pieces=st.integers(1, 30))
def test_three_snippets_lie_in_the_three_thirds(seed: int, pieces: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 100, pieces)
    end = start + rng.integers(1, 20, pieces)
    drawn = three_snippets(start, end, rng)
    assert (drawn >= start[:, None]).all()
    assert (drawn < end[:, None]).all()
    assert (np.diff(drawn, axis=1) >= 0).all()


def test_a_batch_has_the_losses_of_its_videos_alone() -> None:
    data, lac = training_data([40, 9, 70, 3], clicks=5), method()
    lac.search(data)
    together = lac.draw(0, 0, data)
    losses = losses_of(lac, together)
    assert losses["score"].max() > 0
    assert losses["feature"].max() > 0
    for b, name in enumerate(together.names):
        v = data.bank.names.index(name)
        chosen = np.nonzero(lac.pairs[:, 0] == v)[0]
        assert lac.segments is not None
        pairs = np.stack([np.zeros(len(chosen), np.int64), lac.pairs[chosen, 1]], 1)
        rng = np.random.default_rng(0)
        one = losses_of(lac, lac.batch_of(data, np.array([v]), lac.segments.of(chosen), pairs, rng))
        for key in losses.keys() - {"feature"}:  # that one draws snippets
            torch.testing.assert_close(losses[key][b], one[key][0], rtol=1e-5, atol=1e-6)


def test_clicks_are_rounded_down_to_snippets_and_stay_inside() -> None:
    data = training_data([5], clicks=1)
    seconds = np.array([0.0, 0.639, 0.64, 3.1999, 99.0])
    weak = WeakLabels(CLASSES, (WeakVideo("v0", (1,), Points(seconds, np.ones(5, np.int64))),))
    data = TrainingData(data.bank, weak)
    points = data.clicks(np.array([0]))
    assert points[:, 1].tolist() == [1, 1, 0, 0, 1]


def test_a_video_without_clicks_trains_on_its_tags() -> None:
    data = training_data([30, 30])
    video = data.weak.videos[0]
    bare = (WeakVideo(video.name, video.labels, Points()), data.weak.videos[1])
    data, lac = TrainingData(data.bank, WeakLabels(CLASSES, bare)), method(batch_size=2)
    lac.search(data)
    assert set(lac.pairs[:, 0].tolist()) == {1}
    batch = lac.draw(0, 0, data)
    losses = losses_of(lac, batch)
    at = batch.names.index(video.name)
    assert losses["video"][at] > 0
    for name in ("frame", "background", "score", "feature"):
        assert losses[name][at] == 0


def test_segments_that_reach_the_end_keep_their_last_snippet_without_the_quirk() -> None:
    data = training_data([20, 20, 20, 20])
    ends = {}
    for quirk in (True, False):
        lac = method(drop_last_snippet=quirk)
        lac.search(data)
        ends[quirk] = int(lac.draw(0, 0, data).segment[:, 3].max())
    assert ends == {True: 19, False: 20}


def test_the_feature_contrast_of_all_classes_is_their_mean() -> None:
    """A video with two classes of two actions each: the quirk keeps the last class only."""
    rng = np.random.default_rng(0)
    bank = FeatureBank.of(["v"], [rng.random((40, DIM)).astype(np.float32)], 25 / 16)
    time = bank.axes[0].seconds_at(np.array([3.5, 13.5, 23.5, 33.5]))
    video = WeakVideo("v", (0, 2), Points(time, np.array([0, 2, 0, 2])))
    data = TrainingData(bank, WeakLabels(CLASSES, (video,)))
    groups = {}
    for which in ("last", "mean"):
        lac = method(batch_size=1, feature_classes=which)
        lac.search(data)
        batch = lac.draw(0, 0, data)
        groups[which] = len(batch.contrast_video)
        assert losses_of(lac, batch)["feature"].isfinite().all()
    assert groups == {"last": 1, "mean": 2}


def scores(cas: NDArray[np.float32], foreground: NDArray[np.float32], video: list[float]) -> SnippetScores:
    axis = TimeAxis.uniform(len(cas), 25 / 16)
    return SnippetScores("v", cas, foreground, np.array(video, np.float32), axis)


def test_the_best_class_is_localized_even_below_the_threshold() -> None:
    cas = np.zeros((10, 3), np.float32)
    cas[3:6] = [0.1, 0.9, 0.2]
    found = method().localize([scores(cas, cas.max(1), [0.1, 0.4, 0.2])])
    assert set(found.label.tolist()) == {1}
    best = found[np.array([found.score.argmax()])]
    assert best.start.item() == pytest.approx(3 * 0.64, abs=0.64)
    assert best.end.item() == pytest.approx(6 * 0.64, abs=0.64)


def test_nothing_is_found_in_silence() -> None:
    lac = method()
    empty = np.zeros((10, 3), np.float32)
    assert len(lac.localize([scores(empty, empty.max(1), [0.9, 0.9, 0.9])])) == 0
    assert len(lac.candidates([])) == 0


def test_suppression_only_removes_proposals() -> None:
    rng = np.random.default_rng(1)
    s = scores(rng.random((30, 3), np.float32), rng.random(30, np.float32), [0.6, 0.7, 0.1])
    lac = method()
    everything, kept = lac.candidates([s]), lac.localize([s])
    rows = {tuple(r) for r in np.stack([everything.start, everything.end, everything.score], 1).tolist()}
    assert 0 < len(kept) < len(everything)
    assert {tuple(r) for r in np.stack([kept.start, kept.end, kept.score], 1).tolist()} <= rows
    open_ = method(nms_threshold=2.0).localize([s])
    assert len(open_) == len(everything)


def test_clamped_curves_stay_in_range_and_plain_overlap_keeps_more() -> None:
    rng = np.random.default_rng(2)
    s = scores(rng.random((30, 3), np.float32) ** 4, rng.random(30, np.float32), [0.6, 0.7, 0.1])
    assert len(method(nms_plus_one=False).localize([s])) > len(method().localize([s]))
    assert method(clamp_scores=True).candidates([s]).score.max() <= 1.2


def test_official_weights_load_by_name() -> None:
    source = method()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    loaded = LAC.from_published(state, classes=CLASSES, dropout=0.0)
    x = torch.rand(12, DIM)
    torch.testing.assert_close(loaded.eval()(x, [12]).fused, source.eval()(x, [12]).fused)
    assert loaded.classes == CLASSES
    assert loaded.config.hidden == 8


def test_wrong_official_weights_are_told_apart() -> None:
    state = dict(method().state_dict())
    name = "cls_module.classifier.0.weight"
    with pytest.raises(InputError, match="lacks a weight"):
        LAC.from_published({k: v for k, v in state.items() if k != name})
    with pytest.raises(InputError, match="unexpected stranger"):
        LAC.from_published(state | {"stranger": torch.zeros(1)})
    with pytest.raises(InputError, match="wrong shape"):
        LAC.from_published(state | {name: torch.zeros(4, 9, 1)})
    with pytest.raises(InputError, match="wrong shape"):
        LAC.from_published(state | {name: torch.zeros(4)})
    with pytest.raises(InputError, match="number of classes"):
        LAC.from_published(state, classes=["one"])
