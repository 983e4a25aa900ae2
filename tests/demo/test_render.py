"""The rendered data set: reproducible, resumable, sparse, and labelled right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from weaktal.core import InputError
from weaktal.demo import CLASSES, render
from weaktal.demo.figure import ACTIONS, idle, joints
from weaktal.demo.render import Settings, animate, write_script

av = pytest.importorskip("av")

SMALL = {"train": 2, "test": 1, "seconds": (6.0, 8.0), "size": (64, 48), "fps": 10, "workers": 1}


def digests(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
    }


def test_same_seed_same_bytes_and_nothing_is_rendered_twice(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    first = render(tmp_path / "a", seed=3, **SMALL, progress=lambda *x: seen.append(x))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]
    before = digests(tmp_path / "a")
    kept = tmp_path / "a/videos/demo_train_000.mp4"
    (tmp_path / "a/videos/demo_train_001.mp4").unlink()
    first.unlink()
    stamp = kept.stat().st_mtime_ns
    seen.clear()
    assert render(tmp_path / "a", seed=3, **SMALL, progress=lambda *x: seen.append(x)) == first
    assert seen == [(2, 3), (3, 3)]
    assert kept.stat().st_mtime_ns == stamp
    assert digests(tmp_path / "a") == before
    with pytest.raises(InputError, match="other settings"):
        render(tmp_path / "a", seed=4, **SMALL)
    assert digests(tmp_path / "a") == before

    gt = json.loads((tmp_path / "a/gt.json").read_text())["database"]
    for name, entry in gt.items():
        with av.open(str(tmp_path / f"a/videos/{name}.mp4")) as container:
            stream = container.streams.video[0]
            count = sum(1 for _ in container.decode(video=0))
            assert (stream.width, stream.height) == (64, 48)
        assert count / 10 == pytest.approx(entry["duration"])
    origin, *points = [line.split(",") for line in (tmp_path / "a/points.txt").read_text().splitlines()]
    assert origin[0] == "# simulated"
    assert len(points) == sum(len(e["annotations"]) for e in gt.values() if e["subset"] == "train")
    for name, second, label in points:
        assert any(
            a["label"] == label and a["segment"][0] <= float(second) <= a["segment"][1]
            for a in gt[name]["annotations"]
        )


def test_scripts_are_sparse_and_cover_every_class() -> None:
    settings = Settings()
    scripts = [write_script(settings, "train", i) for i in range(60)]
    shares, double = [], 0
    for script in scripts:
        spans = np.array([a[:2] for a in script.actions])
        length = spans[:, 1] - spans[:, 0]
        assert np.all(spans[1:, 0] > spans[:-1, 1])
        assert spans[0, 0] > 0
        assert spans[-1, 1] <= script.duration
        assert np.all((length > 0.99) & (length < 6.01))
        shares.append(length.sum() / script.duration)
        double += len({c for *_, c in script.actions}) == 2
    assert 0.1 < np.mean(shares) < 0.25
    assert 0 < double < 60
    assert {c for s in scripts for *_, c in s.actions} == set(range(len(CLASSES)))
    assert scripts[0] != write_script(settings, "test", 0)


@pytest.mark.parametrize("name", ACTIONS)
def test_figures_stand_on_the_ground_and_actions_differ_from_rest(name: str) -> None:
    motion, slow, fast = ACTIONS[name]
    assert 0 < slow < fast
    phase = np.linspace(0, 2 * np.pi, 50)
    body = joints(motion(phase))
    feet = body[:, [10, 13], 1].min(axis=1)
    assert feet.min() == pytest.approx(0, abs=1e-9)
    assert (feet.max() > 0.2) == (name == "Jump")
    assert np.abs(body - joints(idle(phase))).max() > 0.2
    np.testing.assert_allclose(body[0], joints(motion(phase[-1:]))[0], atol=1e-9)  # a cycle closes


def test_figures_stay_in_the_picture() -> None:
    settings = Settings()
    for i in range(24):
        body = animate(settings, write_script(settings, "test", i), np.random.default_rng(i))
        assert body[..., 0].min() > -30
        assert body[..., 0].max() < 190
        assert body[..., 1].min() > -1e-9
        assert body[..., 1].max() < 120


@pytest.mark.parametrize("wrong", [{"train": 0}, {"size": (63, 48)}, {"seconds": (8.0, 6.0)}, {"fps": 0}])
def test_impossible_settings_are_refused(tmp_path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        render(tmp_path / "x", **{**SMALL, **wrong})
    assert not (tmp_path / "x").exists()
