"""STCL-Net against the arrays of the published code; sizes, seeds and settings are read from the files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from weaktal.core import Annotations, Detections, Instances, SnippetScores, TimeAxis, Video
from weaktal.evaluate import classification_map, evaluate, get_protocol, touches_ignored
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import perturbed_rows, uniform_rows
from weaktal.methods.stcl_net import (
    STCLNet,
    VideoLists,
    class_scores,
    classification_scores,
    draw_exemplars,
    draw_videos,
    losses,
    mine_snippets,
    suppressed,
    topk_loss,
)
from weaktal.nn.dropout import Dropout

Arrays = dict[str, np.ndarray]
RATE = 25 / 16


def close(
    found: Tensor | np.ndarray | float, expected: np.ndarray, rtol: float = 1e-5, atol: float = 1e-5
) -> None:
    found = found.detach().numpy() if isinstance(found, Tensor) else found
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


def under(data: Arrays, prefix: str) -> Arrays:
    return {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}


def method_of(data: Arrays, path: Path, size: int) -> STCLNet:
    """The published model with the file's weights; dropout is off, as it was when the arrays were made."""
    activitynet = str(data.get("case", path.stem)).startswith("act_")
    exemplars = data["in/exemplar_videos"]
    config: dict[str, object] = {
        "snippets": size,
        "topk_ratio": int(data["in/k"]) if "in/k" in data else 7,
        "exemplar_videos": exemplars.shape[-3],
        "batch_size": 6,
    }
    if activitynet:
        config |= {"intra_layer": 1, "smoothing": int(data["in/t"]), "agreement_weight": 0.1}
    method = STCLNet.from_published(under(data, "w/"), **config)
    for module in method.modules():
        if isinstance(module, Dropout):
            module.p = 0.0
    return method


def bank_of(videos: np.ndarray) -> tuple[FeatureBank, Tensor]:
    """Sampled exemplar videos (C, M, S, D) as a bank and the rows (C, M, S) of it."""
    flat = videos.reshape(-1, *videos.shape[2:])
    bank = FeatureBank.of([str(i) for i in range(len(flat))], list(flat), RATE)
    return bank, torch.arange(flat.shape[0] * flat.shape[1]).reshape(videos.shape[:3])


def forward(data: Arrays, path: Path) -> None:
    method = method_of(data, path, int(data["in/max_seqlen"])).eval()
    bank, snippets = bank_of(data["in/exemplar_videos"])
    with torch.no_grad():
        exemplars = method.embed_exemplars(snippets, bank)
        out = method.network(torch.from_numpy(data["in/x"]), exemplars)
    close(exemplars.transpose(1, 2), data["out/exemplars"])
    for ours, theirs in (
        ("feat", "feat"),
        ("cas", "cas"),
        ("origin", "cas_origin"),
        ("intra", "intra_cas"),
        ("inter", "inter_cas"),
        ("attention", "attn"),
        ("rgb_attention", "v_atn"),
        ("flow_attention", "f_atn"),
    ):
        close(getattr(out, ours), data[f"out/{theirs}"])


