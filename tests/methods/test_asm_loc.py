"""ASM-Loc: segments against plain readings of the procedure, attention against a dense one, bad input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from tests.methods import tiny
from weaktal.cli import main
from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import Warp
from weaktal.methods import asm_loc
from weaktal.methods.asm_loc import (
    ASMLoc,
    ASMLocConfig,
    Outputs,
    Refinement,
    coverage,
    losses,
    outermost,
    random_positions,
    sampled,
)
from weaktal.methods.protocol import whole_videos
from weaktal.nn.segment_attention import segment_attention, segment_attention_naive
from weaktal.train import Run
from weaktal.train.config import resolve_config
from weaktal.train.loop import fit

RATE, CLASSES = 25 / 16, ("a", "b", "c")


def config(**changes: Any) -> ASMLocConfig:
    found = tiny.config("asm_loc", **changes)
    assert isinstance(found, ASMLocConfig)
    return found


def method(dim: int = 16, **changes: Any) -> ASMLoc:
    torch.manual_seed(0)
    made = ASMLoc(config(**changes), dim=dim, classes=CLASSES)
    for network in made.networks:
        for block in network.modules():
            if isinstance(block, torch.nn.BatchNorm1d):  # 0 at the start: the blocks would do nothing
                torch.nn.init.normal_(block.weight)
    return made


def segments_of(seed: int, videos: int, per_video: int = 8, length: float = 60.0) -> Detections:
    """Random segments in the order that localization gives, with duplicates, nested ones and equal starts."""
    rng = np.random.default_rng(seed)
    n = rng.integers(0, per_video + 1, videos).sum()
    video, label = rng.integers(0, videos, n), rng.integers(0, len(CLASSES), n)
    start = rng.integers(0, int(length), n) * 0.64
    end = start + rng.integers(1, 30, n) * 0.32
    score = rng.normal(0.3, 0.3, n)
    order = np.lexsort((-score, label, video))
    names = tuple(f"v{i}" for i in range(videos))
    return Detections(names, CLASSES, *(x[order] for x in (video, start, end, label, score)))


def axes_of(lengths: list[int]) -> list[TimeAxis]:
    return [TimeAxis.uniform(n, RATE) for n in lengths]


def rows_of(segments: Detections, video: int) -> list[tuple[float, float, int, float]]:
    found = segments[segments.video == video]
    return list(
        zip(found.start.tolist(), found.end.tolist(), found.label.tolist(), found.score.tolist(), strict=True)
    )


@given(st.integers(0, 2**31), st.sampled_from([(0.7, 0.5, 6.0), (0.3, 0.0, 10.0)]))
@settings(max_examples=60, deadline=None)
def test_sampling_weights_follow_the_plain_procedure(seed: int, how: tuple[float, float, float]) -> None:
    share, delta, gamma = how
    lengths = [94, 40, 7, 1]
    segments = segments_of(seed, len(lengths))
    changes = config(score_share=share, expansion=delta, density=gamma)
    found = Refinement(segments, axes_of(lengths), None, changes).weights
    bound = gamma * (2 * delta + 1)
    for v, length in enumerate(lengths):
        w = np.ones(length)
        for label in range(len(CLASSES)):
            best = sorted((r for r in rows_of(segments, v) if r[2] == label), key=lambda r: -r[3])
            total = np.cumsum([r[3] for r in best])
            count = sum(c <= share * max(total) for c in total)
            for start, end, _, _ in best[:count]:
                middle, reach = (start + end) / 2, (delta + 0.5) * (end - start)
                i0 = max(round((middle - reach) * RATE), 0)
                i1 = min(round((middle + reach) * RATE), length - 1)
                n = i1 - i0 + 1
                if i0 < i1 and n <= bound:
                    for i in range(i0, i1 + 1):
                        w[i] = max(w[i], min(bound / n, bound))
        i = 0
        while i < length:
            j = i
            while j < length and w[j] > 1:
                j += 1
            if j > i:
                w[i:j] *= round(sum(w[i:j])) / sum(w[i:j])
            i = max(j, i + 1)
        assert_allclose(found[v], w, rtol=1e-12)


@given(st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_boxes_and_labels_are_those_of_the_plain_procedure(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [94, 40, 7, 1, 66]
    segments, labels = segments_of(seed, len(lengths)), rng.integers(0, 2, (len(lengths), len(CLASSES)))
    how = config(expansion=0.5 * rng.integers(2), warp=bool(rng.integers(2)))
    plan = Refinement(segments, axes_of(lengths), labels, how)
    size = rng.integers(2, 50, len(lengths))
    videos = rng.permutation(len(lengths))
    boxes, count = (x.numpy() for x in plan.boxes(videos, size))
    targets = plan.targets(videos, size, labels[videos])
    for row, (v, t) in enumerate(zip(videos, size, strict=True)):
        knots = plan.knots(v)

        def warped(seconds: float, knots: np.ndarray | None = knots) -> float:
            if knots is None:
                return seconds
            at, i = seconds * RATE + 1, np.arange(len(knots))
            slope = knots[-1] - knots[-2]
            inside = np.interp(at, i, knots)
            return (inside + max(at - i[-1], 0) * slope - 1) / RATE

        scale = RATE * t / (lengths[v] if knots is None else round(knots[-1]))
        mine = [r for r in rows_of(segments, v) if labels[v, r[2]]]
        fresh = list(dict.fromkeys((s, e) for s, e, _, _ in mine))
        kept: list[tuple[float, float]] = []
        for _, (s, e) in sorted(enumerate(fresh), key=lambda r: (r[1][0], -r[0])):
            if not kept or e > kept[-1][1]:
                kept.append((s, e))
        expected = []
        for s, e in kept:
            s, e = warped(s), warped(e)
            middle, reach = (s + e) / 2, (how.expansion + 0.5) * (e - s)
            expected.append((max((middle - reach) * scale, 0), min((middle + reach) * scale, t - 1)))
        assert count[row] == len(kept)
        found, near = boxes[row, : count[row]], np.array(expected).reshape(-1, 2)
        # a half may be rounded to either side: the reference's last bits differ
        assert_allclose(np.sort(found, axis=0), np.sort(near, axis=0), rtol=0, atol=0.5 + 1e-6)
        assert (np.diff(boxes[row, : count[row], 0]) <= 0).all()

        q = np.zeros((t, len(CLASSES) + 1))
        sure = np.ones(t, bool)
        for s, e, label, _ in mine:
            low, high = warped(s) * scale, warped(e) * scale
            q[max(round(low), 0) : max(min(round(high), t - 1) + 1, 0), label] = 1
            for edge in (low, high):
                if abs(edge % 1 - 0.5) < 1e-6:
                    sure[np.clip([int(edge), int(edge) + 1], 0, t - 1)] = False
        q[:, -1] = q[:, :-1].sum(1) == 0
        q /= q.sum(1, keepdims=True)
        assert_allclose(targets[row, :t][sure], q[sure], rtol=1e-6)


def test_of_equal_starts_the_segment_listed_last_is_met_first() -> None:
    short_last = Detections(("v",), CLASSES, [0, 0], [1.0, 1.0], [9.0, 5.0], [0, 0], [0.9, 0.5])
    assert outermost(short_last).tolist() == [1, 0]
    long_last = Detections(("v",), CLASSES, [0, 0], [1.0, 1.0], [5.0, 9.0], [0, 0], [0.9, 0.5])
    assert outermost(long_last).tolist() == [1]


def test_segments_of_other_classes_are_left_out_in_training() -> None:
    segments = segments_of(3, 4, per_video=20)
    labels = np.zeros((4, len(CLASSES)))
    labels[:, 1] = 1
    plan = Refinement(segments, axes_of([94] * 4), labels, config())
    assert len(plan.segments)
    assert (plan.segments.label == 1).all()


@given(st.integers(0, 2**31), st.booleans(), st.booleans())
@settings(max_examples=40, deadline=None)
def test_attention_within_segments_equals_one_over_all_pairs(
    seed: int, training: bool, normalize_uncovered: bool
) -> None:
    rng = np.random.default_rng(seed)
    b, t, n = 3, 20, 5
    low = rng.integers(0, t, (b, n))
    boxes = np.stack([low, np.minimum(low + rng.integers(-2, 7, (b, n)), t - 1)], -1)
    count = torch.from_numpy(rng.integers(0, n + 1, b))
    covers = coverage(torch.from_numpy(boxes), torch.arange(n) < count[:, None], t)
    plain = np.zeros((b, t, n), bool)
    for i, j in np.ndindex(b, n):
        plain[i, boxes[i, j, 0] : max(boxes[i, j, 1] + 1, 0), j] = j < count[i]
    assert_array_equal(covers, plain)
    made = method(normalize_uncovered=normalize_uncovered)
    block = made.networks[1].MHSA_Intra.double().train(training)
    e = torch.from_numpy(rng.standard_normal((b, t, 16)))
    results = []
    for attend in (segment_attention, segment_attention_naive):
        x = e.clone().requires_grad_()
        block.zero_grad()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asm_loc, "segment_attention", attend)
            out = block(x, covers)
        out.square().sum().backward()
        results.append((out.detach(), x.grad, block.conv_query.weight.grad, block.conv_value.weight.grad))
    for ours, dense in zip(*results, strict=True):
        assert torch.isfinite(ours).all()
        assert_allclose(ours, dense, rtol=1e-7, atol=1e-9)


def network_input(t: int = 30, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    x = torch.from_numpy(rng.standard_normal((3, t, 16))).float()
    low = torch.from_numpy(rng.integers(0, t - 8, (3, 4)))
    return x, torch.stack([low, low + 7], -1), torch.tensor([4, 0, 2])


def test_slots_that_are_not_used_change_nothing() -> None:
    network = method(dropout=0.0).networks[1].eval()
    x, boxes, count = network_input()
    few = network(x, None, boxes, count)
    many = network(x, None, torch.nn.functional.pad(boxes, (0, 0, 0, 7), value=3), count)
    for a, b in zip(few, many, strict=True):
        assert_allclose(a.detach(), b.detach(), atol=1e-5)


@pytest.mark.parametrize("normalize_uncovered", [True, False])
def test_a_batch_without_any_segment_trains_all_parameters(normalize_uncovered: bool) -> None:
    made = method(dropout=0.0, normalize_uncovered=normalize_uncovered)
    network = made.networks[1].train()
    x, boxes, _ = network_input()
    out = network(x, None, boxes, torch.zeros(3, dtype=torch.int64))
    found = losses(out, torch.eye(3), torch.full_like(out.cas, 0.25), made.config)
    found["total"].backward()
    for name, parameter in network.named_parameters():
        assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("normalize_uncovered", [True, False])
def test_mixed_precision_is_near_the_full_one(normalize_uncovered: bool) -> None:
    network = method(dropout=0.0, normalize_uncovered=normalize_uncovered).networks[1].eval()
    x, boxes, count = network_input()
    full = network(x, None, boxes, count)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = network(x, None, boxes, count)
    for a, b in zip(full[:6], half[:6], strict=True):
        assert_allclose(b.detach().float(), a.detach(), atol=0.05)


def test_batch_statistics_leave_snippets_outside_of_segments_out_if_asked() -> None:
    x, boxes, count = network_input()
    covers = coverage(boxes, torch.arange(4) < count[:, None], 30)
    changes = []
    for value in (True, False):
        block = method(normalize_uncovered=value).networks[1].MHSA_Intra.train()
        changes.append((block(x, covers) - x)[1].abs().max().item())
    assert changes[0] > 1e-3
    assert changes[1] == 0


def test_a_video_without_labels_is_no_division_by_zero() -> None:
    made = method(num_steps=0)
    out = made.networks[0](torch.randn(2, 8, 16))
    found = losses(out, torch.tensor([[0.0, 0, 0], [1, 0, 1]]), out.cas, made.config)
    assert all(torch.isfinite(v) for v in found.values())
    alone = Outputs(*(o[1:] for o in out[:6]), None)
    one = losses(alone, torch.tensor([[1.0, 0, 1]]), alone.cas, made.config)
    assert found["foreground"].item() == pytest.approx(one["foreground"].item() / 2)


# sampling


def test_a_warp_with_weights_of_one_moves_nothing() -> None:
    for alignment in ("end", "middle"):
        warp = Warp([np.ones(7), np.ones(1)], at_end=alignment == "end")
        assert warp.rows.tolist() == [7, 1]
        assert_allclose(np.concatenate(warp.source), [0, 1, 2, 3, 4, 5, 6, 0], atol=1e-12)
        assert_allclose(warp.warped(0, np.array([0.0, 2.5, 7.0])), [0, 2.5, 7.0])


def test_features_of_a_warped_video_are_where_its_axis_says() -> None:
    """Features that tell their own time, sampled with a warp aligned to the middle, tell the axis' time."""
    n = 40
    axis = TimeAxis.uniform(n, RATE)
    bank = FeatureBank.of(["v"], [axis.centers().astype(np.float32)[:, None]], RATE)
    w = np.ones(n)
    w[10:14] = 3
    warp = Warp([w], at_end=False)
    rows = np.arange(warp.rows[0])[None].astype(float)
    x = sampled(bank, np.array([0]), rows, warp.rows, warp)[0, :, 0].numpy()
    told = axis.warped(warp.knots[0], int(warp.rows[0])).centers()
    assert_allclose(x[1:-1], told[1:-1], atol=0.64 / 2 + 1e-5)  # a row's middle within its own snippet
    assert_allclose(x[20:30], told[20:30], atol=1e-4)


