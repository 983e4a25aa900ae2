"""The student: pseudo labels against plain loops, targets and losses, no instance is ever seen, bad input."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.methods.test_point_supervision import RATE, demo_like, small  # noqa: F401 (fixtures)
from weaktal.cli import main
from weaktal.core import Detections, InputError, Points, WeakLabels, WeakVideo
from weaktal.evaluate.matching import temporal_iou
from weaktal.features.bank import FeatureBank
from weaktal.formats import load_detections
from weaktal.methods.protocol import TrainingData
from weaktal.methods.student import (
    Student,
    StudentConfig,
    agreed,
    diou_loss,
    focal_loss,
    picked_by_clicks,
    pseudo_labels,
    targets,
    tiou,
    upsampled,
)
from weaktal.methods.student_points import StudentOfPoints
from weaktal.testing import toy_data, toy_proposals
from weaktal.train import Run, fit, recipes, resolve_config
from weaktal.train.inference import detect_videos
from weaktal.train.predict import Predictor

DIM, CLASSES = 8, 3
SMALL = {"hidden": 8, "levels": 3, "rows": 24, "steps": 4, "batch_size": 4}
NAMES = tuple(f"class_{c}" for c in range(CLASSES))


def data(videos: int = 6, points: bool = False) -> TrainingData:
    toy = toy_data(videos, DIM, CLASSES, points=points)
    return replace(toy, proposals=toy_proposals(toy.bank, toy.weak))


def student(kind: type[Student] = Student, **config: object) -> Student:
    torch.manual_seed(0)
    return kind(StudentConfig.model_validate({**SMALL, **config}), dim=DIM, classes=NAMES)


def one_video(
    rows: list[tuple[float, float, int, float]], length: int = 100
) -> tuple[Detections, FeatureBank]:
    """Detections (start, end, class, score) in a video of a snippet a second."""
    bank = FeatureBank.of(["v"], [np.zeros((length, DIM), np.float32)], 1.0)
    start, end, label, score = (np.array(c) for c in zip(*rows, strict=True))
    return Detections.in_video("v", NAMES, start, end, label.astype(int), score), bank


def weak(labels: tuple[int, ...], clicks: list[tuple[float, int]] | None = None) -> WeakLabels:
    points = (
        None if clicks is None else Points(np.array([t for t, _ in clicks]), np.array([c for _, c in clicks]))
    )
    return WeakLabels(NAMES, (WeakVideo("v", labels, points),))


# ---------------------------------------------------------------------------------------- pseudo labels


def test_only_classes_of_the_video_and_no_more_than_the_quota() -> None:
    rows = [(10.0 * i, 10.0 * i + 6, i % 2, 1.0 - 0.05 * i) for i in range(8)]
    found, bank = one_video([*rows, (90.0, 95.0, 0, 0.0)])
    labels = pseudo_labels(found, bank, weak((0,)), StudentConfig(quota=2, doubtful_score=0.5))
    assert labels.label.tolist() == [0, 0, 0, 0]
    assert labels.start.tolist() == pytest.approx(
        [0, 20, 40, 60]
    )  # best first; the last of them, at 0, is background
    assert (labels.score > 0).tolist() == [True, True, False, False]  # above the quota: doubtful
    assert labels.score[0] == 1
    assert labels.score[1] == pytest.approx(0.9)


def test_what_scores_less_is_doubtful_and_what_overlaps_a_better_one_is_none() -> None:
    found, bank = one_video(
        [(0, 10, 1, 5.0), (5, 12, 1, 4.0), (20, 30, 1, 2.5), (40, 50, 1, 1.5), (60, 70, 1, 0.0)]
    )
    config = StudentConfig(least_score=0.45, doubtful_score=0.2, overlap=0.3)
    labels = pseudo_labels(found, bank, weak((1,)), config)
    assert labels.start.tolist() == pytest.approx([0, 20, 40])
    # the first is overlapped by one of 0.8 of its score with tIoU 5 / 12
    assert labels.score.tolist() == pytest.approx([0.75, 0.5, 0], abs=1e-5)


def test_a_click_takes_the_best_that_holds_it_alone() -> None:
    found, bank = one_video(
        [
            (5, 45, 0, 0.9),
            (8, 14, 0, 0.5),
            (30, 42, 0, 0.6),
            (31, 40, 1, 1.0),
            (60, 70, 0, 1.0),
            (0, 1, 0, 0.0),
        ]
    )
    labels = pseudo_labels(found, bank, weak((0,), [(10, 0), (35, 0), (90, 0)]), StudentConfig(vote=0.99))
    assert sorted(labels.start.tolist()) == pytest.approx([8, 30])
    assert sorted(labels.end.tolist()) == pytest.approx([14, 42])
    # a click is certain, whatever the score; what counts is how far the long one disagrees
    expected = [0.6 / (0.6 + 0.9 * 12 / 40), 0.5 / (0.5 + 0.9 * 6 / 40)]
    assert labels.score.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("clicks", [None, [(10, 0), (90, 0)]])
def test_what_the_teacher_missed_can_be_doubtful(clicks: list[tuple[float, int]] | None) -> None:
    """Of class 2 nothing was found; of the clicks of class 0 one has no segment."""
    found, bank = one_video([(5, 20, 0, 1.0), (0, 1, 0, 0.0)])
    known = weak((0,) if clicks else (0, 2), clicks)
    plain, careful = (
        pseudo_labels(found, bank, known, StudentConfig(unfound=way)) for way in ("background", "doubtful")
    )
    assert plain == careful[: len(plain)]
    extra = careful[len(plain) :]
    assert (extra.start.tolist(), extra.end.tolist(), extra.score.tolist()) == ([0], [100], [0])
    assert extra.label.tolist() == [0 if clicks else 2]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 10**6), st.integers(0, 12), st.integers(0, 5))
def test_at_most_one_segment_a_click_and_each_holds_one(seed: int, count: int, clicks: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 20, count).astype(float)
    end, time = start + rng.integers(1, 9, count), np.sort(rng.choice(np.arange(30), clicks, False) + 0.5)
    rows, weight = picked_by_clicks(start, end, time)
    expected = set()
    for t in time:
        holding = [i for i in range(count) if start[i] <= t <= end[i]]
        alone = [i for i in holding if ((start[i] <= time) & (time <= end[i])).sum() == 1]
        expected |= set((alone or holding)[:1])
    assert rows.tolist() == sorted(expected)
    assert len(rows) <= clicks
    assert (weight == 1).all()


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 8))
def test_boundaries_are_what_detections_agree_on(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 10, count)
    end, score = start + rng.uniform(1, 8, count), rng.uniform(0, 1, count)
    overlap = tiou(start, end)
    np.testing.assert_allclose(overlap, temporal_iou(start[:, None], end[:, None], start, end), atol=1e-12)
    rows = np.arange(count)
    found = agreed(rows, start, end, score, overlap, 0.5)
    for i in rows:
        near = [(j, (score[j] + 1e-6) * overlap[i, j]) for j in range(count)]
        votes = [(j, w) for j, w in near if overlap[i, j] >= 0.5]
        total = sum(w for _, w in votes)
        for column, of in zip(found, (start, end), strict=False):
            assert column[i] == pytest.approx(sum(w * of[j] for j, w in votes) / total)
        assert found[2][i] == pytest.approx(total / sum(w for _, w in near))


def test_where_detections_do_not_agree_nothing_is_learnt() -> None:
    rows = [
        (10, 40, 0, 1.0),
        (10, 22, 0, 0.9),
        (26, 40, 0, 0.9),
        (60, 70, 0, 0.8),
        (61, 70, 0, 0.7),
        (0, 1, 0, 0),
    ]
    found, bank = one_video(rows)
    labels = pseudo_labels(found, bank, weak((0,)), StudentConfig(least_agreement=0.6, overlap=0.1))
    assert labels.score[0] == 0
    assert labels.score[1] > 0.5
    assert 60 < labels.start[1] < 61


def test_scores_of_any_scale_and_segments_outside_of_the_video() -> None:
    found, bank = one_video([(-5, 10, 0, -3.0), (95, 130, 0, -5.0), (200, 210, 0, 9.0), (50, 60, 0, -90.0)])
    labels = pseudo_labels(found, bank, weak((0,)), StudentConfig())
    assert labels.start.tolist() == pytest.approx([0, 95])
    assert labels.end.tolist() == pytest.approx([10, 100])
    assert labels.score[0] == 1


# ------------------------------------------------------------------------------- targets, losses, network


def test_targets_are_those_of_plain_loops() -> None:
    training, model = data(), student(rows=40, radius=1.5, upsampling=2)
    model.begin_stage(0, training)
    batch = model.draw(0, 0, training)
    batch.weight[:, -1] = 0  # a doubtful one in every video
    place, stride = model.network.positions(batch.features)
    found = targets(batch, place, stride, CLASSES, 1.5)
    assert stride.unique().tolist() == [0.5, 1, 2]
    positives = 0
    for b in range(len(batch)):
        for p in range(len(place)):
            t, size = float(place[p]), float(stride[p])
            best: tuple[float, int] | None = None
            unsure = set()
            for k, (start, end) in enumerate(batch.segment[b].tolist()):
                if not start < t < end:
                    continue
                if batch.weight[b, k] == 0:
                    unsure.add(int(batch.label[b, k]))
                    continue
                far = max(t - start, end - t) / size
                fits = (far >= 2 or size == 0.5) and (far < 4 or size == 2)
                if fits and abs(t - (start + end) / 2) <= 1.5 * size:
                    best = min(best or (np.inf, 0), (end - start, k))
            weight = torch.ones(CLASSES)
            weight[list(unsure)] = 0
            expected = torch.zeros(CLASSES)
            if best is not None:
                k, c = best[1], int(batch.label[b, best[1]])
                expected[c], weight[c] = 1, batch.weight[b, k]
                start, end = batch.segment[b, k].tolist()
                assert found.distance[b, p].tolist() == pytest.approx(
                    [(t - start) / size, (end - t) / size], abs=1e-4
                )
                assert found.weight[b, p] == pytest.approx(float(batch.weight[b, k]))
                positives += 1
            else:
                assert found.weight[b, p] == 0
            assert torch.equal(found.classes[b, p], expected)
            torch.testing.assert_close(found.class_weight[b, p], weight)
    assert positives > 10


@given(st.lists(st.floats(0.01, 50), min_size=4, max_size=4))
def test_diou_is_that_of_the_formula(x: list[float]) -> None:
    (a, b), (c, d) = (-x[0], x[1]), (-x[2], x[3])
    union = max(b, d) - min(a, c)  # both hold 0
    expected = 1 - (min(b, d) - max(a, c)) / union + (((a + b) - (c + d)) / 2 / union) ** 2
    found = diou_loss(torch.tensor(x[:2]), torch.tensor(x[2:]))
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_focal_loss_is_that_of_the_formula() -> None:
    logits, target = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([1.0, 0.0, 1.0])
    for value, z, y in zip(focal_loss(logits, target, 2.0), logits.tolist(), target.tolist(), strict=True):
        p = 1 / (1 + np.exp(-z))
        expected = -0.25 * (1 - p) ** 2 * np.log(p) if y else -0.75 * p**2 * np.log(1 - p)
        assert value.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("upsampling", [1, 3])
def test_a_video_is_seen_the_same_whatever_shares_its_batch(upsampling: int) -> None:
    model = student(upsampling=upsampling, levels=4).eval()
    x = torch.randn(2, 21, DIM)
    lengths = torch.tensor([5, 21])
    x[0, 5:] = 1e3  # padding of any content
    alone, both = model.network(x[:1, :5], lengths[:1]), model.network(x, lengths)
    own, shared = alone.counts[0], both.counts[0]
    for name in ("classes", "distance"):
        torch.testing.assert_close(getattr(alone, name)[0, own], getattr(both, name)[0, shared])


def test_upsampled_rows_lie_between_the_middles_of_rows() -> None:
    x = torch.arange(4.0)[None, :, None]
    assert upsampled(x, torch.tensor([3]), 2)[0, :6, 0].tolist() == [0, 0.25, 0.75, 1.25, 1.75, 2]
    assert upsampled(x, torch.tensor([4]), 1) is x


# -------------------------------------------------------------------------------------------- training


def truth(training: TrainingData) -> dict[str, NDArray[np.float64]]:
    """Where the toy videos show their class, in seconds: the middle third."""
    lengths = training.bank.lengths
    return {
        name: np.array([n // 3, 2 * n // 3]) / RATE
        for name, n in zip(training.bank.names, lengths.tolist(), strict=True)
    }


@pytest.mark.parametrize(("kind", "upsampling"), [(Student, 1), (StudentOfPoints, 2)])
def test_it_becomes_better_than_a_noisy_teacher(kind: type[Student], upsampling: int, tmp_path: Path) -> None:
    """Errors of the teacher differ from video to video; the student sees the same in all of them."""
    training = toy_data(60, DIM, CLASSES, points=kind.supervision == "point")
    rng, parts, right = np.random.default_rng(1), [], truth(training)
    for name, video in zip(training.bank.names, training.weak.videos, strict=True):
        start, end = right[name] + rng.uniform(-2.5, 2.5, 2)
        parts.append(
            Detections.in_video(name, NAMES, [start], [end], [video.labels[0]], [0.5 + rng.random()])
        )
    teacher = Detections.concatenate(parts, NAMES)
    model = student(kind, hidden=32, steps=150, lr=2e-3, upsampling=upsampling, rows=64)
    fit(model, replace(training, proposals=teacher), tmp_path, device="cpu", progress=False)
    test = toy_data(12, DIM, CLASSES, seed=5)
    found, want = detect_videos(model.eval(), test.bank), truth(test)
    seen = [found.of(name)[:1] for name in test.bank.names]
    labels = [v.labels[0] for v in test.weak.videos]
    assert np.mean([s.label[0] == c for s, c in zip(seen, labels, strict=True)]) > 0.9
    mine = np.mean(
        [np.abs([s.start[0], s.end[0]] - want[n]) for n, s in zip(test.bank.names, seen, strict=True)]
    )
    its = np.mean([np.abs([p.start[0], p.end[0]] - right[p.names[0]]) for p in parts])
    assert mine < 0.85 * its, (mine, its)


def test_in_the_second_round_the_running_average_is_the_teacher(tmp_path: Path) -> None:
    training, model = data(8), student(rounds=2, steps=12, lr=5e-3)
    fit(model, training, tmp_path, device="cpu", progress=False)
    assert [s.name for s in model.stages(training)] == ["round1", "round2"]
    first = student()
    first.begin_stage(0, training)
    one, other = (x.artifacts()["pseudo_labels"] for x in (first, model))
    assert one != other
    allowed = {(v.name, c) for v in training.weak.videos for c in v.labels}
    for labels in (one, other):
        assert {(labels.names[v], c) for v, c in zip(labels.video, labels.label, strict=True)} <= allowed
    for mean, value in zip(model.average.parameters(), model.network.parameters(), strict=True):
        assert not mean.requires_grad
        assert mean.shape == value.shape


def test_a_video_without_detections_is_background_and_stretches_cut_segments() -> None:
    training = data()
    assert training.proposals is not None
    few = training.proposals[training.proposals.video != 2]
    model = student(rows=10)
    model.begin_stage(0, replace(training, proposals=few))
    for step in range(4):
        batch = model.draw(0, step, training)
        shown = batch.segment.clamp(min=0).minimum(batch.lengths[:, None, None]).diff()[..., 0]
        assert (2 * shown >= batch.segment.diff()[..., 0])[batch.weight > 0].all()
        if training.bank.names[2] in batch.names:
            assert (batch.weight[batch.names.index(training.bank.names[2])] == 0).all()
        losses = model.training_step(batch)
        assert all(x.isfinite() for x in losses.values())
    axis = training.bank.axes[0]
    known = model.labels
    assert known is not None
    middle = (known.start[0] + known.end[0]) / 2
    short = replace(
        axis, length=3, positions=np.array([0, 3.0]), seconds=np.array([middle + 0.1, middle + 2])
    )
    assert model.stretch(0, short)[2][0] == 0  # less than half of it shows


# ------------------------------------------------------------------------------------ never an instance


@pytest.mark.parametrize("method", ["student", "student_points"])
def test_instances_have_no_part_in_it(small: Path, tmp_path: Path, method: str) -> None:  # noqa: F811
    """The same bits with the true instances of the training videos, with wrong ones, and with none."""
    truth = json.loads((small.parent / "gt.json").read_text())
    about = yaml.safe_load(small.read_text())
    weights = []
    for kind in ("true", "poisoned", "none"):
        database = json.loads(json.dumps(truth))
        for video in database["database"].values():
            if video["subset"] != "train":
                continue
            tags = sorted({a["label"] for a in video["annotations"]})
            video["labels"] = tags
            if kind == "none":
                video["annotations"] = []
            if kind == "poisoned":
                video["annotations"] = [{"label": t, "segment": [0.1 * i, 44.0]} for i, t in enumerate(tags)]
        (small.parent / f"{kind}.json").write_text(json.dumps({"classes": ["jump", "run"], **database}))
        path = small.parent / f"{kind}.yaml"
        path.write_text(yaml.safe_dump({**about, "annotations": f"{kind}.json"}))
        line = [
            "train",
            method,
            "--data",
            str(path),
            "--out",
            str(tmp_path / kind),
            "--device",
            "cpu",
            "--quiet",
        ]
        base = {
            "student": ["epochs=2", "num_steps=0", "snippets=16"],
            "student_points": ["hidden=4", "steps=3"],
        }
        for setting in ("steps=4", "hidden=4", "rows=16", *(f"base.{s}" for s in base[method])):
            line += ["--set", setting]
        assert main(line) == 0
        weights.append((tmp_path / kind / "checkpoints/last/weights.safetensors").read_bytes())
    assert weights[0] == weights[1] == weights[2]


# --------------------------------------------------------------------------------------- from end to end


def test_one_command_and_then_it_is_alone(small: Path, tmp_path: Path) -> None:  # noqa: F811
    out = tmp_path / "run"
    line = ["train", "student_points", "--data", str(small), "--out", str(out), "--device", "cpu", "--quiet"]
    for setting in ("steps=4", "hidden=4", "rows=16", "base.hidden=4", "base.steps=3", "base.batch_size=2"):
        line += ["--set", setting]
    assert main([*line, "--evaluate"]) == 0
    assert Run.open(out / "base").config.method == "lac"
    assert (out / "metrics.json").exists()
    labels = load_detections(out / "artifacts/pseudo_labels.json")
    assert len(labels) > 0
    before = (out / "checkpoints/last/weights.safetensors").read_bytes()
    assert main([*line, "--resume"]) == 0
    assert (out / "checkpoints/last/weights.safetensors").read_bytes() == before

    # neither proposals nor the base are needed any more
    (out / "base/proposals.json").unlink()
    (out / "base").rename(tmp_path / "gone")
    assert main(["localize", str(out), "--data", str(small), "--device", "cpu"]) == 0
    found = load_detections(out / "detections.json")
    assert {found.names[i] for i in found.video} == {"v5", "v6", "v7"}
    run = Run.open(out)
    features = np.load(small.parent / "features/v5.npy")
    toy = FeatureBank.of(["v5"], [features], RATE)
    alone, scores = Predictor(run)("v5", features, toy.axes[0])
    assert scores is None
    np.testing.assert_allclose(alone.start, found.of("v5").start, atol=1e-3)


def test_any_run_and_fused_runs_are_teachers(small: Path, tmp_path: Path) -> None:  # noqa: F811
    data_ = ["--data", str(small), "--device", "cpu"]
    for seed in ("0", "1"):
        line = ["train", "lac", *data_, "--quiet", "--out", str(tmp_path / seed), "--seed", seed]
        assert main([*line, "--set", "hidden=4", "--set", "steps=3", "--set", "batch_size=2"]) == 0
    runs = [str(tmp_path / seed) for seed in ("0", "1")]
    assert main(["fuse", *runs, "--out", str(tmp_path / "fused"), "--data", str(small)]) == 0
    teacher = str(tmp_path / "teacher.json")
    assert main(["localize", str(tmp_path / "fused"), *data_, "--subset", "train", "--out", teacher]) == 0
    line = ["train", "student", *data_, "--quiet", "--out", str(tmp_path / "run"), "--proposals", teacher]
    for setting in ("steps=3", "hidden=4", "rows=16"):
        line += ["--set", setting]
    assert main(line) == 0
    # the teacher's file holds training videos alone, and is not asked for
    assert main(["localize", str(tmp_path / "run"), *data_]) == 0
    assert (
        main(["fuse", str(tmp_path / "run"), runs[0], "--out", str(tmp_path / "both"), "--data", str(small)])
        == 0
    )
    assert main(["localize", str(tmp_path / "both"), *data_]) == 0


def test_the_students_features_may_be_others_than_the_teachers(tmp_path: Path) -> None:
    """Pseudo labels are seconds: a student on twice the rate learns from the same ones."""
    training = data()
    arrays = [
        np.repeat(training.bank.data[a:b].numpy(), 2, axis=0)
        for a, b in zip(training.bank.offsets, training.bank.offsets[1:], strict=False)
    ]
    dense = replace(training, bank=FeatureBank.of(training.bank.names, arrays, 2 * RATE))
    labels = []
    for each in (training, dense):
        model = student()
        model.begin_stage(0, each)
        assert model.labels is not None
        labels.append(model.labels)
    np.testing.assert_allclose(labels[0].start, labels[1].start, atol=1e-9)
    fit(model, dense, tmp_path, device="cpu", progress=False)


def test_bad_input_is_told(small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: F811
    training = data()
    with pytest.raises(InputError, match="teacher's detections"):
        student().begin_stage(0, replace(training, proposals=None))
    assert training.proposals is not None
    for wrong in (training.proposals[:0], training.proposals.renamed(lambda n: "x" + n)):
        with pytest.raises(InputError, match="no detection of the teacher fits"):
            student().begin_stage(0, replace(training, proposals=wrong))
    other = replace(training.proposals, label=(training.proposals.label + 1) % CLASSES)
    with pytest.raises(InputError, match="no detection of the teacher fits"):
        student().begin_stage(0, replace(training, proposals=other))
    # classes that the data set does not have
    file = tmp_path / "teacher.json"
    file.write_text(json.dumps({"results": {"v0": [{"label": "swim", "score": 1, "segment": [1, 5]}]}}))
    line = [
        "train",
        "student",
        "--data",
        str(small),
        "--out",
        str(tmp_path / "x"),
        "--quiet",
        "--device",
        "cpu",
    ]
    assert main([*line, "--proposals", str(file)]) == 2
    assert "swim" in capsys.readouterr().err
    assert not (tmp_path / "x/config.yaml").exists()


def test_recipes_are_there_for_both() -> None:
    for method in ("student", "student_points"):
        assert set(recipes(method)) >= {"thumos14", "activitynet13", "own"}
        for name in recipes(method):
            assert resolve_config(method, name)
