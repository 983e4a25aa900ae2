"""The motion backbone: what it sees and what it must not see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")

from weaktal.demo import render
from weaktal.features.extract.backbone import load_backbone
from weaktal.features.extract.driver import open_video
from weaktal.features.extract.motion import Motion


def scene(
    frames: int, *, flip: bool = False, shift: int = 0, act: slice = slice(0, 0)
) -> Iterator[np.ndarray]:
    """A textured wall; a bright block that swings left and right while it acts and stands still otherwise."""
    rng = np.random.default_rng(5)
    wall = rng.integers(60, 120, (96, 128, 1), dtype=np.uint8).repeat(3, 2)
    for k in range(frames):
        image = wall.copy()
        swing = 10 * np.sin(k) if act.start <= k < act.stop else 0.0
        x = 50 + shift + round(swing)
        image[30:70, x : x + 14] = 220
        image[34:44, x + 14 : x + 26] = 220  # an arm on one side
        yield image[:, ::-1] if flip else image


def features(frames: Iterator[np.ndarray], **options: float) -> np.ndarray:
    backbone = Motion(**options)
    rows = [np.concatenate([r["rgb"], r["flow"]], 1) for r in backbone.extract(frames)]
    out = np.concatenate(rows)
    assert out.shape[1] == sum(backbone.describe().dims.values())
    return out


@pytest.mark.parametrize("frames", [1, 3, 4, 5, 16, 17, 41])
def test_a_row_for_every_stride(frames: int) -> None:
    x = features(scene(frames))
    assert len(x) == -(-frames // 4)
    assert np.isfinite(x).all()


def test_rows_lie_where_the_action_is() -> None:
    x = features(scene(160, act=slice(60, 100)))
    energy = x.sum(1)
    times = (np.arange(len(x)) + 0.5) * 4  # frames at the middle of each row: the axis starts at 0
    inside = (times > 62) & (times < 98)
    outside = (times < 50) | (times > 110)
    assert energy[inside].min() > 5 * energy[outside].max()
    centre = (energy * times).sum() / energy.sum()
    assert abs(centre - 80) < 3


def test_mirror_images_look_alike() -> None:
    a = features(scene(80, act=slice(0, 80)))
    b = features(scene(80, act=slice(0, 80), flip=True))
    c = features(scene(80))
    assert np.abs(a - b)[5:].mean() < 0.35 * np.abs(a - c)[5:].mean()


def test_place_hardly_matters() -> None:
    a = features(scene(120, act=slice(0, 120)))
    b = features(scene(120, act=slice(0, 120), shift=-25))
    c = features(scene(120))
    assert np.abs(a - b)[10:].mean() < 0.4 * np.abs(a - c)[10:].mean()


def test_a_still_video_has_no_motion() -> None:
    assert np.abs(features(scene(40))).max() < 1e-3


def test_tiny_and_odd_pictures_are_taken() -> None:
    for size in ((1, 1), (7, 33), (33, 200)):
        x = features(
            iter(np.random.default_rng(k).integers(0, 255, (*size, 3), dtype=np.uint8) for k in range(9))
        )
        assert np.isfinite(x).all()


def test_bits_do_not_depend_on_where_memory_lies(tmp_path: Path) -> None:
    """With OpenCV's magnitude of the flow this video has two or three sets of features."""
    pytest.importorskip("av")
    render(tmp_path, train=1, test=1, seconds=(12.0, 16.0), size=(80, 60), fps=15, workers=2)
    frames = list(open_video(Motion().describe(), tmp_path / "videos/demo_test_000.mp4"))

    def scattered(seed: int) -> Iterator[np.ndarray]:
        rng, held = np.random.default_rng(seed), list[np.ndarray]()
        for frame in frames:
            held += [np.empty(16 * n, np.uint8) for n in rng.integers(1, 3000, 5)]
            del held[::2]  # holes for the next arrays
            yield frame

    assert len({features(scattered(seed)).tobytes() for seed in range(10)}) == 1


def test_options_are_described() -> None:
    about = load_backbone("motion", {"fps": 10, "window": 10, "stride": 5}).describe()
    assert (about.rate, about.offset) == (2.0, 0.0)
    assert about.header()["window"] == 1.0
