"""Worker processes that do not run the caller's script again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Lock
from typing import Any


class _Process(SpawnProcess):
    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        with _without_main():
            return SpawnProcess._Popen(process_obj)


class WorkerContext(SpawnContext):
    """Processes by "spawn" (a fork would copy threads of torch and OpenCV in any state) that need no guard.

    A spawned process runs the file of ``__main__`` anew, to find what was defined there; without a guard
    (``if __name__ == "__main__"``) a user's script would start itself without end. What our workers need is
    in modules, so they are started as from an interactive session.
    """

    Process = _Process


_starting = Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """While a process is started, let ``__main__`` look like an interactive session."""
    main = sys.modules["__main__"]
    with _starting:
        spec, file = getattr(main, "__spec__", None), main.__dict__.pop("__file__", None)
        main.__spec__ = None
        try:
            yield
        finally:
            main.__spec__ = spec
            if file is not None:
                main.__file__ = file
