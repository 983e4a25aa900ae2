"""How features lie on a disk: one class per layout, found by looking.

A layout knows its videos and, of each, the raw arrays (one per stream), without reading more than it must.
What the arrays mean (which axis is time, when a row is) is the business of `FeatureStore`.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weaktal.core import InputError, file_name, file_names, printable, shown
from weaktal.core.npy import npy_shape, read_npy, read_npz, text_of
from weaktal.core.reading import check_name, number, parse_json, read_mapping
from weaktal.core.reading import kind as kind_of

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
_STREAM = re.compile(r"(.+)[-_.](rgb|flow)", re.IGNORECASE | re.DOTALL)
PACK_INDEX = "pack.json"
RATES = (1e-6, 1e6)  # snippets per second of anything
LONGEST = 1e9  # seconds


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
    return [check_name(text_of(x), "video", file=path) for x in read_npy(path).reshape(-1)]


# bytes of an element; others are no types of the format
_ITEM = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_ITEM |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}
MAX_HEADER = 100_000_000


def safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a safetensors file, and where its data starts.

    Raises:
        InputError: unreadable; a header that is not as the format says: each array has as many bytes as its
            shape and type need, one lies after the other, and together they are the rest of the file.
    """
    what = "not a readable safetensors file"
    try:
        with path.open("rb") as file:
            total = os.fstat(file.fileno()).st_size
            raw = file.read(8)
            size = int.from_bytes(raw, "little")
            if len(raw) < 8 or size > min(MAX_HEADER, total - 8):
                raise InputError(f"{what}: the header is cut short or too long", file=path)
            text = file.read(size)
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except OSError as error:
        raise InputError(f"{what}: {error.strerror or error}", file=path) from None
    header = parse_json(text, path, "header")
    if not isinstance(header, dict):
        raise InputError(f"{what}: the header is no object", file=path, found=kind_of(header))
    said = header.get("__metadata__", {})
    if not isinstance(said, dict) or not all(isinstance(v, str) for v in said.values()):
        raise InputError("expected texts", file=path, field="__metadata__", found=kind_of(said))
    spans = sorted((*_span(key, entry, path), key) for key, entry in header.items() if key != "__metadata__")
    at = 0
    for start, end, key in spans:
        if start != at:
            raise InputError(
                "the arrays do not follow one another", file=path, field=key, found=start, expected=at
            )
        at = end
    if at != total - 8 - size:
        raise InputError(
            "the file is cut short or too long",
            file=path,
            found=f"{total - 8 - size} bytes of data",
            expected=f"{at}, as the header says",
        )
    return header, 8 + size


