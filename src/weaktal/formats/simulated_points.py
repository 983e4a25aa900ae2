"""Simulated clicks for studies: what a person might have clicked, drawn from the full annotation.

They are no human labels and say so: in `PointTable.origin`, and in the first line of a file of them.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from weaktal.core import Annotations
from weaktal.formats.points import PointTable

Kind = Literal["uniform", "gaussian"]


def simulate_points(
    annotations: Annotations,
    kind: Kind = "gaussian",
    *,
    per_instance: int = 1,
    sigma: float = 0.2,
    seed: int = 0,
) -> PointTable:
    """Clicks inside the instances of annotated videos.

    Args:
        annotations: videos with full instances.
        kind: "uniform" over an instance, or "gaussian" around its middle (draws outside are drawn again).
        per_instance: clicks for each instance.
        sigma: standard deviation of "gaussian", as a share of the instance's length, > 0.
        seed: a video's clicks depend on it, the video's name and instances, and nothing else.

    Returns:
        Clicks in the order of the instances; `origin` says how they were made.

    Raises:
        ValueError: unknown kind, or a number out of range.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind is one of {', '.join(get_args(Kind))}, not {kind!r}")
    if per_instance < 1 or not sigma > 0:
        raise ValueError(f"expected per_instance >= 1 and sigma > 0, got {per_instance} and {sigma}")
    video: list[str] = []
    label: list[str] = []
    times = [np.empty(0)]
    for v in annotations:
        it = v.instances
        rng = np.random.default_rng([seed, *v.name.encode()])
        start, end = np.repeat(it.start, per_instance), np.repeat(it.end, per_instance)
        place = rng.random(len(start))
        if kind == "gaussian":
            place = 0.5 + sigma * rng.standard_normal(len(start))
            while (outside := (place <= 0) | (place >= 1)).any():
                place[outside] = 0.5 + sigma * rng.standard_normal(int(outside.sum()))
        times.append(start + place * (end - start))
        video += [v.name] * len(start)
        label += [annotations.classes[c] for c in np.repeat(it.label, per_instance).tolist()]
    how = f"gaussian, sigma {sigma:g} of the length" if kind == "gaussian" else "uniform"
    origin = f"simulated from full annotations, not clicked: {how}, {per_instance} per instance, seed {seed}"
    return PointTable(tuple(video), np.concatenate(times), tuple(label), origin)
