"""Files that were made to break us: one line and exit code 2, in little time and memory, and nothing happens.

The commands run in one process that may have half a gigabyte; what starts slowly (torch) is not among them.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weaktal.cli import main
from weaktal.core import InputError
from weaktal.features.layouts import HDF5File, safetensors_header
from weaktal.features.pack import write_pack
from weaktal.features.store import FeatureStore, write_video_features
from weaktal.files.convert import convert

CASES = Path(__file__).parents[3] / "shared/cases/hostile"
SECONDS, MEGABYTES = 5.0, 500

LAUGHS = "[&a [lol,lol,lol,lol,lol,lol,lol,lol,lol]" + "".join(
    f", &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(8)
) + "]"  # fmt: skip
BIG = "1" + "0" * 5000
TEXTS = {
    "deep.json": "[" * 100_000 + "]" * 100_000,
    "deep-objects.json": '{"a":' * 50_000 + "1" + "}" * 50_000,
    "bigint.json": f'{{"database": {{"a": {{"duration": {BIG}, "annotations": []}}}}}}',
    "bigint400.json": f'{{"database": {{"a": {{"duration": {BIG[:400]}, "annotations": []}}}}}}',
    "det_bigint400.json": '{"results": {"a": [{"segment": [0, '
    + BIG[:400]
    + '], "label": "x", "score": 1}]}}',
    "surrogate.json": '{"database": {"\\ud800": {"annotations": []}}}',
    "nul.json": '{"database": {"a\\u0000": {"annotations": []}}}',
    "long.json": '{"database": {"' + "x" * 5000 + '": {"annotations": []}}}',
    "deep.yaml": "name: " + "[" * 20_000 + "]" * 20_000,
    "deep-block.yaml": "".join(" " * i + "a:\n" for i in range(2000)),
    "laughs_feat.yaml": f"features: {LAUGHS}\n",
    "laughs_name.yaml": f"name: {LAUGHS}\nannotations: x.json\n",
    "laughs_subsets.yaml": f"annotations: x.json\nsubsets: {LAUGHS}\n",
    "recursive.yaml": "name: x\nfeatures: &a {path: *a}\n",
    "bang.yaml": "name: !!int x\n",
    "python.yaml": "name: !!python/object/apply:os.system [true]\n",
    "date.yaml": "name: 2024-99-99\nannotations: x.json\n",
    "octal.yaml": "name: 0b_\n",
    "bigint.yaml": f"fps: {BIG}\n",
    "sexagesimal.yaml": "features: {path: ., rate: 1:30}\n",
    "nulpath.yaml": 'annotations: "a\\0b.json"\n',
    "surrogate-path.yaml": 'annotations: "\\uD800.json"\n',
    "endless-path.yaml": "annotations: /dev/zero\n",
    "twice.yaml": "name: a\nname: b\nannotations: x.json\n",
    "key.yaml": "? [a, b]\n: c\n",
    "merge.yaml": "a: &a {name: x}\n<<: *a\n",
    "quote.csv": 'video,label\n"' + "a" * 200_000 + "\n" * 1000,
    "wide.csv": "video,label\n" + "a," * 100_000 + "\n",
}


def commands(arguments: list[list[str]]) -> list[dict[str, Any]]:
    """What each command did, in one process of little memory."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.cases.limited", str(MEGABYTES)],
        input="\n".join(json.dumps(a) for a in arguments),
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        timeout=SECONDS * len(arguments),
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def refused(files: list[Path]) -> None:
    for file, found in zip(files, commands([["data", "inspect", str(f)] for f in files]), strict=True):
        assert found["code"] == 2, f"{file.name}: {found}"
        assert found["seconds"] < SECONDS, file.name
        assert found["err"].count("\n") == 1, f"{file.name}: {found['err']}"
        assert len(found["err"]) < 1000, file.name


def test_hostile_texts(tmp_path: Path) -> None:
    for name, text in TEXTS.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "pipe.json")
    refused([tmp_path / name for name in (*TEXTS, "pipe.json")])


