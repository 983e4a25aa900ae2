"""What a reader has: a small data set, in every layout and under every name that pages use."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np

from weaktal.formats import load_annotations, save_annotations

RATE, FPS, LENGTH, HALF = 1.5625, 25.0, 48, 4
CLASSES = ("Diving", "Jump", "Wave")
TRAIN, TEST = 9, 6

DESCRIPTION = """\
name: {name}
annotations: {root}gt.json
subsets: {{train: train, test: test}}
points: {root}points/point_labels.csv
fps: {root}fps.json
features: {{path: {root}features, rate: 1.5625}}
protocol: activitynet
"""
# by the names that pages give it
NAMED = (
    "thumos14",
    "bench",
    "my_data",
    "my",
    "thumos_s025",
    "acmnet",
    "demo/demo",
    "hapt/data",
    "thumos/acmnet",
)


def make_world(folder: Path) -> None:
    """Writes it. Features tell actions, and classes, apart; two instances a video."""
    rng = np.random.default_rng(0)
    database: dict[str, object] = {}
    clicks, found, names, joint = [], {}, [], []
    for v in range(TRAIN + TEST):
        train, label = v < TRAIN, v % len(CLASSES)
        subset, name = ("train", f"video_validation_{v:07d}") if train else ("test", f"video_test_{v:07d}")
        x = np.abs(rng.standard_normal((LENGTH, 2 * HALF))).astype(np.float32)
        rows = []
        for at in (6 + v % 5, 28 + v % 5):
            x[at : at + 10, label] += 3
            start, end = at / RATE, (at + 10) / RATE
            rows.append({"segment": [start, end], "label": CLASSES[label]})
            if train:
                frames = [round(t * FPS) for t in (start, end, (start + end) / 2)]
                clicks.append([CLASSES[label], label, *frames[:2], name, frames[2]])
        database[name] = {"subset": subset, "duration": LENGTH / RATE, "fps": FPS, "annotations": rows}
        moved = (np.array([r["segment"] for r in rows]) + rng.uniform(-1, 1, (2, 2))).tolist()
        found[name] = [
            {"segment": s, "label": CLASSES[(label + wrong) % 3], "score": float(rng.random())}
            for s in [*moved, [0.0, 3.0], [12.0, 15.0]]
            for wrong in (0, 1)
        ]
        for stream, part in (("rgb", x[:, :HALF]), ("flow", x[:, HALF:])):
            where = folder / "features" / subset / stream
            where.mkdir(parents=True, exist_ok=True)
            np.save(where / f"{name}.npy", part)
        (folder / "thumos" / subset).mkdir(parents=True, exist_ok=True)
        np.save(folder / "thumos" / subset / f"{name}.npy", x)
        names.append(name)
        joint.append(x)
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    (folder / "fps.json").write_text(json.dumps(dict.fromkeys(database, FPS)))
    (folder / "duration.json").write_text(json.dumps(dict.fromkeys(database, LENGTH / RATE)))
    (folder / "Ambiguous_test.txt").write_text(f"{names[-1]}  0.0 1.4\n")
    (folder / "points").mkdir()
    for file in ("points/point_labels.csv", "point_labels.csv", "point_gaussian.csv"):
        with (folder / file).open("w", newline="") as table:
            writer = csv.writer(table)
            writer.writerow(["class", "class_index", "start_frame", "stop_frame", "video_id", "point"])
            writer.writerows(clicks)

    def detections(path: str, kept: str = "") -> None:
        (folder / path).parent.mkdir(exist_ok=True)
        results = {n: rows for n, rows in found.items() if kept in n}
        (folder / path).write_text(json.dumps({"results": results}))

    for path in ("detections.json", "run_a/detections.json", "run_b/detections.json", "run/detections.json"):
        detections(path, "test")
    for path, kept in (("base.json", ""), ("train.json", "validation"), ("test.json", "test")):
        detections(path, kept)
        if kept:
            detections(f"detection_result_base_{path}", kept)

    arrays(folder, names, joint)
    for path in NAMED:
        (folder / path).parent.mkdir(exist_ok=True)
        about = DESCRIPTION.format(name=path.replace("/", "-"), root="../" if "/" in path else "")
        (folder / f"{path}.yaml").write_text(about)
    (folder / "data/thumos14").mkdir(parents=True)
    shutil.copytree(folder / "wtalc", folder / "data/thumos14/wtalc")
    shutil.copytree(folder / "points", folder / "data/thumos14/points")
    shutil.copy(folder / "fps.json", folder / "data/thumos14")


def arrays(folder: Path, names: list[str], joint: list[np.ndarray]) -> None:
    """W-TALC's layout, whose subsets are called validation and test, with all features in one array."""
    truth = load_annotations(folder / "gt.json")
    for where in ("wtalc", "Thumos14reduced-Annotations"):
        save_annotations(truth, folder / where)
        subset = np.array([b"validation" if "validation" in n else b"test" for n in names])
        if where != "wtalc":
            np.save(folder / where / "subset.npy", subset)
        shutil.copy(folder / "Ambiguous_test.txt", folder / where)
    column = np.empty(len(joint), object)
    column[:] = joint
    np.save(folder / "Thumos14reduced-I3D-JOINTFeatures.npy", column)
