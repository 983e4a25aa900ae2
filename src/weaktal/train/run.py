"""A run directory: everything about one training, complete enough to repeat it.

::

    RUN/config.yaml               method, every setting, data, seed, feature provenance, classes, versions
    RUN/log.jsonl                 losses of every step, evaluations
    RUN/checkpoints/{last,previous,best}/  weights.safetensors, state.pt, meta.json
    RUN/scores/, detections.json, metrics.json, report.html
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydantic
import torch
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaktal.core import InputError, shown, write_text
from weaktal.methods import find_method
from weaktal.methods.protocol import Method, MethodConfig
from weaktal.train import checkpoint
from weaktal.train.config import read_yaml, validated
from weaktal.train.loop import Rule, seed_torch

FUSED = "fused"  # in place of a method's name: the run consists of others, see `weaktal.train.members`


class TrainingSettings(BaseModel):
    """How a method is trained, as far as it is not the method's own business."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str = "auto"
    precision: str = "32-true"
    compile: bool = False
    choose: Rule = "last"
    evaluate_every: int | None = Field(default=None, ge=1)
    protocol: str | None = None
    max_memory: str | None = None


def training_settings(values: Mapping[str, Any]) -> TrainingSettings:
    """`TrainingSettings` from plain values.

    Raises:
        InputError: a value out of its range.
    """
    try:
        return TrainingSettings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise InputError(first["msg"], field=field, found=shown(first.get("input"))) from error


class RunConfig(BaseModel):
    """What ``config.yaml`` holds.

    Attributes:
        method: name on the command line.
        recipe: name of the recipe that the settings came from, or None.
        seed: of the run.
        config: every field of the method's configuration.
        dim: width of the features.
        classes: class names in order.
        data: the data set: "path", "name", "subset", "provenance" of the features, "proposals".
        training: see `TrainingSettings`.
        versions: of the software that made it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    recipe: str | None = None
    seed: int = 0
    config: dict[str, Any]
    dim: int
    classes: tuple[str, ...]
    data: dict[str, Any] = {}
    training: TrainingSettings = TrainingSettings()
    versions: dict[str, str] = {}

    @property
    def subset(self) -> str:
        """Role or name of the videos that it was trained on."""
        return self.data.get("subset") or "train"

    @property
    def method_config(self) -> MethodConfig:
        """The method's typed configuration."""
        kind: type[Method] = find_method(self.method)
        return validated(kind.Config, self.config)


def versions() -> dict[str, str]:
    """Of what decides the numbers."""
    return {
        "weaktal": version("weaktal"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pydantic": pydantic.VERSION,
    }


class Run:
    """A run directory.

    Attributes:
        folder: where it is.
        config: what ``config.yaml`` says.
    """

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder, self.config = folder, config

    @classmethod
    def create(
        cls,
        folder: str | os.PathLike[str],
        method: str,
        config: MethodConfig,
        *,
        dim: int,
        classes: Sequence[str],
        seed: int = 0,
        recipe: str | None = None,
        data: Mapping[str, Any] | None = None,
        training: TrainingSettings | None = None,
        resume: bool = False,
    ) -> Run:
        """A new run directory; with `resume`, the existing one if it was made with the same settings.

        Raises:
            InputError: there is a run already, or (with `resume`) one with other settings.
        """
        folder = Path(folder)
        new = RunConfig(
            method=method,
            recipe=recipe,
            seed=seed,
            config=config.model_dump(mode="json"),
            dim=dim,
            classes=tuple(classes),
            data=dict(data or {}),
            training=training or TrainingSettings(),
            versions=versions(),
        )
        path = folder / "config.yaml"
        if path.exists():
            if not resume:
                raise InputError(
                    "there is a run in this folder already",
                    file=folder,
                    hint="continue it with --resume, or name another folder",
                )
            old = cls.open(folder)
            for name in ("method", "seed", "config", "dim", "classes"):
                found, expected = getattr(new, name), getattr(old.config, name)
                if found != expected:
                    if name == "config":
                        changed = [k for k in {**found, **expected} if found.get(k) != expected.get(k)]
                        name, found, expected = changed[0], found.get(changed[0]), expected.get(changed[0])
                    raise InputError(
                        "the run in this folder was made with another setting",
                        file=path,
                        field=name,
                        found=expected,
                        expected=found,
                        hint="name another folder, or leave the setting out",
                    )
            _same_data(new.data, old.config.data, path)
            return old
        write_text(path, yaml.safe_dump(new.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
        return cls(folder, new)

    @classmethod
    def open(cls, folder: Run | str | os.PathLike[str]) -> Run:
        """An existing run directory; a `Run` as it is.

        Raises:
            InputError: there is none, or its ``config.yaml`` is damaged.
        """
        if isinstance(folder, Run):
            return folder
        folder = Path(folder)
        path = folder / "config.yaml"
        if not path.is_file():
            raise InputError(
                "this is no run directory: config.yaml is missing", file=folder, hint="made by weaktal train"
            )
        return cls(folder, read_run_config(path))

    def build(self) -> Method:
        """The method with fresh weights, the same at every call."""
        if self.config.method == FUSED:
            raise InputError(
                "a fused run has no network of its own",
                file=self.folder,
                hint="its members have: see config.yaml",
            )
        kind: type[Method] = find_method(self.config.method)
        seed_torch(self.config.seed, 0)
        return kind(self.config.method_config, dim=self.config.dim, classes=self.config.classes)

    def checkpoint(self, which: Literal["last", "best"] | None = None) -> Path:
        """Folder of a checkpoint; by default the one that the run's checkpoint rule names."""
        if which is None:
            which = "last" if self.config.training.choose == "last" else "best"
        return self.folder / "checkpoints" / which

    def method(self, which: Literal["last", "best"] | None = None) -> Method:
        """The trained method, in evaluation mode, on the CPU.

        Args:
            which: checkpoint, see `checkpoint`.

        Raises:
            InputError: there is no such checkpoint, or it is damaged.
        """
        method, path = self.build(), self.checkpoint(which)
        found = checkpoint.load(path)
        if found is None:
            raise InputError("this run has no such checkpoint yet", file=path, hint="train it first")
        found.into(method)
        return method.eval()


def _same_data(new: Mapping[str, Any], old: Mapping[str, Any], file: Path) -> None:
    """Whether a run goes on with the data that it began with, as far as both are described.

    Raises:
        InputError: features that were made otherwise, another subset or number of videos.
    """
    from weaktal.train.predict import feature_difference

    difference = feature_difference(old.get("features") or {}, new.get("features") or {})
    for key in ("subset", "videos"):
        if difference is None and key in old and key in new and old[key] != new[key]:
            difference = f"{key} {new[key]}, trained on {old[key]}"
    if difference is None and new.get("left_out", []) != old.get("left_out", []):
        difference = "other videos left out"
    if difference:
        raise InputError(
            "the run in this folder was begun with other data",
            file=file,
            field="data",
            found=difference,
            hint="go on with the same data, or name another folder",
        )


def read_run_config(path: Path) -> RunConfig:
    """A ``config.yaml``.

    Raises:
        InputError: unreadable or damaged.
    """
    try:
        return RunConfig.model_validate(read_yaml(path))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(p) for p in first["loc"])
        raise InputError(first["msg"], file=path, field=field, found=shown(first.get("input"))) from error
