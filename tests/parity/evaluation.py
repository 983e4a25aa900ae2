"""Golden files of the evaluation protocols, classification, AR@AN and suppression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from weaktal.core import Annotations, Detections, Instances, Video
from weaktal.evaluate import PROTOCOLS, Protocol, classification_ap, classification_map, diving_rule, evaluate
from weaktal.evaluate.detection import touches_ignored
from weaktal.evaluate.matching import Segments, average_precision, by_score, match
from weaktal.evaluate.proposals import recall_curve
from weaktal.evaluate.protocols import ARANGE_TIOU, SNIPPET_RATE
from weaktal.localize.curves import find_runs
from weaktal.localize.nms import nms, soft_nms, soft_nms_once

# the goldens' detections are in snippets; on the way through seconds whole ones lose their last bit
SNAP = 1e-6
Golden = dict[str, np.ndarray]
DATA = Path(__file__).parents[3] / "shared/data/thumos14"


def rows(table: np.ndarray, case: int) -> np.ndarray:
    """Rows of one case, without the case column."""
    return table[table[:, 0] == case][:, 1:]


def segments(table: np.ndarray, label: np.ndarray | None = None) -> Segments:
    label = table[:, 3] if label is None else label
    return Segments(table[:, 0].astype(np.int64), table[:, 1], table[:, 2], label.astype(np.int64))


def precision(
    truth: Segments, found: Segments, score: np.ndarray, n_classes: int, tiou: np.ndarray, protocol: Protocol
) -> np.ndarray:
    """AP of arrays that are in the protocol's unit already; "numpy" ties are stable ones in the goldens."""
    matches = match(
        truth,
        found,
        score,
        n_classes,
        tiou,
        preference=protocol.preference,
        ties="first" if protocol.ties == "first" else "last",
        nan_matches=protocol.nan_matches,
    )
    return average_precision(matches, interpolated=protocol.interpolated)


def close(actual: np.ndarray | float, expected: np.ndarray | float) -> None:
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-9)


def p1_random(z: Golden, path: Path) -> None:
    protocol = PROTOCOLS["activitynet"].published()
    for case, order in enumerate(z["class_order"]):
        order = order[order >= 0]
        place = np.full(int(max(z["pred"][:, 4].max(), z["gt"][:, 4].max())) + 1, -1)
        place[order] = np.arange(len(order))
        gt, pred = rows(z["gt"], case), rows(z["pred"], case)
        assert list(dict.fromkeys(gt[:, 3].astype(int))) == order.tolist()
        label = place[pred[:, 3].astype(int)]
        pred, label = pred[label >= 0], label[label >= 0]  # a label outside the ground truth is skipped
        ap = precision(
            segments(gt, place[gt[:, 3].astype(int)]),
            segments(pred, label),
            pred[:, 4],
            len(order),
            z["tiou_thresholds"],
            protocol,
        )
        close(ap, z["ap_stable"][case][:, : len(order)])
        close(ap.mean(axis=1), z["mAP_stable"][case])
        if not z["tie_sensitive"][case]:
            close(ap.mean(axis=1), z["mAP"][case])
            close(ap.mean(axis=1)[:7].mean(), z["average_first7"][case])


def p2_random(z: Golden, path: Path) -> None:
    for case, n_classes in enumerate(z["n_classes"]):
        gt, pred = rows(z["gt"], case), rows(z["pred"], case)
        for name, key in (("wtalc", "ap_stable"), ("wtalc-raw", "ap_unrounded")):
            if name == "wtalc-raw" and z["tie_sensitive"][case]:
                continue  # measured with an unstable sort only
            protocol = PROTOCOLS[name].published()
            truth = gt.copy()
            truth[:, 1:3] = protocol.truth_times(gt[:, 1:3])
            if name == "wtalc":
                np.testing.assert_array_equal(truth, rows(z["gt_rounded"], case))
            ap = precision(
                segments(truth), segments(pred), pred[:, 4], n_classes, z["tiou_thresholds"], protocol
            )
            present = np.bincount(gt[:, 3].astype(int), minlength=n_classes) > 0
            close(ap[:, present], z[key][case][:, :n_classes][:, present])
            if name == "wtalc":
                close(np.nanmean(ap, axis=1), z["mAP_stable"][case])