@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(2, 30))
@settings(max_examples=50, deadline=None)
def test_random_positions_are_ascending_and_inside(rows: list[int], size: int) -> None:
    rng = np.random.default_rng(0)
    for last in (False, True):
        at = random_positions(np.array(rows), size, rng, sample_last=last)
        assert at.shape == (len(rows), size)
        assert (np.diff(at, axis=1) >= 0).all()
        assert (at >= 0).all()
        assert (at <= np.array(rows)[:, None] - 1).all()


def test_the_last_snippet_is_drawn_only_if_asked() -> None:
    rng, many = np.random.default_rng(0), np.full(400, 9)
    assert random_positions(many, 4, rng).max() == 7
    assert random_positions(many, 4, rng, sample_last=True).max() == 8


def test_rows_beyond_the_length_are_zero() -> None:
    bank = FeatureBank.of(["a", "b"], [np.ones((5, 2), np.float32), np.ones((9, 2), np.float32)], RATE)
    at = np.tile(np.arange(9.0), (2, 1))
    x = sampled(bank, np.array([0, 1]), np.minimum(at, 4), np.array([5, 9]))
    assert x.sum((1, 2)).tolist() == [10, 18]


# localization and the chain of steps


def scores_of(seed: int = 0, length: int = 60, axis: TimeAxis | None = None) -> SnippetScores:
    rng = np.random.default_rng(seed)
    cas = rng.dirichlet(np.ones(4), length)[:, :3].astype(np.float32)
    fg = np.convolve(rng.random(length + 4), np.ones(5) / 5, "valid").astype(np.float32)
    votes = np.array([0.6, 0.3, 0.1], np.float32)
    return SnippetScores("v", cas, fg, votes, axis or TimeAxis.uniform(length, RATE))