@pytest.mark.skipif(not CASES.exists(), reason="the cases are not here")
def test_the_original_hostile_files() -> None:
    """Whatever lies there but videos, and the annotations that a report is made of."""
    files = sorted(p for p in CASES.iterdir() if p.suffix != ".mkv" and p.name != "gt_dur0.json")
    assert files
    refused(files)


# -------------------------------------------------------------------------------------- safetensors


def forged(path: Path, header: Any, data: bytes = bytes(96)) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + data)
    return path


def tensor(
    shape: Any = (4, 6), start: Any = 0, end: Any = 96, dtype: Any = "F32", **more: Any
) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end], **more}


FORGED: dict[str, Any] = {
    "a smaller shape": {"a": tensor((4, 5))},
    "a larger shape": {"a": tensor((5, 6))},
    "a shape of 10^12": {"a": tensor((10**12, 10**12))},
    "a negative shape": {"a": tensor((-4, -6))},
    "a shape of floats": {"a": tensor((4.0, 6))},
    "a shape of booleans": {"a": tensor((True, 24))},
    "no shape": {"a": tensor("4,6")},
    "overlapping": {"a": tensor((2, 6), 0, 48), "b": tensor((2, 12), 0, 96)},
    "overlapping in part": {"a": tensor((2, 6), 0, 48), "b": tensor((12,), 40, 88)},
    "a gap": {"a": tensor((1, 6), 0, 24), "b": tensor((2, 6), 48, 96)},
    "not from the beginning": {"a": tensor((2, 6), 48, 96)},
    "not to the end": {"a": tensor((2, 6), 0, 48)},
    "beyond the end": {"a": tensor((8, 6), 0, 192)},
    "reversed": {"a": tensor((4, 6), 96, 0)},
    "negative offsets": {"a": tensor((4, 6), -96, 0)},
    "offsets of floats": {"a": tensor((4, 6), 0.0, 96.0)},
    "another type's size": {"a": tensor(dtype="F64")},
    "an unknown type": {"a": tensor(dtype="F33")},
    "a type that is a list": {"a": tensor(dtype=["F32"])},
    "no object": {"a": 7},
    "a list": [1, 2],
    "nothing in it": {"a": {}},
    "metadata that are a list": {"__metadata__": [1], "a": tensor()},
    "metadata of numbers": {"__metadata__": {"weaktal": 7}, "a": tensor()},
    "a description that is no JSON": {"__metadata__": {"weaktal": "{"}, "a": tensor()},
    "a description that is a list": {"__metadata__": {"weaktal": "[]"}, "a": tensor()},
    "a name twice": b'{"a": {"dtype":"F32","shape":[4,6],"data_offsets":[0,96]}, "a": {}}',
    "deep": b"[" * 50_000,
    "no UTF-8": b"\xff\xfe",
}


@pytest.mark.parametrize("what", FORGED)
def test_forged_safetensors(tmp_path: Path, what: str) -> None:
    forged(tmp_path / "v.safetensors", FORGED[what])
    with pytest.raises(InputError, match=r"v\.safetensors"):
        FeatureStore.open(tmp_path).load("v")


def test_the_forger_makes_sound_files(tmp_path: Path) -> None:
    forged(tmp_path / "v.safetensors", {"b": tensor((1, 6), 72, 96), "a": tensor((3, 6), 0, 72)})
    assert safetensors_header(tmp_path / "v.safetensors")[0].keys() == {"a", "b"}
    forged(tmp_path / "v.safetensors", {"__metadata__": {}, "a": tensor()})
    assert FeatureStore.open(tmp_path, 1.0).load("v").shape == (4, 6)


