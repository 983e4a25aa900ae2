"""HR-Pro: contrast, regions, reliable segments, losses against plain loops; quirks, odd videos, bad input."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.methods.test_lac import CLASSES, training_data
from weaktal.core import Detections, InputError, Points, SnippetScores, TimeAxis, WeakLabels
from weaktal.methods.clicked_videos import ClickedVideos
from weaktal.methods.hr_pro import (
    HRPro,
    HRProConfig,
    HRProSnippets,
    HRProSnippetsConfig,
    background_curve,
    background_pieces,
    prototype_contrast,
    regions,
    reliable_rows,
    runs_of,
)
from weaktal.methods.protocol import TrainingData
from weaktal.testing import toy_proposals
from weaktal.train import recipes, resolve_config
from weaktal.train.inference import detect_videos

DIM, RATE = 6, 25 / 16


def snippets(**config: object) -> HRProSnippets:
    torch.manual_seed(0)
    small = {"heads": 2, "feedforward": 4, "batch_size": 4}
    still = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
    changes = HRProSnippetsConfig.model_validate({**small, **still, **config})
    return HRProSnippets(changes, dim=DIM, classes=CLASSES)


def second(**config: object) -> HRPro:
    torch.manual_seed(0)
    changes = {"dropout": 0.0, "batch_size": 4, **config}
    return HRPro(HRProConfig.model_validate(changes), dim=DIM, classes=CLASSES)


# the first stage


def plain_regions(chosen: NDArray[np.int64]) -> NDArray[np.bool_]:
    """As the paper's code finds them, from the changes of a sequence."""
    out = np.zeros(len(chosen), np.bool_)
    change = np.diff(chosen)
    places = np.flatnonzero(change).tolist()
    if not places:
        return out
    if change[places[0]] < 0:
        places = [-1, *places]
    if change[places[-1]] > 0:
        places = [*places, len(chosen) - 2]
    for low, high in zip(places[::2], places[1::2], strict=True):
        out[low + 1 : high + 1] = True
    return out


@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=4))
def test_regions_are_those_of_the_changes(videos: list[list[bool]]) -> None:
    lengths = torch.tensor([len(v) for v in videos])
    chosen = torch.tensor([x for v in videos for x in v]).float()[:, None]
    video = torch.arange(len(videos)).repeat_interleave(lengths)
    found = regions(chosen, video, lengths, True)
    assert torch.equal(regions(chosen, video, lengths, False), chosen)
    for own, chosen_of in zip(torch.split(found, lengths.tolist()), videos, strict=True):
        np.testing.assert_array_equal(own[:, 0] > 0, plain_regions(np.array(chosen_of, np.int64)))


def test_the_contrast_is_that_of_the_formula_video_by_video() -> None:
    rng, sizes = np.random.default_rng(0), [9, 4, 7, 6]
    data = training_data(sizes)
    batch = ClickedVideos.of(data, np.arange(4))
    labels = torch.tensor([[1.0, 0, 1], [0, 1, 1], [1, 1, 1], [0, 1, 0]])
    batch = replace(batch, labels=labels)
    features = torch.from_numpy(rng.random((26, DIM))).requires_grad_()
    prototypes = torch.from_numpy(rng.random((4, 3, DIM)))
    prototypes[:, 1] = 0  # nobody clicked it
    action = torch.from_numpy((rng.random((26, 3)) < 0.4).astype(float))
    background = torch.from_numpy((rng.random(26) < 0.4).astype(float))
    background[13:20] = 0
    with torch.no_grad():
        features[3] = 0  # all of a ReLU off
    found = prototype_contrast(features, prototypes, action, background, batch, 0.1)
    found.sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    unit = torch.nn.functional.normalize
    for b, rows in enumerate(torch.split(torch.arange(26), sizes)):
        near = (unit(features[rows], dim=1) @ unit(prototypes[b], dim=1).T / 0.1).exp().detach()
        seen, behind = action[rows] > 0, background[rows] > 0
        total = 0.0
        for c in (0, 2):
            if labels[b, c] and seen[:, c].any() and behind.any():
                m = near[seen[:, c]].mean(0)
                m_background = near[behind].mean(0)[c]
                total -= (
                    0.5 * (torch.log(m[c] / (m[0] + m[2])) + torch.log(m[c] / (m[c] + m_background))).item()
                )
        assert found[b].item() == pytest.approx(total / max(float(labels[b].sum()), 1))
    assert found[2] == found[3] == 0
    assert found[:2].min() > 0


