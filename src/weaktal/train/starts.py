"""One method from several seeds, and of these the run that fits the known labels best.

How a weakly-supervised training ends depends on its seed, and without test labels nobody sees how it ended.
Here N seeds are trained, each a run of its own in ``RUN/starts/seedK``, and the one with the highest TL (see
`weaktal.train.select`) becomes the run in RUN. No test label is looked at.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from weaktal.core import CoverageWarning, InputError, write_text
from weaktal.dataset import Dataset
from weaktal.methods import command_word, find_method
from weaktal.methods.protocol import SnippetMethod, TrainingData
from weaktal.train.children import Child, run_children
from weaktal.train.config import resolve_config
from weaktal.train.data import describe_data, training_data, training_notes
from weaktal.train.loop import Rule, launch
from weaktal.train.measure import Measure
from weaktal.train.run import Run, TrainingSettings, training_settings
from weaktal.train.select import training_likelihood

PathLike = str | os.PathLike[str]
FOLDER, TABLE, OUTPUT = "starts", "starts.json", "output.txt"
# what stays with a start and does not belong to the run that it becomes
ITS_OWN = (OUTPUT, ".lock", "features")


@dataclass(frozen=True)
class Start:
    """A training from one seed.

    Attributes:
        seed: of every random choice.
        folder: its run directory.
        likelihood: TL, or None if it failed.
        error: why it failed.
    """

    seed: int
    folder: Path
    likelihood: float | None
    error: str | None = None


@dataclass(frozen=True)
class Started:
    """Several starts, and the one that became the run.

    Attributes:
        run: its directory.
        starts: all of them, by seed.
        pick: seed of the one with the highest TL.
        early: the share of the schedule after which it was picked; None for the whole.
        metrics: what ``metrics.json`` holds, if the run was evaluated.
    """

    run: Run
    starts: tuple[Start, ...]
    pick: int
    early: float | None = None
    metrics: Mapping[str, Any] | None = None

    @property
    def runs(self) -> tuple[Path, ...]:
        """Directories of the starts that ended well and whose weights are there."""
        return tuple(
            s.folder for s in self.starts if s.error is None and (s.folder / "checkpoints/last").exists()
        )

    def __str__(self) -> str:
        """The table of TL."""
        after = "" if self.early is None else f" after {100 * self.early:.0f} % of the schedule"
        lines = [f"seed  TL (mean log of the class scores at the training videos' labels{after})"]
        for start in self.starts:
            found = f"failed: {start.error}" if start.likelihood is None else f"{start.likelihood:.4f}"
            lines.append(
                f"{start.seed:4}  {found}" + ("  this is the run" if start.seed == self.pick else "")
            )
        if not self.runs:
            lines.append("the weights of the others are deleted; --keep keeps them, for weaktal fuse")
        return "\n".join(lines)


def train_starts(
    method: str,
    data: Dataset | PathLike,
    out: PathLike,
    *,
    starts: int = 5,
    early: float | None = None,
    keep: bool = False,
    jobs: int | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    subset: str = "train",
    resume: bool = False,
    device: str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    max_memory: str | None = None,
    evaluate: bool = False,
    evaluate_every: int | None = None,
    protocol: str | None = None,
    choose: Rule | None = None,
    checkpoint_seconds: float = 60.0,
    log_to: Sequence[str] = (),
    progress: bool = False,
) -> Started:
    """Train a method from several seeds; the one with the highest TL becomes the run in `out`.

    Every start is an ordinary run in ``starts/seedK`` of `out` and a process of its own. Killed at any
    moment, `resume` goes on. What becomes the run is there whole or not at all. TL of all starts is kept in
    ``starts.json``.

    Args:
        method: its name; one that scores snippets.
        data: a data set with a file, or its description.
        out: the run directory.
        starts: how many, of the seeds `seed`, `seed` + 1, ...
        early: share of the schedule, above 0 and below 1, after which all but the best stop; default none.
        keep: keep the weights of all starts, for `weaktal.fuse_runs`.
        jobs: starts at a time; by default what the cores and the memory, or the GPUs, take.
        evaluate: localize and evaluate the run, that is the pick alone, on the test subset.
        recipe, settings, subset, resume, device, precision, compile, max_memory, evaluate_every, protocol,
            choose, checkpoint_seconds, log_to: see `weaktal.train_run`.
        progress: show progress of all starts on standard error.

    Warns:
        CoverageWarning: as `weaktal.train_run`.

    Raises:
        InputError: as `weaktal.train_run` would; a method without class scores of whole videos; no start
            that could be trained.
    """
    out = Path(out)
    if starts < 1:
        raise InputError("at least one start is needed", found=starts)
    if early is not None and not 0 < early < 1:
        raise InputError("not a share of the schedule", field="early", found=early, expected="0 < early < 1")
    dataset = data if isinstance(data, Dataset) else Dataset.load(data)
    kind = find_method(method)
    if not issubclass(kind, SnippetMethod):
        raise InputError(
            f"{method} re-scores segments and has no class scores of whole videos to choose by",
            hint=f"start {kind.base or 'its base locator'} several times, and give that one's segments with "
            "--proposals",
        )
    given = {
        "device": device,
        "precision": precision,
        "compile": compile,
        "max_memory": max_memory,
        "evaluate_every": evaluate_every,
        "protocol": protocol,
        "choose": choose,
    }
    training = training_settings({k: v for k, v in given.items() if v is not None})
    config = resolve_config(method, recipe, settings)
    weak = training_data(dataset, kind.supervision, subset=subset, seed=seed, max_memory=max_memory)
    folders = {s: out / FOLDER / f"seed{s}" for s in range(seed, seed + starts)}
    begun = (out / "config.yaml").exists() or (out / FOLDER).exists()
    if begun and not resume:
        raise InputError(
            "there is a run in this folder already",
            file=out,
            hint="continue it with --resume, or name another folder",
        )
    table = read_starts(out)
    if table is None and (out / "config.yaml").exists():
        raise InputError("the run in this folder was not made from several starts", file=out)
    if table is not None and [s.folder for s in table.starts] != list(folders.values()):
        raise InputError(
            "the run in this folder was made from other seeds",
            file=out / TABLE,
            found=", ".join(str(s.seed) for s in table.starts),
            expected=", ".join(map(str, folders)),
        )
    notes = [*map(str, dataset.check()), *training_notes(weak, dataset.annotations)]
    for note in notes:
        warnings.warn(note, CoverageWarning, stacklevel=2)
    for s, folder in folders.items():
        Run.create(
            folder,
            method,
            config,
            dim=weak.bank.dim,
            classes=weak.weak.classes,
            seed=s,
            recipe=recipe,
            data=describe_data(dataset, weak, subset, None, notes),
            training=training,
            resume=True,
        )
    work = _Work(
        (
            *_words(method, dataset, subset, recipe, settings, training),
            *("--checkpoint-seconds", str(checkpoint_seconds)),
            *(word for name in log_to for word in ("--log-to", name)),
        ),
        training.device,
        jobs,
        sum(stage.steps for stage in Run.open(folders[seed]).build().stages(weak)),
        progress,
    )
    if table is None:
        failed = work(folders, early)
        table = _ranked(out, folders, failed, weak, training, early)
        _write_table(table)
    if not (out / "config.yaml").exists():
        if early is not None and (failed := work({table.pick: folders[table.pick]}, None)):
            raise InputError("the best start could not go on", file=out, found=failed[table.pick])
        _adopt(folders[table.pick], out)
    if not keep:
        for folder in folders.values():
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    metrics = None
    if evaluate:
        measure = Measure(dataset, protocol=protocol, max_memory=max_memory, scratch=out / "features")
        metrics = measure.of_run(Run.open(out))
    return replace(table, run=Run.open(out), metrics=metrics)


def read_starts(out: Path) -> Started | None:
    """What ``starts.json`` of a run says; None if it has none.

    Raises:
        InputError: it is damaged.
    """
    path = out / TABLE
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        starts = tuple(
            Start(s["seed"], out / FOLDER / f"seed{s['seed']}", s["likelihood"], s["error"])
            for s in found["starts"]
        )
        return Started(Run(out, Run.open(starts[0].folder).config), starts, found["pick"], found["early"])
    except (ValueError, LookupError, TypeError) as error:
        raise InputError("this table of starts cannot be read", file=path, found=error) from error


def _write_table(table: Started) -> None:
    starts = [{"seed": s.seed, "likelihood": s.likelihood, "error": s.error} for s in table.starts]
    text = json.dumps({"pick": table.pick, "early": table.early, "starts": starts}, indent=1)
    write_text(table.run.folder / TABLE, text + "\n")


def _words(
    method: str,
    dataset: Dataset,
    subset: str,
    recipe: str | None,
    settings: Mapping[str, Any] | None,
    training: TrainingSettings,
) -> tuple[str, ...]:
    """The command that trains like this, but for folder and seed."""
    words = ["train", command_word(method), "--data", str(dataset.path), "--subset", subset, "--quiet"]
    words += ["--resume", "--device", training.device, "--precision", training.precision]
    words += ["--choose", training.choose, *(["--compile"] if training.compile else [])]
    optional = {
        "--recipe": recipe,
        "--max-memory": training.max_memory,
        "--evaluate-every": training.evaluate_every,
        "--protocol": training.protocol,
    }
    for option, value in optional.items():
        words += [] if value is None else [option, str(value)]
    for key, value in (settings or {}).items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
        words += ["--set", f"{key}={text}"]
    return tuple(words)


@dataclass(frozen=True)
class _Work:
    """Training of starts, each in a process of its own.

    Attributes:
        words: of the command.
        device: where they run.
        jobs: at a time; None for what the machine takes.
        steps: of a whole training.
        progress: whether to show it.
    """

    words: tuple[str, ...]
    device: str
    jobs: int | None
    steps: int
    progress: bool

    def __call__(self, folders: Mapping[int, Path], until: float | None) -> dict[int, str]:
        """Train the starts that are not that far yet; why some failed, by seed."""
        share = 1.0 if until is None else until
        failed: dict[int, str] = {}
        seed_of: dict[Child, int] = {}
        for seed, folder in folders.items():
            own = ("--out", str(folder), "--seed", str(seed), "--until", str(share))
            seed_of[Child(f"seed {seed}", (*self.words, *own), folder / OUTPUT)] = seed

        def ended(child: Child, code: int, seconds: float) -> None:
            if code != 0:
                failed[seed_of[child]] = child.last_line

        with _Board(folders, math.ceil(share * self.steps), self.progress) as board:
            run_children(list(seed_of), device=self.device, jobs=self.jobs, ended=ended, glance=board.glance)
        return failed


class _Board:
    """How far the starts are: a bar each on a terminal, a line now and then elsewhere."""

    def __init__(self, folders: Mapping[int, Path], steps: int, show: bool) -> None:
        self.folders, self.steps, self.show = folders, steps, show
        console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), console=console
        )
        self.terminal, self.seen = show and console.is_terminal, time.monotonic()

    def __enter__(self) -> _Board:
        if self.terminal:
            self.tasks = {s: self.bars.add_task(f"seed {s}", total=self.steps) for s in self.folders}
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell()
        if self.terminal:
            self.bars.stop()

    def glance(self) -> None:
        if self.show and time.monotonic() - self.seen > (1.0 if self.terminal else 10.0):
            self._tell()

    def _tell(self) -> None:
        self.seen = time.monotonic()
        done = {s: _steps_done(folder) for s, folder in self.folders.items()}
        if self.terminal:
            for s, steps in done.items():
                self.bars.update(self.tasks[s], completed=steps)
        elif self.show:
            text = ", ".join(f"seed {s} {steps}/{self.steps}" for s, steps in done.items())
            print(f"steps: {text}", file=sys.stderr, flush=True)


def _steps_done(folder: Path) -> int:
    """Steps of a training, by the last whole line of its log."""
    try:
        with (folder / "log.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            line = file.read().split(b"\n")[-2]
        found = json.loads(line)
        return int(found["total_step"]) + ("evaluation" not in found)
    except (OSError, ValueError, LookupError):
        return 0


def _ranked(
    out: Path,
    folders: Mapping[int, Path],
    failed: Mapping[int, str],
    weak: TrainingData,
    training: TrainingSettings,
    early: float | None,
) -> Started:
    """TL of all starts that did not fail."""
    if len(failed) == len(folders):
        first = min(folders)
        raise InputError("no start could be trained", file=folders[first] / OUTPUT, found=failed[first])
    device = launch(training.device).device
    starts = []
    for seed, folder in folders.items():
        error = failed.get(seed)
        run = Run.open(folder)
        method = None if error else run.method(None if early is None else "last").to(device)
        value = None if method is None else training_likelihood(method, weak)
        starts.append(Start(seed, folder, value, error))
    pick = max(starts, key=lambda s: -math.inf if s.likelihood is None else s.likelihood).seed
    return Started(Run(out, Run.open(folders[pick]).config), tuple(starts), pick, early)


def _adopt(start: Path, out: Path) -> None:
    """Make a start the run in `out`; its ``config.yaml``, without which a folder is no run, comes last."""
    for source in sorted(start.iterdir()):
        if source.name in (*ITS_OWN, "config.yaml"):
            continue
        target, partial = out / source.name, out / f".{source.name}.partial"
        if partial.is_dir():
            shutil.rmtree(partial)
        if source.is_dir():  # checkpoints are replaced and never changed, so both may share their bytes
            shutil.copytree(source, partial, copy_function=_link)
            if target.exists():
                shutil.rmtree(target)
        else:
            shutil.copy2(source, partial)
        partial.replace(target)
    write_text(out / "config.yaml", (start / "config.yaml").read_text(encoding="utf-8"))


def _link(source: str, target: str) -> None:
    """A hard link, or a copy where there can be none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
