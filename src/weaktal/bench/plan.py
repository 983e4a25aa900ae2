"""What a bench is to run: methods x data sets x seeds, from one small file.

::

    data:
      synthetic: {path: /data/thumos/acmnet.yaml, published: thumos14}
    methods:
      asm_loc: {recipe: thumos14, set: {learning_rate: 3.0e-4}}
      base_only: {method: asm_loc, set: {num_steps: 0, epochs: 100}}
    seeds: [0, 1, 2]
    evaluate_every: 10
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from weaktal.bench.cards import cards
from weaktal.core import InputError, did_you_mean
from weaktal.methods import find_method
from weaktal.train.base_locator import recipe_of
from weaktal.train.config import read_yaml, resolve_config, split_settings


class Entry(BaseModel):
    """A method with its settings.

    Attributes:
        method: its name, by default the name of the entry.
        recipe: name of a recipe, or a YAML file.
        settings: single fields, ``set`` in the file.
        proposals: segments of a base locator by data set, or one file for all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    method: str | None = None
    recipe: str | None = None
    settings: dict[str, Any] = Field(default={}, alias="set")
    proposals: Path | dict[str, Path] | None = None


class Data(BaseModel):
    """A data set.

    Attributes:
        path: its description.
        published: under which name `weaktal.bench.published` knows it; None if it does not.
        protocol: evaluation protocol, by default the description's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    published: str | None = None
    protocol: str | None = None


@dataclass(frozen=True)
class Job:
    """One run of a bench."""

    data: str
    method: str
    seed: int

    @property
    def folder(self) -> Path:
        """Relative to the bench's folder."""
        return Path("runs") / self.data / self.method / f"seed{self.seed}"


class Plan(BaseModel):
    """A whole bench.

    Attributes:
        data: data sets by name; a path alone will do.
        methods: entries by name; an empty one means the method's defaults.
        seeds: of the runs of every method on every data set.
        evaluate_every: epochs between evaluations as training goes; needed to say what a choice of the
            checkpoint on the test set would make. Without it only the last checkpoint is evaluated.
        device, precision: see `weaktal.train.fit`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: dict[str, Data]
    methods: dict[str, Entry]
    seeds: tuple[int, ...] = (0,)
    evaluate_every: int | None = Field(default=None, ge=1)
    device: str = "auto"
    precision: str = "32-true"

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """A plan file; paths in it are relative to it.

        Raises:
            InputError: unreadable, an unknown key, method, recipe or setting.
        """
        path = Path(path)
        values = read_yaml(path)
        for key in values:
            if key not in cls.model_fields:
                raise InputError(
                    "unknown key", file=path, found=repr(key), hint=did_you_mean(key, cls.model_fields)
                )
        data = values.get("data")
        if isinstance(data, dict):
            values["data"] = {k: {"path": v} if isinstance(v, str) else v for k, v in data.items()}
        if isinstance(values.get("methods"), dict):
            values["methods"] = {k: v or {} for k, v in values["methods"].items()}
        try:
            plan = cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(p) for p in first["loc"])
            raise InputError(first["msg"], file=path, field=field) from error
        base = path.parent
        entries = {}
        for name, entry in plan.methods.items():
            method = entry.method or name
            own, base_locator, of_base = split_settings(entry.settings)
            resolve_config(method, entry.recipe, own)
            if locator := base_locator or find_method(method).base:
                resolve_config(locator, recipe_of(locator, entry.recipe), of_base)
            proposals = entry.proposals
            if isinstance(proposals, Path):
                proposals = dict.fromkeys(plan.data, proposals)
            within = None if proposals is None else {k: base / v for k, v in proposals.items()}
            entries[name] = entry.model_copy(update={"method": method, "proposals": within})
        for name, one in plan.data.items():
            if one.published is not None and one.published not in cards():
                raise InputError(
                    "no published figures of this data set",
                    file=path,
                    field=f"data.{name}.published",
                    found=repr(one.published),
                    expected="one of " + ", ".join(cards()),
                )
        sets = {k: v.model_copy(update={"path": base / v.path}) for k, v in plan.data.items()}
        return plan.model_copy(update={"methods": entries, "data": sets})

    def jobs(self) -> Iterator[Job]:
        """All runs; one seed of everything before the next."""
        for seed in self.seeds:
            for data in self.data:
                for method in self.methods:
                    yield Job(data, method, seed)

    def command(self, job: Job, out: Path) -> list[str]:
        """Arguments of ``weaktal`` that train and evaluate one run, or go on with it."""
        entry, data = self.methods[job.method], self.data[job.data]
        command = ["train", str(entry.method), "--data", str(data.path), "--out", str(out / job.folder)]
        command += ["--seed", str(job.seed), "--resume", "--quiet", "--evaluate"]
        command += ["--device", self.device, "--precision", self.precision]
        if entry.recipe is not None:
            command += ["--recipe", entry.recipe]
        for key, value in entry.settings.items():
            command += ["--set", f"{key}={_yaml(value)}"]
        if isinstance(entry.proposals, dict) and job.data in entry.proposals:
            command += ["--proposals", str(entry.proposals[job.data])]
        if data.protocol is not None:
            command += ["--protocol", data.protocol]
        if self.evaluate_every is not None:
            # keeps both checkpoints, so that the table can say what the choice makes
            command += ["--evaluate-every", str(self.evaluate_every), "--choose", "best-on-test"]
        return command


def _yaml(value: Any) -> str:
    import yaml

    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**6)
    return text.removesuffix("\n...\n").strip()
