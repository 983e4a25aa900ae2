"""`weaktal convert-checkpoint`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weaktal.core import InputError

# under which key the official training scripts keep the weights
KEYS = ("model_state_dict", "state_dict", "model", "net", "weights")
SUFFIXES = (".pkl", ".pth", ".pt", ".ckpt", ".safetensors")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("method", help="name of a method")
    add("official", type=Path, help="official weights; a folder for methods that come in several files")
    add("run_folder", type=Path, metavar="RUN", help="run directory to make")
    add(
        "--data",
        type=Path,
        help="data set description: its class names go with the weights; for STCL-Net also the training "
        "videos whose exemplars do",
    )
    add("--recipe", help="hyper-parameters that the weights were trained with")
    add(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings", help="one hyper-parameter"
    )


def run(args: argparse.Namespace) -> int:
    from weaktal.methods import find_method
    from weaktal.methods.protocol import Method
    from weaktal.train import Run, checkpoint, parse_settings, resolve_config, training_data
    from weaktal.train.checkpoint import Position

    kind: type[Method] = find_method(args.method)
    given = resolve_config(args.method, args.recipe, parse_settings(args.settings))
    # fields that nobody named are read from the shapes of the weights
    named = {k: getattr(given, k) for k in given.model_fields_set}
    dataset = classes = None
    if args.data is not None:
        from weaktal.dataset import Dataset

        dataset = Dataset.load(args.data)
        classes = dataset.classes
    if args.official.is_dir():
        convert = getattr(kind, "from_published_folder", None)
        if convert is None:
            raise InputError(f"{args.method} comes in one file", file=args.official, hint="name that file")
        files = sorted(p for p in args.official.iterdir() if p.suffix in SUFFIXES)
        if not files:
            raise InputError("no weights in this folder", file=args.official, expected=" or ".join(SUFFIXES))
        method = convert({p.name: load_official(p) for p in files}, classes=classes, **named)
    else:
        method = kind.from_published(load_official(args.official), classes=classes, **named)
    # no official file of STCL-Net holds the exemplars that it localizes with
    make_exemplars = getattr(method, "make_exemplars", None)
    if make_exemplars is not None and dataset is not None:
        make_exemplars(training_data(dataset, method.supervision))
    made = Run.create(
        args.run_folder,
        args.method,
        method.config,
        dim=method.dim,
        classes=method.classes,
        recipe=args.recipe,
        data={"path": None if args.data is None else str(args.data.resolve())},
    )
    source = {"source": str(args.official.resolve())}
    checkpoint.save(made.folder / "checkpoints/last", method, None, Position(), meta=source)
    count = sum(p.numel() for p in method.parameters())
    if make_exemplars is not None and dataset is None:
        print(
            f"{args.method} localizes with exemplars of its training videos, and this run has none: convert "
            "with --data DATA.yaml, whose training features make them",
            file=sys.stderr,
        )
    print(f"{count:,} weights for {len(method.classes)} classes: {made.folder}", file=sys.stderr)
    return 0


def load_official(path: Path) -> Mapping[str, Any]:
    """The weights in an official checkpoint file, by their official names; no code in it is run.

    Raises:
        InputError: unreadable; it holds more than tensors and plain values; or no weights.
    """
    import pickle

    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError("cannot read this file", file=path, found=error) from error
    except pickle.UnpicklingError as error:
        raise InputError(
            "this pickle holds more than weights, and unpickling it could run code of its author",
            file=path,
            found=str(error).strip().splitlines()[-1],
            hint='if you trust the file, convert it once where nothing can be harmed: python -c "'
            "import torch; x = torch.load('IN', map_location='cpu', weights_only=False); "
            "torch.save(x.state_dict() if hasattr(x, 'state_dict') else x, 'OUT')\", and give us OUT",
        ) from error
    except Exception as error:
        raise InputError("this is not a checkpoint", file=path, found=error) from error
    for key in KEYS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not (isinstance(found, Mapping) and any(isinstance(v, torch.Tensor) for v in found.values())):
        raise InputError("no weights in this checkpoint", file=path, found=type(found).__name__)
    return {k: v for k, v in found.items() if isinstance(v, torch.Tensor)}
