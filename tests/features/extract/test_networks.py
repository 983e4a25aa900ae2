"""Backbones with networks, on tiny random weights."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

pytest.importorskip("cv2")
pytest.importorskip("av")

from weaktal.core import InputError
from weaktal.features.extract import i3d
from weaktal.features.extract.ahead import prefetch
from weaktal.features.extract.backbone import load_backbone
from weaktal.features.extract.flow import flow_method, flows
from weaktal.features.extract.i3d import I3D, I3DFeatures, crops, load_weights


def noise(frames: int, size: tuple[int, int] = (256, 300)) -> Iterator[np.ndarray]:
    """A texture that slides 2 pixels a frame to the right."""
    wall = np.random.default_rng(1).integers(0, 255, (*size, 3), dtype=np.uint8)
    wall = np.repeat(np.repeat(wall[::8, ::8], 8, 0), 8, 1)[: size[0], : size[1]]
    return (np.roll(wall, 2 * k, 1) for k in range(frames))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    out = {}
    for seed, (stream, channels) in enumerate((("rgb", 3), ("flow", 2))):
        torch.manual_seed(seed)
        torch.save(I3D(channels, 5).state_dict(), folder / f"{stream}.pt")
        out[stream] = str(folder / f"{stream}.pt")
    return out


class Small(torch.nn.Module):
    """In the place of I3D where only its inputs matter."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def features(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x.mean((1, 2, 3, 4), keepdim=True).expand(-1, 1024, -1, -1, -1)


def test_i3d_from_a_weights_file(weights: dict[str, str]) -> None:
    backbone = I3DFeatures(rgb=weights["rgb"], device="cpu")
    about = backbone.describe()
    assert (about.rate, about.offset, dict(about.dims)) == (25 / 16, 0.0, {"rgb": 1024})
    assert about.header()["weights"]["rgb"]["file"] == "rgb.pt"
    frames = list(noise(17))
    rows = list(backbone.extract(iter(frames)))
    assert [r["rgb"].shape for r in rows] == [(1, 1024)]
    x = torch.from_numpy(np.stack(frames[:16])[:, 16:240, 38:262]).permute(3, 0, 1, 2)[None].float()
    with torch.inference_mode():
        expected = I3D.from_published(load_weights(weights["rgb"])).features(x / 127.5 - 1).reshape(1, -1)
    np.testing.assert_allclose(rows[0]["rgb"], expected.numpy(), rtol=1e-5, atol=1e-6)


