"""What runs have found beside what people said, and what should be labelled next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from weaktal.app.document import Change, Document, Edit
from weaktal.app.findings import Shelf, activation, agreement, read_run, review
from weaktal.app.jobs import allowed, choices, read_settings, trainable
from weaktal.app.suggest import Label, Moment, suggest
from weaktal.core import Detections, InputError, SnippetScores, TimeAxis
from weaktal.formats import save_detections
from weaktal.formats.scores import save_scores


def document(*extra: tuple[str, dict]) -> Document:
    made = Document()
    changes = [
        ("class/a", {"name": "Jump", "colour": "#aabbcc"}),
        ("class/b", {"name": "Fall", "colour": "#aabbcc"}),
    ]
    changes += [(f"video/v{i}", {"duration": 60.0}) for i in range(3)]
    parts = tuple(Change(k, f) for k, f in [*changes, *extra])
    made.apply(Edit("t", 0, "x", parts), 0.0)
    return made


def run_folder(folder: Path, rows: list[tuple[str, float, float, str, float]]) -> Path:
    names, classes = ("v0", "v1", "v2"), ("Fall", "Jump", "Foreign")
    video, start, end, label, score = zip(*rows, strict=True)
    found = Detections(
        names, classes, np.array([names.index(v) for v in video]), np.array(start), np.array(end),
        np.array([classes.index(c) for c in label]), np.array(score),
    )  # fmt: skip
    save_detections(found, folder / "detections.json")
    return folder


def test_detections_beside_what_people_said(tmp_path: Path) -> None:
    made = document(
        ("segment/s", {"video": "v0", "class": "a", "start": 1.0, "end": 3.0}),
        ("negative/n", {"video": "v0", "class": "b", "start": 10.0, "end": 12.0}),
        ("click/k", {"video": "v1", "class": "a", "time": 5.0}),
        ("tag/b/v2", {"value": "absent"}),
        # its borders were moved: it is still the detection that it came from
        (
            "segment/m",
            {
                "video": "v2",
                "class": "a",
                "start": 30,
                "end": 31,
                "origin": {"run": "x", "start": 20, "end": 24},
            },
        ),
    )
    one = run_folder(
        tmp_path / "one",
        [
            ("v0", 1.1, 3.0, "Jump", 0.9),
            ("v0", 1.2, 3.1, "Jump", 0.8),  # the same as the first
            ("v0", 10.0, 12.0, "Fall", 0.7),
            ("v1", 4.0, 6.0, "Jump", 0.6),
            ("v1", 4.0, 6.0, "Foreign", 0.95),
            ("v2", 1.0, 2.0, "Fall", 0.5),
            ("v2", 20.0, 24.0, "Jump", 0.3),
            ("v2", 40.0, 44.0, "Jump", 0.2),
        ],
    )
    two = run_folder(tmp_path / "two", [("v1", 4.1, 6.0, "Jump", 0.5), ("v0", 50.0, 52.0, "Jump", 0.9)])
    shelf = Shelf()
    runs = {"one": shelf.get(one, made), "two": shelf.get(two, made)}
    found = review(made, runs)
    rows = {(r["video"], r["class"], r["start"]): r for r in found["rows"]}
    assert {k: r["status"] for k, r in rows.items()} == {
        ("v0", "a", 1.1): "accepted",
        ("v0", "b", 10.0): "rejected",
        ("v1", "a", 4.0): "click",
        ("v2", "b", 1.0): "open",
        ("v2", "a", 20.0): "accepted",
        ("v2", "a", 40.0): "open",
        ("v0", "a", 50.0): "open",
    }
    assert found["foreign"] == ["Foreign"]
    assert rows["v1", "a", 4.0]["agree"] == ["one", "two"]
    assert rows["v2", "b", 1.0]["doubt"] == 1.0  # a person said that it does not occur
    assert found["clicks"] == [pytest.approx(rows["v1", "a", 4.0]["score"])]
    scores = [r["score"] for r in found["rows"]]
    assert scores == sorted(scores, reverse=True)
    # a class that is renamed keeps its findings if the run was made here
    (one / "job.json").write_text(json.dumps({"classes": {"Jump": "a", "Fall": "b"}}))
    made.apply(Edit("t", 1, "x", (Change("class/a", {"name": "Leap"}),)), 0.0)
    assert len(shelf.get(one, made).detections) == len(runs["one"].detections)
    clicks = [{"video": "v1", "class": "a", "time": 5.0}, {"video": "v1", "class": "b", "time": 5.0}]
    assert agreement(runs["one"], clicks) == (1, 2)


def test_curves_for_the_page(tmp_path: Path) -> None:
    axis = TimeAxis.uniform(10_000, rate=4)
    cas = np.zeros((10_000, 3), np.float32)
    cas[:, 1] = np.linspace(0, 1, 10_000)
    run_folder(tmp_path, [("v0", 1.0, 2.0, "Jump", 0.5)])
    scores = SnippetScores("v0", cas, cas[:, 1], np.ones(3, np.float32), axis)
    save_scores([scores], tmp_path / "scores/test.safetensors", ("Fall", "Jump", "Foreign"))
    found = read_run(tmp_path, {"Jump": "a", "Fall": "b"})
    curve = activation(found, "v0")
    assert curve is not None
    assert set(curve["curves"]) == {"a"}  # Fall never rises
    assert len(curve["times"]) == len(curve["foreground"]) == len(curve["curves"]["a"]) <= 3000
    assert activation(found, "v1") is None
    with pytest.raises(InputError, match="nothing yet"):
        read_run(tmp_path / "none", {})


def test_what_labels_allow() -> None:
    made = document(("tag/a/v0", {"value": "occurs"}), ("tag/a/v1", {"value": "absent"}))
    assert trainable(made, "video") == ["v0"]
    assert allowed(made)["video"]["reason"]
    parts = (
        Change("click/k", {"video": "v1", "class": "a", "time": 5.0}),
        Change("segment/s", {"video": "v2", "class": "b", "start": 1, "end": 2}),
    )
    made.apply(Edit("t", 1, "x", parts), 0.0)
    assert trainable(made, "video") == ["v0", "v1", "v2"]
    assert trainable(made, "point") == ["v1", "v2"]  # a segment gives a click; a tag does not
    made.apply(Edit("t", 2, "x", (Change("video/v2", {"subset": "test"}),)), 0.0)
    assert trainable(made, "point") == ["v1"]  # held out
    assert allowed(made)["point"] == {"videos": 1, "reason": allowed(made)["point"]["reason"]}
    made.apply(Edit("t", 3, "x", (Change("video/v3", {"nothing": True}),)), 0.0)
    assert trainable(made, "point") == ["v1", "v3"]  # nothing occurs: background alone
    assert allowed(made)["point"]["reason"]  # and from that alone no class is learnt


def test_the_methods_are_what_their_source_says() -> None:
    from weaktal.methods import find_method

    found = choices()
    assert {c.name for c in found} >= {"lac", "tspnet", "asm_loc"}
    for choice in found:
        assert find_method(choice.name).supervision == choice.supervision
        assert choice.title


def test_settings() -> None:
    assert read_settings(["steps=40", "lr=1e-3", "base.steps=3", "x=[1, 2]", "y=word"]) == {
        "steps": 40, "lr": 0.001, "base.steps": 3, "x": [1, 2], "y": "word",
    }  # fmt: skip
    with pytest.raises(InputError):
        read_settings(["steps"])


# --------------------------------------------------------------------------- what comes next


def scores(video: str, curves: np.ndarray) -> SnippetScores:
    """Activation at one snippet per second."""
    axis = TimeAxis.uniform(len(curves), rate=1)
    cas = curves.astype(np.float32)
    return SnippetScores(video, cas, cas.max(1), cas.max(0), axis)


def bumps(*peaks: tuple[int, int, float], length: int = 60) -> np.ndarray:
    out = np.zeros((length, 2))
    for t, c, level in peaks:
        out[t, c] = level
    return out


def by_runs(found: list[Moment]) -> list[Moment]:
    """The moments that runs name, without whole videos."""
    return [m for m in found if m.time is not None]


def test_moments_that_are_unsure_come_before_sure_ones() -> None:
    run = {"v": scores("v", bumps((10, 0, 1.0), (30, 0, 0.5), (50, 0, 0.2)))}
    found = by_runs(suggest([run], {"w": [Label(1, 1, 0), Label(2, 2, 1)]}, ["v"], 2))
    assert found[0].time == pytest.approx(30.5)
    assert found[0].reason == "uncertain"
    assert found[-1].time == pytest.approx(10.5)


def test_labelled_moments_and_ruled_out_classes_are_left_alone() -> None:
    run = {"v": scores("v", bumps((10, 0, 0.6), (30, 0, 0.6), (45, 1, 0.6)))}
    labels = {"v": [Label(10.2, 10.2, 0)]}
    found = suggest([run], labels, ["v"], 2, excluded=frozenset({("v", 1)}))
    assert [m.time for m in found] == [pytest.approx(30.5)]
    assert suggest([run], labels, [], 2) == []


def test_runs_that_disagree_and_rare_classes() -> None:
    one = {"v": scores("v", bumps((10, 0, 0.9), (30, 0, 0.9)))}
    two = {"v": scores("v", bumps((10, 0, 0.9), (30, 0, 0.0)))}
    labels = {"w": [Label(1, 1, 0), Label(2, 2, 1)]}
    found = by_runs(suggest([one, two], labels, ["v"], 2))
    assert found[0].time == pytest.approx(30.5)
    assert found[0].reasons["disagreeing"] > found[-1].reasons["disagreeing"]
    common = {"w": [Label(float(i), float(i), 0) for i in range(20)] + [Label(50, 50, 1)]}
    run = {"v": scores("v", bumps((10, 0, 0.8), (30, 1, 0.8)))}
    assert by_runs(suggest([run], common, ["v"], 2))[0].label == 1


def test_a_list_is_not_all_of_the_rarest_class() -> None:
    common = {"w": [Label(float(i), float(i), 0) for i in range(4)] + [Label(50, 50, 1), Label(55, 55, 1)]}
    places = (5, 15, 25, 35, 45, 55)
    run = {f"v{c}{t}": scores(f"v{c}{t}", bumps((t, c, 0.8))) for t in places for c in (0, 1)}
    found = [m.label for m in by_runs(suggest([run], common, list(run), 2))]
    assert found[:2] == [1, 1]  # as many as of the other, then of both in turn
    assert set(found[2:5]) == {0, 1}
    assert len(found) == 12


def test_new_moments_by_their_features() -> None:
    run = {v: scores(v, bumps((10, 0, 0.8))) for v in ("like", "unlike")}
    near, far = np.zeros((60, 4), np.float32), np.zeros((60, 4), np.float32)
    near[:, 0], far[:, 1] = 1, 1
    near[10, 2] = 0.1
    rows = {"like": near, "unlike": far, "seen": near}

    def features(video: str) -> tuple[np.ndarray, TimeAxis]:
        return rows[video], TimeAxis.uniform(60, rate=1)

    labels = {"seen": [Label(5, 5, 0), Label(6, 6, 1)]}
    found = suggest([run], labels, ["like", "unlike"], 2, features=features)
    assert by_runs(found)[0].video == "unlike"


def test_before_the_first_run_videos_come_by_lot_and_always_the_same() -> None:
    names = [f"v{i:02}" for i in range(12)]
    found = suggest([], {"v00": [Label(1, 1, 0)]}, names, 2)
    assert sorted(m.video for m in found) == names[1:]
    assert [m.video for m in found] != names[1:]
    again = suggest([], {"v00": [Label(1, 1, 0)]}, names[::-1], 2)
    assert [m.video for m in again] == [m.video for m in found]
    assert {(m.reason, m.time, m.value) for m in found} == {("drawn", None, 1.0)}
    assert suggest([], {}, names, 2, most=3) == suggest([], {}, names, 2)[:3]


def test_videos_in_which_runs_find_nothing_are_named_too() -> None:
    names = [f"v{i}" for i in range(8)]
    run = {n: scores(n, bumps((10, 0, 0.5 if n < "v4" else 0.0))) for n in names}
    found = suggest([run], {"v0": [Label(50, 50, 0)]}, names, 2)
    assert {m.video for m in found} == set(names)
    assert any(m.video > "v3" for m in found[:3])


@pytest.mark.parametrize(("each", "told"), [(1, 2), (8, 10), (72, 18)])
def test_runs_name_more_the_better_their_classes_are_known(each: int, told: int) -> None:
    names = [f"v{i:02}" for i in range(40)]
    run = {n: scores(n, bumps((10, 0, 0.5))) for n in names}
    labels = {"w": [Label(float(t), float(t), c) for t in range(each) for c in (0, 1)]}
    first: dict[str, Moment] = {}
    for m in suggest([run], labels, names, 2, most=100):
        first.setdefault(m.video, m)
    assert len(first) == len(names)
    assert sum(m.time is not None for m in list(first.values())[:20]) == told
