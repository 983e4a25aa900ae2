"""An epoch of ISSF: packed batches against one video at a time, the same mathematics.

usage: python benchmarks/issf.py [--videos 200] [--dim 128] [--threads 2] [--repeats 5] [--device cpu]

The reference below follows the published procedure: each video alone through the network, its loss
back-propagated on its own, gradients summed over ten videos. Both sides see the same videos, weights and
memory. Losses and gradients are compared with dropout off, the epoch is timed as it is trained, with dropout.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from weaktal.core import WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.issf import ISSF, ISSFConfig, memory_momentum
from weaktal.methods.protocol import TrainingData


def make_data(videos: int, dim: int, classes: int = 20, seed: int = 0) -> TrainingData:
    """Random features with lengths like THUMOS14's training videos (median 235, mean 326 snippets).

    Values are like those behind a ReLU: of others, products in a softmax may underflow, which is slow.
    """
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(235), 0.8, videos), 20, 2202).astype(int)
    arrays = [np.maximum(0.1 + 0.25 * rng.standard_normal((n, dim), np.float32), 0) for n in lengths]
    names = [f"v{i}" for i in range(videos)]
    weak = tuple(WeakVideo(n, tuple(rng.choice(classes, rng.integers(1, 3), replace=False))) for n in names)
    bank = FeatureBank.of(names, arrays, 25 / 16)
    return TrainingData(bank, WeakLabels(tuple(map(str, range(classes))), weak))


# -- one video at a time ------------------------------------------------------------------------------------


def plain_unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=-1, keepdim=True) + 1e-9)


def plain_attend(query: Tensor, keys: Tensor) -> Tensor:
    return torch.softmax(query @ keys.T, dim=1) @ keys


def plain_head(method: ISSF, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    net, s = method.network, method.config.scale
    ac, fg = plain_unit(net.ac_center), plain_unit(net.fg_center)
    attention = torch.sigmoid(s * plain_unit(x) @ fg.T)[:, 0]
    weights = torch.sigmoid(s * plain_unit(x) @ ac.T)
    agnostic = plain_unit((x * attention[:, None]).sum(0) / (attention.sum() + 1e-5))
    classwise = plain_unit((weights.T @ x) / (weights.sum(0)[:, None] + 1e-5))
    logits = s * plain_unit(x) @ ac.T
    p_agnostic = torch.softmax(s * agnostic @ ac.T, dim=0)
    p_classwise = torch.softmax(s * (classwise * ac).sum(1), dim=0)
    return p_agnostic, p_classwise, attention, logits


def plain_video(method: ISSF, x: Tensor, label: Tensor, classes: list[int], epoch: int) -> Tensor:
    """The total loss of one video; reads and updates the memory."""
    net, c = method.network, method.config
    length = len(x)
    e = F.dropout(torch.relu(net.feature_embedding[0](x)), c.dropout)
    jump = (e - torch.cat([torch.zeros_like(e[:1]), e[:-1]])).abs().sum(1)
    top = jump.topk(max(int(length * c.salient_ratio) - 1, 0)).indices
    salient = sorted({int(i) % length for t in top.tolist() for i in (t, t - 1)})
    rest = sorted(set(range(length)) - set(salient))
    f, r = e[salient], e[rest]
    f_gated = f + torch.softmax(net.channel_weights(f), dim=1) * f
    answer = plain_attend(e, f_gated) if salient else torch.zeros_like(e)
    r_gated = r + torch.softmax(net.channel_back_weights(r), dim=1) * r
    other = plain_attend(e, r_gated) if rest else torch.zeros_like(e)
    refined = (1 - c.nonsalient_weight) * answer + c.nonsalient_weight * other
    views = [(plain_head(method, e), 1.0), (plain_head(method, refined), 1.0)]
    target = views[1][0][3]
    if epoch >= c.memory_start:
        memory = plain_head(method, plain_attend(refined, method.memory.read(classes)))
        with torch.no_grad():
            scores = torch.softmax(c.scale * plain_unit(f) @ plain_unit(net.ac_center).T, dim=1)[:, :-1]
            method.memory.update(
                classes, f.detach(), scores, memory_momentum(epoch, c.epochs, c.momentum_start)
            )
        views.append((memory, c.memory_weight))
        target = c.memory_target_share * memory[3] + (1 - c.memory_target_share) * target
    fore, back = torch.cat([label, label.new_zeros(1)]), torch.cat([label, label.new_ones(1)])
    fore, back = fore / (fore.sum() + 1e-8), back / (back.sum() + 1e-8)
    total = torch.zeros(())
    for (agnostic, classwise, _, _), weight in views:
        total = total - weight * (fore * agnostic.log()).sum()
        total = total - weight * c.back_weight * (back * classwise.log()).sum()
    _, _, attention, logits = views[0][0]
    k = max(length // 8, 1)
    low, high = attention.topk(k, largest=False).values, attention.topk(k).values
    total = total + c.attention_weight * (low.mean() - high.mean())
    soft = torch.softmax(target.detach() / c.temperature, dim=1)
    spl = -(soft * torch.log_softmax(logits / c.temperature, dim=1)).sum(1).mean()
    return total + (c.spl_weight_memory if epoch >= c.memory_start else c.spl_weight) * spl


def plain_step(method: ISSF, names: Sequence[str], data: TrainingData, epoch: int) -> float:
    """Gradients of the sum of these videos' losses, and the sum."""
    total = 0.0
    for v in map(data.bank.names.index, names):
        x = data.bank.data[data.bank.offsets[v] : data.bank.offsets[v + 1]]
        label = data.labels[v]
        loss = plain_video(method, x, label, [0] * int(label.sum()), epoch)
        loss.backward()
        total += loss.item()
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=200)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5, help="every step counts with its best time")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = make_data(args.videos, args.dim)
    data = TrainingData(data.bank.to(torch.device(args.device)), data.weak)

    def build(config: ISSFConfig) -> ISSF:
        torch.manual_seed(0)
        method = ISSF(config, dim=args.dim, classes=data.weak.classes).to(args.device).train()
        method.fill_memory(data)
        return method

    config = ISSFConfig()
    ours, plain = build(config), build(config)
    first = config.memory_start * args.videos // config.batch_size
    steps = args.videos // config.batch_size

    def wait() -> None:
        if args.device != "cpu":
            torch.cuda.synchronize()

    def check() -> None:
        """Loss and gradient of one step without dropout, both ways."""
        batch = ours.draw(0, first, data)
        mine = build(ISSFConfig(dropout=0.0))
        theirs = copy.deepcopy(mine)
        loss = mine.training_step(batch)["total"]
        loss.backward()
        reference = plain_step(theirs, batch.names, data, config.memory_start)
        worst = max(
            float((a.grad - b.grad).norm() / b.grad.norm())
            for a, b in zip(mine.network.parameters(), theirs.network.parameters(), strict=True)
        )
        print(f"loss {loss.item():.4f} against {reference:.4f}; gradients differ by {worst:.1e} at most")

    check()
    # both sides step by step in turn, and the best of the repeats of every step: other work on the machine
    # then disturbs neither side more than the other
    sides = {"one video at a time": plain, "batches": ours}
    optimizers = {name: method.optimizer(0) for name, method in sides.items()}
    times = {name: np.full(steps, np.inf) for name in sides}
    for _ in range(args.repeats):
        for step in range(steps):
            for name, method in sides.items():
                optimizer = optimizers[name]
                wait()
                start = time.perf_counter()
                batch = ours.draw(0, first + step, data)
                optimizer.zero_grad()
                if method is plain:
                    plain_step(plain, batch.names, data, config.memory_start)
                else:
                    ours.training_step(batch)["total"].backward()
                optimizer.step()
                wait()
                times[name][step] = min(times[name][step], time.perf_counter() - start)
    for name, seconds in times.items():
        print(f"{name}: {seconds.sum():.2f} s an epoch of {args.videos} videos")
    print(f"ratio {times['one video at a time'].sum() / times['batches'].sum():.2f}")


if __name__ == "__main__":
    main()
