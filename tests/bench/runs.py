"""Run directories as a training leaves them, without the training."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weaktal import Dataset
from weaktal.core import Detections
from weaktal.evaluate import evaluate
from weaktal.formats import save_detections
from weaktal.train.config import resolve_config
from weaktal.train.run import Run, TrainingSettings


def found_in(data: Dataset, seed: int, slack: float) -> Detections:
    """The instances of the test subset, moved by up to `slack` seconds, and as many false alarms."""
    truth = data.subset("test")
    table, rng = truth.instance_table(), np.random.default_rng(seed)
    n = len(table)
    start = np.concatenate([table.start + rng.uniform(-slack, slack, n), np.zeros(n)])
    end = np.concatenate([table.end + rng.uniform(-slack, slack, n), rng.uniform(1, 3, n)])
    return Detections(
        tuple(truth.videos),
        truth.classes,
        np.concatenate([table.video, table.video]),
        start,
        end,
        np.concatenate([table.label, rng.integers(0, len(truth.classes), n)]),
        rng.random(2 * n),
    )


def make_run(
    folder: Path,
    description: Path,
    method: str = "lac",
    seed: int = 0,
    *,
    settings: Mapping[str, Any] | None = None,
    slack: float = 3.0,
    best: float | None = None,
    recipe: str | None = None,
    training: Mapping[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
    steps: int = 40,
    diverges: bool = False,
    evaluated: bool = True,
    localized: bool = True,
) -> Run:
    """A run whose detections are off by up to `slack` seconds; with `best`, those of its best checkpoint."""
    data = Dataset.load(description)
    rule = "last" if best is None else "best-on-test"
    run = Run.create(
        folder,
        method,
        resolve_config(method, None, settings),
        dim=8,
        classes=classes or data.classes,
        seed=seed,
        recipe=recipe,
        data={
            "path": str(description),
            "name": data.name,
            "subset": "train",
            "features": data.store.provenance,
        },
        training=TrainingSettings(choose=rule, **(training or {})),
    )
    losses = [math.exp(-i / 20) + 0.01 * seed for i in range(steps)]
    lines: list[dict[str, Any]] = [
        {"total_step": i, "stage": "train", "step": i, "total": loss} for i, loss in enumerate(losses)
    ]
    if diverges:
        lines[-1]["total"] = math.nan
    elif steps > 10:
        lines.insert(10, {"total_step": 10, "stage": "train", "evaluation": {"average": 12.5, "0.5": 10.0}})
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if not localized:
        return run
    last, truth = found_in(data, seed, slack), data.subset("test")
    chosen = last if best is None else found_in(data, seed, best)
    save_detections(chosen, folder / "detections.json")
    if evaluated:
        metrics = {"checkpoint": rule, **evaluate(chosen, truth).to_dict()}
        if best is not None:
            save_detections(last, folder / "detections-last.json")
            result = evaluate(last, truth)
            metrics["last"] = result.to_dict()
            metrics["weak"] = {"average": 100 * result.average} | {
                f"{t:.2g}": 100 * float(m) for t, m in zip(result.tiou, result.mean_ap, strict=True)
            }
        (folder / "metrics.json").write_text(json.dumps(metrics))
    return run