def test_i3d_snippets_streams_and_flow(weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = I3DFeatures(**weights, method="dis", window=16, stride=8, batch=2, device="cpu")
    small = {stream: Small() for stream in ("rgb", "flow")}
    monkeypatch.setattr(backbone, "networks", small)
    rows = list(backbone.extract(noise(42)))
    assert [len(r["rgb"]) for r in rows] == [2, 2]  # windows from 0, 8, 16, 24; that from 32 is incomplete
    assert backbone.describe().offset == pytest.approx((16 - 8) / 2 / 25)
    flow = torch.cat(small["flow"].seen)
    assert flow.shape == (4, 2, 16, 224, 224)
    assert flow[:, 0].median().item() == pytest.approx(2 / 20, abs=0.02)  # two pixels to the right, of 20
    assert flow[:, 1].median().item() == pytest.approx(0, abs=0.02)


def test_i3d_stride_longer_than_the_window(weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for stride in (4, 20):
        backbone = I3DFeatures(rgb=weights["rgb"], stride=stride, device="cpu")
        monkeypatch.setattr(backbone, "networks", {"rgb": Small()})
        found[stride] = np.concatenate([r["rgb"] for r in backbone.extract(noise(42))])
    np.testing.assert_array_equal(found[20], found[4][::5])


def test_ten_crops(weights: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    clip = np.random.default_rng(0).standard_normal((2, 3, 256, 340)).astype(np.float32)
    (centre,) = crops(clip, ten=False)
    np.testing.assert_array_equal(centre, clip[:, :, 16:240, 58:282])
    ten = crops(clip, ten=True)
    assert len(ten) == 10
    np.testing.assert_array_equal(ten[0], clip[:, :, :224, :224])
    np.testing.assert_array_equal(ten[3], clip[:, :, -224:, -224:])
    np.testing.assert_array_equal(ten[9][0], -centre[0, :, :, ::-1])  # the flow's x turns round
    np.testing.assert_array_equal(ten[9][1], centre[1, :, :, ::-1])
    backbone = I3DFeatures(rgb=weights["rgb"], crop="ten", batch=3, device="cpu")
    small = Small()
    monkeypatch.setattr(backbone, "networks", {"rgb": small})
    (rows,) = backbone.extract(noise(16))
    views = torch.cat(small.seen)
    assert len(views) == 10
    assert rows["rgb"][0, 0] == pytest.approx(views.mean().item(), abs=1e-5)


def test_flows_are_aligned_with_their_first_frame() -> None:
    calls: list[tuple[int, int]] = []

    def method(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        calls.append((int(a[0, 0, 0]), int(b[0, 0, 0])))
        return np.full((*a.shape[:2], 2), len(calls), np.float32)

    pictures = [np.full((2, 2, 3), k, np.uint8) for k in range(3)]
    out = list(flows(iter(pictures), method))
    assert calls == [(0, 1), (1, 2)]
    assert [int(f[0, 0, 0]) for f, _ in out] == [0, 1, 2]
    assert [int(flow[0, 0, 0]) for _, flow in out] == [134, 140, 140]
    assert [int(flow[0, 0, 0]) for _, flow in flows(iter(pictures[:1]), method)] == [128]


@pytest.mark.parametrize("name", ["tvl1", "dis"])
def test_flow_methods_find_a_shift(name: str) -> None:
    a, b = noise(2, (64, 96))
    flow = flow_method(name)(a, b)
    assert flow.shape == (64, 96, 2)
    assert np.median(flow[..., 0]) == pytest.approx(2, abs=0.3)
    assert np.median(flow[..., 1]) == pytest.approx(0, abs=0.3)


def test_wrong_weights_are_told(weights: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights of the flow stream.*3 input channels"):
        I3DFeatures(flow=weights["rgb"], method="dis")
    state = dict(load_weights(weights["rgb"]))
    del state["Mixed_5b.b0.conv3d.weight"]
    with pytest.raises(InputError, match=r"1 weights are missing: found Mixed_5b\.b0"):
        I3D.from_published(state)
    with pytest.raises(InputError, match="unexpected weights"):
        I3D.from_published({**load_weights(weights["rgb"]), "more": torch.zeros(1)})
    with pytest.raises(InputError, match="not weights of I3D"):
        I3D.from_published({"layer.weight": torch.zeros(1)})
    evil = tmp_path / "evil.pt"
    torch.save({"a": Path("/")}, evil)  # an object that only unpickling code can make
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_weights(evil)
    for wrong, words in (
        ({"crop": "five"}, "unknown crop"),
        ({"precision": "8"}, "unknown precision"),
        ({"device": "abacus"}, "unknown device"),
        ({"window": 4}, "at least 9 frames"),
    ):
        with pytest.raises(InputError, match=words):
            I3DFeatures(rgb=weights["rgb"], **wrong)
    with pytest.raises(InputError, match="unknown flow"):
        I3DFeatures(flow=weights["flow"], method="tvl2")
    with pytest.raises(InputError, match=r"needs (a file of weights|torchvision)"):
        flow_method("raft")


def test_old_weights_without_counters_load(weights: dict[str, str]) -> None:
    state = {k: v for k, v in load_weights(weights["rgb"]).items() if not k.endswith("num_batches_tracked")}
    assert not I3D.from_published({f"module.{k}": v for k, v in state.items()}).training


def test_prefetch_keeps_order_errors_and_stops() -> None:
    assert list(prefetch(iter(range(50)), 3)) == list(range(50))

    def failing() -> Iterator[int]:
        yield 1
        raise InputError("broken")

    items = prefetch(failing(), 4)
    assert next(items) == 1
    with pytest.raises(InputError, match="broken"):
        next(items)
    made: list[int] = []

    def endless() -> Iterator[int]:
        while True:
            made.append(0)
            yield 0

    some = prefetch(endless(), 4)
    next(some)
    some.close()  # type: ignore[attr-defined]
    count = len(made)
    assert count <= 7
    assert len(made) == count


@pytest.fixture(scope="module")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("models")
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
        "image_size": 32,
    }
    torch.manual_seed(0)
    video = transformers.VideoMAEConfig(**small, num_frames=4, patch_size=16, tubelet_size=2)
    transformers.VideoMAEModel(video).save_pretrained(folder / "videomae")
    text = {k: v for k, v in small.items() if k != "image_size"} | {"vocab_size": 10}
    clip = transformers.CLIPConfig(
        vision_config={**small, "patch_size": 16}, text_config=text, projection_dim=12
    )
    transformers.CLIPModel(clip).save_pretrained(folder / "clip")
    (folder / "clip/preprocessor_config.json").write_text('{"image_mean": [0, 0, 0], "image_std": [1, 1, 1]}')
    transformers.ViTModel(transformers.ViTConfig(**small, patch_size=16)).save_pretrained(folder / "vit")
    bert = transformers.BertConfig(**text)
    transformers.BertModel(bert).save_pretrained(folder / "bert")
    return folder


@pytest.mark.parametrize(
    ("name", "folder", "dim", "frames"),
    [
        ("videomae", "videomae", 16, 4),
        ("clip", "clip", 12, 4),
        ("transformers", "vit", 16, 4),
    ],
)
def test_models_of_transformers(tiny_models: Path, name: str, folder: str, dim: int, frames: int) -> None:
    backbone = load_backbone(name, {"model": str(tiny_models / folder), "window": 8, "stride": 8, "batch": 2})
    about = backbone.describe()
    assert (dict(about.dims), about.backbone, about.short_side) == ({"rgb": dim}, name, 32)
    assert about.settings["frames_per_snippet"] == frames
    assert about.settings["weights"]["sha256"]
    pictures = list(noise(26, (32, 48)))
    rows = np.concatenate([r["rgb"] for r in backbone.extract(iter(pictures))])
    assert rows.shape == (3, dim)
    assert np.abs(rows[0] - rows[1]).max() > 1e-6
    alone = np.concatenate([r["rgb"] for r in backbone.extract(iter(pictures[8:16]))])
    np.testing.assert_allclose(alone[0], rows[1], atol=1e-5)


def test_clip_sees_what_clip_should_see(tiny_models: Path) -> None:
    transformers = pytest.importorskip("transformers")
    backbone = load_backbone("clip", {"model": str(tiny_models / "clip"), "window": 4, "stride": 4})
    pictures = list(noise(4, (32, 32)))
    (rows,) = backbone.extract(iter(pictures))
    model = transformers.CLIPModel.from_pretrained(tiny_models / "clip").eval()
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2) / 255
    with torch.inference_mode():
        tower = model.vision_model(pixel_values=x).pooler_output
        expected = model.visual_projection(tower).mean(0)
    np.testing.assert_allclose(rows["rgb"][0], expected.numpy(), atol=1e-5)


def test_models_that_do_not_fit_are_told(tiny_models: Path, tmp_path: Path) -> None:
    for options, words in (
        ({}, "which model"),
        ({"model": str(tmp_path)}, "cannot be loaded"),
        ({"model": str(tiny_models / "bert")}, "does not take pictures"),
        ({"model": str(tiny_models / "videomae"), "window": 2}, "too few frames"),
    ):
        with pytest.raises(InputError, match=words):
            load_backbone("transformers", options)


def test_models_of_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    """`timm` is used by two of its functions, which stand here for it: it needs a fitting torchvision."""

    def create_model(
        name: str, *, pretrained: bool, checkpoint_path: str, num_classes: int
    ) -> torch.nn.Module:
        assert (name, pretrained, checkpoint_path, num_classes) == ("tiny", True, "", 0)
        return torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

    config = {"input_size": (3, 24, 24), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    data = SimpleNamespace(resolve_model_data_config=lambda model: config)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data))
    backbone = load_backbone("timm", {"model": "tiny", "window": 4, "stride": 4, "frames": 2})
    pictures = list(noise(4, (24, 24)))
    (rows,) = backbone.extract(iter(pictures))
    expected = (np.stack(pictures)[[0, 3]].mean((0, 1, 2)) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(rows["rgb"][0], expected, atol=1e-4)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"no module 'timm'.*weaktal\[timm\]"):
        load_backbone("timm", {"model": "tiny"})
    monkeypatch.setattr(i3d.torch.cuda, "is_available", lambda: False)
    assert i3d.choose_device("auto").type == "cpu"
