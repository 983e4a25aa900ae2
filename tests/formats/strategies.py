"""Annotations and detections of any shape, for round trips."""

from __future__ import annotations

import string

import numpy as np
from hypothesis import strategies as st

from weaktal.core import Annotations, Detections, Instances, Points, Video

# what public names are made of, and then some: spaces inside, accents, quotes; no comma in a video name
CHARACTERS = string.ascii_letters + string.digits + "_-.'()&/ éß動"
video_names = st.text(CHARACTERS, min_size=1, max_size=12).map(str.strip).filter(bool)
class_names = st.text(CHARACTERS + ',"', min_size=1, max_size=12).map(str.strip).filter(bool)
seconds = st.floats(0, 1e5, allow_nan=False, allow_subnormal=False)
positive = st.floats(1e-3, 1e5, allow_nan=False)


@st.composite
def annotations(draw: st.DrawFn, *, points: bool = True, tags: bool = True) -> Annotations:
    """Annotations with every field that the core has; `tags`: labels that are not those of the instances, and
    whether they are all."""
    classes = draw(st.lists(class_names, min_size=1, max_size=5, unique=True))
    label = st.integers(0, len(classes) - 1)

    def video(name: str) -> Video:
        spans = draw(st.lists(st.tuples(seconds, seconds, label), max_size=4))
        clicks = draw(st.none() | st.lists(st.tuples(seconds, label), max_size=3)) if points else None
        ignored = draw(st.lists(st.tuples(seconds, seconds).map(sorted), max_size=2))
        instance_labels = [c for *_, c in spans]
        labels = tuple(draw(st.sets(label)) if tags else instance_labels)
        shown = bool(spans or clicks)
        return Video(
            name,
            subset=draw(st.none() | st.sampled_from(["train", "test", "validation", "my split"])),
            duration=draw(st.none() | positive),
            fps=draw(st.none() | positive),
            instances=Instances(
                np.array([min(a, b) for a, b, _ in spans]),
                np.array([max(a, b) for a, b, _ in spans]),
                np.array(instance_labels),
            ),
            points=None
            if clicks is None
            else Points(*map(np.array, zip(*clicks, strict=True)))
            if clicks
            else Points(),
            labels=labels,
            ignored=np.array(ignored),
            complete=draw(st.none() | st.booleans()) if tags and (labels or not shown) else None,
        )

    names = draw(st.lists(video_names, max_size=4, unique=True))
    return Annotations.of(classes, [video(n) for n in names])


@st.composite
def detections(draw: st.DrawFn) -> Detections:
    """Detections in the order of their videos."""
    classes = draw(st.lists(class_names, min_size=1, max_size=5, unique=True))
    names = draw(st.lists(video_names, min_size=1, max_size=4, unique=True))
    row = st.tuples(
        st.integers(0, len(names) - 1),
        seconds,
        seconds,
        st.integers(0, len(classes) - 1),
        st.floats(-1e6, 1e6, allow_nan=False),
    )
    rows = sorted(draw(st.lists(row, max_size=8)), key=lambda r: r[0])
    video, a, b, label, score = (np.array(c) for c in zip(*rows, strict=True)) if rows else [np.empty(0)] * 5
    return Detections(tuple(names), tuple(classes), video, np.minimum(a, b), np.maximum(a, b), label, score)
