"""When each picture of a video is on the screen: between the packets of a container and our frames.

Containers say the times of pictures in ticks that may be coarse (milliseconds in Matroska, WebM and FLV),
begin anywhere, fall back where recordings were joined, and jump where packets were lost. `TimeBase` makes one
clock of them, from the times of all packets, before a picture is decoded:

- Where all times lie on the grid of one rate, but for the rounding to ticks, that rate is the *nominal* one
  and times are exact: picture number / rate. So the same packets give the same frames from every container.
- Other times are a variable rate, and are kept.
- Where times fall back, or jump further than may be bridged, time goes on with the next picture (a *seam*).
- How long the video is, the packets say; what a header says is only compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from weaktal.core import InputError
from weaktal.features.extract.limits import DAY, Limits

IntArray = NDArray[np.int64]

UNKNOWN = np.iinfo(np.int64).min  # in place of a time that the container does not say
MILLISECOND = Fraction(1, 1000)
# rates that cameras and encoders have; others are found from the times
USUAL = tuple(Fraction(n) for n in (24, 25, 30, 50, 60, 12, 15, 10, 20, 48, 90, 100, 120, 240)) + tuple(
    Fraction(1000 * n, 1001) for n in (24, 30, 60, 48, 120, 15, 12, 240)
)
BROKEN = 2  # so few packets whose times belong to neither neighbour are broken, no recording of their own


@dataclass(frozen=True)
class Packets:
    """Times of a stream's packets in the order of the file.

    Attributes:
        pts: when a packet's picture is shown, ticks; `UNKNOWN` where the container does not say.
        dts: when it is decoded, likewise.
        duration: ticks, 0 where not said.
        hidden: pictures that an edit list leaves out.
        tick: seconds.
        rates: pictures per second that the header says, best first.
    """

    pts: IntArray
    dts: IntArray
    duration: IntArray
    hidden: NDArray[np.bool_]
    tick: Fraction
    rates: tuple[Fraction, ...] = ()

    def __len__(self) -> int:
        return len(self.pts)


class Seam(NamedTuple):
    """Where times do not go on by themselves.

    Attributes:
        at: seconds from the first picture.
        by: seconds by which times jump; negative where they fall back.
    """

    at: float
    by: float


class Gap(NamedTuple):
    """Where pictures are missing.

    Attributes:
        at: seconds from the first picture.
        seconds: for which the picture before stands.
        pictures: how many.
    """

    at: float
    seconds: float
    pictures: int


@dataclass(frozen=True)
class Piece:
    """Pictures between two seams.

    Attributes:
        start: of its first picture, seconds from the first one of the video.
        numbers: of the pictures, increasing from 0: frames of the nominal rate, or ticks.
        unit: seconds of 1 in `numbers`.
        rate: the nominal rate, None where it is variable.
        last: seconds that the last picture is shown.
    """

    start: Fraction
    numbers: IntArray
    unit: Fraction
    rate: Fraction | None
    last: Fraction

    @property
    def end(self) -> Fraction:
        return self.start + int(self.numbers[-1]) * self.unit + self.last


@dataclass(frozen=True)
class TimeBase:
    """The clock of a video's pictures.

    Attributes:
        pieces: what lies between the seams, in order; one piece of a sound video.
        offset: seconds from the beginning of the file, as a player counts, to the first picture.
        rank: (packets,) which picture in order of display a packet holds, -1 where none.
        least: (packets,) where the container says only the order of decoding: the first picture that it can
            be, since pictures leave the decoder in order of display; else -1.
        seams: where time falls back or jumps.
        broken: packets whose times fit nowhere; their pictures are left out.
    """

    pieces: tuple[Piece, ...]
    offset: Fraction
    rank: IntArray
    least: IntArray
    seams: tuple[Seam, ...] = ()
    broken: int = 0
    _firsts: dict[Fraction, list[int]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(
        cls, packets: Packets, zero: Fraction = Fraction(0), limits: Limits | None = None, file: object = None
    ) -> TimeBase:
        """The clock that the packets of a stream make.

        Args:
            packets: at least one.
            zero: where a player's time begins on the stream's clock, seconds.
            limits: how long a gap may be.
            file: for messages.

        Raises:
            InputError: no picture, two pictures more than a day apart, a video that is too long.
        """
        limits = limits or Limits()
        tick = packets.tick
        runs, broken = _runs(packets)
        rank, least = np.full((2, len(packets)), -1, np.int64)
        pieces: list[Piece] = []
        seams: list[Seam] = []
        first: int | None = None  # ticks of the first picture
        before: int | None = None  # and of the last one so far
        count, now = 0, Fraction(0)
        for run in runs:
            times, places, lowest = _display(packets, run)
            if not len(times):
                continue
            rank[run] = np.where(places >= 0, places + count, -1)
            least[run] = np.where(lowest >= 0, lowest + count, -1)
            count += len(times)
            far = np.flatnonzero(np.diff(times) > limits.gap / tick)
            for part in np.split(np.arange(len(times)), far + 1):
                ticks = times[part]
                if before is not None:
                    by = float((int(ticks[0]) - before) * tick)
                    if by > DAY:
                        raise InputError(
                            "two pictures lie too far apart",
                            file=str(file) if file is not None else None,
                            found=f"{by:.0f} s after {float(now):.2f} s",
                            expected="at most a day",
                            hint="the times in this file are broken; a tool that writes them anew may help",
                        )
                    seams.append(Seam(float(now), by))
                usual = tuple(p.rate for p in pieces[-1:] if p.rate)
                piece = _piece(ticks, now, packets, run, usual, limits)
                pieces.append(piece)
                now = piece.end
                first = int(ticks[0]) if first is None else first
                before = int(ticks[-1])
        if first is None:
            raise InputError("there is no picture in it", file=str(file) if file is not None else None)
        if now > limits.length:
            raise InputError(
                "the video is too long",
                file=str(file) if file is not None else None,
                found=f"{float(now) / 3600:.1f} hours",
                expected=f"at most {limits.length / 3600:g}",
                hint="raise the limit of its length, or cut it",
            )
        return cls(tuple(pieces), max(Fraction(0), first * tick - zero), rank, least, tuple(seams), broken)

    @cached_property
    def pictures(self) -> int:
        """How many there are."""
        return sum(len(p.numbers) for p in self.pieces)

    @property
    def length(self) -> float:
        """Seconds from the first picture to the end of the last one."""
        return float(self.pieces[-1].end)

    @property
    def rate(self) -> Fraction | None:
        """The nominal rate; None where it is variable or changes."""
        rates = {p.rate for p in self.pieces}
        return rates.pop() if len(rates) == 1 else None

    @property
    def fps(self) -> float:
        """Pictures per second: the nominal rate, or the mean."""
        return float(self.rate) if self.rate else self.pictures / self.length

    @cached_property
    def times(self) -> NDArray[np.float64]:
        """(pictures,) when each is shown, seconds from the first one."""
        return np.concatenate([float(p.start) + p.numbers * float(p.unit) for p in self.pieces])

    @cached_property
    def _ends(self) -> NDArray[np.float64]:
        """(pictures,) until when each is shown if none is missing after it."""
        ends = np.append(self.times[1:], self.length)
        first = 0
        for p in self.pieces:
            last = first + len(p.numbers)
            if p.rate is not None:
                ends[first:last] = self.times[first:last] + float(p.unit)
            first = last
        return ends

    def gaps(self, shown: ArrayLike, *, sure: bool) -> list[Gap]:
        """Where pictures are missing: on the grid of a nominal rate, or because they could not be decoded.

        Args:
            shown: the pictures that were decoded, increasing, at least one.
            sure: the decoder refused some. If not, one or two that it did not give out in a row are none: a
                picture in two packets (interlaced), one that is never shown.
        """
        seen = np.asarray(shown, np.int64)
        before = np.concatenate([[0.0], self._ends[seen[:-1]]])
        lost = np.diff(seen, prepend=-1) - 1
        seconds = self.times[seen] - before
        units = np.concatenate(
            [np.full(len(p.numbers), float(p.unit if p.rate else 0)) for p in self.pieces]
        )[seen]
        absent = np.where(units > 0, np.rint(seconds / np.where(units > 0, units, 1)), 0).astype(np.int64)
        count = np.maximum(lost, absent)
        if not sure:
            count[(lost <= 2) & (absent <= lost)] = 0
        return [Gap(float(before[i]), float(seconds[i]), int(count[i])) for i in np.flatnonzero(count)]

    def frames(self, rate: Fraction) -> list[int]:
        """How frames at an asked rate show the pictures: frame ``k`` is what is on the screen at k / rate.

        Returns:
            For each picture the first frame that may show it, and at the end how many frames there are:
            picture ``i`` is shown by the frames from entry ``i`` on to entry ``i + 1``. A time of a variable
            rate that is rounded to a tick (or, on its way here, to a millisecond) may lie half of that late.
        """
        if rate not in self._firsts:
            firsts: list[int] = []
            for p in self.pieces:
                slack = Fraction(0)
                if p.rate is None:
                    slack = min(max(p.unit, MILLISECOND) / 2, 1 / (4 * rate))
                # ceil((start + number * unit - slack) * rate) in whole numbers
                begin, step = (p.start - slack) * rate, p.unit * rate
                scale = begin.denominator * step.denominator
                a, b = begin.numerator * step.denominator, step.numerator * begin.denominator
                firsts += [-((-(a + n * b)) // scale) for n in p.numbers.tolist()]
            firsts[0] = 0
            last = self.pieces[-1]
            slack = Fraction(0) if last.rate else min(max(last.unit, MILLISECOND) / 2, 1 / (4 * rate))
            total = -((-(last.end - slack) * rate) // 1)
            firsts.append(max(1, int(total), firsts[-1]))
            self._firsts[rate] = firsts
        return self._firsts[rate]

    def remarks(self, gap: float) -> list[str]:
        """What is odd about the times, in words.

        Args:
            gap: seconds that were bridged at most.
        """
        out = []
        if self.offset > Fraction(1, 10):
            out.append(
                f"the picture begins {float(self.offset):.2f} s after the file: times count from the file's"
            )
        for at, by in self.seams[:3]:
            what = f"fall back by {-by:.2f} s" if by < 0 else f"jump by {by:.2f} s, more than {gap:g} s"
            out.append(f"the times of the file {what} at {at:.2f} s: time goes on there")
        if len(self.seams) > 3:
            out.append(f"so they do at {len(self.seams) - 3} more places")
        for p in self.pieces:
            steps = np.diff(p.numbers) if p.rate is None else np.zeros(0)
            if len(steps) and (still := float(int(steps.max()) * p.unit)) > max(
                5.0, 20 * self.length / self.pictures
            ):
                at = float(p.start + int(p.numbers[int(steps.argmax())]) * p.unit)
                out.append(
                    f"no new picture for {still:.2f} s at {at:.2f} s: the picture before stands for them"
                )
        if self.broken:
            out.append(f"{self.broken} pictures are left out: their times fit nowhere")
        return out


def _runs(packets: Packets) -> tuple[list[IntArray], int]:
    """Packets between the places where times fall back, without hidden ones; and how many were broken."""
    shown = np.flatnonzero(~packets.hidden)
    slack, second = 2 * max(1, int(MILLISECOND / packets.tick)), int(1 / packets.tick)
    clock = packets.dts[shown]
    known = np.flatnonzero(clock != UNKNOWN)
    if len(known) < len(shown) / 2:  # no decoding times: those of display, which are not in order
        clock = packets.pts[shown]
        known = np.flatnonzero(clock != UNKNOWN)
        slack = max(slack, second)
    times = clock[known]
    wrong = np.zeros(len(shown), bool)
    cuts: list[int] = []
    begin = seen = 0
    highest = UNKNOWN  # of times[begin:seen]
    for j in (np.flatnonzero(np.diff(times) < 0) + 1).tolist():
        highest, seen = max(highest, int(times[seen:j].max(initial=UNKNOWN))), j
        if times[j] >= highest - slack:
            continue
        step = (
            float(np.median(np.abs(np.diff(times[max(begin, j - 100) : j]), dtype=float)))
            if j - begin > 1
            else 0.0
        )
        for m in range(1, BROKEN + 1):
            # leaving out the m packets before, or from here on, the times go on as they did
            least = max(1.0, (m + 0.5) * step)
            if j - 1 - m >= begin and least <= times[j] - times[j - 1 - m] <= second:
                wrong[known[j - m : j]] = True
                highest = int(times[j - 1 - m])
                break
            if j + m < len(times) and least <= times[j + m] - times[j - 1] <= second:
                wrong[known[j : j + m]] = True
                break
        else:
            cuts.append(j)
            begin, highest = j, UNKNOWN
    runs = np.split(np.arange(len(shown)), known[cuts]) if cuts else [np.arange(len(shown))]
    kept = [shown[r[~wrong[r]]] for r in runs]
    return [r for r in kept if len(r)], int(wrong.sum())


def _known(times: IntArray) -> IntArray:
    return np.asarray(times[times != UNKNOWN])


def _display(packets: Packets, run: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """When pictures of a run are shown.

    Returns:
        The times, increasing; for each packet which of them is its picture's, -1 where not known; and, where
        only the order of pictures tells, the least that it can be.
    """
    pts, dts = packets.pts[run], packets.dts[run]
    said, timed = pts != UNKNOWN, dts != UNKNOWN
    places = np.full(len(run), -1, np.int64)
    least = places.copy()
    # packets without any time are no pictures of their own: the second fields of interlaced ones
    if said.sum() > 0.9 * len(run) or (said.sum() > len(run) / 3 and not (timed & ~said).any()):
        times, places[said] = np.unique(pts[said], return_inverse=True)
        return times, places, least
    # how far decoding runs ahead is not known; pictures come out of the decoder in the order of display
    step = 1 / (packets.rates[0] if packets.rates else Fraction(25)) / packets.tick
    if timed.all():
        shift = int(pts[0] - dts[0]) if said[0] else 0
        times = np.sort(dts) + shift
    else:
        times = np.full(len(run), int(_known(pts).min()) if said.any() else 0)
    grid = int(times[0]) + np.array([round(k * step) for k in range(len(run))], np.int64)
    # what the container leaves out FFmpeg fills in, now and then a picture off
    times = grid if not timed.all() or np.abs(times - grid).max() <= 2 * step else np.unique(times)
    least[:] = 0
    if timed.all():
        # a decoder may leave out pictures at the beginning; the times that are said tell, to a picture or two
        least[said] = np.maximum(0, _nearest(times, pts[said]) - 2)
    return times, places, least


def _nearest(times: IntArray, wanted: IntArray) -> IntArray:
    """Which of the increasing times lies nearest to each wanted one."""
    if len(times) < 2:
        return np.zeros(len(wanted), np.int64)
    after = np.clip(np.searchsorted(times, wanted), 1, len(times) - 1)
    return np.asarray(after - (wanted - times[after - 1] < times[after] - wanted))


def _piece(
    ticks: IntArray,
    start: Fraction,
    packets: Packets,
    run: IntArray,
    before: tuple[Fraction, ...],
    limits: Limits,
) -> Piece:
    tick = packets.tick
    numbers = ticks - ticks[0]
    # a single picture after a seam lasts as long as those before
    found = nominal_rate(
        numbers, tick, (*packets.rates, *before) if len(ticks) > 1 else (*before, *packets.rates)
    )
    if found is not None:
        rate, grid = found
        return Piece(start, grid, 1 / rate, rate, 1 / rate)
    last = packets.pts[run] == ticks[-1]
    said = Fraction(int(packets.duration[run][last].max(initial=0))) * tick
    if not 0 < said <= limits.gap:
        said = Fraction(int(np.median(np.diff(numbers)))) * tick
    return Piece(start, numbers, tick, None, max(said, tick))


def nominal_rate(
    numbers: IntArray, tick: Fraction, said: Iterable[Fraction] = ()
) -> tuple[Fraction, IntArray] | None:
    """The rate on whose grid all times lie, but for rounding, and the grid's numbers; None if there is none.

    Times were rounded to ticks, and on their way here perhaps to milliseconds, twice at most: so much may
    they be off, and no more than a quarter of a picture. Most pictures must follow each other on the grid.

    Args:
        numbers: times in ticks, increasing from 0.
        tick: seconds.
        said: rates that are tried first, such as the header's.

    >>> times = np.array([0, 33, 67, 100, 133, 167, 200, 267])
    >>> rate, grid = nominal_rate(times, Fraction(1, 1000))
    >>> rate, grid.tolist()
    (Fraction(30, 1), [0, 1, 2, 3, 4, 5, 6, 8])
    """
    said = [r for r in said if 0 < r <= 100_000]
    if len(numbers) < 2:
        return (said[0] if said else Fraction(25)), np.zeros(1, np.int64)
    steps = np.diff(numbers)
    exact = [1 / (int(steps[0]) * tick)] if (steps == steps[0]).all() and tick < MILLISECOND else []
    # what a header says may be FFmpeg's estimate: the usual rate beside it comes first
    near = [r for r in USUAL if said and abs(r / said[0] - 1) < Fraction(1, 200)]
    named = [*exact, *sorted(near, key=lambda r: abs(r / said[0] - 1)), *said]
    coarse = float(MILLISECOND / tick)
    for rounding in (2.0, 2 * coarse) if coarse > 1 else (2.0,):
        for rate in named:
            grid = _on_grid(numbers, float(1 / rate / tick), rounding)
            if grid is not None:
                return rate, grid
        fits = [(r, g) for r in USUAL if (g := _on_grid(numbers, float(1 / r / tick), rounding)) is not None]
        if fits:
            return min(fits, key=lambda fit: np.ptp(numbers - fit[1] * float(1 / fit[0] / tick)))
        found = _fitted(numbers, steps, tick, rounding)
        if found is not None:
            return found
    return None


def _on_grid(numbers: IntArray, period: float, rounding: float) -> IntArray | None:
    """Numbers of the grid points of a period that times stand for, None where they stand for none."""
    grid = np.rint(numbers / period)
    steps = np.diff(grid)
    if steps.min() < 1 or np.median(steps) != 1:
        return None
    off = numbers - grid * period
    if np.ptp(off) > min(rounding, period / 4) + 1e-6:
        return None
    return grid.astype(np.int64)


def _fitted(
    numbers: IntArray, steps: IntArray, tick: Fraction, rounding: float
) -> tuple[Fraction, IntArray] | None:
    """A rate that is nobody's habit: the simplest fraction among those that fit."""
    middle = float(np.median(steps))
    single = steps[steps < 1.5 * middle]
    grid = np.concatenate([[0], np.cumsum(np.rint(steps / single.mean()))])
    if np.diff(grid).min() < 1 or np.median(np.diff(grid)) != 1:
        return None
    period = float(np.polynomial.polynomial.polyfit(grid, numbers.astype(float), 1)[1])
    if period <= 0 or _on_grid(numbers, period, rounding) is None:
        return None
    spread = float(np.ptp(numbers - grid * period))
    room = max(0.0, min(rounding, period / 4) - spread) / grid[-1] / 2 + 1e-9 * period
    low, high = (1 / (Fraction(p) * tick) for p in (period + room, period - room))
    rate = simplest(low, high)
    fine = _on_grid(numbers, float(1 / rate / tick), rounding)
    return None if fine is None else (rate, fine)


