"""A process that trains: features that are missing, the method, detections in all videos.

Started by the server (`weaktal.app.jobs`) in a session of its own, so that it goes on when the page or the
server ends. What it is to do stands in ``job.json`` of the run directory; how far it is stands in
``progress.json`` there, and in the run's own ``log.jsonl``. It runs the functions of the commands `extract`,
`train` and `localize`, and may be killed at any moment and started again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

from weaktal.core import Detections, InputError, write_text
from weaktal.formats import save_detections

JOB, PROGRESS, LOCK = "job.json", "progress.json", ".job.lock"
CHECKPOINT_SECONDS = 10.0


def hold(folder: Path) -> IO[bytes] | None:
    """Hold a job as long as this process lives; None if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder / LOCK).open("ab")
    if sys.platform == "win32":
        return file
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


class Progress:
    """How far a job is, on the disk."""

    def __init__(self, folder: Path, steps: Sequence[str]) -> None:
        self.path, self.lock = folder / PROGRESS, threading.Lock()
        self.facts: dict[str, Any] = {
            "pid": os.getpid(),
            "state": "running",
            "steps": [{"name": name, "state": "waiting"} for name in steps],
            "began": time.time(),
        }

    def write(self, **facts: Any) -> None:
        with self.lock:
            self.facts |= facts
            self.facts["written"] = time.time()
            write_text(self.path, json.dumps(self.facts) + "\n")

    def step(self, name: str, **facts: Any) -> None:
        for step in self.facts["steps"]:
            if step["name"] == name:
                step |= facts
        self.write()


def plan(
    method: str,
    recipe: str,
    settings: Mapping[str, Any],
    videos: int,
    labelled: int,
    dim: int,
    classes: Sequence[str],
) -> list[dict[str, Any]]:
    """The stages of training, those of a base locator first: where they log, name and number of steps.

    Args:
        method, recipe, settings: what is trained, and how.
        videos, labelled: how many are trained on, and in how many of them something occurs.
        dim, classes: of the features, and of the data.
    """
    from weaktal.methods import find_method
    from weaktal.methods.protocol import TrainingData
    from weaktal.train.base_locator import recipe_of
    from weaktal.train.config import resolve_config, split_settings

    class Sized(TrainingData):
        """All that stages ask of training data."""

        def __init__(self) -> None:
            self.__dict__["labelled"] = labelled

        def __len__(self) -> int:
            return videos

    out: list[dict[str, Any]] = []
    kind = find_method(method)
    own, base, of_base = split_settings(settings)
    chain = [(method, recipe, own, ".")]
    if base := base or kind.base:
        chain.insert(0, (base, recipe_of(base, recipe) or "", of_base, "base"))
    for name, each, changed, folder in chain:
        config = resolve_config(name, each or None, changed)
        made = find_method(name)(config, dim=dim, classes=classes)
        stages = made.stages(Sized())
        out += [{"folder": folder, "name": s.name, "steps": s.steps} for s in stages if s.steps]
    return out


def work(folder: Path) -> int:
    """Do the job of a run directory, or what is left of it."""
    job: dict[str, Any] = json.loads((folder / JOB).read_text(encoding="utf-8"))
    for _ in range(40):  # the server looks from time to time whether anybody holds it
        lock = hold(folder)
        if lock is not None:
            break
        time.sleep(0.05)
    if lock is None:
        print("another process does this job", file=sys.stderr)
        return 2
    progress = Progress(folder, ["extract", "train", "localize"])

    def stopped(signum: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        progress.lock = threading.Lock()  # this thread may be the one that holds it
        progress.write(state="stopped")
        os.killpg(0, signal.SIGTERM)  # workers of the extraction
        os._exit(143)

    signal.signal(signal.SIGTERM, stopped)
    progress.write()
    try:
        _extract(job, progress)
        _train(job, folder, progress)
        _localize(job, folder, progress)
        progress.write(state="done", ended=time.time())
        return 0
    except InputError as error:
        progress.write(state="failed", error=str(error), ended=time.time())
        print(error, file=sys.stderr)
        return 2
    except BaseException as error:
        traceback.print_exc()
        progress.write(state="failed", error=f"{type(error).__name__}: {error}", ended=time.time())
        return 1
    finally:
        lock.close()


def _extract(job: Mapping[str, Any], progress: Progress) -> None:
    asked = job.get("extract")
    if not asked:
        progress.step("extract", state="skipped")
        return
    from weaktal.features.extract.driver import Outcome
    from weaktal.features.extract.extraction import extract

    begun = time.monotonic()

    def tell(outcome: Outcome, ready: int, total: int) -> None:
        left = (time.monotonic() - begun) / ready * (total - ready)
        progress.step("extract", done=ready, total=total, left=left)
        if outcome.error:
            print(f"{outcome.source}: {outcome.error}", file=sys.stderr)

    videos = asked["videos"]
    progress.step("extract", state="running", done=0, total=len(videos))
    report = extract(
        videos, asked["out"], backbone=asked["backbone"], options=asked["options"],
        workers=asked.get("workers"), progress=tell,
    )  # fmt: skip
    failed = [f"{o.name}: {o.error}" for o in report["failed"]]
    progress.step("extract", state="done", failed=failed)
    if len(failed) == len(report.outcomes):
        raise InputError("no video could be read", found=failed[0] if failed else None)


def _train(job: Mapping[str, Any], folder: Path, progress: Progress) -> None:
    from weaktal.dataset import Dataset
    from weaktal.train.training import train_run

    progress.step("train", state="running")
    dataset = Dataset.load(job["data"])
    settings = job.get("settings", {})
    videos = job["videos"], sum(bool(v.labels) for v in dataset.subset("train"))
    about = (job["method"], job["recipe"], settings, *videos, dataset.store.dim, dataset.classes)
    threading.Thread(
        target=lambda: progress.step("train", stages=plan(*about)), name="plan", daemon=True
    ).start()
    train_run(
        job["method"],
        dataset,
        folder,
        recipe=job["recipe"],
        settings=settings,
        seed=job["seed"],
        resume=True,
        checkpoint_seconds=CHECKPOINT_SECONDS,
        progress=True,
    )
    progress.step("train", state="done")


def _localize(job: Mapping[str, Any], folder: Path, progress: Progress) -> None:
    from weaktal.dataset import Dataset
    from weaktal.train.localize import localize_run

    progress.step("localize", state="running")
    dataset = Dataset.load(job["data"])
    subsets = [role for role in ("train", "test") if role in dataset.roles]
    runs = [folder / "base", folder] if (folder / "base").is_dir() else [folder]
    for run in runs:
        parts: list[Detections] = []
        there = [s for s in subsets if any(v in dataset.store for v in dataset.subset(s).videos)]
        parts += [localize_run(run, dataset, subset=subset).detections for subset in there]
        classes = parts[0].classes if parts else dataset.classes
        save_detections(Detections.concatenate(parts, classes), run / "detections.json")
    progress.step("localize", state="done")


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
