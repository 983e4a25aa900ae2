"""Methods x data sets x seeds, run and in one table: what `weaktal bench` does."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from weaktal.bench.execute import execute
from weaktal.bench.plan import Job, Plan
from weaktal.bench.table import Row, markdown, rows
from weaktal.core import write_text

PathLike = str | os.PathLike[str]
NOTE = "mAP in percent, mean ± standard deviation over seeds; published figures are of real I3D features."


@dataclass(frozen=True)
class Benched:
    """What a bench has found so far.

    Attributes:
        rows: of the table, in the order of the plan.
        table: the file that holds the table as Markdown.
        failed: runs that failed now.
    """

    rows: tuple[Row, ...]
    table: Path
    failed: tuple[Job, ...] = ()

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as plain values, for JSON."""
        return [asdict(row) for row in self.rows]

    def __str__(self) -> str:
        return f"{markdown(self.rows)}\n\n{NOTE}"


def run_bench(
    plan: Plan | PathLike,
    out: PathLike,
    *,
    jobs: int | None = None,
    only_table: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Benched:
    """Do all runs of a plan that are not done yet, and write the table of those that are, ``table.md``.

    Args:
        plan: methods, data sets and seeds, or their file.
        out: the bench's folder.
        jobs: runs at a time; by default what the machine takes.
        only_table: run nothing.
        say: told a line when a run begins or ends.

    Raises:
        InputError: a wrong plan, or a folder that holds a bench with other settings.
    """
    plan, out = plan if isinstance(plan, Plan) else Plan.load(plan), Path(out)
    failed = () if only_table else execute(plan, out, jobs=jobs, say=say)
    found = Benched(tuple(rows(plan, out)), out / "table.md", tuple(failed))
    write_text(found.table, f"{found}\n")
    return found
