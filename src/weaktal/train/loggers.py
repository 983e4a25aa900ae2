"""Where losses may go besides ``log.jsonl``, through Lightning's loggers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from weaktal.core import InputError, did_you_mean


def make_loggers(names: Sequence[str], folder: Path) -> list[Any]:
    """Loggers for `weaktal.train.fit`.

    Args:
        names: of "tensorboard", "wandb", "mlflow".
        folder: run directory; everything is written below it. Weights & Biases sends nothing anywhere
            unless the environment says ``WANDB_MODE=online``.

    Raises:
        InputError: unknown, or its package is not installed.
    """
    return [_make(name, folder) for name in dict.fromkeys(names)]


def _make(name: str, folder: Path) -> Any:
    known = {
        "tensorboard": ("lightning_fabric.loggers", "TensorBoardLogger", "tensorboard"),
        "wandb": ("pytorch_lightning.loggers", "WandbLogger", "pytorch-lightning wandb"),
        "mlflow": ("pytorch_lightning.loggers", "MLFlowLogger", "pytorch-lightning mlflow"),
    }
    if name not in known:
        raise InputError(
            "unknown logger",
            found=repr(name),
            expected="one of " + ", ".join(known),
            hint=did_you_mean(name, known),
        )
    module, kind, packages = known[name]
    try:
        logger = getattr(import_module(module), kind)
        if name == "tensorboard":
            return logger(folder, name="tensorboard", version="")
        if name == "wandb":
            offline = os.environ.get("WANDB_MODE") != "online"
            return logger(project="weaktal", name=folder.name, save_dir=folder, offline=offline)
        folder.mkdir(parents=True, exist_ok=True)
        here = folder.resolve()
        return logger(
            experiment_name="weaktal",
            run_name=folder.name,
            tracking_uri=f"sqlite:///{here / 'mlflow.db'}",  # MLflow no longer writes plain files
            artifact_location=(here / "mlflow").as_uri(),
        )
    except ModuleNotFoundError as error:
        raise InputError(
            f"logging to {name} needs more packages", found=error, hint=f"pip install {packages}"
        ) from error