def test_only_classes_above_the_threshold_are_found_and_the_best_one_if_there_is_none() -> None:
    score = scores_of()
    assert set(method().localize([score]).label) == {0, 1}
    assert set(method(class_threshold=0.7).localize([score]).label) == {0}


def test_switches_of_localization_change_what_they_say() -> None:
    score = scores_of()
    published = method().localize([score])
    assert published.end.max() <= score.axis.end + 1e-9
    plain = method(nms_plus_one=False).localize([score])
    assert len(plain) > len(published)
    assert len(method().localize([])) == 0

    cas, fg = score.cas.copy(), score.foreground.copy()
    fg[-2:] = 0.3, 0.0
    falling = SnippetScores("v", cas, fg, score.video_scores, score.axis)
    held, gone = (method(extrapolate_tail=e).localize([falling]) for e in (False, True))
    assert not np.array_equal(held.score, gone.score)


def test_seconds_do_not_depend_on_how_they_are_computed() -> None:
    """Pseudo segments follow the published order of operations, detections the time axis."""
    grids = {
        "pseudo_on_cas": (0.1, 0.3, 0.05),
        "detect_on_cas": (0.1, 0.3, 0.05),
        "pseudo_on_attention": (0.3, 0.7, 0.05),
        "detect_on_attention": (0.3, 0.7, 0.05),
        "class_threshold": 0.0,
    }
    made = method(**grids).eval()
    rng = np.random.default_rng(1)
    lengths = [70, 30, 2, 1]
    arrays = [rng.standard_normal((n, 16)).astype(np.float32) for n in lengths]
    bank = FeatureBank.of([f"v{i}" for i in range(4)], arrays, 1.5625)
    axes = tuple(TimeAxis.uniform(n, 2.4, offset=5.0) for n in lengths)
    bank = FeatureBank(bank.names, bank.data, bank.offsets, axes)
    batch = whole_videos(bank, np.arange(4), torch.zeros(4, 3))
    steps = list(made.score_steps(batch))
    first = made.pseudo_segments(
        0, bank, Refinement(Detections.empty(bank.names, CLASSES), bank.axes, None, made.config)
    )
    plan = Refinement(first, bank.axes, None, made.config)
    assert any(c is not None and c[-1] != len(c) - 1 for c in map(plan.knots, range(4)))
    for step, found in ((0, first), (1, made.pseudo_segments(1, bank, plan))):
        expected = made.localize(steps[step])
        assert len(found) == len(expected) > 5
        for column in ("video", "label", "start", "end", "score"):
            assert_allclose(getattr(found, column), getattr(expected, column), atol=1e-9)
    assert first.start.min() >= 5


