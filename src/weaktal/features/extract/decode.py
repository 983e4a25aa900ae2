"""Frames of any video file at an asked rate, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError

Image = NDArray[np.uint8]

LOST = 0.5  # seconds of video that may be missing at the end without a warning


@dataclass(frozen=True)
class VideoInfo:
    """What a container says about its video stream, before anything is decoded.

    Attributes:
        width, height: of the upright picture, pixels (after rotation).
        fps: average frame rate, or None where the file does not say.
        duration: seconds, or None.
        codec: its name.
    """

    width: int
    height: int
    fps: float | None
    duration: float | None
    codec: str


class VideoReader:
    """Decodes a video, resampled to a constant frame rate by its timestamps, in constant memory.

    Frame ``k`` of the output is what a viewer sees at ``k / rate`` seconds after the first frame, so a video
    with a variable frame rate keeps its timing. Sound is ignored; frames are upright (rotation from the
    container's side data). A part that cannot be decoded is bridged by the last good frame; what was lost is
    told in `warnings` once the frames have been read.

    Args:
        path: the file.
        rate: frames per second wanted; None keeps the file's own average rate.
        short_side: scale so that the shorter side has this many pixels (even if that enlarges); None keeps
            the size.
        long_side: scale down so that the longer side has at most this many pixels.
        threads: decoder threads, 0 for as many as there are cores.

    Raises:
        InputError: no such file, an empty file, not a video, no video stream, no codec.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: float | None = None,
        *,
        short_side: int | None = None,
        long_side: int | None = None,
        threads: int = 1,
    ) -> None:
        self.path = Path(path)
        self.warnings: list[str] = []
        self.short_side, self.long_side, self.threads = short_side, long_side, threads
        with self._open() as container:
            self.info = _info(container, self.path)
        self.rate = rate if rate is not None else self.info.fps or 25.0
        if not (np.isfinite(self.rate) and self.rate > 0):
            raise InputError("a frame rate is positive", file=self.path, found=self.rate)
        self.frames = 0  # given out so far
        self._longest = 1.5 * self.info.duration + 60 if self.info.duration else np.inf

    def _open(self) -> Any:
        path = self.path
        if not path.exists():
            raise InputError("no such file", file=path)
        if path.is_dir():
            raise InputError("a folder, not a video", file=path)
        if path.stat().st_size == 0:
            raise InputError("the file is empty", file=path, found="0 bytes")
        try:
            container = av.open(str(path), metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            hint = None
            head = path.open("rb").read(64)
            if b"ftyp" in head:
                hint = "its index is missing or broken: the recording or the download was cut off"
            raise InputError(
                "cannot be read as a video", file=path, found=_reason(error), hint=hint
            ) from None
        except PermissionError as error:
            raise InputError("cannot be opened", file=path, found=error.strerror) from None
        try:
            if not container.streams.video:
                kinds = " and ".join(sorted({s.type for s in container.streams})) or "nothing"
                raise InputError("there is no video in it", file=path, found=f"{kinds} only")
        except BaseException:
            container.close()
            raise
        return container

    @property
    def seconds(self) -> float:
        """Seconds of video given out so far."""
        return self.frames / self.rate

    def __iter__(self) -> Iterator[Image]:
        """RGB frames (H, W, 3), uint8."""
        self.warnings.clear()
        self.frames = 0
        size: tuple[int, int] | None = None
        shown: Image | None = None  # what is on the screen until the next frame's time
        for frame, until in self._timed():
            # how many output times lie before `until`; a hair of tolerance for rounded timestamps
            count = int(np.ceil(until * self.rate - 1e-3))
            if count <= self.frames:
                continue
            if size is None:
                size = self._size(frame)
            try:
                shown = _upright(frame, size)
            except (av.FFmpegError, ValueError):
                if shown is None:
                    continue
            while self.frames < count:
                self.frames += 1
                yield shown
        if self.frames == 0:
            raise InputError("no frame can be decoded", file=self.path, hint=next(iter(self.warnings), None))

    def _size(self, frame: av.VideoFrame) -> tuple[int, int]:
        width, height = frame.width, frame.height
        scale = 1.0
        if self.short_side is not None:
            scale = self.short_side / min(width, height)
        if self.long_side is not None:
            scale = min(scale, self.long_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _timed(self) -> Iterator[tuple[av.VideoFrame, float]]:
        """Decoded frames, each with the time at which the next one replaces it (seconds from the first)."""
        bad = 0
        first = last = None  # times of the first frame and of the one held back
        held: av.VideoFrame | None = None
        step = 1 / (self.info.fps or 25.0)
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = self.threads
            packets = container.demux(stream)
            end_of_file: str | None = None
            while True:
                try:
                    packet = next(packets, None)
                except av.FFmpegError as error:
                    end_of_file, packet = _reason(error), None
                if packet is None:
                    break
                try:
                    decoded = packet.decode()
                except av.FFmpegError:
                    bad += 1
                    continue
                for frame in decoded:
                    time = float(frame.pts * frame.time_base) if frame.pts is not None else None
                    if time is None:  # raw streams have no timestamps
                        time = (last if last is not None else -step) + step
                    if first is None:
                        first = time
                    if last is not None and not last < time < first + self._longest:
                        continue  # twice, backwards, or far beyond the end: a broken timestamp
                    if held is not None and last is not None:
                        yield held, time - first
                    held, last = frame, time
            if held is None or last is None or first is None:
                if bad:
                    self.warnings.append(f"{bad} packets could not be decoded")
                return
            length = float(held.duration * held.time_base) if held.duration and held.time_base else step
            end = last - first + (length if 0 < length < 10 * step else step)
            yield held, end
        expected = self.info.duration
        if expected is not None and expected - end > max(LOST, 2 * step):
            why = f" ({end_of_file})" if end_of_file else ""
            self.warnings.append(
                f"the last {expected - end:.2f} of {expected:.2f} s could not be decoded{why}"
            )
        elif end_of_file:
            self.warnings.append(f"the file breaks off after {end:.2f} s ({end_of_file})")
        if bad:
            self.warnings.append(f"{bad} packets could not be decoded; the last good picture stands for them")


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without the file name."""
    return str(getattr(error, "strerror", None) or error)


def _upright(frame: av.VideoFrame, size: tuple[int, int]) -> Image:
    turn = round(frame.rotation / 90) % 4  # counter-clockwise quarters that set the picture upright
    image: Any = frame.to_ndarray(format="rgb24", width=size[0], height=size[1], interpolation="AREA")
    return np.ascontiguousarray(np.rot90(image, turn)) if turn else image


def _info(container: Any, path: Path) -> VideoInfo:
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None:
        raise InputError("no decoder for its codec", file=path)
    rate: Fraction | None = stream.average_rate or stream.guessed_rate
    duration: float | None = None
    if stream.duration is not None:
        duration = float(stream.duration * stream.time_base)
    elif "DURATION" in stream.metadata:  # Matroska: "00:01:02.345000000"
        with suppress(ValueError):
            parts = [float(x) for x in stream.metadata["DURATION"].split(":")]
            duration = sum(x * 60**i for i, x in enumerate(reversed(parts)))
    elif container.duration is not None and len(container.streams) == 1:  # else it may be that of the sound
        duration = container.duration / av.time_base
    fps = float(rate) if rate else None
    return VideoInfo(context.width, context.height, fps, duration, context.name)
