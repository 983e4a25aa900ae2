"""`weaktal convert-checkpoint`."""

from __future__ import annotations

import argparse
import sys

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method")
    add(
        "official",
        type=options.path,
        help="official weights; a folder for methods that come in several files",
    )
    add("run_folder", type=options.path, metavar="RUN", help="run directory to make")
    add(
        "--data",
        type=options.path,
        help="data set description: its class names go with the weights; for STCL-Net also the training "
        "videos whose exemplars do",
    )
    add("--recipe", help="hyper-parameters that the weights were trained with")
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.official import convert_checkpoint

    made = convert_checkpoint(
        args.method,
        args.official,
        args.run_folder,
        data=args.data,
        recipe=args.recipe,
        settings=options.settings(args.settings),
    )
    print(made, file=sys.stderr)
    return 0
