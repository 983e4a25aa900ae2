"""STCL-Net: a training step and inference against plain implementations of the published procedure.

usage: python benchmarks/stcl_net.py [--parts equal step inference] [--dim 2048] [--threads 2] ...

The plain step below does what the published one does: exemplars are sampled snippet by snippet in Python,
all of their snippets go through the network with gradients, class by class, and the class context of every
snippet is built in a loop over classes. At published size it needs nearly 20 GiB. Every measurement runs in
a process of its own, whose peak resident memory is printed (weights, Adam state and libraries included).

equal      loss and gradients of one step, both ways; without dropout, so that they can be compared
step       time and peak memory of a step at published size: draw, forward, backward, Adam; with dropout
inference  210 videos with exemplars from the cache, and with exemplars drawn for every video; measured on
           `--cached-videos` and `--drawn-videos` of them and scaled to 210
draws      `--parts draws --run RUN --data DATA.yaml`: how a trained run scores with its stored exemplars and
           with exemplars drawn for every test video (protocol wtalc)
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weaktal.core import WeakLabels, WeakVideo
from weaktal.dataset import Dataset
from weaktal.evaluate import classification_map, evaluate
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import TrainingData, whole_videos
from weaktal.methods.stcl_net import ExemplarBatch, Output, STCLNet, STCLNetConfig, STCLNetwork, losses
from weaktal.nn.dropout import Dropout
from weaktal.nn.temporal_conv import Conv1d
from weaktal.train import Run, inference_bank, training_data
from weaktal.train.inference import score_videos, whole_batches

TEST_VIDEOS = 210
CLASSES = 20


def make_data(dim: int, videos: int = 40, seed: int = 0) -> TrainingData:
    """Random features, 200 to 600 snippets a video, ten videos of every class."""
    rng = np.random.default_rng(seed)
    arrays = [rng.random((n, dim), dtype=np.float32) for n in rng.integers(200, 600, videos)]
    names = [f"v{i}" for i in range(videos)]
    per_video = CLASSES * 10 // videos
    weak = tuple(
        WeakVideo(n, tuple((i * per_video + j) % CLASSES for j in range(per_video)))
        for i, n in enumerate(names)
    )
    return TrainingData(
        FeatureBank.of(names, arrays, 25 / 16), WeakLabels(tuple(map(str, range(CLASSES))), weak)
    )


# -- the plain step -----------------------------------------------------------------------------------------


def plain_sampling(rng: np.random.Generator, length: int, size: int) -> list[int]:
    if length == size:
        return list(range(length))
    base = [i * length / size for i in range(size)]
    rows = []
    for i in range(size):
        low = int(base[i])
        high = int(base[i + 1]) if i < size - 1 else length - 1
        rows.append(int(rng.integers(low, high + 1)) if high > low else low)
    return rows


def plain_trunk(net: STCLNetwork, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rgb, flow = x.chunk(2, 1)
    filtered, attentions = [], []
    for unit, own, other in ((net.vAttn, rgb, flow), (net.fAttn, flow, rgb)):
        channel = unit.channel_conv(own.mean(2, keepdim=True))
        y = torch.sigmoid(unit.bit_wise_attn(other) * channel) * own
        filtered.append(y)
        attentions.append(torch.sigmoid(unit.attention(y)))
    v, f = attentions
    return (v + f) / 2, v, f, net.fusion(torch.cat(filtered, 1))


def plain_exemplars(method: STCLNet, drawn: Iterable[Tensor]) -> Tensor:
    """Exemplars (C + 1, D, M) from the snippets (M, S, D) that are drawn of every class."""
    net = method.network
    foreground, background = [], []
    for c, snippets in enumerate(drawn):
        x, size = snippets.transpose(1, 2), snippets.shape[1]
        attention, _, _, feat = plain_trunk(net, x)
        cas = net.classifier(feat)
        low = cas.min(1, keepdim=True).values
        scores = attention * (cas - low) + low
        fore, back = [], []
        for m in range(len(x)):
            fore.append(feat[m][:, scores[m, c].topk(size // 10).indices].mean(1))
            back.append(feat[m][:, cas[m, -1].topk(size // 10).indices].mean(1))
        foreground.append(torch.stack(fore, 1))
        background.append(torch.stack(back, 1))
    return torch.stack([*foreground, torch.stack(background).mean(0)])


def plain_related(net: STCLNetwork, x: Tensor, exemplars: Tensor) -> Tensor:
    k, v = net.inter_vid_conv1_k(x), net.inter_vid_conv1_v(x)
    contexts, logits = x.new_empty(len(x), x.shape[1], x.shape[2], 0), x.new_empty(len(x), 1, x.shape[2], 0)
    for e in exemplars:
        keys, values = net.inter_exem_conv1_k(e[None])[0], net.inter_exem_conv1_v(e[None])[0]
        rows = []
        for b in range(len(x)):
            similar = F.normalize(k[b], dim=0).T @ F.normalize(keys, dim=0)
            rows.append(values @ similar.softmax(1).T)
        r = torch.stack(rows)
        g = net.clswise_atn_conv(r)
        contexts, logits = torch.cat([contexts, r[..., None]], -1), torch.cat([logits, g[..., None]], -1)
    return torch.cat([v, (contexts * logits.softmax(-1)).sum(-1)], 1)


def plain_forward(method: STCLNet, x: Tensor, exemplars: Tensor) -> Output:
    net, config = method.network, method.config
    attention, v, f, feat = plain_trunk(net, x.transpose(1, 2))
    origin = net.classifier(feat)
    y = feat
    for key, value in (
        (net.intra_temp_conv1_k, net.intra_temp_conv1_v),
        (net.intra_temp_conv2_k, net.intra_temp_conv2_v),
    ):
        keys, values = F.normalize(key(y), dim=1), value(y)
        y = F.relu(values + values @ (keys.transpose(1, 2) @ keys).softmax(1))
    intra = net.intra_temp_classifier(y)
    inter = net.inter_temp_classifier(F.relu(plain_related(net, feat, exemplars)))
    mixed = config.mix[0] * origin + config.mix[1] * intra + config.mix[2] * inter
    return Output(*(t.transpose(1, 2) for t in (feat, mixed, origin, intra, inter, attention, v, f)))


def plain_topk(logits: Tensor, labels: Tensor, background: float, ratio: int) -> Tensor:
    y = torch.cat([labels, labels.new_full((len(labels), 1), background)], 1)
    y = y / (y.sum(1, keepdim=True) + 1e-4)
    total = logits.new_zeros(())
    for b in range(len(logits)):
        pooled = logits[b].topk(max(1, logits.shape[1] // ratio), 0).values.mean(0)
        total = total - (y[b] * pooled.log_softmax(0)).sum()
    return total / len(logits)


def plain_window(active: np.ndarray, before: int, after: int, erode: bool) -> np.ndarray:
    padded = np.concatenate([np.zeros(before), active, np.zeros(after)])
    pick = np.min if erode else np.max
    return np.array([pick(padded[t : t + before + after + 1]) for t in range(len(active))])


def plain_mining(a: np.ndarray, easy_mask: np.ndarray) -> tuple[np.ndarray, ...]:
    active = (a > np.median(a)).astype(np.float64)
    inner = plain_window(active, 1, 1, True) - plain_window(active, 3, 2, True)
    outer = plain_window(active, 2, 3, False) - plain_window(active, 1, 1, False)
    easy, hard = len(a) // 5, len(a) // 20
    scores = ((a * easy_mask, easy), ((a.max() - a) * easy_mask, easy), (a * inner, hard), (a * outer, hard))
    return tuple(np.argsort(-s, kind="stable")[:k] for s, k in scores)


def plain_losses(method: STCLNet, out: Output, labels: Tensor, easy_mask: Tensor) -> Tensor:
    c = method.config
    low = out.cas.min(2, keepdim=True).values
    low = out.attention * (out.cas - low) + low
    total = plain_topk(low, labels, 0.0, c.topk_ratio)
    for s in (out.cas, out.intra, out.origin, out.inter):
        total = total + plain_topk(s, labels, 1.0, c.topk_ratio)
    sequences = [s.softmax(-1) for s in (out.origin, out.intra, out.inter)]
    for p in sequences:
        for q in sequences:
            if p is not q:
                total = total + c.agreement_weight * (q * (q.log() - p)).mean()
    coactivity, shared = low.new_zeros(()), 0.0
    for i in range(0, 2 * c.pairs, 2):
        w = low[i : i + 2].softmax(1)
        high = [out.feat[i + j].T @ w[j] for j in range(2)]
        rest = [out.feat[i + j].T @ ((1 - w[j]) / (out.feat.shape[1] - 1)) for j in range(2)]

        def distance(a: Tensor, b: Tensor) -> Tensor:
            return 1 - (a * b).sum(0) / (a.norm(dim=0) * b.norm(dim=0))

        near = distance(high[0], high[1])
        both = labels[i] * labels[i + 1]
        for far in (distance(high[0], rest[1]), distance(high[1], rest[0])):
            coactivity = coactivity + 0.5 * (F.relu(near - far + 0.5)[:-1] * both).sum()
        shared += float(both.sum())
    total = total + c.coactivity_weight * coactivity / shared
    v, f = out.rgb_attention, out.flow_attention
    mutual = 0.5 * F.mse_loss(v, f.detach()) + 0.5 * F.mse_loss(f, v.detach())
    total = total + c.mutual_weight * mutual
    background = out.cas.softmax(-1)[..., -1:]
    for a in (out.attention, v, f):
        total = total + c.norm_weight * a.mean() / 3
        total = total + c.guide_weight * (1 - a - background).abs().mean() / 3
    contrast = low.new_zeros(())
    for b in range(len(out.feat)):
        rows = plain_mining(out.attention[b, :, 0].detach().cpu().numpy(), easy_mask[b].cpu().numpy())
        ea, eb, ha, hb = (out.feat[b][torch.from_numpy(r).to(out.feat.device)] for r in rows)
        for query, positive, negatives in ((ha, ea, eb), (hb, eb, ea)):
            q, p = F.normalize(query.mean(0), dim=0), F.normalize(positive.mean(0), dim=0)
            similar = torch.stack([q @ p, *(F.normalize(negatives, dim=1) @ q)]) / 0.07
            contrast = contrast - similar.log_softmax(0)[0]
    return total + c.contrast_weight * contrast / len(out.feat)


def plain_draw(method: STCLNet, data: TrainingData) -> tuple[Tensor, Tensor, Tensor]:
    """Features, labels and exemplar snippets of a step, drawn one by one."""
    c, rng, bank = method.config, data.rng(0, 0), data.bank
    by_class = [np.flatnonzero(column) for column in data.weak.multi_hot().T]
    video = [v for k in rng.choice(len(by_class), c.pairs) for v in rng.choice(by_class[k], 2, replace=False)]
    video += list(rng.choice(len(bank), c.batch_size - 2 * c.pairs))

    def rows(v: int) -> list[int]:
        return [int(bank.offsets[v]) + r for r in plain_sampling(rng, int(bank.lengths[v]), c.snippets)]

    features = torch.stack([bank.data[rows(v)] for v in video])
    exemplars = [
        [rows(v) for v in rng.choice(videos, c.exemplar_videos, replace=False)] for videos in by_class
    ]
    return features, data.labels[video], torch.tensor(exemplars)


# -- measuring ----------------------------------------------------------------------------------------------


def build(args: argparse.Namespace, exemplar_videos: int, dropout: bool, plain: bool) -> STCLNet:
    inside = min(512, args.dim)
    config = STCLNetConfig(
        attention_dim=inside,
        key_dim=inside,
        snippets=args.snippets,
        batch_size=args.batch,
        exemplar_videos=exemplar_videos,
    )
    torch.manual_seed(0)
    method = STCLNet(config, dim=args.dim, classes=tuple(map(str, range(CLASSES))))
    if not dropout:
        without_dropout(method)
    if plain:
        with_usual_layers(method)
    return method.train()


def without_dropout(method: STCLNet) -> None:
    for module in method.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0


def with_usual_layers(method: STCLNet) -> None:
    """torch's dropout and convolutions in place of ours; the latter are for (B, C, T)."""
    for module in method.modules():
        if isinstance(module, Dropout):
            module.__class__ = nn.Dropout
        if isinstance(module, Conv1d):
            module.__class__ = nn.Conv1d


