"""`weaktal train`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

from weaktal.core import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method, or the config.yaml of a run to repeat")
    add("--data", type=Path, help="data set description (YAML)")
    add("--out", type=Path, required=True, metavar="RUN", help="run directory")
    add("--recipe", help="hyper-parameters that come with the package, or a YAML file")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="one hyper-parameter; base.KEY=VALUE is one of the base locator that TSPNet trains first",
    )
    add("--seed", type=int, help="of every random choice (default 0)")
    add("--subset", help="role or name of the training subset (default train)")
    add("--proposals", type=Path, help="segments of a base locator, for proposal-level methods")
    add("--resume", action="store_true", help="continue the run in RUN if there is one")
    add("--device", help="auto, cpu, cuda, cuda:1, mps")
    add("--precision", help="32-true, bf16-mixed, 16-mixed, ... (see Lightning Fabric)")
    add("--compile", action="store_true", default=None, help="compile the training step with torch.compile")
    add(
        "--max-memory", metavar="SIZE", help="most memory for features, such as 8GiB; above it, memory-mapped"
    )
    add("--evaluate-every", type=int, metavar="EPOCHS", help="evaluate on the test subset as training goes")
    add("--evaluate", action="store_true", help="localize and evaluate the test subset at the end")
    add("--protocol", help="evaluation protocol (default: the data set's)")
    add(
        "--choose",
        choices=("last", "best-on-test"),
        help="which checkpoint is the run's result (default last)",
    )
    add("--checkpoint-seconds", type=float, default=60.0, help="how often the last state is saved")
    add(
        "--log-to",
        action="append",
        default=[],
        choices=("tensorboard", "wandb", "mlflow"),
        help="also log to",
    )
    add("--quiet", action="store_true", help="no progress")


def _ended(*_: object) -> None:
    print(
        "weaktal train: this process was told to end: another process of the job has died (its message is "
        "above or in its own output), or the scheduler stopped the job; go on with --resume",
        file=sys.stderr,
        flush=True,
    )
    os._exit(143)


def run(args: argparse.Namespace) -> int:
    from weaktal.train.loop import ProcessLostError

    try:
        return _run(args)
    except ProcessLostError as error:
        print(f"weaktal train: {error}", file=sys.stderr)
        return 1


def _run(args: argparse.Namespace) -> int:
    from weaktal.bench.measure import Measure, load_proposals
    from weaktal.dataset import Dataset
    from weaktal.formats import save_detections
    from weaktal.methods import find_method
    from weaktal.methods.protocol import Method
    from weaktal.train import Run, TrainingSettings, fit, parse_settings, resolve_config, training_data
    from weaktal.train.base_locator import base_proposals, recipe_of
    from weaktal.train.config import validated
    from weaktal.train.data import at_device, describe_data
    from weaktal.train.loggers import make_loggers
    from weaktal.train.loop import launch
    from weaktal.train.run import read_run_config

    settings = parse_settings(args.settings)
    base_settings = {
        k.removeprefix("base."): settings.pop(k) for k in list(settings) if k.startswith("base.")
    }
    if args.method.endswith((".yaml", ".yml")):
        old = read_run_config(Path(args.method))
        if args.recipe:
            raise InputError("a config.yaml is complete; --recipe does not go with it")
        name, seed, recipe = old.method, old.seed, old.recipe
        kind: type[Method] = find_method(name)
        config = validated(kind.Config, {**old.config, **settings})
        about, chosen = old.data, old.training.model_dump()
    else:
        name, seed, recipe = args.method, 0, args.recipe
        kind = find_method(name)
        config = resolve_config(name, recipe, settings)
        about, chosen = {}, {}
    names = ("device", "precision", "compile", "max_memory", "evaluate_every", "protocol", "choose")
    chosen |= {k: v for k in names if (v := getattr(args, k)) is not None}
    training = TrainingSettings(**chosen)
    seed = seed if args.seed is None else args.seed
    path = args.data or about.get("path")
    if path is None:
        raise InputError("no data set: name its description with --data")
    subset = args.subset or about.get("subset", "train")
    proposals_path = args.proposals or about.get("proposals")

    dataset = Dataset.load(path)
    if training.choose == "best-on-test" and training.evaluate_every is None:
        raise InputError("best-on-test chooses among evaluations", hint="add --evaluate-every EPOCHS")
    fabric = launch(training.device, training.precision, make_loggers(args.log_to, args.out))
    fabric.launch()
    if fabric.world_size > 1:
        signal.signal(signal.SIGTERM, _ended)
    if kind.base is not None and proposals_path is None:
        base_recipe = recipe_of(kind.base, recipe)
        proposals_path = base_proposals(
            dataset,
            args.out / "base",
            kind.base,
            resolve_config(kind.base, base_recipe, base_settings),
            recipe=base_recipe,
            subset=subset,
            seed=seed,
            training=training.model_copy(update={"choose": "last", "evaluate_every": None}),
            resume=args.resume,
            checkpoint_seconds=args.checkpoint_seconds,
            progress=not args.quiet,
            fabric=fabric,
        )
    elif base_settings:
        raise InputError(
            "no base locator is trained here",
            found="base." + ", base.".join(base_settings),
            expected="no base.*",
        )
    proposals = load_proposals(proposals_path, dataset)
    measure = None
    if args.evaluate or training.evaluate_every is not None:
        measure = Measure(
            dataset,
            protocol=training.protocol,
            proposals=proposals,
            max_memory=training.max_memory,
            scratch=args.out / "features",
        )
    data = training_data(
        dataset,
        kind.supervision,
        subset=subset,
        seed=seed,
        proposals=proposals,
        max_memory=training.max_memory,
        scratch=args.out / "features",
    )
    if fabric.is_global_zero:
        Run.create(
            args.out,
            name,
            config,
            dim=data.bank.dim,
            classes=data.weak.classes,
            seed=seed,
            recipe=recipe,
            data=describe_data(dataset, data, subset, proposals_path),
            training=training,
            resume=args.resume,
        )
    fabric.barrier()
    made = Run.open(args.out)
    data = replace(data, bank=at_device(data.bank, fabric.device, training.max_memory))
    method = made.build()
    summary = fit(
        method,
        data,
        made.folder,
        seed=seed,
        resume=args.resume,
        compile=training.compile,
        evaluate=measure if training.evaluate_every else None,
        evaluate_every=training.evaluate_every or 1,
        choose=training.choose,
        checkpoint_seconds=args.checkpoint_seconds,
        progress=not args.quiet,
        fabric=fabric,
    )
    if fabric.is_global_zero:
        for artifact, found in method.artifacts().items():
            save_detections(found, made.folder / "artifacts" / f"{artifact}.json")
        print(f"trained {name} on {len(data)} videos: {summary}", file=sys.stderr)
        if measure is not None:
            metrics = measure.of_run(made)
            print(f"average mAP {100 * metrics['average_mAP']:.2f} ({training.choose})", file=sys.stderr)
        print(f"next: weaktal localize {args.out} --data {path}", file=sys.stderr)
    return 0
