"""Damaged and forged files: every reader answers or says what is wrong, and does nothing else.

A fixed small budget here; ``WEAKTAL_FUZZ=2000`` (``make soak``) for that many files a reader. A failure names
the reader and the number of the file, which alone makes it again: ``WEAKTAL_FUZZ_ONLY=NUMBER``.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz.readers import READERS
from weaktal.core import CoverageWarning, InputError

BUDGET = int(os.environ.get("WEAKTAL_FUZZ", "20"))
ONLY = os.environ.get("WEAKTAL_FUZZ_ONLY")
SECONDS = 5


@contextmanager
def a_few_seconds() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(tmp_path: Path, name: str) -> None:
    reader = READERS[name]
    sound = tmp_path / "sound"
    sound.mkdir()
    path = reader.write(sound)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        reader.read(path)  # what is damaged below is sound
        for number in range(BUDGET) if ONLY is None else [int(ONLY)]:
            _one(reader, name, number, tmp_path, sound, path)


def _one(reader: object, name: str, number: int, tmp_path: Path, sound: Path, path: Path) -> None:
    rng = random.Random(f"{name} {number}")
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    target = folder / path.relative_to(sound)
    inside = target if target.is_dir() else target.parent
    files = sorted(
        p for p in inside.rglob(READERS[name].files) if p.is_file() and not p.name.startswith("out-")
    )
    file = rng.choice(files)
    file.write_bytes(rng.choice(READERS[name].damage)(file.read_bytes(), rng))
    start = time.monotonic()
    try:
        with a_few_seconds():
            READERS[name].read(target)
    except InputError as error:
        text = str(error)
        assert "\n" not in text, f"{name} {number}"
        assert len(text) < 1500, f"{name} {number}"
        text.encode("utf-8")
    except Exception as error:
        raise AssertionError(f"{name} {number}: {type(error).__name__}: {error}") from error
    assert time.monotonic() - start < SECONDS, f"{name} {number}"
