"""What is written in the format of another tool comes back, up to the resolution of the format."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weaktal import formats
from weaktal.cli import main
from weaktal.core import Annotations, CoverageWarning, InputError, Instances, Points, Video
from weaktal.formats import exchange

# no slash (a path), comma (keywords of Final Cut), bar (BORIS, Camtrap DP) and brackets (SubRip)
LETTERS = "abcXYZ019_-.'() éß動&\";:=+@#"
NAMES = (
    st.text(LETTERS, min_size=1, max_size=8)
    .map(str.strip)
    .filter(lambda n: n and n[0] not in "." and n[-1] != ".")
)
CLASSES = NAMES.filter(
    lambda n: n.lower() not in ("frame", "time", "video", "label", "class", "point", "default")
)
RATES = st.sampled_from([25.0, 30.0, 30000 / 1001, 24.0, 60000 / 1001, 10.0])
STEP = {"exact": None, "1 ms": 1000, "1 µs": 1_000_000, "1 s": 1}


def unlike(names: list[str]) -> bool:
    """Whether names stay apart as file names and tiers."""
    return len({n.casefold() for n in names}) == len(names)


@st.composite
def annotations(draw: st.DrawFn, entry: exchange.Format) -> Annotations:
    """Annotations that a format holds, on its grid of times."""
    classes = draw(st.lists(CLASSES, min_size=1, max_size=3, unique=True).filter(unlike))
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True).filter(unlike))
    label = st.integers(0, len(classes) - 1)
    videos = []
    for name in names:
        fps = draw(RATES)
        per_second = fps if entry.resolution == "a frame" else STEP[entry.resolution]
        top = 5000 if per_second is None or per_second > 50 else 400
        tick = st.integers(0, top) if per_second else st.floats(0, 1000, allow_subnormal=False)
        scale = per_second or 1.0
        # Label Studio takes one frame for a click
        shortest = 2 if entry.name == "label-studio" else 1 if per_second else 1e-3
        spans = []
        for a, b, c in draw(st.lists(st.tuples(tick, tick, label), max_size=4)):
            low, high = min(a, b), max(a, b, min(a, b) + shortest)
            apart = all(c != k or high < s or low > e for s, e, k in spans)
            if entry.name != "frame-table" or apart:
                spans.append((low, high, c))
        spans.sort()
        clicks = sorted(set(draw(st.lists(st.tuples(tick, label), max_size=3)))) if entry.clicks else []
        last = max([*(e for _, e, _ in spans), *(t for t, _ in clicks), 0]) + 5
        if not entry.empty and not spans and not clicks:
            spans = [(1, 4, 0)]
        occurs = {c for *_, c in spans} | {c for _, c in clicks}
        videos.append(
            Video(
                name,
                duration=last / scale,
                fps=fps,
                instances=Instances(
                    *([np.array([r[i] for r in spans]) / (scale if i < 2 else 1) for i in range(3)])
                ),
                points=Points(np.array([t for t, _ in clicks]) / scale, np.array([c for _, c in clicks]))
                if clicks
                else None,
                labels=tuple(occurs | (draw(st.sets(label)) if entry.tags else set())),
            )
        )
    return Annotations.of(classes, videos)


def said(annotations: Annotations, video: Video) -> tuple[object, ...]:
    """What a video says, with class names for indices, in order."""
    names, it = annotations.classes, video.instances
    p = video.points or Points()
    return (
        sorted(
            (s, e, names[c])
            for s, e, c in zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True)
        ),
        sorted((t, names[c]) for t, c in zip(p.time.tolist(), p.label.tolist(), strict=True)),
        sorted(names[c] for c in video.labels),
    )


def flat(rows: object) -> tuple[list[float], list[str]]:
    numbers, words = [], []
    for row in rows:  # type: ignore[attr-defined]
        for x in row if isinstance(row, tuple) else (row,):
            (words if isinstance(x, str) else numbers).append(x)
    return numbers, words


@pytest.mark.parametrize("entry", exchange.FORMATS.values(), ids=lambda f: f.name)
@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_round_trip(entry: exchange.Format, data: st.DataObject) -> None:
    before = data.draw(annotations(entry))
    media = {n: f"/videos/{n}.mp4" for n in before.videos}
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("error", CoverageWarning)
        path = Path(folder) / (
            "all" if entry.folder else "all.tsv" if entry.name == "boris-events" else "all.json"
        )
        exchange.write(before, path, entry.name, media)
        rates = {v.name: v.fps for v in before if v.fps is not None}
        after = exchange.read(path, entry.name, rates if entry.frames else None)
    assert sorted(after.videos) == sorted(before.videos)
    for video in before:
        for want, found in zip(said(before, video), said(after, after.videos[video.name]), strict=True):
            (numbers, words), (more, other) = flat(want), flat(found)
            assert words == other
            np.testing.assert_allclose(more, numbers, atol=1e-9)
        if entry.durations:
            assert after.videos[video.name].duration == pytest.approx(video.duration)


def one(**more: object) -> Annotations:
    video = Video("v", "train", 10.0, 25.0, Instances([1.0, 4.0], [2.0, 6.0], [0, 1]), **more)  # type: ignore[arg-type]
    return Annotations.of(["run", "jump"], [video])


def test_what_a_format_cannot_hold_is_said(tmp_path: Path) -> None:
    held = one(points=Points([1.5, 5.0], [0, 1]), ignored=np.array([[8.0, 9.0]]), labels=(0, 1))
    for name, entry in exchange.FORMATS.items():
        with pytest.warns(CoverageWarning, match="ambiguous intervals: 1 left out") as caught:
            formats.save_annotations(
                held, tmp_path / name / "x" if entry.folder else tmp_path / f"{name}.x", name
            )
        lost = [str(w.message) for w in caught if "holds no clicks: 2 left out" in str(w.message)]
        assert len(lost) == (not entry.clicks), name


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("srt", "a<b", "SubRip cannot hold a name with '<'"),
        ("fcpxml", "a,b", "an FCPXML file cannot hold a name with ','"),
        ("boris", "a|b", r"a BORIS project cannot hold a name with '\|'"),
        ("camtrap-dp", "a|b", r"cannot hold a name with '\|'"),
        ("elan", "a\x01b", "an ELAN file cannot hold a name with control characters"),
        ("audacity", "a\tb", "a label of Audacity cannot hold a name with control characters"),
        ("frame-table", "time", "a class has the name of a column: found 'time'"),
    ],
)
def test_names_that_would_not_come_back_are_refused(
    tmp_path: Path, name: str, bad: str, message: str
) -> None:
    held = Annotations.of([bad], [Video("v", None, 3.0, 25.0, Instances([1.0], [2.0], [0]), labels=(0,))])
    with pytest.raises(InputError, match=message):
        exchange.write(held, tmp_path / "out", name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [f.name for f in exchange.FORMATS.values() if f.frames])
def test_frames_need_a_rate_that_is_named(tmp_path: Path, name: str) -> None:
    held = Annotations.of(["x"], [Video("v_9", None, 3.0, None, Instances([1.0], [2.0], [0]), labels=(0,))])
    with pytest.raises(
        InputError, match=r"v_9: this format counts frames, and the frame rate of a video is not"
    ):
        exchange.write(held, tmp_path / "out", name)


@pytest.mark.parametrize("entry", [f for f in exchange.FORMATS.values() if f.one_video], ids=lambda f: f.name)
def test_one_video_is_one_file_or_a_folder_of_files(tmp_path: Path, entry: exchange.Format) -> None:
    suffix = {"textgrid": ".TextGrid", "frame-table": ".csv"}.get(entry.name) or entry.suffixes[0]
    single = Annotations.of(["run"], [Video("a", None, 5.0, 25.0, Instances([1.0], [2.0], [0]), labels=(0,))])
    double = Annotations.of(["run"], [*single, Video("b", None, 5.0, 25.0)])
    exchange.write(single, tmp_path / f"a{suffix}", entry.name)
    rates = 25.0 if entry.frames else None
    assert list(exchange.read(tmp_path / f"a{suffix}", entry.name, rates).videos) == ["a"]
    with pytest.raises(
        InputError, match="a file of this format holds one video: found 2 videos; name a folder"
    ):
        exchange.write(double, tmp_path / f"b{suffix}", entry.name)
    exchange.write(double, tmp_path / "two", entry.name)
    assert sorted(p.name for p in (tmp_path / "two").iterdir()) == [f"a{suffix}", f"b{suffix}"]
    with pytest.raises(InputError, match="not an empty folder"):
        exchange.write(double, tmp_path / "two", entry.name)
    back = formats.load_annotations(tmp_path / "two", fps=rates)  # found by looking
    assert [len(v.instances) for v in back] == [1, 0]


@pytest.mark.parametrize("name", exchange.FORMATS)
def test_convert_there_and_back(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    entry = exchange.FORMATS[name]
    formats.save_annotations(one(labels=(0, 1)), tmp_path / "gt.json")
    suffix = "" if entry.folder else entry.suffixes[0] if entry.suffixes else ".json"
    target = tmp_path / f"out{suffix}"
    assert main(["data", "convert", str(tmp_path / "gt.json"), str(target), "--to", name]) == 0
    text = capsys.readouterr().out
    assert "1 videos" in text
    assert (
        "not held by this format: " in text
    )  # the subset, at least, but of Label Studio the order of classes
    fps = ["--fps", "25"] if entry.frames else []
    back = tmp_path / "back.json"
    assert main(["data", "convert", str(target), str(back), "--from", name, *fps]) == 0
    after = formats.load_annotations(back)
    assert said(after, after.videos["v"])[0] == [(1.0, 2.0, "run"), (4.0, 6.0, "jump")]
    again = tmp_path / "again.json"
    assert main(["data", "convert", str(target), str(again), *fps]) == 0  # found by looking
    assert again.read_text() == back.read_text()


def test_convert_says_that_times_were_rounded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    formats.save_annotations(one(points=Points([1.25], [0]), labels=(0, 1)), tmp_path / "gt.json")
    assert (
        main(["data", "convert", str(tmp_path / "gt.json"), str(tmp_path / "c"), "--to", "camtrap-dp"]) == 0
    )
    assert "subset, duration, frame rate, exact times" in capsys.readouterr().out
    assert main(["data", "convert", str(tmp_path / "gt.json"), str(tmp_path / "v.TextGrid")]) == 0
    assert "exact times" not in capsys.readouterr().out


def test_importing_formats_imports_no_library_of_theirs() -> None:
    import subprocess
    import sys

    theirs = ("pympi", "praatio", "defusedxml", "xml.etree")
    code = f"import sys, weaktal.formats; print([m for m in {theirs} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_clicks_that_the_app_gives_to_segments_stay_at_home(tmp_path: Path) -> None:
    segment = {"segment": [1.0, 3.0], "label": "run", "id": "s1"}
    points = [{"time": 2.0, "label": "run", "of": "s1"}, {"time": 7.0, "label": "run", "id": "c1"}]
    database = {"v": {"annotations": [segment], "points": points}}
    (tmp_path / "annotations.json").write_text(json.dumps({"database": database}))
    for name in ("out.boris", "copy.csv.json"):
        assert main(["data", "convert", str(tmp_path / "annotations.json"), str(tmp_path / name)]) == 0
    there = formats.load_annotations(tmp_path / "out.boris")
    assert said(there, there.videos["v"])[1] == [(7.0, "run")]
    ours = formats.load_annotations(tmp_path / "copy.csv.json")
    assert said(ours, ours.videos["v"])[1] == [(2.0, "run"), (7.0, "run")]
