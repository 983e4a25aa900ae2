"""Detection mAP that authors publish, each figure with its source, to stand beside runs of the same data."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import yaml
from pydantic import BaseModel, ConfigDict


class Published(BaseModel):
    """Figures of one method on one data set from one source, in percent.

    Attributes:
        data, method: as on the command line.
        source: where they stand.
        test_videos: how many videos they are over; None where the source does not say.
        protocol: of `weaktal.evaluate.PROTOCOLS`, what the authors' code does.
        ignore: whether it leaves out detections in ambiguous intervals.
        mAP: tIoU threshold -> mAP, those that are known.
        average: over the paper's thresholds, None where it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    method: str
    source: str
    test_videos: int | None
    protocol: str
    ignore: bool = False
    mAP: dict[float, float]
    average: float | None

    @property
    def figures(self) -> dict[str, float]:
        """By threshold as text, and "average", as tables show them."""
        each = {f"{t:g}": v for t, v in self.mAP.items()}
        return each if self.average is None else {**each, "average": self.average}


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """All of them, from ``published.yaml``."""
    text = files("weaktal.bench").joinpath("published.yaml").read_text(encoding="utf-8")
    return tuple(Published.model_validate(entry) for entry in yaml.safe_load(text))


def published_of(data: str, method: str) -> tuple[Published, ...]:
    """The figures of a method on a data set; the first is what tables show."""
    return tuple(p for p in published() if (p.data, p.method) == (data, method))
