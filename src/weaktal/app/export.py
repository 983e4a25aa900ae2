"""The project's annotations in the formats of others."""

from __future__ import annotations

import io
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from weaktal.app import annotations_file
from weaktal.app.project import Project
from weaktal.core import Annotations
from weaktal.formats import ANNOTATION_FORMATS, exchange, save_annotations
from weaktal.formats.activitynet import parse

# what a format is called, and how its file ends; a folder has no suffix and comes as a zip archive
KNOWN = {
    "activitynet": ("ActivityNet JSON (everything)", ".json"),
    "csv": ("CSV table", ".csv"),
    "wtalc": ("W-TALC arrays", ""),
} | {
    f.name: (f.title, "" if f.folder else f.suffixes[0] if f.suffixes else ".json")
    for f in exchange.FORMATS.values()
}


def formats() -> list[dict[str, str]]:
    """What can be exported: name, and what it is for people."""
    return [{"name": name, "title": KNOWN.get(name, (name, ""))[0]} for name in ANNOTATION_FORMATS]


def annotations_of(project: Project, *, derived: bool = True) -> Annotations:
    """What people said, as every command speaks of it: the training view with the segments in it.

    Args:
        project: the project.
        derived: with the clicks in it that segments give.
    """
    with project.lock:
        names = [r["name"] for r in annotations_file.ordered_classes(project.document).values()]
        database = {
            name: annotations_file.video_entry(project.document, name)
            for name, _ in project.document.of("video")
        }
    return parse(
        {"classes": names, "database": database}, project.folder / "annotations.json", derived=derived
    )


def export(project: Project, format: str) -> tuple[str, bytes]:
    """A file in a format: its name and its bytes.

    Raises:
        InputError: no such format, or annotations that it cannot hold.
    """
    annotations = annotations_of(project, derived=format not in exchange.FORMATS)
    with project.lock:
        media = {name: video["path"] for name, video in project.document.of("video") if video["path"]}
    suffix = KNOWN.get(format, ("", ""))[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"annotations{suffix}"
        save_annotations(annotations, path, format, media=media)
        if path.is_file():
            return path.name, path.read_bytes()
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path.rglob("*")):
                archive.write(file, file.relative_to(path))
        return f"annotations-{format}.zip", packed.getvalue()


def summary(annotations: Annotations) -> dict[str, Any]:
    """Counts, for people."""
    return {
        "videos": len(annotations),
        "segments": sum(len(v.instances) for v in annotations),
        "clicks": sum(len(v.points) for v in annotations if v.points is not None),
    }
