"""Point supervision from end to end: the real clicks of people, and the base locator in one command."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import yaml

from weaktal.cli import main
from weaktal.core import Annotations, CoverageWarning, Instances, Video
from weaktal.features.bank import FeatureBank
from weaktal.formats import attach_points, load_annotations, load_detections, load_points, save_annotations
from weaktal.formats.scores import load_scores
from weaktal.formats.simulated_points import simulate_points
from weaktal.methods.lac import LAC, LACConfig
from weaktal.methods.protocol import TrainingData
from weaktal.methods.tspnet import TSPNet, TSPNetConfig
from weaktal.testing import toy_proposals
from weaktal.train import Run, fit, recipes, resolve_config

REAL = Path(__file__).parents[3] / "shared/data"
RATE, DIM = 25 / 16, 4


def features(annotations: Annotations, seed: int = 0) -> FeatureBank:
    """Small random features of the right lengths."""
    rng = np.random.default_rng(seed)
    seconds = [v.duration or float(v.instances.end.max(initial=1)) + 2 for v in annotations]
    arrays = [rng.random((max(1, int(s * RATE)), DIM)).astype(np.float32) for s in seconds]
    return FeatureBank.of([v.name for v in annotations], arrays, RATE)


@pytest.mark.skipif(not REAL.is_dir(), reason="the public files are not here")
@pytest.mark.parametrize("person", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("dataset", "train", "name"),
    [("thumos14", "train", "THUMOS"), ("gtea", "training", "GTEA"), ("beoid", "training", "BEOID")],
)
def test_the_clicks_of_four_people_load_and_train(
    dataset: str, train: str, name: str, person: int, tmp_path: Path
) -> None:
    clicks = REAL / dataset / f"points/{name}{person}.txt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        annotations = load_annotations(REAL / dataset / "gt.json", points=clicks).subset(train)
    table = load_points(clicks)
    known = [v in annotations.videos for v in table.video]
    assert sum(known) > 0.9 * len(known)
    assert sum(len(v.points) for v in annotations if v.points is not None) == sum(known)

    bank = features(annotations)
    data = TrainingData(bank, annotations.weak("point"))
    lac = LAC(
        LACConfig(hidden=4, steps=3, batch_size=4, search_every=2), dim=DIM, classes=annotations.classes
    )
    fit(lac, data, tmp_path / "lac", device="cpu", progress=False)
    assert lac.segments is not None
    clicked = {v.name for v in data.weak.videos if v.points is not None and len(v.points)}
    assert {bank.names[i] for i in lac.pairs[:, 0]} <= clicked
    assert len({bank.names[i] for i in lac.pairs[:, 0]}) > 0.9 * len(clicked)

    data = TrainingData(bank, data.weak, proposals=toy_proposals(bank, data.weak))
    config = TSPNetConfig(steps=3, batch_size=4, update_every=2, update_threshold=0.4)
    tspnet = TSPNet(config, dim=DIM, classes=annotations.classes)
    fit(tspnet, data, tmp_path / "tspnet", device="cpu", progress=False)
    losses = [json.loads(line) for line in (tmp_path / "tspnet/log.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert (tspnet.labels(data).point >= 0).any()


@pytest.fixture
def small(tmp_path: Path, demo_like: Annotations) -> Path:
    """A data set description over tiny features."""
    bank = features(demo_like)
    (tmp_path / "features").mkdir()
    for i, name in enumerate(bank.names):
        rows = bank.data[bank.offsets[i] : bank.offsets[i + 1]]
        np.save(tmp_path / f"features/{name}.npy", rows.numpy())
    save_annotations(demo_like, tmp_path / "gt.json")
    assert main(["data", "simulate-points", str(tmp_path / "gt.json"), str(tmp_path / "points.txt")]) == 0
    about = {
        "name": "small",
        "annotations": "gt.json",
        "subsets": {"train": "train", "test": "test"},
        "points": "points.txt",
        "features": {"path": "features", "rate": RATE},
        "protocol": "activitynet",
    }
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(about))
    return tmp_path / "data.yaml"


@pytest.fixture
def demo_like() -> Annotations:
    rng = np.random.default_rng(3)
    videos = []
    for i in range(8):
        start = np.array([5.0, 25.0]) + rng.uniform(0, 3, 2)
        it = Instances(start, start + rng.uniform(4, 8, 2), rng.integers(0, 2, 2))
        subset = "train" if i < 5 else "test"
        videos.append(Video(f"v{i}", subset, 45.0, 25.0, it, labels=tuple(it.label.tolist())))
    return Annotations.of(["jump", "run"], videos)


def test_one_command_trains_the_base_and_what_builds_on_it(small: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "tspnet", "--data", str(small), "--out", str(out), "--device", "cpu", "--quiet"]
    for setting in ("steps=4", "batch_size=2", "base.hidden=4", "base.steps=4", "base.search_every=2"):
        command += ["--set", setting]
    assert main(command) == 0
    base = Run.open(out / "base")
    assert (base.config.method, base.config.config["hidden"]) == ("lac", 4)
    proposals = load_detections(out / "base/proposals.json")
    assert set(proposals.names) == {f"v{i}" for i in range(8)}

    # again with --resume: nothing is left to do, and nothing changes
    weights = (out / "checkpoints/last/weights.safetensors").read_bytes()
    written = (out / "base/proposals.json").stat().st_mtime_ns
    assert main([*command, "--resume"]) == 0
    assert (out / "checkpoints/last/weights.safetensors").read_bytes() == weights
    assert (out / "base/proposals.json").stat().st_mtime_ns == written

    # the proposals of the base are remembered ...
    assert main(["localize", str(out), "--data", str(small), "--device", "cpu"]) == 0
    found = load_detections(out / "detections.json")
    assert {found.names[i] for i in found.video} == {"v5", "v6", "v7"}
    # ... and each step can be done alone: localize without suppression, train on the file
    for subset in ("train", "test"):
        line = ["localize", str(out / "base"), "--data", str(small), "--subset", subset, "--device", "cpu"]
        assert main([*line, "--set", "nms_threshold=2", "--out", str(tmp_path / f"{subset}.json")]) == 0
    alone = tmp_path / "alone"
    line = ["train", "tspnet", "--data", str(small), "--out", str(alone), "--device", "cpu", "--quiet"]
    line += ["--set", "steps=4", "--set", "batch_size=2", "--proposals", str(tmp_path / "train.json")]
    assert main(line) == 0
    assert not (alone / "base").exists()
    assert main(["localize", str(alone), "--data", str(small), "--device", "cpu"]) == 2  # no test proposals
    line = ["localize", str(alone), "--data", str(small), "--proposals", str(tmp_path / "test.json")]
    assert main([*line, "--device", "cpu"]) == 0
    found = load_detections(alone / "detections.json")
    assert {found.names[i] for i in found.video} == {"v5", "v6", "v7"}


def test_one_command_trains_both_stages_of_hr_pro_and_each_can_be_trained_alone(
    small: Path, tmp_path: Path
) -> None:
    few = ["--set", "epochs=2", "--set", "batch_size=2"]
    first = ["heads=2", "steps=4", "feedforward=4"]
    out, end = tmp_path / "run", ["--device", "cpu", "--quiet"]
    line = ["train", "hr_pro", "--data", str(small), *few, *end]
    both = [*line, "--out", str(out)]
    for setting in first:
        both += ["--set", f"base.{setting}"]
    assert main(both) == 0
    assert Run.open(out / "base").config.method == "hr_pro_snippets"
    assert {s.video for s in load_scores(out / "base/scores.safetensors")[0]} == {f"v{i}" for i in range(5)}
    weights = (out / "checkpoints/last/weights.safetensors").read_bytes()
    assert main([*both, "--resume"]) == 0
    assert (out / "checkpoints/last/weights.safetensors").read_bytes() == weights
    assert main(["localize", str(out), "--data", str(small), "--device", "cpu"]) == 0
    found = load_detections(out / "detections.json")
    assert {found.names[i] for i in found.video} == {"v5", "v6", "v7"}

    # the first stage alone is a method like any other; the second learns from its file, or from another base
    alone = ["train", "hr_pro_snippets", "--data", str(small), "--out", str(tmp_path / "first"), *end]
    for setting in first:
        alone += ["--set", setting]
    assert main(alone) == 0
    same = (tmp_path / "first/checkpoints/last/weights.safetensors").read_bytes()
    assert same == (out / "base/checkpoints/last/weights.safetensors").read_bytes()
    again = [*line, "--out", str(tmp_path / "second"), "--proposals", str(out / "base/proposals.json")]
    assert main(again) == 0
    assert (tmp_path / "second/checkpoints/last/weights.safetensors").read_bytes() == weights
    (out / "base/scores.safetensors").unlink()  # as for proposals of somebody else
    assert main([*again[:-3], str(tmp_path / "third"), *again[-2:]]) == 0


def test_settings_of_a_base_that_is_not_trained_are_refused(small: Path, tmp_path: Path) -> None:
    line = ["train", "lac", "--data", str(small), "--out", str(tmp_path / "x"), "--set", "base.hidden=4"]
    assert main([*line, "--quiet", "--device", "cpu"]) == 2
    assert not (tmp_path / "x/config.yaml").exists()


@pytest.mark.parametrize("method", ["lac", "tspnet"])
def test_recipes_are_complete_and_the_published_one_is_the_default(method: str) -> None:
    assert set(recipes(method)) >= {"thumos14", "gtea", "beoid", "demo"}
    for name in recipes(method):
        assert resolve_config(method, name)
    assert resolve_config(method, "thumos14") == resolve_config(method)


def test_clicks_of_another_hand_only_change_the_points(demo_like: Annotations) -> None:
    a, b = (attach_points(demo_like, simulate_points(demo_like, seed=s)) for s in (0, 1))
    assert a.weak("point") != b.weak("point")
    assert a.weak("video") == b.weak("video")
