"""SAL against the numbers of the published code."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from tests.parity.compare import close
from weaktal.core import Annotations, Detections, Instances, TimeAxis, Video
from weaktal.evaluate import evaluate
from weaktal.methods.protocol import Batch
from weaktal.methods.sal import (
    SAL,
    AdaptiveMask,
    Outputs,
    SALConfig,
    bilinear_descriptor,
    scoring_rows,
    training_rows,
)

Golden = dict[str, np.ndarray]
RATE = 25 / 16  # snippets per second


def _activitynet() -> dict[str, Any]:
    return yaml.safe_load((files("weaktal") / "recipes/sal/activitynet13.yaml").read_text())


def _method(data: Golden, **config: Any) -> SAL:
    weights = {k[2:]: v for k, v in data.items() if k.startswith("w/")}
    # the default is the published THUMOS14 variant; the sizes are those of the weights
    base = {k: v for k, v in config.items() if k not in ("hidden", "kernel")}
    names = {"cfg/hp_lambda": "rgb_share", "cfg/r": "class_divisor", "cfg/ema_p": "mask_momentum"}
    names |= {"cfg/q": "gce_q", "cfg/lr": "lr", "cfg/weight_decay": "weight_decay"}
    given = {field: data[k].item() for k, field in names.items() if k in data}
    if "class_divisor" in given:
        given["background_divisor"] = given["class_divisor"]
    return SAL.from_published(weights, **{**base, **given, "dropout": 0.0})


def _batch(x: NDArray[np.float32], label: NDArray[np.float32]) -> Batch:
    b, t, _ = x.shape
    return Batch(
        torch.from_numpy(x),
        torch.full((b,), t),
        torch.from_numpy(label),
        tuple(map(str, range(b))),
        (TimeAxis.uniform(t, RATE),) * b,
    )


def _check_forward(data: Golden, method: SAL) -> None:
    out = method(torch.from_numpy(data["in/x"]), extras=True)
    close(out.cas, data["out/cas"])
    close(out.background_cas, data["out/cas_bg"])
    for ours, added in zip(out.streams, ("", "_aug"), strict=True):
        close(ours[0][:, None], data[f"out/action_rgb{added}"])
        close(ours[1][:, None], data[f"out/action_flow{added}"])
    for ours, name in zip(out.semantic, ("sc", "sc_rgb", "sc_flow"), strict=True):
        close(ours, data[f"out/{name}"])
    plain = method(torch.from_numpy(data["in/x"]))
    assert len(plain.streams) == 1
    close(plain.cas, data["out/cas"])
    close(plain.semantic, data["out/sc"][None])


def check_forward(data: Golden, path: Path) -> None:
    method = _method(data)
    _check_forward(data, method)
    x = torch.from_numpy(data["in/x"]).transpose(1, 2)
    embedding = method.encoder(x).relu()
    close(bilinear_descriptor(embedding, x.shape[2] ** 2), data["out/bilinear"])


def check_anet_forward(data: Golden, path: Path) -> None:
    _check_forward(data, _method(data, **_activitynet()))


def check_losses(data: Golden, path: Path) -> None:
    method = _method(data)
    batch = _batch(data["in/x"], data["in/label"])
    out = method(batch.features, extras=True)
    t, c, k = out.cas.shape[1], method.config, data["out/topk_indices"].shape[1]

    fused = method.fused_activation(out)
    background = out.background_cas
    for values, name in ((fused, "topk_indices"), (background.softmax(-1), "topk_indices_bg")):
        rows = values.topk(k, dim=1).indices.sort(dim=1).values
        assert np.array_equal(rows, np.sort(data[f"out/{name}"], axis=1)), name
    assert t // c.positive_divisor + c.positive_extra == data["out/topk_indices_agno"].shape[1]
    assert t // c.confident_divisor == data["out/topk_indices_conf"].shape[1]
    positive = method.pseudo_labels(out)
    close(positive, data["out/cls_agnostic_gt"])
    close(torch.maximum(positive, positive.roll(1, 0)), data["out/cls_agnostic_gt_aug"])

    losses = method.training_step(batch)
    _check_terms(losses, {k: v for k, v in data.items() if k.startswith("out/")}, method.config)
    close(losses["consistency"], data["out/mse"])
    close(method.mask.mean, data["out/mu"])
    close(method.mask.variance, data["out/var"])
    close(method.mask.prior, data["out/prob_t"])
    losses["total"].backward()
    for name, parameter in method.named_parameters():
        if f"grad/{name}" in data:
            close(parameter.grad, data[f"grad/{name}"], 1e-4)


def _check_terms(losses: dict[str, Tensor], out: Golden, c: SALConfig) -> None:
    close(losses["mil"], out["out/mil_loss"])
    close(c.consistency_weight * losses["consistency"], out["out/mc_loss"])
    close(c.background_weight * losses["background"], out["out/bg_loss"])
    close(losses["actionness"], out["out/act_loss"])
    close(losses["semantic"], out["out/se_loss"])
    close(losses["mixing"], out["out/mix_loss"])
    close(losses["total"], out["out/cost"])


def _check_training(data: Golden, method: SAL, names: dict[str, str]) -> None:
    # gradients as such, before the optimizer of the method takes those of fc1 in factors
    method.training_step(_batch(data["in/x"][0], data["in/label"][0]))["total"].backward()
    for name, expected in data.items():
        if name.startswith("out/grad0/"):
            close(_parameter(method, name[len("out/grad0/") :]).grad, expected, 1e-4)
    method.mask = AdaptiveMask(len(method.classes), method.config.mask_momentum, method.config.mask_divisor)
    optimizer = method.optimizer(0)
    for step, (x, label) in enumerate(zip(data["in/x"], data["in/label"], strict=True)):
        losses = method.training_step(_batch(x, label))
        for ours, published in names.items():
            weight = 1.0
            if published in ("mc_loss", "bg_loss"):
                weight = getattr(method.config, f"{ours}_weight")
            close(weight * losses[ours], data[f"out/{published}"][step], 1e-4)
        close(method.mask.mean, data["out/mu"][step], 1e-4)
        close(method.mask.variance, data["out/var"][step], 1e-4)
        close(method.mask.prior, data["out/prob_t"][step], 1e-4)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
    for i, name in enumerate(data["out/param_names"].tolist()):
        value = _parameter(method, name).detach()
        # a step of Adam moves every weight by about lr, however small its gradient is
        np.testing.assert_allclose(
            value, data[f"out/final/{name}"], rtol=1e-4, atol=0.1 * method.config.lr, err_msg=name
        )
        close(value.double().abs().sum(), data["out/param_abs_sum"][i], 1e-5)


def _parameter(method: SAL, name: str) -> torch.nn.Parameter:
    return dict(method.named_parameters())[name.replace("base_module.", "encoder.")]


def check_train(data: Golden, path: Path) -> None:
    names = {"mil": "mil_loss", "consistency": "mc_loss", "background": "bg_loss", "actionness": "act_loss"}
    names |= {"semantic": "se_loss", "mixing": "mix_loss", "total": "cost"}
    _check_training(data, _method(data), names)


def check_anet_train(data: Golden, path: Path) -> None:
    method = _method(data, **_activitynet())
    out = method(torch.from_numpy(data["in/x"][0]), extras=True)
    close(method.pseudo_labels(out), data["out/cls_agnostic_gt"][0])
    mask = AdaptiveMask(len(method.classes), method.config.mask_momentum, method.config.mask_divisor)
    weight = mask(out.cas.softmax(-1))
    close(weight, data["out/mask"][0])
    close((weight + weight.roll(1, 0)) / 2, data["out/mask_aug"][0])
    names = {"mil": "base_loss", "actionness": "sta_loss", "consistency": "mu_loss"}
    names |= {"background": "fp_loss", "semantic": "sc_loss", "mixing": "aug_loss", "total": "cost"}
    _check_training(data, method, names)


def check_state(data: Golden, path: Path) -> None:
    c = SALConfig()
    mask = SAL(SALConfig(hidden=1), dim=2, classes=range(data["in/probs"].shape[2])).mask
    assert (mask.momentum, mask.divisor) == (c.mask_momentum, c.mask_divisor)
    for step, probabilities in enumerate(torch.from_numpy(data["in/probs"])):
        weight = mask(probabilities)
        close(probabilities.amax(-1), data["out/max_probs"][step])
        close(weight, data["out/mask"][step])
        close(mask.mean, data["out/mu"][step])
        close(mask.variance, data["out/var"][step])
        close(mask.prior, data["out/prob_t"][step])


def _check_detections(found: Detections, proposals: NDArray[np.float64], lengths: NDArray[np.int64]) -> None:
    """Detections of videos named "0", "1", ... and (class, start, end, score) rows in the same order."""
    assert np.array_equal(np.bincount(found.video, minlength=len(lengths)), lengths)
    assert np.array_equal(found.video, np.repeat(np.arange(len(lengths)), lengths))
    ours = np.column_stack([found.label, found.start, found.end, found.score])
    for v in range(len(lengths)):
        a, b = ours[found.video == v], proposals[found.video == v]
        # rows of equal score have no defined order: bring them into one
        a, b = (x[np.lexsort((x[:, 2], x[:, 1], -x[:, 3].round(9), x[:, 0]))] for x in (a, b))
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6)
        # classes in the published order, and falling scores down to the suppressed ones
        assert np.array_equal(ours[found.video == v][:, 0], proposals[found.video == v][:, 0])
    tied = len(np.unique(proposals[:, 3])) < len(proposals)
    if not tied:
        np.testing.assert_allclose(ours, proposals, rtol=1e-6, atol=1e-6)


def _outputs(cas: Tensor, flow: Tensor, rgb: Tensor, sc: Tensor, c: SALConfig) -> Outputs:
    fused = (1 - c.rgb_share) * flow + c.rgb_share * rgb
    return Outputs(cas, torch.stack([rgb, flow])[None], fused, sc[None])


def check_inference(data: Golden, path: Path) -> None:
    cas, flow, rgb, sc = (
        torch.from_numpy(data[f"in/{k}"]) for k in ("cas", "action_flow", "action_rgb", "sc")
    )
    v, t, classes = cas.shape
    for kind in ("soft", "hard"):
        c = SALConfig(hidden=1, soft_nms=kind == "soft")
        method = SAL(c, dim=2, classes=[str(i) for i in range(classes)]).eval()
        axes = [TimeAxis.uniform(int(n), RATE) for n in data["in/num_seg"]]
        out = _outputs(cas, flow[:, 0], rgb[:, 0], sc, c)
        scores = method.scores_of(out, torch.full((v,), t), [str(i) for i in range(v)], axes)
        probabilities = np.stack([s.video_scores for s in scores])
        close(probabilities, data["out/cls_score"])
        _check_detections(method.localize(scores), data[f"out/{kind}_proposals"], data[f"out/{kind}_lengths"])
    chosen = probabilities >= c.class_threshold
    chosen |= ~chosen.any(1, keepdims=True) & (probabilities == probabilities.max(1, keepdims=True))
    right = (chosen == data["in/label"].astype(bool)).all(1).mean()
    assert right == np.float64(data["out/cls_acc"]).round(6) or abs(right - data["out/cls_acc"]) < 1e-6


def check_anet_inference(data: Golden, path: Path) -> None:
    c = SALConfig(**{**_activitynet(), "hidden": 1})
    lengths = torch.from_numpy(data["in/T"])
    cas, flow, rgb = (
        torch.nn.utils.rnn.pad_sequence(
            list(torch.from_numpy(data[f"in/{k}"]).split(lengths.tolist())), batch_first=True, padding_value=p
        )
        for k, p in (("cas", 99.0), ("action_flow", 1.0), ("action_rgb", 1.0))
    )
    method = SAL(c, dim=2, classes=[str(i) for i in range(cas.shape[2])]).eval()
    names = [str(i) for i in range(len(lengths))]
    axes = [TimeAxis.uniform(int(n), RATE) for n in data["in/num_seg"]]
    out = _outputs(cas, flow, rgb, torch.from_numpy(data["in/sc"]), c)
    scores = method.scores_of(out, lengths, names, axes)
    found = method.localize(scores)
    for i, known in enumerate(data["out/has_result"]):
        # the published code has NaN, and no entry, where T // 4 is 0
        assert np.isfinite(scores[i].video_scores).all()
        if known:
            close(scores[i].video_scores, data["out/cls_score"][i])
    keep = data["out/has_result"][found.video]
    _check_detections(
        found[keep], data["out/proposals"], np.where(data["out/has_result"], data["out/lengths"], 0)
    )


def check_sampling(data: Golden, path: Path) -> None:
    for t in data["in/num_segments"].tolist():
        rows, count = scoring_rows(data["in/lengths"], t, "thumos14")
        assert np.all(count == t)
        assert np.array_equal(rows, data[f"out/uniform_{t}"])
        _check_random(data, t, "thumos14")


def _check_random(data: Golden, t: int, sampling: Any) -> None:
    for i, length in enumerate(data["in/lengths"]):
        legacy = np.random.RandomState(int(data["in/seed"]))
        rows = training_rows(np.array([length]), t, sampling, legacy)[0]
        assert np.array_equal(rows, data[f"out/random_{t}"][i]), (length, t)


def check_anet_sampling(data: Golden, path: Path) -> None:
    for t in data["in/sample_len"].tolist():
        rows, count = scoring_rows(data["in/lengths"], t, "activitynet")
        assert np.array_equal(count, data[f"out/uniform_len_{t}"])
        joined = np.concatenate([r[:n] for r, n in zip(rows, count, strict=True)])
        assert np.array_equal(joined, data[f"out/uniform_{t}"])
        _check_random(data, t, "activitynet")


def check_evaluation(data: Golden, path: Path) -> None:
    labels = np.concatenate([data["in/gt_label"], data["in/pr_label"]])
    classes = tuple(map(str, range(labels.max() + 1)))
    count = 1 + max(data["in/gt_video"].max(), data["in/pr_video"].max())
    gt, pr = ([data[f"in/{k}_{c}"] for c in ("video", "start", "end", "label")] for k in ("gt", "pr"))
    truth = [
        Video(str(v), instances=Instances(*(column[gt[0] == v] for column in gt[1:]))) for v in range(count)
    ]
    found = Detections(tuple(map(str, range(count))), classes, *pr, data["in/pr_score"])
    result = evaluate(found, Annotations.of(classes, truth), "activitynet", tiou=data["in/tiou"].tolist())
    # the golden columns are the classes that occur, in order
    assert result.ap.shape == data["out/ap"].shape
    close(result.ap, data["out/ap"], 1e-9)
    close(result.mean_ap, data["out/mAP"], 1e-9)
    close(result.average, data["out/average"], 1e-9)


CHECKS = {
    "evaluation": check_evaluation,
    "forward": check_forward,
    "losses": check_losses,
    "train": check_train,
    "state": check_state,
    "inference": check_inference,
    "sampling": check_sampling,
    "anet_forward": check_anet_forward,
    "anet_train": check_anet_train,
    "anet_inference": check_anet_inference,
    "anet_sampling": check_anet_sampling,
}
