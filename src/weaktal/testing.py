"""What every method must do, as checks that anybody can run on a method of their own.

::

    from weaktal.testing import check_method

    def test_my_method() -> None:
        check_method(MyMethod, hidden=8, epochs=3)

Our own methods are tested by the same functions (`tests/methods/test_contract.py`).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from weaktal.core import Detections, Points, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.protocol import Method, MethodConfig, SnippetMethod, TrainingData
from weaktal.train import checkpoint, fit
from weaktal.train.inference import detect_videos, score_videos
from weaktal.train.seeds import seed_torch

RATE = 1.5625  # snippets a second


class Stopped(Exception):
    """Ends a training in the middle, for the check of resuming."""


def toy_data(
    videos: int = 10, dim: int = 6, classes: int = 3, seed: int = 0, points: bool = False
) -> TrainingData:
    """Random videos in which the first `classes` features tell the class in the middle third."""
    rng = np.random.default_rng(seed)
    arrays, weak = [], []
    for v in range(videos):
        n = int(rng.integers(20, 41))
        x = rng.standard_normal((n, dim)).astype(np.float32)
        x[n // 3 : 2 * n // 3, v % classes] += 3
        arrays.append(x)
        clicks = Points(np.array([n / 2 / RATE]), np.array([v % classes])) if points else None
        weak.append(WeakVideo(f"video_{v:03}", (v % classes,), clicks))
    names = tuple(w.name for w in weak)
    return TrainingData(
        FeatureBank.of(names, arrays, RATE), WeakLabels(_class_names(classes), tuple(weak)), seed
    )


def toy_proposals(bank: FeatureBank, weak: WeakLabels) -> Detections:
    """A few overlapping segments per video, around the middle third and elsewhere."""
    rng = np.random.default_rng(len(bank))
    columns = []
    for v, (axis, video) in enumerate(zip(bank.axes, weak.videos, strict=True)):
        n = 6
        start = rng.uniform(0, 0.6, n) * axis.end
        end = start + rng.uniform(0.1, 0.4, n) * axis.end
        start[0], end[0] = axis.end / 3, 2 * axis.end / 3
        label = np.full(n, (video.labels or (0,))[0])
        columns.append((np.full(n, v), start, end, label, rng.random(n)))
    return Detections(bank.names, weak.classes, *map(np.concatenate, zip(*columns, strict=True)))


def random_bank(lengths: Sequence[int], dim: int, seed: int = 5) -> FeatureBank:
    """Noise of these lengths."""
    rng = np.random.default_rng(seed)
    arrays = [rng.standard_normal((n, dim)).astype(np.float32) for n in lengths]
    return FeatureBank.of([f"v{i}" for i in range(len(lengths))], arrays, RATE)


def _class_names(count: int) -> tuple[str, ...]:
    return tuple(f"class_{c}" for c in range(count))


@dataclass(frozen=True)
class Subject:
    """A method at a size that trains in seconds, and toy data for it.

    Attributes:
        kind: the class.
        config: of it.
        dim: width of the features.
        classes: number of classes.
    """

    kind: type[Method]
    config: MethodConfig
    dim: int = 16
    classes: int = 3

    def build(self) -> Method:
        """The method with fresh weights, the same at every call."""
        seed_torch(0)
        return self.kind(self.config, dim=self.dim, classes=_class_names(self.classes))

    def data(self, videos: int = 8) -> TrainingData:
        """Toy videos with the supervision and the proposals that the method asks for."""
        toy = toy_data(videos, self.dim, self.classes, points=self.kind.supervision == "point")
        return replace(toy, proposals=toy_proposals(toy.bank, toy.weak))

    def trained(self, out: Path, **options: Any) -> tuple[Method, TrainingData]:
        """Trained on its toy videos."""
        method, data = self.build(), self.data()
        fit(method, data, out, device="cpu", progress=False, **options)
        return method, data


def check_method(kind: type[Method], *, dim: int = 16, classes: int = 3, **settings: Any) -> None:
    """Check that a method fulfils the contract of `weaktal.methods.protocol.Method`.

    Args:
        kind: the class.
        dim: width of the toy features.
        classes: number of classes.
        settings: fields of its configuration, for a size that trains in seconds.

    Raises:
        AssertionError: it does not; the message says what was expected.
    """
    subject = Subject(kind, kind.Config(**settings), dim, classes)
    for check in CHECKS:
        with tempfile.TemporaryDirectory(prefix="weaktal-check-") as folder:
            check(subject, Path(folder))


def check_configuration(subject: Subject, folder: Path) -> None:
    """Frozen, rejects unknown fields, and survives a ``config.yaml``."""
    config, kind = subject.config, type(subject.config)
    assert kind is subject.kind.Config, "the configuration is not of the method's Config"
    again = kind.model_validate(json.loads(json.dumps(config.model_dump(mode="json"))))
    assert again == config, "the configuration changes on its way through a file"
    field = next(iter(kind.model_fields))
    assert _refuses(lambda: setattr(config, field, getattr(config, field))), "the configuration is not frozen"
    assert _refuses(lambda: kind.model_validate({"no_such_field": 1})), "unknown settings are accepted"


def check_losses(subject: Subject, folder: Path) -> None:
    """In every stage losses are finite scalars with a "total", and gradients are finite and not all zero."""
    _check_steps(subject.build(), subject.data())


def check_negatives(subject: Subject, folder: Path) -> None:
    """The same where nothing occurs in three of four videos, so that some batches hold no class."""
    data = subject.data()
    point = subject.kind.supervision == "point"
    weak = tuple(
        v if i % 4 == 0 else WeakVideo(v.name, (), Points() if point else None)
        for i, v in enumerate(data.weak.videos)
    )
    _check_steps(subject.build(), replace(data, weak=WeakLabels(data.weak.classes, weak)))


def _check_steps(method: Method, data: TrainingData) -> None:
    """Up to four steps of every stage."""
    stages = list(method.stages(data))
    assert stages, "there is no stage"
    for s, stage in enumerate(stages):
        assert stage.steps >= 0 < stage.epoch, f"stage {stage.name}: steps or epoch out of range"
        method.begin_stage(s, data)
        if not stage.steps:
            continue
        optimizer = method.optimizer(s)
        held = [p for group in optimizer.param_groups for p in group["params"]]
        for step in range(min(stage.steps, 4)):
            method.before_step(s, step, data)
            method.train()
            losses = method.training_step(method.draw(s, step, data))
            assert "total" in losses, 'training_step returns no "total"'
            for name, value in losses.items():
                assert value.dim() == 0, f"loss {name} is no scalar"
                assert value.isfinite(), f"loss {name} is {float(value)}"
            torch.autograd.backward(losses["total"])
            optimizer.step()
            grads = [p.grad for p in held if p.grad is not None]
            assert all(g.isfinite().all() for g in grads), "a gradient is not finite"
            assert any(g.abs().max() > 0 for g in grads), "all gradients are zero"
            optimizer.zero_grad()


def check_any_length(subject: Subject, folder: Path) -> None:
    """Videos of 1 to 100 snippets get finite scores on their own time axis, and segments inside of them."""
    method = subject.trained(folder)[0].eval()
    if isinstance(method, SnippetMethod):
        bank = random_bank([1, 2, 3, 7, 33, 100], subject.dim)
        scores = score_videos(method, bank)
        assert [s.video for s in scores] == list(bank.names), "scores are not one a video, in order"
        for s, axis in zip(scores, bank.axes, strict=True):
            assert s.cas.shape[1] == subject.classes, "cas needs a column a class"
            for column in ("cas", "foreground", "video_scores"):
                assert np.isfinite(getattr(s, column)).all(), f"{column} of {s.video} is not finite"
            near = np.isclose([s.axis.start, s.axis.end], [axis.start, axis.end])
            assert near.all(), f"the axis of {s.video} covers another stretch than the video"
        check_segments(method.localize(scores), bank, method.classes)


def check_padding(subject: Subject, folder: Path) -> None:
    """A video's scores do not depend on the videos that share its batch."""
    method = subject.trained(folder)[0].eval()
    if isinstance(method, SnippetMethod):
        bank = random_bank([5, 60, 17], subject.dim)
        alone, together = score_videos(method, bank, rows=1), score_videos(method, bank, rows=10**6)
        for a, b in zip(alone, together, strict=True):
            for column in ("cas", "foreground", "video_scores"):
                one, other = getattr(a, column), getattr(b, column)
                same = np.allclose(one, other, rtol=1e-4, atol=1e-5)
                assert same, f"padding leaks into {column}: {np.abs(one - other).max():.2g}"


