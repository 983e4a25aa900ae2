"""What is wrong with data, or may be; and times that are in another unit than seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from weaktal.core.errors import InputError
from weaktal.core.printable import printable

FloatArray = NDArray[np.float64]

# frames per second that public data have, the usual ones first
FRAME_RATES = (25.0, 30.0, 24.0, 30000 / 1001, 24000 / 1001, 15.0, 10.0, 50.0, 60.0, 12.5, 20.0)
# a time this far beyond the end of its video may be rounding, or a duration that was rounded
SLACK_SECONDS, SLACK_SHARE = 1.0, 0.02


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or may be.

    Attributes:
        what: in a few words.
        videos: which videos.
        hint: likely cause, or what to do.
        grave: nothing that is made from these data would mean anything.
    """

    what: str
    videos: tuple[str, ...] = ()
    hint: str | None = None
    grave: bool = False

    def __str__(self) -> str:
        text = self.what
        if self.videos:
            text += " (" + some(self.videos) + ")"
        return printable(f"{text}: {self.hint}" if self.hint else text)

    def error(self, file: object = None) -> InputError:
        """The same as an error."""
        found = some(self.videos) or None
        return InputError(self.what, file=None if file is None else str(file), found=found, hint=self.hint)


def some(names: Sequence[str], most: int = 3) -> str:
    """The first names of many.

    >>> some(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    return ", ".join(printable(n, 60) for n in names[:most]) + (", ..." if len(names) > most else "")


def times_beyond(
    what: str,
    times: Mapping[str, FloatArray],
    durations: Mapping[str, float],
    fps: Mapping[str, float] | None = None,
) -> Finding | None:
    """Whether times lie beyond the ends of their videos, and in which unit they would lie within.

    Args:
        what: whose times, in the plural ("clicks").
        times: seconds, by video.
        durations: seconds, of the videos of which they are known.
        fps: frame rates of the videos, where known: tried first as the unit.

    Returns:
        None if all lie within (to a second and two percent). A grave finding if more than half lie beyond,
        with the unit that fits: frames at some rate, milliseconds, another frame rate.
    """
    names = [n for n, t in times.items() if len(t) and durations.get(n, 0) > 0]
    if not names:
        return None
    flat = np.concatenate([np.abs(np.asarray(times[n], np.float64)) for n in names])
    end = np.repeat([durations[n] for n in names], [len(times[n]) for n in names])
    owner = np.repeat(np.arange(len(names)), [len(times[n]) for n in names])
    beyond = flat > end + SLACK_SECONDS + SLACK_SHARE * end
    if not beyond.any():
        return None
    count, total = int(beyond.sum()), len(flat)
    which = tuple(names[i] for i in dict.fromkeys(owner[beyond].tolist()))
    grave = count > total / 2
    first = int(np.flatnonzero(beyond)[0])
    example = f"the first at {flat[first]:g} in a video of {end[first]:g} s"
    said = np.array([(fps or {}).get(n, np.nan) for n in names])[owner]
    hint = _unit(flat, end, said) if grave else "durations of another cut, or of another frame rate?"
    where = f"{count} of {total} {what} lie beyond the end of their videos, {example}"
    return Finding(where, which, hint, grave)


def _unit(times: FloatArray, end: FloatArray, fps: FloatArray) -> str:
    """The unit in which times lie within their videos, in words."""

    def fits(scale: FloatArray | float) -> bool:
        found = times / scale
        return bool((found <= end + SLACK_SECONDS + SLACK_SHARE * end).mean() > 0.95)

    expected = "seconds are expected"
    if np.isfinite(fps).all() and fits(fps):
        return f"they fit as frames at the videos' own frame rates; {expected}"
    rates = [rate for rate in FRAME_RATES if fits(rate)]
    if rates and float((times / end).max()) < 100:
        return f"they fit as frames, at {rates[0]:g} frames per second and others; {expected}"
    if fits(1000.0):
        return f"they fit as milliseconds; {expected}"
    if fits(2.5):
        return f"they fit at another frame rate, or times are of another cut; {expected}"
    return f"no usual unit fits: times of other videos? {expected}"
