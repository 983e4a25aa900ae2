"""The demo data set: untrimmed H.264 clips of a figure that now and then does something, and their labels."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weaktal.core import InputError, atomic_path, write_text
from weaktal.demo.figure import ACTIONS, POSE_SIZE, idle, joints, walk
from weaktal.features.extract.processes import WorkerContext

FloatArray = NDArray[np.float64]
CLASSES: tuple[str, ...] = tuple(ACTIONS)

DESCRIPTION = """\
name: demo
annotations: gt.json
subsets: {train: train, test: test}
points: points.txt
features: {path: features}
videos: videos
protocol: activitynet
"""


@dataclass(frozen=True)
class Settings:
    """What decides the pixels of a demo data set: two folders with equal settings hold equal videos.

    Attributes:
        seed: of everything random.
        train, test: number of videos.
        seconds: shortest and longest video.
        size: width and height in pixels.
        fps: frames per second.
    """

    seed: int = 0
    train: int = 120
    test: int = 24
    seconds: tuple[float, float] = (20.0, 40.0)
    size: tuple[int, int] = (160, 120)
    fps: int = 15


@dataclass(frozen=True)
class Script:
    """What happens in one video: `actions` as (start, end, class index) in seconds, in order of time."""

    name: str
    subset: str
    duration: float
    actions: tuple[tuple[float, float, int], ...]


def write_script(settings: Settings, subset: str, index: int) -> Script:
    """Draw what happens in a video: 10 to 25 % of its time is action, an instance lasts 1 to 6 seconds."""
    rng = np.random.default_rng([settings.seed, ("train", "test").index(subset), index])
    frames = round(rng.uniform(*settings.seconds) * settings.fps)
    duration = frames / settings.fps
    first = index % len(CLASSES)  # every class gets its share
    second = (first + 1 + rng.integers(len(CLASSES) - 1)) % len(CLASSES)
    classes = [first, int(second)] if rng.random() < 0.3 else [first]
    budget = rng.uniform(0.12, 0.22) * duration
    lengths: list[tuple[float, int]] = []
    while budget > 0.9 or len(lengths) < len(classes):
        label = classes[len(lengths)] if len(lengths) < len(classes) else int(rng.choice(classes))
        _, slow, fast = ACTIONS[CLASSES[label]]
        pace = rng.uniform(slow, fast)
        cycles = max(1, round(rng.uniform(1.2, 5.0) * pace))
        length = float(np.clip(cycles / pace, 1.0, np.clip(budget + 0.5, 1.5, 6.0)))
        lengths.append((length, label))
        budget -= length
    rng.shuffle(lengths)
    free = duration - sum(length for length, _ in lengths)
    least = min(1.5, 0.5 * free / (len(lengths) + 1))
    share = rng.dirichlet(np.full(len(lengths) + 1, 2.0)) * (free - least * (len(lengths) + 1)) + least
    actions, now = [], 0.0
    for gap, (length, label) in zip(share, lengths, strict=False):
        start = now + gap
        now = start + length
        actions.append((round(start, 3), round(min(now, duration), 3), int(label)))
    return Script(f"demo_{subset}_{index:03d}", subset, duration, tuple(actions))


def animate(settings: Settings, script: Script, rng: np.random.Generator) -> FloatArray:
    """Joint positions in pixels for every frame, (N, 15, 2)."""
    n = round(script.duration * settings.fps)
    time = np.arange(n) / settings.fps
    width, height = settings.size
    tall = height * rng.uniform(0.55, 0.8)
    # between actions the figure stands or walks, in turns of a few seconds
    walking, t = np.zeros(n), 0.0
    while t < script.duration:
        on, length = rng.random() < 0.45, rng.uniform(1.5, 5.0)
        walking[(time >= t) & (time < t + length)] = on
        t += length
    acting = np.zeros(n)
    for start, end, _ in script.actions:
        acting[(time >= start - 0.2) & (time <= end + 0.2)] = 1
    walking *= 1 - acting
    kernel = np.hanning(7) / np.hanning(7).sum()  # no pose changes in less than a few frames
    walking = np.convolve(np.pad(walking, 3, mode="edge"), kernel, mode="valid")

    pace = rng.uniform(1.0, 1.6)
    standing = idle(2 * np.pi * rng.uniform(0.15, 0.4) * time + rng.uniform(0, 6))
    pose = standing + walking[:, None] * (walk(2 * np.pi * pace * time) - standing)
    for start, end, label in script.actions:
        inside = np.flatnonzero((time >= start) & (time < end))
        motion, slow, fast = ACTIONS[CLASSES[label]]
        cycles = max(1, round((end - start) * rng.uniform(slow, fast)))
        move = motion(2 * np.pi * cycles * (time[inside] - start) / (end - start))
        ramp = np.minimum(time[inside] - start, end - time[inside]) / 0.15
        weight = np.clip(ramp, 0, 1)[:, None]
        move[:, :POSE_SIZE] = pose[inside] + weight * (move - pose[inside])
        pose[inside] = move

    # the root walks to and fro between margins; it turns at each of them, and sometimes before
    low, high = 0.3 * tall, width - 0.3 * tall
    x, facing = rng.uniform(low, high), float(rng.choice([-1, 1]))
    root, side = np.zeros(n), np.zeros(n)
    speed = rng.uniform(0.35, 0.6) * tall / settings.fps
    for i in range(n):
        if walking[i] == 0 and i and walking[i - 1] > 0 and rng.random() < 0.4:
            facing = -facing
        x += facing * speed * walking[i]
        if not low <= x <= high:
            x, facing = float(np.clip(x, low, high)), -facing
        root[i], side[i] = x, facing
    body = joints(pose) * tall
    ground = height - rng.uniform(0.02, 0.1) * height
    depth = 0.06 * height * np.sin(2 * np.pi * time * rng.uniform(0.01, 0.05))  # nearer and farther
    # the head of a tall figure that jumps stays in the picture
    body *= min(1.0, (ground - max(0.0, depth.max())) / body[..., 1].max())
    out = np.empty_like(body)
    out[..., 0] = root[:, None] + side[:, None] * body[..., 0]
    out[..., 1] = (ground - np.maximum(0, depth))[:, None] - body[..., 1]
    return out


def render_video(settings: Settings, script: Script, path: Path) -> int:
    """Render one video to `path`, whole or not at all; returns its number of frames."""
    import av
    import cv2

    from weaktal.demo.scene import frames

    cv2.setNumThreads(1)
    subset = ("train", "test").index(script.subset)
    rng = np.random.default_rng([settings.seed, 2 + subset, int(script.name.rsplit("_", 1)[1])])
    skeleton = animate(settings, script, rng)
    width, height = settings.size
    with atomic_path(path) as temporary, av.open(str(temporary), "w") as container:
        # one encoder thread: the same file on every machine
        options = {"preset": "ultrafast", "crf": "30", "threads": "1"}
        stream = container.add_stream("libx264", rate=settings.fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, settings.fps)
        for i, image in enumerate(frames(rng, skeleton, settings.fps, width, height)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return len(skeleton)


def annotation_file(scripts: Sequence[Script], fps: float) -> str:
    """Ground truth in ActivityNet's JSON."""
    database = {
        s.name: {
            "subset": s.subset,
            "duration": round(s.duration, 3),
            "fps": fps,
            "annotations": [{"segment": [a, b], "label": CLASSES[c]} for a, b, c in s.actions],
        }
        for s in scripts
    }
    content: dict[str, Any] = {"version": "weaktal demo", "classes": list(CLASSES), "database": database}
    return json.dumps(content, indent=1) + "\n"


