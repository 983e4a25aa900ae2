"""Runs the steps of a page with the WeakTAL of the Python that runs it: `python runner.py STEPS.json`.

A step is ("command" or "python", text, expected exit code): a command line (`weaktal ...`: in this process;
anything else: by the shell) or a block of Python; blocks of a page share their names, as they do for a reader
who types them one after another. Prints one JSON line a step, and stops at the first that ends otherwise than
expected. Knows nothing of the repository.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
import sys
import traceback
from pathlib import Path


def command(line: str) -> tuple[int, str]:
    """Exit code and all that was printed."""
    words = shlex.split(line, comments=True)
    if words[0] != "weaktal":
        done = subprocess.run(line, shell=True, text=True, capture_output=True)
        return done.returncode, done.stdout + done.stderr
    from weaktal.cli import main

    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            code = main(words[1:])
        except SystemExit as end:
            code = int(end.code or 0)
    return code, told.getvalue()


def python(code: str, names: dict[str, object]) -> tuple[int, str]:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        try:
            exec(compile(code, "block", "exec"), names)
        except Exception:
            return 1, told.getvalue() + traceback.format_exc()
    return 0, told.getvalue()


def main() -> None:
    names: dict[str, object] = {"__name__": "__page__"}
    for kind, text, expected in json.loads(Path(sys.argv[1]).read_text()):
        code, told = command(text) if kind == "command" else python(text, names)
        print(json.dumps({"step": text, "code": code, "told": told}), flush=True)
        if code != expected:
            break


if __name__ == "__main__":
    main()
