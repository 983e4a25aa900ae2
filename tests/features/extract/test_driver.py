"""Many videos: nothing is done twice, nothing half-written counts, no video stops the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from tests.features.extract.media import moving, picture, write_audio_only, write_video
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.features.extract.driver import Job, LocalEngine, Outcome, extract, extract_video
from weaktal.features.store import FeatureStore

OWN = str(Path(__file__).parent / "own_backbone.py")
VIDEOS = int(os.environ.get("WEAKTAL_VIDEOS", "18"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.glob("*.safetensors"))}


@pytest.fixture
def videos(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "videos"
    folder.mkdir()
    return [
        write_video(folder / f"v{k}.mp4", [picture(k + i) for i in range(8 + 2 * k)], sound=k == 1)
        for k in range(4)
    ]


def test_features_and_what_is_known_of_them(tmp_path: Path, videos: list[Path]) -> None:
    report = extract(videos, tmp_path / "out", Job(f"{OWN}:Brightness"), engine=LocalEngine(2))
    assert [o.state for o in report.outcomes] == ["done"] * 4
    assert [o.snippets for o in report.outcomes] == [2, 2, 3, 3]
    store = FeatureStore.open(tmp_path / "out")
    assert store.names == ("v0", "v1", "v2", "v3")
    assert store.rate == 2.5
    np.testing.assert_allclose(store.load("v1")[:, 0], [20 + 8 * 2.5, 20 + 8 * 6.5], atol=2)
    about = store.about("v1")
    assert about["backbone"] == "brightness"
    assert about["source"] == {"file": "v1.mp4", "bytes": videos[1].stat().st_size}
    assert about["duration"] == 1.0
    assert store.axis("v1").seconds_at([0, 1]).tolist() == [0, 0.4]
    rows = json.loads((tmp_path / "out/extraction.json").read_text())
    assert rows["counts"] == {"done": 4, "kept": 0, "failed": 0}


def test_a_finished_video_is_kept_and_a_changed_one_is_not(tmp_path: Path, videos: list[Path]) -> None:
    out, job = tmp_path / "out", Job(f"{OWN}:Brightness")
    extract(videos[:3], out, job, engine=LocalEngine(1))
    stamps = {p.name: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    write_video(videos[0], [picture(k) for k in range(30)])
    (out / ".v3.safetensors.abc.safetensors").write_bytes(b"half")  # what a killed run leaves
    report = extract(videos, out, job, engine=LocalEngine(1))
    assert [o.state for o in report.outcomes] == ["done", "kept", "kept", "done"]
    assert report.outcomes[1].snippets == 2
    after = {p.name: p.stat().st_mtime_ns for p in out.glob("*.safetensors")}
    assert after["v1.safetensors"] == stamps["v1.safetensors"]
    assert after["v0.safetensors"] != stamps["v0.safetensors"]
    assert not list(out.glob(".v3*"))


def test_what_a_worker_leaves_that_dies_while_it_writes_is_removed(
    tmp_path: Path, videos: list[Path]
) -> None:
    def dies_once(job: Job, todo: Sequence[tuple[Path, Path]]) -> Iterator[Outcome]:
        target = todo[0][1]
        (target.parent / f".{target.name}.abc.safetensors").write_bytes(b"half")
        yield from LocalEngine(1)(job, todo)

    extract(videos, tmp_path / "out", Job(f"{OWN}:Brightness"), engine=dies_once)
    assert set(contents(tmp_path / "out")) == {f"v{i}.safetensors" for i in range(4)}


def test_features_of_other_settings_are_not_mixed(tmp_path: Path, videos: list[Path]) -> None:
    extract(videos[:1], tmp_path / "out", Job("motion"), engine=LocalEngine(1))
    with pytest.raises(InputError, match=r"other settings: found .*window 1\.06"):
        extract(videos, tmp_path / "out", Job("motion", {"window": 8}))
    assert set(contents(tmp_path / "out")) == {"v0.safetensors"}


def test_bad_videos_are_told_and_the_rest_goes_on(
    tmp_path: Path, videos: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "videos"
    (folder / "empty.mp4").touch()
    (folder / "text.mp4").write_text("no video at all " * 50)
    write_audio_only(folder / "sound.mp4")
    write_video(folder / "short.mp4", [picture(k) for k in range(3)])
    write_video(folder / "turned.mp4", [picture(k) for k in range(12)], rotation=90)
    write_video(folder / "vfr.mkv", [picture(k) for k in range(6)], times=[0, 0.1, 0.5, 0.55, 1.1, 1.2])
    cut = write_video(folder / "cut.mkv", [moving(k) for k in range(60)])
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    code = main(
        [
            "extract",
            str(folder),
            "--backbone",
            f"{OWN}:Brightness",
            "--out",
            str(tmp_path / "out"),
            "--workers",
            "2",
        ]
    )
    assert code == 2
    done = {f"v{k}.safetensors" for k in range(4)} | {f"{n}.safetensors" for n in ("turned", "vfr", "cut")}
    assert set(contents(tmp_path / "out")) == done
    rows = {r["name"]: r for r in json.loads((tmp_path / "out/extraction.json").read_text())["videos"]}
    for name, words in (
        ("empty", "the file is empty"),
        ("text", "cannot be read as a video"),
        ("sound", "audio only"),
        ("short", "shorter than a snippet"),
    ):
        assert rows[name]["state"] == "failed"
        assert words in rows[name]["error"]
    assert "could not be decoded" in rows["cut"]["warnings"][0] or "breaks off" in rows["cut"]["warnings"][0]
    assert rows["vfr"]["snippets"] == 3
    shown = capsys.readouterr()
    assert "empty.mp4: the file is empty" in shown.err
    assert "11 videos: 7 done, 0 kept, 4 failed" in shown.out.replace("\n", " ")


def test_a_video_that_kills_its_worker_is_given_up_alone(tmp_path: Path, videos: list[Path]) -> None:
    bad = write_video(tmp_path / "bad.mp4", [np.full((48, 64, 3), 250, np.uint8)] * 8)
    job = Job(f"{OWN}:Brightness", {"deadly": 240})
    report = extract([*videos[:2], bad, *videos[2:]], tmp_path / "out", job, engine=LocalEngine(2))
    assert [o.state for o in report.outcomes] == ["done", "done", "failed", "done", "done"]
    assert "died 2 times" in str(report.outcomes[2].error)


def test_a_backbone_that_breaks_its_word_fails_clearly(tmp_path: Path, videos: list[Path]) -> None:
    outcome = extract_video(Job(f"{OWN}:Liar"), videos[0], tmp_path / "v0.safetensors")
    assert outcome.state == "failed"
    assert "describes the streams" in str(outcome.error)
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize("engine", ["local", "ray"])
def test_killed_runs_resume_to_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Three runs are killed; in the one that ends the work, a worker is killed."""
    if engine == "ray":
        pytest.importorskip("ray")
    folder, out, busy = (tmp_path / n for n in ("videos", "out", "busy"))
    folder.mkdir()
    busy.mkdir()
    paths = [write_video(folder / f"k{i:03}.mp4", [moving(i + j) for j in range(8)]) for i in range(VIDEOS)]
    job = Job(f"{OWN}:Brightness", {"sleep": 0.1})
    whole = extract(paths, tmp_path / "whole", job, engine=LocalEngine(2))
    assert len(whole["done"]) == VIDEOS
    command = [sys.executable, "-m", "weaktal", "extract", str(folder), "--backbone", job.backbone]
    command += ["--out", str(out), "--workers", "2", "--set", "sleep=0.1", "--engine", engine]
    monkeypatch.setenv("EXTRACTING", str(busy))

    def start(until: int, workers: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None and (
            len(list(out.glob("[!.]*.safetensors"))) < until or len(list(busy.iterdir())) < workers
        ):
            time.sleep(0.02)
        assert process.poll() is None, "it ended before it could be killed"
        return process

    for k in (1, 2, 3):
        process = start(k * VIDEOS // 6, workers=1)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(1)  # a cluster's workers outlive it by a moment
        for mark in busy.iterdir():
            mark.unlink()
    before = {p.name: p.stat().st_mtime_ns for p in out.glob("[!.]*.safetensors")}
    assert VIDEOS // 2 <= len(before) < VIDEOS
    # both are at work, and slow, so that there is time for another one also on a busy machine
    monkeypatch.setenv("SLEEPING", "0.5")
    process = start(2 * VIDEOS // 3, workers=2)
    worker = max(busy.iterdir(), key=lambda mark: mark.stat().st_mtime_ns)
    os.kill(int(worker.name), signal.SIGKILL)
    assert process.wait() == 0
    assert len(list(busy.iterdir())) >= 3  # another one took its place
    assert contents(out) == contents(tmp_path / "whole")
    assert {n: (out / n).stat().st_mtime_ns for n in before} == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backbone", "motoin"], "did you mean 'motion'"),
        (["--backbone", "nowhere.py:X"], "no such file"),
        (["--backbone", f"{OWN}:Dark"], "no such backbone"),
        (["--set", "colour=1"], "unexpected keyword argument 'colour'"),
        (["--set", "colour"], "KEY=VALUE"),
        (["--workers", "0"], "at least one worker"),
        (["--address", "auto"], "add --engine ray"),
        (["--backbone", "i3d"], "I3D needs weights"),
        (["--backbone", "i3d", "--set", "rgb=none.pt"], "no such file of weights"),
    ],
)
def test_wrong_options_are_refused(
    tmp_path: Path, videos: list[Path], capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert main(["extract", str(videos[0]), "--out", str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def cluster() -> Iterator[None]:
    """A local Ray cluster of two workers."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.mark.usefixtures("cluster")
def test_a_ray_cluster_gives_the_same_features_though_a_worker_dies(
    tmp_path: Path, videos: list[Path]
) -> None:
    from weaktal.features.extract.ray_engine import RayEngine

    bad = tmp_path / "videos/bad.mp4"
    bad.write_text("no video")
    bright = write_video(tmp_path / "bright.mp4", [np.full((48, 64, 3), 250, np.uint8)] * 8)
    mark = tmp_path / "died"
    mark.touch()
    job = Job(f"{OWN}:Brightness", {"deadly": 240, "mark": str(mark)})
    whole = extract([*videos, bright], tmp_path / "whole", job, engine=LocalEngine(1))
    assert len(whole["done"]) == 5
    mark.unlink()
    report = extract([*videos, bad, bright], tmp_path / "out", job, engine=RayEngine(2))
    assert mark.exists()  # a worker was killed, and its video was tried again
    assert [o.state for o in report.outcomes] == ["done"] * 4 + ["failed", "done"]
    assert "cannot be read as a video" in str(report.outcomes[4].error)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    always = Job(f"{OWN}:Brightness", {"deadly": 240})
    report = extract([bright, videos[0]], tmp_path / "never", always, engine=RayEngine(2))
    assert [o.state for o in report.outcomes] == ["failed", "done"]