def check_checkpoint(subject: Subject, folder: Path) -> None:
    """A trained method comes back from its checkpoint: the same detections, all of them sane."""
    method, data = subject.trained(folder)
    found = checkpoint.load(folder / "checkpoints/last")
    assert found is not None, "no checkpoint was written"
    again = subject.build()
    found.into(again)
    first, second = (detect_videos(m.eval(), data.bank, proposals=data.proposals) for m in (method, again))
    assert first == second, "detections differ after loading: state is missing from buffers or training_state"
    check_segments(first, data.bank, method.classes)


def check_determinism(subject: Subject, folder: Path) -> None:
    """Training twice gives the same bits."""
    for run in "ab":
        subject.trained(folder / run)
    _same_run(folder / "a", folder / "b", "training twice gives other bits: draw from data.rng(...) alone")


def check_resuming(subject: Subject, folder: Path) -> None:
    """A run that stops in the middle and goes on gives the same bits as one that does not."""
    subject.trained(folder / "whole")
    method, data = subject.build(), subject.data()
    steps, draw = sum(s.steps for s in method.stages(data)), method.draw
    seen = 0

    def stopping(stage: int, step: int, data: TrainingData) -> Any:
        nonlocal seen
        seen += 1
        if seen > steps // 2 + 1:
            raise Stopped
        return draw(stage, step, data)

    method.draw = stopping  # type: ignore[method-assign]
    with suppress(Stopped):
        fit(method, data, folder / "stopped", device="cpu", progress=False, checkpoint_steps=2)
    subject.trained(folder / "stopped", resume=True)
    _same_run(
        folder / "whole",
        folder / "stopped",
        "a resumed run gives other bits: keep state in buffers or training_state, draw from data.rng(...)",
    )


