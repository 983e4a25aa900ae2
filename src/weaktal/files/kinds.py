"""What a file or a folder holds, found by looking."""

from __future__ import annotations

import os
import re
from pathlib import Path

from weaktal import formats
from weaktal.core import InputError, shown
from weaktal.formats import (
    activitynet,
    activitynet_detections,
    csv_detections,
    exchange,
    pseudo_labels,
    sfnet_points,
    wtalc,
)
from weaktal.formats.reading import read_json, read_text
from weaktal.formats.tables import header_columns

# what can be converted, and into which formats
FORMATS = {
    "annotations": formats.ANNOTATION_FORMATS,
    "detections": (*formats.DETECTION_FORMATS, *pseudo_labels.LAYOUTS),
    "points": formats.POINT_FORMATS,
    "features": ("pack", "safetensors", "npy"),
}
KINDS = (*FORMATS, "ignored", "dataset")


def kind_of(path: str | os.PathLike[str]) -> str:
    """What a path holds: one of `KINDS`.

    Raises:
        InputError: nothing there, or nothing that WeakTAL knows.
    """
    path = Path(path)
    if not path.exists():
        raise InputError("no such file or folder", file=path)
    if path.is_dir():
        return "annotations" if wtalc.looks_like(path) or exchange.format_of(path) else "features"
    if path.suffix in (".yaml", ".yml"):
        return "dataset"
    if path.name == "pack.json" or path.suffix in (".npy", ".h5", ".hdf5"):
        return "features"
    if exchange.format_of(path) is not None:
        return "annotations"
    text = read_text(path)
    if path.suffix == ".json" or text.lstrip()[:1] == "{":
        document = read_json(path)
        if activitynet_detections.looks_like(document):
            return "detections"
        if activitynet.looks_like(document):
            return "annotations"
        raise InputError(
            "neither annotations nor detections", file=path, expected="a key 'database' or 'results'"
        )
    line = next((line for line in text.splitlines() if line.strip()), "")
    cells = header_columns(line)
    if "point" in cells or sfnet_points.is_header(line) or line.startswith("# simulated"):
        return "points"
    if cells & set(csv_detections.COLUMNS["score"]):
        return "detections"
    if cells & {"label", "class"}:
        return "annotations"
    if re.match(r"[^,]+,\s*[\d.eE+-]+\s*,.", line):
        return "points"
    if re.search(r"\S\s+[\d.eE+-]+\s+[\d.eE+-]+\s*$", line):
        return "ignored"
    raise InputError(
        "not a file that WeakTAL knows",
        file=path,
        field="line 1",
        found=shown(line, 80),
        expected="annotations, detections, clicks, ambiguous intervals, features or a description",
    )
