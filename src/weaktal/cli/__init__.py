"""The command line: one file per command, each with `add(subparsers)` and a thin `run(args)`."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import TextIO

from weaktal.core import CoverageWarning, InputError

# command -> one line of help; the module of the same name is imported only when the command is asked for,
# so that `weaktal evaluate` starts without torch
COMMANDS: dict[str, str] = {
    "demo": "the whole job on rendered videos, from weak labels to a report",
    "extract": "snippet features from videos",
    "data": "inspect or convert annotations, detections and features",
    "train": "train a method on a data set",
    "localize": "detections of a trained run",
    "predict": "segments of your own videos, by a trained run",
    "evaluate": "mean average precision of detections under a named protocol",
    "convert-checkpoint": "a run directory from official weights",
    "bench": "methods x data sets x seeds, in one table beside the published figures",
    "search": "good hyper-parameters on a held-out part of the training set",
    "report": "one HTML page that shows what was found, missed and invented",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 2 the input is wrong, 1 our fault)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(
        prog="weaktal", description="Weakly-supervised temporal action localization."
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    chosen = next((a for a in argv if not a.startswith("-")), None)
    for name, text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module = import_module(f"weaktal.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    if args.version:
        from weaktal import __version__

        print(__version__)
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    warnings.showwarning = _show_warning
    try:
        return int(args.run(args) or 0)
    except InputError as error:
        print(f"weaktal {args.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"weaktal {args.command}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What is wrong with the user's data as one plain line; other warnings as Python formats them."""
    if issubclass(category, CoverageWarning):
        print(f"note: {message}", file=file or sys.stderr)
    else:
        print(
            warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end=""
        )