def child_equal(args: argparse.Namespace) -> dict[str, float]:
    data = make_data(args.dim)
    method = build(args, args.equal_videos, dropout=False, plain=args.child == "plain")
    batch = method.draw(0, 0, data)
    easy_mask = torch.ones(args.batch, args.snippets)
    if args.child == "plain":
        exemplars = plain_exemplars(method, (data.bank.data[rows] for rows in batch.exemplars))
        loss = plain_losses(method, plain_forward(method, batch.features, exemplars), batch.labels, easy_mask)
    else:
        exemplars = method.embed_exemplars(batch.exemplars, data.bank)
        out = method.network(batch.features, exemplars)
        loss = losses(out, batch.labels, method.config, easy_mask)["total"]
    loss.backward()
    grads = {n: p.grad for n, p in method.network.named_parameters() if p.grad is not None}
    save_file(grads, args.out)
    return {"loss": loss.item(), "parameters": len(grads)}


def child_step(args: argparse.Namespace) -> dict[str, float]:
    data = make_data(args.dim)
    plain = args.child == "plain"
    method = build(args, args.exemplar_videos, dropout=True, plain=plain)
    optimizer = method.optimizer(0)
    begin, cpu = time.perf_counter(), time.process_time()
    if plain:
        features, labels, snippets = plain_draw(method, data)
        exemplars = plain_exemplars(method, (data.bank.data[rows] for rows in snippets))
        out = plain_forward(method, features, exemplars)
        easy_mask = F.dropout(torch.ones(features.shape[:2]), 0.6)
        loss = plain_losses(method, out, labels, easy_mask)
    else:
        batch: ExemplarBatch = method.draw(0, 0, data)
        loss = method.training_step(batch)["total"]
    loss.backward()
    optimizer.step()
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "loss": loss.item()}


