"""Lengths against durations: the causes that the field's users meet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from weaktal.features.check import inspect_features, likely_cause
from weaktal.features.store import FeatureStore, write_video_features

DURATION = np.random.default_rng(7).uniform(20, 400, 60)


def lengths(rate: float | np.ndarray) -> np.ndarray:
    return np.floor(DURATION * rate)


@pytest.mark.parametrize(
    ("rate", "text"),
    [
        (30 / 16, "30 fps with a stride of 16 frames; set rate: 1.875"),
        (25 / 8, "25 fps with a stride of 8 frames; set rate: 3.125"),
        (10 / 16, "10 fps with a stride of 16 frames; set rate: 0.625"),
        (30 / 4, "30 fps with a stride of 4 frames; set rate: 7.5"),
        (25.0, "25 fps with a stride of 1 frames; set rate: 25"),
    ],
)
def test_another_frame_rate_or_stride(rate: float, text: str) -> None:
    assert text in likely_cause(lengths(rate), DURATION, rate=25 / 16)


def test_a_fixed_number_of_snippets() -> None:
    cause = likely_cause(np.full(60, 100.0), DURATION, rate=25 / 16)
    assert cause == "every video has 100 snippets: resampled to a fixed number, time is lost"


def test_videos_that_were_cut() -> None:
    assert (
        likely_cause(np.minimum(lengths(25 / 16), 200), DURATION, rate=25 / 16)
        == "videos are cut at 200 snippets"
    )


def test_frames_of_videos_with_different_rates() -> None:
    fps = np.where(np.arange(60) % 3, 30.0, 15.0)
    cause = likely_cause(lengths(fps / 16), DURATION, fps, rate=25 / 16)
    assert cause.startswith("a snippet every 16 frames of videos that differ in frame rate")


def test_no_cause_is_made_up() -> None:
    random = np.random.default_rng(1).permutation(lengths(25 / 16))
    assert likely_cause(random, DURATION, rate=25 / 16).startswith("no single rate fits")


def store(folder: Path, count: int = 12, rate: float | None = 2.0) -> FeatureStore:
    for i in range(count):
        np.save(folder / f"v{i:02d}.npy", np.ones((20 + i, 3), np.float32))
    return FeatureStore.open(folder, rate)


def test_good_features_have_no_findings(tmp_path: Path) -> None:
    report = inspect_features(store(tmp_path), {f"v{i:02d}": 10 + i / 2 for i in range(12)})
    assert report.findings == []
    assert (report.videos, report.snippets, report.compared) == (12, sum(range(20, 32)), 12)
    assert report.implied_rate == pytest.approx(2)


def test_what_is_wrong_with_single_videos(tmp_path: Path) -> None:
    store(tmp_path)
    np.save(tmp_path / "w1.npy", np.full((5, 3), np.nan, np.float32))
    np.save(tmp_path / "w2.npy", np.ones((5, 4), np.float32))
    np.save(tmp_path / "w3.npy", np.zeros((5, 3), np.float32))
    np.save(tmp_path / "w4.npy", np.ones((0, 3), np.float32))
    (tmp_path / "w5.npy").write_bytes(b"no array")
    durations = {f"v{i:02d}": 10 + i / 2 for i in range(12)} | {"v00": 99.0, "w3": 2.5}
    report = inspect_features(FeatureStore.open(tmp_path, 2.0), durations)
    said = {f.videos: str(f) for f in report.findings}
    assert "not finite" in said["w1",]
    assert "another width, 4" in said["w2",]
    assert "all zero" in said["w3",]
    assert "shorter than a snippet" in said["w4",]
    assert "not a readable .npy" in said["w5",]
    assert "1 of 13 videos have another length" in said["v00",]
    assert "other cuts" in said["v00",]
    quick = inspect_features(FeatureStore.open(tmp_path, 2.0), quick=True)
    assert {f.videos for f in quick.findings} == {("w2",), ("w4",), ("w5",)}


def test_a_rate_that_nobody_named_is_proposed(tmp_path: Path) -> None:
    report = inspect_features(store(tmp_path, rate=None), {f"v{i:02d}": (20 + i) / 7.5 for i in range(12)})
    (finding,) = report.findings
    assert "set rate: 7.5" in str(finding)


def test_videos_made_in_different_ways(tmp_path: Path) -> None:
    for name, weights in (("a", "x.pt"), ("b", "x.pt"), ("c", "y.pt")):
        write_video_features(tmp_path / f"{name}.safetensors", np.ones((4, 2)), rate=1.0, weights=weights)
    (finding,) = inspect_features(FeatureStore.open(tmp_path)).findings
    assert finding.videos == ("c",)
    assert "made otherwise than 'a'" in finding.what


def test_files_of_ours_are_held_against_their_own_durations(tmp_path: Path) -> None:
    for name, seconds, warnings in (("a", 4.0, []), ("b", 9.0, ["the last 5 s could not be read"])):
        path = tmp_path / f"{name}.safetensors"
        write_video_features(path, np.ones((4, 2)), rate=1.0, duration=seconds, warnings=warnings)
    report = inspect_features(FeatureStore.open(tmp_path))
    assert report.compared == 2
    assert [f.videos for f in report.findings] == [("b",), ("b",)]
    assert "decoded with warnings" in report.findings[0].what
    assert "another length" in report.findings[1].what
    annotated = inspect_features(FeatureStore.open(tmp_path), {"b": 4.0})
    assert [f.what for f in annotated.findings] == ["1 videos were decoded with warnings"]
