"""The table of a bench: mean and standard deviation over seeds, beside the published figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.bench.plan import Plan
from weaktal.bench.published import published_of


@dataclass(frozen=True)
class Row:
    """Figures of one method on one data set, in percent.

    Attributes:
        data, method: names in the plan.
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


def rows(plan: Plan, out: Path) -> list[Row]:
    """All rows of the runs that are done, in the order of the plan."""
    found: list[Row] = []
    for data, described in plan.data.items():
        for method, entry in plan.methods.items():
            folder = out / "runs" / data / method
            paths = [folder / f"seed{s}" / "metrics.json" for s in plan.seeds]
            metrics = [json.loads(p.read_text(encoding="utf-8")) for p in paths if p.exists()]
            if metrics:
                found += _of_runs(data, method, metrics)
            published = published_of(described.published or "", str(entry.method))
            if published and published[0].figures:
                found.append(Row(data, method, "published", "", 0, published[0].figures, None))
    return found


def _of_runs(data: str, method: str, metrics: Sequence[dict[str, Any]]) -> list[Row]:
    protocol = metrics[0]["protocol"]
    chosen = [_figures(m) for m in metrics]
    if "last" not in metrics[0]:
        return [_row(data, method, metrics[0]["checkpoint"], protocol, chosen)]
    last = [_figures(m["last"]) for m in metrics]
    gain = [{k: c[k] - x[k] for k in c} for c, x in zip(chosen, last, strict=True)]
    kinds = [("last", last), (metrics[0]["checkpoint"], chosen), ("difference", gain)]
    if all("weak" in m for m in metrics):
        kinds.insert(1, ("weak", [m["weak"] for m in metrics]))
    return [_row(data, method, kind, protocol, figures) for kind, figures in kinds]


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
    each = {f"{t:.2g}": 100 * m for t, m in zip(metrics["tiou"], metrics["mAP"], strict=True)}
    return {**each, "average": 100 * metrics["average_mAP"]}


def _row(data: str, method: str, kind: str, protocol: str, figures: Sequence[dict[str, float]]) -> Row:
    values = {k: np.array([f[k] for f in figures]) for k in figures[0]}
    std = {k: float(v.std(ddof=1)) for k, v in values.items()} if len(figures) > 1 else None
    return Row(
        data, method, kind, protocol, len(figures), {k: float(v.mean()) for k, v in values.items()}, std
    )


def markdown(found: Sequence[Row]) -> str:
    """The rows as a Markdown table: mAP in percent, mean ± standard deviation over seeds.

    >>> row = Row("toy", "lac", "last", "activitynet", 3, {"0.5": 44.7, "average": 50.4}, {"0.5": 1.0,
    ...     "average": 0.5})
    >>> print(markdown([row]))
    | data | method | checkpoint | protocol | runs | 0.5 | average |
    |---|---|---|---|---|---|---|
    | toy | lac | last | activitynet | 3 | 44.7 ± 1.0 | 50.4 ± 0.5 |
    """
    thresholds = list(dict.fromkeys(k for r in found for k in r.mean if k != "average"))
    columns = [*sorted(thresholds, key=float), "average"]
    lines = [["data", "method", "checkpoint", "protocol", "runs", *columns], ["---"] * (5 + len(columns))]
    for row in found:
        cells = [row.data, row.method, row.kind, row.protocol or "-", str(row.runs or "-")]
        lines.append(cells + [_cell(row, k) for k in columns])
    text = ["| " + " | ".join(line) + " |" for line in lines]
    text[1] = text[1].replace(" ", "")
    return "\n".join(text)


def _cell(row: Row, key: str) -> str:
    if key not in row.mean:
        return "-"
    sign = "+" if row.kind == "difference" else ""
    spread = f" ± {row.std[key]:.1f}" if row.std is not None else ""
    return f"{row.mean[key]:{sign}.1f}{spread}"
