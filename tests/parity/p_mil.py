"""P-MIL against the numbers of the published code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.parity.compare import close, ragged
from tests.parity.tspnet import _filtered
from weaktal.core import TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.p_mil import (
    PMIL,
    PMILBatch,
    PMILConfig,
    Streams,
    completeness_loss,
    overlapping,
    pseudo_instances,
    ramp,
)
from weaktal.methods.proposals import ProposalOutput, Proposals, rows_of
from weaktal.methods.protocol import Batch, TrainingData
from weaktal.nn.roi_align import contrast, segment_bins

Golden = dict[str, np.ndarray]
Array = NDArray[Any]
RATE = 25 / 16


def _method(data: Golden, **config: Any) -> PMIL:
    return PMIL.from_published({k[2:]: v for k, v in data.items() if k.startswith("w/")}, **config)


def _cases(data: Golden, letter: str) -> list[str]:
    found = {k.split("/")[0] for k in data if k[0] == letter and k.split("/")[0][1:].isdigit()}
    return sorted(found, key=lambda name: int(name[1:]))


def _part(data: Golden, prefix: str) -> Golden:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def _proposals(segments: list[Array]) -> Proposals:
    count = [len(s) for s in segments]
    start, end = np.concatenate(segments).T
    return Proposals(np.repeat(np.arange(len(count)), count), start, end, np.cumsum([0, *count]))


def _parts(x: list[Array], proposals: Proposals, bins: int) -> torch.Tensor:
    length = torch.tensor([len(v) for v in x])
    features = torch.from_numpy(np.concatenate(x))
    return proposals.parts(features, length.cumsum(0) - length, length, bins, np.arange(len(proposals)))


def _batch(
    method: PMIL, parts: torch.Tensor, segments: list[Array], labels: Array, share: float
) -> PMILBatch:
    single, n = [s.astype(np.float32) for s in segments], len(segments)
    videos = Batch(
        torch.zeros(n, 0, parts.shape[2]),
        torch.zeros(n, dtype=torch.int64),
        torch.from_numpy(labels).float(),
        tuple(map(str, range(n))),
        (TimeAxis.uniform(1, RATE),) * n,
    )
    return method.batch_of(
        videos,
        parts,
        np.concatenate(single),
        [len(s) for s in segments],
        [overlapping(s) for s in single],
        share,
    )


def _settings(data: Golden) -> dict[str, Any]:
    topk, gamma, length = data["k_gamma_rampup"].tolist()
    names = ("video_weight", "attended_weight", "consistency_weight", "completeness_weight")
    weights = dict(zip(names, data["weights"].tolist(), strict=True))
    return {"topk": int(topk), "pseudo_threshold": gamma, "ramp_up": int(length), **weights}


def check_features(data: Golden, path: Path) -> None:
    for case in _cases(data, "c"):
        own = _part(data, f"{case}/")
        x, every, mask = ragged(own, "x"), ragged(own, "proposals"), own["prop_mask"] > 0
        bins, rows = int(own["roi_size"]), ragged(own, "rows")
        given = _proposals([p[r.astype(int)] for p, r in zip(every, rows, strict=True)])
        video = torch.from_numpy(given.video)
        length = torch.tensor([len(v) for v in x])
        first = length.cumsum(0) - length
        aligned = segment_bins(
            torch.from_numpy(np.concatenate(x)),
            first[video],
            length[video],
            torch.from_numpy(given.longest)[video],
            torch.from_numpy(given.start.astype(np.float32)),
            torch.from_numpy(given.end.astype(np.float32)),
            bins,
        )
        close(aligned, own["roi_feat"][mask], 2e-5)
        for half, name in zip(_parts(x, given, bins).chunk(2, dim=2), ("v_vector", "f_vector"), strict=True):
            close(contrast(half), own[name][mask], 2e-5)
        if bool(own["training"]):
            most = int(own["max_proposal"])
            assert [len(r) for r in rows] == [min(len(p), most) for p in every]


def _compare_outputs(streams: Streams, own: Golden, mask: Array) -> None:
    for stream, letter in zip(streams, "vf", strict=True):
        close(stream.classes, own[f"{letter}_cas"][mask], 2e-5)
        close(stream.attention, own[f"{letter}_attn"][mask][:, 0], 2e-5)
        close(stream.quality, own[f"{letter}_iou"][mask][:, 0], 2e-5)


def check_forward(data: Golden, path: Path) -> None:
    for case in _cases(data, "c"):
        own = _part(data, f"{case}/")
        bins, mask = int(own["roi_size"]), own["prop_mask"] > 0
        method = _method(data, roi_size=bins).eval()
        parts = _parts(ragged(own, "x"), _proposals(ragged(own, "proposals")), bins)
        _compare_outputs(method(parts), own, mask)
        for half, letter in zip(parts.chunk(2, dim=2), "vf", strict=True):
            fused = method.get_submodule(f"prop_{letter}_backbone.prop_fusion")(contrast(half))
            close(fused, own[f"{letter}_fused"][mask], 2e-5)


_TOTALS = {
    "loss_prop_mil_orig": ("video", False),
    "loss_prop_mil_supp": ("attended", False),
    "loss_prop_irc": ("consistency", True),
    "loss_prop_comp": ("completeness", True),
}
_PARTS = {"mil_orig": "video", "mil_supp": "attended", "irc": "consistency", "comp": "completeness"}


def _compare_losses(
    method: PMIL, losses: dict[str, torch.Tensor], share: float, data: Golden, at: Any
) -> None:
    total = 0.0
    for key, (name, ramped) in _TOTALS.items():
        weight = float(getattr(method.config, f"{name}_weight")) * (share if ramped else 1)
        close(weight * losses[name], data[key][at], 2e-5)
        total = total + weight * losses[name]
    close(total, data["loss_total"][at], 2e-5)


def check_losses(data: Golden, path: Path) -> None:
    method = _method(data, dropout=0.0, roi_size=int(data["roi_size"]), **_settings(data)).train()
    segments = ragged(data, "proposals")
    parts = _parts(ragged(data, "x"), _proposals(segments), method.config.roi_size)
    streams, mask = method(parts), data["prop_mask"] > 0
    _compare_outputs(streams, data, mask)
    batch = _batch(method, parts, segments, data["labels"], 1.0)
    for pair, letter in ((streams, "v"), (streams[::-1], "f")):
        of_stream = method.stream_losses(*pair, batch)
        for key, name in _PARTS.items():
            close(of_stream[name], data[f"video_{key}_{letter}"], 2e-5)
            close(of_stream[name].mean(), data[f"{key}_{letter}"], 2e-5)
    losses = {name: x.mean() for name, x in method.losses(streams, batch).items()}
    for i, epoch in enumerate(data["epochs"]):
        _compare_losses(method, losses, ramp(int(epoch), method.config.ramp_up), data, i)
    share = ramp(int(data["g_epoch"]), method.config.ramp_up)
    batch = _batch(method, parts, segments, data["labels"], share)
    method.training_step(batch)["total"].backward()
    for name, parameter in method.named_parameters():
        close(parameter.grad, data[f"g/{name}"], 1e-4)

    for case in _cases(data, "l"):
        own = _part(data, f"{case}/")
        mask, segments, labels = own["prop_mask"] > 0, ragged(own, "proposals"), own["labels"]
        classes = [str(c) for c in range(labels.shape[1])]
        method = PMIL(PMILConfig(**_settings(own)), dim=4, classes=classes)
        given = {
            k: torch.from_numpy(own[k][mask]).requires_grad_()
            for k in own
            if k[1:] in ("_cas", "_attn", "_iou")
        }
        streams = tuple(
            ProposalOutput(given[f"{s}_cas"], given[f"{s}_attn"][:, 0], given[f"{s}_iou"][:, 0]) for s in "vf"
        )
        share = ramp(int(own["epoch"]), method.config.ramp_up)
        batch = _batch(method, torch.zeros(int(mask.sum()), 3, 4), segments, labels, share)
        assert len(streams) == 2
        losses = {name: x.mean() for name, x in method.losses(streams, batch).items()}
        for pair, letter in ((streams, "v"), (streams[::-1], "f")):
            of_stream = method.stream_losses(*pair, batch)
            for key, name in _PARTS.items():
                close(of_stream[name].mean(), own[f"{key}_{letter}"], 2e-5)
        _compare_losses(method, losses, share, own, ())
        weights = {
            n: getattr(method.config, f"{n}_weight") * (share if r else 1) for n, r in _TOTALS.values()
        }
        torch.stack([w * losses[n] for n, w in weights.items()]).sum().backward()
        for name, value in given.items():
            expected = own[f"g_{name}"][mask]
            close(torch.zeros_like(value) if value.grad is None else value.grad, expected, 1e-4)
    for length, row in zip(data["ramp_length"], data["ramp_weight"], strict=True):
        close([ramp(int(e), int(length)) for e in data["ramp_epoch"]], row, 1e-9)


def check_pseudo_instances(data: Golden, path: Path) -> None:
    for case in _cases(data, "p"):
        own = _part(data, f"{case}/")
        segment, gamma = own["segments"].astype(np.float32), float(own["gamma"])
        chosen = pseudo_instances(segment, own["attn"], np.zeros(len(segment), np.int64), gamma)
        np.testing.assert_array_equal(chosen, own["chosen"])
        method = PMIL(PMILConfig(pseudo_threshold=gamma), dim=4, classes=["any"])
        batch = _batch(method, torch.zeros(len(segment), 3, 4), [own["segments"]], np.ones((1, 1)), 1.0)
        (one, other), tiou = overlapping(segment)
        target = np.zeros(len(segment))
        picked = np.isin(other, chosen)
        np.maximum.at(target, one[picked], tiou[picked])
        close(target, own["target"])
        if "iou" in own:
            dense = np.zeros((len(segment), len(segment)))
            dense[one, other] = tiou
            close(dense, own["iou"])
        quarter, attention = torch.full((len(segment),), 0.25), torch.from_numpy(own["attn"])
        loss = completeness_loss(quarter, attention, batch, gamma)
        close(loss, own["loss_at_quarter"][None])


def check_train_run(data: Golden, path: Path) -> None:
    lr, weight_decay, size = data["cfg_lr_wd_batch"]
    method = _method(
        data,
        dropout=0.0,
        lr=float(lr),
        weight_decay=float(weight_decay),
        batch_size=int(size),
        **_settings(data),
    ).train()
    x = [data[v + "/x"] for v in _cases(data, "v")]
    segments, labels = ragged(data, "proposals"), data["labels"]
    names = [str(n) for n in data["video_names"]]
    # seconds become the snippets that were used
    bank = FeatureBank.of(names, x, RATE)
    seconds = ragged(data, "base_segment_seconds")
    weak = tuple(WeakVideo(n, tuple(np.flatnonzero(y).tolist())) for n, y in zip(names, labels, strict=True))
    classes = tuple(map(str, range(labels.shape[1])))
    found = _detections(names, seconds, classes)
    training = TrainingData(bank, WeakLabels(classes, weak), proposals=found)
    ours = method.prepared(training).proposals
    np.testing.assert_array_equal(np.stack([ours.start, ours.end], 1), np.concatenate(segments))
    assert rows_of(found, names)[1].tolist() == ours.video.tolist()

    optimizer = method.optimizer(0)
    parameters = dict(method.named_parameters())
    for step, video in enumerate(data["order"]):
        some = [segments[v] for v in video]
        parts = _parts([x[v] for v in video], _proposals(some), method.config.roi_size)
        share = ramp(int(data["step_epoch"][step]), method.config.ramp_up)
        batch = _batch(method, parts, some, labels[video], share)
        losses = method.training_step(batch)
        for key, (name, ramped) in _TOTALS.items():
            weight = float(getattr(method.config, f"{name}_weight")) * (share if ramped else 1)
            close(weight * losses[name], data[key][step], 1e-4)
        close(losses["total"], data["loss_total"][step], 1e-4)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        for name, expected in zip(data["param_names"], data["param_checksum_after_step"][step], strict=True):
            p = parameters[str(name)].detach().double().numpy().ravel()
            sums = [p.sum(), np.abs(p).sum(), np.sqrt((p**2).sum())]
            np.testing.assert_allclose(sums, expected, rtol=1e-4, atol=1e-4)
    for name, value in parameters.items():
        close(value, data[f"w_final/{name}"], 1e-4)


def _detections(names: list[str], seconds: list[Array], classes: tuple[str, ...]):  # type: ignore[no-untyped-def]
    from tests.parity.tspnet import _segments_in_seconds

    return _segments_in_seconds(names, seconds, len(classes))


def check_inference(data: Golden, path: Path) -> None:
    classes = data["v0/v_cas"].shape[-1] - 1
    config = PMILConfig(
        class_threshold=float(data["threshold_cls"]), video_score_weight=float(data["gamma_vid"])
    )
    method = PMIL(config, dim=4, classes=[str(c) for c in range(classes)])
    total = 0
    names, chosen = [str(n) for n in data["video_names"]], ragged(data, "pred")
    for v, (name, expected) in enumerate(zip(names, ragged(data, "final"), strict=True)):
        own = _part(data, f"v{v}/")
        streams = [
            ProposalOutput(*(torch.from_numpy(own[f"{s}_{k}"][0]) for k in ("cas", "attn", "iou")))
            for s in "vf"
        ]
        streams = [ProposalOutput(s.classes, s.attention[:, 0], s.quality[:, 0]) for s in streams]
        close(method.read(streams)[3], data["vid_score"][v])
        start, end = own["proposals"].T
        found = np.stack(method.localize(start, end, streams), 1)
        assert list(dict.fromkeys(found[:, 2])) == chosen[v].astype(float).tolist()
        found = _filtered(name, found)
        assert found.shape == expected.shape, (v, found.shape, expected.shape)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6, err_msg=name)
        total += len(found)
    assert total == int(data["n_predictions"])


CHECKS: dict[str, Callable[[Golden, Path], None]] = {
    "features": check_features,
    "forward": check_forward,
    "losses": check_losses,
    "pseudo_instances": check_pseudo_instances,
    "train_run": check_train_run,
    "inference": check_inference,
}
