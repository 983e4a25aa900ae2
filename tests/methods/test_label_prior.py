"""The warm-up by labels: what it finds without looking, and that it is off where nobody asked for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.methods import tiny
from weaktal import testing
from weaktal.core import TimeAxis, WeakLabels
from weaktal.core.annotations import WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods import find_method
from weaktal.methods.label_prior import LabelWarmup, label_prior, warmup_loss
from weaktal.methods.protocol import SnippetMethod, TrainingData
from weaktal.train import fit
from weaktal.train.inference import score_videos

METHODS = ("sal", "issf", "asm_loc", "stcl_net")
LONGER: dict[str, dict[str, object]] = {
    "sal": {"epochs": 10, "lr": 1e-2},
    "issf": {"epochs": 10, "lr": 2e-2, "dropout": 0.0},
    "asm_loc": {"num_steps": 0, "epochs": 15, "learning_rate": 3e-3},
    "stcl_net": {"iterations": 30, "learning_rate": 3e-3},
}


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
    torch.testing.assert_close(before + after, torch.zeros(40), atol=0.05, rtol=0)
    assert not torch.equal(label_prior(TrainingData(bank, data.weak)).data, label_prior(data).data)


@pytest.mark.parametrize("videos", [1, 3])
def test_few_videos_are_enough(videos: int) -> None:
    data, _ = planted(videos)
    assert torch.isfinite(label_prior(data).data).all()


def test_loss_is_least_where_attention_follows_the_prior() -> None:
    prior = torch.tensor([[1.0, 1.0, -1.0, -1.0], [1.0, -1.0, 1.0, -1.0]])
    low = warmup_loss(0.5 + 0.4 * prior, prior)
    assert (low < warmup_loss(0.5 + 0.4 * prior.roll(1, 1), prior)).all()
    assert (warmup_loss(0.5 - 0.4 * prior, prior) > 0).all()
    torch.testing.assert_close(warmup_loss(0.2 + 0.1 * prior, prior), warmup_loss(0.8 + 0.1 * prior, prior))
    torch.testing.assert_close(warmup_loss(0.5 + 0.4 * prior, 0.3 * prior), 0.3 * low)
    flat = torch.full((2, 4), 0.5, requires_grad=True)
    warmup_loss(flat, prior).sum().backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    assert (
        flat.grad * prior < 0
    ).all()  # a step against the gradient raises attention where the prior is high


@pytest.mark.parametrize("name", METHODS)
def test_the_prior_fades_and_ends(name: str) -> None:
    method, data = tiny.build(name, label_warmup=0.5), tiny.data(name)
    method.begin_stage(0, data)
    steps = method.stages(data)[0].steps
    prior = [getattr(method.draw(0, step, data), "prior", None) for step in range(steps)]
    assert [p is not None for p in prior] == [step < 0.5 * steps for step in range(steps)]
    plain = tiny.build(name)
    assert all(getattr(plain.draw(0, step, data), "prior", None) is None for step in range(steps))
    whole = LabelWarmup(0.5).prior(data, 0.0, np.arange(len(data)))
    half = LabelWarmup(0.5).prior(data, 0.25, np.arange(len(data)))
    assert whole is not None
    assert half is not None
    torch.testing.assert_close(half, whole / 2)


@pytest.mark.parametrize("name", METHODS)
def test_training_with_it_keeps_the_contract(name: str, tmp_path: Path) -> None:
    for check in (testing.check_losses, testing.check_resuming):
        check(tiny.subject(name, label_warmup=0.5), tmp_path / check.__name__)


@pytest.mark.parametrize("name", METHODS)
def test_attention_begins_where_snippets_tell_the_class(name: str, tmp_path: Path) -> None:
    data, inside = planted(24)
    found = []
    for share in (0.0, 1.0):
        torch.manual_seed(0)
        method = find_method(name)(tiny.config(name, **LONGER[name], label_warmup=share), dim=8, classes="ab")
        fit(method, data, tmp_path / str(share), device="cpu", progress=False)
        assert isinstance(method, SnippetMethod)
        value = np.concatenate(
            [
                np.interp(np.linspace(0, 1, 40), np.linspace(0, 1, len(s.foreground)), s.foreground)
                for s in score_videos(method.eval(), data.bank)
            ]
        )
        found.append((value[inside][:, None] > value[~inside]).mean())
    assert found[1] > max(0.7, found[0] + 0.05)
