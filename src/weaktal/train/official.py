"""A run directory from official weights: what `weaktal convert-checkpoint` does."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from weaktal.core import CoverageWarning, InputError
from weaktal.dataset import Dataset
from weaktal.methods import find_method
from weaktal.methods.protocol import Method
from weaktal.train import checkpoint
from weaktal.train.checkpoint import Position
from weaktal.train.config import resolve_config
from weaktal.train.data import training_data
from weaktal.train.run import Run

PathLike = str | os.PathLike[str]
# under which key the official training scripts keep the weights
KEYS = ("model_state_dict", "state_dict", "model", "net", "weights")
SUFFIXES = (".pkl", ".pth", ".pt", ".ckpt", ".safetensors")


@dataclass(frozen=True)
class ConvertedCheckpoint:
    """What was made.

    Attributes:
        run: its directory.
        weights: how many numbers it holds.
    """

    run: Run
    weights: int

    def __str__(self) -> str:
        return f"{self.weights:,} weights for {len(self.run.config.classes)} classes: {self.run.folder}"


def convert_checkpoint(
    method: str,
    official: PathLike,
    out: PathLike,
    *,
    data: Dataset | PathLike | None = None,
    recipe: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> ConvertedCheckpoint:
    """A run directory from official weights; no code in their file is run.

    Args:
        method: its name.
        official: the weights; a folder for methods that come in several files.
        out: run directory to make.
        data: a data set, or its description: its class names go with the weights; for STCL-Net also the
            training videos whose exemplars do.
        recipe: hyper-parameters that the weights were trained with.
        settings: single hyper-parameters; what nobody names is read from the shapes of the weights.

    Raises:
        InputError: no weights, other weights than the method's, or a run in `out` already.

    Warns:
        CoverageWarning: a run without the exemplars that its method localizes with.
    """
    kind: type[Method] = find_method(method)
    official = Path(official)
    given = resolve_config(method, recipe, settings)
    named = {k: getattr(given, k) for k in given.model_fields_set}
    dataset = Dataset.load(data) if isinstance(data, str | os.PathLike) else data
    classes = None if dataset is None else dataset.classes
    if official.is_dir():
        from_folder = getattr(kind, "from_published_folder", None)
        if from_folder is None:
            raise InputError(f"{method} comes in one file", file=official, hint="name that file")
        files = sorted(p for p in official.iterdir() if p.suffix in SUFFIXES)
        if not files:
            raise InputError("no weights in this folder", file=official, expected=" or ".join(SUFFIXES))
        built = from_folder({p.name: load_official(p) for p in files}, classes=classes, **named)
    else:
        built = kind.from_published(load_official(official), classes=classes, **named)
    # no official file of STCL-Net holds the exemplars that it localizes with
    make_exemplars = getattr(built, "make_exemplars", None)
    if make_exemplars is not None and dataset is not None:
        make_exemplars(training_data(dataset, built.supervision))
    run = Run.create(
        out,
        method,
        built.config,
        dim=built.dim,
        classes=built.classes,
        recipe=recipe,
        data={"path": None if dataset is None else str(dataset.path.resolve())},
    )
    source = {"source": str(official.resolve())}
    checkpoint.save(run.folder / "checkpoints/last", built, None, Position(), meta=source)
    if make_exemplars is not None and dataset is None:
        warnings.warn(
            f"{method} localizes with exemplars of its training videos, and this run has none: convert with "
            "--data DATA.yaml, whose training features make them",
            CoverageWarning,
            stacklevel=2,
        )
    return ConvertedCheckpoint(run, sum(p.numel() for p in built.parameters()))


def load_official(path: Path) -> Mapping[str, Any]:
    """The weights in an official checkpoint file, by their official names; no code in it is run.

    Raises:
        InputError: unreadable; it holds more than tensors and plain values; or no weights.
    """
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
