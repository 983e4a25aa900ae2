"""TSPNet: labels and votes against plain loops, quirks, odd videos, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.methods.test_lac import CLASSES, DIM, training_data
from weaktal.core import Detections, InputError, Points, TimeAxis, WeakLabels, WeakVideo
from weaktal.methods.proposals import Proposals
from weaktal.methods.protocol import ProposalBatch, TrainingData
from weaktal.methods.tspnet import TSPNet, TSPNetConfig, segment_labels
from weaktal.testing import toy_proposals
from weaktal.train.inference import detect_videos

RATE = 25 / 16


def method(**config: object) -> TSPNet:
    torch.manual_seed(0)
    changes = {"dropout": 0.0, "batch_size": 4, **config}
    return TSPNet(TSPNetConfig.model_validate(changes), dim=DIM, classes=CLASSES)


def with_proposals(data: TrainingData) -> TrainingData:
    return replace(data, proposals=toy_proposals(data.bank, data.weak))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    segments=st.lists(st.integers(0, 8), min_size=1, max_size=4),
    nearest=st.booleans(),
)
def test_labels_follow_the_rules_click_by_click(seed: int, segments: list[int], nearest: bool) -> None:
    rng = np.random.default_rng(seed)
    video = np.repeat(np.arange(len(segments)), segments)
    start = rng.integers(0, 20, len(video)).astype(np.float32)
    end = start + rng.integers(0, 10, len(video)).astype(np.float32)
    proposals = Proposals(video, start, end, np.concatenate([[0], np.cumsum(segments)]))
    clicks = rng.integers(0, 6, len(segments))
    offsets = np.concatenate([[0], np.cumsum(clicks)])
    time = rng.integers(0, 50, offsets[-1]) / 2  # some on borders: those are outside
    label = rng.integers(0, 3, offsets[-1])
    which = "nearest" if nearest else "first"
    found = segment_labels(proposals, offsets, time, label, 3, 0.4, which)  # type: ignore[arg-type]
    for i, v in enumerate(video):
        inside = [p for p in range(offsets[v], offsets[v + 1]) if start[i] < time[p] < end[i]]
        classes = np.zeros(3)
        classes[label[inside]] = 1
        np.testing.assert_array_equal(found.classes[i], classes)
        if not inside:
            assert (found.center[i], found.point[i]) == (np.float32(0.4), -1)
            continue
        nearness = [1 - 2 * abs((time[p] - start[i]) / (end[i] - start[i]) - 0.5) for p in inside]
        place = int(np.argmax(nearness)) if nearest else 0
        assert found.point[i] == inside[place]
        assert found.center[i] == pytest.approx(nearness[place], abs=1e-6)


def one_click(**config: object) -> tuple[TSPNet, TrainingData]:
    """A click at snippet 10 and two segments around it, centred at 12 and 14."""
    data = training_data([40], clicks=1)
    point = Points(np.array([10 / RATE]), np.array([1]))
    weak = WeakLabels(CLASSES, (WeakVideo("v0", (1,), point),))
    start, end = np.array([8.0, 9.0]) / RATE, np.array([16.0, 19.0]) / RATE
    zero = np.zeros(2, np.int64)
    proposals = Detections(("v0",), CLASSES, zero, start, end, zero, zero)
    return method(**config), replace(data, weak=weak, proposals=proposals)


def test_votes_move_a_click_to_the_weighted_middle() -> None:
    tspnet, data = one_click(compound_shift=False)
    center = np.array([0.9, 0.85], np.float32)
    middle = (0.9 * 12 + 0.85 * 14) / 1.75
    for _ in range(3):  # unchanged votes: it stays there
        tspnet.move_points(data, center)
        assert tspnet.salient_times(data) == pytest.approx([middle], abs=1e-5)
    tspnet.move_points(data, np.array([0.1, 0.1], np.float32))  # nobody votes: it stays
    assert tspnet.salient_times(data) == pytest.approx([middle], abs=1e-5)


def test_the_published_rule_swings_between_the_vote_and_the_click() -> None:
    tspnet, data = one_click()
    center = np.array([0.9, 0.85], np.float32)
    middle = (0.9 * 12 + 0.85 * 14) / 1.75
    for expected in (middle, 10.0, middle, 10.0):
        tspnet.move_points(data, center)
        assert tspnet.salient_times(data) == pytest.approx([expected], abs=1e-5)
    tspnet.move_points(data, center)
    tspnet.move_points(data, np.array([0.1, 0.1], np.float32))
    assert tspnet.salient_times(data) == pytest.approx([10.0])


def test_a_moved_click_labels_its_segments_anew() -> None:
    tspnet, data = one_click()
    before = tspnet.labels(data).center.copy()
    tspnet.move_points(data, np.array([0.9, 0.0], np.float32))
    after = tspnet.labels(data).center
    assert after[0] == pytest.approx(1.0)
    assert before[0] == pytest.approx(0.5)
    tspnet.begin_stage(0, data)
    np.testing.assert_array_equal(tspnet.labels(data).center, before)


def test_what_training_carries_comes_back() -> None:
    tspnet, data = one_click()
    tspnet.move_points(data, np.array([0.9, 0.85], np.float32))
    again = method()
    again.load_training_state(tspnet.training_state())
    np.testing.assert_array_equal(again.labels(data).center, tspnet.labels(data).center)
    again.load_training_state({})
    assert again.labels(data).center[0] == pytest.approx(0.5)


def test_segments_look_the_same_computed_once_or_anew() -> None:
    data = with_proposals(training_data([20, 33, 7, 50]))
    assert data.proposals is not None
    twice = np.repeat(np.arange(len(data.proposals)), 2)  # equal segments share a row
    data = replace(data, proposals=data.proposals[twice])
    kept, anew = method(), method(cache_gib=0.0)
    assert anew.prepared(data).parts.table is None
    table = kept.prepared(data).parts.table
    assert table is not None
    assert len(table) == len(twice) // 2
    a, b = kept.draw(0, 3, data), anew.draw(0, 3, data)
    assert a.names == b.names
    torch.testing.assert_close(a.parts, b.parts)
    kept.update(data)
    anew.update(data)
    np.testing.assert_array_equal(kept.salient_times(data), anew.salient_times(data))


def test_no_more_than_the_allowed_segments_and_their_own_labels() -> None:
    data, tspnet = with_proposals(training_data([20, 33, 7, 50])), method(max_proposals=2)
    everything = method().draw(0, 0, data)
    batch = tspnet.draw(0, 0, data)
    assert torch.bincount(batch.video).tolist() == [2, 2, 2, 2]
    known = {
        tuple(v.flatten().tolist()): (c.item(), tuple(p.tolist()))
        for v, c, p in zip(everything.parts, everything.center_label, everything.point_label, strict=True)
    }
    for v, c, p in zip(batch.parts, batch.center_label, batch.point_label, strict=True):
        assert known[tuple(v.flatten().tolist())] == (c.item(), tuple(p.tolist()))
    drawn = {tuple(tspnet.draw(0, s, data).parts[:, 1, 0].tolist()) for s in range(5)}
    assert len(drawn) == 5


def test_a_video_without_proposals_takes_no_part() -> None:
    data = with_proposals(training_data([20, 33, 7, 50]))
    assert data.proposals is not None
    data = replace(data, proposals=data.proposals[data.proposals.video != 2])
    tspnet = method()
    batch = tspnet.draw(0, 0, data)
    losses = tspnet.losses(batch)
    at = batch.names.index("v2")
    assert losses["point"][at] == losses["center"][at] == 0
    assert tspnet.training_step(batch)["total"].isfinite()
    found = detect_videos(tspnet.eval(), data.bank, proposals=data.proposals)
    assert "v2" in found.names
    assert len(found.of("v2")) == 0
    assert len(found.of("v1")) > 0


def test_videos_of_any_length_alone_or_together() -> None:
    data = with_proposals(training_data([1, 2, 33, 100]))
    tspnet = method().eval()
    together = detect_videos(tspnet, data.bank, proposals=data.proposals, rows=10**6)
    alone = detect_videos(tspnet, data.bank, proposals=data.proposals, rows=1)
    for column in ("video", "label"):
        np.testing.assert_array_equal(getattr(together, column), getattr(alone, column))
    for column in ("start", "end", "score"):
        np.testing.assert_allclose(getattr(together, column), getattr(alone, column), atol=1e-5)
    assert data.proposals is not None
    classes = len(together) // len(data.proposals)
    assert len(together) >= len(data.proposals) * classes


def test_every_segment_comes_out_once_per_chosen_class() -> None:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 40, 30).astype(np.float32)
    end = start + rng.uniform(1, 9, 30).astype(np.float32)
    logits = rng.standard_normal((30, 4)).astype(np.float32)
    ones = np.ones(30, np.float32)
    for threshold, classes in ((0.0, 3), (0.99, 1)):
        found = method(class_threshold=threshold).localize(start, end, logits, ones, ones)
        assert len(found[0]) == 30 * classes
        assert len(set(found[2].tolist())) == classes
        for c in set(found[2].tolist()):
            assert (np.diff(found[3][found[2] == c]) <= 0).all()


def test_segments_without_length_can_be_left_out() -> None:
    zero = np.zeros(3, np.int64)
    found = Detections(("v",), CLASSES, zero, [1.0, 2.0, 3.0], [2.0, 2.0, 9.0], zero, zero)
    axis = (TimeAxis.uniform(50, RATE),)
    assert len(Proposals.of(found, ("v",), axis, drop_empty=True)) == 2
    assert len(Proposals.of(found, ("v",), axis, drop_empty=False)) == 3
    assert len(Proposals.of(found[:0], ("v",), axis, drop_empty=True)) == 0


def test_proposals_are_needed_and_must_fit() -> None:
    data, tspnet = training_data([20]), method()
    with pytest.raises(InputError, match="base locator"):
        tspnet.draw(0, 0, data)
    with pytest.raises(InputError, match="base locator"):
        tspnet.eval().detect(data.whole(np.array([0])))
    other = toy_proposals(training_data([20]).bank, data.weak)
    other = replace(other, names=("another",))
    with pytest.raises(InputError, match="belongs to a training video"):
        tspnet.draw(0, 0, replace(data, proposals=other))
    with pytest.raises(InputError, match="one of these videos"):
        detect_videos(tspnet, data.bank, proposals=other)
    empty = ProposalBatch.of(data.whole(np.array([0])), other)
    assert len(tspnet.detect(empty)) == 0


def test_official_weights_load_by_name_and_wrong_ones_are_told_apart() -> None:
    source = method()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    loaded = TSPNet.from_published(state, classes=CLASSES)
    parts = torch.rand(4, 3, DIM)
    for a, b in zip(loaded.eval()(parts), source.eval()(parts), strict=True):
        torch.testing.assert_close(a, b)
    name = "prop_backbone.prop_attention.2.bias"
    state = dict(source.state_dict())
    with pytest.raises(InputError, match=r"prop_attention\.2\.bias"):
        TSPNet.from_published({k: v for k, v in state.items() if k != name})
    with pytest.raises(InputError, match="wrong shape"):
        TSPNet.from_published(state | {name: torch.zeros(2)})
    with pytest.raises(InputError, match="number of classes"):
        TSPNet.from_published(state, classes=["one"])
