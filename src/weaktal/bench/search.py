"""Hyper-parameter search on a held-out part of the training set; the test set is never looked at.

What is held out is measured against its instances, or, by the criterion "weak", against its labels alone.

The space is a small file, a line per field of the method's configuration::

    learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}
    topk_foreground: {choices: [4, 8, 16]}
    epochs: {low: 20, high: 100, step: 20}
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from weaktal.core import Annotations, Detections, InputError, did_you_mean, write_text
from weaktal.dataset import Dataset
from weaktal.methods import find_method
from weaktal.methods.protocol import Method
from weaktal.train import DivergedError, Run, TrainingSettings, at_device, fit, resolve_config, training_data
from weaktal.train.base_locator import base_scores
from weaktal.train.config import read_yaml
from weaktal.train.loop import launch
from weaktal.train.measure import Measure, load_proposals
from weaktal.train.select import training_likelihood

PathLike = str | os.PathLike[str]
Criterion = Literal["average", "weak"]


class Range(BaseModel):
    """Values that a field may take: `choices`, or numbers from `low` to `high`.

    Attributes:
        low, high: bounds, both included; whole numbers if both are and `log` is false or `step` is whole.
        log: search on a logarithmic scale.
        step: only every so many.
        choices: any values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: tuple[Any, ...] = ()

    @model_validator(mode="after")
    def _one_kind(self) -> Range:
        bounds = self.low is not None and self.high is not None
        if bounds == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("needs either low and high, or choices")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        return self

    def suggest(self, trial: Any, name: str) -> Any:
        """A value from an Optuna trial."""
        if self.choices:
            return self.choices[trial.suggest_categorical(name, range(len(self.choices)))]
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(name, self.low, self.high, step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)


def read_space(path: str | Path, method: str) -> dict[str, Range]:
    """A search space.

    Raises:
        InputError: unreadable, an unknown field (with the nearest one), or a wrong range.
    """
    fields = find_method(method).Config.model_fields
    space = {}
    for name, values in read_yaml(path).items():
        if name not in fields:
            raise InputError("unknown setting", file=path, found=repr(name), hint=did_you_mean(name, fields))
        try:
            space[name] = Range.model_validate(values)
        except ValidationError as error:
            raise InputError(error.errors()[0]["msg"], file=path, field=name) from error
    if not space:
        raise InputError("nothing to search", file=path, expected="a line per field")
    return space


def held_out(annotations: Annotations, share: float, seed: int) -> tuple[list[str], list[str]]:
    """Training videos in two parts, every class in both where it has two videos or more.

    Args:
        annotations: of the training subset.
        share: of the videos, about, for the second part.
        seed: decides which.

    Returns:
        Names to train on, and names to measure on.
    """
    names = np.array([v.name for v in annotations])
    order = np.random.default_rng([seed, 0x5EA]).permutation(len(names))
    labels = {v.name: set(v.labels) for v in annotations}
    left = {c: sum(c in x for x in labels.values()) for c in range(len(annotations.classes))}
    out: list[str] = []
    for name in names[order]:
        # the last video of a class stays in training
        if len(out) < round(share * len(names)) and all(left[c] > 1 for c in labels[name]):
            out.append(str(name))
            for c in labels[name]:
                left[c] -= 1
    rest = [str(n) for n in names if n not in set(out)]
    if not out or not rest:
        raise InputError("too few training videos to hold some out", found=len(names))
    return rest, [str(n) for n in names if n in set(out)]


