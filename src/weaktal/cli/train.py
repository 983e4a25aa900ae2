"""`weaktal train`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from weaktal.core import Detections, InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method, or the config.yaml of a run to repeat")
    add("--data", type=Path, help="data set description (YAML)")
    add("--out", type=Path, required=True, metavar="RUN", help="run directory")
    add("--recipe", help="hyper-parameters that come with the package, or a YAML file")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one hyper-parameter"
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
    add("--checkpoint-seconds", type=float, default=60.0, help="how often the last state is saved")
    add(
        "--log-to",
        action="append",
        default=[],
        choices=("tensorboard", "wandb", "mlflow"),
        help="also log to",
    )
    add("--quiet", action="store_true", help="no progress")


def run(args: argparse.Namespace) -> int:
    from weaktal.dataset import Dataset
    from weaktal.methods import find_method
    from weaktal.methods.protocol import Method
    from weaktal.train import Run, TrainingSettings, fit, parse_settings, resolve_config, training_data
    from weaktal.train.config import validated
    from weaktal.train.data import at_device
    from weaktal.train.loggers import make_loggers
    from weaktal.train.loop import launch
    from weaktal.train.run import read_run_config

    settings = parse_settings(args.settings)
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
    chosen |= {
        k: v for k in ("device", "precision", "compile", "max_memory") if (v := getattr(args, k)) is not None
    }
    training = TrainingSettings(**chosen)
    seed = seed if args.seed is None else args.seed
    path = args.data or about.get("path")
    if path is None:
        raise InputError("no data set: name its description with --data")
    subset = args.subset or about.get("subset", "train")
    proposals_path = args.proposals or about.get("proposals")

    dataset = Dataset.load(path)
    proposals: Detections | None = None
    if proposals_path is not None:
        from weaktal.formats import load_detections

        proposals = load_detections(proposals_path)
    data = training_data(
        dataset,
        kind.supervision,
        subset=subset,
        seed=seed,
        proposals=proposals,
        max_memory=training.max_memory,
        scratch=args.out / "features",
    )
    fabric = launch(training.device, training.precision, make_loggers(args.log_to, args.out))
    fabric.launch()
    described: dict[str, Any] = {
        "path": str(Path(path).resolve()),
        "name": dataset.name,
        "subset": subset,
        "videos": len(data),
        "proposals": str(Path(proposals_path).resolve()) if proposals_path else None,
        "features": dataset.store.provenance,
    }
    if fabric.is_global_zero:
        Run.create(
            args.out,
            name,
            config,
            dim=data.bank.dim,
            classes=data.weak.classes,
            seed=seed,
            recipe=recipe,
            data=described,
            training=training,
            resume=args.resume,
        )
    fabric.barrier()
    made = Run.open(args.out)
    summary = fit(
        made.build(),
        at_device(data, fabric.device, training.max_memory),
        made.folder,
        seed=seed,
        resume=args.resume,
        compile=training.compile,
        checkpoint_seconds=args.checkpoint_seconds,
        progress=not args.quiet,
        fabric=fabric,
    )
    if fabric.is_global_zero:
        print(f"trained {name} on {len(data)} videos: {summary}", file=sys.stderr)
        print(f"next: weaktal localize {args.out} --data {path}", file=sys.stderr)
    return 0
