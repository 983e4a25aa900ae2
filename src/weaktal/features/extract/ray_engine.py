"""The same work as Ray tasks, on one machine or on a cluster whose machines share the folders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from weaktal.core import InputError
from weaktal.features.extract.driver import ATTEMPTS, Job, Outcome, died, extract_in_worker


@dataclass(frozen=True)
class RayEngine:
    """Ray tasks, one core each (and a share of a GPU, if asked for).

    A task whose worker dies is tried again by Ray, on another worker; a video that cannot be read gives a
    failed `Outcome` and is not tried again.

    Attributes:
        workers: most videos under way at once; default as many as the cluster has cores.
        address: of a running cluster; None uses the current one, or starts a local one.
        gpus: share of a GPU that a task takes.
    """

    workers: int | None = None
    address: str | None = None
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError("there is at least one worker", found=self.workers)

    def __call__(self, job: Job, tasks: Sequence[tuple[Path, Path]]) -> Iterator[Outcome]:
        try:
            ray: Any = import_module("ray")
        except ModuleNotFoundError:
            raise InputError(
                "--engine ray needs Ray", found="no module 'ray'", hint="pip install 'weaktal[cluster]'"
            ) from None
        started = not ray.is_initialized()
        if started:
            local = {} if self.address else {"num_cpus": self.workers, "include_dashboard": False}
            try:
                ray.init(address=self.address, log_to_driver=False, logging_level="warning", **local)
            except (ConnectionError, ValueError) as error:
                raise InputError("no such Ray cluster", found=self.address, hint=str(error)) from None
        try:
            remote = ray.remote(num_cpus=1, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(extract_in_worker)
            most = self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
            queue = iter(tasks)
            running: dict[Any, tuple[Path, Path]] = {}
            while True:
                while len(running) < most and (task := next(queue, None)):
                    running[remote.remote(job, *(p.absolute() for p in task))] = task
                if not running:
                    return
                (ready, *_), _ = ray.wait(list(running), num_returns=1)
                task = running.pop(ready)
                try:
                    yield ray.get(ready)
                except ray.exceptions.WorkerCrashedError:
                    yield died(*task)
        finally:
            if started:
                ray.shutdown()
