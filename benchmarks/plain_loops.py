"""The plain training loops that `benchmarks/training.py` measures ours against, one for each method.

What the published code does in a step, and anyone's first version: read the files of every sample, choose its
snippets one by one, prepare in Python what the losses need, evaluate a network of torch's own layers, fetch
the loss, back-propagate, update. Written for these benchmarks from descriptions of the methods. The networks
take their initial weights from ours, and give the same loss on the same batch.

What is periodic (pseudo segments, the search, votes) is done for a share of the videos and scaled.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import asm_loc
import issf
import numpy as np
import plain_point
import sal
import stcl_net
import torch
from torch import Tensor, nn

from weaktal.methods.asm_loc import ASMLoc, SegmentBatch
from weaktal.methods.issf import ISSF
from weaktal.methods.lac import LAC, LACBatch
from weaktal.methods.protocol import Method, TrainingData
from weaktal.methods.sal import SAL
from weaktal.methods.stcl_net import STCLNet, losses
from weaktal.methods.tspnet import TSPNet, TSPNetBatch

# videos of which the periodic work is measured: at least one in this many
SHARE = 5


class PlainLoop:
    """A plain loop of a stage.

    Args:
        method: gives settings, initial weights, and what our own periodic work has found.
        data: names, labels and clicks; its features serve only to compare losses.
        folder: feature files, ``rgb/NAME.npy`` and ``flow/NAME.npy``.
        stage: of the method's schedule.
        device: where the network is.
    """

    net: nn.Module

    def __init__(
        self, method: Any, data: TrainingData, folder: Path, stage: int, device: torch.device
    ) -> None:
        self.method, self.data, self.folder, self.stage, self.device = method, data, folder, stage, device
        self.config, self.rng = method.config, np.random.default_rng(0)
        self.build()
        self.net.to(device).train()
        self.optimizer = torch.optim.Adam(
            self.net.parameters(), lr=1e-4, weight_decay=self.config.weight_decay
        )

    def build(self) -> None:
        """Make `net`."""
        raise NotImplementedError

    def draw(self, step: int) -> Any:
        """Read and prepare the samples of a step."""
        raise NotImplementedError

    def like(self, batch: Any) -> Any:
        """What `draw` would return for a batch of ours."""
        raise NotImplementedError

    def backward(self, drawn: Any) -> float:
        """The loss of a step; its gradients are added to the parameters."""
        loss = self.loss(drawn)
        loss.backward()
        return loss.item()

    def loss(self, drawn: Any) -> Tensor:
        raise NotImplementedError

    def periodic(self) -> float:
        """Do the periodic work for some videos; how many times as much all videos would be."""
        return 0.0

    def update(self, drawn: Any) -> float:
        """The rest of a step."""
        self.optimizer.zero_grad()
        loss = self.backward(drawn)
        self.optimizer.step()
        return loss

    def read(self, video: int) -> np.ndarray:
        name = f"{self.data.bank.names[video]}.npy"
        return np.concatenate([np.load(self.folder / "rgb" / name), np.load(self.folder / "flow" / name)], 1)

    def tensor(self, x: np.ndarray) -> Tensor:
        return torch.from_numpy(x).to(self.device)

    def rows_of(self, names: tuple[str, ...]) -> list[int]:
        return [self.data.bank.names.index(n) for n in names]

    def own(self, video: int) -> Tensor:
        """The features that our side has."""
        a, b = self.data.bank.offsets[video : video + 2]
        return self.data.bank.data[a:b].to(self.device)


class PlainASMLoc(PlainLoop):
    method: ASMLoc

    def build(self) -> None:
        classes = len(self.data.weak.classes)
        self.net: asm_loc.PlainNetwork = asm_loc.PlainNetwork(
            self.config, self.data.bank.dim, classes, self.stage > 0
        )
        self.net.load_state_dict(self.method.networks[self.stage].state_dict())
        # the published code keeps the weights of time in files; making them is not counted
        self.plan = self.method._plan(self.stage, self.data)
        self.scores = asm_loc.activations(self.data, self.config.snippets)
        self.segments: list[list[asm_loc.Segment]] = [[] for _ in range(len(self.data))]
        if self.plan is not None:
            found = self.plan.segments
            for v, c, s, e in zip(found.video, found.label, found.start, found.end, strict=True):
                self.segments[v].append((int(c), float(s), float(e)))

    def knots(self, video: int) -> np.ndarray | None:
        return None if self.plan is None else self.plan.knots(video)

    def boxes_and_labels(self, video: int) -> tuple[list[tuple[int, int]], np.ndarray]:
        c = self.config
        length = self.data.bank.axes[video].length
        classes = len(self.data.weak.classes)
        return asm_loc.plain_boxes_and_labels(
            self.segments[video], self.knots(video), length, c.snippets, classes, c.expansion
        )

    def draw(self, step: int) -> Any:
        c, videos = self.config, self.data.shuffled(step, self.config.batch_size, self.stage)
        features, boxes, targets = [], [], []
        for v in videos:
            x, knots = self.read(v), self.knots(v)
            if knots is not None:
                x = asm_loc.plain_warp(x, knots)
            features.append(asm_loc.plain_random(x, c.snippets, self.rng))
            if self.stage:
                of_video, labels = self.boxes_and_labels(v)
                boxes.append(of_video)
                targets.append(labels)
        x, y = self.tensor(np.stack(features)), self.data.labels[torch.from_numpy(videos)]
        return (x, y, boxes, self.tensor(np.stack(targets))) if self.stage else (x, y)

    def like(self, batch: Any) -> Any:
        if not isinstance(batch, SegmentBatch):
            return batch.features, batch.labels
        boxes, targets = zip(*(self.boxes_and_labels(v) for v in self.rows_of(batch.names)), strict=True)
        return batch.features, batch.labels, list(boxes), self.tensor(np.stack(targets))

    def loss(self, drawn: Any) -> Tensor:
        return asm_loc.plain_loss(self.net, *drawn)

    def periodic(self) -> float:
        if not self.stage:
            return 0.0
        # the network of the stage before is of the base step; it looks at evenly spaced snippets
        c, classes = self.config, len(self.data.weak.classes)
        before = asm_loc.PlainNetwork(c, self.data.bank.dim, classes, False).to(self.device).eval()
        before.load_state_dict(self.method.networks[0].state_dict())
        chosen = range(0, len(self.data), SHARE)
        for v in chosen:
            x = self.read(v)
            if len(x) > c.snippets:
                x = x[[int(i * len(x) / c.snippets) for i in range(c.snippets)]]
            with torch.no_grad():
                before(self.tensor(x)[None])
        # an untrained network finds nothing sensible; these are like the scores of a trained one
        asm_loc.plain_pseudo_segments(self.scores[::SHARE], c)
        return len(self.data) / len(chosen)


class PlainISSF(PlainLoop):
    method: ISSF

    def build(self) -> None:
        self.copy = copy.deepcopy(self.method)
        self.net = self.copy.network
        self.epoch = self.config.memory_start

    def draw(self, step: int) -> Any:
        batch, n = self.config.batch_size, len(self.data)
        videos = self.data.rng(step * batch // n).permutation(n)[
            np.arange(step * batch, step * batch + batch) % n
        ]
        return videos, [self.tensor(self.read(v)) for v in videos]

    def like(self, batch: Any) -> Any:
        videos = self.rows_of(batch.names)
        return videos, [self.own(v) for v in videos]

    def backward(self, drawn: Any) -> float:
        total = 0.0
        for v, x in zip(*drawn, strict=True):
            label = self.data.labels[int(v)]
            loss = issf.plain_video(self.copy, x, label, [0] * int(label.sum()), self.epoch)
            loss.backward()
            total += loss.item()
        return total


class PlainLAC(PlainLoop):
    method: LAC

    def build(self) -> None:
        dim, classes = self.data.bank.dim, len(self.data.weak.classes)
        self.net: plain_point.PlainLAC = plain_point.PlainLAC(self.config, dim, classes)
        self.net.load_state_dict(self.method.cls_module.state_dict())
        found = self.method.segments
        assert found is not None
        self.pseudo = [np.zeros((axis.length, classes), np.float32) for axis in self.data.bank.axes]
        for p, s, e, action in zip(found.pair, found.start, found.end, found.action, strict=True):
            video, c = self.method.pairs[p]
            self.pseudo[video][s:e, c] = action

    def sample(self, video: int, x: Tensor) -> tuple[Any, ...]:
        clicks = self.data.weak.videos[video].points
        assert clicks is not None
        points = plain_point.plain_click_matrix(
            clicks.time, clicks.label, len(x), len(self.data.weak.classes)
        )
        return x, self.data.labels[int(video)], points

    def any_of(self, low: int, high: int) -> int:
        return int(self.rng.integers(low, high))

    def draw(self, step: int) -> Any:
        videos = self.data.shuffled(step, self.config.batch_size, drop_last=True)
        return [(*self.sample(v, self.tensor(self.read(v))), self.pseudo[v], self.any_of) for v in videos]

    def like(self, batch: LACBatch) -> Any:
        """With the snippets that our side has drawn to stand for the segments."""
        drawn = []
        for b, v in enumerate(self.rows_of(batch.names)):
            group = batch.contrast_video == b
            rows = batch.contrast_rows[group][batch.contrast_mask[group]] - batch.lengths[:b].sum()
            known = iter(rows.flatten().tolist())
            drawn.append((*self.sample(v, self.own(v)), self.pseudo[v], lambda _low, _high, k=known: next(k)))
        return drawn

    def loss(self, drawn: Any) -> Tensor:
        total = [plain_point.plain_lac_loss(self.net, self.config, *sample) for sample in drawn]
        return torch.stack(total).mean()

    def periodic(self) -> float:
        self.net.eval()
        chosen, rows = range(0, len(self.data), SHARE), 0
        for v in chosen:
            x = self.tensor(self.read(v))
            plain_point.plain_lac_search(self.net, self.config, *self.sample(v, x))
            rows += len(x)
        self.net.train()
        return len(self.data.bank.data) / rows


class PlainSAL(PlainLoop):
    method: SAL

    def build(self) -> None:
        c = self.config
        self.net: sal.Plain = sal.Plain(self.data.bank.dim, c.hidden, c.dropout)
        known = self.net.state_dict().keys()
        self.net.load_state_dict({k: v for k, v in self.method.state_dict().items() if k in known})

    def draw(self, step: int) -> Any:
        videos, features = self.data.shuffled(step, self.config.batch_size), []
        for v in videos:
            x = self.read(v)
            features.append(x[sal.plain_rows(self.rng, len(x), self.config.segments)])
        return self.tensor(np.stack(features)), self.data.labels[torch.from_numpy(videos)]

    def like(self, batch: Any) -> Any:
        return batch.features, batch.labels

    def loss(self, drawn: Any) -> Tensor:
        return sal.plain_loss(self.net, *drawn)


class PlainSTCLNet(PlainLoop):
    method: STCLNet

    def build(self) -> None:
        self.copy = copy.deepcopy(self.method)
        stcl_net.with_usual_layers(self.copy)
        self.net = self.copy.network
        self.by_class = [np.flatnonzero(column) for column in self.data.weak.multi_hot().T]

    def sampled(self, video: int) -> np.ndarray:
        x = self.read(video)
        return x[stcl_net.plain_sampling(self.rng, len(x), self.config.snippets)]

    def draw(self, step: int) -> Any:
        c, rng = self.config, self.rng
        videos = [
            v
            for k in rng.choice(len(self.by_class), c.pairs)
            for v in rng.choice(self.by_class[k], 2, replace=False)
        ]
        videos += list(rng.choice(len(self.data), c.batch_size - 2 * c.pairs))
        x = self.tensor(np.stack([self.sampled(v) for v in videos]))
        exemplars = [
            self.tensor(
                np.stack([self.sampled(v) for v in rng.choice(of_class, c.exemplar_videos, replace=False)])
            )
            for of_class in self.by_class
        ]
        easy = nn.functional.dropout(torch.ones(x.shape[:2], device=self.device), 0.6)
        return x, self.data.labels[videos], exemplars, easy

    def like(self, batch: Any) -> Any:
        exemplars = [batch.bank.data[rows] for rows in batch.exemplars]
        return batch.features, batch.labels, exemplars, torch.ones_like(batch.features[..., 0])

    def loss(self, drawn: Any) -> Tensor:
        x, labels, exemplars, easy = drawn
        out = stcl_net.plain_forward(self.copy, x, stcl_net.plain_exemplars(self.copy, exemplars))
        return stcl_net.plain_losses(self.copy, out, labels, easy)


class PlainTSPNet(PlainLoop):
    method: TSPNet

    def build(self) -> None:
        dim, classes = self.data.bank.dim, len(self.data.weak.classes)
        self.net: plain_point.PlainTSPNet = plain_point.PlainTSPNet(self.config, dim, classes)
        self.net.load_state_dict(self.method.prop_backbone.state_dict())
        known = self.method.prepared(self.data)
        self.segments, self.time, self.label = [], [], []
        for v in range(len(self.data)):
            a, b = known.proposals.offsets[v : v + 2]
            self.segments.append(np.stack([known.proposals.start[a:b], known.proposals.end[a:b]], 1))
            a, b = known.point_offsets[v : v + 2]
            self.time.append(known.time[a:b].tolist())
            self.label.append(known.label[a:b].tolist())
        self.known = [self.labels_of(v) for v in range(len(self.data))]

    def labels_of(self, video: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        c, classes = self.config, len(self.data.weak.classes)
        return plain_point.plain_segment_labels(
            self.segments[video], self.time[video], self.label[video], classes, c.background_center
        )

    def sample(self, video: int, x: Tensor) -> tuple[Tensor, ...]:
        classes, center, _ = self.known[video]
        return x, self.tensor(self.segments[video]), self.tensor(classes), self.tensor(center)

    def draw(self, step: int) -> Any:
        videos = self.data.shuffled(step, self.config.batch_size, drop_last=True)
        return [self.sample(v, self.tensor(self.read(v))) for v in videos]

    def like(self, batch: TSPNetBatch) -> Any:
        return [self.sample(v, self.own(v)) for v in self.rows_of(batch.names)]

    def loss(self, drawn: Any) -> Tensor:
        total = [plain_point.plain_tspnet_loss(self.net, self.config, *sample) for sample in drawn]
        return torch.stack(total).mean()

    def periodic(self) -> float:
        self.net.eval()
        chosen = range(0, len(self.data), SHARE)
        for v in chosen:
            with torch.no_grad():
                center = self.net(self.tensor(self.read(v)), self.tensor(self.segments[v]))[2].sigmoid()
            _, _, decides = self.known[v]
            threshold = self.config.update_threshold
            plain_point.plain_vote(self.segments[v], decides, center.cpu().numpy(), self.time[v], threshold)
            self.labels_of(v)
        self.net.train()
        return sum(map(len, self.segments)) / sum(len(self.segments[v]) for v in chosen)


LOOPS: dict[str, type[PlainLoop]] = {
    "asm_loc": PlainASMLoc,
    "issf": PlainISSF,
    "lac": PlainLAC,
    "sal": PlainSAL,
    "stcl_net": PlainSTCLNet,
    "tspnet": PlainTSPNet,
}


def our_loss(method: Method, batch: Any) -> Tensor:
    """The loss of ours without any randomness; the method is built without dropout."""
    if isinstance(method, STCLNet):  # the snippet contrast always drops out
        stcl_net.without_dropout(method)
        exemplars = method.embed_exemplars(batch.exemplars, batch.bank)
        easy = torch.ones_like(batch.features[..., 0])
        return losses(method.network(batch.features, exemplars), batch.labels, method.config, easy)["total"]
    return method.training_step(batch)["total"]
