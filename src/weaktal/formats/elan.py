"""ELAN (``.eaf``), through pympi: a tier per class, an annotation per segment. One video a file; ms.

The class of an annotation is its text, or where it has none the name of its tier. ELAN knows no points in
time: clicks are not held. Segments of a class that overlap are on further tiers.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from weaktal.core import Annotations, CoverageWarning, InputError, Video, shown
from weaktal.core.reading import PathLike, number
from weaktal.formats.gather import (
    Fps,
    Gathered,
    Media,
    Rates,
    layers,
    media_file,
    plain,
    read_each,
    read_xml,
    segments_of,
    video_name,
    write_each,
)

SUFFIXES = (".eaf",)
WHAT = "an ELAN file"


def read(path: PathLike, fps: Fps | None = None) -> Annotations:
    """Annotations of a file or a folder of them; a video is the linked medium, or else named by the file.

    Raises:
        InputError: no EAF, with what is wrong.

    Warns:
        CoverageWarning: annotations without times, which are left out.
    """

    def one(found: Gathered, name: str, file: Path) -> None:
        from pympi.Elan import Eaf

        root = read_xml(file)
        if root.tag != "ANNOTATION_DOCUMENT":
            raise InputError("no ELAN file", file=file, found=shown(root.tag), expected="ANNOTATION_DOCUMENT")
        try:
            eaf: Any = Eaf(str(file), suppress_version_warning=True)
            rows = [(tier, row) for tier in eaf.tiers for row in eaf.get_annotation_data_for_tier(tier)]
            media = [m.get("MEDIA_URL") or "" for m in eaf.media_descriptors]
        except Exception as error:  # pympi lets whatever happens through
            raise InputError(
                "not as ELAN writes it", file=file, found=f"{type(error).__name__}: {error}"
            ) from None
        media = [video_name(m, file) for m in media if m.strip()]
        video = media[0] if media else name
        found.video(video, fps=Rates(fps, file).find(video))
        untimed = 0
        for tier, (start, end, value, *_) in rows:
            if start is None or end is None:
                untimed += 1
                continue
            field = f"tier {tier}"
            first, last = (number(t, file=file, field=field) / 1000 for t in (start, end))
            found.segment(video, first, last, value.strip() or tier, field)
        if untimed:
            warnings.warn(
                f"{file}: {untimed} annotations have no times and are left out", CoverageWarning, stacklevel=4
            )

    return read_each(path, SUFFIXES, one)


def write(annotations: Annotations, path: PathLike, media: Media | None = None) -> None:
    """Write one file a video.

    Args:
        annotations: what to write.
        path: a folder, or the file of one video.
        media: video name to media file, as ELAN is to open it.
    """

    def text(video: Video, file: Path) -> str:
        from pympi.Elan import Eaf, to_string

        eaf: Any = Eaf(author="WeakTAL")
        eaf.remove_tier("default")
        eaf.adocument["DATE"] = "1970-01-01T00:00:00+00:00"  # the same annotations, the same file
        eaf.add_linked_file(media_file(plain(video.name, file, WHAT), media, file), mimetype="video/mp4")
        rows = segments_of(video)
        for c in sorted({c for *_, c in rows}):
            name = plain(annotations.classes[c], file, WHAT)
            spans = (
                (a := round(1000 * s), max(round(1000 * e), a + 1)) for s, e, label in rows if label == c
            )
            for k, row in enumerate(layers(spans)):
                tier = name if k == 0 else f"{name} ({k + 1})"
                if tier in eaf.tiers:
                    raise InputError("two tiers of one name", file=file, found=shown(tier))
                eaf.add_tier(tier)
                for start, end in row:
                    eaf.add_annotation(tier, start, end, name)
        return '<?xml version="1.0" encoding="UTF-8"?>\n' + str(to_string(eaf)) + "\n"

    write_each(annotations, path, SUFFIXES[0], text)
