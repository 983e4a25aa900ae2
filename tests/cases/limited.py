"""Run commands in one process of half a gigabyte; each line of the input is a list of arguments in JSON.

Says of each: the exit code, seconds, and what was printed on standard error.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import sys
import time

from weaktal.cli import main


def run(arguments: list[str]) -> dict[str, object]:
    """One command, as `weaktal` runs it."""
    out, err = io.StringIO(), io.StringIO()
    start = time.monotonic()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = main(arguments)
        except SystemExit as stop:
            code = stop.code
    return {"code": code, "seconds": time.monotonic() - start, "out": out.getvalue(), "err": err.getvalue()}


if __name__ == "__main__":
    megabytes = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_AS, (megabytes * 2**20, megabytes * 2**20))
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
