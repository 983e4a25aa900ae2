"""WeakTAL: weakly-supervised temporal action localization. Videos and cheap labels in, action segments out.

Everything that a command does is one function here, see docs/python.md. A name is imported when it is first
asked for, so that ``import weaktal`` is light and evaluation never loads a network library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from weaktal.bench.reproduce import reproduce as reproduce
    from weaktal.bench.run import compare_runs as compare_runs
    from weaktal.bench.run import run_bench as run_bench
    from weaktal.bench.search import search as search
    from weaktal.core import Annotations as Annotations
    from weaktal.core import CoverageWarning as CoverageWarning
    from weaktal.core import Detections as Detections
    from weaktal.core import InputError as InputError
    from weaktal.core import SnippetScores as SnippetScores
    from weaktal.core import TimeAxis as TimeAxis
    from weaktal.dataset import Dataset as Dataset
    from weaktal.demo.job import run_demo as run_demo
    from weaktal.features.extract.extraction import extract as extract
    from weaktal.features.store import FeatureStore as FeatureStore
    from weaktal.files.convert import convert as convert
    from weaktal.files.convert import simulate_clicks as simulate_clicks
    from weaktal.files.diagnosis import diagnose as diagnose
    from weaktal.files.evaluation import evaluate_detections as evaluate_detections
    from weaktal.files.inspection import inspect as inspect
    from weaktal.files.labels import begin_labels as begin_labels
    from weaktal.formats import load_annotations as load_annotations
    from weaktal.formats import load_detections as load_detections
    from weaktal.formats import save_annotations as save_annotations
    from weaktal.formats import save_detections as save_detections
    from weaktal.train.fuse import fuse_runs as fuse_runs
    from weaktal.train.fuse import train_fused as train_fused
    from weaktal.train.localize import localize_run as localize_run
    from weaktal.train.official import convert_checkpoint as convert_checkpoint
    from weaktal.train.prediction import predict as predict
    from weaktal.train.refits import calibrate as calibrate
    from weaktal.train.reports import report_runs as report_runs
    from weaktal.train.run import Run as Run
    from weaktal.train.starts import train_starts as train_starts
    from weaktal.train.training import train_run as train_run

# name -> the module that has it; no name is that of a room, which importing it would put in its place
_PLACES = {
    "Annotations": "core",
    "CoverageWarning": "core",
    "Dataset": "dataset",
    "Detections": "core",
    "FeatureStore": "features.store",
    "InputError": "core",
    "Run": "train.run",
    "SnippetScores": "core",
    "TimeAxis": "core",
    "begin_labels": "files.labels",
    "calibrate": "train.refits",
    "compare_runs": "bench.run",
    "convert": "files.convert",
    "convert_checkpoint": "train.official",
    "diagnose": "files.diagnosis",
    "evaluate_detections": "files.evaluation",
    "extract": "features.extract.extraction",
    "fuse_runs": "train.fuse",
    "inspect": "files.inspection",
    "load_annotations": "formats",
    "load_detections": "formats",
    "localize_run": "train.localize",
    "predict": "train.prediction",
    "report_runs": "train.reports",
    "reproduce": "bench.reproduce",
    "run_bench": "bench.run",
    "run_demo": "demo.job",
    "save_annotations": "formats",
    "save_detections": "formats",
    "search": "bench.search",
    "simulate_clicks": "files.convert",
    "train_fused": "train.fuse",
    "train_run": "train.training",
    "train_starts": "train.starts",
}

__all__ = ["__version__", *_PLACES]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'weaktal' has no attribute {name!r}")
    found = getattr(import_module(f"weaktal.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})