def in_seconds(names: list[str], table: np.ndarray, score: np.ndarray | None = None) -> Detections:
    """Detections of one class from (video, start, end) in snippets."""
    n = len(table)
    score = np.zeros(n) if score is None else score
    start, end = table[:, 1] / SNIPPET_RATE, table[:, 2] / SNIPPET_RATE
    return Detections(tuple(names), ("a",), table[:, 0], start, end, np.zeros(n), score)


def with_ambiguous(names: list[str], ambiguous: np.ndarray) -> Annotations:
    videos = [Video(name, ignored=ambiguous[ambiguous[:, 0] == i][:, 1:3]) for i, name in enumerate(names)]
    return Annotations.of(["a"], videos)


def p2_ambiguous(z: Golden, path: Path) -> None:
    for case in range(int(z["n_cases"])):
        of_case = z["pred"][:, 0] == case
        pred, ambiguous = rows(z["pred"], case), rows(z["ambiguous"], case)
        names = [f"v{i}" for i in range(int(max([-1, *pred[:, 0], *ambiguous[:, 0]])) + 1)]
        touching = touches_ignored(in_seconds(names, pred), with_ambiguous(names, ambiguous), SNAP)
        np.testing.assert_array_equal(~touching, z["keep"][of_case])


def p3_issf(z: Golden, path: Path) -> None:
    protocol = PROTOCOLS["integer-grid"].published()
    for case, n_classes in enumerate(z["n_classes"]):
        gt, pred = rows(z["gt"], case), rows(z["pred"], case)
        gt[:, 1:3] = protocol.truth_times(gt[:, 1:3])
        ap = precision(segments(gt), segments(pred), pred[:, 4], n_classes, z["tiou_thresholds"], protocol)
        missing = len(np.unique(pred[:, 3])) < n_classes
        if missing:
            close(0.0, z["mAP_percent_stable"][case])
            assert small_evaluate(gt, pred, n_classes, protocol).mean_ap.tolist() == [0.0] * 7
            clean = replace(protocol, missing_class_zeroes=False)
            close(small_evaluate(gt, pred, n_classes, clean).mean_ap[: len(ap)], ap.mean(axis=1))
        else:
            close(ap, z["ap_stable"][case][:, :n_classes])
            close(100 * ap.mean(axis=1), z["mAP_percent_stable"][case])


def small_evaluate(gt: np.ndarray, pred: np.ndarray, n_classes: int, protocol: Protocol):  # type: ignore[no-untyped-def]
    """The whole evaluation of tables in snippets."""
    n_videos = int(max(gt[:, 0].max(), pred[:, 0].max() if len(pred) else 0)) + 1
    names = [f"v{i}" for i in range(n_videos)]
    classes = [f"c{i}" for i in range(n_classes)]
    videos = [
        Video(
            name, instances=Instances(*(gt[gt[:, 0] == i][:, 1:3] / SNIPPET_RATE).T, gt[gt[:, 0] == i][:, 3])
        )
        for i, name in enumerate(names)
    ]
    found = Detections(
        tuple(names),
        tuple(classes),
        pred[:, 0],
        pred[:, 1] / SNIPPET_RATE,
        pred[:, 2] / SNIPPET_RATE,
        pred[:, 3],
        pred[:, 4],
    )
    return evaluate(found, Annotations.of(classes, videos), replace(protocol, snap=SNAP))


