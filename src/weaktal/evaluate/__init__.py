"""Detection mAP under named protocols and its intervals, other measures, diagnosis. NumPy only."""

from weaktal.evaluate.classification import (
    classification_ap,
    classification_map,
    diving_rule,
    exact_accuracy,
    top1_accuracy,
)
from weaktal.evaluate.detection import Coverage, DetectionResult, evaluate, file_sha256, touches_ignored
from weaktal.evaluate.diagnosis import (
    Comparison,
    Confusion,
    Diagnosis,
    analyse,
    class_confusion,
    compare,
    strongest_rows,
)
from weaktal.evaluate.intervals import (
    GroupIntervals,
    Interval,
    Intervals,
    compare_groups,
    differences,
    holm,
    intervals,
)
from weaktal.evaluate.operating import Curve, Intersection, Seconds, errors_in_seconds, operating_curves
from weaktal.evaluate.proposals import RecallResult, average_recall
from weaktal.evaluate.protocols import PROTOCOLS, Protocol, get_protocol

__all__ = [
    "PROTOCOLS",
    "Comparison",
    "Confusion",
    "Coverage",
    "Curve",
    "DetectionResult",
    "Diagnosis",
    "GroupIntervals",
    "Intersection",
    "Interval",
    "Intervals",
    "Protocol",
    "RecallResult",
    "Seconds",
    "analyse",
    "average_recall",
    "class_confusion",
    "classification_ap",
    "classification_map",
    "compare",
    "compare_groups",
    "differences",
    "diving_rule",
    "errors_in_seconds",
    "evaluate",
    "exact_accuracy",
    "file_sha256",
    "get_protocol",
    "holm",
    "intervals",
    "operating_curves",
    "strongest_rows",
    "top1_accuracy",
    "touches_ignored",
]
