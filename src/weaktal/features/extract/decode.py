"""Frames of any video file at an asked rate, one at a time."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from weaktal.core import InputError
from weaktal.features.extract.limits import DAY, Limits
from weaktal.features.extract.time_base import UNKNOWN, Packets, TimeBase, as_rate, collect

Image = NDArray[np.uint8]

REORDER = 4  # pictures by which one may come late out of a decoder
LOST = 0.5  # seconds of video that may be missing at the end without a remark
GENERATE_TIMES = 1  # FFmpeg's AVFMT_FLAG_GENPTS, which PyAV sets: missing times are guessed, often wrongly
# Containers that hold their videos themselves. Playlists (concat, hls, dash, ...) open other files.
FORMATS = (
    "3gp,amv,asf,av1,avi,cavsvideo,dhav,dirac,dv,flv,gif,apng,gxf,h261,h263,h264,hevc,ivf,live_flv,m4v,"
    "matroska,mjpeg,mov,mp4,mpeg,mpegts,mpegvideo,mxf,nsv,nut,nuv,obu,ogg,rm,ty,vc1,vc1test,vvc,wtv,"
    "yuv4mpegpipe,"
    # sound only, so that it can be said
    "aac,ac3,aiff,amr,ape,au,caf,dts,eac3,flac,mp3,tta,w64,wav,wv"
)
# their time begins at 0, and a picture may begin later; other clocks begin anywhere
TIMELINES = ("mov", "matroska")
PLAYLISTS = (
    b"ffconcat",
    b"#EXTM3U",
    b"<MPD",
    b"<SmoothStreamingMedia",
    b"<smil",
    b"[playlist]",
    b"v=0\r\n",
    b"v=0\n",
)


@dataclass(frozen=True)
class VideoInfo:
    """What a file's packets say about its video, before anything is decoded.

    Attributes:
        width, height: of the stored picture, pixels.
        fps: pictures per second: the nominal rate, or the mean of a variable one.
        rate: the nominal rate; None where it is variable.
        start: when the first picture is shown, seconds on a player's clock.
        duration: when the last one ends on that clock, seconds.
        codec: its name.
        timecode: the embedded time code of the file's beginning ("10:00:00:00"), or None.
    """

    width: int
    height: int
    fps: float
    rate: Fraction | None
    start: float
    duration: float
    codec: str
    timecode: str | None = None


class VideoReader:
    """Decodes a video, resampled to a constant frame rate by its `TimeBase`, in constant memory.

    Frame ``k`` of the output is what a viewer sees at ``k / rate`` seconds after the first picture, which
    itself is shown at ``info.start``. A variable frame rate keeps its timing. Sound is ignored; pictures are
    upright (turned and mirrored by the container's display matrix). A part that cannot be decoded is bridged
    by the last good picture; what was lost or odd is told in `warnings` once the frames have been read.

    Args:
        path: the file.
        rate: frames per second wanted; None keeps the file's own nominal or mean rate.
        short_side: scale so that the shorter side has this many pixels (even if that enlarges); None keeps
            the size.
        long_side: scale down so that the longer side has at most this many pixels.
        threads: decoder threads, 0 for as many as there are cores.
        limits: what is refused.

    Raises:
        InputError: no such file, an empty file, not a video, a playlist, no video stream, no codec,
            beyond a limit.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        rate: float | Fraction | None = None,
        *,
        short_side: int | None = None,
        long_side: int | None = None,
        threads: int = 1,
        limits: Limits | None = None,
    ) -> None:
        self.path = Path(path)
        self.limits = limits or Limits()
        self.warnings: list[str] = []
        self.short_side, self.long_side, self.threads = short_side, long_side, threads
        if rate is not None and not (np.isfinite(float(rate)) and 0 < rate <= 1000):
            raise InputError(
                "a frame rate is positive", file=self.path, found=f"{float(rate):g}", expected="up to 1000"
            )
        self._said: float | None = None  # the header's duration
        self._broken: str | None = None  # why the file ends early
        self.base = self._scan()
        base, context = self.base, self._context
        start = float(base.offset)
        self.info = VideoInfo(
            *context, fps=base.fps, rate=base.rate, start=start, duration=start + base.length,
            codec=self._codec, timecode=self._timecode,
        )  # fmt: skip
        wanted = as_rate(rate) if rate is not None else base.rate or as_rate(base.fps)
        self._rate = wanted if wanted > 0 else Fraction(rate or 1)
        self.rate = float(self._rate)
        self.frames = 0  # given out so far

    @property
    def seconds(self) -> float:
        """Seconds of video given out so far."""
        return self.frames / self.rate

    @property
    def timing(self) -> dict[str, Any]:
        """What is known of the file's own clock, as plain values: rate, whether it is constant, time code."""
        info = self.info
        return {
            "fps": round(info.fps, 6),
            "rate": None if info.rate is None else str(info.rate),
            "timecode": info.timecode,
        }

    def _open(self) -> Any:
        path = self.path
        try:
            if not path.exists():
                raise InputError("no such file", file=path)
            if path.is_dir():
                raise InputError("a folder, not a video", file=path)
            if not path.is_file():
                raise InputError("no regular file", file=path)
            if path.stat().st_size == 0:
                raise InputError("the file is empty", file=path, found="0 bytes")
        except OSError as error:
            raise InputError("cannot be opened", file=path, found=error.strerror) from None
        options = {
            "protocol_whitelist": "file",
            "format_whitelist": FORMATS,
            "max_pixels": str(self.limits.pixels),
        }
        try:
            container = av.open(f"file:{path}", options=options, metadata_errors="replace")
        except PermissionError as error:
            raise InputError("cannot be opened", file=path, found=error.strerror) from None
        except (av.FFmpegError, ValueError) as error:
            raise self._unreadable(error) from None
        container.flags &= ~GENERATE_TIMES
        return container

    def _unreadable(self, error: Exception) -> InputError:
        with self.path.open("rb") as file:
            head = file.read(4096)
        if head.lstrip(b"\xef\xbb\xbf \r\n").startswith(PLAYLISTS) or b"<MPD" in head:
            return InputError(
                "a playlist, which opens other files", file=self.path, hint="name the videos themselves"
            )
        hint = None
        if b"ftyp" in head[:64]:
            hint = "its index is missing or broken: the recording or the download was cut off"
        found = "no container that is known here" if isinstance(error, av.ArgumentError) else _reason(error)
        return InputError("cannot be read as a video", file=self.path, found=found, hint=hint)

    def _scan(self) -> TimeBase:
        """Read the times of all packets of the video track, choosing it by what is there."""
        with self._open() as container:
            tracks = _tracks(container)
            if not tracks:
                kinds = sorted({s.type for s in container.streams} - {"video"})
                picture = " and an attached picture" if container.streams.video else ""
                raise InputError(
                    "there is no video in it",
                    file=self.path,
                    found=(" and ".join(kinds) or "nothing") + " only" + picture,
                    hint="it is sound only" if "audio" in kinds else None,
                )
            rows: dict[int, list[tuple[int | None, int | None, int | None, bool]]] = {
                s.index: [] for s in tracks
            }
            self._broken = None
            packets = container.demux(*tracks)
            end = 0  # of the last packet in the file
            while True:
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, ValueError) as error:
                    self._broken = _reason(error)
                    break
                if packet is None:
                    break
                if packet.size:
                    end = max(end, (packet.pos or 0) + packet.size)
                    rows[packet.stream_index].append(
                        (packet.pts, packet.dts, packet.duration, packet.is_discard)
                    )
            # a track of one picture beside one of many is a cover
            many = [s for s in tracks if len(rows[s.index]) > 1] or tracks
            stream = max(many, key=lambda s: (bool(s.disposition & 1), _area(s), -s.index))
            context = stream.codec_context
            if context is None:
                raise InputError("no decoder for its codec", file=self.path)
            pts, dts, duration, hidden = collect(rows[stream.index])
            if container.format.name == "avi":
                pts[:] = UNKNOWN  # AVI only has an order of decoding; what FFmpeg makes of it is late
            self._track = stream.index
            self._check_size(context.width, context.height)
            self._context, self._codec = (context.width, context.height), context.name
            self._timecode = _timecode(container, stream)
            self._said = _said_duration(container, stream)
            rates = [
                r for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r and 0 < r <= 1000
            ]
            times = Packets(
                pts, dts, duration, hidden, Fraction(stream.time_base), tuple(map(Fraction, rates))
            )
            zero = _zero(container)
            self._behind = _joined_behind(self.path, container.format.name, end)
        if not len(pts):
            raise InputError("there is no picture in it", file=self.path, hint=self._broken)
        return TimeBase.of(times, zero, self.limits, self.path)

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self.limits.pixels:
            raise InputError(
                "its pictures are too large",
                file=self.path,
                found=f"{width} x {height}",
                expected=f"at most {self.limits.pixels} pixels",
                hint="raise the limit of pixels, or scale it down",
            )
        if 0 < min(width, height) < self.limits.side:
            raise InputError(
                "its pictures are too small to show anything",
                file=self.path,
                found=f"{width} x {height}",
                expected=f"at least {self.limits.side} pixels a side",
            )

    def __iter__(self) -> Iterator[Image]:
        """RGB frames (H, W, 3), uint8."""
        self.warnings.clear()
        self.frames = 0
        firsts = self.base.frames(self._rate)
        held: av.VideoFrame | None = None  # on the screen until the next picture's time
        last = -1
        make, decoded = _Upright(self), _Decoded()
        for at, frame in self._decode(decoded):
            if held is not None and firsts[at] > self.frames:
                yield from self._show(make, held, firsts[at])
            held, last = frame, at
        if held is not None:
            yield from self._show(make, held, firsts[last + 1])
        if self.frames == 0:
            raise InputError("no picture can be decoded", file=self.path, hint=self._broken)
        self.warnings += self.base.remarks(self.limits.gap) + decoded.remarks(self.base)
        self.warnings += self._ending(last)
        if self._behind:
            self.warnings.append("another recording is joined behind this one and is not read, as in players")

    def _ending(self, last: int) -> list[str]:
        """What is odd about the end, where picture `last` was the last good one."""
        base, said = self.base, None if self.base.seams else self._said
        end = float(base.offset) + (base.length if last + 1 == base.pictures else float(base.times[last + 1]))
        expected = max(said or 0.0, self.info.duration)
        why = f" ({self._broken})" if self._broken else ""
        if expected - end > max(LOST, 2 / self.info.fps):
            return [f"the last {expected - end:.2f} of {expected:.2f} s could not be decoded{why}"]
        if self._broken:
            return [f"the file breaks off after {end:.2f} s{why}"]
        if said is not None and end - said > max(LOST, 0.01 * end):
            return [f"the header says {said:.2f} s, the packets {end:.2f} s: the packets count"]
        return []

    def _show(self, make: _Upright, frame: av.VideoFrame, until: int) -> Iterator[Image]:
        if until > self.frames:
            image = make(frame)
            while self.frames < until:
                self.frames += 1
                yield image

    def _decode(self, decoded: _Decoded) -> Iterator[tuple[int, av.VideoFrame]]:
        """Pictures with their numbers in order of display, increasing."""
        last = -1
        waiting: list[tuple[int, int, av.VideoFrame]] = []

        def first() -> Iterator[tuple[int, av.VideoFrame]]:
            nonlocal last
            at, _, frame = heapq.heappop(waiting)
            if at > last:
                decoded.pictures.append(at)
                last = at
                yield at, frame

        # around damage a decoder gives pictures out of order
        for count, (at, frame) in enumerate(self._numbered(decoded)):
            heapq.heappush(waiting, (at, count, frame))
            if len(waiting) > REORDER:
                yield from first()
        while waiting:
            yield from first()

    def _numbered(self, decoded: _Decoded) -> Iterator[tuple[int, av.VideoFrame]]:
        """Pictures as the decoder gives them out, with their numbers in order of display."""
        rank, least = self.base.rank.tolist(), self.base.least.tolist()
        last, number, lost = -1, 0, 0
        with self._open() as container:
            stream = container.streams[self._track]
            context = stream.codec_context
            stream.thread_type = "AUTO"
            context.thread_count = self.threads
            context.copy_opaque = True
            context.options = {"max_pixels": str(self.limits.pixels)}
            packets = container.demux(stream)
            while True:
                try:
                    packet = next(packets, None)
                except (av.FFmpegError, ValueError):
                    return
                if packet is None:
                    return
                if packet.size:
                    packet.opaque = number
                    number += 1
                try:
                    frames = packet.decode()
                except (av.FFmpegError, ValueError):
                    decoded.refused += 1
                    lost += 1
                    continue
                for frame in frames:
                    k = frame.opaque
                    if k is None or k >= len(rank):
                        continue
                    at = rank[k] if least[k] < 0 else max(last + 1 + lost, least[k])
                    if frame.is_corrupt:
                        decoded.damaged.append(max(at, last, 0))
                    if 0 <= at < self.base.pictures:
                        last, lost = max(last, at), 0
                        yield at, frame


