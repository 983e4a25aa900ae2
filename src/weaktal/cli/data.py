"""`weaktal data inspect`, `labels`, `convert` and `simulate-points`."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

from weaktal.cli import options
from weaktal.core import CoverageWarning, write_text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The sub-commands."""
    from weaktal.files.kinds import FORMATS

    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", required=True, parser_class=options.Parser
    )
    look = actions.add_parser("inspect", help="what is there, and what is wrong with it")
    look.add_argument(
        "path", type=options.path, help="a data set description, or annotations, detections, features, ..."
    )
    look.add_argument("--quick", action="store_true", help="headers only: do not read feature values")
    look.add_argument("--json", type=options.path, metavar="FILE", help="the same for programs")
    begin = actions.add_parser("labels", help="a table of videos to fill in, and the description beside it")
    begin.add_argument("videos", nargs="+", type=options.path, metavar="VIDEO", help="files or folders")
    begin.add_argument("--out", type=options.path, default=Path("labels.csv"), help="default labels.csv")
    turn = actions.add_parser("convert", help="from one format to another")
    turn.add_argument("source", type=options.path, metavar="SRC")
    turn.add_argument("target", type=options.path, metavar="DST")
    known = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in FORMATS.items())
    turn.add_argument(
        "--from",
        dest="kind",
        choices=(*FORMATS, *FORMATS["annotations"]),
        metavar="KIND",
        help=f"what SRC holds, where looking is not enough: {', '.join(FORMATS)}, or a format of annotations",
    )
    turn.add_argument("--to", metavar="FORMAT", help=f"by the suffix of DST without it ({known})")
    turn.add_argument(
        "--threshold",
        type=options.number,
        metavar="SCORE",
        help="detections: only those with at least this score",
    )
    turn.add_argument(
        "--top", type=options.count, metavar="K", help="detections: only the K surest of a class in a video"
    )
    click = actions.add_parser("simulate-points", help="clicks for studies, drawn from full annotations")
    click.add_argument(
        "source", type=options.path, metavar="ANNOTATIONS", help="a data set description or annotations"
    )
    click.add_argument(
        "target", type=options.path, metavar="TXT", help="clicks as text; it says that they are simulated"
    )
    click.add_argument("--kind", choices=("gaussian", "uniform"), default="gaussian", help="default gaussian")
    click.add_argument(
        "--sigma", type=options.number, default=0.2, help="of gaussian, as a share of the length (0.2)"
    )
    click.add_argument(
        "--per-instance", type=options.count, default=1, metavar="N", help="clicks per instance (1)"
    )
    click.add_argument("--seed", type=options.seed, default=0)
    click.add_argument("--subset", help="only this subset, by the annotations' word for it")
    for sub in (look, turn):
        sub.add_argument(
            "--annotations", type=options.path, metavar="FILE", help="durations and frame rates of the videos"
        )
        sub.add_argument(
            "--fps",
            type=options.frame_rate,
            help="frame rate of the original videos, or a JSON table of them",
        )
        sub.add_argument("--rate", type=options.number, help="features: snippets per second")
        sub.add_argument(
            "--names", type=options.path, metavar="NPY", help="features: videoname.npy of a joint array"
        )
        sub.add_argument("--prefix", default="", help="features: what file names have before video names")
        sub.add_argument("--suffix", default="", help="features: what file names have behind video names")


def run(args: argparse.Namespace) -> int:
    """Inspect or convert."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", CoverageWarning)
        about, text = _asked(args)
    said = [str(w.message) for w in caught if issubclass(w.category, CoverageWarning)]
    print("\n".join([text, *(f"! {remark}" for remark in said)]))
    if getattr(args, "json", None) is not None:
        write_text(args.json, json.dumps(about | {"warnings": said}, indent=1) + "\n")
    return 0


def _asked(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    """The answer, for programs and for people."""
    from weaktal.files.convert import convert, simulate_clicks
    from weaktal.files.inspection import inspect
    from weaktal.files.labels import begin_labels

    if args.action == "simulate-points":
        done = simulate_clicks(
            args.source,
            args.target,
            kind=args.kind,
            sigma=args.sigma,
            per_instance=args.per_instance,
            seed=args.seed,
            subset=args.subset,
        )
        return {}, str(done)
    if args.action == "labels":
        count, description = begin_labels(args.videos, args.out)
        text = f"{args.out}: {count} videos; fill in which classes occur, a row for each class of a video"
        return {}, f"{text}\n{description}: the description of the data set, for --data"
    about = {
        "annotations": args.annotations,
        "fps": args.fps,
        "rate": args.rate,
        "names": args.names,
        "prefix": args.prefix,
        "suffix": args.suffix,
    }
    if args.action == "convert":
        return {}, str(
            convert(
                args.source,
                args.target,
                kind=args.kind,
                to=args.to,
                threshold=args.threshold,
                top=args.top,
                **about,
            )
        )
    found = inspect(args.path, quick=args.quick, **about)
    return dict(found.about), str(found)
