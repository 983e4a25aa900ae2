"""The search for hyper-parameters: its split, its space, going on, and what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.bench.toy import TINY, toy_dataset
from weaktal.bench.search import Range, held_out, read_space, search
from weaktal.core import Annotations, InputError, Video
from weaktal.dataset import Dataset
from weaktal.train import resolve_config


def test_the_split_is_disjoint_repeatable_and_keeps_every_class_in_training() -> None:
    rng = np.random.default_rng(0)
    videos = [Video(f"v{i}", labels=tuple(rng.integers(0, 8, 2))) for i in range(40)]
    annotations = Annotations.of("abcdefgh", videos)
    train, out = held_out(annotations, 0.25, seed=3)
    assert (train, out) == held_out(annotations, 0.25, seed=3)
    assert out != held_out(annotations, 0.25, seed=4)[1]
    assert set(train) | set(out) == {v.name for v in videos}
    assert not set(train) & set(out)
    assert len(out) == 10
    seen = {c for v in videos if v.name in set(train) for c in v.labels}
    assert seen == {c for v in videos for c in v.labels}
    with pytest.raises(InputError, match="too few"):
        held_out(Annotations.of("a", [Video("v", labels=(0,))]), 0.5, seed=0)


def test_a_search_finds_goes_on_and_leaves_a_recipe(tmp_path: Path) -> None:
    dataset = Dataset.load(toy_dataset(tmp_path))
    space_file = tmp_path / "space.yaml"
    space_file.write_text(
        "learning_rate: {low: 1.0e-7, high: 1.0e-2, log: true}\n"
        "topk_foreground: {choices: [2, 4]}\n"
        "epochs: {low: 2, high: 4}\n"
    )
    space = read_space(space_file, "asm_loc")
    said: list[str] = []
    options = {"settings": TINY, "share": 0.5, "device": "cpu", "say": said.append}
    search(dataset, "asm_loc", space, tmp_path / "out", trials=2, **options)
    best = search(dataset, "asm_loc", space, tmp_path / "out", trials=3, **options)
    assert [text.split(":")[0] for text in said] == ["trial 0", "trial 1", "trial 2"]
    scores = [float(text.rsplit(" ", 1)[1]) for text in said]
    assert str(best) in said[int(np.argmax(scores))]
    config = resolve_config("asm_loc", str(tmp_path / "out/best.yaml"))
    assert {k: getattr(config, k) for k in best} == best
    assert config.snippets == TINY["snippets"]
    # nothing of the test subset was measured or trained on
    held = json.dumps((tmp_path / "out/trial0000/config.yaml").read_text())
    test = {v.name for v in dataset.subset("test")}
    assert not any(name in held for name in test)


def test_by_labels_no_instance_is_looked_at(tmp_path: Path) -> None:
    path = toy_dataset(tmp_path)
    truth = json.loads((tmp_path / "gt.json").read_text())
    for video in truth["database"].values():  # instances that no detection could meet
        video["annotations"][0]["segment"] = [0.0, 1e-3]
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    said: list[str] = []
    space = {"learning_rate": Range(low=1e-7, high=1e-2, log=True)}
    options = {"settings": TINY, "share": 0.5, "device": "cpu", "say": said.append}
    best = search(path, "asm_loc", space, tmp_path / "out", trials=3, criterion="weak", **options)
    scores = [float(text.rsplit(" ", 1)[1]) for text in said]
    assert all(x < 0 for x in scores)
    assert str(best) in said[int(np.argmax(scores))]
    assert "likelihood of labels" in (tmp_path / "out/best.yaml").read_text()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rat: {low: 1, high: 2}", "did you mean 'learning_rate'"),
        ("epochs: {low: 3}", "either low and high, or choices"),
        ("epochs: {low: 3, high: 2}", "low is above high"),
        ("epochs: {low: 3, high: 4, choices: [1]}", "either low and high, or choices"),
        ("", "nothing to search"),
    ],
)
def test_a_wrong_space_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_space(path, "asm_loc")
