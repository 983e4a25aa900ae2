"""Pixels: backgrounds that move, noise, and the figure in front of them."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from weaktal.demo.figure import HEAD_JOINT, LIMBS

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]

BACKGROUNDS = ("pan", "plasma", "stripes", "still")


def _texture(rng: np.random.Generator, width: int, height: int, base: FloatArray) -> NDArray[np.float32]:
    """A smooth random picture around a base colour, float32 (height, width, 3)."""
    out = np.broadcast_to(base, (height, width, 3)).astype(np.float32)
    for cell, strength in ((40, 26.0), (16, 14.0), (6, 9.0)):
        shape = (height // cell + 2, width // cell + 2)
        small = rng.normal(0, strength, (*shape, 1)) + rng.normal(0, 0.4 * strength, (*shape, 3))
        out = out + cv2.resize(small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return out


def background(rng: np.random.Generator, frames: int, fps: float, width: int, height: int) -> Iterator[Image]:
    """Frames of a background drawn at random: a panning picture, plasma, drifting stripes or a still one.

    All of them flicker, and most have things that drift through them.
    """
    kind = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    base = rng.uniform(70, 185, 3)
    time = np.arange(frames) / fps
    light = 1 + 0.06 * np.sin(2 * np.pi * time * rng.uniform(0.05, 0.4) + rng.uniform(0, 6))
    things = [
        (
            rng.uniform(0, [width, height * 0.8]),
            rng.uniform(-6, 6, 2),
            int(rng.integers(5, 14)),
            tuple((base + rng.uniform(-45, 45, 3)).clip(0, 255).tolist()),
        )
        for _ in range(rng.integers(0, 4))
    ]
    margin = 40
    picture = _texture(rng, width + 2 * margin, height + 2 * margin, base)
    rate = rng.uniform(0.02, 0.09, 2)
    start = rng.uniform(0, 6, 2)
    angle, period = rng.uniform(0, np.pi), rng.uniform(14, 40)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    across = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    drift = rng.uniform(-1.6, 1.6)
    sy, sx = np.mgrid[0 : height // 4, 0 : width // 4].astype(np.float32)
    for i, t in enumerate(time):
        dx = dy = float(margin)
        if kind == "pan":
            dx, dy = margin + (margin - 2) * np.sin(2 * np.pi * rate * t + start)
        corner = cv2.getRectSubPix(picture, (width, height), (dx + (width - 1) / 2, dy + (height - 1) / 2))
        frame = corner * np.float32(light[i])
        if kind == "plasma":
            wave = np.sin(sx / 7 + 0.9 * t) + np.sin(sy / 5 - 0.7 * t) + np.sin((sx + sy) / 9 + 0.5 * t)
            frame += cv2.resize(wave * np.float32(9), (width, height))[..., None]
        elif kind == "stripes":
            frame += 14 * np.sin(across + np.float32(drift * t))[..., None]
        image = frame.clip(0, 255).astype(np.uint8)
        for place, speed, radius, colour in things:
            px, py = np.mod(place + speed * t + radius, [width + 2 * radius, height + 2 * radius]) - radius
            cv2.circle(image, (round(px), round(py)), radius, colour, -1, cv2.LINE_AA)
        yield image


def frames(
    rng: np.random.Generator, skeleton: FloatArray, fps: float, width: int, height: int
) -> Iterator[Image]:
    """The video: RGB frames (height, width, 3) with the figure drawn in.

    Args:
        rng: decides colours, background and noise.
        skeleton: (N, 15, 2) joint positions in pixels, y down.
        fps: frames per second.
        width, height: of the frames.
    """
    n = len(skeleton)
    dark = rng.random() < 0.6
    clothes = [tuple(c) for c in (rng.uniform(0, 70, (3, 3)) + (0 if dark else 185)).tolist()]
    colour = [clothes[0]] + [clothes[1]] * 5 + [clothes[2]] * 5
    size = float(np.ptp(skeleton[0, :, 1]))
    thick = max(2, round(size * 0.055))
    sigma = rng.uniform(2, 7)
    bank = rng.normal(0, sigma, (8, height + 16, width + 16, 1)) + rng.normal(
        0, sigma / 3, (8, height + 16, width + 16, 3)
    )
    noise = bank.astype(np.int16)
    pick, shift = rng.integers(0, 8, n), rng.integers(0, 16, (n, 2))
    shift_bits = 4  # cv2 draws with 4 fractional bits, so that slow motion is smooth
    points = np.round(skeleton * 2**shift_bits).astype(np.int32)
    for i, image in enumerate(background(rng, n, fps, width, height)):
        p = points[i]
        for (a, b), c in zip(LIMBS, colour, strict=True):
            start, end = (int(p[a, 0]), int(p[a, 1])), (int(p[b, 0]), int(p[b, 1]))
            cv2.line(image, start, end, c, thick, cv2.LINE_AA, shift_bits)
        head = (int(p[HEAD_JOINT, 0]), int(p[HEAD_JOINT, 1]))
        cv2.circle(image, head, round(size * 0.075 * 2**shift_bits), clothes[0], -1, cv2.LINE_AA, shift_bits)
        dy, dx = shift[i]
        grain = noise[pick[i], dy : dy + height, dx : dx + width]
        yield (image + grain).clip(0, 255).astype(np.uint8)
