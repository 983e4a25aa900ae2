"""One backbone over many videos: resumable, in parallel, and no video stops the others."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, file_name, write_text
from weaktal.core.atomic import temporary_prefix
from weaktal.core.printable import printable
from weaktal.features.extract.ahead import prefetch
from weaktal.features.extract.backbone import Backbone, Description, Image, load_backbone
from weaktal.features.extract.limits import Limits
from weaktal.features.extract.processes import interrupts_later, worker_pool
from weaktal.features.layouts import safetensors_about, safetensors_header
from weaktal.features.store import write_video_features

if TYPE_CHECKING:
    from weaktal.features.extract.decode import VideoReader

AHEAD = 32  # frames decoded ahead
ATTEMPTS = 2  # how often a video may take its worker process down before it is given up
REPORT = "extraction.json"


@dataclass(frozen=True)
class Outcome:
    """What became of one video.

    Attributes:
        name: the video.
        source: its file.
        state: "done" now, "kept" from an earlier run, or "failed".
        seconds: when the last picture ends, as a player counts.
        snippets: rows written.
        took: seconds of work.
        warnings: what was lost.
        error: why it failed.
    """

    name: str
    source: str
    state: Literal["done", "kept", "failed"]
    seconds: float = 0.0
    snippets: int = 0
    took: float = 0.0
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Job:
    """One backbone with its options; it travels to the workers and is built there once.

    Attributes:
        backbone: a name that `load_backbone` knows.
        options: keyword arguments of the backbone.
        limits: what a video may ask of us.
        trusted: the user named the backbone, and not a file; see `load_backbone`.
    """

    backbone: str = "motion"
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)
    trusted: bool = True

    def build(self) -> Backbone:
        return _built(self.backbone, json.dumps(dict(self.options), sort_keys=True), self.trusted)


@cache
def _built(name: str, options: str, trusted: bool) -> Backbone:
    return load_backbone(name, json.loads(options), trusted=trusted)


def source_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_video(
    about: Description, video: Path, *, threads: int = 1, limits: Limits | None = None
) -> VideoReader:
    """A reader of the frames that a backbone wants.

    Raises:
        InputError: not a readable video.
    """
    from weaktal.features.extract.decode import VideoReader

    return VideoReader(
        video,
        about.fps,
        short_side=about.short_side,
        long_side=about.long_side,
        threads=threads,
        limits=limits,
    )


def stream_features(
    backbone: Backbone, about: Description, frames: Iterable[Image]
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Features of a video as they come: each stream's next rows, (n, width) float32."""
    for rows in backbone.extract(iter(frames)):
        if set(rows) != set(about.dims):
            raise ValueError(f"{about.backbone} describes the streams {list(about.dims)}, gives {list(rows)}")
        yield {name: np.asarray(rows[name], np.float32) for name in about.dims}


def describe(job: Job) -> dict[str, Any]:
    """What the features of a job are, as it is written beside them: widths of the streams in "dims"."""
    about = job.build().describe()
    return {**about.header(), "dims": dict(about.dims)}


def extract_video(job: Job, video: Path, target: Path) -> Outcome:
    """Features of one video to one file, whole or not at all; a bad video gives a failed `Outcome`."""
    began = time.perf_counter()
    name = target.stem
    try:
        backbone = job.build()
        about = backbone.describe()
        parts: dict[str, list[NDArray[np.float32]]] = {stream: [] for stream in about.dims}
        reader = open_video(about, video, limits=job.limits)
        # the next frames are decoded while the backbone works
        for rows in stream_features(backbone, about, prefetch(iter(reader), AHEAD)):
            for stream, values in rows.items():
                parts[stream].append(values)
        if not sum(len(p) for p in next(iter(parts.values()))):
            raise InputError(
                "the video is shorter than a snippet",
                file=video,
                expected=f"at least {about.window} frames at {about.fps:g} per second",
            )
        features = {stream: np.concatenate(p) for stream, p in parts.items()}
        header = about.header()
        write_video_features(
            target,
            features,
            **header,
            extractor={"name": job.backbone, "options": dict(job.options)},
            source={"file": video.name, "bytes": video.stat().st_size},
            source_hash=source_hash(video),
            start=round(reader.info.start, 6),
            duration=round(reader.info.start + reader.seconds, 6),
            frames=reader.frames,
            timing=reader.timing,
            warnings=list(reader.warnings),
        )
        return Outcome(
            name,
            str(video),
            "done",
            reader.info.start + reader.seconds,
            len(next(iter(features.values()))),
            time.perf_counter() - began,
            tuple(reader.warnings),
        )
    except InputError as error:
        message = str(error).removeprefix(f"{printable(video)}: ")
    except OSError as error:
        message = error.strerror or str(error)
    except MemoryError:
        message = "out of memory"
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
    return Outcome(name, str(video), "failed", took=time.perf_counter() - began, error=message)


