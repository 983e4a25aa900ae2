"""What is special about ISSF; the contract test covers what every method must do."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch

from weaktal.core import InputError, TimeAxis, WeakLabels, WeakVideo
from weaktal.features.bank import FeatureBank
from weaktal.methods.issf import ISSF, ISSFBatch, ISSFConfig, Memory, memory_momentum
from weaktal.methods.protocol import TrainingData

CLASSES = ("x", "y", "z")


@pytest.fixture
def data() -> TrainingData:
    """Eleven videos of very unequal length, the shortest of two snippets."""
    rng = np.random.default_rng(0)
    lengths = [2, 3, 5, 8, 13, 21, 34, 55, 89, 40, 17]
    arrays = [rng.random((n, 12), dtype=np.float32) for n in lengths]
    weak = [WeakVideo(f"v{i}", tuple(sorted({i % 3, (i * i) % 3}))) for i in range(len(lengths))]
    bank = FeatureBank.of([v.name for v in weak], arrays, 25 / 16)
    return TrainingData(bank, WeakLabels(CLASSES, tuple(weak)), seed=5)


def make(**config: object) -> ISSF:
    torch.manual_seed(0)
    settings = {"dropout": 0.0, "epochs": 5, "batch_size": 10, **config}
    return ISSF(ISSFConfig(**settings), dim=12, classes=CLASSES).train()


def gradients(method: ISSF) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in method.network.parameters()])


@pytest.mark.parametrize("memory_index", ["published", "labelled"])
@pytest.mark.parametrize("epoch", [0, 2])
def test_ten_videos_at_once_are_ten_one_by_one(data: TrainingData, epoch: int, memory_index: str) -> None:
    together = make(memory_index=memory_index)
    together.fill_memory(data)
    apart = copy.deepcopy(together)
    video = np.array([3, 0, 8, 1, 10, 5, 2, 9, 4, 7])

    batch = ISSFBatch(**vars(data.whole(video)), epochs=(epoch,) * 10)
    loss = together.training_step(batch)["total"]
    loss.backward()
    total = 0.0
    for v in video:
        one = apart.training_step(ISSFBatch(**vars(data.whole(np.array([v]))), epochs=(epoch,)))["total"]
        one.backward()
        total += one.item()
    assert loss.item() == pytest.approx(total, rel=1e-5)
    torch.testing.assert_close(gradients(together), gradients(apart), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(together.memory.features, apart.memory.features)
    torch.testing.assert_close(together.memory.scores, apart.memory.scores)


def test_a_batch_may_reach_into_the_epoch_that_starts_the_memory(data: TrainingData) -> None:
    """Eleven videos and batches of ten: the border after epoch 1 lies inside the third batch."""
    method = make()
    assert method.stages(data)[0].steps == 5 * 11 // 10
    for step in range(2):
        method.before_step(0, step, data)
        assert not method.memory.scores.any()
    method.before_step(0, 2, data)
    assert method.memory.scores.any()
    assert method.training
    batch = method.draw(0, 2, data)
    assert batch.epochs == (1, 1, 2, 2, 2, 2, 2, 2, 2, 2)
    loss = method.training_step(batch)
    assert all(torch.isfinite(v) for v in loss.values())


def test_an_epoch_visits_every_video_once(data: TrainingData) -> None:
    method = make()
    names = [n for step in range(11) for n in method.draw(0, step, data).names]
    for epoch in range(10):
        assert len(set(names[epoch * 11 : (epoch + 1) * 11])) == 11
    assert names[:11] != names[11:22]
    assert method.draw(0, 4, data).names == tuple(names[40:50])


def test_filling_at_once_is_filling_video_by_video(data: TrainingData) -> None:
    method = make().eval()
    method.fill_memory(data, chunk=4)
    method.eval()
    single = Memory(3, 9, 12)
    with torch.no_grad():
        for v in range(len(data)):
            out = method._embed(data.whole(np.array([v])))
            labels = data.labels[v].nonzero()[:, 0].tolist()
            single.update(labels, out.salient, method._salient_scores(out), 0.0)
    torch.testing.assert_close(method.memory.scores, single.scores)
    torch.testing.assert_close(method.memory.features, single.features)


def test_only_the_published_index_leaves_other_classes_alone(data: TrainingData) -> None:
    for index, untouched in (("published", True), ("labelled", False)):
        method = make(memory_index=index)
        method.fill_memory(data)
        before = method.memory.features.clone()
        torch.nn.init.normal_(method.network.ac_center)  # other scores, so that updates change the memory
        method.training_step(ISSFBatch(**vars(data.whole(np.arange(4, 11))), epochs=(3,) * 7))
        assert torch.equal(before[1:], method.memory.features[1:]) is untouched


def test_momentum_grows_from_its_first_epoch() -> None:
    values = [memory_momentum(e, 180, 86) for e in range(180)]
    assert values[85] == 0
    assert values[86] == pytest.approx(0.5 * np.log(np.exp(86 / 180) + 1))
    assert np.all(np.diff(values[86:]) > 0)
    assert values[-1] < 0.66


@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_very_short_videos(length: int) -> None:
    method = make().eval()
    batch = ISSFBatch(
        torch.rand(1, length, 12),
        torch.tensor([length]),
        torch.ones(1, 3),
        ("short",),
        (TimeAxis.uniform(length, 25 / 16),),
        (0,),
    )
    scores = method.score(batch)
    assert scores[0].cas.shape == (length, 3)
    assert np.isfinite(scores[0].cas).all()
    assert torch.isfinite(method.training_step(batch)["total"])
    method.localize(scores)


def test_the_first_snippet_wraps_to_the_last_one() -> None:
    """The first embedded feature is always a jump from nothing."""
    x = torch.zeros(8, 12)
    x[0] = 5.0
    for wraps in (True, False):
        net = make(first_wraps=wraps).network
        with torch.no_grad():
            net.feature_embedding[0].weight.copy_(torch.eye(12))
        assert bool(net(x, [8]).salient_mask[7]) is wraps


def test_ends_of_proposals() -> None:
    curve = np.array([[0, 0, 1.0, 1.0, 0.5, 0, 0, 0]])
    for past, expected in ((True, (2, 5, 2.5 / 3)), (False, (2, 4, 1.0))):
        method = make(end_past_run=past, thresholds=(0.7,), margin=0.0)
        start, end, _, score = method.proposals(curve)
        assert (start[0], end[0]) == expected[:2]
        assert score[0] == pytest.approx(expected[2])


def test_thresholds_of_the_maximum_do_not_depend_on_the_level() -> None:
    curves = np.random.default_rng(0).random((3, 60)) * [[0.9], [0.5], [0.0]]
    relative, absolute = make(thresholds_of="maximum"), make()
    start, end, curve, contrast = relative.proposals(curves)
    faint = relative.proposals(curves * 1e-4)
    assert set(curve) == {0, 1}
    for found, expected in zip(faint[:3], (start, end, curve), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(faint[3], contrast * 1e-4)
    assert len(absolute.proposals(curves)[0])
    assert not len(absolute.proposals(curves * 1e-4)[0])


def official() -> dict[str, torch.Tensor]:
    weights = {f"module.{k}": v for k, v in make().network.state_dict().items()}
    return weights | {
        "module.saliency": torch.zeros(8, 12),
        "module.weight_linear.weight": torch.zeros(8, 12),
    }


def test_official_weights_are_found_under_their_names() -> None:
    method = ISSF.from_published(official(), classes=CLASSES, epochs=7)
    assert method.classes == CLASSES
    assert method.config.epochs == 7
    assert torch.equal(method.network.ac_center, make().network.ac_center)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("module.ac_center"), "ac_center"),
        (lambda w: w.update({"module.extra": torch.zeros(1)}), "extra"),
        (lambda w: w.update({"module.fg_center": torch.zeros(1, 5)}), r"fg_center.*\(1, 5\).*\(1, 12\)"),
        (lambda w: w.update({"module.ac_center": torch.zeros(4)}), "ac_center"),
    ],
)
def test_other_weights_are_refused(change: Callable[[dict[str, torch.Tensor]], object], message: str) -> None:
    weights = official()
    change(weights)
    with pytest.raises(InputError, match=message):
        ISSF.from_published(weights)


def test_the_number_of_classes_must_fit() -> None:
    with pytest.raises(InputError, match=r"2.*3"):
        ISSF.from_published(official(), classes=("a", "b"))


@pytest.mark.parametrize("lengths", [[1], [2], [3, 1, 4], [63], [300, 2]])
def test_the_cosine_head_is_that_of_the_paper(lengths: list[int]) -> None:
    """Video by video, in float64; a snippet of zeros has no direction, and a finite gradient."""
    net = make().network.double()
    x = torch.rand(sum(lengths), 12, dtype=torch.float64)
    x[0] = 0
    x.requires_grad_()
    view = net.predict(x, lengths)

    def norm(y: torch.Tensor) -> torch.Tensor:
        return y / (y.norm(dim=-1, keepdim=True) + 1e-9)

    centers, foreground = norm(net.ac_center), norm(net.fg_center)[0]
    for i, part in enumerate(x.split(lengths)):
        attention = (20 * norm(part) @ foreground).sigmoid()
        weights = (20 * norm(part) @ centers.T).sigmoid()
        agnostic = norm((attention[:, None] * part).sum(0) / (attention.sum() + 1e-5))
        classwise = norm(weights.T @ part / (weights.sum(0)[:, None] + 1e-5))
        torch.testing.assert_close(view.agnostic[i], (20 * centers @ agnostic).log_softmax(0))
        torch.testing.assert_close(view.classwise[i], (20 * (centers * classwise).sum(1)).log_softmax(0))
        torch.testing.assert_close(view.attention.split(lengths)[i], attention)
        torch.testing.assert_close(view.logits.split(lengths)[i], 20 * norm(part) @ centers.T)
    (gradient,) = torch.autograd.grad(view.agnostic.sum() + view.classwise.sum() + view.attention.sum(), x)
    assert gradient.isfinite().all()
