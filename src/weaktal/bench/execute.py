"""Runs of a bench, each a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from weaktal.bench.plan import Job, Plan
from weaktal.core import InputError, write_text
from weaktal.train.children import Child, run_children


def execute(
    plan: Plan,
    out: Path,
    *,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Job]:
    """Do all runs of a plan that are not done yet.

    A run is done when its ``metrics.json`` is there. One that was cut short goes on from its last
    checkpoint. A run that fails leaves its output in ``output.txt`` and does not stop the others.
    Interrupted, the running ones are ended and can go on later.

    Args:
        plan: what to run.
        out: the bench's folder.
        jobs: runs at a time; by default what the machine takes.
        say: told a line when a run begins or ends.

    Returns:
        Runs that failed.
    """
    _remember(plan, out)
    waiting = [job for job in plan.jobs() if not (out / job.folder / "metrics.json").exists()]
    done = sum(1 for _ in plan.jobs()) - len(waiting)
    say(f"{done} runs are done, {len(waiting)} to do")
    failed: list[Job] = []
    jobs_of = {
        Child(_name(job), tuple(plan.command(job, out)), out / job.folder / "output.txt"): job
        for job in waiting
    }

    def ended(child: Child, code: int, seconds: float) -> None:
        if code == 0 and (out / jobs_of[child].folder / "metrics.json").exists():
            say(f"{child.name} is done after {seconds / 60:.1f} min")
        else:
            failed.append(jobs_of[child])
            say(f"{child.name} failed with code {code}: {child.last_line}")

    run_children(
        list(jobs_of),
        device=plan.device,
        jobs=jobs,
        began=lambda child: say(f"{child.name} begins"),
        ended=ended,
    )
    return failed


def _remember(plan: Plan, out: Path) -> None:
    """Keep the plan with the bench; refuse another one in the same folder, except for more runs."""
    path = out / "plan.json"
    now = plan.model_dump(mode="json")
    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for part in ("data", "methods"):
            for name in before[part].keys() & now[part].keys():
                if before[part][name] != now[part][name]:
                    raise InputError(
                        "this folder holds a bench with other settings",
                        file=path,
                        field=f"{part}.{name}",
                        found=before[part][name],
                        expected=now[part][name],
                        hint="name another folder, or give the entry another name",
                    )
        if (before["evaluate_every"], before["precision"]) != (now["evaluate_every"], now["precision"]):
            raise InputError("this folder holds a bench with other settings", file=path)
    write_text(path, json.dumps(now, indent=1) + "\n")


def _name(job: Job) -> str:
    return f"{job.data} {job.method} seed {job.seed}"
