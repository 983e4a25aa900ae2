"""A data set of eight short videos of two classes, with features that tell them apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

TINY = {"num_steps": 0, "epochs": 3, "snippets": 16, "heads": 2, "batch_size": 2}


def toy_dataset(folder: Path) -> Path:
    """Writes it and returns its description."""
    rng = np.random.default_rng(0)
    database = {}
    for v in range(8):
        n, label = 32, v % 2
        x = rng.standard_normal((n, 8)).astype(np.float32)
        x[8:24, label] += 3
        (folder / "features").mkdir(exist_ok=True)
        np.save(folder / f"features/v{v}.npy", x)
        rate = 1.5625
        database[f"v{v}"] = {
            "subset": "train" if v < 4 else "test",
            "duration": n / rate,
            "annotations": [{"segment": [8 / rate, 24 / rate], "label": f"class{label}"}],
        }
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    path = folder / "data.yaml"
    path.write_text("name: toy\nannotations: gt.json\nfeatures: {path: features, rate: 1.5625}\n")
    return path
