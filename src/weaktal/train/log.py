"""``log.jsonl``: a line per step, a line per evaluation."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from weaktal.core import InputError, write_text

ONE_SECOND = 1.0
MOST_PENDING = 256  # steps whose losses may wait at the device
PLACE = ("total_step", "stage", "step")


class DivergedError(InputError):
    """A loss is not a finite number any more; the message names the step and the part."""


class Log:
    """Writes the log; losses wait at the device until many are fetched at once.

    Args:
        path: of ``log.jsonl``.
        fabric: its first process writes, and hands on to the loggers.
    """

    def __init__(self, path: Path, fabric: Fabric) -> None:
        self.path, self.fabric = path, fabric
        self.pending: list[tuple[int, str, int, tuple[str, ...], Tensor]] = []
        self.fetched = time.monotonic()
        self.latest: dict[str, float] = {}

    def keep_until(self, total: int) -> list[dict[str, float]]:
        """Drop the lines of step `total` and later, and a torn last line.

        Returns:
            The evaluations that stay, oldest first.

        Raises:
            InputError: a line is none of ours.
        """
        # an evaluation after step n stands under n + 1
        lines = [x for x in _read(self.path) if x["total_step"] < total + ("evaluation" in x)]
        if self.fabric.is_global_zero:
            write_text(self.path, "".join(json.dumps(x) + "\n" for x in lines))
        return [x["evaluation"] for x in lines if "evaluation" in x]

    def add(self, total: int, stage: str, step: int, losses: Mapping[str, Tensor]) -> None:
        """Note the losses of a step."""
        with torch.no_grad():  # a copy: what a method reports may be a buffer that the next step changes
            values = torch.stack([v.reshape(()) for v in losses.values()]).float()
        self.pending.append((total, stage, step, tuple(losses), values))

    def due(self) -> bool:
        """Whether it is time to fetch."""
        return len(self.pending) >= MOST_PENDING or time.monotonic() - self.fetched > ONE_SECOND

    def fetch(self) -> None:
        """Bring the waiting losses to the host and write them.

        Raises:
            DivergedError: one is not finite; they are written nevertheless.
        """
        if not self.pending:
            return
        counts = [len(names) for _, _, _, names, _ in self.pending]
        values = torch.cat([v for *_, v in self.pending]).cpu().numpy()
        parts = np.split(values, np.cumsum(counts)[:-1])
        lines = [
            dict(zip((*PLACE, *names), (total, stage, step, *part.tolist()), strict=True))
            for (total, stage, step, names, _), part in zip(self.pending, parts, strict=True)
        ]
        self.pending, self.fetched = [], time.monotonic()
        self.latest = _losses(lines[-1])
        self._write(lines)
        if self.fabric.is_global_zero and self.fabric.loggers:
            for line in lines:
                metrics = {f"{line['stage']}/{k}": v for k, v in _losses(line).items()}
                self.fabric.log_dict(metrics, step=line["total_step"])
        for line in lines:
            bad = [f"{k} = {v}" for k, v in _losses(line).items() if not np.isfinite(v)]
            if bad:
                raise DivergedError(
                    "training diverged",
                    field=f"stage {line['stage']}, step {line['step']}",
                    found=", ".join(bad),
                    expected="finite losses",
                    hint="lower the learning rate, or train in 32-true; the last checkpoint is intact",
                )

    def evaluation(self, total: int, stage: str, found: Mapping[str, float]) -> None:
        """Write what an evaluation after `total` steps found; on the first process."""
        self._write([{"total_step": total, "stage": stage, "evaluation": dict(found)}])
        for name, value in found.items() if self.fabric.loggers else ():
            self.fabric.log(f"evaluation/{name}", value, step=total)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        if self.fabric.is_global_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(x) + "\n" for x in lines)


def logged_evaluations(path: Path) -> list[dict[str, float]]:
    """What the evaluations as training went found, oldest first.

    Raises:
        InputError: a line is none of ours.
    """
    return [line["evaluation"] for line in _read(path) if "evaluation" in line]


@dataclass(frozen=True, eq=False)
class Course:
    """How a training went.

    Attributes:
        step: (N,) optimizer steps over all stages, from 0.
        total: (N,) what was minimised in each; the last ones may be NaN or infinite.
        evaluated: (M,) after how many steps something was measured.
        average: (M,) average mAP in percent found there.
    """

    step: NDArray[np.int64]
    total: NDArray[np.float64]
    evaluated: NDArray[np.int64]
    average: NDArray[np.float64]

    @property
    def diverged(self) -> int | None:
        """The step whose loss is no finite number, if one is not."""
        bad = np.flatnonzero(~np.isfinite(self.total))
        return int(self.step[bad[0]]) if len(bad) else None


def logged_course(path: Path) -> Course:
    """Losses and evaluations of a log; empty where there is none.

    Raises:
        InputError: a line is none of ours.
    """
    lines = _read(path)
    losses = [x for x in lines if isinstance(x.get("total"), float | int)]
    found = [x for x in lines if "average" in x.get("evaluation", ())]
    return Course(
        np.array([x["total_step"] for x in losses], np.int64),
        np.array([x["total"] for x in losses], np.float64),
        np.array([x["total_step"] for x in found], np.int64),
        np.array([x["evaluation"]["average"] for x in found], np.float64),
    )


def _losses(line: Mapping[str, Any]) -> dict[str, float]:
    return {k: v for k, v in line.items() if k not in PLACE}


def _read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; not the last one, if its writing was cut short."""
    *texts, last = path.read_bytes().split(b"\n") if path.exists() else [b""]
    lines = [_line(text, path, number) for number, text in enumerate(texts, 1)]
    with suppress(InputError):
        lines.append(_line(last, path, len(texts) + 1))
    return lines


def _line(text: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        line = json.loads(text)
        total, evaluation = line["total_step"], line.get("evaluation", {})
        fits = type(total) is int and total >= 0
        fits = fits and all(isinstance(v, float | int) for v in evaluation.values())
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        fits = False
    if not fits:
        raise InputError(
            "this is no line of a training's log",
            file=path,
            field=f"line {number}",
            found=repr(text[:80]),
            expected='such as {"total_step": 0, "stage": "base", "step": 0, "total": 0.7}',
            hint="mend or remove the line; training goes on from the checkpoint, the log is its record",
        )
    found: dict[str, Any] = line
    return found
