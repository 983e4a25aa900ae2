"""Small video files of all kinds, sound and unsound."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def picture(k: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A frame whose brightness tells its number: (H, W, 3), gray value 20 + 8 k modulo 200."""
    return np.full((size[1], size[0], 3), 20 + 8 * k % 200, np.uint8)


def numbered(k: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A frame with its number in two digits of brightness: ``k % 16`` left, ``k // 16`` right."""
    image = np.empty((size[1], size[0], 3), np.uint8)
    image[:, : size[0] // 2], image[:, size[0] // 2 :] = 20 + 12 * (k % 16), 20 + 12 * (k // 16)
    return image


def number(image: np.ndarray) -> int:
    """The number that `numbered` put into a frame."""
    half, edge = image.shape[1] // 2, image.shape[1] // 8
    left, right = image[:, edge : half - edge].mean(), image[:, half + edge : -edge].mean()
    return round((left - 20) / 12) + 16 * round((right - 20) / 12)


def moving(k: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    """A bright bar that walks over a fixed texture."""
    image = np.random.default_rng(0).integers(40, 90, (size[1], size[0], 3), dtype=np.uint8)
    x = 2 * k % size[0]
    image[size[1] // 4 : -size[1] // 4, x : x + 8] = 230
    return image


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    fps: int | Fraction = 10,
    *,
    times: Sequence[float] | None = None,
    rotation: int | None = None,
    flips: tuple[bool, bool] = (False, False),
    sound: bool = False,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    keyframes: int = 5,
    b_frames: int = 0,
) -> Path:
    """Encode frames; `times` in seconds makes the frame rate variable."""
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        height, width = frames[0].shape[:2]
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
        stream.codec_context.gop_size = keyframes
        tick = 1 / Fraction(fps) if times is None else Fraction(1, 1000)
        stream.codec_context.time_base = tick
        if codec == "libx264":
            stream.options = {"preset": "ultrafast", "crf": "12", "bf": str(b_frames), "threads": "1"}
        if rotation is not None:
            stream.set_display_rotation(rotation, *flips)
        audio = container.add_stream("aac", rate=8000) if sound else None
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.time_base = tick
            frame.pts = k if times is None else round(times[k] / tick)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if audio is not None:
            write_sound(container, audio, float(len(frames) / fps) + 2)
    return path


def write_sound(container: object, stream: object, seconds: float) -> None:
    """Some seconds of silence."""
    for k in range(int(seconds * 8000 / 1024)):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 8000, 1024 * k
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def write_audio_only(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        write_sound(container, container.add_stream("aac", rate=8000), 2)
    return path


def remux(
    source: Path,
    target: Path,
    *,
    shift: float = 0.0,
    sound: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """The same packets in another container, `shift` seconds later; with sound from 0 on, if asked for."""
    with av.open(str(source)) as old, av.open(str(target), "w", options=options or {}) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        audio = new.add_stream("aac", rate=8000) if sound else None
        if audio is not None:
            write_sound(new, audio, 2)
        for packet in old.demux(video=0):
            if packet.size:
                late = round(shift / packet.time_base)
                packet.pts += late
                packet.dts = None if packet.dts is None else packet.dts + late
                packet.stream = stream
                new.mux(packet)
    return target
