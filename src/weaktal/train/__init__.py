"""The loop, stages, checkpoints; runs and all that is done with one: localize, predict, measure, report."""

from weaktal.train.config import recipes, resolve_config
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
    "recipes",
    "resolve_config",
    "training_data",
]
