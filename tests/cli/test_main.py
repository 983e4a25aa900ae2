"""What every command has in common: one line for what is wrong, and the exit code."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

import weaktal
from weaktal import cli
from weaktal.cli import main
from weaktal.cli.options import setting


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train lac --out RUN --set a=[", "the value of 'a=[' is not YAML"),
        ("train lac --out RUN --set a", "--set: expected KEY=VALUE, found 'a'"),
        ("train lac --out RUN --set =3", "expected KEY=VALUE"),
        ("train lac --out RUN --seed -1", "--seed: expected a whole number from 0, found '-1'"),
        ("train lac --out RUN --seed 1e3", "expected a whole number, found '1e3'"),
        ("train lac --out RUN --seed 99999999999999999999", "expected a whole number"),
        ("train lac --out RUN --evaluate-every 0", "expected a whole number from 1"),
        ("train lac --out RUN --checkpoint-seconds nan", "expected a number, found 'nan'"),
        ("train lac --out EMPTY", "--out: an empty path"),
        ("train lac --data EMPTY --out RUN", "--data: an empty path"),
        ("train lac", "required: --out"),
        ("train lac --out RUN --sed 3", "unrecognized arguments: --sed 3"),
        ("predict RUN EMPTY --out x", "VIDEO: an empty path"),
        ("predict RUN a.mp4 --out x --chunk nan", "--chunk: expected a number"),
        ("predict RUN a.mp4 --out x --threshold inf", "--threshold: expected a number"),
        ("predict RUN a.mp4 --out x --workers two", "--workers: expected a whole number"),
        ("extract EMPTY --out x", "an empty path"),
        ("extract a.mp4 --out x --engine cloud", "invalid choice: 'cloud'"),
        ("data inspect EMPTY", "an empty path"),
        ("data convert a.json b.json --fps 0", "--fps: expected a number above 0"),
        ("data simulate-points a.json b.txt --sigma nan", "--sigma: expected a number"),
        ("data", "required: ACTION"),
        (
            "search lac --data d --space s --out x --held-out 1",
            "--held-out: expected a number above 0 and below",
        ),
        ("search lac --data d --space s --out x --trials 0", "--trials: expected a whole number from 1"),
        ("bench plan.yaml --out x --jobs 0", "--jobs: expected a whole number from 1"),
        ("report RUN --most many", "--most: expected a whole number"),
        ("demo --train-videos 0", "--train-videos: expected a whole number from 1"),
        ("localise RUN", "invalid choice: 'localise'"),
    ],
)
def test_wrong_words_are_told_in_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["" if word == "EMPTY" else word for word in words.split()]) == 2
    told = one_line(capsys)
    assert message in told
    assert told.startswith("weaktal")
    assert "--help" in told
    assert not any(tmp_path.iterdir())


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    video = {"subset": "test", "duration": 9.0, "annotations": [{"segment": [0, 4], "label": "Jump"}]}
    path = tmp_path / "gt.json"
    path.write_text(json.dumps({"database": {"v": video}}))
    return path


def test_a_place_that_cannot_be_written_is_named(
    truth: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("kept")
    assert main(["data", "convert", str(truth), str(tmp_path / "file/out.csv")]) == 2
    assert f"{tmp_path / 'file'}" in one_line(capsys)
    assert main(["data", "convert", str(truth), "/proc/nowhere/out.csv"]) == 2
    assert "/proc/nowhere" in one_line(capsys)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "gt.json"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_told_in_one_line(truth: Path) -> None:
    code = "import sys; from weaktal.cli import main; sys.exit(main(sys.argv[1:]))"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-u", "-c", code, "data", "inspect", str(truth)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr == "weaktal data: No space left on device\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
            "out of memory",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x.npy"), "/data/x.npy: Permission denied"),
        (OSError(errno.EROFS, "Read-only file system"), "Read-only file system"),
        (weaktal.InputError("two\nlines", file="a\nb"), "weaktal data: a"),
    ],
)
def test_what_the_machine_refuses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    def fails(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    assert main(["data", "inspect", "x"]) == 2
    assert told in one_line(capsys)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a shape of ours does not fit"),
        OSError("no number"),
        FileNotFoundError(errno.ENOENT, "No such file", str(Path(cli.__file__).parent / "gone.jinja")),
    ],
)
def test_our_own_faults_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fails(*_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    with pytest.raises(type(error)):
        main(["data", "inspect", "x"])


def test_warnings_are_shown_as_before_when_a_command_is_done(tmp_path: Path) -> None:
    import warnings

    before = warnings.showwarning
    main(["data", "inspect", str(tmp_path / "nothing")])
    assert warnings.showwarning is before


def test_the_version_is_there_at_once() -> None:
    code = (
        "import sys; from weaktal.cli import main; main(['--version']);"
        "print([m for m in ('numpy', 'argparse', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [weaktal.__version__, "[]"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=3e-4", ("a", 3e-4)),
        ("a=[0.3, 0.5]", ("a", [0.3, 0.5])),
        (" a = text ", ("a", "text")),
        ("a=", ("a", None)),
        ("a=b=c", ("a", "b=c")),
    ],
)
def test_settings_are_typed(text: str, expected: object) -> None:
    assert setting(text) == expected
