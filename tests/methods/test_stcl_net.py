"""STCL-Net: what its parts promise, against plain loops and by their properties."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.methods import tiny
from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.localize.curves import find_runs, outer_inner_contrast
from weaktal.localize.nms import soft_nms
from weaktal.methods import stcl_net
from weaktal.methods.protocol import TrainingData, whole_videos
from weaktal.methods.stcl_net import STCLNet, STCLNetConfig
from weaktal.nn.dropout import Dropout, dropout_mask
from weaktal.train import fit
from weaktal.train.config import recipes, resolve_config
from weaktal.train.inference import detect_videos, score_videos


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def data() -> TrainingData:
    return tiny.data("stcl_net")


def method(**changes: object) -> STCLNet:
    found = tiny.build("stcl_net", **changes)
    assert isinstance(found, STCLNet)
    return found


# exemplars


def one_pass(net: stcl_net.STCLNetwork, features: Tensor, label: Tensor) -> Tensor:
    """`exemplar_means` in a single pass with gradients, video by video."""
    k = features.shape[1] // 10
    trunk = net.trunk(features)
    scores = net.classifier(trunk.x)
    means = []
    for n, c in enumerate(label.tolist()):
        low = scores[n].amin(1)
        own = trunk.attention[n, :, 0] * (scores[n, :, c] - low) + low
        means += [trunk.x[n, s.topk(k).indices].mean(0) for s in (own, scores[n, :, -1])]
    return torch.stack(means).reshape(len(label), 2, -1)


def two_passes(net: stcl_net.STCLNetwork, features: Tensor, label: Tensor) -> Tensor:
    source = features.flatten(0, 1)
    return net.exemplar_means(torch.arange(len(source)).reshape(features.shape[:2]), label, source)


def test_embedding_chosen_snippets_again_gives_value_and_gradient_of_one_pass() -> None:
    net = method().network.double().eval()
    features, label = random(6, 30, tiny.DIM, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])
    found = {}
    for name, call in (("two", two_passes), ("one", one_pass)):
        net.zero_grad()
        means = call(net, features, label)
        (means * random(*means.shape, seed=1, dtype=torch.float64)).sum().backward()
        found[name] = means, {n: p.grad for n, p in net.named_parameters() if p.grad is not None}
    torch.testing.assert_close(found["two"][0], found["one"][0])
    assert found["two"][1].keys() == found["one"][1].keys()
    for name, gradient in found["one"][1].items():
        assert gradient is not None
        torch.testing.assert_close(found["two"][1][name], gradient, msg=name)
    assert any(g.abs().max() > 0 for g in found["one"][1].values() if g is not None)


def test_dropout_is_active_in_the_exemplar_pass_of_training_only() -> None:
    net, features = method().network, random(3, 30, tiny.DIM)
    label = torch.arange(3)
    a, b = (two_passes(net.train(), features, label) for _ in range(2))
    assert not torch.equal(a, b)
    a, b = (two_passes(net.eval(), features, label) for _ in range(2))
    assert torch.equal(a, b)
    with torch.no_grad():
        torch.testing.assert_close(two_passes(net, features, label), a)


def test_exemplars_do_not_depend_on_how_videos_are_chunked(data: TrainingData, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    m = method().eval()
    snippets = m.draw(0, 0, data).exemplars
    whole = m.embed_exemplars(snippets, data.bank)
    monkeypatch.setattr(stcl_net, "AT_ONCE", 1)
    torch.testing.assert_close(m.embed_exemplars(snippets, data.bank), whole)
    assert whole.shape == (tiny.CLASSES + 1, 2, tiny.DIM)


def test_background_exemplars_are_averages_over_classes(
    data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    means, m = random(6, 2, 5), method()
    monkeypatch.setattr(m.network, "exemplar_means", lambda *videos, source: means)
    found = m.embed_exemplars(torch.zeros(3, 2, 4, dtype=torch.int64), data.bank)
    torch.testing.assert_close(found[3, 1], means[[1, 3, 5], 1].mean(0))
    torch.testing.assert_close(found[2, 0], means[4, 0])


def test_semantic_correlation_equals_a_loop_over_classes() -> None:
    net = method().network.double()
    x, exemplars = random(2, 7, tiny.DIM, dtype=torch.float64), random(4, 3, tiny.DIM, dtype=torch.float64)
    with torch.no_grad():
        k = net.inter_vid_conv1_k(x)
        contexts, logits = [], []
        for e in exemplars:
            keys, values = net.inter_exem_conv1_k(e[None])[0], net.inter_exem_conv1_v(e[None])[0]
            similar = F.cosine_similarity(k[:, :, None], keys[None, None], dim=3)  # (B, T, M)
            contexts.append(torch.einsum("btm,md->btd", similar.softmax(2), values))
            logits.append(net.clswise_atn_conv(contexts[-1]))
        weights = torch.stack(logits).softmax(0)
        expected = torch.cat([net.inter_vid_conv1_v(x), (weights * torch.stack(contexts)).sum(0)], 2)
        torch.testing.assert_close(net.relate(x, exemplars), expected)
        torch.testing.assert_close(net.relate(x, exemplars.expand(2, -1, -1, -1)), expected)


# losses


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(0, 10_000))
def test_mining_equals_the_definition(length: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.random(length).astype(np.float32)
    mask = (rng.random(length) < 0.6).astype(np.float32) * 2.5
    active = a > np.median(a)

    def window(t: int, before: int, after: int) -> list[bool]:
        return [bool(active[i]) if 0 <= i < length else False for i in range(t - before, t + after + 1)]

    inner = [all(window(t, 1, 1)) and not all(window(t, 3, 2)) for t in range(length)]
    outer = [any(window(t, 2, 3)) and not any(window(t, 1, 1)) for t in range(length)]
    k_easy, k_hard = max(1, length // 5), max(1, length // 20)
    expected = [
        np.argsort(-score, kind="stable")[:k]
        for score, k in (
            (a * mask, k_easy),
            ((a.max() - a) * mask, k_easy),
            (a * inner, k_hard),
            (a * outer, k_hard),
        )
    ]
    found = stcl_net.mine_snippets(torch.from_numpy(a)[None], torch.from_numpy(mask)[None])
    for rows, wanted in zip(found, expected, strict=True):
        assert rows[0].tolist() == wanted.tolist()


def test_agreement_is_finite_where_probabilities_vanish() -> None:
    """softmax of these logits is exactly 0; the published formula has a NaN gradient there."""
    sequences = [(200 * random(2, 5, 4, seed=s)).requires_grad_() for s in range(3)]
    q = sequences[0].softmax(-1)
    assert (q == 0).any()
    assert torch.autograd.grad(torch.xlogy(q, q).sum(), sequences[0])[0].isnan().any()
    for kind in ("inner_product", "kl"):
        loss = stcl_net.agreement_loss(sequences, kind)  # type: ignore[arg-type]
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, sequences))


def test_agreement_equals_its_definition() -> None:
    sequences = [random(2, 5, 4, seed=s) for s in range(3)]
    q = [s.softmax(-1) for s in sequences]
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = sum((q[j] * (q[j].log() - q[i])).mean() for i, j in pairs)
    torch.testing.assert_close(stcl_net.agreement_loss(sequences, "inner_product"), expected)
    expected = sum((q[j] * (q[j].log() - q[i].log())).mean() for i, j in pairs)
    torch.testing.assert_close(stcl_net.agreement_loss(sequences, "kl"), expected)
    same = [sequences[0]] * 3
    assert stcl_net.agreement_loss(same, "kl").abs() < 1e-6
    assert stcl_net.agreement_loss(same, "inner_product") < 0


def test_coactivity_without_a_shared_class_is_zero_and_finite() -> None:
    logits, feat = random(4, 6, 4).requires_grad_(), random(4, 6, 5, seed=1).requires_grad_()
    labels = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 0, 0]])
    loss = stcl_net.coactivity_loss(logits, feat, labels, pairs=2)
    assert loss == 0
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (logits, feat)))
    labels[1, 0] = 1
    only_first = stcl_net.coactivity_loss(logits[:2], feat[:2], labels[:2], pairs=3)
    torch.testing.assert_close(stcl_net.coactivity_loss(logits, feat, labels, pairs=2), only_first)
    assert only_first > 0
    nothing = torch.zeros_like(feat).requires_grad_()  # all snippets zero: the published cosine is 0 / 0
    loss = stcl_net.coactivity_loss(logits, nothing, labels, pairs=2)
    assert loss.isfinite()
    assert torch.autograd.grad(loss, nothing)[0].isfinite().all()


def test_losses_of_features_without_content_are_finite(data: TrainingData) -> None:
    m = method()
    empty = FeatureBank(data.bank.names, torch.zeros_like(data.bank.data), data.bank.offsets, data.bank.axes)
    m.training_step(m.draw(0, 0, TrainingData(empty, data.weak)))["total"].backward()
    for name, p in m.network.named_parameters():
        assert p.grad is None or p.grad.isfinite().all(), name


def test_the_unused_layer_of_the_activitynet_model_has_no_gradient(data: TrainingData) -> None:
    m = method(intra_layer=1, smoothing=5)
    m.training_step(m.draw(0, 0, data))["total"].backward()
    without = {n for n, p in m.network.named_parameters() if p.grad is None}
    assert without == {f"intra_temp_conv2_{k}.{w}" for k in "kv" for w in ("weight", "bias")}


# drawing


def test_batches_begin_with_pairs_of_a_class(data: TrainingData) -> None:
    m = method()
    labels = dict(zip(data.bank.names, data.weak.multi_hot(), strict=True))
    different = 0
    for step in range(20):
        batch = m.draw(0, step, data)
        assert len(batch) == m.config.batch_size
        for i in (0, 2):
            a, b = batch.names[i : i + 2]
            assert (labels[a] * labels[b]).any()
            different += a != b
    assert different == 40


def test_a_class_with_too_few_videos_repeats_them_and_one_without_borrows() -> None:
    rng = np.random.default_rng(0)
    lists = stcl_net.VideoLists.of(
        np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32), np.array([30, 40, 50])
    )
    video, rows = stcl_net.draw_exemplars(rng, lists, np.array([30, 40, 50]), 3, 4, 12)
    assert (video[0] == 0).all()
    assert set(video[1]) <= {1, 2}
    assert set(video[2]) <= {0, 1, 2}
    assert (rows < np.array([30, 40, 50])[video][..., None]).all()


def test_short_videos_are_drawn_in_pairs_only() -> None:
    labels = np.ones((4, 1), np.float32)
    lists = stcl_net.VideoLists.of(labels, np.array([5, 20, 8, 30]), min_snippets=11)
    assert lists.all.tolist() == [1, 3]
    assert lists.by_class[0].tolist() == [0, 1, 2, 3]


def test_training_data_without_a_usable_video_is_refused(data: TrainingData) -> None:
    with pytest.raises(InputError, match="long enough"):
        method(min_snippets=10_000).draw(0, 0, data)


# inference


def test_a_run_localizes_without_training_features(data: TrainingData, tmp_path: Path) -> None:
    m = method()
    fit(m, data, tmp_path, device="cpu", progress=False)
    assert m.has_exemplars
    again = method()
    again.load_state_dict(m.state_dict())
    assert detect_videos(again.eval(), data.bank) == detect_videos(m.eval(), data.bank)


def test_weights_without_exemplars_say_what_to_do(data: TrainingData) -> None:
    m = method().eval()
    with pytest.raises(InputError, match="make_exemplars"):
        score_videos(m, data.bank)
    m.make_exemplars(data)
    assert m.has_exemplars
    assert not m.training
    score_videos(m, data.bank)
    m.train().training_step(m.draw(0, 0, data))
    assert not m.has_exemplars  # they belong to older weights


def test_drawing_for_every_video_needs_training_features_and_stays_near_the_cache(data: TrainingData) -> None:
    drawn, cached = method(exemplars="per_video").eval(), method().eval()
    with pytest.raises(InputError, match="training features"):
        score_videos(drawn, data.bank)
    drawn.use_training_data(data)
    cached.make_exemplars(data)
    a, b = score_videos(drawn, data.bank), score_videos(cached, data.bank)
    # what exemplars cannot touch is the same, what they touch is not
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x.foreground, y.foreground, rtol=1e-5)
        assert np.abs(x.cas - y.cas).max() < 0.5
    assert any(np.abs(x.cas - y.cas).max() > 1e-6 for x, y in zip(a, b, strict=True))
    again = score_videos(drawn, data.bank)
    assert all(np.array_equal(x.cas, y.cas) for x, y in zip(a, again, strict=True))


def test_exemplars_of_their_own_for_every_video_equal_one_video_at_a_time(data: TrainingData) -> None:
    m = method(exemplars="per_video").eval()
    m.use_training_data(data)
    together, alone = score_videos(m, data.bank), score_videos(m, data.bank, rows=1)
    for x, y in zip(together, alone, strict=True):
        np.testing.assert_allclose(x.cas, y.cas, rtol=1e-4, atol=1e-5)


def test_smoothing_sees_zeros_beyond_the_end_of_a_padded_video() -> None:
    m = method(smoothing=5).eval()
    short, long = random(1, 9, tiny.DIM), random(1, 30, tiny.DIM, seed=1)
    both = torch.cat([F.pad(short, (0, 0, 0, 21)), long])
    mask = torch.arange(30) < torch.tensor([[9], [30]])
    exemplars = random(tiny.CLASSES + 1, 2, tiny.DIM, seed=2)
    with torch.no_grad():
        alone, together = m.network(short, exemplars), m.network(both, exemplars, mask)
    for name in ("cas", "attention", "inter"):
        torch.testing.assert_close(getattr(together, name)[:1, :9], getattr(alone, name))


def scores(attention: list[float], cas: list[list[float]], video: list[float]) -> SnippetScores:
    return SnippetScores(
        "v",
        np.array(cas, np.float32),
        np.array(attention, np.float32),
        np.array(video, np.float32),
        TimeAxis.uniform(len(attention), 25 / 16),
    )


def localize(scores: list[SnippetScores], classes: list[str], **changes: object) -> Detections:
    config = STCLNetConfig(attention_dim=2, key_dim=2, **changes)  # type: ignore[arg-type]
    return STCLNet(config, dim=2, classes=classes).localize(scores)


def test_segments_are_scored_as_specified() -> None:
    cas = [[0.0], [2.0], [4.0], [1.0], [0.0], [0.0], [0.0], [0.0]]
    s = scores([0, 0.5, 0.5, 0.5, 0.5, 0, 0, 0], cas, [0.6])
    found = localize([s], ["a"], thresholds=(0.4,))
    assert (found.start * 25 / 16).tolist() == [1.0]
    assert (found.end * 25 / 16).tolist() == [5.0]
    # inside 7 / 4, outside snippets 0 and 5, and 0.2 of the class score
    assert found.score[0] == pytest.approx(1.75 - 0.0 + 0.12)


def test_negative_scores_are_lifted_by_default_and_left_alone_on_request() -> None:
    rng = np.random.default_rng(0)
    cas = -rng.random((20, 1)) - 1
    s = scores(rng.random(20).tolist(), cas.tolist(), [0.0])
    lifted, left = (localize([s], ["a"], nms_lifts_negative=flag) for flag in (True, False))
    runs = find_runs(s.foreground, STCLNetConfig().thresholds, strict=True, drop_lone_first=True)
    score = outer_inner_contrast(s.cas.T, runs, 0.25)
    rows, expected = soft_nms(runs.start, runs.end, score, sigma=0.3)
    np.testing.assert_allclose(lifted.score, expected)
    np.testing.assert_allclose(np.sort(left.score[left.score <= 0]), np.sort(score[score <= 0]))
    assert len(lifted) == len(left) == len(rows)
    assert (np.diff(left.score) <= 0).all()


def test_the_best_class_stands_in_where_none_is_likely() -> None:
    s = scores([0.5, 0.5], [[1.0, 2.0], [1.0, 2.0]], [0.05, 0.1])
    assert set(localize([s], ["a", "b"]).label) == {1}
    likely = scores([0.5, 0.5], [[1.0, 2.0], [1.0, 2.0]], [0.2, 0.3])
    assert set(localize([likely], ["a", "b"], class_threshold=0.2).label) <= {0, 1}


def test_no_videos_and_no_segments_give_no_detections() -> None:
    assert len(localize([], ["a"])) == 0
    found = localize([scores([0.0, 0.0], [[0.0], [0.0]], [1.0])], ["a"])
    assert len(found) == 0
    assert found.names == ("v",)


def test_classification_by_maximum_and_by_the_best_eighth() -> None:
    cas = random(2, 20, 4)
    lengths = torch.tensor([20, 9])
    best = stcl_net.classification_scores(cas, lengths)
    torch.testing.assert_close(best[1], cas[1, :9].amax(0).softmax(0))
    meant = stcl_net.classification_scores(cas, lengths, "top_eighth")
    k = math.ceil(9 / 8)
    torch.testing.assert_close(meant[1], cas[1, :9].topk(k, 0).values.mean(0).softmax(0))


def test_classify_uses_whole_videos(data: TrainingData) -> None:
    m = method().eval()
    m.make_exemplars(data)
    batch = whole_videos(data.bank, np.arange(3), torch.zeros(3, tiny.CLASSES))
    found = m.classify(batch)
    assert found.shape == (3, tiny.CLASSES + 1)
    torch.testing.assert_close(found.sum(1), torch.ones(3))


# published weights


def test_official_names_load_with_and_without_prefix_and_widths_are_read_from_them() -> None:
    weights = method(attention_dim=6, key_dim=10).network.state_dict()
    assert "vAttn.bit_wise_attn.0.weight" in weights
    assert "inter_temp_classifier.4.bias" in weights
    for prefix in ("", "module."):
        found = STCLNet.from_published({prefix + k: v for k, v in weights.items()}, snippets=20)
        assert (found.config.attention_dim, found.config.key_dim, found.dim) == (6, 10, tiny.DIM)
        assert len(found.classes) == tiny.CLASSES
        for name, value in found.network.state_dict().items():
            assert torch.equal(value, weights[name])


def test_the_full_size_has_the_published_number_of_parameters() -> None:
    with torch.device("meta"):
        found = STCLNet(STCLNetConfig(), dim=2048, classes=[str(c) for c in range(20)])
    assert sum(p.numel() for p in found.network.parameters()) == 103_441_474


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda w: w.pop("fusion.0.weight"), "fusion.0.weight"),
        (lambda w: w.pop("clswise_atn_conv.bias"), "clswise_atn_conv.bias"),
        (lambda w: w.update({"extra.weight": torch.zeros(1)}), "extra.weight"),
        (lambda w: w.update({"clswise_atn_conv.weight": torch.zeros(1, 3, 1)}), "clswise_atn_conv.weight"),
    ],
)
def test_other_weights_are_refused_with_the_name_of_the_parameter(change, field: str) -> None:  # type: ignore[no-untyped-def]
    weights = dict(method().network.state_dict())
    change(weights)
    with pytest.raises(InputError) as error:
        STCLNet.from_published(weights)
    assert error.value.field == field


def test_a_class_list_of_another_length_is_refused() -> None:
    with pytest.raises(InputError, match="number of classes"):
        STCLNet.from_published(method().network.state_dict(), classes=["a"])


def test_an_odd_width_is_refused() -> None:
    with pytest.raises(InputError, match="RGB and flow"):
        STCLNet(STCLNetConfig(), dim=7, classes=["a"])


def test_recipes_are_the_published_schedules() -> None:
    assert set(recipes("stcl_net")) == {"thumos14", "activitynet12", "activitynet13", "own"}
    assert resolve_config("stcl_net", "thumos14") == STCLNetConfig()
    activitynet = resolve_config("stcl_net", "activitynet12")
    assert isinstance(activitynet, STCLNetConfig)
    assert (activitynet.snippets, activitynet.intra_layer, activitynet.exemplar_videos) == (60, 1, 5)


# dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.7])
def test_dropout_keeps_the_stated_share_at_the_stated_scale(p: float) -> None:
    torch.manual_seed(0)
    mask = dropout_mask(torch.empty(1001, 999), p)
    assert set(mask.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    assert abs((mask == 0).float().mean().item() - p) < 3e-3
    assert abs((mask[:, 1:] * mask[:, :-1]).mean().item() - 1) < 1e-2  # neighbours are independent
    x = random(50, 40)
    assert torch.equal(Dropout(p).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)
