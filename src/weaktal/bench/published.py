"""Detection mAP (percent) that the authors publish, to stand beside a bench of the same data.

On real I3D features, and with the checkpoint chosen on the test set.
"""

from __future__ import annotations

from collections.abc import Mapping

TIOU = ("0.1", "0.2", "0.3", "0.4", "0.5", "0.6", "0.7")


def _thumos(*values: float) -> dict[str, float]:
    each = dict(zip(TIOU, values, strict=True))
    return {**each, "average": round(sum(values) / len(values), 1)}


# data set -> method -> tIoU threshold -> mAP
PUBLISHED: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "thumos14": {
        "asm_loc": _thumos(71.1, 65.4, 57.4, 46.7, 36.8, 25.5, 14.4),
        "issf": _thumos(72.4, 66.9, 58.4, 49.7, 41.8, 25.5, 12.8),
        "sal": _thumos(76.3, 71.6, 63.7, 54.2, 41.8, 29.0, 17.9),
        "stcl_net": _thumos(73, 67, 58, 50, 42, 29, 16),  # last run of the log in the repository
    },
    "activitynet13": {
        "asm_loc": {"0.5": 41.0, "0.75": 24.5, "0.95": 0.6, "average": 25.1},
        "sal": {"0.5": 44.5, "0.75": 28.9, "0.95": 6.8, "average": 28.8},
    },
    "activitynet12": {"sal": {"0.5": 48.5, "0.75": 31.4, "0.95": 7.1, "average": 30.8}},
}
