"""Runs on a page: groups side by side, every seed a dot, how sure the differences are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from weaktal.bench.groups import LAST, Group, Measured, Member, differing
from weaktal.bench.table import BEST, Row, cell, columns_of, rows
from weaktal.core import Annotations, InputError
from weaktal.dataset import Dataset
from weaktal.evaluate import Interval, compare_groups, get_protocol, holm
from weaktal.evaluate.intervals import RESAMPLES
from weaktal.formats import load_detections
from weaktal.report.charts import (
    Lane,
    LaneChart,
    Line,
    LineChart,
    Mark,
    Scale,
    lane_chart,
    line_chart,
    thinned,
)
from weaktal.report.page import render_page
from weaktal.report.tables import Cell, Table
from weaktal.report.tables import Row as TableRow

LEVEL = 0.95
RULES = {
    LAST: "last",
    "weak": "by labels",
    BEST: "best on test",
}
KINDS = {**RULES, "difference": "best minus last", "published": "published"}
REMARK = "mAP in percent, mean ± standard deviation over runs that differ in their seed alone."
PUBLISHED = " Published figures are of real I3D features."


def write_bench_page(
    path: str | os.PathLike[str],
    groups: Sequence[Group],
    *,
    title: str = "Runs side by side",
    resamples: int = RESAMPLES,
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """One self-contained page of groups of runs.

    Args:
        path: the HTML file; written whole or not at all.
        groups: see `weaktal.bench.groups`.
        title: the heading.
        resamples: of the test videos, for intervals and paired tests; 0 for neither.
        say: told what takes time.

    Raises:
        InputError: damaged logs or detections of a run.
    """
    datas = list(dict.fromkeys(g.data for g in groups))
    notes = [note for g in groups for note in _group_notes(g)]
    sections = []
    for number, data in enumerate(datas):
        mine = [g for g in groups if g.data == data]
        sure = _Sureness()
        if resamples and any(g.done for g in mine):
            say(f"{data}: intervals and tests by {resamples} resamples of the videos")
            sure = _sureness(mine, resamples)
        notes += [f"{data}: {note}" if len(datas) > 1 else note for note in sure.notes]
        sections.append(_section(f"data-{number}", data, mine, sure))
    done = sum(len(g.done) for g in groups)
    seeds = dict.fromkeys(m.seed for g in groups for m in g.members)
    facts = {
        "data": ", ".join(datas),
        "runs": f"{done} of {sum(len(g.members) for g in groups)} done, in {len(groups)} groups",
        "seeds": ", ".join(map(str, seeds)),
        **_versions(groups),
    }
    render_page(
        path,
        "bench.html.jinja",
        title=title,
        facts=facts,
        notes=list(dict.fromkeys(notes)),
        sections=sections,
        overview=_overview(groups, datas),
        remark=REMARK + (PUBLISHED if any(g.published for g in groups) else ""),
        resamples=f"{resamples:,}",
        level=f"{100 * LEVEL:g}",
    )


@dataclass(frozen=True)
class _Sureness:
    """What resampling says of the groups of a section, by their places in it; in percent."""

    means: dict[int, Interval] = field(default_factory=dict)
    pairs: dict[tuple[int, int], Interval] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def _sureness(groups: Sequence[Group], resamples: int) -> _Sureness:
    """Intervals of the groups whose detections of the last checkpoint are there, and tests between them."""
    out = _Sureness()
    try:
        annotations = _annotations(groups)
    except InputError as error:
        return _Sureness(notes=[f"no intervals: {error}"])
    by_protocol: dict[tuple[str, tuple[float, ...]], list[int]] = {}
    for i, group in enumerate(groups):
        files = [_last_detections(m) for m in group.done]
        if not files:
            continue
        if None in files:
            out.notes.append(f"{group.name}: no intervals, detections of the last checkpoint were not kept")
            continue
        first = group.measured[0]
        by_protocol.setdefault((first.protocol, first.tiou), []).append(i)
    for (protocol, tiou), places in by_protocol.items():
        found = [
            [load_detections(p, annotations.classes) for m in groups[i].done if (p := _last_detections(m))]
            for i in places
        ]
        try:
            sure = compare_groups(
                found, annotations, get_protocol(protocol), tiou=tiou, resamples=resamples, level=LEVEL
            )
        except InputError as error:
            out.notes.append(f"no intervals: {error}")
            continue
        for i, mean in zip(places, sure.means, strict=True):
            told = float(np.mean([_last(m)["average"] for m in groups[i].measured]))
            if abs(100 * mean.average.value - told) > 0.05:
                now = f"{100 * mean.average.value:.1f} now, {told:.1f} when it was evaluated"
                out.notes.append(
                    f"{groups[i].name}: no intervals, annotations or detections have changed ({now})"
                )
            else:
                out.means[i] = mean.average
        for a, b in combinations(range(len(places)), 2):
            i, j = places[a], places[b]
            if i in out.means and j in out.means:
                out.pairs[i, j] = sure.differences[a, b].average
    return out


def _annotations(groups: Sequence[Group]) -> Annotations:
    """Of the test subset, from the description that the first run names."""
    run = next(m.run for g in groups for m in g.done if m.run is not None)
    return Dataset.load(run.config.data.get("path") or "").subset("test")


def _last_detections(member: Member) -> Any:
    """The file with what the last checkpoint found, if there is one."""
    assert member.measured is not None
    name = "detections.json" if member.measured.checkpoint == LAST else "detections-last.json"
    path = member.folder / name
    return path if path.exists() else None


def _last(measured: Measured) -> dict[str, float]:
    """Figures of the last checkpoint; of the only one that there is, where it has no such."""
    rules = measured.by_rule
    return rules.get(LAST) or rules[measured.checkpoint]


def _ap(measured: Measured) -> np.ndarray:
    """(C,) average precision per class of the last checkpoint in percent, mean over thresholds."""
    found = measured.last or measured
    mean: np.ndarray = 100 * np.array(found.ap, np.float64).mean(axis=0)
    return mean


# --------------------------------------------------------------------------------------- a section


def _section(id: str, data: str, groups: Sequence[Group], sure: _Sureness) -> dict[str, Any]:
    found = rows(groups)
    courses = [c for i, g in enumerate(groups) if (c := _course(i, g, _highest(groups)))["charts"]]
    return {
        "id": id,
        "name": data,
        "facts": _test_facts(groups),
        "summary": _summary(f"{id}-table", "Mean average precision", found, groups, sure),
        "names": [(i, g.name) for i, g in enumerate(groups) if g.done],
        "marks": _marks(groups),
        "seeds": _seeds(groups, sure),
        "joined": any(len(m.by_rule) > 1 for g in groups for m in g.measured),
        "spans": bool(sure.means),
        "banded": any(len(g.done) > 1 for g in groups),
        "curves": _map_curves(groups),
        "differences": _differences(f"{id}-differences", groups, sure),
        "difference_lanes": _difference_lanes(groups, sure),
        "tests": len(sure.pairs),
        "classes": _classes(f"{id}-classes", groups),
        "courses": courses,
        "settings": _settings(f"{id}-settings", groups),
        "runs": _runs(f"{id}-runs", groups),
    }


def _test_facts(groups: Sequence[Group]) -> dict[str, str]:
    """Against what the groups of a section were evaluated."""
    done = [m for g in groups for m in g.measured]
    found = {"protocol": [m.protocol for m in done], "test subset": [m.test_list for m in done]}
    return {key: " and ".join(dict.fromkeys(values)) for key, values in found.items() if values}


def _summary(
    id: str, caption: str, found: Sequence[Row], groups: Sequence[Group], sure: _Sureness | None = None
) -> Table:
    """The table of `weaktal.bench.table.markdown`; the best of the last checkpoints stand out."""
    keys = columns_of(found)
    best = {k: max((r.mean[k] for r in found if r.kind == LAST and k in r.mean), default=None) for k in keys}
    several = len({r.protocol for r in found if r.protocol}) > 1
    places = {g.name: i for i, g in enumerate(groups)}
    lines = []
    for row in found:
        cells = [Cell(row.method, color=places[row.method]), Cell(KINDS[row.kind])]
        cells += [Cell(row.protocol or "-")] if several else []
        cells.append(Cell(str(row.runs or "-"), row.runs))
        for k in keys:
            strong = row.kind == LAST and k in row.mean and row.mean[k] == best[k]
            cells.append(Cell(cell(row, k), row.mean.get(k, np.nan), strong=strong))
        if sure is not None and sure.means:
            mean = sure.means.get(places[row.method]) if row.kind == LAST else None
            text = "" if mean is None else f"{100 * mean.low:.1f} to {100 * mean.high:.1f}"
            cells.append(Cell(text, np.nan if mean is None else 100 * mean.low))
        lines.append(TableRow(cells, soft=row.kind in ("difference", "published")))
    columns = ["group", "checkpoint", *(["protocol"] if several else []), "runs"]
    columns += [k if k == "average" else f"@{k}" for k in keys]
    columns += [f"{100 * LEVEL:g} % interval"] if sure is not None and sure.means else []
    return Table(id, caption, columns, lines)


def _overview(groups: Sequence[Group], datas: Sequence[str]) -> Table:
    """Average mAP of the last checkpoint of groups of one name on every data set."""
    found = {(r.data, r.method): r for r in rows(groups) if r.kind == LAST}
    names = list(dict.fromkeys(g.name for g in groups))
    lines = []
    for name in names:
        row = [found.get((data, name)) for data in datas]
        cells = [Cell("-", np.nan) if r is None else Cell(cell(r, "average"), r.mean["average"]) for r in row]
        lines.append(TableRow([Cell(name), *cells]))
    return Table("overview", "Average mAP of the last checkpoint", ["group", *datas], lines)


def _marks(groups: Sequence[Group]) -> dict[str, str]:
    """What marks of `_seeds` mean."""
    there = {rule for g in groups for rule in g.rules} | {
        "published" for g in groups if _published(g) is not None
    }
    return {kind: text for kind, text in KINDS.items() if kind in there}


def _published(group: Group) -> float | None:
    return group.published[0].figures.get("average") if group.published else None


def _seeds(groups: Sequence[Group], sure: _Sureness) -> LaneChart | None:
    """Average mAP of every run on a lane of its group."""
    values = [f["average"] for g in groups for m in g.measured for f in m.by_rule.values()]
    if not values:
        return None
    values += [p for g in groups if (p := _published(g)) is not None]
    values += [100 * v for mean in sure.means.values() for v in (mean.low, mean.high)]
    scale = Scale.of(values)
    lanes = []
    for i, group in enumerate(groups):
        done = group.done
        step = min(9.0, 90 / max(1, len(done)))
        height = max(30.0, step * len(done) + 12)
        marks, joins, said = [], [], []
        for k, member in enumerate(done):
            assert member.measured is not None
            up = height / 2 + step * (k - (len(done) - 1) / 2)
            figures = {rule: f["average"] for rule, f in member.measured.by_rule.items()}
            places = [scale.percent(v) for v in figures.values()]
            if len(places) > 1:
                joins.append((min(places), max(places), up))
            for rule, value in reversed(figures.items()):  # the last checkpoint on top
                text = f"{group.name}, seed {member.seed}, {RULES.get(rule, rule)}: {value:.1f}"
                marks.append(Mark(rule, scale.percent(value), up, text))
            shown = ", ".join(f"{RULES.get(rule, rule)} {v:.1f}" for rule, v in figures.items())
            said.append(f"seed {member.seed} {shown}")
        published = _published(group)
        if published is not None:
            title = f"published: {published:g} ({group.published[0].source})"
            marks.append(Mark("published", scale.percent(published), height / 2, title))
            said.append(title)
        last = [_last(m)["average"] for m in group.measured]
        mean = float(np.mean(last)) if last else None
        text = "no run is done" if mean is None else f"{mean:.1f}"
        text += f" ± {np.std(last, ddof=1):.1f}" if len(last) > 1 else ""
        span = None
        if i in sure.means:
            m = sure.means[i]
            title = f"{100 * LEVEL:g} % interval {100 * m.low:.1f} to {100 * m.high:.1f}"
            span = (scale.percent(100 * m.low), scale.percent(100 * m.high), title)
            said.append(title)
        label = f"{group.name}, average mAP: {'; '.join(said) or text}"
        at = None if mean is None else scale.percent(mean)
        lanes.append(Lane(group.name, i, label, text, height, marks, joins, span, at))
    return lane_chart(lanes, scale, "average mAP in %")


def _map_curves(groups: Sequence[Group]) -> LineChart | None:
    """mAP of the last checkpoint over the thresholds."""
    lines, said = [], []
    for i, group in enumerate(groups):
        if not group.done:
            continue
        each = [{k: v for k, v in _last(m).items() if k != "average"} for m in group.measured]
        tiou = [float(k) for k in each[0]]
        values = np.array([list(e.values()) for e in each])
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1) if len(values) > 1 else None
        titles = [
            f"{group.name} at {t:g}: {m:.1f}" + ("" if spread is None else f" ± {spread[k]:.1f}")
            for k, (t, m) in enumerate(zip(tiou, mean, strict=True))
        ]
        low, high = (None, None) if spread is None else (mean - spread, mean + spread)
        lines.append(Line(group.name, i, tiou, mean, low, high, titles))
        said.append(f"{group.name} {mean[0]:.1f} at {tiou[0]:g} to {mean[-1]:.1f} at {tiou[-1]:g}")
    if not lines:
        return None
    highest = [np.ravel(line.y if line.high is None else line.high) for line in lines]
    thresholds = sorted({float(t) for line in lines for t in np.ravel(line.x)})
    margin = 0.05 * (thresholds[-1] - thresholds[0]) or 0.05
    return line_chart(
        lines,
        label="mAP over tIoU: " + "; ".join(said),
        x_label="tIoU",
        y_label="mAP in %",
        x=Scale(thresholds[0] - margin, thresholds[-1] + margin, tuple(thresholds)),
        y=Scale.of(np.concatenate(highest), zero=True),
    )


def _pair_name(groups: Sequence[Group], i: int, j: int) -> str:
    return f"{groups[j].name} minus {groups[i].name}"


def _differences(id: str, groups: Sequence[Group], sure: _Sureness) -> Table | None:
    """The paired tests."""
    if not sure.pairs:
        return None
    adjusted = holm([d.p_value for d in sure.pairs.values()])
    lines = []
    for ((i, j), d), p in zip(sure.pairs.items(), adjusted, strict=True):
        cells = [
            Cell(_pair_name(groups, i, j)),
            Cell(f"{100 * d.value:+.1f}", 100 * d.value),
            Cell(f"{100 * d.low:+.1f} to {100 * d.high:+.1f}", 100 * d.low),
            Cell(f"{d.p_value:.3f}", d.p_value),
        ]
        cells += [Cell(f"{p:.3f}", p)] if len(adjusted) > 1 else []
        lines.append(TableRow(cells))
    columns = ["groups", "difference", f"{100 * LEVEL:g} % interval", "p"]
    columns += ["p (Holm)"] if len(adjusted) > 1 else []
    return Table(id, "Differences between groups", columns, lines)


def _difference_lanes(groups: Sequence[Group], sure: _Sureness) -> LaneChart | None:
    if not sure.pairs:
        return None
    scale = Scale.of(
        [100 * v for d in sure.pairs.values() for v in (d.low, d.high, d.value)], zero=True, most=5
    )
    lanes = []
    for (i, j), d in sure.pairs.items():
        name = _pair_name(groups, i, j)
        at, text = scale.percent(100 * d.value), f"{100 * d.value:+.1f}"
        title = f"{name}: {text}, {100 * LEVEL:g} % interval {100 * d.low:+.1f} to {100 * d.high:+.1f}"
        span = (scale.percent(100 * d.low), scale.percent(100 * d.high), title)
        lanes.append(Lane(name, j, title, text, 24, [Mark(LAST, at, 12, title)], (), span))
    return lane_chart(lanes, scale, "points of average mAP")


def _classes(id: str, groups: Sequence[Group]) -> Table | None:
    """Average precision of every class that counts, a column for each group."""
    there = [g for g in groups if g.done]
    if not there:
        return None
    classes = list(dict.fromkeys(c for g in there for m in g.measured for c in m.classes))
    values = np.full((len(classes), len(there)), np.nan)
    titles = [["" for _ in there] for _ in classes]
    for j, group in enumerate(there):
        for c, name in enumerate(classes):
            seen = [
                (m.seed, float(_ap(x)[x.classes.index(name)]))
                for m, x in zip(group.done, group.measured, strict=True)
                if name in x.classes
            ]
            if seen:
                values[c, j] = np.mean([v for _, v in seen])
                titles[c][j] = f"{group.name}: " + ", ".join(f"seed {s} {v:.1f}" for s, v in seen)
    lines = []
    for c, name in enumerate(classes):
        cells = [Cell(name)]
        for j in range(len(there)):
            v = float(values[c, j])
            known = np.isfinite(v)
            cells.append(Cell(f"{v:.1f}" if known else "-", v, titles[c][j], heat=v / 100 if known else None))
        if len(there) > 1:
            spread = float(np.nanmax(values[c]) - np.nanmin(values[c]))
            cells.append(Cell(f"{spread:.1f}", spread))
        lines.append(TableRow(cells))
    means = [float(np.mean([_last(m)["average"] for m in g.measured])) for g in there]
    foot = [Cell("mean over classes"), *(Cell(f"{v:.1f}", v) for v in means)]
    foot += [Cell(f"{max(means) - min(means):.1f}")] if len(there) > 1 else []
    columns = ["class", *(g.name for g in there), *(["range"] if len(there) > 1 else [])]
    return Table(id, "Average precision per class", columns, lines, [TableRow(foot)])


# --------------------------------------------------------------------------------------- training


def _highest(groups: Sequence[Group]) -> float:
    found = [m.course.average.max(initial=0.0) for g in groups for m in g.members]
    return float(max(found, default=0.0))


def _course(place: int, group: Group, highest: float) -> dict[str, Any]:
    """How the runs of a group were trained: mAP at evaluations, and the loss."""
    measured, losses = [], []
    for member in group.members:
        course = member.course
        if len(course.average):
            titles = [
                f"seed {member.seed}, after {step} steps: {v:.1f}"
                for step, v in zip(course.evaluated, course.average, strict=True)
            ]
            name = f"seed {member.seed}"
            measured.append(Line(name, place, course.evaluated, course.average, titles=titles))
        if np.isfinite(course.total).any():
            x, y = thinned(course.step + 1, course.total)
            losses.append(Line(f"seed {member.seed}, {member.state}", place, x, y, faint=True))
    charts = []
    if measured:
        said = "; ".join(f"{x.name} ends at {np.ravel(x.y)[-1]:.1f}" for x in measured)
        charts.append(
            _small(measured, f"{group.name}, average mAP as training went: {said}", "mAP in %", [0, highest])
        )
    if losses:
        said = "; ".join(f"{x.name}: {np.ravel(x.y)[0]:.3g} to {np.ravel(x.y)[-1]:.3g}" for x in losses)
        values = np.concatenate([np.ravel(x.y) for x in losses])
        charts.append(_small(losses, f"{group.name}, loss as training went: {said}", "loss", values))
    return {"name": group.name, "color": place, "charts": charts}


def _small(lines: Sequence[Line], label: str, y_label: str, values: Any) -> LineChart:
    steps = Scale.of(np.concatenate([np.ravel(line.x) for line in lines]), zero=True, most=4)
    return line_chart(
        lines,
        label=label,
        x_label="training steps",
        y_label=y_label,
        x=steps,
        y=Scale.of(values, most=4),
        width=340,
        height=180,
    )


# ------------------------------------------------------------------------------------------- words


def _settings(id: str, groups: Sequence[Group]) -> Table | None:
    """What differs, a row for each setting."""
    found = differing(groups)
    if not found:
        return None
    lines = [TableRow([Cell(key), *(Cell(v) for v in values)]) for key, values in found.items()]
    return Table(id, "Settings in which groups differ", ["setting", *(g.name for g in groups)], lines)


def _runs(id: str, groups: Sequence[Group]) -> Table:
    rules = [r for r in RULES if any(r in g.rules for g in groups)]
    lines = []
    for i, group in enumerate(groups):
        for member in group.members:
            figures = {} if member.measured is None else member.measured.by_rule
            cells = [Cell(group.name, color=i), Cell(str(member.seed), member.seed), Cell(member.state)]
            for rule in rules:
                value = figures[rule]["average"] if rule in figures else np.nan
                cells.append(Cell(f"{value:.2f}" if rule in figures else "-", value))
            cells += [Cell(f"{len(member.course.step):,}", len(member.course.step)), Cell(str(member.folder))]
            lines.append(TableRow(cells))
    columns = ["group", "seed", "state", *(RULES[r] for r in rules), "steps", "folder"]
    return Table(id, "Runs, and their average mAP", columns, lines)


def _group_notes(group: Group) -> Iterable[str]:
    """What to know about the runs of a group."""
    where = f"{group.name} on {group.data}"
    open_ = [m for m in group.members if m.measured is None]
    if open_:
        said = "; ".join(f"seed {m.seed}: {m.state}" for m in open_)
        yield f"{where}: {len(open_)} of {len(group.members)} runs are not done ({said}), and in no figure"
    seeds = [m.seed for m in group.members]
    for seed in dict.fromkeys(s for s in seeds if seeds.count(s) > 1):
        times = seeds.count(seed)
        yield f"{where}: seed {seed} is there {times} times; on one machine these are no independent runs"
    lists = dict.fromkeys(m.test_list for m in group.measured)
    if len(lists) > 1:
        yield f"{where}: the annotations changed between its runs ({' and '.join(lists)})"
    for note in dict.fromkeys(n for m in group.measured for n in m.notes):
        yield f"{where}: {note}"


def _versions(groups: Sequence[Group]) -> dict[str, str]:
    """Of what decides the numbers; all, where runs differ."""
    configs = [m.run.config for g in groups for m in g.members if m.run is not None]
    out = {}
    for name in ("weaktal", "torch"):
        found = sorted({c.versions[name] for c in configs if name in c.versions})
        if found:
            out[name] = " and ".join(found)
    return out
