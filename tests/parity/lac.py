"""LAC against the numbers of the published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.compare import close, ragged
from weaktal.core import Points, SnippetScores, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import uniform_rows
from weaktal.localize.curves import upsample
from weaktal.localize.sequence_search import alternating_segments, search_pairs
from weaktal.methods.lac import LAC, LACBatch, LACConfig
from weaktal.methods.protocol import Batch, TrainingData
from weaktal.nn.clicks import seeds
from weaktal.nn.pooling import packed_video_scores, row_table, video_of_rows

Golden = dict[str, np.ndarray]
RATE = 25 / 16


def _weights(data: Golden, prefix: str = "w/") -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def _cases(data: Golden) -> list[str]:
    return sorted({k.split("/")[0] for k in data if k[0] == "c" and k.split("/")[0][1:].isdigit()})


def _batch(x: NDArray[np.float32], label: NDArray[np.float32]) -> Batch:
    b, t, _ = x.shape
    return Batch(
        torch.from_numpy(x),
        torch.full((b,), t),
        torch.from_numpy(label).float(),
        tuple(map(str, range(b))),
        (TimeAxis.uniform(t, RATE),) * b,
    )


def check_forward(data: Golden, path: Path) -> None:
    method = LAC.from_published(_weights(data), topk=int(data["r_act"])).eval()
    for case in _cases(data):
        batch = _batch(data[f"{case}/x"], data[f"{case}/label"])
        rows, lengths = batch.features.flatten(0, 1), batch.lengths
        out = method(rows, lengths.tolist())
        close(out.fused, data[f"{case}/cas_fuse"].reshape(out.fused.shape))
        close(out.features, data[f"{case}/feat"].reshape(out.features.shape))
        video = video_of_rows(lengths.tolist(), rows)
        for labels, name in (
            (torch.ones_like(batch.labels), "vid_score"),
            (batch.labels, "vid_score_with_label"),
        ):
            scores = packed_video_scores(
                out.scores[:, :-1], video, lengths, row_table(lengths), labels.nonzero(), method.config.topk
            )
            close(scores, data[f"{case}/{name}"])


def _small(classes: int, **config: Any) -> LAC:
    return LAC(LACConfig(hidden=4, **config), dim=3, classes=[str(c) for c in range(classes)])


def check_search(data: Golden, path: Path) -> None:
    for case in _cases(data):
        fused = torch.from_numpy(data[f"{case}/cas_fuse"])
        points = torch.from_numpy(data[f"{case}/point"])
        length, classes = points.shape
        video, lengths = torch.zeros(length, dtype=torch.int64), torch.tensor([length])
        action, background = seeds(fused[:, -1], points, video, lengths, 0.1, 0.95)
        np.testing.assert_array_equal(action, data[f"{case}/act_seed"])
        np.testing.assert_array_equal(background, data[f"{case}/bkg_seed"] > 0)
        for budget in sorted(int(k.split("_")[-1]) for k in data if k.startswith(f"{case}/pseudo_")):
            pairs, scores, marks = _small(classes).search_input(
                fused, points, np.array([length]), torch.ones(1, classes)
            )
            segments, best = search_pairs(scores, marks, budget=budget)
            pseudo = np.zeros((length, classes), np.float32)
            for pair, start, end in zip(segments.pair, segments.start, segments.end, strict=True):
                pseudo[start:end, pairs[pair, 1]] = segments.action[
                    (segments.pair == pair) & (segments.start == start)
                ]
            np.testing.assert_array_equal(pseudo, data[f"{case}/pseudo_{budget}"], err_msg=case)
            close(best.mean(), data[f"{case}/score_{budget}"])


class _Recorded:
    """In place of a random generator: the snippets that the published code drew."""

    def __init__(self, samples: NDArray[np.int64]) -> None:
        self.samples = samples.reshape(-1, 5).astype(np.int64)

    def integers(self, low: NDArray[np.int64], high: NDArray[np.int64]) -> NDArray[np.int64]:
        np.testing.assert_array_equal(self.samples[:, 0], low[:, 0])
        drawn = self.samples[:, 2:]
        assert drawn.shape == low.shape
        assert ((low <= drawn) & (drawn < high)).all()
        return drawn


def _with_pseudo(
    method: LAC,
    x: NDArray[np.float32],
    label: NDArray[np.float32],
    point: NDArray[np.float32],
    pseudo: NDArray[Any] | None,
    samples: NDArray[np.int64],
) -> LACBatch:
    """A batch of one video (T, D) with label (1, C), clicks (T, C) and dense pseudo-labels (T, C)."""
    bank = FeatureBank.of(["v"], [x], RATE)
    at, cls = np.nonzero(point)
    clicks = Points(bank.axes[0].seconds_at(at.astype(float)), cls)
    video = WeakVideo("v", tuple(np.flatnonzero(label[0]).tolist()), clicks)
    data = TrainingData(bank, WeakLabels(tuple(map(str, range(label.shape[1]))), (video,)))
    classes = np.flatnonzero(label[0])
    pairs = np.stack([np.zeros(len(classes), np.int64), classes], 1)
    segments = None
    if pseudo is not None:
        dense = pseudo.T[classes].astype(np.int8)
        segments = alternating_segments(dense, np.full(len(pairs), dense.shape[1]))
    batch = method.batch_of(data, np.array([0]), segments, pairs, _Recorded(samples))  # type: ignore[arg-type]
    np.testing.assert_array_equal(batch.points, point)
    return batch


_LOSSES = {
    "loss_vid": "video",
    "loss_frame": "frame",
    "loss_frame_bkg": "background",
    "loss_score_act": "score_action",
    "loss_score_bkg": "score_background",
    "loss_score": "score",
    "loss_feat": "feature",
}


def _weighted(losses: dict[str, Tensor], weights: NDArray[np.float64]) -> Tensor:
    names = ("video", "frame", "background", "score", "feature")
    return sum(float(w) * losses[n].mean() for w, n in zip(weights, names, strict=True))  # type: ignore[return-value]


def check_losses(data: Golden, path: Path) -> None:
    for case in _cases(data):
        label, point = data[f"{case}/label"], data[f"{case}/point"]
        method = _small(label.shape[1])
        x = np.zeros((len(point), 3), np.float32)
        for when in ("first", "later"):
            key = f"{case}/{when}"
            pseudo = data[f"{case}/pseudo"] if when == "later" else None
            with_segments = _with_pseudo(method, x, label, point, pseudo, data[f"{key}/feat_samples"])
            fused = torch.from_numpy(data[f"{case}/cas_fuse"][0]).requires_grad_()
            features = torch.from_numpy(data[f"{case}/feat"][0]).requires_grad_()
            scores = torch.from_numpy(data[f"{case}/vid_score"])
            losses = method.losses_of(scores, fused, features, with_segments)
            for name, ours in _LOSSES.items():
                close(losses[ours][0], data[f"{key}/{name}"])
            total = _weighted(losses, data["lambdas"])
            close(total, data[f"{key}/loss_total"])
            total.backward()
            close(fused.grad, data[f"{key}/g_cas"][0], 1e-4)
            if f"{key}/g_feat" in data:
                close(features.grad, data[f"{key}/g_feat"][0], 1e-4)
            else:
                assert features.grad is None or not features.grad.any()
    method = LAC.from_published(_weights(data), dropout=0.0)
    point = data["net/point"]
    with_segments = _with_pseudo(
        method,
        data["net/x"][0],
        point.max(0, keepdims=True),
        point,
        data["net/pseudo"],
        data["net/feat_samples"],
    )
    losses = method.training_step(with_segments)
    for name, ours in _LOSSES.items():
        if f"net/{name}" in data:
            close(losses[ours], data[f"net/{name}"])
    close(losses["total"], data["net/total"])
    losses["total"].backward()
    for name, parameter in method.named_parameters():
        close(parameter.grad, data[f"net/g/{name}"], 1e-4)


def check_train_run(data: Golden, path: Path) -> None:
    lr, weight_decay, batch_size, every = data["cfg_lr_wd_batch_freq"]
    batch_size, every = int(batch_size), int(every)
    names = [str(n) for n in data["video_names"]]
    fps, rows = data["fps"], data["pt_video"]
    labels = np.stack([data[f"v{i}/label"] for i in range(len(names))])
    videos = tuple(
        WeakVideo(
            name,
            tuple(np.nonzero(labels[i])[0].tolist()),
            Points(data["pt_frame"][rows == i] / fps[i], data["pt_class"][rows == i]),
        )
        for i, name in enumerate(names)
    )
    classes = [str(c) for c in range(labels.shape[1])]
    bank = FeatureBank.of(names, [data[f"v{i}/x"] for i in range(len(names))], RATE)
    training = TrainingData(bank, WeakLabels(tuple(classes), videos))
    method = LAC.from_published(
        _weights(data), dropout=0.0, lr=lr, weight_decay=weight_decay, search_every=every
    ).train()
    for i in range(len(names)):
        clicked = training.clicks(np.array([i])).nonzero().tolist()
        assert sorted(map(tuple, clicked)) == sorted({tuple(p) for p in data[f"v{i}/points"].tolist()})

    optimizer = method.optimizer(0)
    ends = data["feat_samples_end_of_step"]
    checksums = data["param_checksum_after_step"]
    parameters = dict(method.named_parameters())
    loss_names = [str(n) for n in data["loss_names"]]
    for step in range(len(ends)):
        low = (step * batch_size) % len(names)
        video = np.arange(low, low + batch_size)
        samples = data["feat_samples"][ends[step - 1] if step else 0 : ends[step]]
        segments, pairs = method.segments, method.pairs
        if segments is not None:
            chosen = np.nonzero((pairs[:, 0] >= low) & (pairs[:, 0] < low + batch_size))[0]
            segments, pairs = segments.of(chosen), pairs[chosen] - np.array([low, 0])
        with_segments = method.batch_of(training, video, segments, pairs, _Recorded(samples))  # type: ignore[arg-type]
        per_video = method.losses(method(with_segments.rows, with_segments.sizes), with_segments)
        for name, ours in _LOSSES.items():
            visits = data["loss_per_video"][step * batch_size : (step + 1) * batch_size]
            close(per_video[ours], visits[:, loss_names.index(name)], 1e-4)
        loss = method.training_step(with_segments)["total"]
        close(loss, data["loss_total_step"][step], 2e-5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        for name, expected in zip(data["param_names"], checksums[step], strict=True):
            p = parameters[str(name)].detach().double().numpy().ravel()
            ours_sums = [p.sum(), np.abs(p).sum(), np.sqrt((p**2).sum())]
            np.testing.assert_allclose(ours_sums, expected, rtol=1e-4, atol=1e-4, err_msg=f"{step} {name}")
        if (step + 1) % every == 0:
            best = method.search(training)
            assert method.segments is not None
            for i in range(len(names)):
                expected = data[f"search{step + 1}/v{i}"]
                pseudo = np.zeros(expected.shape)
                for row in np.nonzero(method.pairs[method.segments.pair, 0] == i)[0]:
                    if method.segments.action[row]:
                        cls = method.pairs[method.segments.pair[row], 1]
                        pseudo[method.segments.start[row] : method.segments.end[row], cls] = 1
                np.testing.assert_array_equal(pseudo, expected, err_msg=f"search {step + 1}, video {i}")
            close(best, data[f"search{step + 1}/score"].astype(np.float32), 1e-4)
    for name, value in parameters.items():
        close(value, data[f"w_final/{name}"], 1e-4)


def check_inference(data: Golden, path: Path) -> None:
    videos = sum(k.endswith("/cas_fuse") for k in data)
    classes = data["v0/vid_score"].shape[1]
    method = _small(classes, class_threshold=float(data["class_threshold"]), upsampling=int(data["scale"]))
    for ours, name in (
        (method.config.action_thresholds, "act_thresh_cas"),
        (method.config.foreground_thresholds, "act_thresh_agnostic"),
    ):
        close(np.arange(*ours), data[name])
    scores = []
    for i in range(videos):
        fused, video = data[f"v{i}/cas_fuse"][0], data[f"v{i}/vid_score"][0]
        axis = TimeAxis.uniform(len(fused), RATE)
        scores.append(SnippetScores(str(i), fused[:, :-1], 1 - fused[:, -1], video, axis))

    def rows(name: str, score: SnippetScores) -> NDArray[np.float64]:
        found = method.candidates([score]) if name == "before_nms" else method.localize([score])
        return np.stack([found.label, found.score, found.start, found.end], 1)

    before = ragged(data, "before_nms")
    for i, score in enumerate(scores):
        expected = [p for p, v in zip(before, data["before_nms_video"], strict=True) if v == i]
        ours = rows("before_nms", score)
        theirs = np.concatenate([np.empty((0, 4)), *expected])
        assert ours.shape == theirs.shape, (i, ours.shape, theirs.shape)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6, err_msg=f"before NMS, video {i}")
    for i, expected in enumerate(ragged(data, "final")):
        ours = rows("final", scores[i])
        assert ours.shape == expected.shape, (i, ours.shape, expected.shape)
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-6, err_msg=f"video {i}")
    predicted = np.stack([s.video_scores >= method.config.class_threshold for s in scores])
    close((predicted == data["labels"]).all(1).mean(), data["test_acc"])
    for (length, size), expected in zip(data["uniform_args"], ragged(data, "uniform_idx"), strict=True):
        rows = uniform_rows(np.array([length]), int(size))[0] if length > size else np.arange(length)
        np.testing.assert_array_equal(rows, expected)
    for name in ("up", "up2"):
        x = np.moveaxis(data[f"{name}_in"], 0, -1)
        close(upsample(x, method.config.upsampling), np.moveaxis(data[f"{name}_out"], 0, -1))


CHECKS: dict[str, Callable[[Golden, Path], None]] = {
    "forward": check_forward,
    "search": check_search,
    "losses": check_losses,
    "train_run": check_train_run,
    "inference": check_inference,
}
