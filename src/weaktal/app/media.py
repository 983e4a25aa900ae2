"""The videos themselves: what they are, when their pictures are, small pictures, and copies for browsers.

Picture times are seconds on a player's clock, as everywhere in WeakTAL (`VideoReader.base`). A proxy (H.264
in MP4, for videos that browsers cannot play) shows the same pictures at exactly the same times.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from weaktal.app.project import stamps
from weaktal.core import InputError, atomic_path, write_text
from weaktal.features.extract.decode import FORMATS, TIMELINES, VideoReader

# codecs that every browser of today plays, and the containers they play them from
PLAYABLE = {"h264": ("mp4", "mov"), "vp8": ("webm",), "vp9": ("webm",), "av1": ("mp4", "webm")}
PROXY_HEIGHT = 720
THUMB_HEIGHT = 72
OPEN = 6  # videos kept open for small pictures
KEYFRAMES = 2.0  # small pictures that are farther apart than this may be of the nearest key frame, seconds


@dataclass(frozen=True)
class Media:
    """What is known of a video file.

    Attributes:
        bytes, modified: of the file when it was looked at.
        duration: seconds. fps: average, or None. width, height: pixels. codec: its name.
        playable: whether browsers can be expected to play it as it is.
        error: why it cannot be read, or None.
    """

    bytes: int = 0
    modified: int = 0
    duration: float | None = None
    fps: float | None = None
    width: int = 0
    height: int = 0
    codec: str = ""
    playable: bool = False
    error: str | None = None


def open_video(path: Path) -> Any:
    """The container of a video, for its header or a few pictures; playlists are refused.

    Raises:
        InputError: not a readable video.
    """
    options = {"protocol_whitelist": "file", "format_whitelist": FORMATS}
    try:
        container = av.open(f"file:{path}", options=options, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        VideoReader(path)  # says better what is wrong
        raise InputError("cannot be read as a video", file=path, found=error) from None
    if not container.streams.video or container.streams.video[0].codec_context is None:
        container.close()
        VideoReader(path)
        raise InputError("there is no video in it that can be decoded", file=path)
    return container


def look(path: Path) -> Media:
    """What a video file is, from its header."""
    try:
        stat = path.stat()
    except OSError:
        return Media(error="the file is not there")
    size, modified = stat.st_size, stat.st_mtime_ns
    try:
        container = open_video(path)
    except InputError as error:
        return Media(size, modified, error=str(error).removeprefix(f"{path}: "))
    with container:
        stream = container.streams.video[0]
        context = stream.codec_context
        names: set[str] = set(container.format.name.split(","))
        fits = path.suffix.lower() != ".mkv" and not names.isdisjoint(PLAYABLE.get(context.name, ()))
        duration = float(stream.duration * stream.time_base) if stream.duration is not None else None
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        rate = stream.average_rate or stream.guessed_rate
        return Media(
            size,
            modified,
            duration=duration,
            fps=float(rate) if rate else None,
            width=context.width,
            height=context.height,
            codec=context.name,
            playable=fits and context.pix_fmt in ("yuv420p", "yuvj420p"),
        )


def picture_times(path: Path) -> NDArray[np.float64]:
    """When every picture is shown, seconds on a player's clock.

    Raises:
        InputError: not a readable video.
    """
    base = VideoReader(path).base
    return float(base.offset) + np.asarray(base.times, np.float64)


# ------------------------------------------------------------------------------------------ proxies


def make_proxy(source: Path, target: Path, progress: Callable[[float], None] | None = None) -> None:
    """A copy that every browser plays, with the same pictures at exactly the same times.

    H.264 without pictures that refer to later ones and a key frame every half second, so that seeking is
    fast; at most 720 pixels high; no sound. Written whole or not at all.

    Args:
        source: any video.
        target: the copy, MP4 whatever its suffix.
        progress: called with the share that is done, from time to time.
    """
    import cv2

    with open_video(source) as found, atomic_path(target) as temporary:
        stream = found.streams.video[0]
        stream.thread_type = "AUTO"
        base = stream.time_base or Fraction(1, 90_000)
        tick = Fraction(1, base.denominator)  # a track of MP4 counts whole ticks in a second
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        total = float(stream.duration * base) if stream.duration else None
        total = total or (found.duration / av.time_base if found.duration else None)
        options = {"movflags": "+faststart", "video_track_timescale": str(base.denominator)}
        with av.open(str(temporary), "w", format="mp4", options=options) as made:
            out = None
            first: int | None = None
            last = -1
            told = 0.0
            for frame in found.decode(stream):
                if frame.pts is None:
                    continue
                pts = frame.pts * base.numerator
                first = pts if first is None else first
                pts -= first
                if pts <= last:
                    continue
                last = pts
                image = frame.to_ndarray(format="rgb24")
                turn = round(frame.rotation / 90) % 4
                if turn:
                    image = np.ascontiguousarray(np.rot90(image, turn))
                height, width = image.shape[:2]
                scale = min(1.0, PROXY_HEIGHT / height)
                size = tuple(max(2, round(x * scale / 2) * 2) for x in (width, height))
                if size != (width, height):
                    image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
                if out is None:
                    settings = {"preset": "veryfast", "crf": "23", "bf": "0"}
                    settings["g"] = str(max(1, round(float(rate) / 2)))
                    out = made.add_stream("libx264", rate=rate, options=settings)
                    out.width, out.height, out.pix_fmt = size[0], size[1], "yuv420p"
                    out.time_base = out.codec_context.time_base = tick
                copy = av.VideoFrame.from_ndarray(image, format="rgb24")
                copy.pts, copy.time_base = pts, tick
                made.mux(out.encode(copy))
                if progress and total and pts * float(tick) - told > max(1.0, total / 100):
                    told = pts * float(tick)
                    progress(min(1.0, told / total))
            if out is None:
                raise InputError("no picture can be decoded", file=source)
            made.mux(out.encode())


class Proxies:
    """Proxies that are being made, one process at a time, in the background.

    Args:
        folder: where they lie.
        tell: called with (video, state) when something changes; see `state`.
    """

    def __init__(self, folder: Path, tell: Callable[[str, Mapping[str, Any]], None]) -> None:
        self.folder, self.tell = folder, tell
        self.states: dict[str, dict[str, Any]] = {}
        self._stamps = stamps()
        self._queue: OrderedDict[str, Path] = OrderedDict()
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._closing = False

    def path(self, name: str) -> Path:
        return self.folder / f"{name}.proxy"  # no suffix of a video: it is not to be taken for one

    def ready(self, name: str, source: Path) -> Path | None:
        """The proxy of a video, if it is there and of the file as it is."""
        path, about = self.path(name), self.folder / f"{name}.proxy.json"
        try:
            said = json.loads(about.read_text(encoding="utf-8"))
            stat = source.stat()
        except (OSError, ValueError):
            return None
        same = said == {"bytes": stat.st_size, "modified": stat.st_mtime_ns}
        return path if same and path.exists() else None

    def state(self, name: str, source: Path | None = None) -> dict[str, Any]:
        """What becomes of a proxy; where the video's file is given, one that lies there already counts.

        ``state``: "none", "waiting", "making" (with ``share``), "ready" or "failed" (with ``error``);
        ``stamp``: of two states the one with the greater is the newer one.
        """
        known = self.states.get(name, {"state": "none", "stamp": 0})
        ready = source is not None and self.ready(name, source) is not None
        return {**known, "state": "ready"} if ready else known

    def ask(self, name: str, source: Path) -> None:
        """Make a proxy, after those that were asked for before."""
        with self._lock:
            if self.states.get(name, {}).get("state") in ("waiting", "making"):
                return
            self._queue[name] = source
            self._set(name, state="waiting")
            if len(self._queue) == 1 and self._process is None:
                threading.Thread(target=self._work, name="proxies", daemon=True).start()

    def _set(self, name: str, **state: Any) -> None:
        self.states[name] = {**state, "stamp": next(self._stamps)}
        self.tell(name, self.states[name])

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._queue or self._closing:
                    self._process = None
                    return
                name, source = next(iter(self._queue.items()))
                stat = source.stat() if source.exists() else None
                self._set(name, state="making", share=0.0)
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "weaktal.app.media", str(source), str(self.path(name))],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            process = self._process
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                self._set(name, state="making", share=float(line))
            errors = process.stderr.read().strip().splitlines()
            code = process.wait()
            process.stdout.close()
            process.stderr.close()
            with self._lock:
                self._queue.pop(name, None)
                if code == 0 and stat is not None:
                    about = {"bytes": stat.st_size, "modified": stat.st_mtime_ns}
                    write_text(self.folder / f"{name}.proxy.json", json.dumps(about))
                    self._set(name, state="ready")
                elif not self._closing:
                    self._set(name, state="failed", error=errors[-1] if errors else f"ended with {code}")

    def close(self) -> None:
        """Stop what is being made; nothing half-written stays."""
        with self._lock:
            self._closing = True
            process = self._process
        if process is not None:
            process.terminate()


# ------------------------------------------------------------------------------------------ pictures


class Thumbnails:
    """Small pictures of videos at any time, as JPEG; a few videos are kept open."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, tuple[Any, threading.Lock]] = OrderedDict()
        self._lock = threading.Lock()

    def _container(self, path: Path) -> tuple[Any, threading.Lock]:
        with self._lock:
            found = self._open.pop(path, None)
            if found is None:
                container = open_video(path)
                container.streams.video[0].thread_count = 1
                found = (container, threading.Lock())
            self._open[path] = found
            while len(self._open) > OPEN:
                _, (old, lock) = self._open.popitem(last=False)
                with lock:
                    old.close()
            return found

    def at(self, path: Path, seconds: float, apart: float, height: int = THUMB_HEIGHT) -> bytes:
        """The picture that is shown at a time.

        Args:
            path: the video.
            seconds: on a player's clock.
            apart: how far the next small picture is; from two seconds on, a key frame nearby will do.
            height: of the picture.

        Raises:
            InputError: nothing can be decoded there.
        """
        import cv2

        container, lock = self._container(path)
        with lock:
            stream = container.streams.video[0]
            base = float(stream.time_base)
            start = stream.start_time or 0
            timeline = container.format.name.split(",")[0] in TIMELINES
            goal = (0 if timeline else start) + round(seconds / base)
            chosen = None
            try:
                container.seek(max(goal, start), stream=stream, backward=True)
                for frame in container.decode(stream):
                    if chosen is not None and frame.pts is not None and frame.pts > goal:
                        break
                    chosen = frame
                    if apart >= KEYFRAMES:
                        break
            except av.FFmpegError:
                pass
            if chosen is None:
                raise InputError("no picture there", file=path, field=f"{seconds:.2f} s")
            turn = round(chosen.rotation / 90) % 4
            image: Any = chosen.to_ndarray(format="bgr24")
        if turn:
            image = np.ascontiguousarray(np.rot90(image, turn))
        size = (max(1, round(image.shape[1] * height / image.shape[0])), height)
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        done, jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])
        assert done
        return bytes(jpeg.tobytes())

    def close(self) -> None:
        with self._lock:
            for container, lock in self._open.values():
                with lock:
                    container.close()
            self._open.clear()


