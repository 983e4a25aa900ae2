"""Small pictures of a video, for pages."""

from __future__ import annotations

import base64
import os
from itertools import chain
from pathlib import Path

import numpy as np

from weaktal.core import InputError, file_name
from weaktal.features.extract.videos import SUFFIXES


def video_pictures(video: str | os.PathLike[str], *, count: int = 14, height: int = 54) -> list[str]:
    """Pictures evenly along a video, as data URLs of JPEG; none where a decoder is not installed.

    Args:
        video: the file.
        count: at most so many.
        height: of the shorter side, pixels.

    Raises:
        InputError: not a readable video.
    """
    try:
        import cv2

        from weaktal.features.extract.decode import VideoReader
    except ImportError:
        return []
    reader = VideoReader(Path(video), short_side=height)
    rate = count / reader.info.duration
    late = round(reader.info.start * rate)  # nothing is on the screen yet; the first picture stands for it
    reader = VideoReader(Path(video), rate=min(rate, 1000), short_side=height)
    frames = iter(reader)
    first = next(frames)
    out = []
    for _, frame in zip(range(count), chain([first] * (late + 1), frames), strict=False):
        ok, data = cv2.imencode(
            ".jpg", np.ascontiguousarray(frame[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 70]
        )
        if ok:
            out.append("data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode())
    return out


def find_video(folder: str | os.PathLike[str], name: str) -> Path | None:
    """The file of a video in a folder by its name, whatever its suffix; None where there is none."""
    for suffix in sorted(SUFFIXES):
        try:
            file = Path(folder) / file_name(name, suffix)
        except InputError:  # a name that leads out of the folder, or that no file can have
            return None
        if file.is_file():
            return file
    return None