def search(
    data: Dataset | PathLike,
    method: str,
    space: Mapping[str, Range],
    out: PathLike,
    *,
    trials: int = 20,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
    criterion: Criterion = "average",
    share: float = 0.2,
    seed: int = 0,
    device: str = "auto",
    proposals: Detections | PathLike | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Find good values by Optuna (TPE); goes on where an earlier call in the same folder stopped.

    By the criterion "average" the held-out videos are measured against their instances, so that the search,
    unlike training, uses full annotations of that part of the training set. "weak" uses their labels alone:
    the mean log of the video-level class scores at them. It is the score that chooses among starts (see
    `weaktal.train.select.training_likelihood`), here of videos that no trial has trained on: settings differ
    in how closely they fit what they have seen, as starts of one setting do not.

    Args:
        data: a data set, or its description.
        method: its name.
        space: fields and their ranges, see `read_space`.
        out: folder; gets ``trials.log`` (Optuna's journal), ``best.yaml`` (a recipe) and a run per trial.
        trials: in all, those of earlier calls included.
        recipe, settings: what is not searched.
        criterion: what is maximised: "average" mAP, or "weak".
        share: of the training videos that is held out.
        seed: of the split, the sampler and the training.
        device: see `weaktal.train.fit`.
        proposals: of a base locator, for proposal-level methods; in memory or their file.
        say: told a line per trial.

    Returns:
        The best values by field.

    Raises:
        InputError: Optuna is not installed, every trial diverged, or "weak" and a method that has no class
            scores of whole videos.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend
    except ModuleNotFoundError as error:
        raise InputError("the search needs Optuna", hint="pip install 'weaktal[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    dataset, out = data if isinstance(data, Dataset) else Dataset.load(data), Path(out)
    segments = proposals if isinstance(proposals, Detections) else load_proposals(proposals, dataset)
    out.mkdir(parents=True, exist_ok=True)
    kind: type[Method] = find_method(method)
    train_on, measure_on = held_out(dataset.subset("train"), share, seed)
    weak = training_data(dataset, kind.supervision, seed=seed, proposals=segments, only=train_on)
    if criterion == "weak":
        labelled = training_data(dataset, kind.supervision, seed=seed, only=measure_on)
    else:
        measure = Measure(dataset, "train", proposals=segments, only=measure_on)
    fabric = launch(device)
    scores = None if isinstance(proposals, Detections) else base_scores(proposals)
    weak = replace(weak, bank=at_device(weak.bank, fabric.device), scores=scores)

    def objective(trial: Any) -> float:
        values = {name: one.suggest(trial, name) for name, one in space.items()}
        config = resolve_config(method, recipe, {**(settings or {}), **values})
        folder = out / f"trial{trial.number:04}"
        if folder.exists():  # cut short: Optuna does not give the same number twice within a journal
            shutil.rmtree(folder)
        run = Run.create(
            folder,
            method,
            config,
            dim=weak.bank.dim,
            classes=weak.weak.classes,
            seed=seed,
            recipe=recipe,
            data={"path": str(dataset.path.resolve()), "held_out": measure_on},
            training=TrainingSettings(device=device),
        )
        trained = run.build()
        try:
            fit(trained, weak, run.folder, seed=seed, progress=False, fabric=fabric)
        except DivergedError as error:
            say(f"trial {trial.number}: {values}: {error}")
            raise optuna.TrialPruned from error
        if criterion == "weak":
            found = training_likelihood(trained, labelled)
            say(f"trial {trial.number}: {values}: log likelihood of labels {found:.4f}")
        else:
            found = measure(trained)["average"]
            say(f"trial {trial.number}: {values}: average mAP {found:.2f}")
        return found

    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / "trials.log"))),
        study_name=method if criterion == "average" else f"{method} by labels",
        direction="maximize",
        load_if_exists=True,
    )
    # a sampler that goes on must not repeat its first suggestions
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    done = sum(t.state in finished for t in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    if not any(t.state == optuna.trial.TrialState.COMPLETE for t in study.trials):
        raise InputError("no trial finished: all diverged", file=out, hint="narrow the search space")
    best = {
        name: one.choices[study.best_params[name]] if one.choices else study.best_params[name]
        for name, one in space.items()
    }
    base = resolve_config(method, recipe, {**(settings or {}), **best}).model_dump(
        mode="json", exclude_unset=True
    )
    what = "average mAP" if criterion == "average" else "log likelihood of labels"
    text = f"# best of {len(study.trials)} trials: {what} {study.best_value:.4g} on held-out videos\n"
    write_text(out / "best.yaml", text + yaml.safe_dump(base, sort_keys=False))
    return best
