"""What commands have in common: types of values, and options that several of them take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from weaktal.core import InputError
from weaktal.core.reading import parse_yaml

# ------------------------------------------------------------------------------------------- types


def path(text: str) -> Path:
    """A path that is not empty and that a system can have."""
    if not text.strip():
        raise argparse.ArgumentTypeError("an empty path")
    if "\0" in text:
        raise argparse.ArgumentTypeError(f"no path has a NUL in it: {text!r}")
    return Path(text)


def seed(text: str) -> int:
    """A whole number from 0."""
    value = whole(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0, found {text[:40]!r}")
    return value


def whole(text: str) -> int:
    """A whole number of at most 18 digits."""
    try:
        value = int(text)
        if abs(value) >= 10**18:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a whole number, found {text[:40]!r}") from None
    return value


def count(text: str) -> int:
    """A whole number from 1."""
    value = whole(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, found {text[:40]!r}")
    return value


def number(text: str) -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected a number, found {text[:40]!r}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = number(text)
    if not value > 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text[:40]!r}")
    return value


def share(text: str) -> float:
    """A number above 0 and below 1."""
    value = number(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and below 1, found {text[:40]!r}")
    return value


def portion(text: str) -> float:
    """A number above 0 and at most 1."""
    value = number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number above 0 and at most 1, found {text[:40]!r}")
    return value


def rate(text: str) -> float | Literal["off"]:
    """A number above 0 and below 1, or "off"."""
    return "off" if text.strip().lower() == "off" else share(text)


def frame_rate(text: str) -> float | Path:
    """Frames per second, or the path of a JSON table of them."""
    try:
        float(text)
    except ValueError:
        return path(text)
    return positive(text)


def thresholds(text: str) -> tuple[float, ...]:
    """tIoU thresholds of ``0.1:0.7:0.1`` (both ends included) or ``0.5,0.75``.

    >>> thresholds("0.1:0.7:0.1")
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    """
    try:
        if ":" in text:
            first, last, step = (float(x) for x in text.split(":"))
            steps = math.floor((last - first) / step + 1e-9)
            values = tuple(round(first + step * i, 10) for i in range(min(steps, 1000) + 1))
        else:
            values = tuple(float(x) for x in text.split(","))
    except (ValueError, ZeroDivisionError, OverflowError):
        values = ()
    if not values or not all(0 < x <= 1 for x in values):
        raise argparse.ArgumentTypeError(
            f"these are no tIoU thresholds: found {text[:40]!r}, expected FIRST:LAST:STEP or a list with "
            "commas, all above 0 and at most 1"
        )
    return values


def setting(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``; the value is read as YAML, and as a number wherever it can be one.

    >>> setting("learning_rate=3e-4"), setting("tiou=[0.3, 0.5]")
    (('learning_rate', 0.0003), ('tiou', [0.3, 0.5]))
    """
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, found {text[:80]!r}")
    try:
        parsed = parse_yaml(value)
    except InputError as error:
        raise argparse.ArgumentTypeError(f"the value of {text[:80]!r} is not YAML: {error}") from None
    if isinstance(parsed, str):  # YAML 1.1 takes 3e-4 for a text
        try:
            parsed = float(parsed)
        except ValueError:
            parsed = parsed.strip()
    return key.strip(), parsed


# ----------------------------------------------------------------------------------------- options


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; the usage is what ``--help`` is for."""

    def error(self, message: str) -> Any:
        raise InputError(message, hint=f"see {self.prog} --help")


def add_settings(parser: argparse.ArgumentParser, help: str = "one hyper-parameter (repeatable)") -> None:
    """``--set KEY=VALUE``; `settings` reads it."""
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=setting,
        metavar="KEY=VALUE",
        dest="settings",
        help=help,
    )


def settings(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """What ``--set`` gathered as a mapping; of a key that stands twice, the last."""
    return dict(pairs)


def add_run(parser: argparse.ArgumentParser) -> None:
    """``RUN``, as `run_folder`."""
    parser.add_argument("run_folder", type=path, metavar="RUN", help="run directory of a trained method")


def add_code(parser: argparse.ArgumentParser) -> None:
    """``--code``; the command line loads what it names before the command runs."""
    parser.add_argument(
        "--code",
        action="append",
        default=[],
        metavar="FILE.py:CLASS",
        help="a method of your own, for runs of it; its file is executed (repeatable)",
    )


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """``--recipe``."""
    parser.add_argument("--recipe", help="hyper-parameters that come with the package, or a YAML file")


def add_data(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """``--data``."""
    text = "data set description (YAML)" + ("" if default is None else f"; by default {default}")
    parser.add_argument("--data", type=path, help=text)


def add_truth(parser: argparse.ArgumentParser) -> None:
    """``--data`` or ``--ground-truth``, one of them."""
    truth = parser.add_mutually_exclusive_group(required=True)
    truth.add_argument("--data", type=path, metavar="DATASET.yaml", help="data set description")
    truth.add_argument(
        "--ground-truth",
        type=path,
        metavar="PATH",
        help="annotations alone: ActivityNet JSON, a W-TALC folder, or CSV",
    )


def add_subset(parser: argparse.ArgumentParser, default: str | None = "test") -> None:
    """``--subset``."""
    parser.add_argument(
        "--subset", default=default, help=f"role or name of the subset (default {default or 'train'})"
    )


def add_proposals(parser: argparse.ArgumentParser) -> None:
    """``--proposals``."""
    parser.add_argument(
        "--proposals", type=path, help="segments of a base locator, for proposal-level methods"
    )


def add_device(parser: argparse.ArgumentParser, default: str | None = "auto") -> None:
    """``--device``."""
    parser.add_argument("--device", default=default, help="auto, cpu, cuda, cuda:1, mps")


def add_max_memory(parser: argparse.ArgumentParser) -> None:
    """``--max-memory``."""
    parser.add_argument(
        "--max-memory",
        metavar="SIZE",
        help="most memory for features, such as 8GiB; above it, memory-mapped",
    )


def add_false_alarms(parser: argparse.ArgumentParser, what: str, default: str) -> None:
    """``--false-alarms`` and ``--per``."""
    parser.add_argument(
        "--false-alarms",
        type=rate,
        metavar="RATE",
        help=f"{what}, at the score at which at most this share of the videos shows any class that it does "
        f"not have (after weaktal calibrate); {default}",
    )
    parser.add_argument(
        "--per",
        choices=("class", "video"),
        default="video",
        help="class: that rate is the mean over classes of the share of the videos without the class that "
        "show it, which shows more (default video)",
    )


def add_limits(parser: argparse.ArgumentParser) -> None:
    """What a video may ask of us; `limits` reads it."""
    add = parser.add_argument
    add("--max-gap", type=positive, metavar="SECONDS", help="longest gap in a video to bridge (default 300)")
    add("--max-hours", type=positive, metavar="HOURS", help="longest video (default 48)")
    add("--max-pixels", type=count, metavar="N", help="largest picture (default 67108864, as 8192 x 8192)")


def limits(args: argparse.Namespace) -> Any:
    """The `Limits` that ``--max-...`` name; the defaults where they do not."""
    from weaktal.features.extract.limits import Limits

    length = None if args.max_hours is None else 3600 * args.max_hours
    named = {"gap": args.max_gap, "length": length, "pixels": args.max_pixels}
    return Limits(**{k: v for k, v in named.items() if v is not None})


def add_workers(parser: argparse.ArgumentParser, help: str) -> None:
    """``--workers``."""
    parser.add_argument("--workers", type=whole, help=help)
