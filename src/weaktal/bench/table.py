"""The table of a bench: mean and standard deviation over seeds, beside the published figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from weaktal.bench.groups import LAST, Group

BEST = "best-on-test"


@dataclass(frozen=True)
class Row:
    """Figures of one group of runs, in percent.

    Attributes:
        data, method: names of the data set and of the group on it (in a plan, of its entries).
        kind: "last", "weak" (chosen by the labels of the training videos), "best-on-test", "difference"
            (best-on-test minus last) or "published".
        protocol: name of the evaluation protocol; "" for published figures.
        runs: how many seeds.
        mean, std: by threshold, and "average"; the sample standard deviation, None for one run.
    """

    data: str
    method: str
    kind: str
    protocol: str
    runs: int
    mean: dict[str, float]
    std: dict[str, float] | None


def rows(groups: Sequence[Group]) -> list[Row]:
    """The rows of groups, in their order: by rule, what the choice makes, published figures.

    A rule's row is over the runs that have it; a run that is not done is in no row.
    """
    found: list[Row] = []
    for group in groups:
        figures = [m.by_rule for m in group.measured]
        found += [_row(group, rule, [f[rule] for f in figures if rule in f]) for rule in group.rules]
        if BEST in group.rules:
            both = [f for f in figures if BEST in f and LAST in f]
            gain = [{k: f[BEST][k] - f[LAST][k] for k in f[LAST]} for f in both]
            found += [_row(group, "difference", gain)] if gain else []
        if group.published and group.published[0].figures:
            found.append(Row(group.data, group.name, "published", "", 0, group.published[0].figures, None))
    return found


def _row(group: Group, kind: str, figures: Sequence[dict[str, float]]) -> Row:
    values = {k: np.array([f[k] for f in figures]) for k in figures[0]}
    mean = {k: float(v.mean()) for k, v in values.items()}
    std = {k: float(v.std(ddof=1)) for k, v in values.items()} if len(figures) > 1 else None
    return Row(group.data, group.name, kind, group.measured[0].protocol, len(figures), mean, std)


def markdown(found: Sequence[Row]) -> str:
    """The rows as a Markdown table: mAP in percent, mean ± standard deviation over seeds.

    >>> row = Row("toy", "lac", "last", "activitynet", 3, {"0.5": 44.7, "average": 50.4}, {"0.5": 1.0,
    ...     "average": 0.5})
    >>> print(markdown([row]))
    | data | method | checkpoint | protocol | runs | 0.5 | average |
    |---|---|---|---|---|---|---|
    | toy | lac | last | activitynet | 3 | 44.7 ± 1.0 | 50.4 ± 0.5 |
    """
    columns = columns_of(found)
    lines = [["data", "method", "checkpoint", "protocol", "runs", *columns], ["---"] * (5 + len(columns))]
    for row in found:
        cells = [row.data, row.method, row.kind, row.protocol or "-", str(row.runs or "-")]
        lines.append(cells + [cell(row, k) for k in columns])
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text)


def columns_of(found: Sequence[Row]) -> list[str]:
    """The thresholds of rows, ascending, and "average"."""
    thresholds = {k for row in found for k in row.mean if k != "average"}
    return [*sorted(thresholds, key=float), "average"]


def cell(row: Row, key: str) -> str:
    """A figure of a row with its deviation, "-" where there is none."""
    if key not in row.mean:
        return "-"
    sign = "+" if row.kind == "difference" else ""
    spread = f" ± {row.std[key]:.1f}" if row.std is not None else ""
    return f"{row.mean[key]:{sign}.1f}{spread}"