@pytest.mark.parametrize("size", [0, 2**20, 2**62, 2**64 - 1])
def test_header_sizes_that_lie(tmp_path: Path, size: int) -> None:
    (tmp_path / "v.safetensors").write_bytes(struct.pack("<Q", size) + b"{}")
    with pytest.raises(InputError, match=r"v\.safetensors"):
        FeatureStore.open(tmp_path).load("v")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rate", x) for x in (0, -1, "1.5", True, [], {}, 10**400)),
        *(("offset", x) for x in ("a", [1], {})),
        *(("duration", x) for x in (-1, "long", [])),
        *(("dims", x) for x in ({"a": -1}, {"a": "6"}, [], 6, "6")),
        *(("warnings", x) for x in ("a", [1], {"a": 1})),
        *(("backbone", x) for x in ([], {"name": "i3d"}, 3)),
        ("source", "v.mp4"),
    ],
)
def test_descriptions_of_other_types(tmp_path: Path, key: str, value: object) -> None:
    about = json.dumps({"format": "weaktal 1", "rate": 1.5, "dims": {"a": 6}, key: value})
    forged(tmp_path / "v.safetensors", {"__metadata__": {"weaktal": about}, "a": tensor()})
    with pytest.raises(InputError, match=rf"v\.safetensors: {key}"):
        FeatureStore.open(tmp_path)


# -------------------------------------------------------------------------------- packs and names


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        write_video_features(tmp_path / f"own/{name}.safetensors", np.ones((5, 4)), rate=1.5)
    write_pack(FeatureStore.open(tmp_path / "own"), tmp_path / "pack")
    return tmp_path / "pack"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("data", x) for x in ("../../etc/passwd", "/etc/passwd", "a/b", "..", "", 7, None, "gone", "a\0b")),
        *(("dim", x) for x in (0, -4, "4", 4.0, True, None, 10**30, 5)),
        *(
            ("lengths", x)
            for x in ([5], [5, -5], [5, "5"], [5, 5.0], [5, True], [5, 10**400], {}, None, [5, 6])
        ),
        *(
            ("names", x)
            for x in (["a"], ["a", "a"], ["a", 7], ["a", ""], ["a", "\ud800"], ["a", "b\0"], "ab")
        ),
        *(("about", x) for x in (None, [], 7, {"rate": "x"}, {"dims": [4, 4]})),
    ],
)
def test_forged_packs(pack: Path, key: str, value: object) -> None:
    index = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps(index | {key: value}))
    with pytest.raises(InputError):
        FeatureStore.open(pack).load("a")
    assert main(["data", "inspect", str(pack)]) == 2


NAMES = {
    "up": ["../../x", "b"],
    "absolute": ["/tmp/weaktal-escaped", "b"],
    "a folder": ["a/b", "b"],
    "two dots": ["..", "b"],
    "too long": ["x" * 300, "b"],
    "case": ["Take", "take"],
    "accents": ["caf\u00e9", "cafe\u0301"],
    "streams": ["a-rgb", "a-flow"],
    "a device": ["NUL", "b"],
    "hidden": [".b", "b"],
}


@pytest.mark.parametrize("what", NAMES)
@pytest.mark.parametrize("to", ["npy", "safetensors", "pack"])
def test_names_stay_in_their_folder(pack: Path, what: str, to: str) -> None:
    names = NAMES[what]
    index = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps(index | {"names": names}))
    root = pack.parent
    before = sorted(root.rglob("*"))
    joint = root / "joint"
    joint.mkdir()
    value = np.empty(2, object)
    value[0], value[1] = np.ones((5, 4)), np.ones((6, 4))
    np.save(joint / "X-JOINT.npy", value, allow_pickle=True)
    np.save(joint / "videoname.npy", np.array(names))
    for source in (pack, joint / "X-JOINT.npy"):
        with pytest.raises(InputError) as error:
            convert(source, root / "out", to=to, rate=1.5 if source != pack else None)
        assert "\n" not in str(error.value)
    assert sorted(p for p in root.rglob("*") if joint not in (p, *p.parents)) == before
    assert not Path("/tmp/weaktal-escaped.npy").exists()