@dataclass(frozen=True)
class Report:
    """What an extraction did, video by video, in the order of the command."""

    outcomes: tuple[Outcome, ...]

    def __getitem__(self, state: str) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.state == state)

    def to_json(self) -> str:
        rows = [{k: v for k, v in asdict(o).items() if v is not None} for o in self.outcomes]
        for row in rows:
            row.update(seconds=round(row["seconds"], 3), took=round(row["took"], 3))
        counts = {state: len(self[state]) for state in ("done", "kept", "failed")}
        return json.dumps({"counts": counts, "videos": rows}, indent=1) + "\n"


Engine = Callable[[Job, Sequence[tuple[Path, Path]]], Iterator[Outcome]]


def extract(
    videos: Sequence[Path],
    out: Path,
    job: Job,
    *,
    engine: Engine | None = None,
    progress: Callable[[Outcome, int, int], None] | None = None,
) -> Report:
    """Features of many videos into a folder: ``NAME.safetensors`` each, and a report in ``extraction.json``.

    A finished video is never done again: its file stands there whole, and says the same backbone, settings
    and size of the video file. A video that cannot be read is reported and the others go on.

    Args:
        videos: files of different names; see `find_videos`.
        out: the folder; it is made if need be.
        job: the backbone.
        engine: what runs the work, default `LocalEngine()`.
        progress: called with each outcome, how many are ready, and how many there are.

    Raises:
        InputError: an unknown backbone, or features of other settings in the folder.
    """
    expected = json.loads(json.dumps(job.build().describe().header()))
    targets: dict[Path, Path] = {}
    outcomes: dict[Path, Outcome] = {}

    def note(video: Path, outcome: Outcome) -> None:
        outcomes[video] = outcome
        if progress:
            progress(outcome, len(outcomes), len(videos))

    for video in videos:
        try:
            targets[video] = out / file_name(video.stem, ".safetensors")
        except InputError as error:
            note(video, Outcome(video.stem, str(video), "failed", error=str(error)))
    _clear(out, targets.values())  # of a run that was killed
    todo = []
    for video, target in targets.items():
        try:
            kept = _finished(video, target, expected) if target.exists() else None
        except _Unreadable as error:
            note(video, Outcome(video.stem, str(video), "failed", error=str(error)))
            continue
        if kept is None:
            todo.append((video, target))
        else:
            note(video, kept)
    of = {target: video for video, target in targets.items()}
    try:
        if todo:
            out.mkdir(parents=True, exist_ok=True)
        for outcome in (engine or LocalEngine())(job, todo) if todo else ():
            note(of[out / file_name(outcome.name, ".safetensors")], outcome)
    finally:
        _clear(out, targets.values())  # of workers that died or were stopped
    for video, outcome in outcomes.items():
        if outcome.state != "failed" and not targets[video].is_file():
            gone = "its features were removed while the work went on"
            outcomes[video] = Outcome(outcome.name, outcome.source, "failed", took=outcome.took, error=gone)
    report = Report(tuple(outcomes[video] for video in videos))
    if out.is_dir():
        write_text(out / REPORT, report.to_json())
    return report


class _Unreadable(InputError):
    """A file in the place of features, that is none; only its video suffers."""


def _clear(out: Path, targets: Iterable[Path]) -> None:
    """Remove what was being written to these files when its process died; see `atomic_path`."""
    left = list(out.glob(".*.safetensors")) if out.is_dir() else []
    prefixes = {temporary_prefix(target) for target in targets} if left else set()
    for path in left:
        if path.name.removesuffix(".safetensors").rpartition(".")[0] + "." in prefixes:
            path.unlink(missing_ok=True)


