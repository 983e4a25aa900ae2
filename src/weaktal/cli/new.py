"""`weaktal new method`: the files of a method of one's own."""

from __future__ import annotations

import argparse
from pathlib import Path

from weaktal.cli import options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("what", choices=("method",), help="what to begin")
    add("name", help="its name, in lower case with underscores")
    add("--out", type=options.path, default=Path(), metavar="FOLDER", help="where to write (default: here)")


def run(args: argparse.Namespace) -> int:
    from weaktal.templates.write import new_method

    module, recipe, test = new_method(args.name, args.out)
    kind = f"{module}:{''.join(w.capitalize() for w in args.name.split('_'))}"
    print(f"{module}, {recipe}, {test}: a small method that works, for you to change\n")
    print(f"weaktal train {kind} --recipe {recipe} --data my_data.yaml --out my_run")
    print(f"weaktal localize my_run --code {kind}")
    print(f"cd {module.parent} && python -m pytest {test.name}     # the contract of every method")
    return 0
