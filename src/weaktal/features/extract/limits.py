"""What a video may ask of us before it is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from weaktal.core import InputError

DAY = 86_400.0  # seconds; a time that is further off than this is no time of a recording


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one odd file from taking the machine.

    Attributes:
        gap: seconds without a picture that the picture before stands for. Over a longer gap, up to a day,
            time goes on with the next picture; two pictures more than a day apart are refused.
        length: seconds of a video, bridged gaps included.
        pixels: of a picture.
        side: least width and height of a picture, pixels.
    """

    gap: float = 300.0
    length: float = 2 * DAY
    pixels: int = 2**26
    side: int = 16

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if not (math.isfinite(value) and value > 0):
                raise InputError(f"the limit {f.name!r} is a positive number", found=value)
        if self.gap > DAY:
            raise InputError("a gap that is bridged has at most a day", found=f"{self.gap:g} s")