def _span(key: str, entry: Any, path: Path) -> tuple[int, int]:
    """Where an array begins and ends, if that is what its shape and type need."""

    def whole(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**62

    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise InputError(
            "expected an object with dtype, shape and data_offsets",
            file=path,
            field=key,
            found=kind_of(entry),
        )
    dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _ITEM:
        raise InputError("no type of the format", file=path, field=f"{key}.dtype", found=kind_of(dtype))
    if not isinstance(shape, list) or len(shape) > 16 or not all(map(whole, shape)):
        raise InputError("no shape", file=path, field=f"{key}.shape", found=kind_of(shape))
    if not isinstance(span, list) or len(span) != 2 or not all(map(whole, span)):
        raise InputError("expected [start, end]", file=path, field=f"{key}.data_offsets", found=kind_of(span))
    need = math.prod(shape) * _ITEM[dtype]
    if span[1] - span[0] != need:
        raise InputError(
            "an array has another size than its data",
            file=path,
            field=key,
            found=f"{span[1] - span[0]} bytes",
            expected=f"{shown(need)}, for shape {shown(shape, 60)} of {dtype}",
        )
    return span[0], span[1]


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
        out[key] = (_DTYPES[entry["dtype"]], tuple(entry["shape"]), start + entry["data_offsets"][0])
    if not out:
        raise InputError("no array in this file", file=path)
    return {k: out[k] for k in [*(s for s in STREAMS if s in out), *sorted(set(out) - set(STREAMS))]}


def safetensors_about(path: Path) -> dict[str, Any]:
    """The description that `write_video_features` stored in a file."""
    text = safetensors_header(path)[0].get("__metadata__", {}).get(HEADER_KEY, "{}")
    return sound_about(parse_json(text, path, HEADER_KEY), path)


def sound_about(about: Any, path: Path) -> dict[str, Any]:
    """What a file says of its features, if what we read of it is of the kinds that we write.

    Raises:
        InputError: a rate that is no rate, and the like, with the key.
    """
    if not isinstance(about, dict):
        raise InputError("expected an object", file=path, field=HEADER_KEY, found=kind_of(about))

    def wrong(key: str, expected: str) -> InputError:
        return InputError(
            "features that say this of themselves",
            file=path,
            field=key,
            found=kind_of(about[key]),
            expected=expected,
        )

    for key in ("rate", "window", "stride", "offset", "duration", "fps"):
        if about.get(key) is not None:
            if isinstance(about[key], str) or not math.isfinite(number(about[key], file=path, field=key)):
                raise wrong(key, "a number")
            least = {"rate": RATES[0], "offset": -LONGEST}.get(key, 0.0)
            if not least <= about[key] <= (RATES[1] if key == "rate" else LONGEST):
                raise wrong(key, f"from {least:g} to {RATES[1] if key == 'rate' else LONGEST:g}")
    dims = about.get("dims")
    if dims is not None:
        sizes = list(dims.values()) if isinstance(dims, dict) else dims
        if (
            not isinstance(sizes, list)
            or not sizes
            or not all(type(n) is int and 0 < n < 2**31 for n in sizes)
        ):
            raise wrong("dims", "widths of the streams")
    if about.get("backbone") is not None and not isinstance(about["backbone"], str):
        raise wrong("backbone", "a name")
    if not isinstance(about.get("source") or {}, dict):
        raise wrong("source", "an object")
    said = about.get("warnings") or []
    if not isinstance(said, list) or not all(isinstance(text, str) for text in said):
        raise wrong("warnings", "a list of texts")
    return about


def _npz_streams(path: Path) -> list[np.ndarray]:
    """The array of an ``.npz`` file: ``rgb`` and ``flow``, or ``feats``/``features``, or the only one."""
    arrays = read_npz(path)
    if set(STREAMS) <= set(arrays):
        return [arrays[k]() for k in STREAMS]
    known = ("features", "feats", "feat", "feature")
    chosen = [k for k in arrays if k in known] or list(arrays)
    if len(chosen) != 1:
        raise InputError(
            "which array holds the features?", file=path, found=", ".join(map(shown, arrays)) or "none"
        )
    return [arrays[chosen[0]]()]


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
        if array.ndim == 0:
            raise InputError("expected an array of videos", file=self.path, found="a single value")
        if len(set(self.names)) != len(self.names):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise InputError("a video is listed twice", file=self.path, field=shown(twice))
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
    """One HDF5 file: a data set per video, or a group per video with the streams in it.

    What HDF5 can do besides is refused: links (to elsewhere in the file, or to other files), data that lie in
    other files, types that are no numbers, and data sets that are much larger than what is stored of them.
    """

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
        with _hdf5_errors(self.path):
            return h5py.File(self.path, "r")

    @cached_property
    def names(self) -> tuple[str, ...]:
        with _hdf5_errors(self.path):
            return tuple(check_name(name, "video", file=self.path) for name in self.file)

    def _node(self, group: Any, name: str) -> Any:
        import h5py

        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            what = "to another file" if isinstance(link, h5py.ExternalLink) else "to elsewhere"
            raise InputError(f"a link {what} is not followed", file=self.path, field=shown(name))
        return group[name]

    def _sets(self, name: str) -> list[Any]:
        import h5py

        node = self._node(self.file, name)
        if isinstance(node, h5py.Dataset):
            return [self._sound(node, name)]
        keys = list(node) if isinstance(node, h5py.Group) else []
        chosen = list(STREAMS) if set(STREAMS) <= set(keys) else keys
        if len(chosen) != 1 and chosen != list(STREAMS):
            raise InputError(
                "which data set holds the features?",
                file=self.where(name),
                found=", ".join(map(shown, keys[:9])) or "none",
            )
        return [self._sound(self._node(node, key), name) for key in chosen]

    def _sound(self, node: Any, name: str) -> Any:
        import h5py

        if not isinstance(node, h5py.Dataset) or node.shape is None:
            raise InputError("not a data set of numbers", file=self.where(name))
        if node.external or node.is_virtual:
            raise InputError("its data lie in other files, which are not opened", file=self.where(name))
        if node.dtype.kind not in "fiu":
            raise InputError("not a data set of numbers", file=self.where(name), found=str(node.dtype)[:60])
        size, stored = math.prod(node.shape) * node.dtype.itemsize, node.id.get_storage_size()
        if size > 200 * stored + 2**20:
            raise InputError(
                "a data set is much larger than what is stored of it",
                file=self.where(name),
                found=f"shape {shown(node.shape, 60)} and {stored} bytes",
            )
        return node

    def shapes(self, name: str) -> list[Shape]:
        with _hdf5_errors(self.path):
            return [tuple(d.shape) for d in self._sets(name)]

    def read(self, name: str) -> list[np.ndarray]:
        with _hdf5_errors(self.path):
            return [np.asarray(d[()]) for d in self._sets(name)]

    def header(self, name: str) -> dict[str, Any]:
        return {}

    def where(self, name: str) -> str:
        return f"{self.path}: {name}"


@contextmanager
def _hdf5_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise InputError(f"not a readable HDF5 file: {printable(error, 200)}", file=path) from None


@dataclass
class Pack(_Reopened):
    """Ours: all rows in one file of float32, and an index beside it; memory-mapped."""

    folder: Path
    kind: str = "pack"

    @cached_property
    def index(self) -> dict[str, Any]:
        path = self.folder / PACK_INDEX
        try:
            index = read_mapping(path)
        except InputError as error:
            message = f"not a readable pack: {error.message}" if path.exists() else error.message
            raise InputError(message, file=path, field=error.field, found=error.found) from None
        for key, wanted in (
            ("data", str),
            ("names", list),
            ("lengths", list),
            ("dim", int),
            ("about", dict),
        ):
            if type(index.get(key)) is not wanted:
                raise InputError("not a readable pack", file=path, field=key, found=kind_of(index.get(key)))
        names, lengths, dim = index["names"], index["lengths"], index["dim"]
        for name in names:
            check_name(name, "video", file=path, field="names")
        if len(set(names)) != len(names) or len(names) != len(lengths):
            raise InputError("names that are not one for each length", file=path, field="names")
        if not all(type(n) is int and 0 <= n < 2**40 for n in lengths) or not 0 < dim < 2**31:
            raise InputError("lengths or a width that cannot be", file=path, field="lengths")
        sound_about(index["about"], path)
        data = self.folder / file_name(index["data"], what="data file")
        try:
            size = data.stat().st_size
        except OSError as error:
            raise InputError(f"not a readable pack: {error.strerror}", file=data) from None
        if size != 4 * sum(lengths) * dim:
            raise InputError(
                "not a readable pack: the data file has another size",
                file=path,
                found=f"{size} bytes",
                expected=f"{4 * sum(lengths) * dim}, as listed",
            )
        return index

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


def stored_names(names: Iterable[str], suffix: str) -> dict[str, str]:
    """Every video to its file in a folder of features, so that reading the folder finds the same videos.

    Raises:
        InputError: see `weaktal.core.file_names`; names that would be read as something else: as two streams
            of one video, as a joint array, as annotations.
    """
    out = file_names(names, suffix)
    pairs: dict[str, set[str]] = {}
    for name, file in out.items():
        if file in WTALC or _is_joint(file):
            raise InputError(
                "features in a file of this name would be taken for something else",
                found=shown(name),
                hint="write a pack",
            )
        if (match := _STREAM.fullmatch(name)) is not None:
            pairs.setdefault(match[1], set()).add(match[2].lower())
    for name, sides in pairs.items():
        if len(sides) == 2:
            raise InputError(
                "two videos would be read as two streams of one",
                found=f"{shown(name + '-rgb', 90)} and {shown(name + '-flow', 90)}",
                hint="rename one of them, or write a pack",
            )
    return out


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
        tables = sorted(p for p in path.glob("[!.]*.csv") if p.is_file())
        if tables:
            from weaktal.features.sensors import SensorTables

            return SensorTables(path, tables)
        if path.name != "features" and (path / "features").is_dir():
            return find(path / "features", names)
        raise InputError(
            "no features in this folder",
            file=path,
            found=", ".join(sorted(p.name for p in path.iterdir() if p.name[0] != ".")[:6]) or "nothing",
            expected="NAME.npy, .npz or .safetensors; rgb/ and flow/; train/ and test/ with either; a joint "
            ".npy; an .h5 file; a pack; NAME.csv",
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
    marked = [_STREAM.fullmatch(p.stem) for p in files]
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
