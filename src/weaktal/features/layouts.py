"""How features lie on a disk: one class per layout, found by looking.

A layout knows its videos and, of each, the raw arrays (one per stream), without reading more than it must.
What the arrays mean (which axis is time, when a row is) is the business of `FeatureStore`.
"""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weaktal.core import InputError
from weaktal.core.npy import read_npy

Shape = tuple[int, ...]
STREAMS = ("rgb", "flow")  # the order in which the field concatenates them
SUBSETS = ("train", "training", "test", "testing", "val", "validation")
SUFFIXES = (".npy", ".npz", ".safetensors")
# annotation arrays that some people keep beside their features
WTALC = {
    f"{name}.npy"
    for name in (
        *("videoname", "classlist", "labels", "labels_all", "segments", "subset", "duration"),
        *("extracted_fps", "original_fps"),
    )
}
HEADER_KEY = "weaktal"
PACK_INDEX = "pack.json"


class Layout(Protocol):
    """Videos of a store and their raw arrays."""

    kind: str

    @property
    def names(self) -> tuple[str, ...]:
        """The videos, in a fixed order."""
        ...

    def shapes(self, name: str) -> list[Shape]:
        """Shapes of the streams of a video, cheaply."""
        ...

    def read(self, name: str) -> list[np.ndarray]:
        """Streams of a video, memory-mapped where the file allows."""
        ...

    def header(self, name: str) -> dict[str, Any]:
        """What the file itself says about its features; empty for foreign files."""
        ...

    def where(self, name: str) -> str:
        """The file (and place in it) of a video, for messages."""
        ...


# ------------------------------------------------------------------------------------ single files


def video_names(path: Path) -> list[str]:
    """The names in a ``videoname.npy``: the order of a joint array."""
    return [x.decode("utf-8") if isinstance(x, bytes) else str(x) for x in read_npy(path).reshape(-1)]


def npy_shape(path: Path) -> Shape:
    """The shape of a ``.npy`` file, from its header."""
    return tuple(read_npy(path, mmap=True).shape)


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data starts."""
    try:
        with path.open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            if size > 100_000_000:
                raise ValueError("the header is too long")
            header = json.loads(file.read(size))
        end = max((int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"), default=0)
        if path.stat().st_size < 8 + size + end:
            raise ValueError("the file is cut short")
        return header, 8 + size
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise InputError(f"not a readable safetensors file: {error}", file=path) from None


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


def _safetensors_streams(path: Path) -> dict[str, tuple[str, Shape, int]]:
    """Stream name to dtype, shape and byte offset, streams of the field's convention first."""
    header, start = safetensors_header(path)
    out = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise InputError("features of this type are not read", file=path, field=key, found=entry["dtype"])
        out[key] = (_DTYPES[entry["dtype"]], tuple(entry["shape"]), start + int(entry["data_offsets"][0]))
    return {k: out[k] for k in [*(s for s in STREAMS if s in out), *sorted(set(out) - set(STREAMS))]}


def safetensors_about(path: Path) -> dict[str, Any]:
    """The description that `write_video_features` stored in a file."""
    text = safetensors_header(path)[0].get("__metadata__", {}).get(HEADER_KEY, "{}")
    about = json.loads(text)
    return about if isinstance(about, dict) else {}


