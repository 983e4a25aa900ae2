"""Snippet scores in one safetensors file, so that localization can be repeated without the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weaktal.core import InputError, SnippetScores, TimeAxis, atomic_path
from weaktal.core.reading import check_name, kind, parse_json

FORMAT = "weaktal-scores-1"


def save_scores(scores: Sequence[SnippetScores], path: str | Path, classes: Sequence[str]) -> None:
    """Write the scores of some videos.

    Args:
        scores: one per video.
        path: a ``.safetensors`` file.
        classes: class names, in the order of the columns.
    """
    arrays = {
        "cas": np.concatenate([np.empty((0, len(classes)), np.float32), *(s.cas for s in scores)]),
        "foreground": np.concatenate([np.empty(0, np.float32), *(s.foreground for s in scores)]),
        "video_scores": np.stack([s.video_scores for s in scores]) if scores else np.empty((0, len(classes))),
        "length": np.array([s.axis.length for s in scores], np.int64),
        "knots": np.array([len(s.axis.positions) for s in scores], np.int64),
        "positions": np.concatenate([np.empty(0), *(s.axis.positions for s in scores)]),
        "seconds": np.concatenate([np.empty(0), *(s.axis.seconds for s in scores)]),
    }
    meta = {"format": FORMAT, "videos": json.dumps([s.video for s in scores])}
    meta["classes"] = json.dumps(list(classes))
    with atomic_path(path) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, temporary, meta)


def load_scores(path: str | Path) -> tuple[list[SnippetScores], tuple[str, ...]]:
    """The scores in a file, and the class names of their columns.

    Raises:
        InputError: no such file, or it holds something else; arrays that do not fit together.
    """
    if not Path(path).is_file():
        raise InputError("no such file", file=path)
    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise InputError(
                    "this file holds no snippet scores", file=path, found=meta.get("format"), expected=FORMAT
                )
            a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, MemoryError) as error:
        raise InputError("cannot read these scores", file=path, found=str(error)) from None
    videos, classes = (_names(meta, key, path) for key in ("videos", "classes"))
    _fit(a, len(videos), len(classes), path)
    rows, knots = (np.concatenate([[0], np.cumsum(a[k])]) for k in ("length", "knots"))
    try:
        return [
            SnippetScores(
                name,
                a["cas"][r : r + n],
                a["foreground"][r : r + n],
                a["video_scores"][i],
                TimeAxis(int(n), a["positions"][k : k + m], a["seconds"][k : k + m]),
            )
            for i, (name, r, n, k, m) in enumerate(
                zip(videos, rows, a["length"], knots, a["knots"], strict=False)
            )
        ], tuple(classes)
    except ValueError as error:
        raise InputError(f"these scores do not fit together: {error}", file=path) from None


def _names(meta: Mapping[str, str], key: str, path: str | Path) -> list[str]:
    found = parse_json(meta.get(key, "null"), path, key)
    if not isinstance(found, list) or len({str(x) for x in found}) != len(found):
        raise InputError("expected a list of names that differ", file=path, field=key, found=kind(found))
    return [check_name(x, key, file=path, field=key) for x in found]


def _fit(a: Mapping[str, np.ndarray], videos: int, classes: int, path: str | Path) -> None:
    """Whether the arrays are those of `save_scores`, of one size where they have to be."""

    def check(key: str, shape: tuple[int, ...], kinds: str) -> None:
        array = a.get(key)
        if array is None or array.shape != shape or array.dtype.kind not in kinds:
            raise InputError(
                "these scores do not fit together",
                file=path,
                field=key,
                found="nothing" if array is None else f"shape {array.shape} of {array.dtype}",
                expected=f"shape {shape}",
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError("scores that are not finite", file=path, field=key)

    for key in ("length", "knots"):
        check(key, (videos,), "i")
        if videos and not 0 < int(a[key].min()) <= int(a[key].max()) < 2**31:
            raise InputError("lengths that cannot be", file=path, field=key)
    total, points = int(a["length"].sum()), int(a["knots"].sum())
    check("cas", (total, classes), "f")
    check("foreground", (total,), "f")
    check("video_scores", (videos, classes), "f")
    check("positions", (points,), "f")
    check("seconds", (points,), "f")
