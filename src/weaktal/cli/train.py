"""`weaktal train`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path
from typing import Any

from weaktal.cli import options
from weaktal.core import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "methods",
        nargs="+",
        metavar="METHOD",
        help="name of a method, FILE.py:CLASS of one's own, or the config.yaml of a run to repeat; several "
        "with --fuse",
    )
    options.add_data(parser)
    add("--out", type=options.path, required=True, metavar="RUN", help="run directory")
    options.add_recipe(parser)
    options.add_settings(
        parser,
        "one hyper-parameter; base.KEY=VALUE is one of the base locator that some methods train first, "
        "base=METHOD names another one",
    )
    add("--seed", type=options.seed, help="of every random choice (default 0)")
    options.add_subset(parser, None)
    options.add_proposals(parser)
    add("--resume", action="store_true", help="continue the run in RUN if there is one")
    options.add_device(parser, None)
    add("--precision", help="32-true, bf16-mixed, 16-mixed, ... (see Lightning Fabric)")
    add("--compile", action="store_true", default=None, help="compile the training step with torch.compile")
    options.add_max_memory(parser)
    add(
        "--evaluate-every",
        type=options.count,
        metavar="EPOCHS",
        help="evaluate on the test subset as training goes",
    )
    add("--evaluate", action="store_true", help="localize and evaluate the test subset at the end")
    add("--protocol", help="evaluation protocol (default: the data set's)")
    add(
        "--choose",
        choices=("last", "best-on-test", "weak"),
        help="which checkpoint is the run's result (default last); weak: of every EPOCHS, the one that fits "
        "the labels of the training videos best",
    )
    add(
        "--until",
        type=options.portion,
        default=1.0,
        metavar="SHARE",
        help="stop after this share of the schedule; --resume goes on",
    )
    add(
        "--starts",
        type=options.count,
        metavar="N",
        help="train N seeds; the one that fits the labels of the training videos best becomes the run",
    )
    add(
        "--early",
        type=options.share,
        metavar="SHARE",
        help="with --starts: only the best goes on after this share of the schedule",
    )
    add(
        "--fuse",
        action="store_true",
        help="with --starts: the run is the picks of several methods fused, or all starts of one; settings "
        "of several methods are METHOD.KEY=VALUE",
    )
    add("--keep", action="store_true", help="with --starts: keep the weights of all, for weaktal fuse")
    add(
        "--jobs",
        type=options.count,
        help="with --starts: so many at a time (default: what the machine takes)",
    )
    add(
        "--calibrate",
        action="store_true",
        help="then find out from which score on segments can be shown, see weaktal calibrate; takes four "
        "times as long as the training again",
    )
    add(
        "--checkpoint-seconds",
        type=options.number,
        default=60.0,
        help="how often the last state is saved (default 60)",
    )
    add(
        "--log-to",
        action="append",
        default=[],
        choices=("tensorboard", "wandb", "mlflow"),
        help="also log to",
    )
    add("--quiet", action="store_true", help="no progress")
    options.add_code(parser)


def _ended(*_: object) -> None:
    print(
        "weaktal train: this process was told to end: another process of the job has died (its message is "
        "above or in its own output), or the scheduler stopped the job; go on with --resume",
        file=sys.stderr,
        flush=True,
    )
    os._exit(143)


def run(args: argparse.Namespace) -> int:
    from weaktal.methods import is_code, load_method
    from weaktal.train.loop import ProcessLostError, job_size
    from weaktal.train.refits import calibrate
    from weaktal.train.run import read_run_config
    from weaktal.train.training import train_run

    if args.calibrate and (job_size()[0] > 1 or args.until < 1):
        raise InputError("calibrate when the training is done", hint="then: weaktal calibrate RUN")
    args.methods = [load_method(m).name if is_code(m) else m for m in args.methods]
    if len(args.methods) > 1 and not args.fuse:
        raise InputError("several methods become one run with --starts N --fuse")
    args.method = args.methods[0]
    if args.starts is not None:
        return _run_starts(args)
    for option in ("early", "fuse", "keep", "jobs"):
        if getattr(args, option):
            raise InputError(f"--{option} goes with --starts N")
    repeats = args.method.endswith((".yaml", ".yml"))
    if job_size()[0] > 1:
        signal.signal(signal.SIGTERM, _ended)
    try:
        trained = train_run(
            read_run_config(Path(args.method)) if repeats else args.method,
            args.data,
            args.out,
            recipe=args.recipe,
            settings=options.settings(args.settings),
            seed=args.seed,
            subset=args.subset,
            proposals=args.proposals,
            resume=args.resume,
            device=args.device,
            precision=args.precision,
            compile=args.compile,
            max_memory=args.max_memory,
            evaluate=args.evaluate,
            evaluate_every=args.evaluate_every,
            protocol=args.protocol,
            choose=args.choose,
            until=args.until,
            checkpoint_seconds=args.checkpoint_seconds,
            log_to=args.log_to,
            progress=not args.quiet,
        )
    except ProcessLostError as error:
        print(f"weaktal train: {error}", file=sys.stderr)
        return 1
    if trained.first:
        print(trained, file=sys.stderr)
        about = trained.run.config
        if trained.metrics is not None:
            average = 100 * trained.metrics["average_mAP"]
            print(f"average mAP {average:.2f} ({about.training.choose})", file=sys.stderr)
        path = args.data or about.data.get("path")
        if args.calibrate:
            print(calibrate(trained.run, args.data, device=args.device, progress=not args.quiet))
        print(f"next: weaktal localize {args.out} --data {path}", file=sys.stderr)
    return 0


def _run_starts(args: argparse.Namespace) -> int:
    from weaktal.train.fuse import train_fused
    from weaktal.train.refits import calibrate
    from weaktal.train.starts import train_starts

    if any(m.endswith((".yaml", ".yml")) for m in args.methods):
        raise InputError("--starts trains a method by its name, not the config.yaml of one run")
    if args.data is None:
        raise InputError("no data set: name its description with --data")
    if args.until < 1 or args.proposals is not None:
        raise InputError("neither --until nor --proposals goes with --starts")
    if args.fuse and args.evaluate:
        raise InputError(
            "--evaluate does not go with --fuse", hint="then: weaktal localize, weaktal evaluate"
        )
    chosen: dict[str, Any] = {
        "starts": args.starts,
        "early": args.early,
        "keep": args.keep,
        "jobs": args.jobs,
        "recipe": args.recipe,
        "settings": options.settings(args.settings),
        "seed": args.seed or 0,
        "subset": args.subset or "train",
        "resume": args.resume,
        "device": args.device,
        "precision": args.precision,
        "compile": args.compile,
        "max_memory": args.max_memory,
        "evaluate_every": args.evaluate_every,
        "protocol": args.protocol,
        "choose": args.choose,
        "checkpoint_seconds": args.checkpoint_seconds,
        "log_to": args.log_to,
        "progress": not args.quiet,
    }
    if args.fuse:
        print(train_fused(args.methods, args.data, args.out, **chosen))
    else:
        started = train_starts(args.method, args.data, args.out, evaluate=args.evaluate, **chosen)
        print(started)
        if started.metrics is not None:
            average = 100 * started.metrics["average_mAP"]
            print(f"average mAP {average:.2f} (seed {started.pick})", file=sys.stderr)
    if args.calibrate:
        print(calibrate(args.out, args.data, jobs=args.jobs, device=args.device, progress=not args.quiet))
    print(f"next: weaktal localize {args.out} --data {args.data}", file=sys.stderr)
    return 0
