"""Worker processes that do not run the caller's script again, and do not outlive it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, parent_process
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from multiprocessing.resource_tracker import ensure_running
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


def begin_worker() -> None:
    """A worker ends with its parent, however that ends, and leaves Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def interrupts_later() -> Iterator[None]:
    """Ctrl-C waits until this is over, and never reaches a process that is started in it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    ensure_running()  # it would let interrupts through when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def worker_pool(workers: int) -> Iterator[ProcessPoolExecutor]:
    """Worker processes; where the work is broken off they are killed and not waited for."""
    others = set(active_children())
    pool = ProcessPoolExecutor(workers, mp_context=WorkerContext(), initializer=begin_worker)
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:
            process.kill()
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()
