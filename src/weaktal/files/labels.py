"""A table to fill in: which classes occur in which video."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from weaktal.core import InputError, write_text
from weaktal.features.extract.videos import find_videos
from weaktal.formats.tables import write_rows

PathLike = str | os.PathLike[str]
DESCRIPTION = """\
name: my data
annotations: {table}
features: {{path: features}}
videos: {videos}
"""


def begin_labels(videos: PathLike | Sequence[PathLike], out: PathLike) -> tuple[int, Path]:
    """Write a CSV with a row for every video and an empty label, and a data set description beside it.

    Whoever fills it in writes a row for each class that occurs in a video, and ``none`` where nothing occurs;
    a video without a label is not trained on. A column ``subset`` may be added (``train``, ``test``); without
    it all videos are both.

    Args:
        videos: files, or folders of them.
        out: the table; the description is ``my_data.yaml`` in the same folder.

    Returns:
        How many videos, and the description.

    Raises:
        InputError: no video, or a file that is there already.
    """
    given = [videos] if isinstance(videos, str | os.PathLike) else list(videos)
    files, out = find_videos(given), Path(out)
    description = out.with_name("my_data.yaml")
    for path in (out, description):
        if path.exists():
            raise InputError("there is such a file already", file=path, hint="it is not written over")
    write_rows(out, ("video", "label"), [(file.stem, "") for file in files])
    folder = os.path.relpath(files[0].parent, description.parent)
    write_text(description, DESCRIPTION.format(table=out.name, videos=folder))
    return len(files), description
