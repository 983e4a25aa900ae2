"""Detection mAP under named protocols, classification mAP, average recall, error diagnosis. NumPy only."""

from weaktal.evaluate.classification import (
    classification_ap,
    classification_map,
    diving_rule,
    exact_accuracy,
    top1_accuracy,
)
from weaktal.evaluate.detection import Coverage, DetectionResult, evaluate, file_sha256, touches_ignored
from weaktal.evaluate.diagnosis import Diagnosis, diagnose
from weaktal.evaluate.proposals import RecallResult, average_recall
from weaktal.evaluate.protocols import PROTOCOLS, Protocol, get_protocol

__all__ = [
    "PROTOCOLS",
    "Coverage",
    "DetectionResult",
    "Diagnosis",
    "Protocol",
    "RecallResult",
    "average_recall",
    "classification_ap",
    "classification_map",
    "diagnose",
    "diving_rule",
    "evaluate",
    "exact_accuracy",
    "file_sha256",
    "get_protocol",
    "top1_accuracy",
    "touches_ignored",
]