def test_a_new_video_goes_through_all_steps() -> None:
    rng = np.random.default_rng(2)
    bank = FeatureBank.of(
        ["a", "b"], [rng.standard_normal((n, 16)).astype(np.float32) for n in (50, 9)], RATE
    )
    batch = whole_videos(bank, np.arange(2), torch.zeros(2, 3))
    made = method(num_steps=2).eval()
    steps = list(made.score_steps(batch))
    assert len(steps) == 3
    assert_array_equal(made.score(batch)[0].cas, steps[-1][0].cas)
    early = method(num_steps=2, detect_step=1).eval()
    assert_array_equal(early.score(batch)[0].cas, steps[1][0].cas)


def test_pseudo_segments_of_every_step_are_kept(tmp_path: Any) -> None:
    made, data = tiny.build("asm_loc"), tiny.data("asm_loc")
    assert isinstance(made, ASMLoc)
    fit(made, data, tmp_path, device="cpu", progress=False)
    found = made.artifacts()
    assert list(found) == ["pseudo_base", "pseudo_refine1"]
    assert all(d.names == data.bank.names and d.classes == data.weak.classes for d in found.values())
    again = tiny.build("asm_loc")
    again.load_training_state(made.training_state())
    assert again.artifacts() == found


# input


def test_heads_must_divide_the_width_of_the_full_network_only() -> None:
    with pytest.raises(InputError, match="heads"):
        ASMLoc(ASMLocConfig(), dim=100, classes=CLASSES)
    ASMLoc(ASMLocConfig(num_steps=0), dim=7, classes=CLASSES)


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 4},
        {"detect_on_cas": None, "detect_on_attention": None},
        {"pseudo_on_cas": None, "pseudo_on_attention": None},
        {"detect_step": 3},
        {"dropout": 1.0},
    ],
)
def test_settings_that_make_no_sense_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        config(**changes)


