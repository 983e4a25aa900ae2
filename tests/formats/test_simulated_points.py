"""Simulated clicks: inside their instances, repeatable, and labelled as simulated wherever they go."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.cli import main
from weaktal.core import Annotations, Instances, Video
from weaktal.formats import attach_points, load_points, point_csv, save_annotations, sfnet_points
from weaktal.formats.simulated_points import Kind, simulate_points


def annotations(instances: int = 500) -> Annotations:
    rng = np.random.default_rng(0)
    start = rng.uniform(0, 100, instances)
    label = rng.integers(0, 2, instances)
    it = Instances(start, start + rng.uniform(0.1, 30, instances), label)
    few = Instances([1.0, 5.0], [2.0, 5.5], [1, 0])
    return Annotations.of(
        ["a", "b"],
        [Video("one", "train", 200.0, 30.0, it, labels=(0, 1)), Video("two", "test", 9.0, 30.0, few)],
    )


@given(
    kind=st.sampled_from(["uniform", "gaussian"]),
    n=st.integers(1, 4),
    seed=st.integers(0, 2**31),
    sigma=st.floats(0.01, 3),
)
def test_every_instance_gets_its_clicks_inside(kind: Kind, n: int, seed: int, sigma: float) -> None:
    known = annotations(20)
    table = simulate_points(known, kind, per_instance=n, seed=seed, sigma=sigma)
    clicked = attach_points(known, table)
    for video in clicked:
        it, points = video.instances, video.points
        assert points is not None
        assert len(points) == n * len(it)
        of = np.repeat(np.arange(len(it)), n)
        assert (it.start[of] < points.time).all()
        assert (points.time < it.end[of]).all()
        np.testing.assert_array_equal(points.label, it.label[of])


def test_the_seed_and_the_video_alone_decide() -> None:
    known = annotations()
    assert simulate_points(known, seed=3) == simulate_points(known, seed=3)
    assert simulate_points(known, seed=3) != simulate_points(known, seed=4)
    alone = simulate_points(known.subset("test"), seed=3)
    both = simulate_points(known, seed=3)
    np.testing.assert_array_equal(alone.time, both.time[np.array(both.video) == "two"])


def test_gaussian_clicks_gather_around_the_middle() -> None:
    known = annotations(4000).subset("train")
    it = known.video("one").instances
    spread = {}
    for kind in ("uniform", "gaussian"):
        place = (simulate_points(known, kind).time - it.start) / (it.end - it.start)
        assert abs(place.mean() - 0.5) < 0.02
        spread[kind] = place.std()
    assert spread["uniform"] == pytest.approx(1 / np.sqrt(12), abs=0.01)
    assert spread["gaussian"] == pytest.approx(0.195, abs=0.01)  # 0.2, cut at 2.5 sigma


@pytest.mark.parametrize("wrong", [{"kind": "middle"}, {"per_instance": 0}, {"sigma": 0.0}])
def test_wrong_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"expected|one of"):
        simulate_points(annotations(), **wrong)  # type: ignore[arg-type]


def test_files_say_that_nobody_clicked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_annotations(annotations(), tmp_path / "gt.json")
    text = tmp_path / "clicks.txt"
    assert main(["data", "simulate-points", str(tmp_path / "gt.json"), str(text), "--seed", "5"]) == 0
    assert text.read_text().startswith("# simulated from full annotations, not clicked: gaussian")
    assert "simulated" in capsys.readouterr().out
    table = load_points(text)
    assert table == simulate_points(annotations(), seed=5)
    assert main(["data", "inspect", str(text)]) == 0
    assert "! simulated" in capsys.readouterr().out
    point_csv.write(table, tmp_path / "clicks.csv", 30.0)
    assert point_csv.read(tmp_path / "clicks.csv", 30.0).origin == table.origin
    sfnet_points.write(table, tmp_path / "again.txt")
    assert sfnet_points.read(tmp_path / "again.txt").origin == table.origin
    assert main(["data", "simulate-points", str(tmp_path / "gt.json"), str(text), "--per-instance", "0"]) == 2
