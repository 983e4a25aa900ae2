"""The project's annotations in the formats of others."""

from __future__ import annotations

import io
import tempfile
import warnings
import zipfile
from pathlib import Path

from weaktal.app import annotations_file
from weaktal.app.project import Project
from weaktal.core import Annotations, CoverageWarning
from weaktal.formats import ANNOTATION_FORMATS, exchange, save_annotations
from weaktal.formats.activitynet import parse

# ours: what a format is called, and how its file ends; a folder has no suffix and comes as a zip archive
OURS = {
    "activitynet": ("ActivityNet JSON (everything)", ".json"),
    "csv": ("CSV table", ".csv"),
    "wtalc": ("W-TALC arrays", ""),
}


def formats() -> list[dict[str, str]]:
    """What can be exported: name, and what it is for people."""
    titles = {name: title for name, (title, _) in OURS.items()}
    titles |= {name: f.title for name, f in exchange.FORMATS.items()}
    return [{"name": name, "title": titles.get(name, name)} for name in ANNOTATION_FORMATS]


def annotations_of(project: Project, *, derived: bool = True) -> Annotations:
    """What people said, as every command speaks of it.

    Args:
        project: whose annotations.
        derived: with the clicks that segments give, as training sees them; else those of people only.
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


def export(project: Project, format: str) -> tuple[str, bytes, list[str]]:
    """A file in a format: its name, its bytes, and what the format leaves out.

    Raises:
        InputError: no such format, or annotations that it cannot hold.
    """
    foreign = exchange.FORMATS.get(format)
    annotations = annotations_of(project, derived=foreign is None)
    suffix = OURS.get(format, ("", ""))[1]
    if foreign is not None:
        suffix = "" if foreign.folder else (foreign.suffixes or (".json",))[0]
    with project.lock:
        media = {name: video["path"] for name, video in project.document.of("video") if video["path"]}
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = Path(folder) / f"annotations{suffix}"
        save_annotations(annotations, path, format, media=media)
        notes = [
            str(w.message).replace(f"{path}: ", "") for w in caught if issubclass(w.category, CoverageWarning)
        ]
        if path.is_file():
            return f"annotations{suffix}", path.read_bytes(), notes
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                archive.write(file, file.relative_to(path))
        return f"annotations-{format}.zip", packed.getvalue(), notes