def loss_terms(data: Arrays, path: Path) -> None:
    method = method_of(data, path, int(data["in/max_seqlen"])).train()
    bank, snippets = bank_of(data["in/exemplar_videos"])
    labels, easy_mask = torch.from_numpy(data["in/label"]), torch.from_numpy(data["in/easy_mask"])
    out = method.network(torch.from_numpy(data["in/x"]), method.embed_exemplars(snippets, bank))
    found = losses(out, labels, method.config, easy_mask)
    close(out.cas, data["out/cas"])
    close(out.attention, data["out/attn"])
    close(out.feat, data["out/feat"])
    low, k = suppressed(out.cas, out.attention), method.config.topk_ratio
    for name, logits, background in (
        ("loss_mil_orig", out.cas, 1.0),
        ("loss_mil_supp", low, 0.0),
        ("loss_intra_cls", out.intra, 1.0),
        ("loss_origin_cls", out.origin, 1.0),
        ("loss_inter_cls", out.inter, 1.0),
    ):
        close(topk_loss(logits, labels, background, k), data[f"out/{name}"])
    for ours, theirs in (
        ("mil", ["loss_mil_orig"]),
        ("mil_suppressed", ["loss_mil_supp"]),
        ("mil_intra", ["loss_intra_cls"]),
        ("mil_origin", ["loss_origin_cls"]),
        ("mil_inter", ["loss_inter_cls"]),
        ("mutual", ["mutual_loss"]),
        ("coactivity", ["loss_3_supp_Contrastive"]),
        ("norm", ["loss_norm", "v_loss_norm", "f_loss_norm"]),
        ("guide", ["loss_guide", "v_loss_guide", "f_loss_guide"]),
        ("contrast", ["snippet_contrastive"]),
        ("total", ["total"]),
    ):
        close(found[ours], np.mean([data[f"out/{t}"].mean() for t in theirs]))
    close(found["agreement"], data["out/loss_KL"])
    mined = mine_snippets(out.attention[..., 0].detach(), easy_mask)
    for name, rows in zip(("EA", "EB", "HA", "HB"), mined, strict=True):
        close(out.feat.gather(1, rows[..., None].expand(-1, -1, out.feat.shape[2])), data[f"out/pair_{name}"])
    found["total"].backward()
    parameters = dict(method.network.named_parameters())
    for name, gradient in under(data, "out/grad/").items():
        close(parameters[name].grad, gradient, rtol=1e-4)
    without = {n for n, p in parameters.items() if p.grad is None}
    assert without == {str(n) for n in data["out/no_grad_params"]} - {""}


def training(data: Arrays, path: Path) -> None:
    x, label, exemplars = (data[f"in/{k}"] for k in ("x", "label", "exemplar_videos"))
    method = method_of(data, path, x.shape[2]).train()
    optimizer = torch.optim.Adam(method.network.parameters(), float(data["in/lr"]), weight_decay=1e-3)
    for step, expected in enumerate(data["out/loss"]):
        bank, snippets = bank_of(exemplars[step])
        out = method.network(torch.from_numpy(x[step]), method.embed_exemplars(snippets, bank))
        loss = losses(out, torch.from_numpy(label[step]), method.config, torch.ones(x.shape[1:3]))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        close(loss, expected, rtol=1e-4 if step < 2 else 1e-3)
    parameters = {n: p.detach().double() for n, p in method.network.named_parameters()}
    for name, sum_, absolute in zip(
        data["out/param_names"], data["out/param_sum"], data["out/param_abs_sum"], strict=True
    ):
        p = parameters[str(name)]
        np.testing.assert_allclose(p.abs().sum(), absolute, rtol=1e-3)
        assert abs(p.sum() - sum_) < 1e-3 * absolute
    for name, value in under(data, "out/final/").items():
        close(parameters[name], value, rtol=1e-3, atol=1e-3)


def inference(data: Arrays, path: Path) -> None:
    lengths = data["in/T"]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    cas, attention = torch.from_numpy(data["in/cas"]), torch.from_numpy(data["in/attn"])
    names = [str(v) for v in data["in/video"]]
    classes = cas.shape[1] - 1
    method = STCLNet(
        STCLNet.Config(attention_dim=2, key_dim=2), dim=4, classes=[f"c{i}" for i in range(classes)]
    )
    padded_cas, padded_attention = (
        torch.nn.utils.rnn.pad_sequence(
            [x[a:b] for a, b in pairwise(offsets)],
            batch_first=True,
            padding_value=9.0,
        )
        for x in (cas, attention)
    )
    t = torch.from_numpy(lengths)
    close(classification_scores(padded_cas, t), data["out/vid_score"])
    activation = padded_cas * padded_attention
    mask = torch.arange(activation.shape[1]) < t[:, None]
    video_scores = class_scores(activation, mask, method.config.pool_divisor)
    close(video_scores, data["out/cls_score"])
    scores = [
        SnippetScores(
            name,
            activation[i, :n, :-1].numpy(),
            padded_attention[i, :n, 0].numpy(),
            video_scores[i].numpy(),
            TimeAxis.uniform(int(n), RATE),
        )
        for i, (name, n) in enumerate(zip(names, lengths, strict=True))
    ]
    found = method.localize(scores)
    start, end = found.start * RATE, found.end * RATE
    np.testing.assert_allclose(start, np.round(start), atol=1e-9)
    np.testing.assert_allclose(end, np.round(end), atol=1e-9)
    truth = Annotations.of(
        method.classes,
        [
            Video(
                name,
                ignored=np.stack([data["in/ambiguous_start"], data["in/ambiguous_end"]], 1)[
                    data["in/ambiguous_video"] == i
                ],
            )
            for i, name in enumerate(names)
        ],
    )
    keep = ~touches_ignored(found, truth)
    columns = np.stack([found.label, np.round(start), np.round(end), found.score], 1)[keep]
    assert np.array_equal(np.bincount(found.video[keep], minlength=len(names)), data["out/lengths"])
    assert np.array_equal(columns[:, :3], data["out/proposals"][:, :3])
    np.testing.assert_allclose(columns[:, 3], data["out/proposals"][:, 3], rtol=1e-5, atol=1e-6)