def test_the_defaults_are_the_thumos_recipe() -> None:
    assert resolve_config("asm_loc", "thumos14") == ASMLocConfig()
    other = resolve_config("asm_loc", "activitynet13")
    assert isinstance(other, ASMLocConfig)
    assert (other.snippets, other.batch_size, other.num_steps, other.input_dropout) == (150, 64, 1, True)


def official(step: int, prefix: str = "", **changes: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(step)
    kind = ASMLoc(config(num_steps=min(step, 1), **changes), dim=16, classes=CLASSES).networks[-1]
    return {prefix + k: v for k, v in kind.state_dict().items()}


def test_official_weights_of_one_network() -> None:
    base = ASMLoc.from_published({"model_state_dict": official(0, "module."), "epoch": 3}, heads=2)
    assert (base.config.num_steps, base.dim, base.classes) == (0, 16, ("class 0", "class 1", "class 2"))
    for key, value in official(0).items():
        assert_array_equal(base.networks[0].state_dict()[key], value)
    assert ASMLoc.from_published(official(0, input_dropout=True)).config.input_dropout

    full = ASMLoc.from_published(official(1), heads=2, classes=CLASSES)
    assert [network.refines for network in full.networks] == [False, True]
    bank = FeatureBank.of(["a"], [np.ones((9, 16), np.float32)], RATE)
    again = ASMLoc(full.config, dim=16, classes=CLASSES)
    again.load_training_state(full.training_state())
    for made in (full, again):
        with pytest.raises(InputError, match="alone"):
            made.eval().score(whole_videos(bank, np.array([0]), torch.zeros(1, 3)))


def test_official_checkpoints_of_all_steps() -> None:
    files = {f"runs/model_step{s}_last_epoch.pth": official(s) for s in range(3)}
    files["runs/model_step2_best_epoch.pth"] = official(5)
    files["runs/model_latest.pth"] = official(2)
    made = ASMLoc.from_published_folder(files, heads=2, classes=CLASSES)
    assert made.config.num_steps == 2
    for network, seed in zip(made.networks, (0, 1, 5), strict=True):
        assert_array_equal(network.snippet_cls.weight.detach(), official(seed)["snippet_cls.weight"])
    assert ASMLoc.from_published_folder(files, heads=2, num_steps=0).config.num_steps == 0
    del files["runs/model_step1_last_epoch.pth"]
    with pytest.raises(InputError, match="step1"):
        ASMLoc.from_published_folder(files, heads=2)
    with pytest.raises(InputError, match="step0"):
        ASMLoc.from_published_folder({})


def test_a_folder_of_checkpoints_becomes_a_run(tmp_path: Path) -> None:
    for step in range(3):
        checkpoint = {"epoch": 7, "model_state_dict": official(step), "best_test_mAP": 0.5}
        torch.save(checkpoint, tmp_path / f"model_step{step}_last_epoch.pth")
    settings = ["--set", "heads=2", "--set", "snippets=20"]
    assert main(["convert-checkpoint", "asm_loc", str(tmp_path), str(tmp_path / "run"), *settings]) == 0
    made = Run.open(tmp_path / "run").method()
    assert isinstance(made, ASMLoc)
    for step, network in enumerate(made.networks):
        for key, value in official(step).items():
            assert_array_equal(network.state_dict()[key], value, err_msg=key)
    (tmp_path / "model_step1_last_epoch.pth").unlink()
    assert main(["convert-checkpoint", "asm_loc", str(tmp_path), str(tmp_path / "other")]) == 2
    assert not (tmp_path / "other").exists()


def test_weights_that_do_not_fit_are_refused() -> None:
    state = official(0)
    with pytest.raises(InputError, match="classes"):
        ASMLoc.from_published(state, classes=("a", "b"))
    with pytest.raises(InputError, match="steps"):
        ASMLoc.from_published(state, num_steps=2)
    with pytest.raises(InputError, match="odd"):
        ASMLoc.from_published({**state, "odd": torch.zeros(1)})
    with pytest.raises(InputError, match=r"att_branch\.weight"):
        ASMLoc.from_published({k: v for k, v in state.items() if k != "att_branch.weight"})
    with pytest.raises(InputError, match=r"att_branch\.bias"):
        ASMLoc.from_published({**state, "att_branch.bias": torch.zeros(3)})
    with pytest.raises(InputError, match="snippet_cls"):
        ASMLoc.from_published({})


def test_an_evaluation_while_training_uses_the_step_in_training(tmp_path: Path) -> None:
    """The network of a later step is not trained yet and must not have a say."""
    data = tiny.data("asm_loc")
    seen = []

    def watch(method: Any) -> dict[str, float]:
        batch = data.whole(np.arange(len(data)))
        steps = list(method.score_steps(batch))
        current = next(i for i, s in enumerate(steps) if np.array_equal(s[0].cas, method.score(batch)[0].cas))
        seen.append((method.stage, current))
        return {"average": 0.0}

    fit(tiny.build("asm_loc"), data, tmp_path, device="cpu", progress=False, evaluate=watch)
    assert seen == [(0, 0), (0, 0), (1, 1), (1, 1), (2, 2), (2, 2)]
