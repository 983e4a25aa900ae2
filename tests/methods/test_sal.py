"""SAL: what its parts compute, how its settings act, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from weaktal.core import Detections, InputError, SnippetScores, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods import sal
from weaktal.methods.protocol import TrainingData, whole_videos
from weaktal.methods.sal import (
    SAL,
    AdaptiveMask,
    SALConfig,
    bilinear_descriptor,
    generalized_cross_entropy,
    label_cross_entropy,
    pooled_at,
    scoring_rows,
    training_rows,
)
from weaktal.train.config import recipes, resolve_config

CLASSES = ("jump", "run", "throw")


def small(**config: Any) -> SAL:
    torch.manual_seed(0)
    config = {"hidden": 6, "segments": 24, "dropout": 0.0, **config}
    return SAL(SALConfig(**config), dim=8, classes=CLASSES)


def features(b: int = 3, t: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(b, t, 8, generator=torch.Generator().manual_seed(seed)) * 4


def data(lengths: tuple[int, ...] = (30, 24, 7), seed: int = 0) -> TrainingData:
    rng = np.random.default_rng(1)
    names = [f"v{i}" for i in range(len(lengths))]
    bank = FeatureBank.of(names, [rng.random((n, 8), dtype=np.float32) for n in lengths], 25 / 16)
    weak = tuple(WeakVideo(n, (i % len(CLASSES),)) for i, n in enumerate(names))
    return TrainingData(bank, WeakLabels(CLASSES, weak), seed)


# -- sampling -----------------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(1, 80), st.integers(0, 99))
def test_training_rows_stay_in_their_video_and_in_order(lengths: list[int], size: int, seed: int) -> None:
    n = np.array(lengths)
    for sampling in ("thumos14", "activitynet"):
        rows = training_rows(n, size, sampling, np.random.default_rng(seed))
        assert rows.shape == (len(n), size)
        assert rows.min() >= 0
        assert np.all(rows < n[:, None])
        assert np.all(np.diff(rows, axis=1) >= 0)
        if sampling == "thumos14":
            base = np.arange(size) * n[:, None] // size
            assert np.all(rows >= base)
            assert np.all(rows[:, :-1] <= base[:, 1:])
        for row, length in zip(rows, lengths, strict=True):
            if length == size:
                assert row.tolist() == list(range(size))


@given(st.lists(st.integers(1, 200), min_size=1, max_size=4), st.integers(2, 80))
def test_scoring_rows_cover_a_video_evenly(lengths: list[int], size: int) -> None:
    n = np.array(lengths)
    for sampling in ("thumos14", "activitynet"):
        rows, count = scoring_rows(n, size, sampling)
        for row, k, length in zip(rows, count, lengths, strict=True):
            used = row[:k]
            assert used[0] == 0
            assert np.all((used >= 0) & (used < length))
            assert np.ptp(np.diff(used)) <= 1 if k > 1 else True
            if sampling == "activitynet" and 1 < length <= size:
                assert used.tolist() == list(range(length))
    assert scoring_rows(np.array([1]), size, "activitynet")[0].tolist() == [[0, 0]]


def test_every_snippet_of_a_bin_can_be_drawn() -> None:
    rng = np.random.default_rng(0)
    drawn = np.concatenate([training_rows(np.array([12]), 4, "thumos14", rng) for _ in range(300)])
    assert [set(column) for column in drawn.T] == [
        {0, 1, 2, 3},
        {3, 4, 5, 6},
        {6, 7, 8, 9},
        {9, 10, 11},
    ]


def test_draws_depend_on_seed_and_step_only() -> None:
    method, first = small(batch_size=2), data()
    assert torch.equal(method.draw(0, 5, first).features, method.draw(0, 5, data()).features)
    assert not torch.equal(method.draw(0, 5, first).features, method.draw(0, 5, data(seed=1)).features)
    batch = method.draw(0, 1, first)
    assert batch.features.shape == (1, 24, 8)  # the last batch of an epoch of three
    assert batch.axes[0].end == pytest.approx(first.bank.axes[first.bank.names.index(batch.names[0])].end)
    assert len(small(batch_size=2, drop_last=True).draw(0, 1, first)) == 2


# -- network ------------------------------------------------------------------------------------------------


def test_the_network_is_that_of_the_paper() -> None:
    """Written out once more: enriched embedding, mixed videos, three descriptors."""
    method, x = small(rgb_share=0.3), features().transpose(1, 2)
    out = method(features(), extras=True)
    rgb, flow = x[:, :4], x[:, 4:]
    streams, mixed = [], []
    for part, conv, head in (
        (rgb, method.action_rgb, method.cls_rgb),
        (flow, method.action_flow, method.cls_flow),
    ):
        streams.append(conv(part).relu())
        mixed.append(head(conv(part + part.roll(1, 0)).relu()).sigmoid()[:, 0])
    a_rgb, a_flow = (h(e).sigmoid() for h, e in zip((method.cls_rgb, method.cls_flow), streams, strict=True))
    actionness = 0.7 * a_flow + 0.3 * a_rgb
    joint = method.encoder(x).relu()
    q = bilinear_descriptor(joint, 24.0**2)
    enriched = joint + method.fc1(q)[:, :, None] * actionness
    torch.testing.assert_close(out.cas, method.cls(enriched).transpose(1, 2))
    torch.testing.assert_close(out.background_cas, ((1 - actionness) * method.cls(enriched)).transpose(1, 2))
    torch.testing.assert_close(out.actionness, actionness[:, 0])
    torch.testing.assert_close(out.streams[0], torch.stack([a_rgb[:, 0], a_flow[:, 0]]))
    torch.testing.assert_close(out.streams[1], torch.stack(mixed))
    semantic = [method.fc(bilinear_descriptor(z, 24.0**2)) for z in (joint, *streams)]
    torch.testing.assert_close(out.semantic, torch.stack(semantic))


def test_the_descriptor() -> None:
    z = torch.tensor([[[1.0, 2.0], [0.0, 0.0], [3.0, -1.0]]])
    q = bilinear_descriptor(z, 4).reshape(3, 3)
    torch.testing.assert_close(q, q.T)
    assert q[1].tolist() == [0.0, 0.0, 0.0]  # exact zeros stay
    torch.testing.assert_close(q.norm(), torch.tensor(1.0))
    torch.testing.assert_close(q[0, 0] / q[0, 2], torch.tensor((5 / 4 + 1e-5) ** 0.5 / (1 / 4 + 1e-5) ** 0.5))
    torch.testing.assert_close(bilinear_descriptor(-z, 4), q.reshape(1, 9))
    two = torch.tensor([[[1.0], [-1.0]]])
    mixed_signs = bilinear_descriptor(two, 1)
    assert mixed_signs.sign().tolist() == [[1.0, -1.0, -1.0, 1.0]]


def test_a_dead_channel_has_no_gradient() -> None:
    z = torch.rand(2, 4, 5, generator=torch.Generator().manual_seed(0))
    z[:, 2] = 0
    z.requires_grad_()
    bilinear_descriptor(z, 25.0)[:, ::3].sum().backward()
    assert z.grad is not None
    assert z.grad.isfinite().all()
    assert not z.grad[:, 2].any()
    assert z.grad[:, 0].any()


def test_padding_changes_nothing() -> None:
    method = small(sampling="activitynet").eval()
    x = features(2)
    alone = method(x[:1, :10])
    x[0, 10:] = 1e3
    padded = method(x, torch.tensor([10, 24]))
    torch.testing.assert_close(padded.cas[:1, :10], alone.cas)
    torch.testing.assert_close(padded.semantic[:, :1], alone.semantic)
    torch.testing.assert_close(padded.streams[:, :, :1, :10], alone.streams)


# -- losses -------------------------------------------------------------------------------------------------


def test_generalized_cross_entropy() -> None:
    scores, target = torch.tensor([[0.9, 0.2, 0.4]]), torch.tensor([[1.0, 0.0, 0.0]])
    mask = torch.tensor([[1.0, 1.0, 3.0]])
    # with q = 1 it is the mean absolute error of positives plus that of negatives, weighted
    expected = 0.1 + (0.2 + 3 * 0.4) / 4
    assert generalized_cross_entropy(scores, target, mask, 1.0).item() == pytest.approx(expected, abs=1e-5)
    almost = generalized_cross_entropy(scores, target, mask, 1e-3).item()
    logs = -np.log(0.9) - (np.log(0.8) + 3 * np.log(0.6)) / 4
    assert almost == pytest.approx(logs, abs=2e-3)
    assert generalized_cross_entropy(target, target, mask, 0.5).item() == pytest.approx(0, abs=1e-3)


def test_label_cross_entropy_shares_weight_between_labels() -> None:
    scores = torch.tensor([[1.0, 2.0, 3.0]])
    log_p = F.log_softmax(scores, 1)[0]
    one = label_cross_entropy(scores, torch.tensor([[0.0, 1.0, 0.0]]))
    two = label_cross_entropy(scores, torch.tensor([[1.0, 1.0, 0.0]]))
    assert one.item() == pytest.approx(-log_p[1].item())
    assert two.item() == pytest.approx(-(log_p[0] + log_p[1]).item() / 2)
    assert label_cross_entropy(scores, torch.zeros(1, 3)).item() == pytest.approx(0, abs=1e-6)


def test_pooling_takes_values_from_one_sequence_and_places_from_another() -> None:
    cas = torch.tensor([[[1.0], [2.0], [3.0]]], requires_grad=True)
    rank_by = torch.tensor([[[5.0], [1.0], [4.0]]], requires_grad=True)
    pooled_at(cas, rank_by.topk(2, dim=1).indices).sum().backward()
    assert cas.grad is not None
    assert cas.grad[0, :, 0].tolist() == [0.5, 0.0, 0.5]
    assert rank_by.grad is None


def test_the_mask_lowers_only_what_is_less_sure_than_the_mean() -> None:
    mask = AdaptiveMask(2, momentum=0.5, divisor=0.5)
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.3, 0.7]])
    weight = mask(p)
    confidence = np.array([0.9, 0.5, 0.7])
    mean = 0.5 * 0.5 + 0.5 * confidence.mean()
    variance = 0.5 * 1.0 + 0.5 * confidence.var(ddof=1)
    assert mask.mean.item() == pytest.approx(mean)
    assert mask.variance.item() == pytest.approx(variance)
    assert mask.prior.tolist() == pytest.approx((0.25 + 0.5 * p.mean(0)).tolist())
    below = np.minimum(confidence - mean, 0)
    assert weight.tolist() == pytest.approx(np.exp(-(below**2) / (0.5 * variance)).tolist())
    assert weight[0] == 1
    assert weight[1] < weight[2] <= 1


def test_the_mask_stays_finite_when_all_snippets_are_alike() -> None:
    mask = AdaptiveMask(2, momentum=0.0, divisor=0.5)
    for p in (torch.full((5, 2), 0.5), torch.full((1, 2), 0.5)):
        assert mask(p).tolist() == [1.0] * len(p)


def test_pseudo_labels_are_active_and_confident() -> None:
    method = small(positive_divisor=8, positive_extra=2)
    out = method(features(1))
    order = np.arange(24.0)
    out = out._replace(
        actionness=torch.tensor(order[None] / 24), cas=torch.tensor(np.tile((24 - order)[None, :, None], 3))
    )
    # the 24 // 8 + 2 most active ones are not among the 12 most confident ones
    assert method.pseudo_labels(out).sum() == 0
    out = out._replace(cas=out.cas.flip(1))
    assert method.pseudo_labels(out)[0].nonzero()[:, 0].tolist() == [19, 20, 21, 22, 23]
    loose = small(positive_divisor=None, positive_extra=40, confident_divisor=None)
    assert loose.pseudo_labels(out).sum() == 24  # no more than there are


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("t", [1, 2, 24])
def test_a_step_is_finite_for_any_length_and_without_labels(b: int, t: int) -> None:
    method = small()
    losses = method.losses(method(features(b, t), extras=True), torch.zeros(b, 3))
    losses["total"].backward()
    assert all(v.isfinite() for v in losses.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


def test_the_total_is_the_weighted_sum() -> None:
    method = small(background_weight=2.0, consistency_weight=3.0, semantic_weight=4.0)
    found = method.training_step(method.draw(0, 0, data()))
    weight = {"background": 2.0, "consistency": 3.0, "semantic": 4.0}
    total = sum(weight.get(k, 1.0) * v.item() for k, v in found.items() if k != "total")
    assert found["total"].item() == pytest.approx(total, rel=1e-5)
    with pytest.raises(ValueError, match="extras"):
        method.losses(method(features()), torch.ones(3, 3))


def test_training_learns_which_snippets_show_the_class() -> None:
    """Class c has its own direction in a third of the snippets; the rest is noise that all classes share."""
    rng = np.random.default_rng(0)
    names, arrays, truth = [], [], []
    for i in range(12):
        x = rng.random((40, 8)).astype(np.float32) * 0.3
        at = rng.integers(0, 28)
        x[at : at + 12, i % 3] += 1
        x[at : at + 12, 4 + i % 3] += 1
        names.append(str(i))
        arrays.append(x)
        truth.append((np.arange(40) >= at) & (np.arange(40) < at + 12))
    weak = WeakLabels(CLASSES, tuple(WeakVideo(n, (i % 3,)) for i, n in enumerate(names)))
    toy = TrainingData(FeatureBank.of(names, arrays, 25 / 16), weak)
    method = small(segments=40, hidden=16, batch_size=4, lr=3e-3, positive_extra=7).train()
    optimizer = method.optimizer(0)
    for step in range(150):
        optimizer.zero_grad()
        method.training_step(method.draw(0, step, toy))["total"].backward()
        optimizer.step()
    method.eval()
    with torch.no_grad():
        scores = method.score(toy.whole(np.arange(12)))
    assert [int(s.video_scores.argmax()) for s in scores] == [i % 3 for i in range(12)]
    inside = np.mean(
        [s.cas[where, i % 3].mean() for i, (s, where) in enumerate(zip(scores, truth, strict=True))]
    )
    outside = np.mean(
        [s.cas[~where, i % 3].mean() for i, (s, where) in enumerate(zip(scores, truth, strict=True))]
    )
    assert inside > outside + 0.2


# -- localization -------------------------------------------------------------------------------------------


def plateau(
    t: int = 50, start: int = 20, end: int = 30, height: float = 0.85, label: int = 1
) -> SnippetScores:
    cas = np.zeros((t, 3), np.float32)
    cas[start:end, label] = height
    video = np.array([0.1, 0.1, 0.1], np.float32)
    video[label] = 0.8
    return SnippetScores("v", cas, cas[:, label], video, TimeAxis.uniform(t, 25 / 16))


def test_a_plateau_is_found_where_it_is() -> None:
    method = small()
    found = method.localize([plateau()])
    assert found.label.tolist() == [1] * 8  # the thresholds 0.1 ... 0.8, one of them kept as it is
    best = int(found.score.argmax())
    assert best == 0
    snippet = 16 / 25
    assert found.start[0] == pytest.approx(20 * snippet, abs=snippet)
    assert found.end[0] == pytest.approx(30 * snippet, abs=snippet)
    assert found.score[0] == pytest.approx(0.85 + 0.2 * 0.8, abs=0.12)


def changed(**config: Any) -> Detections:
    scores = [
        plateau(),
        replace(plateau(end=50, height=0.97), video="w"),
        replace(plateau(80, 0, 1), video="x"),
    ]
    # an activation that the first point of the up-sampled curve alone reaches
    scores[2].cas[0, 1] = 0.5
    scores[0].cas[5:9, 0] = 0.6  # of a class that is not probable in this video
    return small(**config).localize(scores)


@pytest.mark.parametrize(
    "config",
    [
        {"margin": 0.5},
        {"class_weight": 0.5},
        {"drop_lone_first": False},
        {"plus_one": False, "nms_threshold": 0.95},
        {"soft_nms": False},
        {"soft_nms_alpha": 0.1},
        {"class_threshold": 0.05},
        {"upscale": 7},
        {"thresholds": (0.5,)},
    ],
)
def test_every_setting_of_localization_acts(config: dict[str, Any]) -> None:
    base = {"nms_threshold": config["nms_threshold"]} if "nms_threshold" in config else {}
    assert changed(**base) != changed(**config)


def test_clamping_keeps_the_last_snippets_in_range() -> None:
    rising = plateau(10, 9, 10, height=0.9)
    free, clamped = (small(clamp=c, thresholds=(0.85,)).localize([rising]) for c in (False, True))
    # with nothing outside, contrast is the mean of the curve: it goes on rising, or stays at 0.9
    free, clamped = (
        small(clamp=c, thresholds=(0.85,), margin=0.0).localize([rising]).score.item() for c in (False, True)
    )
    assert clamped == pytest.approx(0.9 + 0.2 * 0.8, abs=0.01)
    assert free == pytest.approx(1.35 + 0.2 * 0.8, abs=0.05)


def test_soft_suppression_keeps_what_the_hard_one_keeps_first() -> None:
    soft, hard = changed(), changed(soft_nms=False)
    assert len(soft) > len(hard)
    for v in range(3):
        first = soft[soft.video == v][: int((hard.video == v).sum())]
        assert first == hard[hard.video == v]


def test_without_a_probable_class_the_best_one_counts() -> None:
    scores = replace(plateau(), video_scores=np.array([0.05, 0.2, 0.2], np.float32))
    assert set(small().localize([scores]).label.tolist()) == {1}
    scores = replace(plateau(), video_scores=np.array([0.3, 0.3, 0.2], np.float32))
    scores.cas[5:9, 0] = 0.6
    assert set(small().localize([scores]).label.tolist()) == {0, 1}


@pytest.mark.parametrize("sampling", ["thumos14", "activitynet"])
def test_videos_scored_a_few_at_a_time(sampling: str, monkeypatch: pytest.MonkeyPatch) -> None:
    method, bank = small(sampling=sampling).eval(), data((30, 24, 7, 1, 50)).bank
    batch = whole_videos(bank, np.arange(5), torch.zeros(5, 3))
    with torch.no_grad():
        together = method.score(batch)
        monkeypatch.setattr(sal, "SCORED", 48)  # two videos
        parts = method.score(batch)
    assert [s.video for s in parts] == [s.video for s in together] == list(bank.names)
    for a, b in zip(parts, together, strict=True):
        assert (a.axis.length, a.axis.end) == (b.axis.length, b.axis.end)
        for field in ("cas", "foreground", "video_scores"):
            np.testing.assert_allclose(getattr(a, field), getattr(b, field), rtol=1e-5, atol=1e-6)


@settings(max_examples=20)
@given(st.permutations(range(4)))
def test_videos_do_not_meet(order: list[int]) -> None:
    rng = np.random.default_rng(0)
    scores = [
        SnippetScores(
            str(t),
            rng.random((t, 3)).astype(np.float32),
            rng.random(t).astype(np.float32),
            rng.dirichlet(np.ones(3)).astype(np.float32),
            TimeAxis.uniform(t, 25 / 16),
        )
        for t in (1, 30, 31, 30)
    ]
    scores[3] = replace(scores[3], video="other")
    method = small()
    together = method.localize([scores[i] for i in order])
    assert together.names == tuple(scores[i].video for i in order)
    assert np.all(np.diff(together.video) >= 0)
    for s in scores:
        alone, among = method.localize([s]), together.of(s.video)
        for column in ("start", "end", "label", "score"):
            assert np.array_equal(getattr(alone, column), getattr(among, column))


def test_scores_follow_the_recipe_of_the_video_score() -> None:
    method, bank = small(video_mix=0.5, class_divisor=4).eval(), data((24,)).bank
    with torch.no_grad():
        batch = whole_videos(bank, np.array([0]), torch.zeros(1, 3))
        scores, out = method.score(batch)[0], method(batch.features)
    fused = (out.cas.softmax(-1) + out.streams[0].sum(0)[..., None]) / 3
    top = torch.stack([out.cas[0, fused[0, :, c].topk(6).indices, c].mean() for c in range(3)])
    expected = (0.5 * top + 0.5 * out.semantic[0, 0]).softmax(0)
    np.testing.assert_allclose(scores.video_scores, expected, rtol=1e-5)
    np.testing.assert_allclose(scores.cas, fused[0], rtol=1e-5)


# -- configuration and official weights ---------------------------------------------------------------------


def test_recipes() -> None:
    assert set(recipes("sal")) >= {"thumos14", "activitynet12", "activitynet13"}
    assert resolve_config("sal", "thumos14") == SALConfig()
    twelve, thirteen = resolve_config("sal", "activitynet12"), resolve_config("sal", "activitynet13")
    assert twelve == thirteen != SALConfig()


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 4},
        {"thresholds": ()},
        {"thresholds": (0.0, 0.5)},
        {"fusion": (0, 0, 0)},
        {"fusion": (1, -1, 1)},
    ],
)
def test_impossible_settings(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SALConfig(**wrong)


def test_stages_count_epochs_or_steps() -> None:
    (stage,) = small(batch_size=2, epochs=5).stages(data())
    assert (stage.steps, stage.epoch) == (10, 2)
    (stage,) = small(batch_size=2, drop_last=True, steps=7).stages(data())
    assert (stage.steps, stage.epoch) == (7, 1)


def test_two_streams_are_needed() -> None:
    with pytest.raises(InputError, match="two equal halves"):
        SAL(SALConfig(hidden=2), dim=7, classes=CLASSES)


@pytest.mark.parametrize("kernel", [3, 7])
def test_official_weights(kernel: int) -> None:
    method = small(kernel=kernel).eval()
    official = {
        "module." + (n.replace("encoder", "base_module") if kernel == 7 else n): p.detach().numpy()
        for n, p in method.named_parameters()
    }
    again = SAL.from_published(official, classes=CLASSES, class_threshold=0.1).eval()
    assert (again.config.hidden, again.config.kernel, again.dim) == (6, kernel, 8)
    assert again.config.class_threshold == 0.1
    assert again.classes == CLASSES
    assert len(SAL.from_published(official).classes) == 3
    assert torch.equal(again(features()).cas, method(features()).cas)


@pytest.mark.parametrize("wrong", ["missing", "unknown", "shape", "classes", "not a network"])
def test_wrong_weights_are_refused(wrong: str) -> None:
    weights: dict[str, Any] = {n: p.detach().clone() for n, p in small().named_parameters()}
    classes: tuple[str, ...] = CLASSES
    if wrong == "missing":
        del weights["fc1.bias"]
    elif wrong == "unknown":
        weights["fc2.bias"] = torch.zeros(3)
    elif wrong == "shape":
        weights["fc.weight"] = torch.zeros(3, 35)
    elif wrong == "classes":
        classes = ("one",)
    else:
        weights = {"conv.weight": torch.zeros(3)}
    with pytest.raises(InputError):
        SAL.from_published(weights, classes=classes)
