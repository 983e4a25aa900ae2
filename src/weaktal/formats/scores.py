"""Snippet scores in one safetensors file, so that localization can be repeated without the network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from weaktal.core import InputError, SnippetScores, TimeAxis, atomic_path

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
        InputError: no such file, or it holds something else.
    """
    try:
        with safe_open(path, "numpy") as file:
            meta = file.metadata() or {}
            if meta.get("format") != FORMAT:
                raise InputError(
                    "this file holds no snippet scores", file=path, found=meta.get("format"), expected=FORMAT
                )
            a = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise InputError("cannot read these scores", file=path, found=error) from error
    rows, knots = (np.concatenate([[0], np.cumsum(a[k])]) for k in ("length", "knots"))
    return [
        SnippetScores(
            name,
            a["cas"][r : r + n],
            a["foreground"][r : r + n],
            a["video_scores"][i],
            TimeAxis(int(n), a["positions"][k : k + m], a["seconds"][k : k + m]),
        )
        for i, (name, r, n, k, m) in enumerate(
            zip(json.loads(meta["videos"]), rows, a["length"], knots, a["knots"], strict=False)
        )
    ], tuple(json.loads(meta["classes"]))
