"""Golden checks of ISSF: sizes and settings are read from the files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tests.parity.compare import close, ragged, same_rows
from weaktal.core import Annotations, Detections, Instances, TimeAxis, Video
from weaktal.evaluate import evaluate, get_protocol, touches_ignored
from weaktal.features.sampling import uniform_rows
from weaktal.localize.nms import nms
from weaktal.methods.issf import (
    ISSF,
    ISSFBatch,
    ISSFConfig,
    Memory,
    attention_loss,
    memory_momentum,
    normalized_cross_entropy,
    soft_pseudo_label_loss,
)

Data = dict[str, np.ndarray]


def build(data: Data, prefix: str = "w/", **config: object) -> ISSF:
    weights = {k.removeprefix(prefix): v for k, v in data.items() if k.startswith(prefix)}
    return ISSF.from_published(weights, **config)


def batch_of(arrays: list[np.ndarray], labels: np.ndarray, epochs: Iterable[int]) -> ISSFBatch:
    lengths = [len(a) for a in arrays]
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(a) for a in arrays], batch_first=True)
    return ISSFBatch(
        padded,
        torch.tensor(lengths),
        torch.as_tensor(labels, dtype=torch.float32),
        tuple(str(i) for i in range(len(arrays))),
        tuple(TimeAxis.uniform(n, 25 / 16) for n in lengths),
        tuple(epochs),
    )


def forward(data: Data, path: Path) -> None:
    method = build(data).eval()
    lengths = data["lengths"].tolist()
    classes = len(method.classes)
    arrays = [data[f"t{n}/x"][0] for n in lengths]
    together = batch_of(arrays, np.zeros((len(arrays), classes)), [0] * len(arrays))
    alone = [batch_of([a], np.zeros((1, classes)), [0]) for a in arrays]
    with torch.no_grad():
        outs = [(method._embed(together), together, i, i) for i in range(len(arrays))]
        outs += [(method._embed(b), b, 0, i) for i, b in enumerate(alone)]
    scores = method.score(together)
    for out, batch, row, i in outs:
        with torch.no_grad():
            base, refined = (method._predict(x, batch) for x in (out.embedded, out.refined_features))
        t = f"t{lengths[i]}/"
        rows, salient = (
            slice(int(ends[row] - sizes[row]), int(ends[row]))
            for sizes, ends in ((x, np.cumsum(x)) for x in (batch.sizes, out.salient_sizes.numpy()))
        )
        close(out.embedded[rows], data[t + "embedded"][0])
        np.testing.assert_array_equal(out.salient_mask[rows], data[t + "salient_mask"][0])
        for view, name in ((base, "b"), (refined, "s")):
            close(view.agnostic[row].exp(), data[t + name + "_vid_ca"][0])
            close(view.classwise[row].exp(), data[t + name + "_vid_cw"][0])
            close(view.attention[rows], data[t + name + "_att"][0])
            close(view.logits[rows], data[t + name + "_frm"][0])
        close(out.refined_features[rows], data[t + "refined"][0])
        close(out.salient[salient], data[t + "salient"][0])
        close(method._salient_scores(out)[salient], data[t + "salient_pred"][0][:, :-1])
    for s, n in zip(scores, lengths, strict=True):
        close(s.cas, data[f"t{n}/test_frm_pred"][0][:, :-1])
        close(s.video_scores, data[f"t{n}/test_vid_pred"][0][:-1])


def losses(data: Data, path: Path) -> None:
    def tensor(key: str) -> Tensor:
        return torch.from_numpy(data[key])

    close(normalized_cross_entropy(tensor("nce_pred").log(), tensor("nce_label")).mean(), data["nce"])
    for name in ("att", "att_short"):
        x = tensor(name + "_in")
        close(attention_loss(x.flatten(), [x.shape[1]] * len(x)).mean(), data[name])
    spl = soft_pseudo_label_loss(tensor("spl_pred").flatten(0, 1), tensor("spl_target").flatten(0, 1), 0.2)
    close(spl.mean(), data["spl"])

    for prefix, epoch in (("nomem/", 0), ("mem/", 2)):
        method = build(data).eval()
        method.memory.features.copy_(tensor("mem_queue"))
        method.memory.scores.copy_(tensor("mem_score"))
        batch = batch_of([data["x"][0]], data["label"], [epoch])
        if epoch:
            used = data["mem/idxs_used"].tolist()
            assert used == [0] * int(data["label"].sum()), "the published class list"
            with torch.no_grad():
                out = method._embed(batch)
                features = method._memory_features(out, batch)
                view = method.network.predict(features, batch.sizes)
            close(features, data["mem/refined_by_memory"][0])
            close(view.agnostic.exp(), data["mem/m_vid_ca"])
            close(view.classwise.exp(), data["mem/m_vid_cw"])
            close(view.attention, data["mem/m_att"][0])
            close(view.logits, data["mem/m_frm"][0])
            method.memory.features.copy_(tensor("mem_queue"))
            method.memory.scores.copy_(tensor("mem_score"))
        got = method.training_step(batch)
        names = {"fore": "fore", "back": "back", "att": "attention", "spl": "spl", "total": "total"}
        for key, name in names.items():
            close(got[name], data[prefix + key])
        got["total"].backward()
        own = dict(method.network.named_parameters())
        for key in (k for k in data if k.startswith(prefix + "g/")):
            close(own[key.removeprefix(prefix + "g/")].grad, data[key], rtol=1e-4)


def memory(data: Data, path: Path) -> None:
    classes, slots, width = data["s0/queue"].shape
    bank = Memory(classes, slots, width)
    for k, (epoch, used) in enumerate(zip(data["epoch"], ragged(data, "cls_idx"), strict=True)):
        momentum = memory_momentum(int(epoch), 180, 86)
        np.testing.assert_allclose(momentum, data[f"s{k}/m"], rtol=1e-6)
        scores = torch.from_numpy(data[f"s{k}/score"])[:, :-1]
        bank.update(used.tolist(), torch.from_numpy(data[f"s{k}/feat"]), scores, momentum)
        close(bank.features, data[f"s{k}/queue"])
        close(bank.scores, data[f"s{k}/queue_score"])
    close(bank.read(data["return_idx"].tolist()), data["return"][0])


def train_run(data: Data, path: Path) -> None:
    """The published trainer: fixed order, gradients of a few videos summed; ours takes them as one batch."""
    lr, weight_decay, batch_size, epochs = data["cfg_lr_wd_batch_epochs"].tolist()
    labels = data["labels"]
    count, size = len(labels), int(batch_size)
    method = build(
        data,
        epochs=180,
        batch_size=size,
        lr=lr,
        weight_decay=weight_decay,
        dropout=0.0,
        memory_index="labelled" if "fixed_index" in path.stem else "published",
    )
    videos = [data[f"v{i}/x"] for i in range(count)]
    optimizer = method.optimizer(0)
    own = dict(method.network.named_parameters())
    start = {k: torch.from_numpy(v) for k, v in data.items() if k.startswith("w/")}
    visits = int(epochs) * count
    method.train()
    for step in range(visits // size):
        visit = step * size + np.arange(size)
        if visit[0] <= 2 * count <= visit[-1]:
            everything = batch_of(videos, labels, [0] * count)
            method.eval()
            with torch.no_grad():
                out = method._embed(everything)
                labelled = everything.labels.repeat_interleave(out.salient_sizes, dim=0) > 0
                method.memory.fill(
                    out.salient, method._salient_scores(out).masked_fill(~labelled, -torch.inf)
                )
            method.train()
            close(method.memory.features, data["mem_init/queue"], rtol=1e-4)
            close(method.memory.scores, data["mem_init/queue_score"], rtol=1e-4)
        place = visit % count
        batch = batch_of([videos[i] for i in place], labels[place], (visit // count).tolist())
        got = method.training_step(batch)
        for key, name in {
            "fore": "fore",
            "back": "back",
            "att": "attention",
            "spl": "spl",
            "total": "total",
        }.items():
            np.testing.assert_allclose(got[name].item(), data[f"loss_{key}"][visit].sum(), rtol=1e-4)
        optimizer.zero_grad()
        got["total"].backward()
        optimizer.step()
        for name, sums in zip(data["param_names"], data["param_checksum_after_step"][step], strict=True):
            # the parameters that the published forward never uses never move, and ours has none of them
            x = own.get(str(name), start[f"w/{name}"]).detach().double()
            np.testing.assert_allclose([x.sum(), x.abs().sum(), x.norm()], sums, rtol=1e-4, atol=1e-4)
        if visit[-1] >= 2 * count:
            sums = [method.memory.features.double().sum(), method.memory.scores.double().sum()]
            np.testing.assert_allclose(sums, data["mem_checksum_after_step"][step], rtol=1e-4, atol=1e-4)
    close(method.memory.features, data["mem_final/queue"], rtol=1e-3)
    close(method.memory.scores, data["mem_final/queue_score"], rtol=1e-3)
    for name, parameter in own.items():
        close(parameter, data[f"w_final/{name}"], rtol=1e-3)


def annotations_of(data: Data, classes: tuple[str, ...], names: list[str]) -> Annotations:
    """The ground truth and the ambiguous intervals of an inference file."""
    counts = np.cumsum(data["gt_segments_len"])[:-1]
    truth = zip(ragged(data, "gt_segments"), np.split(data["gt_labels"], counts), strict=True)
    ambiguous = [str(v) for v in data["amb_video"]]
    return Annotations.of(
        classes,
        [
            Video(
                name,
                duration=1000.0,
                instances=Instances(segments[:, 0], segments[:, 1], labels.astype(np.int64)),
                ignored=data["amb_seg"][[a == name for a in ambiguous]],
            )
            for name, (segments, labels) in zip(names, truth, strict=True)
        ],
    )


def inference(data: Data, path: Path) -> None:
    classes = data["vid_pred"].shape[1] - 1
    method = ISSF(
        ISSFConfig(
            thresholds=tuple(data["thresholds"].tolist()), class_threshold=float(data["class_threshold"])
        ),
        dim=4,
        classes=[str(c) for c in range(classes)],
    )
    np.testing.assert_allclose(ISSFConfig().thresholds, data["thresholds"], rtol=1e-12)
    videos = list(zip(ragged(data, "frm_pred"), data["vid_pred"], strict=True))
    found: list[list[tuple[float, ...]]] = [[] for _ in range(classes)]
    before, after = ragged(data, "nms_in"), ragged(data, "nms_keep")
    call = 0
    for c in range(classes):
        for v, (cas, scores) in enumerate(videos):
            if scores[c] < method.config.class_threshold:
                continue
            start, end, _, contrast = method.proposals(np.asarray(cas[None, :, c], np.float64))
            np.testing.assert_allclose(
                np.stack([np.full(len(start), v), start, end, contrast], 1),
                before[call],
                rtol=1e-5,
                atol=1e-6,
            )
            kept = nms(start, end, contrast, method.config.nms_threshold, overlap="own")
            # rows, not indices: the same run at two thresholds has the same score
            same_rows(np.stack([start[kept], end[kept], contrast[kept]], 1), before[call][after[call]][:, 1:])
            call += 1
            found[c] += [(v, start[i], end[i], contrast[i]) for i in kept]
    assert call == len(before)
    for mine, theirs in zip(found, ragged(data, "proposals_no_filter"), strict=True):
        same_rows(np.array(mine).reshape(-1, 4), theirs)

    names = [str(n) for n in data["video_names"]]
    annotations = annotations_of(data, method.classes, names)
    rows = np.concatenate([np.array(f).reshape(-1, 4) for f in found])
    label = np.repeat(np.arange(classes), [len(f) for f in found])
    detections = Detections(
        tuple(names),
        method.classes,
        rows[:, 0],
        rows[:, 1] * 16 / 25,
        rows[:, 2] * 16 / 25,
        label,
        rows[:, 3],
    )
    kept = detections[~touches_ignored(detections, annotations, snap=1e-6)]
    for c, theirs in enumerate(ragged(data, "proposals")):
        of_class = kept[kept.label == c]
        mine = np.stack([of_class.video, of_class.start * 25 / 16, of_class.end * 25 / 16, of_class.score], 1)
        same_rows(mine, theirs)

    for (size, wanted), index in zip(data["uniform_args"], ragged(data, "uniform_idx"), strict=True):
        np.testing.assert_array_equal(uniform_rows(np.array([size]), int(wanted))[0], index)

    protocol = replace(get_protocol("integer-grid").published(), ignore=False, snap=1e-6)
    result = evaluate(detections, annotations, protocol)
    np.testing.assert_allclose(100 * result.mean_ap, data["map_01_07"], rtol=1e-6, atol=1e-6)


CHECKS = {
    "forward": forward,
    "losses": losses,
    "memory": memory,
    "train_run": train_run,
    "inference": inference,
}
