"""What makes the numbers of an evaluation mean less than they seem to, said beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from weaktal.core import Annotations, Detections, InputError, NameIndex, composed, did_you_mean, times_beyond
from weaktal.core.findings import some


def aligned(
    detections: Detections, annotations: Annotations, *, prefix: str = "", suffix: str = ""
) -> Detections:
    """Detections under the names that the annotations have for the videos and classes.

    Args:
        detections, annotations: names are compared however their accents are stored.
        prefix, suffix: what names have around them on one side and not on the other ("v_"); names that match
            without stay.
    """
    videos, classes = NameIndex(annotations.videos), NameIndex(annotations.classes)

    def video(name: str) -> str:
        found = videos.find(name)
        if found is None and (prefix or suffix):
            bare = name.removeprefix(prefix).removesuffix(suffix)
            found = videos.find(bare) or videos.find(prefix + name + suffix) or bare
        return found or name

    out = detections.renamed(video)
    spelled = tuple(classes.find(name) or name for name in out.classes)
    if spelled != out.classes and len(set(spelled)) == len(spelled):
        out = replace(out, classes=spelled)
    return out


def name_hint(detected: Sequence[str], annotated: Sequence[str]) -> str | None:
    """What may be done about names of which none is annotated."""
    for name in map(composed, detected[:100]):
        for known in map(composed, annotated):
            for outer, inner in ((name, known), (known, name)):
                before, inside, behind = outer.partition(inner)
                if inside and inner and (before or behind):
                    flags = [f"--{k} {v}" for k, v in (("prefix", before), ("suffix", behind)) if v]
                    return f"if all differ like this: {' '.join(flags)}"
    return did_you_mean(detected[0], annotated) if detected else None


def unknown_classes(detections: Detections, annotations: Annotations, *, strict: bool = False) -> list[str]:
    """Notes on detected classes that the annotations do not list; their detections take no part.

    A run localizes all of its classes, and a set of videos may lack some, so that this is no error in itself.

    Raises:
        InputError: `strict`, or none of the detected classes is listed; a name that looks like the misspelt
            name of a listed class that is not detected.
    """
    count = np.bincount(detections.label, minlength=len(detections.classes))
    detected = [name for name, n in zip(detections.classes, count, strict=True) if n]
    known = set(annotations.classes)
    unknown = {n: int(c) for n, c in zip(detections.classes, count, strict=True) if c and n not in known}
    if not unknown:
        return []
    import difflib  # not at every start

    undetected = [name for name in annotations.classes if name not in detected]
    for name, n in unknown.items():
        near = difflib.get_close_matches(name.casefold(), [c.casefold() for c in undetected], 1, 0.85)
        if strict or len(unknown) == len(detected) or near:
            raise InputError(
                "a detected class is not annotated",
                found=f"{name!r} ({n} detections)",
                expected="one of " + ", ".join(annotations.classes[:30]),
                hint=did_you_mean(name, undetected if near else annotations.classes),
            )
    listed = ", ".join(f"{name!r} ({n})" for name, n in list(unknown.items())[:5])
    more = ", ..." if len(unknown) > 5 else ""
    total = sum(unknown.values())
    return [f"{total} detections are of classes that are not annotated and take no part: {listed}{more}"]


def beyond_the_end(detections: Detections, annotations: Annotations) -> list[str]:
    """Notes on detections beyond the ends of their videos.

    Raises:
        InputError: most of them are, with the unit in which they would fit.
    """
    durations = {v.name: v.duration for v in annotations if v.duration}
    place = np.array([durations.get(name, np.inf) for name in detections.names] or [np.inf])
    late = detections.start > place[detections.video] if len(detections) else np.zeros(0, bool)
    outside = detections.end > place[detections.video] * 1.02 + 1 if len(detections) else late
    if not (late | outside).any():
        return []
    times = {
        name: detections.end[detections.video == i]
        for i, name in enumerate(detections.names)
        if name in durations
    }
    fps = {v.name: v.fps for v in annotations if v.fps}
    finding = times_beyond("detections", times, durations, fps)
    if finding is not None and finding.grave and late.sum() > len(detections) / 2:
        raise finding.error()
    if finding is not None:
        return [str(finding)]
    names = [detections.names[i] for i in dict.fromkeys(detections.video[late].tolist())]
    return [f"{int(late.sum())} detections begin after the end of their video: {some(names)}"]


def of_equal_scores(forward: Sequence[float], backward: Sequence[float]) -> str:
    """The note on scores that are all equal, with the mean AP of the rows as listed and turned around."""
    low, high = (100 * f(float(np.mean(forward)), float(np.mean(backward))) for f in (min, max))
    return (
        "all scores are equal: the order of the file alone ranks the detections, and moves the average mAP "
        f"between {low:.2f} and {high:.2f} when it is turned around"
    )
