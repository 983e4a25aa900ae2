"""Checks of the golden files of ASM-Loc."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.testing import assert_allclose, assert_array_equal

from weaktal.core import Annotations, Detections, Instances, SnippetScores, TimeAxis, Video
from weaktal.evaluate import evaluate, exact_accuracy
from weaktal.features.bank import FeatureBank
from weaktal.features.sampling import Warp, at_most_rows
from weaktal.localize.curves import upsample
from weaktal.methods.asm_loc import (
    ASMLoc,
    ASMLocConfig,
    Refinement,
    losses,
    outermost,
    random_positions,
    sampled,
)
from weaktal.methods.protocol import whole_videos
from weaktal.train.config import resolve_config

Data = dict[str, np.ndarray]
RATE = 25 / 16


def config_of(data: Data, **settings: Any) -> ASMLocConfig:
    recipe = {"THUMOS": "thumos14", "ActivityNet": "activitynet13"}[str(data["cfg/dataset"])]
    names = {"cfg/sample_segments_num": "snippets", "cfg/dropout": "dropout"}
    given = {name: data[key].item() for key, name in names.items() if key in data}
    config = resolve_config("asm_loc", recipe, {**given, **settings})
    assert isinstance(config, ASMLocConfig)
    return config


def method_of(data: Data, prefix: str = "w/", **settings: Any) -> ASMLoc:
    """The method around the one network of a file."""
    state = {k.removeprefix(prefix): torch.from_numpy(v) for k, v in data.items() if k.startswith(prefix)}
    settings = {k: v for k, v in config_of(data, **settings) if k not in ("num_steps",)}
    return ASMLoc.from_published(state, **settings)


def ragged(flat: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    return np.split(flat, np.cumsum(counts)[:-1])


def inputs(data: Data) -> tuple[torch.Tensor, ...]:
    x = torch.from_numpy(data["x"])
    if not data["full"]:
        return x, None, None, None
    boxes, count = torch.from_numpy(data["proposal_bbox"]), torch.from_numpy(data["proposal_count"])
    return x, None, boxes.long(), count


def compare_outputs(out: Any, data: Data, prefix: str) -> None:
    names = {"temp_att": "attention"}
    for key in [k for k in data if k.startswith(prefix)]:
        short = key.removeprefix(prefix)
        found = getattr(out, names.get(short, short)).detach().numpy()
        assert_allclose(found, data[key], rtol=1e-5, atol=2e-6, err_msg=key)


def forward(data: Data, path: Path) -> None:
    network = method_of(data).networks[-1]
    network.eval()
    compare_outputs(network(*inputs(data)), data, "out/")
    network.train()
    compare_outputs(network(*inputs(data)), data, "train_out/")
    state = network.state_dict()
    for key in [k for k in data if k.startswith("train_buf/")]:
        assert_allclose(state[key.removeprefix("train_buf/")].numpy(), data[key], rtol=1e-5, atol=1e-6)


LOSSES = {
    "fg_loss": "foreground",
    "bg_loss": "background",
    "abg_loss": "background_action",
    "pseudo_instance_loss": "instance",
    "total": "total",
}


def losses_of(method: ASMLoc, out: Any, labels: np.ndarray, targets: np.ndarray | None) -> dict[str, Any]:
    snippets = None if out.uncertainty is None else torch.from_numpy(targets)
    return losses(out, torch.from_numpy(labels), snippets, method.config)


def loss(data: Data, path: Path) -> None:
    method = method_of(data)
    network = method.networks[-1].train()
    out = network(*inputs(data))
    for value in out:
        if value is not None:
            value.retain_grad()
    found_losses = losses_of(method, out, data["vid_label"], data.get("pseudo_instance_label"))
    found_losses["total"].backward()
    compare_outputs(out, data, "out/")
    for key, value in data.items():
        kind, _, name = key.partition("/")
        if kind == "loss":
            assert_allclose(found_losses[LOSSES[name]].item(), value, rtol=1e-5, err_msg=key)
        elif kind == "grad_out":
            found = getattr(out, {"temp_att": "attention"}.get(name, name)).grad.numpy()
            assert_allclose(found, value, rtol=1e-4, atol=1e-6, err_msg=key)
        elif kind == "grad":
            found = network.get_parameter(name).grad.numpy()
            assert_allclose(found, value, rtol=1e-4, atol=1e-5 * max(1, np.abs(value).max()), err_msg=key)


def train(data: Data, path: Path) -> None:
    method = method_of(data, learning_rate=float(data["lr"]), weight_decay=float(data["weight_decay"]))
    stage = len(method.networks) - 1
    network = method.networks[stage].train()
    optimizer = method.optimizer(stage)
    terms = []
    for i, x in enumerate(data["xs"]):
        boxes = count = targets = None
        if data["full"]:
            boxes = torch.from_numpy(data["proposal_bboxes"][i]).long()
            count = torch.from_numpy(data["proposal_counts"][i])
            targets = data["pseudo_instance_labels"][i]
        out = network(torch.from_numpy(x), None, boxes, count)
        step = losses_of(method, out, data["vid_labels"][i], targets)
        optimizer.zero_grad()
        step["total"].backward()
        optimizer.step()
        terms.append(
            [float(torch.as_tensor(step.get(k, 0)).detach()) for k in ("total", *list(LOSSES.values())[:4])]
        )
    terms_found = np.array(terms)
    assert_allclose(terms_found[:, 0], data["losses"], rtol=1e-4)
    assert_allclose(terms_found[:, 1:], data["loss_terms"], rtol=1e-4, atol=1e-5)
    # Batch norm takes the output bias away again, and softmax the bias of the keys: their gradients are
    # rounding noise, which Adam blows up to full steps. They, and the running mean that holds the first, may
    # drift by as much; nothing else depends on them.
    steps, dim = len(data["xs"]), data["xs"].shape[-1]
    drift = 2 * float(data["lr"]) * steps * dim
    state = network.state_dict()
    free = [name for name in state if name.endswith(("conv_out.bias", "conv_key.bias", "bn.running_mean"))]
    sums = {k: float(v.double().sum()) for k, v in state.items()}
    biases = [n for n in free if n.endswith("bias")]
    moved = sum(sums[n] - float(data[f"final_sum/{n}"]) for n in biases)
    parameters = torch.cat([p.detach().double().flatten() for p in network.parameters()])
    assert_allclose(parameters.sum() - moved, data["param_sum"], atol=1e-3)
    slack = 1e-4 * float(data["param_sqsum"]) + 2 * drift * len(biases)
    assert_allclose(parameters.square().sum(), data["param_sqsum"], atol=slack)
    for key, value in data.items():
        kind, _, name = key.partition("/")
        if kind == "final":
            atol = drift if name in free else 1e-4
            assert_allclose(state[name].numpy(), value, rtol=1e-3, atol=atol, err_msg=key)
        elif kind == "final_sum":
            assert_allclose(sums[name], value, rtol=1e-4, atol=drift if name in free else 2e-3, err_msg=key)


def sampling(data: Data, path: Path) -> None:
    lengths, size = data["lens"], int(data["sample_len"])
    arrays = ragged(data["features"], lengths)
    bank = FeatureBank.of([f"v{i}" for i in range(len(arrays))], arrays, RATE)
    bank = FeatureBank(bank.names, torch.from_numpy(data["features"]), bank.offsets, bank.axes)
    warp = Warp(ragged(data["dyn_weights"], lengths))
    videos = np.arange(len(lengths))

    def pieces(rows: np.ndarray, length: np.ndarray, warp: Warp | None) -> list[np.ndarray]:
        x = sampled(bank, videos, rows, length, warp).numpy()
        return [a[:n] for a, n in zip(x, length, strict=True)]

    def compare(key: str, found: list[np.ndarray]) -> None:
        for i, (a, b) in enumerate(zip(found, ragged(data[key], data[f"{key}_lens"]), strict=True)):
            if len(b):  # nothing is stored where the published code has no answer
                assert_allclose(a, b, rtol=1e-6, atol=1e-6, err_msg=f"{key} {i}")

    compare("uniform", pieces(*at_most_rows(lengths, size), None))
    everywhere = np.full(len(lengths), size)
    drawn = []
    for n in lengths:
        legacy = np.random.RandomState(int(data["np_seed"]))
        drawn.append(random_positions(np.array([n]), size, legacy)[0])
    compare("random", pieces(np.stack(drawn), everywhere, None))
    inner = np.linspace(np.zeros(len(lengths)), lengths - 1, size, axis=1)
    compare("interp", pieces(inner, everywhere, None))
    compare("dynamic", pieces(*at_most_rows(warp.rows, int(warp.rows.max())), warp))
    compare("dynamic_uniform", pieces(*at_most_rows(warp.rows, size), warp))
    for knots, expected in zip(warp.knots, ragged(data["cumsum"], data["cumsum_lens"]), strict=True):
        if knots is not None:  # of one snippet: [0, 0.5, 1], the identity
            assert_allclose(knots, expected, rtol=1e-12)


def detections_of(rows: np.ndarray, counts: np.ndarray, classes: int) -> Detections:
    """From rows (class, start, end, score), grouped by video and class, by falling score."""
    video = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-rows[:, 3], rows[:, 0], video))
    rows = rows[order]
    names = tuple(f"v{i}" for i in range(len(counts)))
    labels = tuple(f"c{i:02}" for i in range(classes))
    return Detections(names, labels, video, rows[:, 1], rows[:, 2], rows[:, 0], rows[:, 3])


def plan_of(segments: Detections, data: Data, config: ASMLocConfig) -> Refinement:
    """Published test videos keep all predicted classes, training videos those of their label."""
    labels = np.where(data["is_test"][:, None] > 0, 1, data["vid_label"])
    axes = [TimeAxis.uniform(int(n), RATE) for n in data["vid_lens"]]
    return Refinement(segments, axes, labels, config)


def compare_items(plan: Refinement, data: Data, prefix: str, config: ASMLocConfig) -> None:
    arrays = ragged(data["features"], data["vid_lens"])
    bank = FeatureBank.of([f"v{i}" for i in range(len(arrays))], arrays, RATE)
    videos = np.arange(len(arrays))
    rows, length = at_most_rows(plan.rows, config.snippets)
    assert_array_equal(length, data[f"{prefix}item_T"])
    assert_array_equal([plan.knots(v) is not None for v in videos], data[f"{prefix}item_dynamic"])
    x = sampled(bank, videos, rows, length, plan.warp).numpy()
    boxes, count = (y.numpy() for y in plan.boxes(videos, length))
    assert_array_equal(count, data[f"{prefix}proposal_count"])
    targets = plan.targets(videos, length, data["vid_label"])
    for i, n in enumerate(length):
        assert_array_equal(boxes[i, : count[i]], data[f"{prefix}proposal_bbox"][i, : count[i]])
        features, labels = (
            ragged(data[f"{prefix}{key}"], length)[i] for key in ("input_feature", "pseudo_instance_label")
        )
        assert_allclose(x[i, :n], features, rtol=1e-5, atol=2e-6)
        assert_allclose(targets[i, :n], labels, rtol=1e-6)


def pseudo(data: Data, path: Path) -> None:
    config = config_of(data, warp=bool(data["dynamic"]))
    segments = detections_of(data["segments"], data["segments_n"], int(data["cfg/K"]))
    plan = plan_of(segments, data, config)
    assert_allclose(np.concatenate(plan.weights), data["dyn_weights"], rtol=1e-9)
    kept = plan.segments[outermost(plan.segments)]
    assert_array_equal(np.bincount(kept.video, minlength=len(plan.rows)), data["att_segments_n"])
    assert_allclose(np.stack([kept.start, kept.end], 1), data["att_segments"], atol=1e-9)
    compare_detections(plan.segments, data, "all_segments")
    compare_items(plan, data, "", config)


def compare_detections(found: Detections, data: Data, key: str, score: float = 1e-6) -> None:
    expected = detections_of(data[key], data[f"{key}_n"], len(found.classes))
    order = [
        np.lexsort((np.round(d.end, 5), np.round(d.start, 5), d.label, d.video)) for d in (found, expected)
    ]
    found, expected = found[order[0]], expected[order[1]]
    assert_array_equal(found.video, expected.video, err_msg=key)
    assert_array_equal(found.label, expected.label, err_msg=key)
    for column in ("start", "end", "score"):
        assert_allclose(getattr(found, column), getattr(expected, column), rtol=0, atol=score, err_msg=key)


def compare_measures(
    found: Detections, votes: np.ndarray, data: Data, prefix: str, videos: np.ndarray
) -> None:
    """mAP and accuracy; `votes` (V, K) are the video scores of `videos`."""
    config = config_of(data)
    truth = ragged(data["gt"], data["gt_n"])
    listed = [
        Video(f"v{i}", instances=Instances(truth[i][:, 1], truth[i][:, 2], truth[i][:, 0])) for i in videos
    ]
    thumos = str(data["cfg/dataset"]) == "THUMOS"
    tiou = np.arange(0.1, 1.0, 0.1) if thumos else np.arange(0.5, 1.0, 0.05)
    result = evaluate(found, Annotations.of(found.classes, listed), "activitynet", tiou=tiou)
    assert_allclose(result.mean_ap, data[f"{prefix}mAP"], atol=1e-6)
    if f"{prefix}test_mAP" in data:
        assert_allclose(result.mean_ap[: 7 if thumos else 10].mean(), data[f"{prefix}test_mAP"], atol=1e-6)
    accuracy = exact_accuracy(votes, data["vid_label"][videos], config.class_threshold)
    assert_allclose(accuracy, data[f"{prefix}test_acc"], atol=1e-9)


def inference(data: Data, path: Path) -> None:
    config = config_of(data)
    classes = [f"c{i:02}" for i in range(int(data["cfg/K"]))]
    method = ASMLoc(config, dim=int(data["cfg/C"]) * config.heads, classes=classes)
    cas, attention = ragged(data["fg_cas"], data["T"]), ragged(data["temp_att"], data["T"])
    knots = ragged(data["cumsum"], data["cumsum_n"]) if "cumsum" in data else [None] * len(cas)
    scores = []
    for i, (n, t) in enumerate(zip(data["vid_lens"], data["T"], strict=True)):
        axis = TimeAxis.uniform(int(n), RATE)
        warped = knots[i] is not None and len(knots[i]) == n + 1
        axis = axis.warped(knots[i], int(t)) if warped else axis.resampled(int(t))
        fg = data["fg_cls"][i, :-1]
        scores.append(SnippetScores(f"v{i}", cas[i][:, :-1], attention[i][:, 0], fg, axis))
    up = upsample(data["fg_cas"][: data["T"][0]].T, config.upsampling).T
    assert_allclose(up, data["up_cas0"], atol=1e-6)
    found = method.localize(scores)
    compare_detections(found, data, "detections")
    compare_measures(found, data["fg_cls"][:, :-1], data, "", np.arange(len(cas)))
    compare_detections(
        method._segments(scores, config.pseudo_on_cas, config.pseudo_on_attention), data, "pseudo"
    )


def pipeline(data: Data, path: Path) -> None:
    """The whole chain: base network, its segments, refinement network."""
    states: Mapping[str, Any] = {
        name: {k.removeprefix(p): torch.from_numpy(v) for k, v in data.items() if k.startswith(p)}
        for name, p in (("model_step0_last_epoch.pth", "w_base/"), ("model_step1_best_epoch.pth", "w_full/"))
    }
    classes = [f"c{i:02}" for i in range(int(data["cfg/K"]))]
    config = config_of(data, num_steps=1)
    method = ASMLoc.from_published_folder(states, classes=classes, **dict(config)).eval()
    arrays = ragged(data["features"], data["vid_lens"])
    bank = FeatureBank.of([f"v{i}" for i in range(len(arrays))], arrays, RATE)

    nothing = plan_of(Detections.empty(bank.names, classes), data, config)
    segments = method.pseudo_segments(0, bank, nothing)
    compare_detections(segments, data, "step0/pseudo")
    plan = plan_of(segments, data, config)
    assert_allclose(np.concatenate(plan.weights), data["step0/dyn_weights_next"], rtol=1e-6)
    compare_items(plan, data, "step1_items/", config)
    after = method.pseudo_segments(1, bank, plan)
    compare_detections(after, data, "step1/pseudo", 5e-6)
    weights = np.concatenate(plan_of(after, data, config).weights)
    assert_allclose(weights, data["step1/dyn_weights_next"], rtol=1e-6)

    test = np.flatnonzero(data["is_test"])
    batch = whole_videos(bank, test, torch.zeros(len(test), len(classes)))
    for step, scores in enumerate(method.score_steps(batch)):
        found = method.localize(scores)
        compare_detections(found, data, f"step{step}/detections", 5e-6)
        votes = np.stack([s.video_scores for s in scores])
        compare_measures(found, votes, data, f"step{step}/", test)
        warp = plan.warp if step else None
        rows, length = at_most_rows(plan.rows if step else bank.lengths, config.snippets)
        losses = []
        for v in test:
            x = sampled(bank, np.array([v]), rows[[v], : length[v]].astype(float), length[[v]], warp)
            boxes = plan.boxes(np.array([v]), length[[v]]) if step else (None, None)
            out = method.networks[step](x, None, *boxes)
            labels = data["vid_label"][[v]]
            targets = plan.targets(np.array([v]), length[[v]], labels) if step else None
            losses.append(losses_of(method, out, labels, targets)["total"].item())
        assert_allclose(np.mean(losses), data[f"step{step}/test_loss"], rtol=1e-5)


CHECKS: dict[str, Callable[[Data, Path], None]] = {
    "forward": forward,
    "loss": loss,
    "train": train,
    "sampling": sampling,
    "pseudo": pseudo,
    "inference": inference,
    "pipeline": pipeline,
}
