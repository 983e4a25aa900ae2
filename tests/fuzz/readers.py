"""Every reader of ours with a small sound file, and the ways in which such a file is damaged."""

from __future__ import annotations

import json
import random
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutate import Mutation, dumped, in_bytes, in_cells, in_json, in_numbers, mutated_value
from weaktal import formats
from weaktal.core import (
    Annotations,
    CoverageWarning,
    Detections,
    Instances,
    Points,
    SnippetScores,
    TimeAxis,
    Video,
)
from weaktal.core.npy import read_npy, read_npz
from weaktal.core.reading import read_json, read_yaml
from weaktal.dataset import Dataset
from weaktal.evaluate import evaluate
from weaktal.features.check import inspect_features
from weaktal.features.store import FeatureStore, write_video_features
from weaktal.files.inspection import inspect
from weaktal.formats import exchange
from weaktal.formats.scores import load_scores, save_scores


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        write: puts sound files into a folder; the path that is read.
        read: reads it, and does with it what commands do.
        damage: what is done to a file.
        files: which of the files are damaged.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], Any]
    damage: tuple[Mutation, ...] = (in_bytes,)
    files: str = "*"


ANNOTATIONS = Annotations.of(
    ["run", "jump, high"],
    [
        Video("v_1", "train", 30.0, 25.0, Instances([1, 5.5], [2, 9], [0, 1]), Points([1.5], [0]), (0, 1)),
        Video("v 2é", "test", 20.0, 25.0, Instances([3], [4], [1]), None, (1,), np.array([[7.0, 8.0]])),
    ],
)
DETECTIONS = Detections(
    ("v_1", "v 2é"), ("run", "jump, high"), [0, 0, 1], [1, 5, 3], [2, 8, 4.5], [0, 1, 1], [0.9, 0.5, 0.1]
)