def _finished(video: Path, target: Path, expected: Mapping[str, Any]) -> Outcome | None:
    """The outcome of an earlier run, None if the video has changed; other settings are an error."""
    try:
        found, rows = safetensors_about(target), safetensors_rows(target)
    except (InputError, OSError, StopIteration, KeyError, TypeError, ValueError) as error:
        raise _Unreadable(
            "a file that is none of features is in their place", file=target, found=error, hint="remove it"
        ) from None
    difference = describe_difference(found, expected)
    if difference:
        raise InputError(
            "the folder holds features of other settings",
            file=target,
            found=difference,
            hint="extract into another folder, or remove these files",
        )
    source = found.get("source")
    if video.exists() and (not isinstance(source, dict) or video.stat().st_size != source.get("bytes")):
        return None
    remarks = tuple(map(str, found.get("warnings") or ()))
    if "start" not in found:
        remarks += ("an older version made these features: where the picture begins is unknown",)
    return Outcome(video.stem, str(video), "kept", float(found.get("duration", 0)), rows, warnings=remarks)


def safetensors_rows(path: Path) -> int:
    """Snippets in a feature file, from its header."""
    header, _ = safetensors_header(path)
    return int(next(v for k, v in header.items() if k != "__metadata__")["shape"][0])


def describe_difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """In words, where a header differs from the expected one; None where it does not.

    >>> describe_difference({"rate": 1.0, "backbone": "i3d"}, {"rate": 1.5625, "backbone": "i3d"})
    'rate 1.0 in place of 1.5625'
    """
    parts = []
    for key, value in expected.items():
        other = found.get(key)
        same = other == value or (
            isinstance(other, float) and isinstance(value, float) and math.isclose(other, value)
        )
        if not same:
            parts.append(f"{key} {other} in place of {value}")
    return ", ".join(parts) or None


def extract_in_worker(job: Job, video: Path, target: Path) -> Outcome:
    """`extract_video` in a process of its own, which keeps to one core.

    There are as many workers as cores; and how a network's sums are split among threads decides their last
    bits, so that the same number of threads everywhere makes the files the same on every engine.
    """
    os.environ["OMP_NUM_THREADS"] = "1"  # torch reads it when a backbone imports it
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    with suppress(ModuleNotFoundError):
        import cv2

        cv2.setNumThreads(1)
    return extract_video(job, video, target)


@dataclass(frozen=True)
class LocalEngine:
    """Worker processes on this machine.

    A worker that dies (killed, out of memory, a crash in a codec) takes the pool with it: the pool is made
    anew, and videos that were under way are tried again one by one, so that only the culprit is given up.

    Attributes:
        workers: processes, default one per core.
    """

    workers: int | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError("there is at least one worker", found=self.workers)

    def __call__(self, job: Job, tasks: Sequence[tuple[Path, Path]]) -> Iterator[Outcome]:
        waiting, suspects = list(tasks), list[tuple[Path, Path]]()
        deaths: dict[Path, int] = {}
        size = max(1, min(self.workers or os.cpu_count() or 1, len(tasks)))
        while waiting or suspects:
            alone = bool(suspects)
            batch = [suspects.pop(0)] if alone else waiting
            lost = []
            with worker_pool(1 if alone else size) as pool:
                futures: dict[Future[Outcome], tuple[Path, Path]] = {}
                queue = iter(batch)
                broken = False
                while True:
                    # a short queue: after a death only the videos under way are suspects
                    while (
                        not broken and len(futures) < (1 if alone else size) and (task := next(queue, None))
                    ):
                        try:
                            with interrupts_later():
                                futures[pool.submit(extract_in_worker, job, *task)] = task
                        except BrokenProcessPool:
                            broken = True
                            lost.append(task)
                    if not futures:
                        break
                    for future in wait(futures, return_when=FIRST_COMPLETED).done:
                        task = futures.pop(future)
                        try:
                            yield future.result()
                        except BrokenProcessPool:
                            broken = True
                            lost.append(task)
            waiting = waiting if alone else list(queue)
            for video, target in lost:
                deaths[target] = deaths.get(target, 0) + 1
                if deaths[target] < ATTEMPTS:
                    suspects.append((video, target))
                else:
                    yield died(video, target)


def died(video: Path, target: Path) -> Outcome:
    """The outcome of a video whose worker died each time."""
    error = f"the worker process died {ATTEMPTS} times on it (killed, out of memory, or a crash in a decoder)"
    return Outcome(target.stem, str(video), "failed", error=error)
