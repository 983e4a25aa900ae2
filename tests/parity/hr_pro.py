"""HR-Pro against the numbers of the published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn.utils.rnn import pad_sequence

from tests.parity.compare import close, ragged
from tests.parity.lac import RATE
from weaktal.core import (
    Annotations,
    Detections,
    Points,
    SnippetScores,
    TimeAxis,
    Video,
    WeakLabels,
    WeakVideo,
)
from weaktal.evaluate.detection import touches_ignored
from weaktal.features.bank import FeatureBank
from weaktal.formats import load_ignored
from weaktal.localize.curves import upsample
from weaktal.localize.nms import soft_nms
from weaktal.localize.run_proposals import soft_nms_by_class
from weaktal.methods.clicked_videos import ClickedVideos
from weaktal.methods.hr_pro import (
    HRPro,
    HRProConfig,
    HRProSnippets,
    HRProSnippetsConfig,
    SegmentBatch,
    background_pieces,
    regions,
    reliable_rows,
    runs_of,
)
from weaktal.methods.proposals import Proposals
from weaktal.methods.protocol import TrainingData
from weaktal.nn.clicks import seeds
from weaktal.nn.pooling import packed_video_scores, row_table
from weaktal.nn.roi_align import segment_bins

Golden = dict[str, np.ndarray]
Array = NDArray[Any]
DATA = Path(__file__).parents[3] / "shared/data/thumos14"  # the real ambiguous intervals


def _weights(data: Golden, prefix: str = "w/") -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def _cases(data: Golden) -> list[str]:
    return sorted({k.split("/")[0] for k in data if k[0] == "c" and k.split("/")[0][1:].isdigit()})


def _numbered(data: Golden, letter: str) -> list[str]:
    """ "v0", "v1", ... in order."""
    found = {k.split("/")[0] for k in data if k[0] == letter and k.split("/")[0][1:].isdigit()}
    return sorted(found, key=lambda name: int(name[1:]))


def _snippets(data: Golden, prefix: str = "w/", sizes: str = "", **config: Any) -> HRProSnippets:
    settings = {"heads": int(data[f"{sizes}num_heads"]), "topk": int(data.get(f"{sizes}r_act", 8))}
    without = {"dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.0}
    return HRProSnippets.from_published(_weights(data, prefix), **settings, **without, **config)


def _plain(classes: int, dim: int = 2, **config: Any) -> HRProSnippets:
    names = [str(c) for c in range(classes)]
    return HRProSnippets(HRProSnippetsConfig(heads=1, **config), dim=dim, classes=names)


def _batch(x: Array, label: Array, point: Array) -> ClickedVideos:
    """Videos of one length (B, T, D) with labels (B, C) and clicks (B, T, C)."""
    b, t, _ = x.shape
    lengths, labels = torch.full((b,), t), torch.from_numpy(label).float()
    return ClickedVideos(
        torch.from_numpy(x),
        lengths,
        labels,
        tuple(map(str, range(b))),
        (TimeAxis.uniform(t, RATE),) * b,
        rows=torch.from_numpy(x).flatten(0, 1),
        video=torch.arange(b).repeat_interleave(t),
        table=row_table(lengths),
        labelled=labels.nonzero(),
        points=torch.from_numpy(point).float().flatten(0, 1),
    )


def _keep(seen: list[torch.Tensor]) -> Callable[..., None]:
    """A hook that keeps the tokens before and after a block."""
    return lambda _module, inputs, out: seen.extend([inputs[0], out])


def check_forward_s(data: Golden, path: Path) -> None:
    method = _snippets(data).eval()
    for case in _cases(data):
        x, label = data[f"{case}/x"], data[f"{case}/label"]
        batch = _batch(x, label, np.zeros((*x.shape[:2], label.shape[1])))
        seen: list[torch.Tensor] = []
        hooks = [block.register_forward_hook(_keep(seen)) for block in method.encoder.RAB]
        output = method(batch.rows, batch.sizes)
        for hook in hooks:
            hook.remove()
        for ours, name in ((seen[0], "tokens_in"), (seen[1], "tokens_block0"), (seen[-1], "tokens_out")):
            close(ours.view(len(batch), -1, ours.shape[1]), data[f"{case}/{name}"], 5e-5)
        block = method.encoder.RAB[0]
        tokens = seen[0].view(len(batch), -1, seen[0].shape[1])
        _, weights = block.self_atten(block.conv_query(tokens), block.conv_key(tokens), tokens)
        close(weights, data[f"{case}/attn_block0"], 2e-5)

        def padded(of_rows: torch.Tensor, videos: int = len(batch)) -> torch.Tensor:
            return of_rows.view(videos, -1, of_rows.shape[1])

        close(padded(output.scores)[..., :-1], data[f"{case}/cas_S"], 2e-5)
        close(padded(output.fused), data[f"{case}/cas_fuse"], 2e-5)
        close(padded(output.features), data[f"{case}/feat"], 5e-5)
        close(np.stack([s.video_scores for s in method.score(batch)]), data[f"{case}/vid_score"], 2e-5)
        with_label = packed_video_scores(
            output.scores[:, :-1],
            batch.video,
            batch.lengths,
            batch.table,
            batch.labelled,
            method.config.topk,
        )
        close(with_label, data[f"{case}/vid_score_with_label"], 2e-5)


def _region_runs(region: Array) -> Array:
    first, last = runs_of(region > 0).T
    return np.stack([first, last + 1], 1)


def check_seeds(data: Golden, path: Path) -> None:
    for case in _cases(data):
        background, points = data[f"{case}/bkg_score"], data[f"{case}/point"]
        length = torch.tensor([len(background)])
        video = torch.zeros(len(background), dtype=torch.int64)
        action, is_background = seeds(
            torch.from_numpy(background), torch.from_numpy(points), video, length, 0.1, 0.95
        )
        np.testing.assert_array_equal(action, data[f"{case}/act_seed"])
        np.testing.assert_array_equal(is_background, data[f"{case}/bkg_seed"] > 0)
        found = regions(is_background[:, None].float(), video, length, True)[:, 0].numpy()
        if data[f"{case}/bkg_has_regions"] >= 0:
            np.testing.assert_array_equal(_region_runs(found), data[f"{case}/bkg_regions"])
        else:
            assert not found.any()
        found = regions(action, video, length, True).numpy()
        for c in range(points.shape[1]):
            if f"{case}/act_regions_{c}" in data:
                expected = data[f"{case}/act_regions_{c}"].reshape(-1, 2)
                np.testing.assert_array_equal(_region_runs(found[:, c]), expected)


_LOSSES = {
    "loss_vid": "video",
    "loss_frame": "frame",
    "loss_frame_bkg": "background",
    "loss_contrastive": "contrast",
}


def _lambdas(data: Golden) -> dict[str, float]:
    names = ("video_weight", "frame_weight", "background_weight", "contrast_weight")
    return {"momentum": float(data["momentum"]), **dict(zip(names, data["lambdas"].tolist(), strict=True))}


def check_losses_s(data: Golden, path: Path) -> None:
    for case in _cases(data):
        features, fused = (
            torch.from_numpy(data[f"{case}/{k}"])[0].requires_grad_() for k in ("feat", "cas_fuse")
        )
        proto, label, point = data[f"{case}/proto"], data[f"{case}/label"], data[f"{case}/point"][None]
        method = _plain(label.shape[1], features.shape[1], **_lambdas(data))
        method.prototypes.copy_(torch.from_numpy(proto[:, 0]))
        batch = _batch(np.zeros((1, *features.shape), np.float32), label, point)
        scores, prototypes = torch.from_numpy(data[f"{case}/vid_score"]), method.prototypes.clone()[None]
        losses = method.losses_of(scores, fused, features, prototypes, batch)
        for name, ours in _LOSSES.items():
            close(losses[ours][0], data[f"{case}/{name}"], 2e-5)
        c = method.config
        weights = (c.video_weight, c.frame_weight, c.background_weight, c.contrast_weight)
        total = sum(w * losses[n][0] for w, n in zip(weights, _LOSSES.values(), strict=True))
        close(total, data[f"{case}/loss_total"], 2e-5)
        assert isinstance(total, torch.Tensor)
        total.backward()
        close(fused.grad, data[f"{case}/g_cas"][0], 1e-4)
        close(features.grad, data[f"{case}/g_feat"][0], 1e-4)
        action, _ = method.seeds(fused, batch.points, batch.sizes)
        method.follow(features, action, batch.labels, batch.sizes)
        close(method.memory.proto_vectors, data[f"{case}/proto_after"])
    method = _snippets(data, "net/w/", "net/", **_lambdas(data)).train()
    batch = _batch(data["net/x"], data["net/label"], data["net/point"][None])
    found = method.training_step(batch)
    for name, ours in {**_LOSSES, "loss_total": "total"}.items():
        close(found[ours], data[f"net/{name}"], 2e-5)
    found["total"].backward()
    close(method.memory.proto_vectors, data["net/proto_after"])
    without = {str(n) for n in data["net/no_grad"]}
    for name, parameter in method.named_parameters():
        if name in without:
            assert parameter.grad is None
        elif name.endswith("in_proj_bias"):  # the gradient of the keys' part is zero but for rounding
            ours, theirs = (
                np.delete(g, slice(len(g) // 3, 2 * len(g) // 3))
                for g in (parameter.grad.numpy(), data[f"net/g/{name}"])
            )
            close(ours, theirs, 1e-4)
        elif name.endswith("conv_key.bias"):  # zero, too
            assert max(parameter.grad.abs().max(), np.abs(data[f"net/g/{name}"]).max()) < 1e-6
        else:
            close(parameter.grad, data[f"net/g/{name}"], 1e-4)


def _training(data: Golden) -> TrainingData:
    names, classes = [str(n) for n in data["video_names"]], [str(c) for c in data["class_names"]]
    clicks = [
        Points(data["pt_frame"][mine] / data["fps"][v], data["pt_class"][mine])
        for v in range(len(names))
        for mine in [data["pt_video"] == v]
    ]
    weak = tuple(
        WeakVideo(n, tuple(np.flatnonzero(data[f"v{i}/label"]).tolist()), clicks[i])
        for i, n in enumerate(names)
    )
    bank = FeatureBank.of(names, [data[f"v{i}/x"] for i in range(len(names))], RATE)
    training = TrainingData(bank, WeakLabels(tuple(classes), weak))
    for i in range(len(names)):
        clicked = training.clicks(np.array([i])).nonzero().tolist()
        assert sorted(map(tuple, clicked)) == sorted({tuple(p) for p in data[f"v{i}/points"].tolist()})
    return training


def check_prototypes(data: Golden, path: Path) -> None:
    training, method = _training(data), _snippets(data)
    method.make_prototypes(training)
    close(method.memory.proto_vectors, data["proto_init"], 5e-5)
    method = _plain(
        data["proto_init"].shape[0], data["proto_init"].shape[2], momentum=float(data["momentum"])
    )
    method.prototypes.copy_(torch.from_numpy(data["proto_init"][:, 0]))
    for update in _numbered(data, "u"):
        feat, seed, label = (torch.from_numpy(data[f"{update}/{k}"]) for k in ("feat", "act_seed", "label"))
        method.follow(feat[0], seed, label, [len(seed)])
        close(method.memory.proto_vectors, data[f"{update}/proto"])


def _checksums(method: torch.nn.Module, names: Array, expected: Array, where: str) -> None:
    parameters = method.state_dict()  # prototypes are a parameter there
    for name, sums in zip(names, expected, strict=True):
        if str(name).endswith("in_proj_bias"):
            continue
        p = parameters[str(name)].detach().double().numpy().ravel()
        ours = [p.sum(), np.abs(p).sum(), np.sqrt((p**2).sum())]
        np.testing.assert_allclose(ours, sums, rtol=1e-4, atol=1e-4, err_msg=f"{where} {name}")


def _final_weights(method: torch.nn.Module, data: Golden) -> None:
    for name, value in method.state_dict().items():
        expected = data[f"w_final/{name}"]
        if name.endswith("in_proj_bias"):
            third = len(expected) // 3
            value, expected = (
                torch.as_tensor(x)[[*range(third), *range(2 * third, 3 * third)]] for x in (value, expected)
            )
        close(value, expected, 1e-4)


def check_train_run_s(data: Golden, path: Path) -> None:
    training = _training(data)
    lr, weight_decay, size = data["cfg_lr_wd_batch"]
    method = _snippets(data, lr=float(lr), weight_decay=float(weight_decay), **_lambdas(data)).train()
    method.make_prototypes(training)
    close(method.memory.proto_vectors, data["proto_init"], 5e-5)
    optimizer = method.optimizer(0)
    names = [str(n) for n in data["loss_names"]]
    visits = np.arange(len(data["loss_per_video"])).reshape(-1, int(size))
    for step, rows in enumerate(visits):
        videos = rows % len(training)
        batch = ClickedVideos.of(training, videos)
        kept = method.memory.proto_vectors.clone()
        for row, video in zip(rows, videos, strict=True):  # each video's losses, then the same as one step
            one = ClickedVideos.of(training, np.array([video]))
            with torch.no_grad():
                output = method(one.rows, one.sizes)
                losses = method.losses(output, method.prototypes.clone()[None], one)
                action, _ = method.seeds(output.scores, one.points, one.sizes)
                method.follow(output.features, action, one.labels, one.sizes)
            for name, ours in _LOSSES.items():
                if name in names:
                    close(losses[ours][0], data["loss_per_video"][row, names.index(name)], 1e-4)
        method.memory.proto_vectors.copy_(kept)
        total = method.training_step(batch)["total"]
        close(total, data["loss_total_step"][step], 1e-4)
        close(method.memory.proto_vectors, data["proto_after_step"][step], 1e-4)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        _checksums(method, data["param_names"], data["param_checksum_after_step"][step], str(step))
    _final_weights(method, data)


def _scores(data: Golden, video: str, name: str) -> SnippetScores:
    fused = data[f"{video}/cas_fuse"][0]
    axis = TimeAxis.uniform(len(fused), RATE)
    return SnippetScores(name, fused[:, :-1], 1 - fused[:, -1], data[f"{video}/vid_score"][0], axis)


def _decoder(data: Golden, classes: int) -> HRProSnippets:
    method = _plain(
        classes,
        class_threshold=float(data["class_threshold"]),
        upsampling=int(data["scale"]),
        margin=float(data["outer"]),
        video_score_weight=float(data["gamma"]),
        sigma=float(data.get("sigma", 0.3)),
    )
    for ours, name in (
        (method.config.action_thresholds, "act_thresh_cas"),
        (method.config.foreground_thresholds, "act_thresh_agnostic"),
    ):
        given = data[name]
        step = given[1] - given[0] if len(given) > 1 else 1.0
        grid = tuple(float(x) for x in (given[0], given[-1] + step / 2, step))
        close(np.arange(*grid), given, 1e-9)
        if not np.allclose(np.arange(*ours), given[: len(np.arange(*ours))]) or len(np.arange(*ours)) != len(
            given
        ):
            key = "action_thresholds" if name == "act_thresh_cas" else "foreground_thresholds"
            method.config = method.config.model_copy(update={key: grid})
    return method


def _table(found: Detections) -> Array:
    return np.stack([found.label, found.score, found.start, found.end], 1)


def _filtered(found: Detections, name: str) -> Detections:
    """Without what shares a whole second with an ambiguous interval, as the published code counts."""
    if not DATA.exists():
        pytest.skip(f"the filter was made with the real list, which is not here: {DATA}")
    ignored = load_ignored(DATA / "wtalc/Ambiguous_test.txt").get(name, np.empty((0, 2)))
    annotations = Annotations.of([], [Video(name, ignored=np.round(ignored) / RATE)])
    # that of other methods counts in snippets: seconds are given as such
    whole = Detections(
        (name,),
        found.classes,
        found.video * 0,
        found.start / RATE,
        found.end / RATE,
        found.label,
        found.score,
    )
    return found[~touches_ignored(whole, annotations, 1e-6)]


def check_proposals(data: Golden, path: Path) -> None:
    method = _decoder(data, data["v0/vid_score"].shape[1])
    names, predicted = [str(n) for n in data["video_names"]], []
    for video, name, before, final in zip(
        _numbered(data, "v"), names, ragged(data, "before"), ragged(data, "final"), strict=True
    ):
        scores = _scores(data, video, name)
        found = _table(method.candidates([scores]))
        assert found.shape == before.shape, (video, found.shape, before.shape)
        np.testing.assert_allclose(found, before, rtol=0, atol=1e-6, err_msg=video)
        found = _table(_filtered(method.localize([scores]), name))
        assert found.shape == final.shape, (video, found.shape, final.shape)
        np.testing.assert_allclose(found, final, rtol=0, atol=1e-6, err_msg=video)
        chosen = scores.video_scores >= method.config.class_threshold
        if not chosen.any():
            chosen[scores.video_scores.argmax()] = True
        predicted.append(chosen)
    close((np.stack(predicted) == data["labels"]).all(1).mean(), data["test_acc"])
    for name in sorted(k.removesuffix("_in") for k in data if k.startswith("up") and k.endswith("_in")):
        x, expected = np.moveaxis(data[f"{name}_in"], 0, -1), np.moveaxis(data[f"{name}_out"], 0, -1)
        if np.isnan(expected).all():  # one snippet: we repeat it
            expected = np.repeat(x, expected.shape[-1], axis=-1)
        close(upsample(x, expected.shape[-1] // x.shape[-1]), expected)
    for given, expected in zip(ragged(data, "soft_in"), ragged(data, "soft_out"), strict=True):
        rows, score = soft_nms(given[:, 0], given[:, 1], given[:, 3], sigma=method.config.sigma)
        found = np.column_stack([given[rows, :3], score])
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    outputs = ragged(data, "filter_out")
    for name, given, expected in zip(data["filter_video"], ragged(data, "filter_in"), outputs, strict=True):
        classes = tuple(map(str, range(int(given[:, 2].max(initial=0)) + 1)))
        one = Detections(
            (str(name),), classes, np.zeros(len(given)), given[:, 0], given[:, 1], given[:, 2], given[:, 3]
        )
        found = _filtered(one, str(name))
        np.testing.assert_allclose(
            np.stack([found.start, found.end, found.label, found.score], 1), expected, rtol=0, atol=1e-6
        )


class _Recorded:
    """In place of a random generator: the draws of the published code, in order."""

    def __init__(self, draws: Array) -> None:
        self.draws = iter(draws)

    def integers(self, low: float, high: float) -> float:
        kind, value, first, last = next(self.draws)
        assert (kind, first) == (0, low)
        assert last in (high - 1, high)
        return float(value)

    def uniform(self, low: float, high: float) -> float:
        kind, value, first, last = next(self.draws)
        assert (kind, first, last) == (1, low, high)
        return float(value)


def check_bridge(data: Golden, path: Path) -> None:
    names = [str(n) for n in data["video_names"]]
    classes = len(data["class_names"])
    method = _decoder(data, classes)
    for v, name in enumerate(names):
        key = f"v{v}"
        scores = _scores(data, key, name)
        found = method.candidates([scores])
        np.testing.assert_allclose(_table(found), data[f"{key}/results"], rtol=0, atol=1e-6)
        pp = np.stack([found.start, found.end, found.score, found.label], 1)
        np.testing.assert_allclose(pp, data[f"{key}/PP_seconds"], rtol=0, atol=1e-6)
        mine = data["pt_video"] == v
        order = np.argsort(data["pt_frame"][mine], kind="stable")
        time, label = (data["pt_frame"][mine] / data["fps"][v])[order], data["pt_class"][mine][order]
        rows = reliable_rows(found, time, label)
        by_class = [i for c in dict.fromkeys(label.tolist()) for i in np.flatnonzero(label == c)]
        rp = np.where(rows[:, None] >= 0, pp[rows], np.nan)[by_class]
        rp[:, 3] = label[by_class]
        np.testing.assert_allclose(rp, data[f"{key}/RP_seconds"], rtol=0, atol=1e-6)

        background = data[f"{key}/bkg_score"]
        points = np.zeros((len(background), classes), np.float32)
        points[tuple(data[f"{key}/point_label"].T)] = 1
        video, length = torch.zeros(len(background), dtype=torch.int64), torch.tensor([len(background)])
        is_background = seeds(
            torch.from_numpy(background), torch.from_numpy(points), video, length, 0.1, 0.95
        )[1]
        runs = runs_of(is_background.numpy())
        np.testing.assert_array_equal(runs, data[f"{key}/bkg_runs"])
        expected = data[f"{key}/NP"]
        drawn = _Recorded(data[f"{key}/np_draws"])
        pieces = background_pieces(runs, len(pp) // 2, drawn)  # type: ignore[arg-type]
        np.testing.assert_array_equal(pieces, expected[:, :2])

        # as the second stage reads them
        axes = (TimeAxis.uniform(len(background), RATE),)
        in_snippets = Proposals.of(found, (name,), axes, decimals=3)
        np.testing.assert_allclose(
            np.stack([in_snippets.start, in_snippets.end], 1), data[f"{key}/PP_snippets"][:, :2], atol=1e-6
        )
        training = data[f"{key}/train_proposals"]
        ours = np.concatenate([np.stack([in_snippets.start, in_snippets.end], 1), pieces])
        np.testing.assert_allclose(ours, training[:, :2], atol=1e-6)
        kept = [i for i in by_class if rows[i] >= 0]
        ours = np.stack([in_snippets.start, in_snippets.end], 1)[rows[kept]]
        np.testing.assert_allclose(ours, data[f"{key}/RP_snippets"][:, :2], atol=1e-6)


def _segments(segments: list[Array]) -> Proposals:
    count = [len(s) for s in segments]
    start, end = np.concatenate(segments)[:, :2].T.astype(np.float32)
    return Proposals(np.repeat(np.arange(len(count)), count), start, end, np.cumsum([0, *count]))


def _parts(x: list[Array], segments: Proposals, bins: int = 12) -> torch.Tensor:
    length = torch.tensor([len(v) for v in x])
    rows = torch.from_numpy(np.concatenate(x))
    return segments.parts(rows, length.cumsum(0) - length, length, bins, np.arange(len(segments)))


def _second(data: Golden, prefix: str = "w/", **config: Any) -> HRPro:
    return HRPro.from_published(_weights(data, prefix), classes=["any"], **config)


def check_forward_i(data: Golden, path: Path) -> None:
    roi_size = int(data["roi_size"])
    method = _second(data, roi_size=roi_size).eval()
    for case in _cases(data):
        n = int(data[f"{case}/n"])
        x = [data[f"{case}/x{b}"] for b in range(n)]
        segments = [data[f"{case}/proposals{b}"] for b in range(n)]
        refined = [data[f"{case}/refined{b}"] for b in range(n)]
        mask = data[f"{case}/mask"] > 0
        for given, roi, complete in (
            (_segments(segments), "roi_feat", "completeness"),
            (_segments(refined), "roi_feat_refined", "completeness_refined"),
        ):
            video = torch.from_numpy(given.video)
            length = torch.tensor([len(v) for v in x])
            first = length.cumsum(0) - length
            bins = segment_bins(
                torch.from_numpy(np.concatenate(x)),
                first[video],
                length[video],
                torch.from_numpy(given.longest)[video],
                torch.from_numpy(given.start),
                torch.from_numpy(given.end),
                roi_size,
            )
            close(bins, data[f"{case}/{roi}"][mask], 2e-5)
            out = method(_parts(x, given, roi_size))
            close(out.completeness[:, 0], data[f"{case}/{complete}"][mask], 2e-5)
            if roi == "roi_feat":
                start, end = torch.from_numpy(given.start), torch.from_numpy(given.end)
                size = end - start
                moved = torch.stack([start + out.start * size, end + out.end * size], 1)
                close(moved, np.concatenate(refined), 2e-5)


def _segment_batch(
    parts: torch.Tensor, segments: Proposals, reliable: list[Array], drawn: Array
) -> SegmentBatch:
    n, single = len(reliable), [torch.from_numpy(r[:, :2].astype(np.float32)) for r in reliable]
    return SegmentBatch(
        torch.zeros(n, 0, 1),
        torch.zeros(n, dtype=torch.int64),
        torch.ones(n, 1),
        tuple(map(str, range(n))),
        (TimeAxis.uniform(1, RATE),) * n,
        parts=parts,
        video=torch.from_numpy(segments.video),
        segment=torch.from_numpy(np.stack([segments.start, segments.end], 1)),
        drawn=torch.from_numpy(drawn.astype(np.float32)),
        reliable=pad_sequence(single, True),
        reliable_class=pad_sequence([torch.zeros(len(r), dtype=torch.int64) for r in single], True, -1),
    )


def check_losses_i(data: Golden, path: Path) -> None:
    weights = {
        "positive_iou": float(data["iou_threshold"]),
        "regression_weight": float(data["weight_reg"]),
        "score_weight": float(data["weight_score"]),
    }
    for case in _cases(data):
        method = _second(data, f"{case}/w/", dropout=0.0, **weights).train()
        n = range(int(data[f"{case}/n"]))
        x = [data[f"{case}/x{b}"] for b in n]
        segments = _segments([data[f"{case}/proposals{b}"] for b in n])
        reliable = [data[f"{case}/reliable{b}"] for b in n]
        drawn = np.concatenate([data[f"{case}/draw{b}"] for b in n])
        batch = _segment_batch(_parts(x, segments), segments, reliable, drawn)
        out = method(batch.parts)
        close(out.completeness[:, 0], data[f"{case}/completeness"][data[f"{case}/mask"] > 0], 2e-5)
        losses = method.losses(batch)
        found = method.training_step(batch)
        for each, key, total in (
            ("regression", "reg_per_video", "reg_loss"),
            ("score", "iou_per_video", "iou_loss"),
        ):
            close(losses[each], data[f"{case}/{key}"], 2e-5)
            close(
                found[each] * (weights["regression_weight" if each == "regression" else "score_weight"]),
                data[f"{case}/{total}"],
                2e-5,
            )
        close(found["total"], data[f"{case}/total"], 2e-5)
        found["total"].backward()
        for name, parameter in method.named_parameters():
            close(parameter.grad, data[f"{case}/g/{name}"], 1e-4)


def check_train_run_i(data: Golden, path: Path) -> None:
    lr, weight_decay, size = data["cfg_lr_wd_batch"]
    method = _second(
        data,
        dropout=0.0,
        lr=float(lr),
        weight_decay=float(weight_decay),
        positive_iou=float(data["iou_threshold"]),
        regression_weight=float(data["weight_reg"]),
        score_weight=float(data["weight_score"]),
    ).train()
    videos, draws = len(data["video_names"]), ragged(data, "draws")
    optimizer = method.optimizer(0)
    visits = np.arange(len(draws)).reshape(-1, int(size))
    for step, rows in enumerate(visits):
        video = rows % videos
        x = [data[f"v{v}/x"] for v in video]
        segments = _segments([data[f"v{v}/proposals"] for v in video])
        reliable = [data[f"v{v}/reliable"] for v in video]
        drawn = np.concatenate([draws[r] for r in rows])
        batch = _segment_batch(_parts(x, segments), segments, reliable, drawn)
        found = method.training_step(batch)
        ours = [
            found["regression"] * method.config.regression_weight,
            found["score"] * method.config.score_weight,
            found["total"],
        ]
        close(torch.stack(ours), data["loss_per_step"][step], 1e-4)
        optimizer.zero_grad()
        found["total"].backward()
        optimizer.step()
        _checksums(method, data["param_names"], data["param_checksum_after_step"][step], str(step))
    per_epoch = data["loss_per_step"][:, 2].reshape(len(data["loss_epoch"]), -1).mean(1)
    close(per_epoch, data["loss_epoch"], 1e-4)
    _final_weights(method, data)


def check_inference(data: Golden, path: Path) -> None:
    classes = [str(c) for c in data["class_names"]]
    method = HRPro(HRProConfig(sigma=float(data["sigma"])), dim=2, classes=classes)
    rate = float(data["snippets_per_second"])
    for v, (name, final) in enumerate(zip(data["video_names"], ragged(data, "final"), strict=True)):
        key, names = f"v{v}", (str(name),)
        given, moved = data[f"{key}/proposals"], data[f"{key}/refined"]
        n = len(given)
        columns = np.zeros(n, np.int64), given[:, 0] / rate, given[:, 1] / rate
        detections = Detections(names, tuple(classes), *columns, given[:, 3], given[:, 2])
        segments = [
            Proposals(np.zeros(n, np.int64), s[:, 0], s[:, 1], np.array([0, n])) for s in (given, moved)
        ]
        completeness = np.stack([data[f"{key}/completeness"], data[f"{key}/completeness_refined"]])
        arguments = (TimeAxis.uniform(1000, rate),), detections, segments, completeness
        every = method.candidates(*arguments)
        found = every[
            np.argsort([list(dict.fromkeys(every.label)).index(c) for c in every.label], kind="stable")
        ]
        np.testing.assert_allclose(_table(found), data[f"{key}/candidates"], rtol=0, atol=1e-5)
        found = _table(_filtered(soft_nms_by_class(every, method.config.sigma, plus_one=True), str(name)))
        assert found.shape == final.shape, (v, found.shape, final.shape)
        np.testing.assert_allclose(found, final, rtol=0, atol=1e-5, err_msg=key)


CHECKS: dict[str, Callable[[Golden, Path], None]] = {
    "forward_s": check_forward_s,
    "seeds": check_seeds,
    "losses_s": check_losses_s,
    "prototypes": check_prototypes,
    "train_run_s": check_train_run_s,
    "proposals": check_proposals,
    "bridge": check_bridge,
    "forward_i": check_forward_i,
    "losses_i": check_losses_i,
    "train_run_i": check_train_run_i,
    "inference": check_inference,
}
