"""The warm-up by labels: what it finds without looking, and that it is off where nobody asked for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from weaktal.core import TimeAxis, WeakLabels
from weaktal.core.annotations import WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.label_prior import label_prior
from weaktal.methods.protocol import TrainingData
from weaktal.methods.sal import SAL, PriorBatch, SALConfig
from weaktal.train import fit


def planted(videos: int = 12, length: int = 40, dim: int = 8) -> tuple[TrainingData, np.ndarray]:
    """Videos of two classes whose middle half shows the class; the rest is a background that all share."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((videos, length, dim)).astype(np.float32)
    inside = (np.arange(length) >= length // 4) & (np.arange(length) < 3 * length // 4)
    x[:, ~inside, 2] += 4  # the background is loud, and tells nothing
    for v in range(videos):
        x[v, inside, v % 2] += 2
    names = tuple(f"v{i}" for i in range(videos))
    offsets = np.arange(videos + 1) * length
    axes = (TimeAxis.uniform(length, 1.0),) * videos
    bank = FeatureBank(names, torch.from_numpy(x.reshape(-1, dim)), offsets, axes)
    weak = WeakLabels(("a", "b"), tuple(WeakVideo(n, (i % 2,)) for i, n in enumerate(names)))
    return TrainingData(bank, weak), np.tile(inside, videos)


def test_it_is_high_where_a_snippet_tells_the_class() -> None:
    data, inside = planted()
    prior = label_prior(data)
    value = prior.data[:, 0].numpy()
    assert prior.names == data.bank.names
    assert value[inside].mean() > value[~inside].mean() + 0.2
    assert (value[inside][:, None] > value[~inside]).mean() > 0.8  # the area under the ROC curve
    assert torch.equal(label_prior(data).data, prior.data)


def test_a_video_has_no_part_in_its_own() -> None:
    data, _ = planted()
    rows = data.bank.data.clone()
    rows[:40] += torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    bank = FeatureBank(data.bank.names, rows, data.bank.offsets, data.bank.axes)
    flipped = (WeakVideo("v0", (1,)), *data.weak.videos[1:])
    other = TrainingData(data.bank, WeakLabels(data.weak.classes, flipped))
    before, after = label_prior(data).data[:40, 0], label_prior(other).data[:40, 0]
    # the same map: of its two classes the one is what the other leaves, as every video has one of them
    torch.testing.assert_close(before + after, torch.ones(40), atol=0.05, rtol=0)
    assert not torch.equal(label_prior(TrainingData(bank, data.weak)).data, label_prior(data).data)


@pytest.mark.parametrize("videos", [1, 3])
def test_few_videos_are_enough(videos: int) -> None:
    data, _ = planted(videos)
    assert torch.isfinite(label_prior(data).data).all()


def test_only_the_warm_up_of_those_who_asked_sees_it(tmp_path: Path) -> None:
    data, _ = planted()
    small = {"hidden": 4, "segments": 16, "batch_size": 4, "steps": 6}

    def trained(out: Path, **changes: object) -> SAL:
        torch.manual_seed(0)
        method = SAL(SALConfig(**small, **changes), dim=8, classes=data.weak.classes)  # type: ignore[arg-type]
        fit(method, data, out, device="cpu", progress=False)
        return method

    warm = SAL(SALConfig(**small, label_warmup=0.5), dim=8, classes=data.weak.classes)  # type: ignore[arg-type]
    kinds = [isinstance(warm.draw(0, step, data), PriorBatch) for step in range(6)]
    assert kinds == [True] * 3 + [False] * 3
    batch = warm.draw(0, 0, data)
    chosen = warm.pseudo_labels(warm(batch.features, extras=True), batch.prior)  # type: ignore[attr-defined]
    best = batch.prior.masked_fill(chosen == 0, torch.inf).amin(1)  # type: ignore[attr-defined]
    assert (best >= batch.prior.masked_fill(chosen == 1, -torch.inf).amax(1)).all()  # type: ignore[attr-defined]
    plain, off, on = (
        trained(tmp_path / name, **changes).state_dict()
        for name, changes in (("a", {}), ("b", {"label_warmup": 0.0}), ("c", {"label_warmup": 0.5}))
    )
    assert all(torch.equal(plain[k], off[k]) for k in plain)
    assert any(not torch.equal(plain[k], on[k]) for k in plain)