def point_file(scripts: Sequence[Script], seed: int) -> str:
    """One click inside each training instance, in SF-Net's text format: video, seconds, class."""
    rng = np.random.default_rng([seed, 4])
    # as wide as the clicks of one person in SF-Net's files, whose standard deviations are 0.19 to 0.25
    lines = [f"# simulated, not clicked: gaussian, sigma 0.2 of the length, 1 per instance, seed {seed}\n"]
    for script in scripts:
        for start, end, label in script.actions:
            place = np.clip(rng.normal(0.5, 0.2), 0.05, 0.95)
            lines.append(f"{script.name},{start + place * (end - start):.3f},{CLASSES[label]}\n")
    return "".join(lines)


def render(
    out: Path,
    *,
    seed: int = 0,
    train: int = 120,
    test: int = 24,
    seconds: tuple[float, float] = (20.0, 40.0),
    size: tuple[int, int] = (160, 120),
    fps: int = 15,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Render the demo data set into a folder, or what is missing of it.

    The folder gets ``videos/*.mp4``, ``gt.json`` (ActivityNet format), ``points.txt`` (SF-Net format, for the
    training videos), ``settings.json`` and ``demo.yaml``, which expects features in ``features/``.

    Args:
        out: the folder.
        seed: decides everything; equal settings give equal files.
        train, test: number of videos of each subset, at least 1.
        seconds: shortest and longest video.
        size: width and height in pixels, even numbers.
        fps: frames per second.
        workers: processes; default one per core.
        progress: called with (videos ready, videos in all) at the start and after each video.

    Returns:
        The path of ``demo.yaml``.

    Raises:
        InputError: impossible settings, or the folder holds a demo with other settings.
    """
    out = Path(out)
    settings = Settings(seed, train, test, seconds, size, fps)
    if min(train, test) < 1 or fps < 1 or not 0 < seconds[0] <= seconds[1]:
        raise InputError(
            "the demo needs at least one video of each subset and a positive length", found=settings
        )
    if min(size) < 32 or size[0] % 2 or size[1] % 2:
        raise InputError("the size of demo videos is two even numbers, at least 32", found=size)
    text = json.dumps(asdict(settings)) + "\n"
    mark = out / "settings.json"
    if mark.exists() and mark.read_text(encoding="utf-8") != text:
        raise InputError(
            "this folder holds a demo with other settings",
            file=mark,
            found=mark.read_text(encoding="utf-8").strip(),
            expected=text.strip(),
            hint="choose another folder, or remove this one",
        )
    scripts = [write_script(settings, "train", i) for i in range(train)]
    scripts += [write_script(settings, "test", i) for i in range(test)]
    write_text(mark, text)
    write_text(out / "gt.json", annotation_file(scripts, fps))
    write_text(out / "points.txt", point_file(scripts[:train], seed))

    paths = [out / "videos" / f"{s.name}.mp4" for s in scripts]
    missing = [(s, p) for s, p in zip(scripts, paths, strict=True) if not p.exists()]
    done = len(scripts) - len(missing)
    if progress:
        progress(done, len(scripts))
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=WorkerContext()) as pool:
        for future in as_completed([pool.submit(render_video, settings, s, p) for s, p in missing]):
            future.result()
            done += 1
            if progress:
                progress(done, len(scripts))
    write_text(out / "demo.yaml", DESCRIPTION)
    return out / "demo.yaml"
