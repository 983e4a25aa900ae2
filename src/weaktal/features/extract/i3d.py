"""The `i3d` backbone: two-stream Inflated 3D ConvNet, the features that the field is built on.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", CVPR 2017. The network has the parameter names of
the public PyTorch weights (``rgb_imagenet.pt``, ``flow_imagenet.pt``), so these load as they are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from weaktal.core import InputError
from weaktal.features.extract.ahead import prefetch
from weaktal.features.extract.backbone import Description, Image, Rows, sliding
from weaktal.features.extract.compute import autocast, choose_device, file_digest
from weaktal.features.extract.flow import BOUND, flow_method, flows

CROP = 224


def _same(x: Tensor, kernel: tuple[int, ...], stride: tuple[int, ...]) -> Tensor:
    """TensorFlow's SAME padding with zeros: from size and stride, the odd one at the end."""
    pad: list[int] = []
    for size, k, s in zip(reversed(x.shape[2:]), reversed(kernel), reversed(stride), strict=True):
        total = max(k - s if size % s == 0 else k - size % s, 0)
        pad += [total // 2, total - total // 2]
    return F.pad(x, pad) if any(pad) else x


class Unit(nn.Module):
    """Convolution, batch norm and ReLU; the last one of the network has a bias in place of the latter two."""

    def __init__(
        self, inputs: int, outputs: int, size: int = 1, stride: int = 1, *, last: bool = False
    ) -> None:
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, size, stride, bias=last)
        self.bn = None if last else nn.BatchNorm3d(outputs, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv3d
        x = conv(_same(x, conv.kernel_size, conv.stride))
        return x if self.bn is None else F.relu_(self.bn(x))


class Pool(nn.Module):
    """Largest value of a window, SAME padding (inputs are not negative, so zeros never win)."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int]) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool3d(_same(x, self.kernel, self.stride), self.kernel, self.stride)


class Mixed(nn.Module):
    """An inception module: four branches, joined.

    Args:
        inputs: channels.
        b0, b1, b2, b3: channels of the branches; b1 and b2 are (reduced, output).
    """

    def __init__(self, inputs: int, b0: int, b1: tuple[int, int], b2: tuple[int, int], b3: int) -> None:
        super().__init__()
        self.b0 = Unit(inputs, b0)
        self.b1a, self.b1b = Unit(inputs, b1[0]), Unit(b1[0], b1[1], 3)
        self.b2a, self.b2b = Unit(inputs, b2[0]), Unit(b2[0], b2[1], 3)
        self.b3a, self.b3b = Pool((3, 3, 3), (1, 1, 1)), Unit(inputs, b3)

    def forward(self, x: Tensor) -> Tensor:
        branches = self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))
        return torch.cat(branches, 1)


class I3D(nn.Module):
    """Inflated Inception-v1.

    Args:
        channels: 3 for rgb, 2 for flow.
        classes: of the classifier, 400 in the public weights.
    """

    def __init__(self, channels: int = 3, classes: int = 400) -> None:
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(channels, 64, 7, 2)
        self.MaxPool3d_2a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Conv3d_2b_1x1 = Unit(64, 64)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3)
        self.MaxPool3d_3a_3x3 = Pool((1, 3, 3), (1, 2, 2))
        self.Mixed_3b = Mixed(192, 64, (96, 128), (16, 32), 32)
        self.Mixed_3c = Mixed(256, 128, (128, 192), (32, 96), 64)
        self.MaxPool3d_4a_3x3 = Pool((3, 3, 3), (2, 2, 2))
        self.Mixed_4b = Mixed(480, 192, (96, 208), (16, 48), 64)
        self.Mixed_4c = Mixed(512, 160, (112, 224), (24, 64), 64)
        self.Mixed_4d = Mixed(512, 128, (128, 256), (24, 64), 64)
        self.Mixed_4e = Mixed(512, 112, (144, 288), (32, 64), 64)
        self.Mixed_4f = Mixed(528, 256, (160, 320), (32, 128), 128)
        self.MaxPool3d_5a_2x2 = Pool((2, 2, 2), (2, 2, 2))
        self.Mixed_5b = Mixed(832, 256, (160, 320), (32, 128), 128)
        self.Mixed_5c = Mixed(832, 384, (192, 384), (48, 128), 128)
        self.logits = Unit(1024, classes, last=True)

    def features(self, x: Tensor) -> Tensor:
        """
        Args:
            x: (B, channels, T, 224, 224) in [-1, 1].

        Returns:
            (B, 1024, T', 1, 1), after the last average pool; T' is 1 for 16 frames.
        """
        for name, module in self.named_children():
            if name != "logits":
                x = module(x)
        return F.avg_pool3d(x, (2, 7, 7), 1)

    def forward(self, x: Tensor) -> Tensor:
        """Class scores (B, classes, T')."""
        out: Tensor = self.logits(self.features(x))
        return out.squeeze(4).squeeze(3)

    @classmethod
    def from_published(cls, state_dict: Mapping[str, Any]) -> I3D:
        """The network with the weights of the public release; also with a leading ``module.``.

        Raises:
            InputError: missing, unexpected or wrongly shaped entries.
        """
        weights = {k.removeprefix("module."): torch.as_tensor(v) for k, v in state_dict.items()}
        first, last = weights.get("Conv3d_1a_7x7.conv3d.weight"), weights.get("logits.conv3d.weight")
        if first is None or last is None or first.ndim != 5 or last.ndim != 5:
            raise InputError(
                "these are not weights of I3D",
                found=", ".join(list(weights)[:3]) or "nothing",
                expected="Conv3d_1a_7x7.conv3d.weight, ..., logits.conv3d.weight",
            )
        model = cls(first.shape[1], last.shape[0])
        own = model.state_dict()
        # old files come from before batch norm counted its batches
        own_only = {k for k in set(own) - set(weights) if not k.endswith("num_batches_tracked")}
        wrong = [k for k in own if k in weights and weights[k].shape != own[k].shape]
        for what, keys in (
            ("weights are missing", sorted(own_only)),
            ("unexpected weights", sorted(set(weights) - set(own))),
            ("weights of another shape", wrong),
        ):
            if keys:
                raise InputError(f"{len(keys)} {what}", found=", ".join(keys[:3]))
        model.load_state_dict(weights, strict=False)
        return model.eval()


def load_weights(path: str | os.PathLike[str]) -> Mapping[str, Any]:
    """A state dict from a ``.pt`` file, without running code from it (``weights_only``).

    Raises:
        InputError: no such file, or not a plain state dict.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("no such file of weights", file=path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError("cannot be read as weights", file=path, found=reason) from None
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping):
        raise InputError("not a state dict", file=path, found=type(state).__name__)
    return state


def crops(clip: NDArray[np.float32], ten: bool) -> list[NDArray[np.float32]]:
    """The centre crop, or the four corners and the centre, each also mirrored (the flow's x turns round).

    Args:
        clip: (channels, T, H, W) with H, W >= 224.
    """
    height, width = clip.shape[2:]
    bottom, right = height - CROP, width - CROP
    places = [(round(bottom / 2), round(right / 2))]
    if ten:
        places = [(0, 0), (0, right), (bottom, 0), (bottom, right), *places]
    out = [clip[:, :, y : y + CROP, x : x + CROP] for y, x in places]
    if ten:
        sign = np.array([-1, 1] if len(clip) == 2 else [1, 1, 1], np.float32)[:, None, None, None]
        out += [c[..., ::-1] * sign for c in out]
    return out


class I3DFeatures:
    """Features of I3D: rgb, flow or both.

    Args:
        rgb, flow: files of weights; a stream without weights is left out.
        crop: "center", or "ten" for the mean over ten crops.
        method: of the flow, see `weaktal.features.extract.flow`.
        raft: file of RAFT's weights, for method "raft".
        fps, window, stride: frames per second, frames of a snippet, frames between snippets.
        batch: snippets per pass through the network; default 4 on a GPU and 1 on a CPU, where more are no
            faster and take more memory.
        precision: "32", "bf16" or "16" (mixed).
        device: "auto", "cpu", "cuda", ...
    """

    def __init__(
        self,
        rgb: str | None = None,
        flow: str | None = None,
        *,
        crop: Literal["center", "ten"] = "center",
        method: str = "tvl1",
        raft: str | None = None,
        fps: float = 25,
        window: int = 16,
        stride: int = 16,
        batch: int | None = None,
        precision: str = "32",
        device: str = "auto",
    ) -> None:
        files = {"rgb": rgb, "flow": flow}
        self.weights = {stream: Path(f) for stream, f in files.items() if f is not None}
        if not self.weights:
            raise InputError(
                "I3D needs weights",
                expected="rgb=FILE, flow=FILE or both",
                hint="get the public rgb_imagenet.pt and flow_imagenet.pt: --set rgb=... --set flow=...",
            )
        if crop not in ("center", "ten"):
            raise InputError("unknown crop", found=repr(crop), expected="'center' or 'ten'")
        if window < 9 or stride < 1:
            raise InputError(
                "a snippet of I3D has at least 9 frames", found=f"window {window}, stride {stride}"
            )
        self.crop, self.method, self.raft = crop, method, raft
        self.fps, self.window, self.stride = float(fps), int(window), int(stride)
        self.precision, self.device = str(precision), choose_device(device)
        self.batch = (1 if self.device.type == "cpu" else 4) if batch is None else max(1, int(batch))
        autocast(self.device, self.precision)  # a wrong precision shows here
        self.compute_flow = flow_method(method, weights=raft, device=self.device) if flow else None
        self.networks = {}
        for stream, channels in (("rgb", 3), ("flow", 2)):
            if stream not in self.weights:
                continue
            path = self.weights[stream]
            network = I3D.from_published(load_weights(path))
            if network.Conv3d_1a_7x7.conv3d.in_channels != channels:
                raise InputError(
                    f"these are not weights of the {stream} stream",
                    file=path,
                    found=f"{network.Conv3d_1a_7x7.conv3d.in_channels} input channels",
                    expected=channels,
                )
            self.networks[stream] = network.to(self.device)

    def describe(self) -> Description:
        return Description(
            "i3d",
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            dims=dict.fromkeys(self.networks, 1024),
            short_side=256,
            settings={
                "weights": {s: {"file": p.name, "sha256": file_digest(p)} for s, p in self.weights.items()},
                "crop": self.crop,
                "flow": self.method if "flow" in self.weights else None,
                "flow_bound": BOUND if "flow" in self.weights else None,
                "precision": self.precision,
            },
        )

    def extract(self, frames: Iterator[Image]) -> Iterator[Rows]:
        # flow and network overlap, as decoding does already; all of them release the lock
        inputs = prefetch(self._inputs(frames), 2 * self.window)
        clips: list[dict[str, NDArray[np.uint8]]] = []
        for clip in sliding(inputs, self.window, self.stride):
            clips.append({s: np.stack([frame[s] for frame in clip]) for s in self.networks})
            if len(clips) == self.batch:
                yield self._run(clips)
                clips = []
        if clips:
            yield self._run(clips)

    def _inputs(self, frames: Iterator[Image]) -> Iterator[dict[str, NDArray[np.uint8]]]:
        """Per frame what the networks see, as bytes: the picture, and the flow to the next one."""
        if self.compute_flow is None:
            yield from ({"rgb": frame} for frame in frames)
            return
        for frame, flow in flows(frames, self.compute_flow):
            yield {"rgb": frame, "flow": flow}

    @torch.inference_mode()
    def _run(self, clips: list[dict[str, NDArray[np.uint8]]]) -> Rows:
        """Features of some snippets, (n, 1024) per stream."""
        out = {}
        for stream, network in self.networks.items():
            views = []
            for clip in clips:
                x = clip[stream].astype(np.float32) / 127.5 - 1
                views += crops(x.transpose(3, 0, 1, 2), self.crop == "ten")
            per_snippet = len(views) // len(clips)
            rows = []
            for k in range(0, len(views), self.batch):
                inputs = torch.from_numpy(np.stack(views[k : k + self.batch])).to(self.device)
                with autocast(self.device, self.precision):
                    rows.append(network.features(inputs).float().mean((2, 3, 4)).cpu())
            joined = torch.cat(rows).reshape(len(clips), per_snippet, -1).mean(1)
            out[stream] = joined.numpy()
        return out
