"""TSPNet against the numbers of the published code."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.parity.compare import close, ragged
from weaktal.core import Annotations, Detections, Points, TimeAxis, Video, WeakLabels, WeakVideo
from weaktal.evaluate.detection import touches_ignored
from weaktal.features.bank import FeatureBank
from weaktal.formats import load_ignored
from weaktal.localize.boundary_adaptation import adapt_boundaries
from weaktal.localize.nms import nms, soft_nms
from weaktal.methods.proposals import Proposals
from weaktal.methods.protocol import TrainingData
from weaktal.methods.tspnet import TSPNet, TSPNetBatch, TSPNetConfig, vote
from weaktal.nn.roi_align import contrast, segment_bins

Golden = dict[str, np.ndarray]
RATE = 25 / 16
SNAP = 1e-6  # whole snippets lose their last bit on the way through seconds
DATA = Path(__file__).parents[3] / "shared/data/thumos14"  # real clicks, rates, ambiguous intervals


def _method(data: Golden, **config: Any) -> TSPNet:
    return TSPNet.from_published({k[2:]: v for k, v in data.items() if k.startswith("w/")}, **config)


def _proposals(segments: NDArray[Any]) -> Proposals:
    """Segments (M, 2) of one video, in snippets."""
    start, end = segments.astype(np.float32).T
    return Proposals(np.zeros(len(start), np.int64), start, end, np.array([0, len(start)]))


def _parts(x: NDArray[np.float32], segments: NDArray[Any], roi_size: int) -> torch.Tensor:
    lengths = torch.tensor([len(x)])
    rows = np.arange(len(segments))
    return _proposals(segments).parts(torch.from_numpy(x), torch.zeros_like(lengths), lengths, roi_size, rows)


def check_forward(data: Golden, path: Path) -> None:
    for case in sorted({k.split("/")[0] for k in data if not k.startswith("w/")}):
        x, segments = data[f"{case}/x"][0], data[f"{case}/proposals"][0]
        roi_size = int(data[f"{case}/roi_size"])
        start, end = torch.from_numpy(segments.astype(np.float32)).T
        zero = torch.zeros(len(segments), dtype=torch.int64)
        longest = (end - start).max().expand(len(segments))
        bins = segment_bins(torch.from_numpy(x), zero, zero + len(x), longest, start, end, roi_size)
        close(bins, data[f"{case}/roi_feat"][0])
        assert data[f"{case}/prop_mask"].all()
        method = _method(data, roi_size=roi_size).eval()
        parts = _parts(x, segments, roi_size)
        out = method(parts)
        close(out.classes, data[f"{case}/cas"][0].T)
        close(out.attention, data[f"{case}/attn"][0, 0])
        close(out.quality, data[f"{case}/center"][0, 0])
        close(method.prop_backbone.prop_fusion(contrast(parts)), data[f"{case}/fused"][0].T)


def check_losses(data: Golden, path: Path) -> None:
    method = _method(data, dropout=0.0).train()
    x, segments = data["x"][0], data["proposals"][0]
    parts = _parts(x, segments, method.config.roi_size)
    out = method(parts)
    close(out.classes, data["cas"][0].T)
    close(out.attention, data["attn"][0, 0])
    close(out.quality, data["center"][0, 0])
    batch = TSPNetBatch(
        parts.new_empty(1, 0, x.shape[1]),
        torch.zeros(1, dtype=torch.int64),
        torch.from_numpy(data["point_label"][0].max(0, keepdims=True)),
        ("video",),
        (TimeAxis.uniform(len(x), RATE),),
        parts=parts,
        video=torch.zeros(len(segments), dtype=torch.int64),
        point_label=torch.from_numpy(data["point_label"][0]),
        center_label=torch.from_numpy(data["center_label"][0]),
    )
    losses = method.training_step(batch)
    close(losses["point"], data["point_loss"])
    close(losses["center"], data["center_loss"])
    close(losses["total"], data["total"])
    losses["total"].backward()
    gradients = {k[2:]: v for k, v in data.items() if k.startswith("g/")}
    for name, expected in gradients.items():
        close(method.get_parameter(name).grad, expected, 1e-4)


def _segments_in_seconds(names: list[str], seconds: list[NDArray[Any]], classes: int) -> Detections:
    count = [len(s) for s in seconds]
    flat = np.concatenate(seconds)
    zero = np.zeros(len(flat), np.int64)
    video = np.repeat(np.arange(len(names)), count)
    return Detections(
        tuple(names), tuple(map(str, range(classes))), video, flat[:, 0], flat[:, 1], zero, zero
    )


def _training(
    data: Golden, features: list[NDArray[np.float32]], points: dict[str, Points], classes: int
) -> TrainingData:
    names = [str(n) for n in data["video_names"]]
    weak = tuple(WeakVideo(n, tuple({int(c) for c in points[n].label}), points[n]) for n in names)
    proposals = _segments_in_seconds(names, ragged(data, "base_segment_seconds"), classes)
    bank = FeatureBank.of(names, features, RATE)
    return TrainingData(bank, WeakLabels(tuple(map(str, range(classes))), weak), proposals=proposals)


def check_center_labels(data: Golden, path: Path) -> None:
    names, fps = [str(n) for n in data["video_names"]], data["fps"]
    classes = data["s0/point_label"].shape[1]
    points = {
        name: Points(data["pt_frame"][mine] / fps[v], data["pt_class"][mine])
        for v, name in enumerate(names)
        for mine in [data["pt_video"] == v]
    }
    # features play no part; long enough for every segment
    training = _training(data, [np.zeros((4000, 3), np.float32)] * len(names), points, classes)
    config = TSPNetConfig(
        update_threshold=float(data["update_threshold"]), background_center=float(data["soft_value"])
    )
    method = TSPNet(config, dim=3, classes=training.weak.classes)
    # our clicks are numbered video by video, theirs by the row in the file
    csv_row = np.concatenate([data["pt_row"][data["pt_video"] == v] for v in range(len(names))])
    states = sorted({int(k[1 : k.index("/")]) for k in data if k[0] == "s" and k[1].isdigit()})
    for state in states:
        if state:
            center = torch.from_numpy(data[f"u{state}/center_logit"]).sigmoid().numpy()
            found = method.prepared(training).proposals
            threshold = method.config.update_threshold
            rows, moves = vote(
                found, method.labels(training), center, method.salient_times(training), threshold
            )
            real = data[f"u{state}/delta_row"] >= 0
            order = np.argsort(csv_row[rows])
            expected = np.argsort(data[f"u{state}/delta_row"][real])
            np.testing.assert_array_equal(csv_row[rows][order], data[f"u{state}/delta_row"][real][expected])
            np.testing.assert_allclose(
                moves[order], data[f"u{state}/delta"][real][expected], rtol=1e-5, atol=1e-5
            )
            method.move_points(training, center)
        labels, found = method.labels(training), method.prepared(training).proposals
        np.testing.assert_array_equal(np.stack([found.start, found.end], 1), data[f"s{state}/proposals"])
        np.testing.assert_array_equal(labels.classes, data[f"s{state}/point_label"])
        ids = np.where(labels.point >= 0, csv_row[labels.point], -1)
        np.testing.assert_array_equal(ids, data[f"s{state}/point_id"])
        np.testing.assert_array_equal(labels.classes.any(1), data[f"s{state}/points_in_proposal"] > 0)
        np.testing.assert_allclose(labels.center, data[f"s{state}/center_label"], rtol=0, atol=1e-5)
        first = data[f"s{state}/point_times"][:, 0]
        has = labels.point >= 0
        times = method.salient_times(training)[labels.point[has]]
        np.testing.assert_allclose(times, first[has], rtol=0, atol=1e-4)


def _real_points(names: list[str], classes: int) -> dict[str, Points]:
    if not DATA.exists():
        pytest.skip(f"the run was made with the real clicks, which are not here: {DATA}")
    fps = json.loads((DATA / "fps.json").read_text())
    with (DATA / "points/point_labels.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["video_id"] in names]
    return {
        name: Points(
            np.array([int(r["point"]) / fps[name] for r in rows if r["video_id"] == name]),
            np.array([int(r["class_index"]) for r in rows if r["video_id"] == name], np.int64),
        )
        for name in names
    }


def check_train_run(data: Golden, path: Path) -> None:
    lr, weight_decay, batch_size, every = data["cfg_lr_wd_batch_update"]
    names = [str(n) for n in data["video_names"]]
    classes = data["w/prop_backbone.prop_classifier.2.weight"].shape[0] - 1
    points = _real_points(names, classes)
    features = [data[f"v{i}/x"] for i in range(len(names))]
    training = _training(data, features, points, classes)
    method = _method(
        data,
        dropout=0.0,
        lr=float(lr),
        weight_decay=float(weight_decay),
        batch_size=int(batch_size),
        update_every=int(every),
        update_threshold=float(data["update_threshold"]),
    ).train()
    order = np.arange(len(data["loss_point"])).reshape(-1, int(batch_size)) % len(names)
    optimizer = method.optimizer(0)
    parameters = dict(method.named_parameters())
    for step, video in enumerate(order):
        batch = _batch_of(method, training, video)
        losses = method.losses(batch)
        visits = slice(step * len(video), (step + 1) * len(video))
        close(losses["point"], data["loss_point"][visits], 1e-4)
        close(losses["center"], data["loss_center"][visits], 1e-4)
        total = method.training_step(batch)["total"]
        close(total, data["loss_total_step"][step], 1e-4)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        for name, expected in zip(data["param_names"], data["param_checksum_after_step"][step], strict=True):
            p = parameters[str(name)].detach().double().numpy().ravel()
            sums = [p.sum(), np.abs(p).sum(), np.sqrt((p**2).sum())]
            np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)
        if (step + 1) % int(every) == 0:
            method.update(training)
            expected = data[f"center_label_after_{step + 1}"]
            np.testing.assert_allclose(method.labels(training).center, expected, rtol=0, atol=1e-4)
    for name, value in parameters.items():
        close(value, data[f"w_final/{name}"], 1e-4)


def _batch_of(method: TSPNet, training: TrainingData, video: NDArray[np.int64]) -> TSPNetBatch:
    """The training batch of given videos: `draw` with a fixed order."""

    class Fixed(TrainingData):
        def shuffled(self, step: int, batch_size: int, *key: int, drop_last: bool = False) -> np.ndarray:
            return video

    fixed = Fixed(training.bank, training.weak, training.seed, training.proposals)
    method.prepared(training).data = fixed
    try:
        return method.draw(0, 0, fixed)
    finally:
        method.prepared(fixed).data = training


def check_post(data: Golden, path: Path) -> None:
    segments, scores = ragged(data, "aba_in"), ragged(data, "aba_score")
    for given, score, threshold, expected in zip(
        segments, scores, data["aba_threshold"], ragged(data, "aba_out"), strict=True
    ):
        start, end = adapt_boundaries(*given.T, score, float(threshold))
        np.testing.assert_allclose(np.stack([start, end], 1), expected, rtol=1e-6, atol=1e-6)
    for kind in ("gaussian", "linear", "hard"):
        outputs = ragged(data, f"soft_{kind}_out")
        for given, expected in zip(ragged(data, f"soft_{kind}_in"), outputs, strict=True):
            rows, score = soft_nms(given[:, 0], given[:, 1], given[:, 3], kind=kind)
            found = np.column_stack([given[rows, :3], score])
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    threshold = float(data["hard_nms_threshold"])
    for given, expected in zip(ragged(data, "hard_nms_in"), ragged(data, "hard_nms_out"), strict=True):
        kept = nms(given[:, 2], given[:, 3], given[:, 1], threshold)
        np.testing.assert_allclose(given[kept], expected, rtol=1e-6, atol=1e-6)
    names = [str(n) for n in data["filter_video"]]
    outputs = ragged(data, "filter_out")
    for name, given, expected in zip(names, ragged(data, "filter_in"), outputs, strict=True):
        np.testing.assert_allclose(_filtered(name, given), expected, rtol=1e-6, atol=1e-6)


def _filtered(name: str, rows: NDArray[Any]) -> NDArray[Any]:
    """Rows (start, end, class, score), in snippets, that touch no ambiguous interval."""
    if not DATA.exists():
        pytest.skip(f"the filter was made with the real list, which is not here: {DATA}")
    ignored = load_ignored(DATA / "wtalc/Ambiguous_test.txt").get(name, np.empty((0, 2)))
    annotations = Annotations.of([], [Video(name, ignored=ignored)])
    n = np.zeros(len(rows), np.int64)
    found = Detections((name,), ("any",), n, rows[:, 0] / RATE, rows[:, 1] / RATE, n, rows[:, 3])
    return rows[~touches_ignored(found, annotations, SNAP)]


def check_inference(data: Golden, path: Path) -> None:
    classes = data["v0/cas"].shape[1] - 1
    config = TSPNetConfig(adapt_threshold=float(data["refine_threshold"]))
    method = TSPNet(config, dim=3, classes=list(map(str, range(classes))))
    names = [str(n) for n in data["video_names"]]
    total = 0
    for i, (name, expected) in enumerate(zip(names, ragged(data, "final"), strict=True)):
        start, end = data[f"v{i}/proposals"].T
        logits = data[f"v{i}/cas"][0].T, data[f"v{i}/attn"][0, 0], data[f"v{i}/center"][0, 0]
        found = np.stack(method.localize(start, end, *logits), 1)
        found = _filtered(name, found)
        assert found.shape == expected.shape, (i, found.shape, expected.shape)
        np.testing.assert_allclose(found[:, :3], expected[:, :3], rtol=1e-5, atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found[:, 3], expected[:, 3], rtol=0, atol=1e-6, err_msg=name)
        total += len(found)
    assert total == int(data["n_predictions"])


CHECKS: dict[str, Callable[[Golden, Path], None]] = {
    "forward": check_forward,
    "losses": check_losses,
    "center_labels": check_center_labels,
    "train_run": check_train_run,
    "post": check_post,
    "inference": check_inference,
}
