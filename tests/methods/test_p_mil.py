"""P-MIL: losses against plain loops, pseudo instances, quirks, odd videos, bad input, any base."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from tests.methods.test_point_supervision import demo_like, small  # noqa: F401 (fixtures)
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.formats import load_detections
from weaktal.methods.p_mil import PMIL, PMILBatch, PMILConfig, overlapping, pseudo_instances, ramp
from weaktal.methods.proposals import ProposalOutput
from weaktal.methods.protocol import TrainingData
from weaktal.testing import toy_data, toy_proposals
from weaktal.train import Run, recipes, resolve_config
from weaktal.train.inference import detect_videos

DIM, CLASSES = 16, 3


def data(videos: int = 4) -> TrainingData:
    toy = toy_data(videos, DIM, CLASSES)
    return replace(toy, proposals=toy_proposals(toy.bank, toy.weak))


def method(**config: object) -> PMIL:
    torch.manual_seed(0)
    changes = {"dropout": 0.0, "batch_size": 4, **config}
    names = tuple(f"class_{c}" for c in range(CLASSES))
    return PMIL(PMILConfig.model_validate(changes), dim=DIM, classes=names)


def plain_tiou(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    common = min(a[1], b[1]) - max(a[0], b[0])
    return float(max(0.0, common / ((a[1] - a[0]) + (b[1] - b[0]) - common + 1e-6)))


def plain_stream(
    stream: ProposalOutput,
    other: ProposalOutput,
    segment: NDArray[np.float64],
    labels: Tensor,
    config: PMILConfig,
) -> dict[str, float]:
    """The losses of one video and stream, formula by formula, in float64."""
    z, a, k = stream.classes.double(), stream.attention.double().sigmoid(), stream.quality.double().sigmoid()
    teacher, trust = other.classes.double(), other.attention.double().sigmoid()
    m, y = len(z), labels.double()
    count = max(1, m // config.topk)
    found: dict[str, float] = {}
    for name, logits, background in (("video", z, 1.0), ("attended", z * a[:, None], 0.0)):
        target = torch.cat([y, torch.tensor([background]).double()])
        best = logits.topk(count, dim=0).values.mean(0)
        found[name] = float(-(target / (target.sum() + 1e-4) * best.log_softmax(0)).sum())
    tiou = torch.tensor([[plain_tiou(p, q) for q in segment] for p in segment]).double()
    masked = torch.where(tiou > 0, 0.0, -1000.0).double()
    total = 0.0
    for c in torch.nonzero(y)[:, 0].tolist():
        q, p = ((x[:, c] + masked).log_softmax(1) for x in (teacher, z))
        kl = (q.exp() * (q - p)).sum(1)
        rows = trust > trust.mean()
        total += float(kl[rows].mean()) if rows.any() else 0.0
    found["consistency"] = total / max(float(y.sum()), 1)
    left = {i for i in range(m) if trust[i] > config.pseudo_threshold * trust.max() and bool(y.any())}
    picked = []
    while left:
        best_one = max(sorted(left), key=lambda i: float(trust[i]))
        picked.append(best_one)
        left = {i for i in left if i != best_one and tiou[i, best_one] == 0}
    target = tiou[:, picked].amax(1) if picked else 0.0  # where nothing occurs, nothing is complete
    found["completeness"] = float(((k - target) ** 2).mean())
    return found


def test_losses_are_those_of_the_formulas_video_by_video() -> None:
    training, pmil = data(), method(pseudo_threshold=0.95)
    weak = training.weak
    two = (replace(weak.videos[0], labels=(0, 2)), replace(weak.videos[1], labels=()), *weak.videos[2:])
    training = replace(training, weak=replace(weak, videos=two))
    with torch.no_grad():
        for parameter in pmil.parameters():  # so that heads say something
            parameter.mul_(3)
    batch = pmil.draw(0, 0, training)
    with torch.no_grad():
        streams = pmil(batch.parts)
        losses = pmil.losses(streams, batch)
    for b in range(len(batch)):
        rows = batch.video == b
        own = [ProposalOutput(*(x[rows] for x in s)) for s in streams]
        segment = batch.segment[rows].double().numpy()
        both = [plain_stream(*pair, segment, batch.labels[b], pmil.config) for pair in (own, own[::-1])]
        for name, value in losses.items():
            assert value[b].item() == pytest.approx((both[0][name] + both[1][name]) / 2, rel=2e-4, abs=2e-5)
    assert losses["consistency"].max() > 1e-3


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_pseudo_instances_are_picked_one_after_the_other(draw: st.DataObject) -> None:
    counts = draw.draw(st.lists(st.integers(0, 8), min_size=1, max_size=3))
    rng = np.random.default_rng(draw.draw(st.integers(0, 10**6)))
    video = np.repeat(np.arange(len(counts)), counts)
    start = rng.integers(0, 12, len(video)).astype(np.float32)
    segment = np.stack([start, start + rng.integers(0, 5, len(video))], 1).astype(np.float32)
    attention = rng.choice(np.array([0.2, 0.5, 0.8, 0.9], np.float32), len(video))  # with ties
    found = pseudo_instances(segment, attention, video, 0.5)
    expected: list[int] = []
    for v in range(len(counts)):
        rows = np.flatnonzero(video == v)
        left = [i for i in rows if attention[i] > np.float32(0.5) * attention[rows].max()]
        while left:
            best = max(left, key=lambda i: (attention[i], -i))
            expected.append(int(best))
            left = [i for i in left if i != best and plain_tiou(segment[i], segment[best]) == 0]
    assert found.tolist() == expected


def test_one_that_overlaps_nothing_is_paired_with_all() -> None:
    segment = np.array([[0, 4], [2, 6], [6, 9], [3, 3]], np.float32)
    (one, other), tiou = overlapping(segment)
    pairs = set(zip(one.tolist(), other.tolist(), strict=True))
    assert pairs == {(0, 0), (0, 1), (1, 0), (1, 1), (2, 2), (3, 0), (3, 1), (3, 2), (3, 3)}
    assert (tiou[one == 3] == 0).all()


def test_the_weight_of_two_losses_rises_with_the_epochs() -> None:
    assert ramp(1, 30) == pytest.approx(0.0093, abs=1e-4)
    assert ramp(30, 30) == ramp(99, 30) == ramp(1, 0) == 1
    training, pmil = data(8), method(ramp_up=3)
    epoch = pmil.stages(training)[0].epoch
    shares = [pmil.draw(0, step, training).ramp.item() for step in (0, epoch, 2 * epoch)]
    assert shares == pytest.approx([ramp(e, 3) for e in (1, 2, 3)])


def test_no_more_than_the_allowed_segments_and_only_their_pairs() -> None:
    training = data()
    batch = method(max_proposals=2).draw(0, 0, training)
    assert batch.counts.tolist() == torch.bincount(batch.video).tolist() == [2, 2, 2, 2]
    assert batch.pair.max() < 8
    assert (batch.video[batch.pair[0]] == batch.video[batch.pair[1]]).all()


def test_a_video_without_proposals_takes_no_part() -> None:
    training = data()
    assert training.proposals is not None
    few = training.proposals[training.proposals.video != 2]
    training, pmil = replace(training, proposals=few), method()
    batch = pmil.draw(0, 0, training)
    losses = pmil.losses(pmil(batch.parts), batch)
    at = batch.names.index(training.bank.names[2])
    assert all(value[at] == 0 for value in losses.values())
    total = pmil.training_step(batch)["total"]
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in pmil.parameters())
    found = detect_videos(pmil.eval(), training.bank, proposals=few)
    assert len(found.of(training.bank.names[2])) == 0
    assert len(found.of(training.bank.names[1])) > 0


def test_a_batch_without_any_segment_is_no_error() -> None:
    training, pmil = data(), method()
    batch: PMILBatch = pmil.draw(0, 0, training)
    none = pmil.batch_of(
        training.without_features(np.array([0])),
        batch.parts[:0],
        np.zeros((0, 2), np.float32),
        [0],
        [(np.zeros((2, 0), np.int64), np.zeros(0, np.float32))],
        1.0,
    )
    assert pmil.training_step(none)["total"] == 0


def test_a_score_is_the_product_and_a_share_of_the_video_score() -> None:
    pmil, n = method(class_threshold=0.0), 4
    start = np.arange(n) * 10.0
    stream = ProposalOutput(torch.randn(n, CLASSES + 1), torch.randn(n), torch.randn(n))
    found_start, _, label, score = pmil.localize(start, start + 5, [stream, stream])
    assert len(score) == n * CLASSES
    weight = stream.attention.sigmoid() * stream.quality.sigmoid()
    own = stream.classes.softmax(1)[:, :-1]
    video = (own * stream.attention.sigmoid()[:, None]).sum(0) / (stream.attention.sigmoid().sum() + 1e-6)
    for s, c, value in zip(found_start, label, score, strict=True):
        i = int(s / 10)
        assert value == pytest.approx((own[i, c] * weight[i] + 0.2 * video[c]).item(), abs=1e-6)


def test_an_odd_width_and_missing_proposals_are_refused() -> None:
    with pytest.raises(InputError, match="two equal halves"):
        PMIL(PMILConfig(), dim=5, classes=["a"])
    training = toy_data(2, DIM, CLASSES)
    with pytest.raises(InputError, match="base locator"):
        method().draw(0, 0, training)
    with pytest.raises(InputError, match="base locator"):
        method().eval().detect(training.whole(np.array([0])))


def test_official_weights_load_by_name_and_wrong_ones_are_told_apart() -> None:
    source = method()
    state = {f"module.{k}": v for k, v in source.state_dict().items()}
    loaded = PMIL.from_published(state)
    assert (loaded.dim, loaded.classes) == (DIM, ("class 0", "class 1", "class 2"))
    parts = torch.rand(4, 3, DIM)
    for a, b in zip(loaded.eval()(parts), source.eval()(parts), strict=True):
        torch.testing.assert_close(a.classes, b.classes)
    name = "prop_f_backbone.prop_attention.2.bias"
    state = dict(source.state_dict())
    with pytest.raises(InputError, match=r"prop_f_backbone"):
        PMIL.from_published({k: v for k, v in state.items() if k != name})


def test_recipes_are_complete_and_the_published_one_is_the_default() -> None:
    assert set(recipes("p_mil")) >= {"thumos14", "activitynet13", "own"}
    for name in recipes("p_mil"):
        assert resolve_config("p_mil", name)
    assert resolve_config("p_mil", "thumos14") == resolve_config("p_mil")


@pytest.mark.parametrize("base", ["lac", "sal"])
def test_one_command_trains_it_on_any_base(small: Path, tmp_path: Path, base: str) -> None:  # noqa: F811
    out = tmp_path / "run"
    line = ["train", "p_mil", "--data", str(small), "--device", "cpu", "--quiet", "--set", "epochs=2"]
    few = {"lac": ["steps=3", "batch_size=2"], "sal": ["epochs=1", "segments=20", "batch_size=2"]}[base]
    command = [*line, "--out", str(out), "--set", "batch_size=2", "--set", f"base={base}"]
    for setting in ("hidden=4", *few):
        command += ["--set", f"base.{setting}"]
    assert main(command) == 0
    assert Run.open(out / "base").config.method == base
    assert main(["localize", str(out), "--data", str(small), "--device", "cpu"]) == 0
    assert {f"v{i}" for i in (5, 6, 7)} >= set(load_detections(out / "detections.json").of("v5").names[:1])
    again = [*line, "--out", str(tmp_path / "x"), "--proposals", str(out / "base/proposals.json")]
    assert main([*again, "--set", f"base={base}"]) == 2  # none is trained
    assert main(again) == 0