def p3_wtalc(z: Golden, path: Path) -> None:
    """W-TALC's own detections from activations, then its matching."""
    protocol = PROTOCOLS["integer-grid-wtalc"]
    curves = np.split(z["cas"], np.cumsum(z["cas_T"] * np.repeat(z["n_classes"], z["n_videos"]))[:-1])
    curves = [c.reshape(t, -1) for c, t in zip(curves, z["cas_T"], strict=True)]
    for case, (n_videos, n_classes) in enumerate(zip(z["n_videos"], z["n_classes"], strict=True)):
        mine, curves = curves[:n_videos], curves[n_videos:]
        parts = []
        gt = rows(z["gt"], case)
        for v, x in enumerate(mine):
            if v not in gt[:, 0]:
                continue  # only videos with instances are evaluated
            top = -np.sort(-x, axis=0)[: len(x) // 8]
            class_score = top.mean(axis=0)
            x = x * (class_score > 0)
            level = x.max(axis=0) - (x.max(axis=0) - x.min(axis=0)) * 0.5
            for c in range(n_classes):
                runs = find_runs(x[:, c], [level[c]], strict=True, min_length=2)
                for s, e in zip(runs.start, runs.end, strict=True):
                    parts.append([v, s, e, c, x[s:e, c].max() + 0.7 * class_score[c]])
        found = np.array(parts, np.float64).reshape(-1, 5)
        expected = rows(z["detections_before_ambiguous"], case)
        order = np.lexsort((found[:, 1], found[:, 0], found[:, 3]))
        expected_order = np.lexsort((expected[:, 1], expected[:, 0], expected[:, 3]))
        np.testing.assert_array_equal(found[order][:, :4], expected[expected_order][:, :4])
        np.testing.assert_allclose(found[order][:, 4], expected[expected_order][:, 4], rtol=0, atol=1e-6)

        names = [f"v{i}" for i in range(n_videos)]
        ambiguous = with_ambiguous(names, rows(z["ambiguous"], case))
        kept = expected[~touches_ignored(in_seconds(names, expected), ambiguous, SNAP)]
        gt[:, 1:3] = protocol.truth_times(gt[:, 1:3])
        ap = precision(segments(gt), segments(kept), kept[:, 4], n_classes, z["tiou_thresholds"], protocol)
        if np.isnan(z["ap"][case][:, :n_classes]).any():
            assert len(np.unique(kept[:, 3])) < n_classes  # a class without detections: mean 0 as published
            close(0.0, z["mAP_percent"][case])
        else:
            close(ap, z["ap"][case][:, :n_classes])
            close(100 * ap.mean(axis=1), z["mAP_percent"][case])


def classification(z: Golden, path: Path) -> None:
    for i in range(int(z["n_cases"])):
        score, label = z[f"case{i}/score"], z[f"case{i}/label"]
        close(classification_ap(score, label, precision_type=np.float32), z[f"case{i}/ap_stable"])
        mean = classification_map(score, label, precision_type=np.float32, nan_classes=True)
        if np.array_equal(z[f"case{i}/ap"], z[f"case{i}/ap_stable"], equal_nan=True):
            close(100 * mean, z[f"case{i}/cmap_percent"])
    score, label = z["thumos/score"], z["thumos/label"][:, :-1]
    close(classification_map(score[:, :-1], label, ties="joint"), z["thumos/cls_map_plain"])
    with_rule = diving_rule(score, diving=7, cliff_diving=4)[:, :-1]
    close(classification_map(with_rule, label, ties="joint"), z["thumos/cls_map_diving_rule"])


def ar_an(z: Golden, path: Path) -> None:
    for case, wanted in enumerate(z["max_avg_nr_proposals"]):
        gt, prop = rows(z["gt"], case), rows(z["prop"], case)
        videos, truth_video = np.unique(gt[:, 0], return_inverse=True)
        known = np.isin(prop[:, 0], videos)
        n_proposals, prop = len(prop), prop[known]
        video = np.searchsorted(videos, prop[:, 0])
        prop = prop[order := by_score(video, prop[:, 3], "last")]
        result = recall_curve(
            truth_video.reshape(-1),
            gt[:, 1],
            gt[:, 2],
            video[order],
            prop[:, 1],
            prop[:, 2],
            thresholds=z["tiou_thresholds"],
            max_average=float(wanted) or None,
            n_proposals=n_proposals,
        )
        close(result.recall, z["recall"][case])
        close(result.average_recall, z["avg_recall"][case])
        close(result.proposals_per_video, z["proposals_per_video"][case])
        close(result.auc, z["auc"][case])


def suppression(z: Golden, path: Path) -> None:
    sigma, alpha = float(z["sigma"]), float(z["bas_alpha"])
    names = [k for k in z["out_keys"].tolist() if k in z]
    for case in range(int(z["n_cases"])):
        s, e, score = rows(z["prop"], case).T
        for t, threshold in enumerate(z["thresholds"].tolist()):
            for name in names:
                scores = None
                if name.startswith("soft_iter_"):
                    kind = name.removeprefix("soft_iter_")
                    kept, scores = soft_nms(s, e, score, kind=kind, sigma=sigma, threshold=threshold)
                elif name == "soft_onepass":
                    kept, scores = soft_nms_once(s, e, score, threshold, alpha)
                else:
                    overlap = {"hard_plus1": "iou", "hard_noplus1": "actionformer", "issf": "own"}[name]
                    kept = nms(s, e, score, threshold, overlap=overlap)
                table = rows(z[name], case)
                table = table[table[:, 0] == t]
                np.testing.assert_array_equal(kept, table[:, 1], err_msg=f"{name}, case {case}")
                tolerance = 1e-6 if name == "hard_noplus1" else 1e-9
                scores = score[kept] if scores is None else scores
                np.testing.assert_allclose(scores, table[:, 2], rtol=0, atol=tolerance)


def aligned(result, classes: list[str]) -> np.ndarray:  # type: ignore[no-untyped-def]
    return result.ap[:, [result.classes.index(c) for c in classes]]


def need_data() -> None:
    if not DATA.is_dir():
        pytest.skip("the real annotations are not here")


def real_thumos14(z: Golden, path: Path) -> None:
    need_data()
    from weaktal.evaluate import average_recall
    from weaktal.formats import load_annotations, load_detections

    split = str(z["split"])
    wtalc = load_annotations(DATA / "wtalc", ignore=DATA / "wtalc/Ambiguous_test.txt")
    classes = list(wtalc.classes)
    wtalc = wtalc.subset({"train": "validation", "test": "test"}[split])
    seconds = load_annotations(DATA / "gt.json").subset(split)
    found = load_detections(DATA / f"proposals/detection_result_base_{split}.json")
    tiou = tuple(np.linspace(0.1, 0.7, 7).tolist())
    held = {key.split("/")[0] for key in z}  # a file of another split has not been measured in every way

    if "p1" in held:
        p1 = evaluate(found, seconds, replace(PROTOCOLS["activitynet"], ties="last"), tiou=tiou)
        close(aligned(p1, classes), z["p1/ap_stable"])
        assert (p1.instances, p1.detections) == (z["p1/n_gt"], z["p1/n_pred"])
        published = evaluate(found, seconds, "activitynet", tiou=tiou)
        # equal overlaps depend on the processor in the published tool: exact where it has AVX2 or AVX-512
        np.testing.assert_allclose(published.mean_ap, z["p1/mAP"], rtol=0, atol=2e-4)
    if "p1_arange" in held:
        arange = evaluate(found, seconds, PROTOCOLS["activitynet"].published())
        assert arange.tiou == ARANGE_TIOU
        np.testing.assert_allclose(arange.mean_ap, z["p1_arange/mAP"], rtol=0, atol=2e-4)

    if "p2_stable" in held:
        p2 = evaluate(found, wtalc, "wtalc", tiou=tiou, ignore=False)
        close(aligned(p2, classes), z["p2_stable/ap"])
        close(p2.mean_ap, z["p2_stable/mAP"])
        assert (p2.instances, p2.detections) == (z["p2_stable/n_gt"], z["p2_stable/n_pred"])
    if "p2_ambiguous" in held:
        filtered = evaluate(found, wtalc, "wtalc", tiou=tiou)
        assert (filtered.instances, filtered.detections) == (z["p2_ambiguous/n_gt"], z["p2_ambiguous/n_pred"])
        np.testing.assert_allclose(filtered.mean_ap, z["p2_ambiguous/mAP"], rtol=0, atol=5e-4)
    if "p2_unrounded_ambiguous" in held:  # TSPNet's
        raw = evaluate(found, wtalc, "wtalc-raw", tiou=tiou)
        assert raw.instances == z["p2_unrounded_ambiguous/n_gt"]
        np.testing.assert_allclose(raw.mean_ap, z["p2_unrounded_ambiguous/mAP"], rtol=0, atol=2e-4)

    for key in (k for k in z if k.startswith("p3_ambiguous/ap_at_")):
        some = tuple(map(float, key.removeprefix("p3_ambiguous/ap_at_").split("_")))
        grid = evaluate(found, wtalc, "integer-grid", tiou=some)
        assert grid.detections == z["p3_ambiguous/n_pred"]
        close(aligned(grid, classes), z[key])

    if "ar100" in held:
        known = found[np.isin(found.video, [i for i, n in enumerate(found.names) if n in seconds.videos])]
        recall = average_recall(known, seconds, max_average=100)
        close(recall.recall, z["ar100/recall"])
        close(recall.average_recall, z["ar100/avg_recall"])
        close(recall.proposals_per_video, z["ar100/proposals_per_video"])
        close(recall.auc, z["ar100/auc"])


def real_annotations(z: Golden, path: Path) -> None:
    need_data()
    from weaktal.formats import load_annotations

    videos = load_annotations(DATA / "wtalc", ignore=DATA / "wtalc/Ambiguous_test.txt").subset("test")
    names, pred = z["videos"].tolist(), z["pred"]
    np.testing.assert_array_equal(~touches_ignored(in_seconds(names, pred), videos, SNAP), z["keep"])
    place = {name: i for i, name in enumerate(names)}
    table = videos.instance_table()
    video = np.array([place[n] for n in table.names])[table.video]
    for name, ignore, key in (
        ("wtalc", False, "unfiltered/{}_stable"),
        ("wtalc", True, "filtered/{}_stable"),
        ("wtalc-raw", True, "filtered_unrounded/{}"),
    ):
        if key.format("mAP") not in z:
            continue
        protocol = PROTOCOLS[name].published()
        truth = Segments(
            video, protocol.truth_times(table.start), protocol.truth_times(table.end), table.label
        )
        truth = truth[~np.isin(video, [place[n] for n in protocol.without_truth])]
        found = pred[z["keep"]] if ignore else pred
        ap = precision(
            truth, segments(found), found[:, 4], len(videos.classes), z["tiou_thresholds"], protocol
        )
        # without rounding there are golden numbers of the published, unstable sort only
        tolerance = 1e-9 if key.endswith("stable") else 2e-4
        np.testing.assert_allclose(ap.mean(axis=1), z[key.format("mAP")], rtol=0, atol=tolerance)
        if key.endswith("stable"):
            close(ap, z[key.format("ap")])


CHECKS = {
    "p1": p1_random,
    "p2": p2_random,
    "amb": p2_ambiguous,
    "p3": p3_issf,
    "wtalc": p3_wtalc,
    "cls": classification,
    "ar": ar_an,
    "nms": suppression,
    "real": real_thumos14,
    "jit": real_annotations,
}
