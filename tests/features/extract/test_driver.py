"""Many videos: nothing is done twice, nothing half-written counts, no video stops the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from tests.features.extract.media import moving, picture, remux, write_audio_only, write_video
from weaktal.cli import main
from weaktal.core import InputError
from weaktal.features.check import inspect_features
from weaktal.features.extract.driver import Job, LocalEngine, Outcome, extract, extract_video
from weaktal.features.pack import write_pack
from weaktal.features.store import FeatureStore, write_video_features

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


# --------------------------------------------------------------------------------- names, limits, signals


def odd_names() -> list[str]:
    long = "x" * (230 - len(".mp4"))
    return [
        "title [x7Qk3].mp4",
        "raw[cam] [bold] (1).mp4",
        "two\nlines.mp4",
        os.fsdecode(b"no \xff utf-8.mp4"),
        "cafe\u0301.mp4",
        "100% %d :smile: 'quoted' \"double\".mp4",
        f"{long}.mp4",
    ]


def test_odd_names_are_shown_as_they_are_and_all_outputs_are_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "raw[", tmp_path / "out"
    (folder / "cam]").mkdir(parents=True)
    for k, name in enumerate(odd_names()):
        write_video(tmp_path / "v.mp4", [picture(k + i) for i in range(8)])
        (tmp_path / "v.mp4").rename(folder / name)
    (folder / "cam]" / "[red]broken.mp4").write_text("no video")
    words = ["extract", str(folder), "--backbone", f"{OWN}:Brightness", "--out", str(out), "--workers", "1"]
    assert main(words) == 2
    assert set(contents(out)) == {name.removesuffix(".mp4") + ".safetensors" for name in odd_names()}
    shown = capsys.readouterr()
    assert "raw[/cam]/[red]broken.mp4: cannot be read as a video" in shown.err
    assert "title [x7Qk3]" in shown.out
    rows = {r["name"]: r for r in json.loads((out / "extraction.json").read_text())["videos"]}
    assert rows["no \udcff utf-8"]["state"] == "done"
    store = FeatureStore.open(out)
    assert len(store) == len(odd_names())
    assert len(store.load("two\nlines")) == 2
    assert main(words) == 2  # again, from what is there
    assert "7 kept, 1 failed" in capsys.readouterr().out


def test_a_name_that_no_file_can_have_is_its_own_trouble(tmp_path: Path, videos: list[Path]) -> None:
    long = videos[0].with_name("y" * 251 + ".mp4")
    videos[0].rename(long)
    report = extract([long, *videos[1:]], tmp_path / "out", Job(f"{OWN}:Brightness"), engine=LocalEngine(1))
    assert [o.state for o in report.outcomes] == ["failed", "done", "done", "done"]
    assert "255 are possible" in str(report.outcomes[0].error)


def test_what_is_no_feature_file_stands_in_the_way_of_its_video_alone(
    tmp_path: Path, videos: list[Path]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/v1.safetensors").write_text("a letter")
    report = extract(videos, tmp_path / "out", Job(f"{OWN}:Brightness"), engine=LocalEngine(1))
    assert [o.state for o in report.outcomes] == ["done", "failed", "done", "done"]
    assert (tmp_path / "out/v1.safetensors").read_text() == "a letter"


def test_outputs_that_vanish_while_the_work_goes_on_are_noticed(tmp_path: Path, videos: list[Path]) -> None:
    def tidy(job: Job, todo: Sequence[tuple[Path, Path]]) -> Iterator[Outcome]:
        for outcome in LocalEngine(1)(job, todo):
            yield outcome
            (tmp_path / "out/v0.safetensors").unlink(missing_ok=True)

    report = extract(videos, tmp_path / "out", Job(f"{OWN}:Brightness"), engine=tidy)
    assert [o.state for o in report.outcomes] == ["failed", "done", "done", "done"]
    assert "removed while the work went on" in str(report.outcomes[0].error)


def test_two_names_that_other_systems_take_for_one(tmp_path: Path, videos: list[Path]) -> None:
    again = videos[0].rename(videos[0].with_name("V1.mp4"))
    assert main(["extract", str(again), str(videos[1]), "--out", str(tmp_path / "out")]) == 2


def test_features_remember_where_the_picture_begins(tmp_path: Path) -> None:
    plain = write_video(tmp_path / "plain.mp4", [picture(k) for k in range(16)])
    late = remux(plain, tmp_path / "late.mp4", shift=3.0, sound=True)
    out = tmp_path / "out"
    report = extract([plain, late], out, Job(f"{OWN}:Brightness"), engine=LocalEngine(1))
    assert [round(o.seconds, 3) for o in report.outcomes] == [1.6, 4.6]
    assert "begins 3.00 s after the file" in report.outcomes[1].warnings[0]
    store = FeatureStore.open(out)
    assert store.axis("plain").start == 0
    assert store.axis("late").start == 3
    assert store.about("late")["duration"] == 4.6
    assert store.about("late")["timing"] == {"fps": 10.0, "rate": "10", "timecode": None}
    assert not inspect_features(store).findings[1:]  # the remark alone
    write_pack(store, tmp_path / "pack")
    packed = FeatureStore.open(tmp_path / "pack")
    assert (packed.axis("plain").start, packed.axis("late").start) == (0, 3)
    # what older versions wrote has no start: it reads as before, and `data inspect` says so
    path = out / "late.safetensors"
    about = store.about("late") | {"rate": 2.5}
    del about["start"], about["dims"], about["format"]
    write_video_features(path, {"rgb": store.load("late")}, **about)
    old = FeatureStore.open(out)
    assert old.start("late") is None
    assert old.axis("late").start == 0
    found = [str(f) for f in inspect_features(old).findings]
    assert any(f.startswith("where the picture begins is unknown of 1 videos (late)") for f in found)


def test_limits_of_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = [picture(k) for k in range(8)]
    times = [0.1 * k for k in range(4)] + [20 + 0.1 * k for k in range(4)]
    path = write_video(tmp_path / "gap.mkv", frames, times=times)
    words = ["extract", str(path), "--backbone", f"{OWN}:Brightness", "--workers", "1", "--out"]
    for k, (more, code, seconds) in enumerate(
        (
            ([], 0, 20.4),
            (["--max-gap", "5"], 0, 0.8),
            (["--max-hours", "0.001"], 2, 0),
            (["--max-pixels", "9"], 2, 0),
        )
    ):
        assert main([*words, str(tmp_path / f"out{k}"), *more]) == code
        row = json.loads((tmp_path / f"out{k}/extraction.json").read_text())["videos"][0]
        assert row["seconds"] == pytest.approx(seconds, abs=0.11)
    assert main([*words, str(tmp_path / "never"), "--max-gap", "-1"]) == 2
    assert "too large" in capsys.readouterr().err


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL", "SIGINT"])
def test_no_worker_outlives_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, videos: list[Path], name: str
) -> None:
    busy, out = tmp_path / "busy", tmp_path / "out"
    busy.mkdir()
    monkeypatch.setenv("EXTRACTING", str(busy))
    monkeypatch.setenv("SLEEPING", "60")
    words = [
        "extract",
        *map(str, videos),
        "--backbone",
        f"{OWN}:Brightness",
        "--out",
        str(out),
        "--workers",
        "2",
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "weaktal", *words],
        start_new_session=True,
        # a shell that runs the tests in the background has it ignored, which children inherit
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and len(list(busy.iterdir())) < 2:
        time.sleep(0.02)
    workers = [int(mark.name) for mark in busy.iterdir()]
    if name == "SIGINT":  # Ctrl-C reaches the whole group
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, name))
    _, err = process.communicate(timeout=20)
    until = time.monotonic() + 20
    while any(map(running, workers)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(running, workers))
    assert process.returncode == (130 if name == "SIGINT" else -getattr(signal, name))
    if name == "SIGINT":
        assert err.decode().splitlines() == ["weaktal extract: stopped"]
        assert not list(out.glob(".*"))