def simplest(low: Fraction, high: Fraction) -> Fraction:
    """The fraction of the smallest denominator in [low, high], both positive.

    >>> simplest(Fraction(19619, 1000), Fraction(19621, 1000))
    Fraction(412, 21)
    """
    whole = -(-low.numerator // low.denominator)
    if whole <= high:
        return Fraction(whole)
    floor = low.numerator // low.denominator
    return floor + 1 / simplest(1 / (high - floor), 1 / (low - floor))


def as_rate(value: float | Fraction) -> Fraction:
    """A frame rate as the fraction that is meant: 29.97002997 is 30000/1001.

    >>> as_rate(30000 / 1001), as_rate(15.0)
    (Fraction(30000, 1001), Fraction(15, 1))
    """
    return Fraction(value).limit_denominator(100_000)


def collect(
    rows: Sequence[tuple[int | None, int | None, int | None, bool]],
) -> tuple[IntArray, IntArray, IntArray, NDArray[np.bool_]]:
    """Columns pts, dts, duration and hidden of packets."""
    pts, dts, duration, hidden = zip(*rows, strict=True) if rows else ((), (), (), ())
    known = [np.array([UNKNOWN if x is None else x for x in c], np.int64) for c in (pts, dts)]
    return known[0], known[1], np.array([x or 0 for x in duration], np.int64), np.array(hidden, bool)