def child_inference(args: argparse.Namespace) -> dict[str, float]:
    data = make_data(args.dim)
    method = build(args, args.exemplar_videos, dropout=True, plain=False).eval()
    method.use_training_data(data)
    count = args.drawn_videos if args.child == "plain" else args.cached_videos
    rng = np.random.default_rng(1)
    # the mean length of a THUMOS14 test video
    arrays = [rng.random((329, args.dim), dtype=np.float32) for _ in range(count)]
    bank = FeatureBank.of([f"t{i}" for i in range(count)], arrays, 25 / 16)
    made = 0.0
    if args.child == "plain":
        method.config = method.config.model_copy(update={"exemplars": "per_video"})
    else:
        begin = time.perf_counter()
        method.make_exemplars(data)
        made = time.perf_counter() - begin
    begin, cpu = time.perf_counter(), time.process_time()
    for i in range(0, count, 10):
        videos = np.arange(i, min(i + 10, count))
        method.score(whole_videos(bank, videos, torch.zeros(len(videos), CLASSES)))
    share = TEST_VIDEOS / count
    seconds, cpu = share * (time.perf_counter() - begin), share * (time.process_time() - cpu)
    return {"seconds": seconds, "cpu": cpu, "making the cache": made}


def draws(run: Path, description: Path) -> None:
    """mAP with stored exemplars and with exemplars for every video, and how far scores move."""
    dataset = Dataset.load(description)
    opened = Run.open(run)
    training, bank = training_data(dataset, "video", seed=opened.config.seed), inference_bank(dataset)
    found = {}
    for name in ("cached", "per_video"):
        method = opened.method()
        assert isinstance(method, STCLNet)
        method.config = method.config.model_copy(update={"exemplars": name})
        method.use_training_data(training)
        found[name] = score_videos(method, bank)
        result = evaluate(method.localize(found[name]), dataset.subset("test"), "wtalc")
        shown = ", ".join(f"{100 * x:.2f}" for x in result.mean_ap)
        labels = np.zeros((len(bank), len(method.classes)))
        for row, video in zip(labels, bank.names, strict=True):
            row[list(dataset.subset("test").video(video).labels)] = 1
        classified = np.concatenate([method.classify(b).numpy()[:, :-1] for b in whole_batches(method, bank)])
        order = [bank.names.index(n) for b in whole_batches(method, bank) for n in b.names]
        score = 100 * classification_map(classified, labels[order])
        print(
            f"{name}: average mAP {100 * result.average:.3f} ({shown}); video classification mAP {score:.2f}"
        )
    pairs = list(zip(found["cached"], found["per_video"], strict=True))
    for what, column in (("activation", "cas"), ("class score", "video_scores"), ("attention", "foreground")):
        worst = max(float(np.abs(getattr(a, column) - getattr(b, column)).max()) for a, b in pairs)
        print(f"largest difference of {what}: {worst:.2g}")