@pytest.mark.parametrize("name", ["labels", "videoname", "My-JOINT-video"])
def test_files_that_would_be_taken_for_something_else(pack: Path, name: str) -> None:
    index = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps(index | {"names": [name, "b"]}))
    with pytest.raises(InputError, match="would be taken for something else"):
        convert(pack, pack.parent / "out", to="npy")
    convert(pack, pack.parent / "out", to="safetensors")
    assert set(FeatureStore.open(pack.parent / "out").names) == {name, "b"}


@pytest.mark.parametrize("name", ["é", " spaced ", "a,b", "v\udcff", "a\nb", "title [x7Qk3]", "x" * 230])
def test_odd_names_are_written_and_found_again(pack: Path, name: str) -> None:
    index = json.loads((pack / "pack.json").read_text())
    (pack / "pack.json").write_text(json.dumps(index | {"names": [name, "b"]}))
    for to in ("npy", "safetensors", "pack"):
        convert(pack, pack.parent / f"as-{to}", to=to)
        assert set(FeatureStore.open(pack.parent / f"as-{to}", 1.5).names) == {name, "b"}


def test_header_keys_that_are_arguments_of_ours(tmp_path: Path) -> None:
    about = json.dumps({"rate": 1.5, "path": "/etc/passwd", "features": 1, "layout": "x"})
    (tmp_path / "in").mkdir()
    forged(tmp_path / "in/v.safetensors", {"__metadata__": {"weaktal": about}, "a": tensor()})
    convert(tmp_path / "in", tmp_path / "out", to="safetensors")
    assert FeatureStore.open(tmp_path / "out").names == ("v",)


# --------------------------------------------------------------------------------------------- HDF5

h5py = pytest.importorskip("h5py")


def write_h5(path: Path, what: str) -> None:
    with h5py.File(path, "w") as file:
        file["good"] = np.ones((5, 4), np.float32)
        if what == "external link":
            with h5py.File(path.with_name("other.h5"), "w") as other:
                other["a"] = np.ones((5, 4))
            file["a"] = h5py.ExternalLink("other.h5", "a")
        elif what == "external storage":
            path.with_name("raw").write_bytes(bytes(80))
            file.create_dataset("a", (5, 4), "<f4", external=[(str(path.with_name("raw")), 0, 80)])
        elif what == "virtual":
            with h5py.File(path.with_name("other.h5"), "w") as other:
                other["a"] = np.ones((5, 4))
            layout = h5py.VirtualLayout((5, 4), "f4")
            layout[:] = h5py.VirtualSource(path.with_name("other.h5"), "a", (5, 4))
            file.create_virtual_dataset("a", layout)
        elif what == "soft link":
            file["a"] = h5py.SoftLink("/a")
        elif what == "loop":
            group = file.create_group("a")
            group["rgb"] = group
        elif what == "giant":
            file.create_dataset("a", (10**12, 4), "f4", chunks=(1000, 4))
        elif what == "text":
            file["a"] = ["x", "y"]
        elif what == "reference":
            file.create_dataset("a", (2,), h5py.ref_dtype)
        elif what == "compound":
            file.create_dataset("a", (5,), np.dtype([("x", "f4")]))
        elif what == "nothing":
            file["a"] = h5py.Empty("f4")
        elif what == "a type":
            file["a"] = np.dtype("f4")
        elif what == "streams that link":
            group = file.create_group("a")
            group["rgb"] = np.ones((5, 4))
            group["flow"] = h5py.ExternalLink("other.h5", "a")


@pytest.mark.parametrize(
    "what",
    [
        *("external link", "external storage", "virtual", "soft link", "loop", "giant", "text", "reference"),
        *("compound", "nothing", "a type", "streams that link"),
    ],
)
def test_hostile_hdf5(tmp_path: Path, what: str) -> None:
    write_h5(tmp_path / "f.h5", what)
    layout = HDF5File(tmp_path / "f.h5")
    for use in (layout.shapes, layout.read):
        with pytest.raises(InputError, match=r"f\.h5"):
            use("a")
    assert layout.shapes("good") == [(5, 4)]
    with pytest.raises(InputError, match=r"f\.h5"):
        FeatureStore.open(tmp_path / "f.h5", 1.5)
