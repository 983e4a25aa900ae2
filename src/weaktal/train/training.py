"""A run from beginning to end: what `weaktal train` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weaktal.core import CoverageWarning, InputError
from weaktal.dataset import Dataset
from weaktal.formats import save_detections
from weaktal.methods import find_method
from weaktal.methods.protocol import Method, SnippetMethod
from weaktal.train.base_locator import base_proposals, base_scores, recipe_of
from weaktal.train.config import resolve_config, split_settings, validated
from weaktal.train.data import at_device, describe_data, training_data, training_notes
from weaktal.train.loggers import make_loggers
from weaktal.train.loop import Rule, Summary, fit, launch
from weaktal.train.measure import Measure, load_proposals
from weaktal.train.run import Run, RunConfig, training_settings
from weaktal.train.select import LIKELIHOOD, training_likelihood

PathLike = str | os.PathLike[str]


@dataclass(frozen=True)
class Trained:
    """A run that was trained.

    Attributes:
        run: its directory.
        videos: how many it was trained on.
        summary: steps, and where the time went.
        metrics: what ``metrics.json`` holds, if it was evaluated; on the first process only.
        first: whether this is the first process of the job, the one that writes and should tell.
    """

    run: Run
    videos: int
    summary: Summary
    metrics: Mapping[str, Any] | None = None
    first: bool = True

    def __str__(self) -> str:
        return f"trained {self.run.config.method} on {self.videos} videos: {self.summary}"


def train_run(
    method: str | RunConfig,
    data: Dataset | PathLike | None,
    out: PathLike,
    *,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    subset: str | None = None,
    leave_out: Sequence[str] | None = None,
    proposals: PathLike | None = None,
    resume: bool = False,
    device: str | None = None,
    precision: str | None = None,
    compile: bool | None = None,
    max_memory: str | None = None,
    evaluate: bool = False,
    evaluate_every: int | None = None,
    protocol: str | None = None,
    choose: Rule | None = None,
    until: float = 1.0,
    checkpoint_seconds: float = 60.0,
    log_to: Sequence[str] = (),
    progress: bool = False,
) -> Trained:
    """Train a method on a data set, into a run directory; a base locator that the method needs comes first.

    The run may be killed at any moment and continued with `resume`, to the same bits on a CPU.

    Args:
        method: its name; or the configuration of a run to repeat, see `read_run_config`. What is given beside
            that wins; what is None is as it was.
        data: a data set, or its description; None for the one of a run to repeat.
        out: the run directory.
        recipe: name of a recipe of the package, or a YAML file.
        settings: single hyper-parameters; "base.KEY" is one of the base locator that is trained first, and
            "base" its name, where it is not the method's own choice.
        seed: of every random choice (0).
        subset: role or name of what is trained on ("train").
        leave_out: videos of it that are not trained on.
        proposals: file of a base locator's segments, for proposal-level methods, in place of training one.
        resume: continue the run in `out` if there is one.
        device, precision, compile, max_memory: see `TrainingSettings`, `weaktal.train.loop.launch` and
            `weaktal.train.feature_bank`.
        evaluate: localize and evaluate the test subset at the end; writes ``scores/``, ``detections.json``
            and ``metrics.json``.
        evaluate_every: epochs between evaluations on the test subset as training goes; implies `evaluate`,
            except by the rule "weak", which then looks at the labels of the training videos.
        protocol: of the evaluation; default the data set's.
        choose: which checkpoint is the run's result ("last"); "best-on-test" and "weak", which sees no test
            label (see `weaktal.train.select.training_likelihood`), need `evaluate_every`.
        until: share of the schedule, above 0, after which to stop; `resume` goes on from there.
        checkpoint_seconds: how often the last state is saved.
        log_to: "tensorboard", "wandb", "mlflow", besides ``log.jsonl``.
        progress: show progress on standard error.

    Raises:
        InputError: unknown method, recipe or setting; unusable data; a run in `out` and no `resume`, or one
            of other settings; no such device.
        DivergedError: a loss is not finite.
        ProcessLostError: another process of the job has ended.

    Warns:
        CoverageWarning: videos that are left out.
    """
    own, other_base, base_settings = split_settings(settings or {})
    chosen: dict[str, Any] = {}
    if isinstance(method, RunConfig):
        if recipe is not None:
            raise InputError("a config.yaml is complete; --recipe does not go with it")
        old, name, recipe = method, method.method, method.recipe
        kind: type[Method] = find_method(name)
        config = validated(kind.Config, {**old.config, **own})
        seed = old.seed if seed is None else seed
        chosen = old.training.model_dump()
        data = data if data is not None else old.data.get("path")
        subset = subset or old.data.get("subset")
        leave_out = old.data.get("left_out") if leave_out is None else leave_out
        proposals = proposals or old.data.get("proposals")
    else:
        name = method
        kind = find_method(name)
        config = resolve_config(name, recipe, own)
    given = {
        "device": device,
        "precision": precision,
        "compile": compile,
        "max_memory": max_memory,
        "evaluate_every": evaluate_every,
        "protocol": protocol,
        "choose": choose,
    }
    training = training_settings({**chosen, **{k: v for k, v in given.items() if v is not None}})
    seed, subset, out = seed or 0, subset or "train", Path(out)
    if data is None:
        raise InputError("no data set: name its description with --data")
    dataset = data if isinstance(data, Dataset) else Dataset.load(data)
    notes = [str(finding) for finding in dataset.check()]
    if training.choose != "last" and training.evaluate_every is None:
        raise InputError(f"{training.choose} chooses among evaluations", hint="add --evaluate-every EPOCHS")
    scores_videos = issubclass(kind, SnippetMethod)
    if training.choose == "weak" and not scores_videos:
        raise InputError(f"{name} has no class scores of whole videos to choose by", field="choose")
    if not 0 < until <= 1:
        raise InputError("not a share of the schedule", field="until", found=until, expected="0 < until <= 1")
    fabric = launch(training.device, training.precision, make_loggers(log_to, out))
    fabric.launch()
    scratch = out / "features"
    if kind.base is not None and proposals is None:
        base = other_base or kind.base
        base_recipe = recipe_of(base, recipe)
        proposals = base_proposals(
            dataset,
            out / "base",
            base,
            resolve_config(base, base_recipe, base_settings),
            recipe=base_recipe,
            subset=subset,
            seed=seed,
            training=training.model_copy(update={"choose": "last", "evaluate_every": None}),
            resume=resume,
            leave_out=leave_out or (),
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
            fabric=fabric,
        )
    elif base_settings or other_base:
        raise InputError(
            "no base locator is trained here",
            found=", ".join([*(["base"] if other_base else []), *(f"base.{k}" for k in base_settings)]),
            expected="no base.*",
        )
    segments = load_proposals(proposals, dataset)
    measure = None
    if evaluate or (training.evaluate_every is not None and training.choose != "weak"):
        measure = Measure(
            dataset,
            protocol=training.protocol,
            proposals=segments,
            max_memory=training.max_memory,
            scratch=scratch,
        )
    weak = training_data(
        dataset,
        kind.supervision,
        subset=subset,
        seed=seed,
        proposals=segments,
        max_memory=training.max_memory,
        scratch=scratch,
        leave_out=leave_out or (),
    )
    notes += training_notes(weak, dataset.annotations)
    for note in notes if fabric.is_global_zero else ():
        warnings.warn(note, CoverageWarning, stacklevel=2)
    if fabric.is_global_zero:
        Run.create(
            out,
            name,
            config,
            dim=weak.bank.dim,
            classes=weak.weak.classes,
            seed=seed,
            recipe=recipe,
            data=describe_data(dataset, weak, subset, proposals, notes, leave_out or ()),
            training=training,
            resume=resume,
        )
    fabric.barrier()
    run = Run.open(out)
    trained = run.build()
    weak = replace(
        weak,
        bank=at_device(weak.bank, fabric.device, training.max_memory),
        scores=base_scores(proposals),
    )

    def evaluator(trained: Method) -> dict[str, float]:
        found = {} if measure is None else measure(trained)
        if training.choose != "last" and scores_videos:
            found[LIKELIHOOD] = training_likelihood(trained, weak)
        return found

    summary = fit(
        trained,
        weak,
        run.folder,
        seed=seed,
        resume=resume,
        compile=training.compile,
        evaluate=evaluator if training.evaluate_every else None,
        evaluate_every=training.evaluate_every or 1,
        choose=training.choose,
        criterion=LIKELIHOOD if training.choose == "weak" else "average",
        until=until,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
        fabric=fabric,
    )
    if not fabric.is_global_zero:
        return Trained(run, len(weak), summary, first=False)
    for artifact, found in trained.artifacts().items():
        save_detections(found, run.folder / "artifacts" / f"{artifact}.json")
    return Trained(run, len(weak), summary, None if measure is None else measure.of_run(run))
