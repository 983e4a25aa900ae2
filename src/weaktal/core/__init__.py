"""What every room speaks: annotations, detections, time axes, snippet scores, errors. NumPy only."""

from weaktal.core.annotations import (
    Annotations,
    Instances,
    InstanceTable,
    Points,
    Video,
    WeakLabels,
    WeakVideo,
)
from weaktal.core.atomic import atomic_path, write_json, write_text
from weaktal.core.detections import Detections, Grid
from weaktal.core.errors import CoverageWarning, InputError, did_you_mean
from weaktal.core.findings import Finding, times_beyond
from weaktal.core.names import NameIndex, composed, file_name, file_names
from weaktal.core.printable import printable, shown
from weaktal.core.scores import SnippetScores
from weaktal.core.time_axis import TimeAxis, piecewise_linear

__all__ = [
    "Annotations",
    "CoverageWarning",
    "Detections",
    "Finding",
    "Grid",
    "InputError",
    "InstanceTable",
    "Instances",
    "NameIndex",
    "Points",
    "SnippetScores",
    "TimeAxis",
    "Video",
    "WeakLabels",
    "WeakVideo",
    "atomic_path",
    "composed",
    "did_you_mean",
    "file_name",
    "file_names",
    "piecewise_linear",
    "printable",
    "shown",
    "times_beyond",
    "write_json",
    "write_text",
]
