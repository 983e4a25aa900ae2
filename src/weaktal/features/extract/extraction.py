"""Snippet features of videos into a folder: what `weaktal extract` does."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from weaktal.core import InputError
from weaktal.core.printable import printable
from weaktal.features.extract.backbone import BUILT_IN
from weaktal.features.extract.driver import Engine, Job, LocalEngine, Outcome, Report, describe
from weaktal.features.extract.driver import extract as run_job
from weaktal.features.extract.limits import Limits
from weaktal.features.extract.videos import find_videos

Progress = Callable[[Outcome, int, int], None]  # an outcome, how many are ready, how many there are
PathLike = str | os.PathLike[str]


def extract(
    videos: PathLike | Sequence[PathLike],
    out: PathLike,
    *,
    backbone: str = "motion",
    options: Mapping[str, Any] | None = None,
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    limits: Limits | None = None,
    progress: bool | Progress = False,
) -> Report:
    """Features of videos into a folder: ``NAME.safetensors`` each, and a report in ``extraction.json``.

    A finished video is never done again. A video that cannot be read is an outcome of the state "failed", and
    the others go on.

    Args:
        videos: files, or folders of them.
        out: the folder; it is made if need be.
        backbone: "motion" (no weights), "efficientnet", "efficientnet+motion", "i3d", "videomae", "clip",
            "transformers", "timm", or one of your own as ``file.py:NAME``.
        options: keyword arguments of the backbone.
        workers: processes, default one per core.
        engine: where the work runs, on this machine or on a Ray cluster.
        address: of the Ray cluster, default a local one.
        limits: what a video may ask of us: bridged gaps, length, size of pictures.
        progress: show a bar on standard error, or call this with each outcome.

    Raises:
        InputError: no video, an unknown backbone or option, features of other settings in the folder.
    """
    found = find_videos([videos] if isinstance(videos, str | os.PathLike) else videos)
    job, _ = described_job(backbone, options or {}, limits)
    runs: Engine = LocalEngine(workers)
    if engine == "ray":
        from weaktal.features.extract.ray_engine import RayEngine

        runs = RayEngine(workers, address)
    elif address:
        raise InputError("--address is of a Ray cluster", hint="add --engine ray")
    with watching(len(found), progress) as tell:
        return run_job(found, Path(out), job, engine=runs, progress=tell)


def described_job(
    backbone: str, options: Mapping[str, Any], limits: Limits | None = None, *, trusted: bool = True
) -> tuple[Job, dict[str, Any]]:
    """A job, and what its features are, see `weaktal.features.extract.driver.describe`.

    Raises:
        InputError: an unknown backbone or option, or values that make no features.
    """
    job = Job(backbone, dict(options), limits or Limits(), trusted)
    try:
        about = describe(job)
    except (ArithmeticError, ValueError, TypeError) as error:
        if backbone not in BUILT_IN:
            raise  # a fault of the user's own code, whose place it should show
        raise _senseless(backbone, options, str(error)) from error
    for key in ("fps", "rate", "window", "stride"):
        value = about.get(key)
        if value is not None and not 0 < value < math.inf:
            raise _senseless(backbone, options, f"{key} {value:g}")
    return job, about


def _senseless(backbone: str, options: Mapping[str, Any], found: str) -> InputError:
    return InputError(
        f"the backbone {backbone!r} makes no features with these options",
        field=", ".join(f"{k}={v}" for k, v in options.items()) or None,
        found=found,
    )


@contextmanager
def watching(total: int, progress: bool | Progress) -> Iterator[Progress | None]:
    """What to tell outcomes to: the caller's own function, a bar on standard error, or nothing."""
    if not isinstance(progress, bool):
        yield progress
    elif progress:
        with _bar(total) as tell:
            yield tell
    else:
        yield None


@contextmanager
def _bar(total: int) -> Iterator[Progress]:
    """A bar; bad videos are told above it as they turn up."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    seconds = 0.0
    console = Console(file=sys.stderr)
    with Bar(
        TextColumn("extract"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task("extract", total=total, rate="")

        def tell(outcome: Outcome, ready: int, total: int) -> None:
            nonlocal seconds
            seconds += outcome.seconds if outcome.state == "done" else 0
            passed = bar.tasks[0].elapsed or 1e-9
            bar.update(task, completed=ready, rate=f"{seconds / passed:.1f} s of video per second")
            say(outcome.source, [outcome.error] if outcome.error else [], "red")
            say(outcome.source, outcome.warnings if outcome.state == "done" else (), "yellow")

        def say(source: str, lines: Iterable[str], style: str) -> None:
            for line in lines:  # names hold anything, also what Rich takes for its own marks
                text = printable(f"{source}: {line}")
                console.print(text, style=style, markup=False, highlight=False, emoji=False, soft_wrap=True)

        yield tell
