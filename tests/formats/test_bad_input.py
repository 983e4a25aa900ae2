"""Wrong files: the message names file, place, what was found and what would be right."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from weaktal import formats
from weaktal.core import Annotations, CoverageWarning, Detections, InputError, Instances, Video
from weaktal.core.npy import read_npy


def gt(rows: object, **more: object) -> str:
    return json.dumps({"database": {"v": {"subset": "test", "annotations": rows, **more}}})


def run(start: object, end: object, label: object = "run") -> dict[str, object]:
    return {"segment": [start, end], "label": label}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"database": {\n"v": }', r"gt\.json: line 2, column 6: malformed JSON"),
        ("[1, 2]", r"gt\.json: expected a JSON object: found \[1, 2\]"),
        ('{"databse": {}}', r"no ActivityNet annotations: found the keys 'databse'"),
        ('{"results": {}}', r"these are detections"),
        (gt({"a": 1}), r"database\.v\.annotations: expected a list of objects"),
        (gt([run(1, "x")]), r"database\.v\.annotations\[0\]\.segment: expected a number: found 'x'"),
        (gt([run(0, 1), run(1, None)]), r"annotations\[1\]\.segment: expected a number: found null"),
        (gt([run(1, float("nan"))]), r"expected a number: found nan, expected a finite number"),
        (gt([run(2, 1)]), r"a segment ends before it starts: found \[2, 1\]"),
        (gt([{"segment": 3, "label": "run"}]), r"expected a segment: found 3, expected \[start, end\]"),
        (gt([{"segment": [0, 1]}]), r"annotations\[0\]: no 'label'"),
        (gt([run(0, 1, 7)]), r"a label is a class name: found 7"),
        (gt([], labels=[], complete="no"), r"database\.v\.complete: expected true or false: found 'no'"),
        (gt([run(0, 1)], labels=[], complete=True), r"is one in which nothing occurs: found 1 annotations"),
        (gt([], duration="long"), r"database\.v\.duration: expected a number: found 'long'"),
        (
            json.dumps({"classes": ["LongJump"], "database": {"v": {"annotations": [run(0, 1, "LongJmp")]}}}),
            r"unknown class: found 'LongJmp'; did you mean 'LongJump'\?",
        ),
    ],
)
def test_annotations_as_json(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "gt.json").write_text(text)
    with pytest.raises(InputError, match=message):
        formats.load_annotations(tmp_path / "gt.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"t\.csv: line 1: no column 'video': found nothing"),
        ("vidoe,label\nv,run", r"no column 'video': found vidoe,label.*did you mean 'vidoe'\?"),
        (
            "video,start,end,label\nv,0,1\n",
            r"line 2: a row of another width than the header: found 3 columns",
        ),
        ("video,start,end,label\nv,0,x,run\n", r"line 2: expected a number: found 'x'"),
        ("video,start,end,label\n\nv,3,2,run\n", r"line 3: a segment ends before it starts: found 3,2"),
        ("video,start,end,label\nv,3,,run\n", r"line 2: an instance needs start, end and label"),
        ("video,subset,label\nv,a,run\nv,b,run\n", r"line 3: two values of 'subset' for one video"),
        (
            "video,label\nv,none\nw,run\nv,run\n",
            r"t\.csv: line 4: the label 'none' says that nothing occurs in 'v': found 'none' in line 2, and "
            r"the class 'run'",
        ),
        ("video,label\nv,run\nv,None\n", r"line 3: .*found 'none' in line 3, and the class 'run'"),
        ("video,label,complete\nv,none,no\n", r"line 2: .*'none' in line 2, and complete: no"),
        ("video,start,end,label\nv,0,1,none\n", r"line 2: the label 'none' .* has no start and end"),
        ("video,label,complete\nv,run,maybe\n", r"line 2, complete: expected yes or no: found 'maybe'"),
        ("video,label,complete\nv,run,no\nv,hop,yes\n", r"line 3: two values of 'complete' for one video"),
    ],
)
def test_annotations_as_csv(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        formats.load_annotations(tmp_path / "t.csv")


def detection(**change: object) -> str:
    row = {"segment": [0, 1], "label": "run", "score": 0.5} | change
    good = {"segment": [0, 1], "label": "run", "score": 0.5}
    return json.dumps(
        {"results": {"v": [good], "w": [good, {k: x for k, x in row.items() if x is not None}]}}
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"d\.json: line 1, column 2: malformed JSON"),
        ('{"database": {}}', r"no ActivityNet detections.*these are annotations"),
        ('{"results": {"v": 3}}', r"results\.v: expected a list: found 3"),
        ('{"results": {"v": [3]}}', r"results\.v\[0\]: expected an object: found 3"),
        (detection(score=None), r"results\.w\[1\]: no 'score': found segment, label"),
        (detection(score="high"), r"results\.w\[1\]\.score: expected a number: found 'high'"),
        (detection(score=float("nan")), r"results\.w\[1\]\.score: expected a number: found nan"),
        (detection(segment=[0, 1, 2]), r"results\.w\[1\]: expected a segment: found \[0, 1, 2\]"),
        (detection(segment=[2, 1]), r"results\.w\[1\]: a segment ends before it starts"),
        (detection(segment=[0, float("inf")]), r"results\.w\[1\]\.segment: expected a number: found inf"),
        (detection(label=3), r"results\.w\[1\]: a label is a class name: found 3"),
        (detection(label="rum"), r"results\.w\[1\]: unknown class: found 'rum'; did you mean 'run'\?"),
    ],
)
def test_detections_as_json(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(InputError, match=message):
        formats.load_detections(tmp_path / "d.json", ["run", "jump"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("v,0,1,rum,0.5", r"line 2: unknown class: found 'rum'; did you mean 'run'\?"),
        ("v,0,1,run,nan", r"line 2, score: expected a number: found 'nan'"),
        ("v,1,0,run,0.1", r"line 2: a segment ends before it starts"),
    ],
)
def test_detections_as_csv(tmp_path: Path, row: str, message: str) -> None:
    (tmp_path / "d.csv").write_text(f"video,start,end,label,score\n{row}\n")
    with pytest.raises(InputError, match=message):
        formats.load_detections(tmp_path / "d.csv", ["run"])


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.txt", "v,1.5,run\nv;2;run\n", r"p\.txt: line 2: expected a click: found 'v;2;run'"),
        ("p.txt", "v,soon,run\n", r"line 1: expected a number: found 'soon'"),
        ("p.txt", "v,1,rum\n", r"v: unknown class: found 'rum'; did you mean 'run'\?"),
        ("p.txt", "vv,1,run\n", r"no click belongs to an annotated video: found 'vv'"),
        ("p.csv", "class,video_id,point\nrun,v,12\n", r"line 2: no frame rate for this video: found 'v'"),
    ],
)
def test_clicks(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / "gt.csv").write_text("video,label\nv,run\n")
    with pytest.raises(InputError, match=message):
        formats.load_annotations(tmp_path / "gt.csv", points=tmp_path / name)


def test_clicks_in_frames_without_any_rate(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("class,video_id,point\nrun,v,12\n")
    with pytest.raises(InputError, match="in frames and need a frame rate"):
        formats.load_points(tmp_path / "p.csv")
    for rate in (0, -1, float("nan")):
        with pytest.raises(InputError, match="a frame rate is a number > 0"):
            formats.load_fps(rate)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("v 1\n", "line 1: expected an interval"),
        ("\nv  1 x", "line 2: expected a number: found 'x'"),
        ("v  2 1", "an interval ends before it starts"),
    ],
)
def test_ambiguous_intervals(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        formats.load_ignored(tmp_path / "a.txt")


READERS: list[Callable[[Path], object]] = [
    formats.load_annotations,
    formats.load_detections,
    lambda p: formats.load_points(p, fps=30.0),
    formats.load_ignored,
    formats.load_fps,
    read_npy,
]


@pytest.mark.parametrize("reader", READERS)
def test_files_that_are_not_there_or_not_readable(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    with pytest.raises(InputError, match=r"missing\.json: no such file"):
        reader(tmp_path / "missing.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00\x93")
    with pytest.raises(InputError, match=r"bytes\.json: not a"):
        reader(tmp_path / "bytes.json")
    if os.geteuid():
        (tmp_path / "closed.json").touch(mode=0)
        with pytest.raises(InputError, match=r"closed\.json"):
            reader(tmp_path / "closed.json")


def test_a_folder_without_annotations(tmp_path: Path) -> None:
    (tmp_path / "readme.md").touch()
    with pytest.raises(InputError, match=r"no annotations in this folder: found readme\.md"):
        formats.load_annotations(tmp_path)


def test_instances_without_length_are_kept_and_said(tmp_path: Path) -> None:
    (tmp_path / "gt.json").write_text(gt([run(0, 1), run(2, 2)]))
    with pytest.warns(CoverageWarning, match="1 instances have no length and cannot be matched, in 1 videos"):
        found = formats.load_annotations(tmp_path / "gt.json")
    assert len(found.videos["v"].instances) == 2


def wtalc(folder: Path, **change: np.ndarray) -> Path:
    video = Video("v", "test", 9.0, instances=Instances([1], [2], [0]), labels=(0,))
    formats.save_annotations(Annotations.of(["run"], [video]), folder)
    for name, array in change.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=True)
    return folder


def one(value: object) -> np.ndarray:
    out = np.empty(1, object)
    out[0] = value
    return out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"segments": one([[2, 1]])}, r"segments\.npy: v: a segment ends before it starts"),
        ({"segments": one([[1, 2, 3]])}, r"segments\.npy: v: expected \[start, end\]: found \[1, 2, 3\]"),
        ({"segments": one([["a", "b"]])}, r"segments\.npy: v: expected a number: found 'a'"),
        ({"segments": one([[0, 1], [2, 3]])}, r"segments and labels differ in number: found 1, expected 2"),
        ({"labels": one(["rum"])}, r"labels\.npy: v: unknown class: found 'rum'; did you mean 'run'\?"),
        ({"labels_all": one([b"swim"])}, r"labels_all\.npy: v: unknown class: found 'swim'"),
        ({"subset": np.array(["test", "test"])}, r"arrays of different lengths: found 2, expected 1"),
    ],
)
def test_wtalc_arrays(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InputError, match=message):
        formats.load_annotations(wtalc(tmp_path / "arrays", **change))


def test_a_missing_array(tmp_path: Path) -> None:
    folder = wtalc(tmp_path)
    (folder / "classlist.npy").unlink()
    with pytest.raises(InputError, match=r"classlist\.npy: no such file"):
        formats.load_annotations(folder)


class Bomb:
    """What an attacker would store."""

    def __init__(self, call: Callable[..., object], *args: object) -> None:
        self.call, self.args = call, args

    def __reduce__(self) -> tuple[object, ...]:
        return self.call, self.args


def _eval_by_getattr() -> bytes:
    """A protocol 4 pickle that reaches for a function through an allowed module's attributes."""
    return pickle.PROTO + b"\x04\x8c\x05numpy\x8c\x15ndarray.__class__.mro\x93)R."


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", [os.system, eval, exec, np.load, np.fromfile, np.memmap, getattr])
def test_a_malicious_pickle_is_not_executed(
    tmp_path: Path, call: Callable[..., object], protocol: int
) -> None:
    witness = tmp_path / "executed"
    arguments = {
        os.system: (f"touch {witness}",),
        eval: (f"open({str(witness)!r}, 'w')",),
        exec: (f"open({str(witness)!r}, 'w')",),
        np.memmap: (str(witness), "u1", "w+", 0, 8),
        getattr: (np.ndarray, "tofile"),
    }.get(call, (str(witness),))
    array = one(None)
    array[0] = Bomb(call, *arguments)
    folder = wtalc(tmp_path / "arrays")
    with (folder / "segments.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, file, protocol=protocol)
    with pytest.raises(InputError, match=r"segments\.npy: this pickled array was not opened: it asks for"):
        formats.load_annotations(folder)
    assert not witness.exists()


@pytest.mark.parametrize(
    "payload",
    [
        _eval_by_getattr(),
        b"c_codecs\nencode\n(Vx\nVidna\ntR.",  # a codec of the attacker's choice would be imported
        b"cnumpy\nf2py.os.system\n(Vtrue\ntR.",
        b"cbuiltins\neval\n(V1\ntR.",
        b"I1\n.",  # a number in place of an array
        b"garbage",
        b"",
    ],
)
def test_forged_pickles(tmp_path: Path, payload: bytes) -> None:
    path = tmp_path / "a.npy"
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(one(None)))
        file.write(payload)
    with pytest.raises(InputError, match=r"a\.npy"):
        read_npy(path)


def test_a_truncated_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.arange(100.0))
    path.write_bytes(path.read_bytes()[:-8])
    for mmap in (True, False):
        with pytest.raises(InputError, match=r"not a readable \.npy file"):
            read_npy(path, mmap=mmap)


def test_nothing_is_half_written(tmp_path: Path) -> None:
    """A writer that fails leaves the old file, and nothing beside it."""
    path = tmp_path / "d.json"
    path.write_text("before")
    broken = Detections(("v",), ("run",), [0], [0], [1], [0], [0.5])
    object.__setattr__(broken, "names", (object(),))
    with pytest.raises(TypeError):
        formats.save_detections(broken, path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
