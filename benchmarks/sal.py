"""SAL: what factored gradients save of a training step; trainings from the published initial weights.

usage: python benchmarks/sal.py [--parts step] [--hidden 512] [--dim 2048] [--threads 2] [--steps 5]
       python benchmarks/sal.py --parts train --data DATA.yaml --hidden 128 [--start 1] [--seeds 1 2 3]

step   time and peak memory of a step (draw, forward, backward, Adam) with `FactoredAdam` and with its twin
       `adam_naive`, each in a process of its own, whose peak resident memory is printed (weights, Adam state
       and libraries included). The first step, which allocates, does not count. "CPU" is the time of all
       threads and of the kernel on their behalf
train  mAP on a data set after the recipe's whole schedule, from the initial weights that the published code
       has under the seed `--start` (its modules are made in the same order with the same rules), one run for
       each seed of everything else: batches, snippets, dropout

`Plain` is the published step, operation by operation: the mixed videos go through the actionness convolutions
of their own, snippets are drawn one at a time. `training.py` compares with it.
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

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from weaktal.core import WeakLabels, WeakVideo
from weaktal.dataset import Dataset
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import TrainingData
from weaktal.methods.sal import SAL, SALConfig
from weaktal.nn.factored import adam_naive
from weaktal.train import fit, training_data
from weaktal.train.measure import Measure

CLASSES = 20


def make_data(dim: int, videos: int = 8, seed: int = 0) -> TrainingData:
    """Random features, 200 to 1200 snippets a video, one class each."""
    rng = np.random.default_rng(seed)
    arrays = [rng.random((n, dim), dtype=np.float32) for n in rng.integers(200, 1200, videos)]
    names = [f"v{i}" for i in range(videos)]
    weak = tuple(WeakVideo(n, (int(rng.integers(CLASSES)),)) for n in names)
    return TrainingData(
        FeatureBank.of(names, arrays, 25 / 16), WeakLabels(tuple(map(str, range(CLASSES))), weak)
    )


# -- the plain step -----------------------------------------------------------------------------------------


class Plain(nn.Module):
    """The network as the paper draws it, with the parameter names of the official checkpoints."""

    def __init__(self, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.half = dim // 2

        def embed(inputs: int) -> nn.Sequential:
            return nn.Sequential(nn.Conv1d(inputs, hidden, 3, padding=1), nn.ReLU(), nn.Dropout(dropout))

        self.encoder, self.action_rgb, self.action_flow = embed(dim), embed(dim // 2), embed(dim // 2)
        self.cls = nn.Sequential(nn.Conv1d(hidden, CLASSES, 1))
        self.cls_rgb = nn.Sequential(nn.Conv1d(hidden, 1, 1))
        self.cls_flow = nn.Sequential(nn.Conv1d(hidden, 1, 1))
        self.fc = nn.Linear(hidden**2, CLASSES)
        self.fc1 = nn.Linear(hidden**2, hidden)
        nn.init.kaiming_normal_(self.fc1.weight)
        nn.init.zeros_(self.fc1.bias)
        self.mean, self.variance = 1 / CLASSES, 1.0

    def descriptor(self, z: Tensor) -> Tensor:
        m = torch.bmm(z, z.transpose(1, 2)) / z.shape[2] ** 2
        m = m.reshape(len(z), -1)
        return F.normalize(torch.sign(m) * torch.sqrt(torch.abs(m) + 1e-5))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = x.transpose(1, 2)
        rgb, flow = x[:, : self.half], x[:, self.half :]
        before = [b - 1 for b in range(len(x))]
        embedded_flow, embedded_rgb = self.action_flow(flow), self.action_rgb(rgb)
        mixed_flow = torch.sigmoid(self.cls_flow(self.action_flow(flow + flow[before])))
        mixed_rgb = torch.sigmoid(self.cls_rgb(self.action_rgb(rgb + rgb[before])))
        a_flow, a_rgb = torch.sigmoid(self.cls_flow(embedded_flow)), torch.sigmoid(self.cls_rgb(embedded_rgb))
        a = 0.9 * a_flow + 0.1 * a_rgb
        e = self.encoder(x)
        q = self.descriptor(e)
        scores = [self.fc(d) for d in (q, self.descriptor(embedded_flow), self.descriptor(embedded_rgb))]
        enriched = e + torch.einsum("bh,bt->bht", self.fc1(q), a[:, 0])
        cas = self.cls(enriched).transpose(1, 2)
        return (
            cas,
            (1 - a).transpose(1, 2) * cas,
            a,
            a_flow[:, 0],
            a_rgb[:, 0],
            mixed_flow[:, 0],
            mixed_rgb[:, 0],
            *scores,
        )


def plain_gce(s: Tensor, y: Tensor, m: Tensor) -> Tensor:
    positive, negative = (y * m).sum(1) + 1e-7, ((1 - y) * m).sum(1) + 1e-7
    first = (m * y * (1 - (s + 1e-7) ** 0.5) / 0.5).sum(1) / positive
    second = (m * (1 - y) * (1 - (1 - s + 1e-7) ** 0.5) / 0.5).sum(1) / negative
    return first.mean() + second.mean()


def plain_ce(z: Tensor, y: Tensor) -> Tensor:
    y = y / y.sum(1, keepdim=True) + 1e-10
    return -(y * F.log_softmax(z, 1)).sum(1).mean()


def plain_loss(net: Plain, x: Tensor, labels: Tensor) -> Tensor:
    cas, background, a, flow, rgb, mixed_flow, mixed_rgb, *scores = net(x)
    t, before = cas.shape[1], [b - 1 for b in range(len(x))]
    combined = (cas.softmax(-1) + flow[..., None] + rgb[..., None]) / 3
    top = cas.gather(1, combined.topk(t // 8, 1).indices).mean(1)
    top_background = background.gather(1, background.softmax(-1).topk(t // 8, 1).indices).mean(1)
    p = top_background.softmax(1)
    uniform = torch.full_like(p, 1 / CLASSES)
    spread = 10 * (uniform * (uniform.log() - p.log())).sum() / len(x)
    active, sure = x.new_zeros(len(x), t), x.new_zeros(len(x), t)
    for b in range(len(x)):
        active[b, a[b, 0].topk(t // 8 + 17).indices] = 1
        sure[b, F.relu(cas[b]).sum(1).topk(t // 2).indices] = 1
    y = active * sure
    confidence = cas.softmax(-1).max(-1).values.detach()
    net.mean = 0.7 * net.mean + 0.3 * confidence.mean().item()
    net.variance = 0.7 * net.variance + 0.3 * confidence.var().item()
    mask = torch.exp(-(torch.clamp(confidence - net.mean, max=0) ** 2) / (2 * net.variance / 4))
    y_mixed, mask_mixed = ((y + y[before]) > 0).float(), (mask + mask[before]) / 2
    act = plain_gce(flow, y, mask) + plain_gce(rgb, y, mask)
    mix = plain_gce(mixed_flow, y_mixed, mask_mixed) + plain_gce(mixed_rgb, y_mixed, mask_mixed)
    consistency = 5 * F.mse_loss(rgb, flow)
    semantic = 3 * (plain_ce(scores[0], labels) + plain_ce(scores[1], labels) + plain_ce(scores[2], labels))
    return plain_ce(top, labels) + consistency + spread + act + semantic + mix


def plain_rows(rng: np.random.Generator, length: int, size: int) -> list[int]:
    base = [i * length / size for i in range(size)]
    rows = []
    for i in range(size):
        low = int(base[i])
        high = int(base[i + 1]) if i < size - 1 else length - 1
        rows.append(int(rng.integers(low, high + 1)) if high > low else low)
    return rows


# -- measuring ----------------------------------------------------------------------------------------------


def step(args: argparse.Namespace) -> dict[str, float]:
    data = make_data(args.dim)
    torch.manual_seed(0)
    config = SALConfig(hidden=args.hidden, segments=args.snippets, batch_size=args.batch)
    net = SAL(config, dim=args.dim, classes=data.weak.classes).train()
    optimizer = net.optimizer(0)
    if args.child == "naive":
        net.fc1.factored = False
        optimizer = adam_naive(net, lr=config.lr, weight_decay=config.weight_decay)
    wall, cpu = [], []
    for i in range(args.steps + 1):
        begin, used = time.perf_counter(), time.process_time()
        loss = net.training_step(net.draw(0, i, data))["total"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        wall.append(time.perf_counter() - begin)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {"wall": statistics.median(wall[1:]), "cpu": statistics.median(cpu[1:]), "peak": peak}


def train(args: argparse.Namespace) -> None:
    dataset = Dataset.load(args.data)
    measure = Measure(dataset)
    for seed in args.seeds:
        data = training_data(dataset, "video", seed=seed)
        torch.manual_seed(args.start)
        method = SAL(SALConfig(hidden=args.hidden), dim=data.bank.dim, classes=data.weak.classes)
        with tempfile.TemporaryDirectory() as out:
            fit(method, data, out, device="cpu")
        found = measure(method.eval())
        print(f"start {args.start}, seed {seed}: " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))


def in_child(which: str) -> dict[str, float]:
    command = [sys.executable, __file__, *sys.argv[1:], "--child", which]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=["step"], choices=["step", "train"])
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--dim", type=int, default=2048)
    parser.add_argument("--snippets", type=int, default=750)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--data", help="data set description, for the part train")
    parser.add_argument("--start", type=int, default=1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        print(json.dumps(step(args)))
        return
    print(
        f"H {args.hidden}, D {args.dim}, T {args.snippets}, batch {args.batch}, {args.threads} threads, "
        f"torch {torch.__version__}"
    )
    if "train" in args.parts:
        train(args)
    if "step" in args.parts:
        naive, ours = in_child("naive"), in_child("factored")
        for which, found in (("whole gradients", naive), ("factored", ours)):
            print(
                f"step, {which}: {found['wall']:.2f} s, CPU {found['cpu']:.2f} s, "
                f"peak {found['peak']:.2f} GiB"
            )
        print(
            f"ratio: {naive['wall'] / ours['wall']:.2f} times faster, {naive['cpu'] / ours['cpu']:.2f} times "
            f"less CPU, {1024 * (naive['peak'] - ours['peak']):.0f} MiB less"
        )


if __name__ == "__main__":
    main()
