"""An animated stick figure: poses as angles, and the actions that move them.

A pose is a row of numbers; every function here works on all frames of a video at once. Angles are measured
from straight down, positive towards the side that the figure faces; lengths are in body heights.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# columns of a pose
LEAN, ARM_L, FOREARM_L, ARM_R, FOREARM_R, THIGH_L, SHIN_L, THIGH_R, SHIN_R, LIFT, WIDTH = range(11)
POSE_SIZE = 11

THIGH, SHIN, TORSO, ARM, FOREARM, HEAD = 0.24, 0.24, 0.29, 0.17, 0.16, 0.075
SHOULDER, HIP = 0.055, 0.035  # half widths

# joints, as rows of `joints`; LIMBS are drawn between them
LIMBS = ((0, 1), (2, 3), (3, 4), (5, 6), (6, 7), (2, 5), (8, 9), (9, 10), (11, 12), (12, 13), (8, 11))
HEAD_JOINT = 14


def _rest(n: int) -> FloatArray:
    pose = np.zeros((n, POSE_SIZE))
    pose[:, [ARM_L, FOREARM_L, ARM_R, FOREARM_R]] = (-0.22, -0.12, 0.22, 0.12)
    pose[:, [THIGH_L, SHIN_L, THIGH_R, SHIN_R]] = (-0.08, -0.08, 0.08, 0.08)
    pose[:, WIDTH] = 1
    return pose


def idle(phase: FloatArray) -> FloatArray:
    """Standing: breathing, a swaying trunk, arms that hang and drift. `phase` in radians, (N,)."""
    pose = _rest(len(phase))
    pose[:, LEAN] = 0.05 * np.sin(phase)
    pose[:, ARM_L] += 0.08 * np.sin(0.7 * phase)
    pose[:, ARM_R] += 0.08 * np.sin(0.9 * phase + 1)
    pose[:, FOREARM_R] += 0.15 * (1 + np.sin(0.6 * phase))
    return pose


def walk(phase: FloatArray) -> FloatArray:
    """A walk on the spot; the root moves elsewhere."""
    pose, s, c = _rest(len(phase)), np.sin(phase), np.cos(phase)
    pose[:, LEAN] = 0.08
    pose[:, THIGH_L], pose[:, THIGH_R] = 0.45 * s, -0.45 * s
    pose[:, SHIN_L] = pose[:, THIGH_L] - 0.5 * np.maximum(0, c)
    pose[:, SHIN_R] = pose[:, THIGH_R] - 0.5 * np.maximum(0, -c)
    pose[:, ARM_L], pose[:, ARM_R] = -0.4 * s, 0.4 * s
    pose[:, FOREARM_L], pose[:, FOREARM_R] = pose[:, ARM_L] + 0.3, pose[:, ARM_R] + 0.3
    return pose


def wave(phase: FloatArray) -> FloatArray:
    """One arm overhead, swinging from side to side."""
    pose = _rest(len(phase))
    pose[:, LEAN] = 0.05 * np.sin(phase)
    pose[:, ARM_R] = 2.5 + 0.3 * np.sin(phase)
    pose[:, FOREARM_R] = 2.75 + 0.9 * np.sin(phase)
    return pose


def jump(phase: FloatArray) -> FloatArray:
    """Crouch, leap with the arms thrown up, land."""
    pose, s = _rest(len(phase)), np.sin(phase - 0.6)
    up, down = np.maximum(0, s), np.maximum(0, -s)
    pose[:, LIFT] = 0.3 * up
    pose[:, [THIGH_L, THIGH_R]] += down[:, None] * np.array([0.6, 0.9])
    pose[:, [SHIN_L, SHIN_R]] -= down[:, None] * np.array([0.7, 0.4])
    pose[:, LEAN] = 0.3 * down
    pose[:, [ARM_L, FOREARM_L]] -= 2.5 * up[:, None]
    pose[:, [ARM_R, FOREARM_R]] += 2.5 * up[:, None]
    return pose


def squat(phase: FloatArray) -> FloatArray:
    """Knees bent, arms forward, and up again."""
    pose, d = _rest(len(phase)), ((1 - np.cos(phase)) / 2)[:, None]
    pose[:, [THIGH_L, THIGH_R]] += d * np.array([1.15, 1.35])
    pose[:, [SHIN_L, SHIN_R]] -= d * np.array([0.9, 0.7])
    pose[:, LEAN] = 0.4 * d[:, 0]
    pose[:, [ARM_L, FOREARM_L, ARM_R, FOREARM_R]] += d * np.array([1.6, 1.5, 1.2, 1.3])
    return pose


def kick(phase: FloatArray) -> FloatArray:
    """One leg swings high to the front, the trunk leans back."""
    pose, k = _rest(len(phase)), np.maximum(0, np.sin(phase)) ** 0.8
    pose[:, THIGH_R] += 1.55 * k
    pose[:, SHIN_R] += 1.6 * k - 0.9 * np.maximum(0, np.sin(phase + 0.9)) * (k < 0.5)
    pose[:, LEAN] = -0.3 * k
    pose[:, [ARM_L, FOREARM_L]] -= 0.6 * k[:, None]
    pose[:, [ARM_R, FOREARM_R]] -= 0.9 * k[:, None]
    return pose


def punch(phase: FloatArray) -> FloatArray:
    """Guard up, the fists shoot forward in turn."""
    pose = _rest(len(phase))
    pose[:, LEAN] = 0.12
    for side, arm, forearm in ((1.0, ARM_R, FOREARM_R), (-1.0, ARM_L, FOREARM_L)):
        out = np.maximum(0, side * np.sin(phase)) ** 0.6
        pose[:, arm] = 0.45 + 1.1 * out
        pose[:, forearm] = 2.3 - 0.75 * out
    pose[:, [THIGH_L, SHIN_L, THIGH_R, SHIN_R]] = (-0.25, -0.35, 0.3, 0.1)
    return pose


def spin(phase: FloatArray) -> FloatArray:
    """A turn about the vertical axis with the arms held out."""
    pose = _rest(len(phase))
    pose[:, [ARM_L, FOREARM_L, ARM_R, FOREARM_R]] = (-1.5, -1.6, 1.5, 1.6)
    pose[:, WIDTH] = np.cos(phase)
    return pose


# action -> motion, lowest and highest cycles per second
ACTIONS: dict[str, tuple[Callable[[FloatArray], FloatArray], float, float]] = {
    "Jump": (jump, 0.8, 1.2),
    "Kick": (kick, 0.8, 1.3),
    "Punch": (punch, 0.9, 1.6),
    "Spin": (spin, 0.5, 0.9),
    "Squat": (squat, 0.55, 0.9),
    "Wave": (wave, 1.2, 2.0),
}


def joints(pose: FloatArray) -> FloatArray:
    """Joint positions of poses.

    Args:
        pose: (N, POSE_SIZE).

    Returns:
        (N, 15, 2) in body heights: x towards the faced side, y up from the ground.
    """
    n = len(pose)

    def step(angle: int, length: float) -> FloatArray:
        return length * np.stack([np.sin(pose[:, angle]), -np.cos(pose[:, angle])], axis=-1)

    out = np.zeros((n, 15, 2))
    hip, side = np.zeros((n, 2)), np.array([1.0, 0.0])
    neck = hip + TORSO * np.stack([np.sin(pose[:, LEAN]), np.cos(pose[:, LEAN])], axis=-1)
    out[:, 0], out[:, 1] = hip, neck
    for row, sign, upper, lower in ((2, -1, ARM_L, FOREARM_L), (5, 1, ARM_R, FOREARM_R)):
        out[:, row] = neck + sign * SHOULDER * side
        out[:, row + 1] = out[:, row] + step(upper, ARM)
        out[:, row + 2] = out[:, row + 1] + step(lower, FOREARM)
    for row, sign, upper, lower in ((8, -1, THIGH_L, SHIN_L), (11, 1, THIGH_R, SHIN_R)):
        out[:, row] = hip + sign * HIP * side
        out[:, row + 1] = out[:, row] + step(upper, THIGH)
        out[:, row + 2] = out[:, row + 1] + step(lower, SHIN)
    out[:, HEAD_JOINT] = neck + (neck - hip) / TORSO * (HEAD + 0.035)
    out[..., 0] *= pose[:, None, WIDTH]
    lowest = np.minimum(out[:, 10, 1], out[:, 13, 1])  # the lower foot stands on the ground
    out[..., 1] += (pose[:, LIFT] - lowest)[:, None]
    return out