# ------------------------------------------------------------------------------------------ a library


class Library:
    """What is known of all videos of a project, looked at in the background and kept on the disk.

    Args:
        cache: the project's folder ``cache``.
        where: gives the path of a video by name.
        tell: called with the videos that were looked at, a few at a time.
    """

    def __init__(
        self,
        cache: Path,
        where: Callable[[str], Path | None],
        tell: Callable[[Mapping[str, Media]], None],
    ) -> None:
        self.path, self.where, self.tell = cache / "media.json", where, tell
        self.frames = cache / "frames"
        self._media: dict[str, Media] = {}
        self._wanted: OrderedDict[str, None] = OrderedDict()
        self._wake = threading.Condition()
        self._closing = False
        try:
            said = json.loads(self.path.read_text(encoding="utf-8"))
            self._media = {name: Media(**entry) for name, entry in said.items()}
        except (OSError, ValueError, TypeError):
            pass  # a cache: it is made anew
        self._thread = threading.Thread(target=self._work, name="library", daemon=True)
        self._thread.start()

    def get(self, name: str) -> Media | None:
        """What is known of a video, None if it has not been looked at."""
        return self._media.get(name)

    def want(self, names: Iterable[str]) -> None:
        """Look at these videos (again), in the background."""
        with self._wake:
            self._wanted |= dict.fromkeys(names)
            self._wake.notify()

    def now(self, name: str) -> Media:
        """What a video is now."""
        path = self.where(name)
        if path is None:
            return Media(error="no file is known")
        known = self._media.get(name)
        try:
            stat = path.stat()
            if (
                known
                and not known.error
                and (known.bytes, known.modified) == (stat.st_size, stat.st_mtime_ns)
            ):
                return known
        except OSError:
            pass
        media = look(path)
        self._media[name] = media
        return media

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._wanted and not self._closing:
                    self._wake.wait()
                if self._closing:
                    return
                names = [self._wanted.popitem(last=False)[0] for _ in range(min(32, len(self._wanted)))]
            self.tell({name: self.now(name) for name in names})
            if not self._wanted:
                self.save()

    def save(self) -> None:
        entries = {name: asdict(media) for name, media in list(self._media.items())}
        write_text(self.path, json.dumps(entries) + "\n")

    def times(self, name: str) -> NDArray[np.float64]:
        """When every picture of a video is shown, seconds on a player's clock; kept on the disk.

        Raises:
            InputError: not a readable video.
        """
        path = self.where(name)
        if path is None or not path.exists():
            raise InputError("the video's file is not there", file=path, found=name)
        stat = path.stat()
        kept = self.frames / f"{name}.npy"
        try:
            found: NDArray[np.float64] = np.load(kept, allow_pickle=False)
            if tuple(found[:2]) == (stat.st_size, stat.st_mtime_ns // 1000):
                return found[2:]
        except (OSError, ValueError):
            pass
        times = picture_times(path)
        with atomic_path(kept) as temporary:
            np.save(temporary, np.concatenate([[stat.st_size, stat.st_mtime_ns // 1000], times]))
        return times

    def close(self) -> None:
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()


def main() -> int:
    """Make one proxy; prints the share that is done, a line each."""
    os.nice(10)
    source, target = map(Path, sys.argv[1:])
    try:
        make_proxy(source, target, lambda share: print(f"{share:.4f}", flush=True))
    except (InputError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