def test_prototypes_follow_video_after_video_in_both_ways() -> None:
    data = training_data([20, 9, 14, 33])
    after = {}
    for together in (False, True):
        method = snippets(sequential_prototypes=not together, momentum=0.1).train()
        method.make_prototypes(data)
        begin = method.prototypes.clone()
        batch = method.draw(0, 0, data)
        losses = method.training_step(batch)
        assert losses["total"].isfinite()
        after[together] = method.prototypes.clone()
        assert not torch.equal(begin, after[together])
    assert not torch.equal(after[False], after[True])  # the next video sees where they are
    losses_of = {}
    for together in (False, True):  # with prototypes that stay, videos do not see each other
        method = snippets(sequential_prototypes=not together, momentum=0.0).train()
        method.make_prototypes(data)
        losses_of[together] = method.training_step(method.draw(0, 0, data))
    for name, value in losses_of[True].items():
        torch.testing.assert_close(value, losses_of[False][name])


def test_a_class_that_nobody_clicked_has_no_prototype_and_no_contrast() -> None:
    data = training_data([20, 9, 14, 33])
    weak = tuple(
        replace(v, points=Points(v.points.time, 0 * v.points.label), labels=(0,))
        for v in data.weak.videos
        if v.points is not None
    )
    data = TrainingData(data.bank, WeakLabels(CLASSES, weak))
    method = snippets()
    method.begin_stage(0, data)
    assert (method.prototypes.abs().sum(1) > 0).tolist() == [True, False, False]
    assert all(v.isfinite() for v in method.training_step(method.draw(0, 0, data)).values())


def test_a_video_without_clicks_has_the_video_loss_alone() -> None:
    data = training_data([30, 30])
    bare = replace(data.weak.videos[0], points=Points())
    data = TrainingData(data.bank, WeakLabels(CLASSES, (bare, data.weak.videos[1])))
    method = snippets(batch_size=2)
    method.begin_stage(0, data)
    batch = method.draw(0, 0, data)
    seen = method.prototypes.clone().expand(2, -1, -1)
    losses = method.losses(method(batch.rows, batch.sizes), seen, batch)
    at = batch.names.index(bare.name)
    assert losses["video"][at] > 0
    assert losses["frame"][at] == losses["background"][at] == losses["contrast"][at] == 0


def test_tokens_are_the_prototypes_without_the_quirk() -> None:
    seen = {}
    for mixed in (True, False):
        method = snippets(mixed_tokens=mixed).eval()
        method.prototypes.copy_(torch.arange(3.0 * DIM).view(3, DIM))
        method.encoder.RAB[0].register_forward_pre_hook(lambda _m, x, k=mixed: seen.update({k: x[0]}))
        method.network(torch.rand(4, DIM), [4])
    assert torch.equal(seen[False][4:], torch.arange(3.0 * DIM).view(3, DIM))
    assert seen[True][4, 1] == 3  # the second number of the first token is the fourth of all


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="heads"):
        HRProSnippets(HRProSnippetsConfig(), dim=DIM, classes=CLASSES)


# between the stages


def test_the_best_proposal_between_the_neighbouring_clicks_is_reliable() -> None:
    start = np.array([0.0, 2.0, 0.0, 6.0, 1.0, 2.5])
    end = np.array([4.0, 4.0, 9.0, 8.0, 4.5, 3.5])
    label, score = np.array([0, 0, 0, 1, 1, 0]), np.array([0.3, 0.5, 0.9, 0.2, 0.9, -0.1])
    zero = np.zeros(6, np.int64)
    found = Detections(("v",), CLASSES, zero, start, end, label, score)
    time = np.array([3.0, 7.0, 12.0, 5.0, 5.0])
    order = np.argsort(time, kind="stable")
    label = np.array([0, 1, 2, 0, 0])[order]
    # at 3: the best but one reaches over the next click; at 5 (twice) only that one holds the click;
    # at 7: one of the class alone; at 12: none
    assert reliable_rows(found, time[order], label).tolist() == [1, 2, 2, 3, -1]
    assert reliable_rows(found[:0], time, label).tolist() == [-1] * 5
    assert reliable_rows(found, time[:0], label[:0]).tolist() == []


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=30), st.integers(0, 20), st.integers(0, 100))
def test_pieces_of_background_lie_in_its_runs(chosen: list[bool], count: int, seed: int) -> None:
    runs = runs_of(np.array(chosen, np.bool_))
    pieces = background_pieces(runs, count, np.random.default_rng(seed), tries=20)
    assert len(pieces) == (count if len(runs) else 0)
    for start, end in pieces:
        assert start < end
        inside = (runs[:, 0] <= start) & (end <= np.maximum(runs[:, 1], runs[:, 0] + 1))
        assert inside.any()