CHILDREN = {"equal": child_equal, "step": child_step, "inference": child_inference}


def in_child(part: str, which: str, out: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", which, "--part", part, "--out", str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="STCL-Net against plain implementations")
    parser.add_argument(
        "--parts", nargs="+", default=["equal", "step", "inference"], choices=[*CHILDREN, "draws"]
    )
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--snippets", type=int, default=500)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--exemplar-videos", type=int, default=10)
    parser.add_argument("--equal-videos", type=int, default=2, help="exemplar videos per class for `equal`")
    parser.add_argument("--cached-videos", type=int, default=20)
    parser.add_argument("--drawn-videos", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--run", type=Path, help="for `draws`")
    parser.add_argument("--data", type=Path, help="for `draws`")
    for hidden in ("--child", "--part", "--out"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        found: dict[str, float] = CHILDREN[args.part](args)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({**found, "peak": peak}))
        return
    size = f"D {args.dim}, batch {args.batch}, T {args.snippets}, {CLASSES} classes, {args.threads} threads"
    for part in args.parts:
        if part == "draws":
            draws(args.run, args.data)
            continue
        with tempfile.TemporaryDirectory() as folder:
            out = {which: Path(folder) / f"{which}.safetensors" for which in ("plain", "ours")}
            plain, ours = (in_child(part, which, out[which]) for which in ("plain", "ours"))
            if part == "equal":
                a, b = load_file(out["ours"]), load_file(out["plain"])
                # a gradient that is zero in exact arithmetic (the bias of clswise_atn_conv) is compared with
                # the size of all
                size_of_all = torch.stack([g.norm() for g in b.values()]).norm()
                differ = {
                    n: float((a[n] - b[n]).norm() / b[n].norm().clamp(min=1e-5 * size_of_all)) for n in b
                }
                worst = max(differ, key=differ.__getitem__)
                print(
                    f"equal, {args.equal_videos} exemplar videos a class ({size}): loss {ours['loss']:.6f} "
                    f"against {plain['loss']:.6f}; gradients of {len(b)} parameters differ by "
                    f"{differ[worst]:.1e} at most ({worst}), {statistics.median(differ.values()):.1e} in the "
                    f"median; same parameters: {a.keys() == b.keys()}"
                )
                continue
        ratio, cpu_ratio = plain["seconds"] / ours["seconds"], plain["cpu"] / ours["cpu"]
        what = {
            "step": f"step, {args.exemplar_videos} exemplar videos a class ({size}): plain",
            "inference": f"{TEST_VIDEOS} videos (D {args.dim}; scaled from {args.drawn_videos} and "
            f"{args.cached_videos}): exemplars drawn for every video",
        }[part]
        print(
            f"{what} {plain['seconds']:.1f} s ({plain['cpu']:.1f} s of CPU), {plain['peak']:.1f} GiB; "
            f"ours {ours['seconds']:.1f} s ({ours['cpu']:.1f}), {ours['peak']:.1f} GiB; "
            f"{ratio:.1f} times faster ({cpu_ratio:.1f} in CPU time)"
        )
        if part == "inference":
            print(f"making the cache once: {ours['making the cache']:.1f} s")


if __name__ == "__main__":
    main()
