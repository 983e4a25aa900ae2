"""What the public data sets are, and whether the one at hand is it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict

from weaktal.core import Annotations, Finding, InputError, did_you_mean
from weaktal.dataset import Dataset
from weaktal.features.check import inspect_features


class Card(BaseModel):
    """A data set as papers use it.

    Attributes:
        title: its name.
        classes: number of them.
        names: their names, where they are listed.
        train, test: number of videos -> number of instances, an entry for each list in use.
        rate: snippets a second of the features that papers use; None where each makes their own.
        width: of these features.
        features: what they are.
        get: where people get annotations and features, in lines.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    classes: int
    names: tuple[str, ...]
    train: dict[int, int]
    test: dict[int, int]
    rate: float | None
    width: int
    features: str
    get: str

    def check(self, data: Dataset) -> list[Finding]:
        """What is not as it should be; grave is what makes figures incomparable."""
        if data.annotations is None:
            raise InputError("a reproduction needs annotations", file=data.path)
        found = [*data.findings(), *self._lists(data), *self._features(data)]
        return sorted(found, key=lambda f: not f.grave)

    def _lists(self, data: Dataset) -> list[Finding]:
        found = []
        classes = data.classes
        if len(classes) != self.classes or (self.names and set(classes) != set(self.names)):
            strange = sorted(set(classes) - set(self.names))[:3] if self.names else []
            text = f"{len(classes)} classes, {self.title} has {self.classes}"
            hint = f"not of {self.title}: {', '.join(strange)}" if strange else None
            found.append(Finding(text, hint=hint, grave=True))
        known = {role: getattr(self, role) for role in ("train", "test")}
        sizes = {role: len(data.subset(role)) for role in known}
        if sizes["train"] in known["test"] and sizes["test"] in known["train"]:
            text = "the subsets are the wrong way round: train is what papers test on"
            found.append(Finding(text, hint="mend subsets: in the description", grave=True))
            return found
        for role, lists in known.items():
            found += self._list(role, data.subset(role), lists)
        return found

    def _list(self, role: str, subset: Annotations, lists: Mapping[int, int]) -> list[Finding]:
        if not lists:
            return []
        videos, instances = len(subset), len(subset.instance_table())
        wanted = " or ".join(f"{v} ({n:,} instances)" for v, n in lists.items())
        if videos not in lists:
            text = f"{videos} {role} videos, papers use {wanted}"
            return [Finding(text, hint="figures over other videos are other figures", grave=True)]
        if role == "train":  # weak labels alone are enough to train
            return []
        if instances != lists[videos]:
            text = f"{instances:,} {role} instances in {videos} videos, papers count {lists[videos]:,}"
            return [Finding(text, hint="another version of the annotations?", grave=True)]
        if len(lists) > 1:
            return [Finding(f"the {role} list of {videos} videos; others use {_others(lists, videos)}")]
        return []

    def _features(self, data: Dataset) -> list[Finding]:
        if not data.features:
            raise InputError("a reproduction needs features", file=data.path)
        store, found = data.store, []
        for role in ("train", "test"):
            names = [v.name for v in data.subset(role)]
            missing = tuple(n for n in names if n not in store)
            if missing:
                text = f"{len(missing)} of {len(names)} {role} videos have no features"
                # the two videos without instances that the list of 212 adds are often left out
                found.append(Finding(text, missing, grave=len(missing) > 2 or role == "train"))
        if store.dim != self.width:
            text = f"features are {store.dim} wide, papers use {self.width}"
            found.append(Finding(text, hint=self.features, grave=True))
        rate = store.rate
        if self.rate is not None and rate is not None and abs(rate / self.rate - 1) > 1e-3:
            text = f"{rate:g} snippets a second, papers use {self.rate:g}"
            found.append(Finding(text, hint="a wrong rate: in the description?", grave=True))
        durations = {
            v.name: v.duration for v in data.annotations or () if v.duration is not None and v.name in store
        }
        return [*found, *inspect_features(store, durations, quick=True).findings]


def _others(lists: Mapping[int, int], videos: int) -> str:
    return " or ".join(str(v) for v in lists if v != videos)


@lru_cache(maxsize=1)
def cards() -> Mapping[str, Card]:
    """All cards by name, from ``cards.yaml``."""
    text = files("weaktal.bench").joinpath("cards.yaml").read_text(encoding="utf-8")
    return {name: Card.model_validate(entry) for name, entry in yaml.safe_load(text).items()}


def card_of(name: str) -> Card:
    """The card of a data set.

    Raises:
        InputError: there is none of that name.
    """
    if name not in cards():
        raise InputError(
            "no card of this data set",
            found=repr(name),
            expected="one of " + ", ".join(cards()),
            hint=did_you_mean(name, cards()),
        )
    return cards()[name]
