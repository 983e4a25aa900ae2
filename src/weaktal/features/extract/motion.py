"""The `motion` backbone: optical flow and the look of what moves, with OpenCV and without any weights.

Two streams, as the field's I3D features have them. Both look at a grid of cells around whatever moves (see
`Focus`), so that they do not depend on the place; a cell and its mirror image are combined into their mean
and absolute difference, so that an action to the left looks like the same action to the right.

flow
    Dense optical flow (DIS, Kroeger et al. 2016) between successive frames, without the camera's motion (the
    median of the field); per cell a histogram over 8 directions.
rgb
    How what moves looks: per cell a histogram of gradient directions (6, unsigned), in which each pixel
    counts as much as it changed since the last frame; and the amount of change itself.

A snippet has the mean of these over its window and their standard deviation, so that a steady drift and a
swing to and fro differ. Square roots tame outliers, and what is no faster than the noise counts as zero. All
is computed in one pass with a fixed amount of memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from weaktal.features.extract.backbone import Description, Image, Rows

FloatImage = NDArray[np.float32]

ROWS, COLUMNS, CELL = 4, 4, 10  # cells of the grid, and their size in pixels of the patch
FLOW_BINS, EDGE_BINS = 8, 6
LONG_SIDE = 160  # frames are scaled down to this
# units that make a moving figure's values about 1, as networks like their input: hundredths of a frame height
# per second, and a gradient times a change of grey values
SPEED, EDGE = 100.0, 400.0


def _directions(bins: int, turn: float) -> FloatImage:
    angle = np.arange(bins) * (turn / bins)
    return np.stack([np.cos(angle), np.sin(angle)]).astype(np.float32)


FLOW_DIRECTIONS = _directions(FLOW_BINS, 2 * np.pi)
EDGE_DIRECTIONS = _directions(EDGE_BINS, np.pi)
# the bin that a direction falls into in a mirror, where the angle a becomes pi - a
FLOW_MIRROR = (FLOW_BINS // 2 - np.arange(FLOW_BINS)) % FLOW_BINS
EDGE_MIRROR = -np.arange(EDGE_BINS) % EDGE_BINS


class Focus:
    """Where it moves: the middle of a fading memory of motion.

    Args:
        width, height: of the pictures, pixels.
        fps: frames per second.
        memory: seconds after which motion has faded to 1/e.
    """

    def __init__(self, width: int, height: int, fps: float, memory: float = 1.5) -> None:
        w, h = max(1, width // 4), max(1, height // 4)
        self.fade = float(np.exp(-1 / (memory * fps)))
        self.energy = np.zeros((h, w), np.float32)
        self.x, self.y = np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)
        self.scale = np.array([width / w, height / h])
        self.centre = np.array([width / 2, height / 2])

    def update(self, speed: FloatImage, floor: np.floating) -> NDArray[np.float64]:
        """The centre (x, y) in pixels after one more field of speeds (H, W)."""
        h, w = self.energy.shape
        small = cv2.resize(speed, (w, h), interpolation=cv2.INTER_AREA)
        self.energy *= self.fade
        self.energy += np.clip(small - floor, 0, 6)
        # mean of the energy around its peak: far away motion does not pull
        peak = int(cv2.GaussianBlur(self.energy, (0, 0), h / 7).argmax())
        py, px = divmod(peak, w)
        spread = -0.5 / (h / 3.5) ** 2
        near = np.exp(spread * (self.x - px) ** 2), np.exp(spread * (self.y - py) ** 2)
        across, down = (near[1] @ self.energy) * near[0], (self.energy @ near[0]) * near[1]
        total = float(across.sum())
        if total > 1e-6:
            middle = np.array([across @ self.x, down @ self.y]) / total + 0.5
            self.centre = self.centre + 0.3 * (middle * self.scale - self.centre)
        return self.centre


def _pool(values: FloatImage) -> FloatImage:
    """Means over the cells of a patch: (pixels, bins) to (ROWS, COLUMNS, bins)."""
    bins = values.shape[-1]
    columns = values.reshape(ROWS, CELL, COLUMNS * CELL * bins).sum(1)
    return np.asarray(columns.reshape(ROWS, COLUMNS, CELL, bins).sum(2) / np.float32(CELL * CELL))


def _either_side(cells: FloatImage, mirror: NDArray[np.int64]) -> FloatImage:
    """(..., COLUMNS, bins): the mean with the mirror image and the absolute difference, half as wide each."""
    half = cells[..., : COLUMNS // 2, :]
    other = cells[..., ::-1, :][..., : COLUMNS // 2, mirror]
    return np.concatenate([(half + other) / 2, np.abs(half - other)], axis=-2)


def frame_statistics(frames: Iterator[Image], fps: float) -> Iterator[tuple[FloatImage, FloatImage]]:
    """Cells of each frame: flow (ROWS, COLUMNS, 8); moving edges and change (ROWS, COLUMNS, 7)."""
    flow_of: Any = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow_of.setFinestScale(1)  # the preset's 2 is too coarse for a limb in a small picture
    flow_of.setPatchStride(6)
    flow_of.setGradientDescentIterations(8)
    patch = (COLUMNS * CELL, ROWS * CELL)
    before: Any = None
    focus = field = None
    for frame in frames:
        gray = cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (0, 0), 1.0)
        height, width = gray.shape
        if min(height, width) < 32:  # the flow needs room for its pyramid
            gray = cv2.copyMakeBorder(
                gray, 0, max(0, 32 - height), 0, max(0, 32 - width), cv2.BORDER_REPLICATE
            )
            height, width = gray.shape
        if before is None or focus is None:
            before, focus = gray, Focus(width, height, fps)
        field = flow_of.calc(before, gray, None)
        camera = np.median(field[::4, ::4].reshape(-1, 2), axis=0)
        field -= camera
        shift = np.array([[1, 0, camera[0]], [0, 1, camera[1]]], np.float64)
        still = cv2.warpAffine(before, shift, (width, height), borderMode=cv2.BORDER_REPLICATE)
        change = cv2.absdiff(gray, still)
        noise = 2.5 * float(np.median(change[::4, ::4]))
        before = gray

        # cv2.magnitude rounds by where its memory happens to lie
        speed = np.sqrt(np.square(field).sum(axis=2))
        floor = 2 * np.median(speed[::4, ::4])  # what stands still seems to move this fast, from noise
        x, y = focus.update(speed, floor)
        zoom = patch[1] / height
        place = np.array([[zoom, 0, patch[0] / 2 - zoom * x], [0, zoom, patch[1] / 2 - zoom * y]])
        flow = cv2.warpAffine(field, place, patch)
        look = cv2.warpAffine(gray, place, patch, borderMode=cv2.BORDER_REPLICATE)
        moved = np.maximum(cv2.warpAffine(change, place, patch).astype(np.float32) - noise, 0)

        speeds = np.maximum(flow.reshape(-1, 2) @ FLOW_DIRECTIONS - floor, 0) * np.float32(
            SPEED * fps / height
        )
        gradient = np.stack([cv2.Sobel(look, cv2.CV_32F, 1, 0), cv2.Sobel(look, cv2.CV_32F, 0, 1)], -1)
        edges = np.abs(gradient.reshape(-1, 2) @ EDGE_DIRECTIONS) * (moved.reshape(-1, 1) / EDGE)
        yield _pool(speeds), _pool(np.concatenate([edges, moved.reshape(-1, 1)], axis=1))


class Motion:
    """Flow and the look of what moves, see the module.

    Args:
        fps: frames per second.
        window, stride: frames that a snippet sees, and frames between snippets.
    """

    def __init__(self, fps: float = 15, window: int = 16, stride: int = 4) -> None:
        self.fps, self.window, self.stride = float(fps), int(window), int(stride)

    def describe(self) -> Description:
        cells = ROWS * COLUMNS
        return Description(
            "motion",
            fps=self.fps,
            window=self.window,
            stride=self.stride,
            dims={"rgb": 2 * cells * (EDGE_BINS + 1), "flow": 2 * cells * FLOW_BINS},
            centred=True,
            long_side=LONG_SIDE,
            settings={"version": 1, "weights": None, "crop": "around the motion", "flow": "dis"},
        )

    def extract(self, frames: Iterator[Image]) -> Iterator[Rows]:
        margin = (self.window - self.stride) // 2
        flow, look = list[FloatImage](), list[FloatImage]()
        count = rows = 0

        def snippet() -> Rows:
            a, b = np.stack(look[: self.window]), np.stack(flow[: self.window])
            del look[: self.stride], flow[: self.stride]
            edge_mirror = np.append(EDGE_MIRROR, EDGE_BINS)
            return {"rgb": _summary(a, edge_mirror), "flow": _summary(b, FLOW_MIRROR)}

        for f, e in frame_statistics(frames, self.fps):
            if not count:  # the first frame stands for what was before it, the last one for what comes after
                flow, look = [f] * margin, [e] * margin
            count += 1
            flow.append(f)
            look.append(e)
            if len(flow) == self.window:
                yield snippet()
                rows += 1
        while rows < -(-count // self.stride):
            missing = self.window - len(flow)
            flow += [flow[-1]] * missing
            look += [look[-1]] * missing
            yield snippet()
            rows += 1


def _summary(cells: FloatImage, mirror: NDArray[np.int64]) -> FloatImage:
    """(frames, ROWS, COLUMNS, bins) to one row: mean and deviation over time, blind to left and right."""
    both = np.sqrt(np.stack([cells.mean(0), cells.std(0)]))
    return _either_side(both, mirror).reshape(1, -1)
