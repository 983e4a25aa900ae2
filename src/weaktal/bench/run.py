"""Methods x data sets x seeds, run and in one table and on one page: what `weaktal bench` does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weaktal.bench.execute import execute
from weaktal.bench.groups import Group, grouped, planned_groups
from weaktal.bench.page import write_bench_page
from weaktal.bench.plan import Job, Plan
from weaktal.bench.table import Row, markdown, rows
from weaktal.core import write_text
from weaktal.evaluate.intervals import RESAMPLES
from weaktal.train.run import Run

PathLike = str | os.PathLike[str]
NOTE = "mAP in percent, mean ± standard deviation over seeds"
PUBLISHED = "; published figures are of real I3D features"


@dataclass(frozen=True)
class Benched:
    """What a bench has found so far.

    Attributes:
        rows: of the table, in the order of the plan.
        table: the file that holds the table as Markdown.
        page: the page with table, curves, classes and every run.
        failed: runs that failed now.
    """

    rows: tuple[Row, ...]
    table: Path
    page: Path
    failed: tuple[Job, ...] = ()

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as plain values, for JSON."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        note = NOTE + (PUBLISHED if any(r.kind == "published" for r in self.rows) else "") + "."
        return f"{markdown(self.rows)}\n\n{note}"


def run_bench(
    plan: Plan | PathLike,
    out: PathLike,
    *,
    jobs: int | None = None,
    only_table: bool = False,
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = lambda text: None,
) -> Benched:
    """Do all runs of a plan that are not done yet; write ``table.md`` and ``report.html`` of those that are.

    Args:
        plan: methods, data sets and seeds, or their file.
        out: the bench's folder.
        jobs: runs at a time; by default what the machine takes.
        only_table: run nothing.
        resamples: of the test videos, for the page's intervals and tests; 0 for neither.
        say: told a line when a run begins or ends, and what takes time.

    Raises:
        InputError: a wrong plan, or a folder that holds a bench with other settings.
    """
    name = "bench" if isinstance(plan, Plan) else Path(plan).stem
    plan, out = plan if isinstance(plan, Plan) else Plan.load(plan), Path(out)
    failed = () if only_table else execute(plan, out, jobs=jobs, say=say)
    return _written(planned_groups(plan, out), out, f"Bench: {name}", resamples, say, tuple(failed))


def compare_runs(
    runs: Run | PathLike | Sequence[Run | PathLike],
    out: PathLike,
    *,
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = lambda text: None,
) -> Benched:
    """The table and the page of `run_bench`, of runs that were trained before, wherever they are.

    Runs are grouped by what differs: data set, method, and every setting that decides results; those that
    differ in nothing but the seed are a group. A run that was localized and not evaluated is evaluated in the
    test subset of its data set; one that is neither is listed, and in no figure.

    Args:
        runs: runs, their directories, or folders with run directories anywhere in them.
        out: folder for ``table.md`` and ``report.html``.
        resamples, say: see `run_bench`.

    Raises:
        InputError: no run, the same run twice, damaged files, runs on data sets of one name that know
            different classes.
    """
    asked = [runs] if isinstance(runs, Run | str | os.PathLike) else runs
    groups = grouped(r.folder if isinstance(r, Run) else r for r in asked)
    return _written(groups, Path(out), "Runs side by side", resamples, say)


def _written(
    groups: Sequence[Group],
    out: Path,
    title: str,
    resamples: int,
    say: Callable[[str], None],
    failed: tuple[Job, ...] = (),
) -> Benched:
    found = Benched(tuple(rows(groups)), out / "table.md", out / "report.html", failed)
    write_text(found.table, f"{found}\n")
    write_bench_page(found.page, groups, title=title, resamples=resamples, say=say)
    return found
