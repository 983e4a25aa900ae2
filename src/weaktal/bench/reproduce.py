"""A published figure, measured: what `weaktal reproduce` does."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from weaktal.bench.cards import Card, card_of
from weaktal.bench.published import Published, published_of
from weaktal.core import Finding, InputError, did_you_mean, write_json
from weaktal.dataset import Dataset
from weaktal.evaluate import evaluate, file_sha256, get_protocol, intervals
from weaktal.formats import save_detections
from weaktal.methods import find_method
from weaktal.train.config import recipes
from weaktal.train.measure import Measure, load_proposals
from weaktal.train.reports import report_runs
from weaktal.train.training import train_run

PathLike = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Reproduction:
    """Measured beside published, in percent.

    Attributes:
        data, method: names.
        protocol: under which it was measured.
        tiou: thresholds.
        last, best: checkpoint -> seed -> (H,) mAP; `best` is the one with the best mAP on the test set, what
            most papers print.
        interval: of the average of the first seed's last checkpoint, over resampled videos.
        published: the figures beside it, the first decides.
        findings: what is not as in the papers.
        folder: of the runs and the report.
    """

    data: str
    method: str
    protocol: str
    tiou: tuple[float, ...]
    last: Mapping[int, np.ndarray]
    best: Mapping[int, np.ndarray]
    interval: tuple[float, float]
    published: tuple[Published, ...]
    findings: tuple[Finding, ...]
    folder: Path

    def rows(self) -> list[tuple[str, dict[str, float], dict[str, float] | None]]:
        """Name, figures by threshold and "average", and their deviation over seeds, of every row."""
        out = []
        for name, seeds in (("last checkpoint", self.last), ("best on the test set", self.best)):
            values = np.array([[*v, v.mean()] for v in seeds.values()])
            keys = [*(f"{t:g}" for t in self.tiou), "average"]
            spread = values.std(axis=0, ddof=1) if len(values) > 1 else None
            deviation = None if spread is None else dict(zip(keys, spread.tolist(), strict=True))
            out.append((name, dict(zip(keys, values.mean(axis=0).tolist(), strict=True)), deviation))
        return out

    def differences(self) -> dict[str, float]:
        """Best on the test set minus the first published figures, where these are known."""
        best = self.rows()[1][1]
        figures = self.published[0].figures if self.published else {}
        return {k: best[k] - v for k, v in figures.items() if k in best}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "data": self.data,
            "method": self.method,
            "protocol": self.protocol,
            "tiou": list(self.tiou),
            "last": {str(s): v.tolist() for s, v in self.last.items()},
            "best_on_test": {str(s): v.tolist() for s, v in self.best.items()},
            "interval_of_last_average": list(self.interval),
            "published": [p.model_dump() for p in self.published],
            "differences": self.differences(),
            "findings": [{"what": str(f), "grave": f.grave} for f in self.findings],
        }

    def __str__(self) -> str:
        keys = [*(f"{t:g}" for t in self.tiou), "average"]
        width = max(24, *(len(p.source[:60]) for p in self.published)) if self.published else 24
        lines = [
            f"{self.method} on {self.data}, protocol {self.protocol}, seeds {', '.join(map(str, self.last))}",
            f"{'mAP in %':{width}} " + " ".join(f"{k:>7}" for k in keys),
        ]
        for name, figures, deviation in self.rows():
            lines.append(f"{name:{width}} " + " ".join(f"{figures[k]:7.1f}" for k in keys))
            if deviation is not None:
                lines.append(f"{'  ± over seeds':{width}} " + " ".join(f"{deviation[k]:7.1f}" for k in keys))
        for entry in self.published:
            cells = (f"{entry.figures[k]:7.1f}" if k in entry.figures else f"{'-':>7}" for k in keys)
            lines.append(f"{entry.source[:60]:{width}} " + " ".join(cells))
        moved = self.differences()
        if moved:
            cells = (f"{moved[k]:+7.1f}" if k in moved else f"{'':7}" for k in keys)
            lines.append(f"{'best minus published':{width}} " + " ".join(cells))
        low, high = self.interval
        lines.append(f"last checkpoint, average: 95 % interval {low:.1f} to {high:.1f} over resampled videos")
        lines += [f"{'DIFFERENT' if f.grave else 'note'}: {f}" for f in self.findings]
        lines.append(f"report: {self.folder / 'report.html'}")
        return "\n".join(lines)


def what_to_get(method: str, data: str) -> str:
    """One page for those who have no data yet: what papers use, where to get it, and where to put it.

    Raises:
        InputError: no such method or data set.
    """
    card, kind = card_of(data), find_method(method)
    clicks = "\npoints: point_labels.csv      # one click an instance" if kind.supervision == "point" else ""
    rate = "" if card.rate is None else f", rate: {card.rate:g}"
    lists = " or ".join(f"{v} ({n:,} instances)" for v, n in card.test.items()) or "see the papers"
    lines = [
        f"{method} on {card.title} ({kind.supervision}-level labels)",
        "",
        f"classes {card.classes}; training videos {', '.join(map(str, card.train)) or 'see the papers'}; "
        f"test videos {lists}",
        f"features: {card.features}",
        "",
        *card.get.rstrip().splitlines(),
        "",
        "Put them side by side and describe them in a file, such as my.yaml:",
        "",
        f"name: {data}",
        f"annotations: gt.json          # or the folder of arrays{clicks}",
        "subsets: {train: train, test: test}   # our role: the file's own word",
        f"features: {{path: features{rate}}}",
        "",
        "then: weaktal data inspect my.yaml",
        f"      weaktal reproduce {method} {data} --data my.yaml",
    ]
    figures = published_of(data, method)
    if figures:
        lines += ["", "published:"]
        for entry in figures:
            shown = ", ".join(f"{k} {v:g}" for k, v in entry.figures.items()) or "no figures at hand"
            lines.append(f"  {shown}: {entry.source}")
    return "\n".join(lines)


def reproduce(
    method: str,
    data_name: str,
    data: Dataset | PathLike,
    out: PathLike,
    *,
    seeds: Sequence[int] = (0,),
    settings: Mapping[str, Any] | None = None,
    proposals: PathLike | None = None,
    evaluate_every: int = 10,
    anyway: bool = False,
    resume: bool = False,
    device: str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    progress: bool = False,
) -> Reproduction:
    """Check data, train by a paper's recipe, evaluate by its protocol, put it beside what is published.

    Args:
        method: its name.
        data_name: the public data set, whose recipe, card and figures are taken.
        data: the user's copy of it, or its description.
        out: folder for one run a seed, ``report.html`` and ``reproduction.json``.
        seeds: one run each.
        settings: hyper-parameters that shall differ from the recipe; they are told as findings.
        proposals: of a base locator, see `train_run`.
        evaluate_every: epochs between two looks at the test set, for "best on the test set".
        anyway: go on where data differ gravely from the card; the differences stay in the result.
        resume: continue what is in `out`.
        device, precision, compile, progress: see `train_run`.

    Raises:
        InputError: no such method, data set or recipe; data that are not those of the papers, with the first
            cause, unless `anyway`; see `train_run`.
    """
    card, known = card_of(data_name), recipes(method)
    find_method(method)
    if data_name not in known:
        raise InputError(
            f"{method} has no recipe for {data_name}",
            expected="one of " + ", ".join(known),
            hint=did_you_mean(data_name, known),
        )
    dataset = data if isinstance(data, Dataset) else Dataset.load(data)
    findings = list(_checked(card, dataset, anyway=anyway))
    findings += [
        Finding(f"setting {k} = {v}, not the recipe's", grave=True) for k, v in (settings or {}).items()
    ]
    figures = published_of(data_name, method)
    rule = get_protocol(figures[0].protocol if figures else "activitynet")
    ignore = bool(figures and figures[0].ignore)
    videos = figures[0].test_videos if figures else None
    test = dataset.subset("test")
    if videos is not None and videos != len(test):
        findings.append(
            Finding(f"the published figures are over {videos} test videos, yours over {len(test)}")
        )
    if ignore and not any(len(v.ignored) for v in test):
        findings.append(
            Finding("the published code leaves out ambiguous intervals", hint="name them with ignore:")
        )
    if data_name.startswith("activitynet"):
        rule = replace(rule, tiou=tuple(round(0.5 + 0.05 * i, 2) for i in range(10)))
    out = Path(out)
    last: dict[int, np.ndarray] = {}
    best: dict[int, np.ndarray] = {}
    interval = (0.0, 0.0)
    folders = []
    for seed in seeds:
        trained = train_run(
            method,
            dataset,
            out / f"seed{seed}",
            recipe=data_name,
            settings=settings,
            seed=seed,
            proposals=proposals,
            protocol=rule.name,
            evaluate_every=evaluate_every,
            choose="best-on-test",
            resume=resume,
            device=device,
            precision=precision,
            compile=compile,
            progress=progress,
        )
        run = trained.run
        folders.append(run.folder)
        segments = load_proposals(run.config.data.get("proposals"), dataset)
        measure = Measure(dataset, proposals=segments, scratch=run.folder / "features")
        into: dict[Literal["last", "best"], dict[int, np.ndarray]] = {"last": last, "best": best}
        for which, kept in into.items():
            found = measure.detections(run.method(which))
            save_detections(found, run.folder / f"detections-{which}.json")
            kept[seed] = 100 * evaluate(found, measure.annotations, rule, ignore=ignore or None).mean_ap
            if which == "last" and seed == seeds[0]:
                sure = intervals(found, measure.annotations, rule, ignore=ignore or None).average
                interval = 100 * sure.low, 100 * sure.high
    result = Reproduction(
        data_name, method, rule.name, rule.tiou, last, best, interval, figures, tuple(findings), out
    )
    plain = {**result.to_dict(), "annotation_sha256": file_sha256(dataset.annotation_file or dataset.path)}
    write_json(out / "reproduction.json", plain)
    beside = {
        f"published: {p.source}": [p.mAP[t] / 100 for t in rule.tiou]
        for p in figures
        if all(t in p.mAP for t in rule.tiou)
    }
    report_runs(
        [folder / "detections-last.json" for folder in folders],
        out / "report.html",
        data=dataset,
        protocol=rule.name,
        chance=False,
        beside=beside,
        notes=str(result).splitlines(),
    )
    return result


def _checked(card: Card, dataset: Dataset, *, anyway: bool) -> list[Finding]:
    """What the card says of the data; the first grave finding is raised, with all others in its hint."""
    found = card.check(dataset)
    grave = [f for f in found if f.grave]
    if grave and not anyway:
        others = "; ".join(str(f) for f in grave[1:])
        raise InputError(
            f"these are not the data of the papers on {card.title}",
            file=dataset.path,
            found=str(grave[0]) + (f"; also: {others}" if others else ""),
            hint="mend them, or go on with --anyway: the differences then stand in the result",
        )
    return found
