"""Optical flow between frames, as the bytes that I3D is fed: clipped to [-20, 20] pixels, 0 at the middle."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, did_you_mean
from weaktal.features.extract.backbone import Image

BOUND = 20.0
FLOWS = ("tvl1", "dis", "raft")
# two RGB pictures (H, W, 3) to the flow from the first to the second, (H, W, 2) float32 in pixels
FlowMethod = Callable[[Image, Image], NDArray[np.float32]]


def flow_method(name: str, *, weights: str | None = None, device: Any = "cpu") -> FlowMethod:
    """A flow by name.

    Args:
        name: "tvl1" (Zach et al. 2007, what the field's features were made with), "dis" (Kroeger et al. 2016,
            50 times faster), or "raft" (Teed and Deng 2020, needs torchvision and a file of weights).
        weights: of RAFT.
        device: of RAFT.

    Raises:
        InputError: an unknown name, missing weights, a missing package.
    """
    if name == "tvl1":
        if not hasattr(cv2, "optflow"):
            raise InputError(
                "TV-L1 flow needs the contrib build of OpenCV",
                hint="pip install opencv-contrib-python-headless, or use method=dis",
            )
        return _gray(cv2.optflow.DualTVL1OpticalFlow.create())
    if name == "dis":
        return _gray(cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM))
    if name == "raft":
        return _raft(weights, device)
    raise InputError(
        "unknown flow", found=repr(name), expected=" or ".join(FLOWS), hint=did_you_mean(name, FLOWS)
    )


def _gray(method: Any) -> FlowMethod:
    def flow(a: Image, b: Image) -> NDArray[np.float32]:
        gray = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (a, b))
        out: NDArray[np.float32] = method.calc(*gray, None)
        return out

    return flow


def _raft(weights: str | None, device: Any) -> FlowMethod:
    import torch

    try:
        from torchvision.models.optical_flow import raft_large, raft_small
    except ModuleNotFoundError:
        raise InputError(
            "RAFT flow needs torchvision", hint="install it, or use method=tvl1 or dis"
        ) from None
    if weights is None or not Path(weights).is_file():
        raise InputError("RAFT flow needs a file of weights", found=weights, expected="raft=FILE")
    state = torch.load(weights, map_location="cpu", weights_only=True)
    large = any(k.startswith("mask_predictor") for k in state)
    model = (raft_large if large else raft_small)(weights=None)
    model.load_state_dict(state)
    model = model.to(device).eval()

    @torch.inference_mode()
    def flow(a: Image, b: Image) -> NDArray[np.float32]:
        x = torch.from_numpy(np.stack([a, b])).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1
        height, width = x.shape[2:]
        x = torch.nn.functional.pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        out: NDArray[np.float32] = (
            model(x[:1], x[1:])[-1][0, :, :height, :width].permute(1, 2, 0).cpu().numpy()
        )
        return out

    return flow


def to_bytes(flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Clip to [-20, 20] and round to 0..255, as stored flow images are.

    >>> to_bytes(np.array([-30.0, -20.0, 0.0, 20.0], np.float32)).tolist()
    [0, 0, 128, 255]
    """
    return np.rint((flow.clip(-BOUND, BOUND) + BOUND) * (255 / (2 * BOUND))).astype(np.uint8)


def flows(frames: Iterator[Image], method: FlowMethod) -> Iterator[tuple[Image, NDArray[np.uint8]]]:
    """Each frame with the flow to the next one (H, W, 2) as bytes; the last frame has the one before's."""
    before: Image | None = None
    flow: NDArray[np.uint8] | None = None
    for frame in frames:
        if before is not None:
            flow = to_bytes(method(before, frame))
            yield before, flow
        before = frame
    if before is not None:
        still = to_bytes(np.zeros((*before.shape[:2], 2), np.float32))
        yield before, still if flow is None else flow