def annotations_of(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        formats.save_annotations(ANNOTATIONS, folder / name)
        return folder / name

    return write


def detections_of(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        formats.save_detections(DETECTIONS, folder / name)
        return folder / name

    return write


def text_of(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text)
        return folder / name

    return write


def use_annotations(path: Path) -> None:
    found = formats.load_annotations(path)
    inspect(path)
    for name in ("a.json", "a.csv"):
        formats.save_annotations(found, path.parent / f"out-{name}")
        formats.load_annotations(path.parent / f"out-{name}")
    evaluate(DETECTIONS, found)


def use_detections(path: Path) -> None:
    found = formats.load_detections(path)
    inspect(path, annotations=ANNOTATIONS)
    for name in ("d.json", "d.csv"):
        formats.save_detections(found, path.parent / f"out-{name}")
        formats.load_detections(path.parent / f"out-{name}")
    for protocol in ("activitynet", "wtalc"):
        evaluate(found, ANNOTATIONS, protocol)


def use_points(path: Path) -> None:
    table = formats.load_points(path, fps=25.0)
    formats.load_points(path, annotations=ANNOTATIONS)
    formats.attach_points(ANNOTATIONS, table)
    inspect(path, annotations=ANNOTATIONS)
    formats.sfnet_points.write(table, path.parent / "out.txt")


DESCRIPTION = """name: small
annotations: gt.json
subsets: {train: train, test: test}
classes: [run, "jump, high"]
points: points.txt
fps: 25
features: {path: features, fps: 25, stride: 16, window: 16, suffix: _i3d}
protocol: activitynet
"""


def write_dataset(folder: Path) -> Path:
    formats.save_annotations(ANNOTATIONS, folder / "gt.json")
    (folder / "points.txt").write_text("v_1,1.5,run\n")
    (folder / "features").mkdir()
    for video in ANNOTATIONS:
        np.save(folder / "features" / f"{video.name}_i3d.npy", np.ones((40, 3), np.float32))
    (folder / "data.yaml").write_text(DESCRIPTION)
    return folder / "data.yaml"


def use_dataset(path: Path) -> None:
    data = Dataset.load(path)
    data.check()
    inspect(path)


def use_store(path: Path) -> None:
    store = FeatureStore.open(path, 1.5625 if path.suffix != ".safetensors" else None)
    inspect_features(store, {"a": 30.0, "b": 20.0})
    for name in store.names:
        store.load(name)
        store.axis(name)
        store.about(name)


def own_store(path: Path) -> None:
    store = FeatureStore.open(path)
    inspect(path)
    for name in store.names:
        store.load(name)
        store.axis(name)
        store.about(name)


def arrays(save: Callable[[Path, np.ndarray], None], suffix: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        for name, length in (("a", 40), ("b", 30)):
            save(folder / f"{name}{suffix}", rng.random((length, 4), np.float32))
        return folder

    return write


def objects(*values: object) -> np.ndarray:
    out = np.empty(len(values), object)
    for i, value in enumerate(values):
        out[i] = value
    return out


def write_joint(folder: Path) -> Path:
    np.save(folder / "videoname.npy", np.array([b"a", b"b"]))
    np.save(
        folder / "S-I3D-JOINT.npy",
        objects(np.ones((40, 4), np.float32), np.ones((30, 4), np.float32)),
        allow_pickle=True,
    )
    return folder / "S-I3D-JOINT.npy"


def write_objects(folder: Path) -> Path:
    value = objects([[0.5, 2.0], [3.0, 4.0]], ["run", b"jump"], np.arange(3.0), 7, None, np.float32(2))
    np.save(folder / "a.npy", value, allow_pickle=True)
    return folder / "a.npy"


def write_own(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name, length in (("a", 40), ("b", 30)):
        streams = {"rgb": rng.random((length, 3)), "flow": rng.random((length, 2))}
        write_video_features(
            folder / f"{name}.safetensors",
            streams,
            rate=1.5625,
            window=0.64,
            backbone="motion",
            duration=length / 1.5625,
            source={"file": f"{name}.mp4", "bytes": 1},
            warnings=["a damaged packet"],
        )
    return folder


def in_header(data: bytes, rng: random.Random) -> bytes:
    """The JSON header of a safetensors file is another, of the size that it has then."""
    (size,) = struct.unpack("<Q", data[:8])
    header = mutated_value(json.loads(data[8 : 8 + size]), rng)
    if rng.random() < 0.5 and isinstance(header, dict) and isinstance(header.get("__metadata__"), dict):
        inner = header["__metadata__"]
        for key, text in inner.items():
            try:
                inner[key] = json.dumps(mutated_value(json.loads(text), rng))
            except (TypeError, ValueError):
                continue
    raw = dumped(header)
    return struct.pack("<Q", len(raw) + (rng.random() < 0.1)) + raw + data[8 + size :]


def in_npy_header(data: bytes, rng: random.Random) -> bytes:
    """The header of a .npy file is another, of the size that it says."""
    size = int.from_bytes(data[8:10], "little")
    raw = in_numbers(data[10 : 10 + size], rng) if rng.random() < 0.5 else in_bytes(data[10 : 10 + size], rng)
    return data[:8] + struct.pack("<H", min(len(raw), 65535)) + raw + data[10 + size :]


def write_pack_folder(folder: Path) -> Path:
    from weaktal.features.pack import write_pack

    source = folder / "source"
    source.mkdir()
    write_own(source)
    write_pack(FeatureStore.open(source), folder / "pack")
    return folder / "pack"


def write_hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "a.h5", "w") as file:
        file["a"] = np.ones((40, 4), np.float32)
        file.create_dataset("b/rgb", data=np.ones((30, 2), np.float32), compression="gzip", chunks=(10, 2))
        file["b/flow"] = np.ones((30, 2), np.float32)
    return folder / "a.h5"


def write_scores(folder: Path) -> Path:
    rng = np.random.default_rng(0)

    def scores(name: str, length: int) -> SnippetScores:
        cas, foreground = rng.random((length, 2), np.float32), rng.random(length, np.float32)
        return SnippetScores(name, cas, foreground, rng.random(2, np.float32), TimeAxis.uniform(length, 1.5))

    save_scores([scores("a", 5), scores("b", 3)], folder / "s.safetensors", ("run", "jump"))
    return folder / "s.safetensors"


def write_run(folder: Path) -> Path:
    from weaktal.train.config import resolve_config
    from weaktal.train.run import Run

    data = {"subset": "train", "videos": 3, "features": {"rate": 1.5625, "dims": [4], "backbone": "motion"}}
    Run.create(folder / "run", "lac", resolve_config("lac"), dim=4, classes=["run", "jump"], data=data)
    return folder / "run/config.yaml"


def use_run(path: Path) -> None:
    from weaktal.train.run import Run

    config = Run.open(path.parent).config
    _ = config.method_config


def write_recipe(folder: Path) -> Path:
    (folder / "r.yaml").write_text("learning_rate: 1e-4\nepochs: 3\nbatch_size: 8\nthresholds: [0.1, 0.2]\n")
    return folder / "r.yaml"


def use_recipe(path: Path) -> None:
    from weaktal.train.config import read_yaml

    read_yaml(path)


def use_archive(path: Path) -> None:
    for read in read_npz(path / "a.npz").values():
        read()


TEXT = (in_bytes, in_numbers, in_json)
TABLE = (in_bytes, in_numbers, in_cells)

READERS: dict[str, Reader] = {
    "json": Reader(text_of("a.json", '{"a": [1, 2.5, "x", null, true], "b": {"c": {}}}'), read_json, TEXT),
    "yaml": Reader(text_of("a.yaml", DESCRIPTION), read_yaml, (in_bytes, in_numbers)),
    "annotations-json": Reader(annotations_of("gt.json"), use_annotations, TEXT),
    "annotations-csv": Reader(annotations_of("gt.csv"), use_annotations, TABLE),
    "annotations-wtalc": Reader(
        annotations_of("arrays"), use_annotations, (in_bytes, in_npy_header), "*.npy"
    ),
    "detections-json": Reader(detections_of("d.json"), use_detections, TEXT),
    "detections-csv": Reader(detections_of("d.csv"), use_detections, TABLE),
    "points-csv": Reader(
        text_of(
            "p.csv",
            "class,class_index,start_frame,stop_frame,video_id,point\n"
            'run,0,25,50,v_1,30\n"jump, high",1,75,100,v 2é,80\n',
        ),
        use_points,
        TABLE,
    ),
    "points-sfnet": Reader(text_of("p.txt", "v_1,1.5,run\nv 2é,3,jump, high\n"), use_points, TABLE),
    "ambiguous": Reader(
        text_of("a.txt", "v_1  1.0 2.5\nv 2é  0 3\n"), formats.load_ignored, (in_bytes, in_numbers)
    ),
    "fps": Reader(text_of("f.json", '{"v_1": 25, "v 2é": "29.97"}'), formats.load_fps, TEXT),
    "dataset": Reader(write_dataset, use_dataset, (in_bytes, in_numbers), "data.yaml"),
    "npy": Reader(arrays(np.save, ".npy"), use_store, (in_bytes, in_npy_header)),
    "npz": Reader(arrays(lambda p, a: np.savez_compressed(p, feats=a), ".npz"), use_store),
    "npz-members": Reader(arrays(lambda p, a: np.savez(p, rgb=a, flow=a), ".npz"), use_archive),
    "npy-objects": Reader(write_objects, read_npy, (in_bytes, in_npy_header)),
    "joint": Reader(write_joint, use_store, (in_bytes, in_npy_header), "*.npy"),
    "safetensors": Reader(write_own, own_store, (in_bytes, in_header)),
    "pack": Reader(write_pack_folder, own_store, (in_bytes, in_numbers, in_json), "pack.json"),
    "hdf5": Reader(write_hdf5, use_store),
    "run-config": Reader(write_run, use_run, (in_bytes, in_numbers)),
    "recipe": Reader(write_recipe, use_recipe, (in_bytes, in_numbers)),
    "scores": Reader(write_scores, load_scores, (in_bytes, in_header)),
}


def exchanged(entry: exchange.Format) -> Reader:
    """A file of another tool; in folders with one file a video, of two videos."""
    ending = {"boris": ".boris", "boris-events": ".tsv", "fcpxml": ".fcpxml"}.get(entry.name, ".json")

    def write(folder: Path) -> Path:
        plain = Annotations(("run", "jump high"), ANNOTATIONS.videos)
        path = folder / ("all" if entry.folder else f"all{ending}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)
            exchange.write(plain, path, entry.name)
        return path

    def read(path: Path) -> None:
        exchange.format_of(path)
        exchange.read(path, entry.name, 25.0)

    table = entry.name in ("boris-events", "camtrap-dp", "frame-table", "audacity")
    damage = TABLE if table else TEXT if ending in (".boris", ".json") and not entry.folder else TEXT[:2]
    return Reader(write, read, damage)


READERS |= {f"exchange-{name}": exchanged(entry) for name, entry in exchange.FORMATS.items()}


EXCHANGED = Annotations.of(
    ["run", "jump high"],
    [
        Video("v_1", None, 30.0, 25.0, Instances([1, 5.5], [2, 9], [0, 1]), Points([1.5], [0]), (0, 1)),
        Video("v2é", None, 20.0, 25.0, Instances([3], [4], [1]), Points([3.5], [1]), (1,)),
    ],
)


def exchanged(name: str) -> Reader:
    """A format of another tool: a file, or a folder of one file a video."""
    entry = exchange.FORMATS[name]
    target = "out" if entry.folder else f"f{entry.suffixes[0] if entry.suffixes else '.json'}"

    def write(folder: Path) -> Path:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CoverageWarning)  # what the format leaves out
            exchange.write(EXCHANGED, folder / target, name)
        return folder / target

    def read(path: Path) -> None:
        found = exchange.read(path, name, 25.0)
        formats.save_annotations(found, path.parent / "out-a.json")

    return Reader(write, read, (in_bytes, in_numbers, in_json if name in JSON else in_cells))


JSON = ("boris", "label-studio", "via", "fiftyone")
READERS |= {f"exchange-{name}": exchanged(name) for name in exchange.FORMATS}