def _npz_streams(path: Path) -> list[np.ndarray]:
    """The array of an ``.npz`` file: ``rgb`` and ``flow``, or ``feats``/``features``, or the only one."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            keys = archive.files
            if set(STREAMS) <= set(keys):
                return [archive[k] for k in STREAMS]
            chosen = [k for k in ("features", "feats", "feat", "feature") if k in keys] or keys
            if len(chosen) != 1 and len(keys) != 1:
                raise InputError("which array holds the features?", file=path, found=", ".join(keys))
            return [archive[chosen[0]]]
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"not a readable .npz file: {error}", file=path) from None


# ---------------------------------------------------------------------------------------- layouts


class _Reopened:
    """What is open or read stays here when a layout travels to another process; there it is read again."""

    def __getstate__(self) -> dict[str, Any]:
        return {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]


@dataclass
class PerVideoFiles:
    """One file per video, or one per video and stream."""

    kind: str
    files: dict[str, tuple[Path, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.files)

    def shapes(self, name: str) -> list[Shape]:
        paths = self.files[name]
        if paths[0].suffix == ".npy":
            return [npy_shape(p) for p in paths]
        if paths[0].suffix == ".safetensors":
            return [shape for p in paths for _, shape, _ in _safetensors_streams(p).values()]
        return [a.shape for a in self.read(name)]

    def read(self, name: str) -> list[np.ndarray]:
        out: list[np.ndarray] = []
        for path in self.files[name]:
            if path.suffix == ".npy":
                out.append(read_npy(path, mmap=True))
            elif path.suffix == ".npz":
                out += _npz_streams(path)
            else:
                for dtype, shape, start in _safetensors_streams(path).values():
                    empty = 0 in shape
                    out.append(np.empty(shape, dtype) if empty else np.memmap(path, dtype, "r", start, shape))
        return out

    def header(self, name: str) -> dict[str, Any]:
        path = self.files[name][0]
        return safetensors_about(path) if path.suffix == ".safetensors" else {}

    def where(self, name: str) -> str:
        return str(self.files[name][0])


@dataclass
class JointArray(_Reopened):
    """W-TALC: one pickled object array, in the order of ``videoname.npy``; read as a whole, once."""

    path: Path
    names: tuple[str, ...]
    kind: str = "joint"

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        array = read_npy(self.path)
        if len(array) != len(self.names):
            raise InputError(
                "the array and its list of names differ in length",
                file=self.path,
                found=f"{len(array)} videos",
                expected=f"{len(self.names)} names",
                hint="one of them is of a reduced set",
            )
        out = {}
        for name, video in zip(self.names, array, strict=True):
            if not isinstance(video, np.ndarray) or video.dtype.kind not in "fiu":
                raise InputError("a video is no array of numbers", file=self.path, field=name)
            out[name] = video
        return out

    def shapes(self, name: str) -> list[Shape]:
        return [self.arrays[name].shape]

    def read(self, name: str) -> list[np.ndarray]:
        return [self.arrays[name]]

    def header(self, name: str) -> dict[str, Any]:
        return {}

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"


@dataclass
class HDF5File(_Reopened):
    """One HDF5 file: a data set per video, or a group per video with the streams in it."""

    path: Path
    kind: str = "hdf5"

    @cached_property
    def file(self) -> Any:
        try:
            import h5py
        except ImportError:
            raise InputError(
                "HDF5 needs the h5py package", file=self.path, hint="pip install 'weaktal[hdf5]'"
            ) from None
        try:
            return h5py.File(self.path, "r")
        except OSError as error:
            raise InputError(f"not a readable HDF5 file: {error}", file=self.path) from None

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.file)

    def _sets(self, name: str) -> list[Any]:
        node = self.file[name]
        if hasattr(node, "shape"):
            return [node]
        keys = list(node)
        if set(STREAMS) <= set(keys):
            return [node[k] for k in STREAMS]
        if len(keys) != 1:
            raise InputError(
                "which data set holds the features?", file=self.where(name), found=", ".join(keys)
            )
        return [node[keys[0]]]

    def shapes(self, name: str) -> list[Shape]:
        return [tuple(d.shape) for d in self._sets(name)]

    def read(self, name: str) -> list[np.ndarray]:
        return [np.asarray(d[()]) for d in self._sets(name)]

    def header(self, name: str) -> dict[str, Any]:
        return {}

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"


@dataclass
class Pack(_Reopened):
    """Ours: all rows in one file of float32, and an index beside it; memory-mapped."""

    folder: Path
    kind: str = "pack"

    @cached_property
    def index(self) -> dict[str, Any]:
        path = self.folder / PACK_INDEX
        try:
            index = json.loads(path.read_text(encoding="utf-8"))
            rows, width = int(sum(index["lengths"])), int(index["dim"])
            if len(index["names"]) != len(index["lengths"]):
                raise ValueError("names and lengths differ in number")
            size = (self.folder / index["data"]).stat().st_size
            if size != rows * width * 4:
                raise ValueError(f"the data file has {size} bytes, and {rows * width * 4} are listed")
        except FileNotFoundError as error:
            raise InputError("no such file", file=error.filename) from None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"not a readable pack: {error}", file=path) from None
        return dict(index)

    @cached_property
    def data_path(self) -> Path:
        return self.folder / str(self.index["data"])

    @cached_property
    def _rows(self) -> tuple[np.ndarray, dict[str, slice]]:
        edge = np.concatenate([[0], np.cumsum(self.index["lengths"])]).astype(np.int64).tolist()
        shape = (edge[-1], int(self.index["dim"]))
        data = (
            np.memmap(self.data_path, np.float32, "r", 0, shape) if edge[-1] else np.empty(shape, np.float32)
        )
        return data, {n: slice(a, b) for n, a, b in zip(self.names, edge, edge[1:], strict=False)}

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self.index["names"])

    @cached_property
    def _lengths(self) -> dict[str, int]:
        return dict(zip(self.names, self.index["lengths"], strict=True))

    def shapes(self, name: str) -> list[Shape]:
        return [(self._lengths[name], int(self.index["dim"]))]

    def read(self, name: str) -> list[np.ndarray]:
        data, place = self._rows
        return [data[place[name]]]

    def header(self, name: str) -> dict[str, Any]:
        start = self._starts.get(name)
        return dict(self.index["about"]) | ({} if start is None else {"start": start})

    @cached_property
    def _starts(self) -> dict[str, float | None]:
        return dict(zip(self.names, self.index.get("starts") or (), strict=False))

    def where(self, name: str) -> str:
        return f"{self.folder}: {name}"


# ------------------------------------------------------------------------------------ finding out


def find(path: Path, names: Sequence[str] | None = None, subset: str | None = None) -> Layout:
    """The layout of a file or folder.

    Args:
        path: what the user names.
        names: order of the videos, for a joint array.
        subset: only this sub-folder (``train``, ``test``, ...).

    Raises:
        InputError: nothing there that looks like features.
    """
    if not path.exists():
        raise InputError("no such file or folder", file=path)
    if path.is_file():
        if path.name == PACK_INDEX:
            return Pack(path.parent)
        if path.suffix in (".h5", ".hdf5"):
            return HDF5File(path)
        if path.suffix == ".npy":
            return _joint(path, names)
        raise InputError(
            "not a file of features",
            file=path,
            expected="a folder, .npy (joint array), .h5, .hdf5 or pack.json",
        )
    if subset is not None:
        if not (path / subset).is_dir():
            raise InputError("no folder for this subset", file=path, found=repr(subset))
        path = path / subset
    if (path / PACK_INDEX).is_file():
        return Pack(path)
    joint = sorted(p for p in path.glob("*.npy") if _is_joint(p.name))
    found = None if joint and names is not None else _per_video(path)
    if found is None and len(joint) == 1:
        return _joint(joint[0], names)
    if found is None:
        hdf5 = sorted(p for p in path.iterdir() if p.suffix in (".h5", ".hdf5"))
        if len(hdf5) == 1:
            return HDF5File(hdf5[0])
        if (path / "features").is_dir():
            return find(path / "features", names)
        raise InputError(
            "no features in this folder",
            file=path,
            found=", ".join(sorted(p.name for p in path.iterdir() if p.name[0] != ".")[:6]) or "nothing",
            expected="NAME.npy, .npz or .safetensors; rgb/ and flow/; train/ and test/ with either; a joint "
            ".npy; an .h5 file; a pack",
        )
    return found


def _joint(path: Path, names: Sequence[str] | None) -> JointArray:
    if names is None:
        # W-TALC keeps its annotations in a folder beside the features
        near = [path.parent / "videoname.npy", *sorted(path.parent.glob("*nnotation*/videoname.npy"))]
        found = [p for p in near if p.exists()]
        if len(found) != 1:
            raise InputError(
                "a joint array needs the names of its videos",
                file=path,
                found=f"{len(found)} files videoname.npy beside it",
                hint="name one in the data set description (features: {names: ...})",
            )
        names = video_names(found[0])
    return JointArray(path, tuple(names))


def _is_joint(name: str) -> bool:
    return "joint" in name.lower() and name.endswith(".npy")


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Feature files and sub-folders of a folder, sorted; hidden ones are skipped."""
    files, folders = [], []
    with os.scandir(folder) as listing:
        for entry in listing:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                folders.append(Path(entry.path))
            elif entry.name.endswith(SUFFIXES) and not _is_joint(entry.name) and entry.name not in WTALC:
                files.append(Path(entry.path))
    return sorted(files), sorted(folders)