def check_segments(found: Detections, bank: FeatureBank, classes: tuple[str, ...]) -> None:
    """Detections of these classes and videos, finite, longer than nothing, within their videos."""
    assert found.classes == classes, "detections are of other classes"
    assert set(found.names) <= set(bank.names), "detections are of other videos"
    for column in ("start", "end", "score"):
        assert np.isfinite(getattr(found, column)).all(), f"{column} of a detection is not finite"
    assert (found.end > found.start).all(), "a detection has no length"
    ends = np.array([bank.axes[bank.names.index(n)].end for n in found.names])
    snippet = 1 / RATE
    inside = (found.start >= -snippet) & (found.end <= ends[found.video] + snippet)
    assert inside.all(), "a detection lies outside of its video: times are in seconds?"


CHECKS: tuple[Callable[[Subject, Path], None], ...] = (
    check_configuration,
    check_losses,
    check_negatives,
    check_any_length,
    check_padding,
    check_checkpoint,
    check_determinism,
    check_resuming,
)


def _refuses(act: Callable[[], object]) -> bool:
    try:
        act()
    except Exception:
        return True
    return False


def _same_run(first: Path, second: Path, message: str) -> None:
    for file in ("checkpoints/last/weights.safetensors", "log.jsonl"):
        assert (first / file).read_bytes() == (second / file).read_bytes(), f"{message} ({file})"
    states = (torch.load(run / "checkpoints/last/state.pt", weights_only=True) for run in (first, second))
    assert _equal(*states), f"{message} (state.pt)"


def _equal(a: Any, b: Any) -> bool:
    """Equality of plain values with tensors in them."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a, b)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