class _Decoded:
    """Which pictures a decoder made, and how well."""

    def __init__(self) -> None:
        self.pictures: list[int] = []
        self.damaged: list[int] = []
        self.refused = 0  # packets

    def remarks(self, base: TimeBase) -> list[str]:
        out = []
        if self.damaged:
            damaged, first = len(self.damaged), float(base.times[self.damaged[0]])
            out.append(f"{damaged} of {len(self.pictures)} pictures are damaged, the first at {first:.2f} s")
        gaps = base.gaps(self.pictures, sure=bool(self.refused))
        if gaps:
            missing, seconds = sum(g.pictures for g in gaps), sum(g.seconds for g in gaps)
            worst = max(gaps, key=lambda g: g.seconds)
            good = "first good picture" if worst.at == 0 else "picture before"
            out.append(
                f"{missing} of {missing + len(self.pictures)} pictures are missing or could not be decoded "
                f"({seconds:.2f} s, {worst.seconds:.2f} s of them at {worst.at:.2f} s): "
                f"the {good} stands for them"
            )
        elif self.refused:
            out.append(f"{self.refused} packets could not be decoded: the picture before stands for them")
        return out


class _Upright:
    """Frames as RGB arrays of the asked size, set upright."""

    def __init__(self, reader: VideoReader) -> None:
        self.reader = reader
        self.size: tuple[int, int] | None = None
        self.steps: tuple[bool, bool, bool] = (False, False, False)
        self.image: Image | None = None
        self.reformatter = VideoReformatter()  # a frame's own would be set up anew for every frame

    def __call__(self, frame: av.VideoFrame) -> Image:
        if self.size is None:
            self.reader._check_size(frame.width, frame.height)
            self.size = self._scaled(frame.width, frame.height)
            self.steps = _orientation(frame)
        try:
            scaled = self.reformatter.reformat(frame, *self.size, "rgb24", interpolation="AREA")
            image: Any = scaled.to_ndarray()
        except (av.FFmpegError, ValueError):
            if self.image is None:
                raise InputError("no picture can be decoded", file=self.reader.path) from None
            return self.image
        swap, mirror, flip = self.steps
        if swap:
            image = image.transpose(1, 0, 2)
        if mirror:
            image = image[:, ::-1]
        if flip:
            image = image[::-1]
        self.image = np.ascontiguousarray(image)
        return self.image

    def _scaled(self, width: int, height: int) -> tuple[int, int]:
        short_side, long_side = self.reader.short_side, self.reader.long_side
        scale = 1.0
        if short_side is not None:
            scale = short_side / min(width, height)
        if long_side is not None:
            scale = min(scale, long_side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How a stored picture is set upright: swap rows and columns, then mirror left and right, then flip.

    The display matrix maps a stored point (x, y) to (a x + c y, b x + d y), in 16.16 fixed point.
    """
    data = frame.side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return False, False, False
    a, b, _, c, d, *_ = np.frombuffer(bytes(data), np.int32, 9).tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def _tracks(container: Any) -> list[Any]:
    """Video tracks without attached pictures and thumbnails."""
    still = 0x0400 | 0x0800 | 0x100000  # AV_DISPOSITION_ATTACHED_PIC, _TIMED_THUMBNAILS, _STILL_IMAGE
    return [s for s in container.streams.video if not int(s.disposition) & still]


def _area(stream: Any) -> int:
    context = stream.codec_context
    return context.width * context.height if context is not None else 0


def _zero(container: Any) -> Fraction:
    """Where a player's time begins on the file's clock, seconds."""
    begins = [
        s.start_time * Fraction(s.time_base)
        for s in container.streams
        if s.type in ("video", "audio") and s.start_time is not None and not int(s.disposition) & 0x0400
    ]
    first = min(begins, default=Fraction(0))
    timeline = container.format.name.split(",")[0] in TIMELINES
    return Fraction(0) if timeline and 0 <= first < DAY else first


def _said_duration(container: Any, stream: Any) -> float | None:
    """When the header says that the picture ends, seconds."""
    if stream.duration is not None:
        begin = stream.start_time or 0
        return float((begin + stream.duration) * stream.time_base - _zero(container))
    if "DURATION" in stream.metadata:  # Matroska: "00:01:02.345000000"
        with suppress(ValueError):
            parts = [float(x) for x in stream.metadata["DURATION"].split(":")]
            return float(sum(x * 60**i for i, x in enumerate(reversed(parts))))
    elif container.duration is not None and len(container.streams) == 1:  # else it may be that of the sound
        return float(container.duration / av.time_base)
    return None


def _joined_behind(path: Path, kind: str, end: int) -> bool:
    """Whether a second file follows in the file, which FFmpeg does not see in these containers."""
    size = path.stat().st_size
    if kind == "flv":  # sound and pictures lie side by side
        return size - end > max(2**14, size // 20)
    if not kind.startswith("mov"):
        return False
    at, found = 0, 0
    with path.open("rb") as file:
        while at + 8 <= size and found < 2:
            file.seek(at)
            head = file.read(16)
            length = int.from_bytes(head[:4])
            if length == 1:
                length = int.from_bytes(head[8:16])
            found += head[4:8] == b"moov"
            if length < 8:
                break
            at += length
    return found > 1


def _timecode(container: Any, stream: Any) -> str | None:
    """The time code of the file's beginning that cameras and editing programs embed."""
    for where in (stream, *(s for s in container.streams if s.type == "data"), container):
        for key, value in where.metadata.items():
            if key.lower() == "timecode":
                return str(value)
    return None


def _reason(error: Exception) -> str:
    """FFmpeg's own words, without the file name."""
    return str(getattr(error, "strerror", None) or error)
