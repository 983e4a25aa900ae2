"""Own columns beside a network's features: one grid of time, in order, and what does not fit is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.core import InputError, TimeAxis
from weaktal.dataset import Dataset
from weaktal.features.joined import joined, resampled
from weaktal.features.store import FeatureStore, write_video_features


@given(
    length=st.integers(2, 60),
    target=st.integers(1, 200),
    seconds=st.floats(1, 100),
    begin=st.floats(0, 5),
    slope=st.floats(-3, 3),
)
def test_a_line_over_time_stays_that_line(
    length: int, target: int, seconds: float, begin: float, slope: float
) -> None:
    source = TimeAxis.uniform(length, length / seconds, begin)
    grid = TimeAxis.uniform(target, target / seconds, begin)
    rows = (slope * source.centers())[:, None].astype(np.float32)
    out = resampled(rows, source, grid)[:, 0]
    # beyond the middle of the outermost rows there is nothing to see
    inside = (grid.centers() >= source.centers()[0]) & (grid.centers() <= source.centers()[-1])
    step = seconds / min(length, target)
    exact = 1e-3 * (1 + abs(slope) * seconds) if length <= target else 1e-6 + abs(slope) * seconds / length
    np.testing.assert_allclose(out[inside], slope * grid.centers()[inside], atol=exact)
    assert np.abs(out - slope * grid.centers()).max() <= abs(slope) * step + exact


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 100))
def test_finer_rows_are_means(length: int, times: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(length * times, 3)).astype(np.float32)
    out = resampled(rows, TimeAxis.uniform(length * times, 10 * times, 1), TimeAxis.uniform(length, 10, 1))
    np.testing.assert_allclose(out, rows.reshape(length, times, 3).mean(1), atol=1e-5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos of 8 s: a network's features at 2.5 a second in two streams, angles at 30, a watch."""
    for k, name in enumerate(("v0", "v1")):
        rgb, flow = np.full((20, 4), 1.0 + k), np.full((20, 3), 2.0 + k)
        write_video_features(
            tmp_path / f"i3d/{name}.safetensors",
            {"rgb": rgb, "flow": flow},
            rate=2.5,
            backbone="i3d",
            start=3.0 * k,
        )
        (tmp_path / "angles").mkdir(exist_ok=True)
        np.save(
            tmp_path / f"angles/{name}.npy", np.arange(240 + 90 * k)[:, None].repeat(2, 1).astype(np.float32)
        )
        (tmp_path / "watch").mkdir(exist_ok=True)
        lines = [f"{t / 50:.3f};{t / 50};{k}" for t in range(400 + 150 * k)]
        (tmp_path / f"watch/{name}.csv").write_text("\n".join(["Time;x;y", *lines]))
    (tmp_path / "d.yaml").write_text(
        "features:\n- {path: i3d}\n- {path: angles, rate: 30}\n- {path: watch}\n"
    )
    return tmp_path


def test_sources_lie_side_by_side_on_the_first_ones_grid(folder: Path) -> None:
    store = Dataset.load(folder / "d.yaml").store
    assert store.names == ("v0", "v1")
    assert store.streams == (4, 3, 2, 2)
    assert store.rate == 2.5
    x = store.load("v0")
    assert x.shape == (20, 11)
    np.testing.assert_array_equal(x[:, :7], np.repeat([[1, 1, 1, 1, 2, 2, 2]], 20, 0))
    np.testing.assert_allclose(x[:, 7], np.arange(20) * 12 + 5.5)  # means of 12 rows
    np.testing.assert_allclose(x[:, 9], np.arange(20) * 0.4 + 0.19, atol=1e-4)  # means of 20, in seconds
    # the second video's picture begins at 3 s, and so does what is taken of the sensor
    assert store.axis("v1").start == 3
    y = store.load("v1")
    np.testing.assert_allclose(y[:, 9], 3 + np.arange(20) * 0.4 + 0.19, atol=1e-4)
    np.testing.assert_allclose(y[:, 7], 90 + np.arange(20) * 12 + 5.5)
    sources = store.provenance["sources"]
    assert [s["rate"] for s in sources] == [2.5, 30, 50]
    assert sources[0]["backbone"] == "i3d"
    assert sources[2]["columns"] == ["x", "y"]
    assert "backbone" not in store.provenance


def test_one_table_of_sensors_is_features_by_itself(folder: Path) -> None:
    store = FeatureStore.open(folder / "watch")
    assert (store.rate, store.dim, store.length("v0")) == (50, 2, 400)
    rows = store.load("v1")
    for path in (folder / "watch").iterdir():
        path.write_text("\n".join(",".join(line.split(";")[1:]) for line in path.read_text().split("\n")[1:]))
    plain = FeatureStore.open(folder / "watch", rate=50)
    np.testing.assert_array_equal(plain.load("v1"), rows)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n1,2\n3,four\n", "line 3"),
        ("x,y\n1,2\n3\n", "something else"),
        ("x,y,z\n1,2\n", "number of columns"),
        ("x,y\n", "without a row"),
        ("time,x\n0,1\n0,2\n", "do not increase"),
        ("time\n0\n1\n", "times alone"),
        ("time,x\n0,1\n0.02,2\n1e12,3\n", "none of a video"),
        ("\n", "without a row"),
        ("", "without a row"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        FeatureStore.open(tmp_path, rate=None if "time" in text else 10).load("a")


def test_what_does_not_fit_is_said(folder: Path) -> None:
    network = FeatureStore.open(folder / "i3d")
    with pytest.raises(
        InputError, match=r"does not cover the video: found 0\.00 to 4\.00 s, expected 0\.00 to 8"
    ):
        joined([network, FeatureStore.open(folder / "angles", rate=60)]).load("v0")
    with pytest.raises(InputError, match="rate of these features is not known"):
        joined([network, FeatureStore.open(folder / "angles")])
    for path in (folder / "angles").iterdir():
        path.rename(path.with_name(f"x_{path.name}"))
    with pytest.raises(InputError, match="no video has features of all sources"):
        joined([network, FeatureStore.open(folder / "angles", rate=30)])
    found = joined([network, FeatureStore.open(folder / "angles", rate=30, prefix="x_")])
    assert found.load("v1").shape == (20, 9)


def test_descriptions_that_are_wrong(folder: Path) -> None:
    for text in (
        "features: [{rate: 3}]",
        "features: []",
        "features: [[i3d]]",
        "features: [{path: i3d, rats: 1}]",
    ):
        (folder / "bad.yaml").write_text(text)
        with pytest.raises(InputError):
            _ = Dataset.load(folder / "bad.yaml").store
