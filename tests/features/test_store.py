"""Feature stores: the same features in every layout of the field are the same features."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from weaktal.core import InputError
from weaktal.features.layouts import safetensors_about
from weaktal.features.pack import write_pack
from weaktal.features.store import FeatureStore, write_video_features

RATE = 25 / 16
LENGTHS = {"v_a": 7, "v_b": 1, "v_c": 310}
Features = dict[str, np.ndarray]


@pytest.fixture
def features() -> Features:
    rng = np.random.default_rng(5)
    return {n: rng.standard_normal((length, 8)).astype(np.float32) for n, length in LENGTHS.items()}


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, array)


def halves(x: np.ndarray) -> list[tuple[str, np.ndarray]]:
    return [("rgb", x[:, :4]), ("flow", x[:, 4:])]


def acmnet(root: Path, features: Features) -> None:
    for i, (name, x) in enumerate(features.items()):
        save(root / ("train", "test")[i % 2] / f"{name}.npy", x)
    (root / "split_train.txt").write_text("v_a\n")


def acmnet_nested(root: Path, features: Features) -> None:
    acmnet(root / "features", features)


def basnet(root: Path, features: Features) -> None:
    for i, (name, x) in enumerate(features.items()):
        for stream, part in halves(x):
            save(root / ("train", "test")[i % 2] / stream / f"{name}.npy", part)


def two_folders(root: Path, features: Features) -> None:
    for name, x in features.items():
        for stream, part in halves(x):
            save(root / stream.upper() / f"{name}.npy", part)


def two_suffixes(root: Path, features: Features) -> None:
    for name, x in features.items():
        for stream, part in halves(x):
            save(root / f"{name}-{stream}.npy", part)


def flat(root: Path, features: Features) -> None:
    for name, x in features.items():
        save(root / f"{name}.npy", x)


def double_precision(root: Path, features: Features) -> None:
    flat(root, {n: x.astype(np.float64) for n, x in features.items()})


def archives(root: Path, features: Features) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, x in features.items():
        np.savez(root / f"{name}.npz", feats=x, other=np.zeros(3))


def archives_of_streams(root: Path, features: Features) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for name, x in features.items():
        np.savez(root / f"{name}.npz", **dict(halves(x)))


def channels_first(root: Path, features: Features) -> None:
    flat(root, {n: x.T for n, x in features.items()})


def ten_crop(root: Path, features: Features) -> None:
    shift = np.arange(10, dtype=np.float32)[:, None] - 4.5
    flat(root, {n: x[:, None] + shift for n, x in features.items()})


def crops_first(root: Path, features: Features) -> None:
    flat(root, {n: np.repeat(x[None], 10, 0) for n, x in features.items()})


def extra_axes(root: Path, features: Features) -> None:
    flat(root, {n: x[:, :, None, None] for n, x in features.items()})


def joint(root: Path, features: Features) -> None:
    array = np.empty(len(features), object)
    for i, x in enumerate(features.values()):
        array[i] = x
    root.mkdir(parents=True, exist_ok=True)
    np.save(root / "Thumos14reduced-I3D-JOINTFeatures.npy", array, allow_pickle=True)
    np.save(root / "videoname.npy", np.array([n.encode() for n in features]))


def hdf5(root: Path, features: Features) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "i3d.h5", "w") as file:
        for name, x in features.items():
            file[name] = x


def hdf5_groups(root: Path, features: Features) -> None:
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "i3d.hdf5", "w") as file:
        for name, x in features.items():
            for stream, part in halves(x):
                file[f"{name}/{stream}"] = part


def ours(root: Path, features: Features) -> None:
    for name, x in features.items():
        write_video_features(root / f"{name}.safetensors", dict(halves(x)), rate=RATE, backbone="i3d")


def ours_in_one(root: Path, features: Features) -> None:
    for name, x in features.items():
        write_video_features(root / f"{name}.safetensors", x, rate=RATE)


def packed(root: Path, features: Features) -> None:
    flat(root.with_name("raw"), features)
    write_pack(FeatureStore.open(root.with_name("raw"), RATE), root)


LAYOUTS: dict[Callable[[Path, Features], None], str] = {
    acmnet: "per-video",
    acmnet_nested: "per-video",
    basnet: "rgb+flow",
    two_folders: "rgb+flow",
    two_suffixes: "rgb+flow",
    flat: "per-video",
    double_precision: "per-video",
    archives: "per-video",
    archives_of_streams: "per-video",
    channels_first: "per-video",
    ten_crop: "per-video",
    crops_first: "per-video",
    extra_axes: "per-video",
    joint: "joint",
    hdf5: "hdf5",
    hdf5_groups: "hdf5",
    ours: "safetensors",
    ours_in_one: "safetensors",
    packed: "pack",
}


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda f: f.__name__)
def test_every_layout_is_found_and_gives_the_same(
    tmp_path: Path, features: Features, write: Callable[[Path, Features], None]
) -> None:
    root = tmp_path / "store"
    write(root, features)
    store = FeatureStore.open(root, rate=RATE)
    assert store.layout.kind == LAYOUTS[write]
    assert sorted(store.names) == sorted(features)
    assert (store.dim, store.rate, sum(store.provenance["dims"])) == (8, RATE, 8)
    for name, want in features.items():
        assert store.length(name) == len(want)
        got = store.load(name)
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
        assert store.axis(name).end == pytest.approx(len(want) / RATE)
    sent = pickle.dumps(store)  # to another process
    assert len(sent) < 5000  # names and paths, no features
    again = pickle.loads(sent)
    np.testing.assert_array_equal(again.load("v_a"), store.load("v_a"))


@pytest.mark.parametrize("write", [flat, ours_in_one, packed], ids=lambda f: f.__name__)
def test_memory_mapped_where_the_layout_allows(
    tmp_path: Path, features: Features, write: Callable[[Path, Features], None]
) -> None:
    write(tmp_path / "store", features)
    rows = FeatureStore.open(tmp_path / "store", rate=RATE).load("v_c")
    base = rows
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)
    assert not rows.flags.writeable


def test_ten_crops_are_averaged(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 10, 4)).astype(np.float32)
    flat(tmp_path, {"a": x, "b": x[:3]})
    store = FeatureStore.open(tmp_path, rate=1.0)
    assert (store.crops, store.dim, store.provenance["crops"]) == (10, 4, 10)
    np.testing.assert_allclose(store.load("a"), x.mean(1), rtol=1e-5, atol=1e-6)


def test_one_subset_only(tmp_path: Path, features: Features) -> None:
    acmnet(tmp_path, features)
    assert FeatureStore.open(tmp_path, RATE, subset="train").names == ("v_a", "v_c")
    with pytest.raises(InputError, match="no folder for this subset: found 'valid'"):
        FeatureStore.open(tmp_path, RATE, subset="valid")


def test_a_prefix_of_file_names(tmp_path: Path, features: Features) -> None:
    flat(tmp_path, features)
    store = FeatureStore.open(tmp_path, RATE, prefix="v_")
    assert store.names == ("a", "b", "c")
    assert "a" in store
    assert "v_a" not in store
    np.testing.assert_array_equal(store.load("c"), features["v_c"])
    with pytest.raises(InputError, match="no name begins like this"):
        FeatureStore.open(tmp_path, RATE, prefix="x_")


def test_streams_that_differ_by_a_snippet_are_cut(tmp_path: Path) -> None:
    for name, long in (("a", 6), ("b", 9)):
        save(tmp_path / f"rgb/{name}.npy", np.ones((5, 2), np.float32))
        save(tmp_path / f"flow/{name}.npy", np.ones((long, 3), np.float32))
    store = FeatureStore.open(tmp_path, 1.0)
    assert store.length("a") == 5
    assert store.load("a").shape == (5, 5)
    with pytest.raises(InputError, match=r"b\.npy: the streams of a video differ in length: found 5 and 9"):
        store.load("b")


def test_our_files_say_how_they_were_made(tmp_path: Path, features: Features) -> None:
    path = tmp_path / "v_a.safetensors"
    write_video_features(
        path,
        dict(halves(features["v_a"])),
        rate=7.5,
        window=16 / 30,
        offset=0.2,
        backbone="i3d",
        weights="rgb_imagenet.pt",
        source_hash="abc",
    )
    about = safetensors_about(path)
    assert about["dims"] == {"rgb": 4, "flow": 4}
    assert (about["rate"], about["stride"], about["backbone"]) == (7.5, 1 / 7.5, "i3d")
    store = FeatureStore.open(tmp_path)
    assert (store.rate, store.offset, store.streams) == (7.5, 0.2, (4, 4))
    assert store.axis("v_a").start == 0.2
    assert store.provenance["weights"] == "rgb_imagenet.pt"
    assert "source_hash" not in store.provenance  # of this video, not of the set
    with pytest.raises(
        InputError, match=r"not the one that the features were made with: found 1.5625, expected 7.5"
    ):
        FeatureStore.open(tmp_path, rate=RATE)


def test_a_pack_keeps_what_was_known(tmp_path: Path, features: Features) -> None:
    ours(tmp_path / "raw", features)
    write_pack(FeatureStore.open(tmp_path / "raw"), tmp_path / "pack", names=["v_c", "v_a"])
    store = FeatureStore.open(tmp_path / "pack")
    assert store.names == ("v_c", "v_a")
    assert (store.rate, store.streams, store.provenance["backbone"]) == (RATE, (4, 4), "i3d")


# ------------------------------------------------------------------------------------- bad input


def test_unknown_videos_and_rates(tmp_path: Path, features: Features) -> None:
    flat(tmp_path, features)
    store = FeatureStore.open(tmp_path)
    with pytest.raises(InputError, match=r"no features of this video: found 'v_aa'; did you mean 'v_a'\?"):
        store.load("v_aa")
    with pytest.raises(InputError, match="the rate of these features is not known"):
        store.axis("v_a")
    for rate in (0, -2, float("nan")):
        with pytest.raises(InputError, match="a rate is in snippets per second"):
            FeatureStore.open(tmp_path, rate=rate)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((4, 7), np.float32), r"bad\.npy: features of another width: found 7, expected 8, as of 'a'"),
        (np.empty((0, 8), np.float32), r"bad\.npy: the video is shorter than a snippet: found no snippet"),
        (np.ones(8, np.float32), r"bad\.npy: not an array of snippets: found shape \(8,\)"),
        (np.ones((2, 3, 4, 5), np.float32), r"bad\.npy: not an array of snippets"),
        (
            np.where(np.arange(32).reshape(4, 8) == 20, np.nan, 1).astype(np.float32),
            r"bad\.npy: snippet 2: features that are not finite: found 1 values, in 1 of 4 snippets",
        ),
        (np.full((4, 8), np.inf, np.float32), "found 32 values, in 4 of 4 snippets"),
    ],
)
def test_a_video_that_is_not_like_the_others(tmp_path: Path, array: np.ndarray, message: str) -> None:
    flat(tmp_path, {"a": np.ones((5, 8), np.float32), "b": np.ones((6, 8), np.float32), "bad": array})
    store = FeatureStore.open(tmp_path, RATE)
    with pytest.raises(InputError, match=message):
        store.load("bad")
    assert store.load("a").shape == (5, 8)


def test_only_videos_of_another_form(tmp_path: Path) -> None:
    flat(tmp_path, {"a": np.ones(8)})
    with pytest.raises(InputError, match=r"a\.npy: not an array of snippets: found shape \(8,\)"):
        FeatureStore.open(tmp_path, RATE)


def test_nothing_that_looks_like_features(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        FeatureStore.open(tmp_path / "missing")
    (tmp_path / "readme.md").touch()
    with pytest.raises(InputError, match=r"no features in this folder: found readme\.md"):
        FeatureStore.open(tmp_path)
    with pytest.raises(InputError, match="not a file of features"):
        FeatureStore.open(tmp_path / "readme.md")


def test_one_stream_of_two(tmp_path: Path) -> None:
    for path in ("rgb/a.npy", "rgb/b.npy", "flow/a.npy"):
        save(tmp_path / path, np.ones((3, 2)))
    with pytest.raises(InputError, match="videos with one stream of two: found 1, such as 'b'"):
        FeatureStore.open(tmp_path)


def test_two_files_of_one_video(tmp_path: Path) -> None:
    for part in ("train", "test"):
        save(tmp_path / part / "a.npy", np.ones((3, 2)))
    with pytest.raises(InputError, match="two files for one video"):
        FeatureStore.open(tmp_path)


def test_a_joint_array_and_its_names(tmp_path: Path, features: Features) -> None:
    joint(tmp_path, features)
    (path,) = tmp_path.glob("*JOINT*")
    (tmp_path / "Thumos14reduced-Annotations").mkdir()
    (tmp_path / "videoname.npy").rename(tmp_path / "Thumos14reduced-Annotations/videoname.npy")
    assert FeatureStore.open(path, RATE).names == tuple(features)
    (tmp_path / "Thumos14reduced-Annotations/videoname.npy").rename(tmp_path / "names.npy")
    with pytest.raises(InputError, match="a joint array needs the names of its videos"):
        FeatureStore.open(path, RATE)
    assert FeatureStore.open(path, RATE, names=tmp_path / "names.npy").names == tuple(features)
    with pytest.raises(InputError, match="differ in length: found 3 videos, expected 2 names"):
        FeatureStore.open(path, RATE, names=["a", "b"])


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.safetensors", "a.h5", "pack.json"])
@pytest.mark.parametrize("content", [b"", b"\x00garbage" * 9])
def test_unreadable_files(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}.*not a readable"):
        FeatureStore.open(tmp_path, RATE)


def test_files_that_were_cut_short(tmp_path: Path, features: Features) -> None:
    ours(tmp_path / "ours", features)
    path = tmp_path / "ours/v_a.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="the file is cut short"):
        FeatureStore.open(tmp_path / "ours")
    packed(tmp_path / "pack", features)
    data = tmp_path / "pack/features.float32"
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(InputError, match="not a readable pack: the data file has"):
        FeatureStore.open(tmp_path / "pack")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.full((3, 2), np.nan), "not finite"),
        (np.empty((0, 2)), "not an array of snippets"),
        (np.zeros(3), "not an array of snippets"),
        ({"rgb": np.zeros((3, 2)), "flow": np.zeros((4, 2))}, "differ in length"),
    ],
)
def test_unsound_features_are_not_written(tmp_path: Path, features: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        write_video_features(tmp_path / "a.safetensors", features, rate=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_pack_of_unsound_features_is_not_written(tmp_path: Path) -> None:
    flat(tmp_path / "raw", {"a": np.ones((3, 2)), "b": np.full((3, 2), np.nan)})
    with pytest.raises(InputError, match=r"b\.npy"):
        write_pack(FeatureStore.open(tmp_path / "raw", 1.0), tmp_path / "pack")
    assert list((tmp_path / "pack").iterdir()) == []
