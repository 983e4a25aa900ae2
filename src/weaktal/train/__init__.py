"""The training engine: the loop on Lightning Fabric, checkpoints, run directories, data at the device."""

from weaktal.train.config import parse_settings, recipes, resolve_config
from weaktal.train.data import at_device, feature_bank, inference_bank, training_data
from weaktal.train.loop import DivergedError, Summary, fit
from weaktal.train.run import Run, RunConfig, TrainingSettings

__all__ = [
    "DivergedError",
    "Run",
    "RunConfig",
    "Summary",
    "TrainingSettings",
    "at_device",
    "feature_bank",
    "fit",
    "inference_bank",
    "parse_settings",
    "recipes",
    "resolve_config",
    "training_data",
]
