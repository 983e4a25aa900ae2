"""VIA 3, the VGG video annotator (JSON): temporal segments, single frames and attributes of whole files.

Two times are a segment, one is a click, none is a video-level label. Seconds; VIA itself shows thousandths.
"""

from __future__ import annotations

import json
from typing import Any

from weaktal.core import Annotations, InputError, write_text
from weaktal.core.reading import PathLike, kind, read_mapping
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    clicks_of,
    extra_tags,
    media_file,
    segments_of,
    video_name,
)

VIDEO, SELECT = 4, 4  # types of a file and of an attribute
ANCHORS = ("FILE1_Z2_XY0", "FILE1_Z1_XY0", "FILE1_Z0_XY0")  # segments, frames, whole files
NAMES = ("TEMPORAL-SEGMENTS", "CLICKS", "OCCURS")


def looks_like(document: object) -> bool:
    """Whether a JSON document is a project."""
    return isinstance(document, dict) and {"file", "metadata", "attribute"} <= document.keys()


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a project; its regions in pictures are no temporal annotations and are refused.

    Raises:
        InputError: anything that is not as VIA writes it, with the place.
    """
    document = read_mapping(path)
    table = {}
    for key in ("attribute", "file", "view", "metadata"):
        table[key] = document.get(key, {})
        if not isinstance(table[key], dict) or not all(isinstance(v, dict) for v in table[key].values()):
            raise InputError("expected objects", file=path, field=key, found=kind(table[key]))
    if not looks_like(document):
        raise InputError(
            "no project of VIA 3", file=path, found="the keys " + ", ".join(map(repr, list(document)[:5])),
            expected="attribute, file, view and metadata",
        )  # fmt: skip
    options = {a: _options(about, path, f"attribute.{a}") for a, about in table["attribute"].items()}
    anchors = {a: str(about.get("anchor_id", "")) for a, about in table["attribute"].items()}
    listed = dict.fromkeys(
        name for a, names in options.items() if anchors[a] in ANCHORS for name in names.values()
    )
    used = {
        str(v) for m in table["metadata"].values() if isinstance(m.get("av"), dict) for v in m["av"].values()
    }
    # VIA begins with an option "Default", which is a class where somebody used it
    spare = {o for names in options.values() for o, name in names.items() if name == "Default"} - used
    found = Gathered(path, (n for n in listed if n.strip() and not (n == "Default" and spare)))
    video = {}
    for fid, about in table["file"].items():
        name = video_name(about.get("fname") or about.get("src"), path, f"file.{fid}")
        video[fid] = found.video(name, where=f"file.{fid}", fps=Rates(fps, path).find(name))
    for key, row in table["metadata"].items():
        field = f"metadata.{key}"
        vid = str(row.get("vid"))
        files = table["view"].get(vid, {}).get("fid_list") or [vid]
        fid = str(files[0]) if isinstance(files, list) else ""
        times, labels = row.get("z"), row.get("av") or {}
        if fid not in video or not isinstance(times, list) or not isinstance(labels, dict):
            raise InputError("no annotation of a file", file=path, field=field, found=kind(row))
        if row.get("xy"):
            raise InputError(
                "a region in the picture", file=path, field=field, found=kind(row["xy"]),
                hint="temporal segments are read",
            )  # fmt: skip
        for a, value in labels.items():
            label = options.get(a, {}).get(str(value), value)
            if label in (None, ""):
                raise InputError("an annotation without a class", file=path, field=field, found=kind(row))
            if len(times) == 2:
                found.segment(video[fid], times[0], times[1], label, field)
            elif len(times) == 1:
                found.click(video[fid], times[0], label, field)
            elif not times:
                found.tag(video[fid], label, field)
            else:
                raise InputError("expected at most two times", file=path, field=field, found=kind(times))
    return found.annotations()


def _options(about: dict[str, Any], path: PathLike, field: str) -> dict[str, str]:
    options = about.get("options") or {}
    if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
        raise InputError("expected options", file=path, field=field, found=kind(options))
    return options


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write a project.

    Args:
        annotations: what to write.
        path: the file.
        media: video name to media file, as VIA is to load it.
    """
    options = {f"c{i}": name for i, name in enumerate(annotations.classes)}
    attributes = {
        str(i): {
            "aname": name, "anchor_id": anchor, "type": SELECT, "desc": "", "options": options,
            "default_option_id": "",
        }
        for i, (name, anchor) in enumerate(zip(NAMES, ANCHORS, strict=True), 1)
    }  # fmt: skip
    files, views, metadata = {}, {}, {}
    for n, video in enumerate(annotations, 1):
        vid, file = str(n), media_file(video.name, media, path)
        remote = "://" in file
        files[vid] = {
            "fid": vid, "fname": file, "type": VIDEO,
            "loc": 2 if remote else 1, "src": file if remote else "",
        }  # fmt: skip
        views[vid] = {"fid_list": [vid]}
        rows = [([s, e], "1", c) for s, e, c in segments_of(video)]
        rows += [([t], "2", c) for t, c in clicks_of(video)]
        rows += [([], "3", c) for c in extra_tags(video)]
        for k, (times, attribute, c) in enumerate(rows):
            metadata[f"{vid}_{k}"] = {"vid": vid, "flg": 0, "z": times, "xy": [], "av": {attribute: f"c{c}"}}
    document = {
        "project": {
            "pid": "__VIA_PROJECT_ID__", "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__", "pname": "WeakTAL",
            "data_format_version": "3.1.1",
            "creator": "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)", "created": 0,
            "vid_list": list(views),
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center", "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True, "temporal_segment_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "", "gtimeline_visible_row_count": "4",
            },
        },
        "attribute": attributes,
        "file": files,
        "metadata": metadata,
        "view": views,
    }  # fmt: skip
    write_text(path, json.dumps(document) + "\n")