def draw(data: Arrays, path: Path) -> None:
    lengths, size = data["in/lengths"], int(data["in/num_segments"])
    ends = np.cumsum(data["in/class_lengths"])[:-1]
    lists = VideoLists(dict(enumerate(np.split(data["in/class_videos"], ends))), data["in/trainidx"])
    rng = np.random.RandomState(int(data["in/seed"]))
    batch = data["out/batch_video"]
    video = draw_videos(rng, lists, pairs=3, batch_size=len(batch))
    assert np.array_equal(video, batch)
    assert np.array_equal(perturbed_rows(lengths[video], size, rng), data["out/batch_snippet"])
    classes, m = data["out/exemplar_video"].shape
    exemplar, rows = draw_exemplars(rng, lists, lengths, classes, m, size)
    assert np.array_equal(exemplar, data["out/exemplar_video"])
    assert np.array_equal(rows, data["out/exemplar_snippet"])


def sampling(data: Arrays, path: Path) -> None:
    for size in data["in/num_segments"]:
        for i, length in enumerate(data["in/lengths"]):
            rng = np.random.RandomState(int(data["in/seed"]))
            found = perturbed_rows([length], int(size), rng)[0]
            assert np.array_equal(uniform_rows([length], int(size))[0], data[f"out/uniform_{size}"][i])
            assert np.array_equal(found, data[f"out/random_{size}"][i]), (size, length)


def evaluation(data: Arrays, path: Path) -> None:
    # detections are made in snippets and kept in seconds: back on the grid they are whole numbers again
    protocol = replace(get_protocol("wtalc").published(), snap=1e-6)
    truth = {k: data[f"in/gt_{k}"] for k in ("video", "start", "end", "label")}
    assert np.array_equal(
        np.sort(protocol.truth_times(truth["start"])), np.sort(data["out/gt_start_snippet"])
    )
    assert np.array_equal(np.sort(protocol.truth_times(truth["end"])), np.sort(data["out/gt_end_snippet"]))
    predicted = {k: data[f"in/pr_{k}"] for k in ("video", "start", "end", "label", "score")}
    videos = int(max(truth["video"].max(), predicted["video"].max())) + 1
    labels = int(max(truth["label"].max(), predicted["label"].max())) + 1
    names, classes = [f"v{i}" for i in range(videos)], [f"c{i}" for i in range(labels)]
    annotations = Annotations.of(
        classes,
        [
            Video(
                name, instances=Instances(*(truth[k][truth["video"] == i] for k in ("start", "end", "label")))
            )
            for i, name in enumerate(names)
        ],
    )
    found = Detections(
        tuple(names),
        tuple(classes),
        predicted["video"],
        predicted["start"] / RATE,
        predicted["end"] / RATE,
        predicted["label"],
        predicted["score"],
    )
    result = evaluate(found, annotations, protocol, tiou=data["in/tiou"].tolist())
    np.testing.assert_allclose(result.ap, data["out/ap"], atol=1e-9)
    np.testing.assert_allclose(result.mean_ap, data["out/mAP"], atol=1e-9)
    found_map = classification_map(data["in/conf"], data["in/video_label"], nan_classes=True)
    np.testing.assert_allclose(100 * found_map, data["out/cmap"], rtol=1e-6)


CHECKS: dict[str, Callable[[Arrays, Path], None]] = {
    "forward": forward,
    "act_forward": forward,
    "losses": loss_terms,
    "act_losses": loss_terms,
    "train": training,
    "inference": inference,
    "draw": draw,
    "sampling": sampling,
    "evaluation": evaluation,
}
