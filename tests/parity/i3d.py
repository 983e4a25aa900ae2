"""I3D against the public PyTorch port, with weights drawn by rule (see the README of the golden folder)."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import torch

from weaktal.features.extract.i3d import I3D


def weights(salt: str, keys: np.ndarray, shapes: np.ndarray) -> dict[str, np.ndarray]:
    """The state dict that the rule gives."""
    out = {}
    for key, text in zip(keys.tolist(), shapes.tolist(), strict=True):
        shape = tuple(int(n) for n in text.strip("()").split(",") if n.strip())
        r = np.random.default_rng(zlib.crc32(f"{salt}/{key}".encode()))
        if key.endswith("num_batches_tracked"):
            out[key] = np.zeros(shape, np.int64)
            continue
        if key.endswith("running_var"):
            value = r.uniform(0.5, 1.5, shape)
        elif key.endswith("running_mean"):
            value = r.standard_normal(shape) * 0.1
        elif key.endswith("bn.weight"):
            value = r.uniform(0.8, 1.2, shape)
        elif key.endswith("bias"):
            value = r.standard_normal(shape) * 0.1
        else:
            value = r.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        out[key] = value.astype(np.float32)
    return out


def check(data: dict[str, np.ndarray], path: Path) -> None:
    state = weights(str(data["salt"]), data["keys"], data["shapes"])
    model = I3D.from_published({f"module.{k}": v for k, v in state.items()})
    assert set(model.state_dict()) == set(state)
    channels = {"rgb": 3, "flow": 2}[str(data["stream"])]
    r = np.random.default_rng(int(data["seed"]))
    x = r.uniform(-1, 1, (1, channels, int(data["frames"]), 224, 224)).astype(np.float32)
    with torch.inference_mode():
        features = model.features(torch.from_numpy(x))
        logits = model.logits(features).squeeze(4).squeeze(3)
    for name, value in (("features", features), ("logits", logits)):
        expected = data[name]
        assert value.shape == expected.shape
        np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


CHECKS = {"rgb": check, "flow": check}
