"""The command line: one file per command, each with `add_arguments(parser)` and a thin `run(args)`.

What a command does is one public function in a room below; here it is asked for and told. No command imports
another; what they share is in `options`.
"""

from __future__ import annotations

import errno
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TextIO

# command -> one line of help; the module of the same name is imported only when the command is asked for,
# so that `weaktal evaluate` starts without torch
COMMANDS: dict[str, str] = {
    "demo": "the whole job on rendered videos, from weak labels to a report",
    "extract": "snippet features from videos",
    "data": "inspect or convert annotations, detections and features",
    "train": "train a method on a data set",
    "localize": "detections of a trained run",
    "fuse": "several runs as one",
    "calibrate": "from which score on a run's segments are shown, by a rate of false alarms",
    "predict": "segments of your own videos, by a trained run",
    "evaluate": "mean average precision of detections under a named protocol",
    "diagnose": "what is wrong with detections, and what mending it would bring",
    "agreement": "how far two annotators, or a run and an annotator, agree",
    "convert-checkpoint": "a run directory from official weights",
    "bench": "methods x data sets x seeds, in one table beside the published figures",
    "reproduce": "a published figure, measured on your copy of the data set",
    "search": "good hyper-parameters on a held-out part of the training set",
    "new": "the files of a method of your own",
    "app": "the page that people work in: tag, click, train, review, export",
    "report": "one HTML page that shows what was found, missed and invented",
}
# what the machine says without naming a file
MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code (0 done, 2 the input is wrong, 1 our fault)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv == ["--version"]:
        from weaktal import __version__

        print(__version__)
        return 0
    from weaktal.core import InputError

    name = next((a for a in argv if not a.startswith("-")), None)
    told = f"weaktal {name}" if name in COMMANDS else "weaktal"
    shown = warnings.showwarning
    warnings.showwarning = _show_warning
    try:
        return _run(argv, name)
    except InputError as error:
        message = str(error)
    except KeyboardInterrupt:
        print(f"{told}: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except MemoryError:
        message = "out of memory"
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] == "weaktal":
            raise
        message = f"this needs the package {error.name.split('.')[0]!r}, which is not installed"
    except OSError as error:
        if not _of_the_user(error):
            raise
        place = "" if error.filename is None else f"{_text(error.filename)}: "
        message = f"{place}{error.strerror or error}"
    except RuntimeError as error:
        if not _out_of_memory(error):
            raise
        message = "out of memory"
    finally:
        warnings.showwarning = shown
    print(f"{told}: {' '.join(message.splitlines())}", file=sys.stderr)
    return 2


def _run(argv: list[str], chosen: str | None) -> int:
    from weaktal.cli.options import Parser

    parser = Parser(prog="weaktal", description="Weakly-supervised temporal action localization.")
    parser.add_argument("--version", action="store_true", help="print the version")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, text in COMMANDS.items():
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module = import_module(f"weaktal.cli.{name.replace('-', '_')}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    if args.version:
        return main(["--version"])
    if args.command is None:
        parser.print_help()
        return 2
    if getattr(args, "code", None):
        from weaktal.methods import load_method

        for where in args.code:
            load_method(where)
    return int(args.run(args) or 0)


def _of_the_user(error: OSError) -> bool:
    """Whether a failed call was about a file that the user named, or about the machine, and not our fault."""
    if error.filename is None:
        return error.errno in MACHINE
    ours = Path(__file__).resolve().parents[1]
    return not Path(_text(error.filename)).absolute().is_relative_to(ours)


def _text(filename: object) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)


def _out_of_memory(error: RuntimeError) -> bool:
    """Torch's words for a `MemoryError`."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """What is wrong with the user's data as one plain line; other warnings as Python formats them."""
    from weaktal.core import CoverageWarning

    if issubclass(category, CoverageWarning):
        print(f"note: {message}", file=file or sys.stderr)
    else:
        print(
            warnings.formatwarning(message, category, filename, lineno, line), file=file or sys.stderr, end=""
        )
