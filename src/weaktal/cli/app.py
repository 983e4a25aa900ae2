"""`weaktal app`: the page that people work in."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "path",
        type=Path,
        metavar="FOLDER | DATASET.yaml",
        help="a project, a folder of videos (it becomes a project), or a data set description",
    )
    parser.add_argument(
        "--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine only)"
    )
    parser.add_argument("--port", type=int, help="port (default 8420, or the next one that is free)")


def run(args: argparse.Namespace) -> int:
    from weaktal.app.serve import serve

    return serve(args.path, args.host, args.port)