def _per_video(folder: Path) -> PerVideoFiles | None:
    """Files of a folder or of its train/, test/, ... sub-folders, in one stream or two."""
    files, folders = _entries(folder)
    by_name = {f.name.lower(): f for f in folders}
    if not files and not set(STREAMS) <= set(by_name):
        parts = [f for name, f in by_name.items() if name in SUBSETS]
    else:
        parts = [folder]
    found: dict[str, tuple[Path, ...]] = {}
    kinds = set()
    for part in parts:
        for kind, name, paths in _videos(part):
            if name in found:
                raise InputError(
                    "two files for one video",
                    file=paths[0],
                    found=str(found[name][0]),
                    hint="keep one of them",
                )
            found[name] = paths
            kinds.add(kind)
    if not found:
        return None
    if len(kinds) > 1:
        raise InputError("features in different layouts in one folder", file=folder, found=sorted(kinds))
    return PerVideoFiles(kinds.pop(), found)


def _videos(folder: Path) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """Kind, name and files of each video of one folder."""
    files, folders = _entries(folder)
    by_name = {f.name.lower(): f for f in folders}
    if not files and set(STREAMS) <= set(by_name):
        streams = [{p.stem: p for p in _entries(by_name[s])[0]} for s in STREAMS]
        yield from _paired(streams, folder)
        return
    marked = [re.fullmatch(r"(.+)[-_.](rgb|flow)", p.stem, re.IGNORECASE) for p in files]
    if files and all(marked):
        sides: Mapping[str, dict[str, Path]] = {s: {} for s in STREAMS}
        for match, path in zip(marked, files, strict=True):
            assert match
            sides[match[2].lower()][match[1]] = path
        if all(sides.values()):
            yield from _paired([sides[s] for s in STREAMS], folder)
            return
    by_stem: dict[str, Path] = {}
    for path in files:
        if path.stem in by_stem:
            raise InputError("two files for one video", file=path, found=str(by_stem[path.stem]))
        by_stem[path.stem] = path
    for name, path in by_stem.items():
        yield ("safetensors" if path.suffix == ".safetensors" else "per-video"), name, (path,)


def _paired(streams: list[dict[str, Path]], folder: Path) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    lonely = set(streams[0]) ^ set(streams[1])
    if lonely:
        first = min(lonely)
        raise InputError(
            "videos with one stream of two",
            file=folder,
            found=f"{len(lonely)}, such as {first!r}",
            expected="rgb and flow of every video",
        )
    for name in sorted(streams[0]):
        yield "rgb+flow", name, tuple(s[name] for s in streams)
