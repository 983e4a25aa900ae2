"""Snippet features of a set of videos, whatever layout they lie in."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core import InputError, TimeAxis, atomic_path, composed, did_you_mean
from weaktal.features.layouts import HEADER_KEY, LONGEST, RATES, Layout, Shape, find, video_names

FloatArray = NDArray[np.float32]

CROPS = (5, 10)
# what files say of one video and not of the set
PER_VIDEO = ("duration", "start", "timing", "source", "source_hash", "frames", "warnings", "video")
# streams of one video may differ in length by this many snippets; the shorter one counts
SLACK = 2


@dataclass(eq=False)
class FeatureStore:
    """Features of a set of videos: (L, D) float32 each, read when asked for.

    Make one with `open`.

    Attributes:
        path: the file or folder.
        layout: how the features lie there, see `weaktal.features.layouts`.
        rate: snippets per second; None where nobody said.
        offset: where the first snippet starts, seconds from the first picture of the video.
        names: the videos.
        streams: width of each stream (rgb and flow, or one).
        crops: number of spatial crops per snippet in the files; their mean is what `load` gives.
        prefix, suffix: what names in the files have around the names of the videos.

    Names are matched however their accents are stored (macOS keeps them apart, see `weaktal.core.composed`).
    """

    path: Path
    layout: Layout
    rate: float | None
    offset: float
    names: tuple[str, ...]
    streams: tuple[int, ...]
    crops: int = 1
    prefix: str = ""
    suffix: str = ""
    _time: int = 0
    _lengths: dict[str, int] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        rate: float | None = None,
        names: Sequence[str] | str | os.PathLike[str] | None = None,
        subset: str | None = None,
        *,
        offset: float | None = None,
        prefix: str = "",
        suffix: str = "",
    ) -> FeatureStore:
        """The features at a path; the layout is found by looking.

        Args:
            path: a folder or file, see `docs/data.md` for the layouts.
            rate: snippets per second; not needed where the files say it.
            names: order of the videos of a joint array, as a list or as a ``videoname.npy``.
            subset: only the sub-folder of that name.
            offset: where the first snippet starts, seconds; 0 where the files do not say.
            prefix: what the names of the files have before the names of the videos ("v_").
            suffix: what they have behind them ("_i3d").

        Raises:
            InputError: nothing there, an unknown layout, a rate that is no rate or not the files' own.
        """
        if rate is not None and not RATES[0] <= rate <= RATES[1]:
            raise InputError(
                "a rate is in snippets per second",
                file=path,
                found=rate,
                expected=f"a number > 0, from {RATES[0]:g} to {RATES[1]:g}",
            )
        if offset is not None and not abs(offset) <= LONGEST:
            raise InputError("an offset is in seconds", file=path, found=offset, expected="a finite number")
        if isinstance(names, str | os.PathLike):
            names = video_names(Path(names))
        layout = find(Path(path), names, subset)
        if not layout.names:
            raise InputError("no video in these features", file=path)
        said = layout.header(layout.names[0])
        own = None if said.get("rate") is None else float(said["rate"])
        if rate is not None and own is not None and abs(rate / own - 1) > 1e-3:
            raise InputError(
                "the rate is not the one that the features were made with",
                file=path,
                found=rate,
                expected=own,
                hint="leave the rate out: these files know their own",
            )
        first = [n for n in layout.names if _inner(n, prefix, suffix) is not None]
        if not first:
            raise InputError(
                "no name begins like this" if not suffix else "no name begins and ends like this",
                file=path,
                field="prefix, suffix" if suffix else "prefix",
                found=f"{prefix!r}, {suffix!r}" if suffix else repr(prefix),
                expected=f"parts of names such as {layout.names[0]!r}",
            )
        time, crops = _axes([layout.shapes(n) for n in first[:16]])
        dims = said.get("dims") if layout.kind == "pack" else None  # a pack holds streams side by side
        dims = list(dims.values()) if isinstance(dims, dict) else dims
        shapes = layout.shapes(first[0])
        try:
            widths = tuple(dims or (_shape(s, time, crops)[1] for s in shapes))
        except ValueError:
            raise _no_snippets(layout.where(first[0]), shapes) from None
        if dims and sum(widths) != shapes[0][1]:
            raise InputError(
                "the widths of the streams are not that of the rows",
                file=path,
                found=sum(widths),
                expected=shapes[0][1],
            )
        return cls(
            path=Path(path),
            layout=layout,
            rate=own if own is not None else rate,
            offset=float((said.get("offset") or 0.0) if offset is None else offset),
            names=tuple(n[len(prefix) : len(n) - len(suffix)] for n in first),
            streams=widths,
            crops=crops,
            prefix=prefix,
            suffix=suffix,
            _time=time,
        )

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, name: str) -> bool:
        return composed(name) in self._keys

    @cached_property
    def _keys(self) -> dict[str, str]:
        """Composed names of the videos to the layout's names for them."""
        keys: dict[str, str] = {}
        for name in self.names:
            key = self.prefix + name + self.suffix
            other = keys.setdefault(composed(name), key)
            if other != key:
                raise InputError(
                    "two files for one video: their names differ only in how accents are stored",
                    file=self.layout.where(key),
                    found=self.layout.where(other),
                    hint="keep one of them",
                )
        return keys

    @property
    def dim(self) -> int:
        """Width D of a snippet: all streams side by side."""
        return sum(self.streams)

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of where the features come from: layout, rate, widths, and what the files say."""
        out: dict[str, Any] = {
            "layout": self.layout.kind,
            "rate": self.rate,
            "offset": self.offset,
            "dims": list(self.streams),
        }
        if self.crops > 1:
            out["crops"] = self.crops
        said = self.about(self.names[0])
        return {k: v for k, v in said.items() if k not in PER_VIDEO} | out

    def where(self, name: str) -> str:
        """The file of a video, for messages."""
        return self.layout.where(self._key(name))

    def about(self, name: str) -> dict[str, Any]:
        """What the file of a video says of itself; empty for foreign files."""
        return self.layout.header(self._key(name))

    def _key(self, name: str) -> str:
        try:
            return self._keys[composed(name)]
        except KeyError:
            raise InputError(
                "no features of this video",
                file=self.path,
                found=repr(name),
                hint=did_you_mean(name, self.names),
            ) from None

    def length(self, name: str) -> int:
        """Snippets of a video, L >= 1; from the file's header where that is enough.

        Raises:
            InputError: an unknown video, a shape that is no feature array, a video without a snippet.
        """
        if name not in self._lengths:
            shapes = self.layout.shapes(self._key(name))
            self._lengths[name] = self._common_length(name, shapes)
        return self._lengths[name]

    def _common_length(self, name: str, shapes: Sequence[Shape]) -> int:
        found = []
        for shape in shapes:
            try:
                found.append(_shape(shape, self._time, self.crops))
            except ValueError:
                raise _no_snippets(self.where(name), shapes) from None
        widths = tuple(width for _, width in found)
        if sum(widths) != self.dim:
            raise InputError(
                "features of another width",
                file=self.where(name),
                found=" + ".join(map(str, widths)),
                expected=" + ".join(map(str, self.streams)) + f", as of {self.names[0]!r}",
            )
        lengths = [length for length, _ in found]
        if min(lengths) == 0:
            raise InputError("the video is shorter than a snippet", file=self.where(name), found="no snippet")
        if max(lengths) - min(lengths) > SLACK:
            raise InputError(
                "the streams of a video differ in length",
                file=self.where(name),
                found=" and ".join(map(str, lengths)) + " snippets",
                expected=f"a difference of at most {SLACK}",
            )
        return min(lengths)

    def load(self, name: str) -> FloatArray:
        """Features of a video, (L, D) float32; a view of the file where its layout allows.

        Raises:
            InputError: as in `length`; a value that is not finite, with its place.
        """
        arrays = self.layout.read(self._key(name))
        length = self._lengths[name] = self._common_length(name, [a.shape for a in arrays])
        parts = [self._rows(a, name)[:length] for a in arrays]
        out = parts[0] if len(parts) == 1 else np.concatenate(parts, 1)
        if not np.isfinite(out.sum(dtype=np.float64)):
            bad = np.argwhere(~np.isfinite(out))
            if len(bad):
                raise InputError(
                    "features that are not finite",
                    file=self.where(name),
                    field=f"snippet {bad[0, 0]}",
                    found=f"{len(bad)} values, in {len(np.unique(bad[:, 0]))} of {length} snippets",
                )
        return out

    def _rows(self, array: np.ndarray, name: str) -> FloatArray:
        if array.dtype.kind not in "fiu":
            raise InputError("features that are no numbers", file=self.where(name), found=str(array.dtype))
        if self.crops > 1:
            array = array.mean(axis=1 - self._time, dtype=np.float32)
        else:
            array = np.moveaxis(array, self._time, 0)
        if array.ndim > 2:
            array = array.reshape(len(array), -1)
        with np.errstate(over="ignore"):  # beyond float32: infinite, and said so
            return np.asarray(array, dtype=np.float32)

    def axis(self, name: str) -> TimeAxis:
        """When the snippets of a video are.

        Raises:
            InputError: the rate is not known.
        """
        if self.rate is None:
            raise InputError(
                "the rate of these features is not known",
                file=self.path,
                hint="name it in the data set description (features: {rate: 1.5625}), in snippets per second",
            )
        return TimeAxis.uniform(self.length(name), self.rate, self.offset + (self.start(name) or 0.0))

    def start(self, name: str) -> float | None:
        """Where the first picture of a video lies on a player's clock, seconds; None where not said.

        Raises:
            InputError: what the file says is no time.
        """
        said = self.about(name).get("start")
        if said is None:
            return None
        if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said < float("inf"):
            raise InputError(
                "no time of a first picture",
                file=self.where(name),
                field="start",
                found=said,
                expected="seconds",
            )
        return float(said)


def _inner(name: str, prefix: str, suffix: str) -> str | None:
    """What a name has between prefix and suffix; None where it lacks one of them, or nothing is between."""
    if name.startswith(prefix) and name.endswith(suffix) and len(name) > len(prefix) + len(suffix):
        return name[len(prefix) : len(name) - len(suffix)]
    return None


def _axes(samples: Sequence[Sequence[Shape]]) -> tuple[int, int]:
    """Which axis is time, and how many crops there are, from the shapes of some videos."""
    shapes = [shape for streams in samples for shape in streams]
    ranks = {len(shape) for shape in shapes}
    if ranks == {3}:
        for time, crop in ((0, 1), (1, 0)):
            sizes = {shape[crop] for shape in shapes}
            if len(sizes) == 1 and (n := sizes.pop()) in CROPS:
                return time, n
        return (1, 1) if {shape[0] for shape in shapes} == {1} else (0, 1)
    if ranks == {2} and len(samples) > 1:
        first = [streams[0] for streams in samples]
        if len({s[0] for s in first}) == 1 and len({s[1] for s in first}) > 1:
            return 1, 1  # (width, snippets): a constant height and all widths different
    return 0, 1


def _shape(shape: Shape, time: int, crops: int) -> tuple[int, int]:
    """Length and width of a raw array; ValueError where it has another form."""
    others = [n for axis, n in enumerate(shape) if axis != time]
    if crops > 1:
        if len(shape) != 3 or others[0] != crops:
            raise ValueError
        return shape[time], others[1]
    wide = [n for n in others if n != 1] or others[:1]  # (L, D, 1, 1) and (1, L, D) are (L, D)
    if len(shape) < 2 or len(wide) != 1:
        raise ValueError
    return shape[time], wide[0]


def _no_snippets(file: str, shapes: Sequence[Shape]) -> InputError:
    found = " and ".join(f"shape {tuple(s)}" for s in shapes)
    return InputError("not an array of snippets", file=file, found=found, expected="(snippets, width)")


def write_video_features(
    path: str | os.PathLike[str],
    features: ArrayLike | Mapping[str, ArrayLike],
    *,
    rate: float,
    window: float | None = None,
    stride: float | None = None,
    offset: float = 0.0,
    backbone: str | None = None,
    **provenance: Any,
) -> None:
    """Write the features of one video as ``NAME.safetensors``, whole or not at all.

    Args:
        path: the file; its stem is the video's name.
        features: (L, D), or streams by name ("rgb", "flow"), (L, D1) and (L, D2).
        rate: snippets per second.
        window: seconds of video that a snippet sees.
        stride: seconds between snippets; 1 / rate if left out.
        offset: where the first row of the time axis starts, seconds: a snippet's row lies around its centre,
            so that it is (window - stride) / 2 for snippets that are windows from 0 on.
        backbone: name of the network.
        provenance: anything else that a JSON file can hold: weights, crop, flow, source_hash, fps, duration.

    Raises:
        InputError: features that are not finite, or not (L, D) with L >= 1.
    """
    from safetensors.numpy import save_file

    streams = features if isinstance(features, Mapping) else {"features": features}
    arrays = {k: np.ascontiguousarray(v, dtype=np.float32) for k, v in streams.items()}
    for key, array in arrays.items():
        if array.ndim != 2 or not len(array):
            raise InputError(
                "not an array of snippets",
                file=path,
                field=key,
                found=f"shape {array.shape}",
                expected="(L, D)",
            )
        if not np.isfinite(array).all():
            raise InputError("features that are not finite", file=path, field=key)
    if len({len(a) for a in arrays.values()}) != 1:
        raise InputError(
            "the streams of a video differ in length", file=path, found=[len(a) for a in arrays.values()]
        )
    about = {
        "format": "weaktal 1",
        "rate": rate,
        "window": window,
        "stride": 1 / rate if stride is None else stride,
        "offset": offset,
        "dims": {k: a.shape[1] for k, a in arrays.items()},
        "backbone": backbone,
        **provenance,
    }
    with atomic_path(path) as temporary:
        save_file(arrays, temporary, metadata={HEADER_KEY: json.dumps(about, sort_keys=True)})