def test_background_comes_from_the_scores_of_the_base_or_from_its_proposals() -> None:
    axis = TimeAxis.uniform(6, RATE)
    foreground = np.array([0.1, 0.9, 0.2], np.float32)
    cas, video = np.zeros((3, 1), np.float32), np.zeros(1, np.float32)
    coarse = SnippetScores("v", cas, foreground, video, axis.resampled(3))
    none = np.empty(0)
    found = background_curve(axis, coarse, none.reshape(0, 2), none)
    np.testing.assert_allclose(found, [0.9, 0.9, 0.1, 0.1, 0.8, 0.8], atol=1e-6)
    found = background_curve(axis, None, np.array([[0.0, 4.0], [1.5, 3.0]]), np.array([1.0, 3.0]))
    np.testing.assert_allclose(found, [0.75, 0, 0, 0.75, 1, 1], atol=1e-6)
    np.testing.assert_array_equal(background_curve(axis, None, none.reshape(0, 2), none), np.ones(6))


# the second stage


def with_proposals(data: TrainingData) -> TrainingData:
    return replace(data, proposals=toy_proposals(data.bank, data.weak))


def plain_overlap(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    common = min(a[1], b[1]) - max(a[0], b[0])
    return float(max(0.0, common / ((a[1] - a[0]) + (b[1] - b[0]) - common + 1e-6)))


@pytest.mark.parametrize("class_aware", [False, True])
def test_losses_are_those_of_the_rules_segment_by_segment(class_aware: bool) -> None:
    data, method = with_proposals(training_data([20, 33, 27, 50], clicks=4)), second(class_aware=class_aware)
    batch = method.draw(0, 0, data)
    out, losses = method(batch.parts), method.losses(batch)
    for b in range(4):
        rows = torch.nonzero(batch.video == b)[:, 0].tolist()
        reliable = zip(batch.reliable[b].double().numpy(), batch.reliable_class[b].tolist(), strict=True)
        known = [(r, c) for r, c in reliable if c >= 0]
        regression, score, positives = [], [], 0
        near = {}
        for i in rows:
            segment = batch.segment[i].double().numpy()
            near[i] = [
                max((plain_overlap(segment, r) for r, c in known if c == k), default=0.0) for k in range(3)
            ]
            positives += max(near[i]) >= 0.3
        share = min(1.0, positives / max(len(rows) - positives, 1))
        for i in rows:
            segment = batch.segment[i].double().numpy()
            size = segment[1] - segment[0]
            if max(near[i]) >= 0.3:
                moved = segment + size * np.array([out.start[i].item(), out.end[i].item()])
                regression.append(0.5 * (1 - max(plain_overlap(moved, r) for r, _ in known)) ** 2)
            if max(near[i]) >= 0.3 or batch.drawn[i] > 1 - share:
                target = near[i] if class_aware else [max(near[i])]
                told = zip(out.completeness[i].tolist(), target, strict=True)
                if class_aware:  # cross-entropy
                    score.append(-sum(t * np.log(c) + (1 - t) * np.log(1 - c) for c, t in told))
                else:
                    score.append(sum(0.5 * (c - t) ** 2 for c, t in told))
        assert losses["regression"][b].item() == pytest.approx(
            np.mean(regression) if regression else 0, abs=1e-5
        )
        assert losses["score"][b].item() == pytest.approx(np.mean(score) if score else 0, abs=1e-5)
    assert losses["score"].max() > 0
    assert losses["regression"].max() > 0


def test_a_completeness_near_0_still_learns_of_its_class() -> None:
    """Of many classes nearly all targets are 0; what they say of the others must not end at 0, too."""
    data, method = with_proposals(training_data([20, 33, 27, 50], clicks=4)), second(class_aware=True)
    bias = method.bcr.prop_completeness[2].bias
    with torch.no_grad():
        bias.fill_(-7)
    method.training_step(method.draw(0, 0, data))["score"].backward()
    assert bias.grad is not None
    assert bias.grad[0] < -0.1  # the mean overlap; a squared error would leave a thousandth of it


def test_only_proposals_of_the_labelled_classes_may_train() -> None:
    data = with_proposals(training_data([20, 33, 7, 50], clicks=1))
    assert data.proposals is not None
    wrong = replace(data.proposals, label=(data.proposals.label + 1) % 3)
    data = replace(data, proposals=Detections.concatenate([data.proposals, wrong], CLASSES))
    every, own = (
        second(negative_share=0).prepared(data),
        second(negative_share=0, labelled_only=True).prepared(data),
    )
    assert len(every.candidates) == 2 * len(own.candidates)


def test_no_more_than_the_allowed_segments() -> None:
    data = with_proposals(training_data([20, 33, 7, 50]))
    assert torch.bincount(second(max_proposals=2).draw(0, 0, data).video).tolist() == [2, 2, 2, 2]


def test_videos_without_proposals_or_clicks_take_no_part() -> None:
    data = with_proposals(training_data([20, 33, 7, 50]))
    assert data.proposals is not None
    weak = (replace(data.weak.videos[0], points=Points()), *data.weak.videos[1:])
    data = replace(data, proposals=data.proposals[data.proposals.video != 2], weak=WeakLabels(CLASSES, weak))
    method = second()
    batch = method.draw(0, 0, data)
    losses = method.losses(batch)
    for name in ("v0", "v2"):
        assert losses["score"][batch.names.index(name)] == losses["regression"][batch.names.index(name)] == 0
    bare = tuple(replace(v, points=Points()) for v in data.weak.videos)
    none = second().training_step(second().draw(0, 0, replace(data, weak=WeakLabels(CLASSES, bare))))
    assert all(value == 0 for value in none.values())
    found = detect_videos(method.eval(), data.bank, proposals=data.proposals)
    assert len(found.of("v2")) == 0
    assert len(found.of("v1")) == 12  # every proposal twice: as it was, and moved


def test_moved_proposals_can_be_kept_inside_the_video() -> None:
    data = with_proposals(training_data([20, 33]))
    for clip in (True, False):
        method = second(clip_refined=clip).eval()
        with torch.no_grad():
            method.bcr.start_reg_conv[2].bias.fill_(-9.0)
            method.bcr.end_reg_conv[2].bias.fill_(9.0)
        found = detect_videos(method, data.bank, proposals=data.proposals)
        assert (found.start.min() >= 0) == clip
        assert (found.end.max() <= max(a.end for a in data.bank.axes)) == clip


def test_completeness_of_a_class_is_that_of_its_proposals() -> None:
    data = with_proposals(training_data([20]))
    assert data.proposals is not None
    proposals = replace(data.proposals, label=np.arange(6) % 3, score=np.zeros(6))
    method = second(class_aware=True).eval()
    with torch.no_grad():
        method.bcr.prop_completeness[2].weight.zero_()
        method.bcr.prop_completeness[2].bias.copy_(torch.tensor([-9.0, 0.0, 9.0]))
    found = detect_videos(method, data.bank, proposals=proposals)
    best = [found.score[found.label == c].max() for c in range(3)]
    np.testing.assert_allclose(best, [0, 0.5, 1], atol=1e-3)


def test_proposals_are_needed() -> None:
    data, method = training_data([20]), second()
    with pytest.raises(InputError, match="base locator"):
        method.draw(0, 0, data)
    with pytest.raises(InputError, match="base locator"):
        method.eval().detect(data.whole(np.array([0])))


def test_official_weights_load_by_name() -> None:
    source = snippets()
    source.prototypes.copy_(torch.rand(3, DIM))
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    loaded = HRProSnippets.from_published(state, classes=CLASSES, heads=2)
    assert (loaded.config.feedforward, loaded.config.layers) == (4, 2)
    rows = torch.rand(9, DIM)
    torch.testing.assert_close(loaded.eval()(rows, [9]).fused, source.eval()(rows, [9]).fused)
    with pytest.raises(InputError, match="lacks a weight"):
        HRProSnippets.from_published({})
    state = dict(second().state_dict())
    assert HRPro.from_published(state, classes=CLASSES).classes == CLASSES
    with pytest.raises(InputError, match="does not know its classes"):
        HRPro.from_published(state)
    with pytest.raises(InputError, match="unexpected stranger"):
        HRPro.from_published({**state, "stranger": torch.zeros(1)}, classes=CLASSES)


@pytest.mark.parametrize("method", ["hr_pro", "hr_pro_snippets"])
def test_recipes_are_complete_and_the_published_one_is_the_default(method: str) -> None:
    assert set(recipes(method)) >= {"thumos14", "gtea", "beoid", "activitynet13", "own"}
    for name in recipes(method):
        assert resolve_config(method, name)
    assert resolve_config(method, "thumos14") == resolve_config(method)
