"""What a person sees while training runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Watch(Protocol):
    """Told about training as it goes."""

    def stage(self, name: str, done: int, steps: int) -> None: ...

    def advance(self, done: int, losses: Mapping[str, float]) -> None: ...

    def say(self, text: str) -> None: ...

    def close(self) -> None: ...


class Silent:
    """Shows nothing."""

    def stage(self, name: str, done: int, steps: int) -> None:
        pass

    def advance(self, done: int, losses: Mapping[str, float]) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """A plain line at most every `seconds`, and one at the end of every stage."""

    def __init__(self, seconds: float = 10.0) -> None:
        self.seconds = seconds

    def stage(self, name: str, done: int, steps: int) -> None:
        self.name, self.first, self.steps, self.begun = name, done, steps, time.monotonic()
        self.last = self.begun

    def advance(self, done: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        if now - self.last < self.seconds and done < self.steps:
            return
        self.last = now
        rate = (done - self.first) / max(now - self.begun, 1e-9)
        parts = " ".join(f"{k} {v:.4f}" for k, v in losses.items())
        left = (self.steps - done) / max(rate, 1e-9)
        self.say(f"{self.name} {done}/{self.steps}  {parts}  {rate:.1f} steps/s  {_clock(left)} left")

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


class Bar:
    """A progress bar with losses, rate and time left."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=console,
        )
        self.progress.start()

    def stage(self, name: str, done: int, steps: int) -> None:
        self.first, self.begun = done, time.monotonic()
        self.task = self.progress.add_task(name, total=steps, completed=done, rate="", losses="")

    def advance(self, done: int, losses: Mapping[str, float]) -> None:
        rate = (done - self.first) / max(time.monotonic() - self.begun, 1e-9)
        parts = " ".join(f"{k} {v:.3f}" for k, v in losses.items())
        self.progress.update(self.task, completed=done, rate=f"{rate:.1f} steps/s", losses=parts)

    def say(self, text: str) -> None:
        self.progress.console.print(text, highlight=False)

    def close(self) -> None:
        self.progress.stop()


def watch(show: bool) -> Watch:
    """The fitting one for standard error."""
    if not show:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"
