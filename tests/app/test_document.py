"""Edits: whatever people do at once, nothing is overwritten unseen, and everything can be taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weaktal.app import annotations_file
from weaktal.app.annotations_file import Writer, difference, read
from weaktal.app.document import Change, Document, Edit, Entry, complete, delete_class, merge_classes
from weaktal.core import InputError
from weaktal.formats import activitynet

TIMES = st.integers(0, 40).map(lambda n: n / 4)
CLASSES = ("c1", "c2", "c3")


def begun() -> Document:
    """A document with two videos and three classes."""
    document = Document()
    changes = [
        Change(f"class/{c}", {"name": c.upper(), "colour": "#aabbcc", "order": i})
        for i, c in enumerate(CLASSES)
    ]
    changes += [Change(f"video/{v}", {"duration": 20.0, "path": f"{v}.mp4"}) for v in ("v1", "v 2/ä")]
    document.apply(Edit("setup", 0, "begin", tuple(changes)), 0.0)
    return document


@st.composite
def changes(draw: st.DrawFn) -> Change:
    id_, video, label = (
        draw(st.integers(0, 4)),
        draw(st.sampled_from(["v1", "v 2/ä"])),
        draw(st.sampled_from(CLASSES)),
    )
    start = draw(TIMES)
    kinds = {
        "click": lambda: Change(f"click/k{id_}", {"video": video, "class": label, "time": start}),
        "move": lambda: Change(f"click/k{id_}", {"video": video, "class": label, "time": start, "note": "n"}),
        "segment": lambda: Change(
            f"segment/s{id_}", {"video": video, "class": label, "start": start, "end": start + draw(TIMES)}
        ),
        "delete": lambda: Change(draw(st.sampled_from([f"click/k{id_}", f"segment/s{id_}"])), None),
        "tag": lambda: Change(f"tag/{label}/{video}", {"value": draw(st.sampled_from(["occurs", "absent"]))}),
        "untag": lambda: Change(f"tag/{label}/{video}", None),
        "note": lambda: Change(
            f"video/{video}", {"note": draw(st.text(max_size=3)), "done": draw(st.booleans())}
        ),
        "negative": lambda: Change(
            f"negative/x{id_}",
            {"video": video, "class": label, "start": start, "end": start, "origin": {"run": "r"}},
        ),
        "rename": lambda: Change(
            f"class/{label}", {"name": draw(st.sampled_from(["A", "B", label.upper()]))}
        ),
    }
    return kinds[draw(st.sampled_from(sorted(kinds)))]()


SESSIONS = st.lists(
    st.tuples(st.sampled_from("AB"), st.integers(0, 3), st.lists(changes(), min_size=1, max_size=4)),
    max_size=12,
)


def play(document: Document, session: list[tuple[str, int, list[Change]]]) -> list[Entry]:
    entries = []
    for author, behind, parts in session:
        base = max(0, document.version - behind)
        entry, _ = document.apply(Edit(author, base, "x", tuple(parts)), 0.0)
        entries += [entry] if entry else []
    return entries


@given(SESSIONS)
def test_the_history_alone_makes_the_same_document(session: list[tuple[str, int, list[Change]]]) -> None:
    document, again = begun(), begun()
    for entry in play(document, session):
        again.replay(Entry.from_json(json.loads(json.dumps(entry.to_json()))))
    assert again.state == document.state
    assert again.version == document.version


@given(SESSIONS)
def test_one_person_can_take_everything_back_and_do_it_again(
    session: list[tuple[str, int, list[Change]]],
) -> None:
    document = begun()
    before = dict(document.state)
    count = len(play(document, [("A", 0, parts) for _, _, parts in session]))
    after = dict(document.state)
    for _ in range(count):
        entry, conflicts = document.undo("A", 0.0)
        assert entry is not None
        assert conflicts == []
    assert document.state == before
    for _ in range(count):
        document.redo("A", 0.0)
    assert document.state == after


@given(SESSIONS, st.lists(changes(), min_size=1, max_size=6))
def test_what_somebody_else_did_is_never_overwritten_unseen(
    session: list[tuple[str, int, list[Change]]], late: list[Change]
) -> None:
    document = begun()
    seen = document.version
    theirs = play(document, [("B", 0, parts) for _, _, parts in session])
    state = dict(document.state)
    touched = {c.key for entry in theirs for c in entry.changes}
    entry, conflicts = document.apply(Edit("A", seen, "late", tuple(late)), 0.0)
    done = {c.key: c for c in entry.changes} if entry else {}
    for key in touched:
        if key in done and state.get(key) is not None:
            changed = done[key].after
            assert changed is not None, "a record that B changed is not deleted by A, who has not seen it"
            # only fields that B has left alone are different
            for name, value in changed.items():
                ours = [c.fields for c in late if c.key == key and c.fields]
                if value != state[key][name]:
                    assert any(name in f for f in ours)
                    assert all(
                        (c.before or {}).get(name) == (c.after or {}).get(name)
                        for e in theirs
                        for c in e.changes
                        if c.key == key and c.before and c.after
                    )
    asked = {c.key for c in late}
    assert {c.key for c in conflicts} <= asked


@given(SESSIONS)
def test_the_file_holds_everything(session: list[tuple[str, int, list[Change]]]) -> None:
    document = begun()
    play(document, session)
    content = Writer().write(document)
    state, version = read(content, Path("annotations.json"))
    # ambiguous intervals have no id in the file; there are none here
    assert state == document.state
    assert version == document.version
    rebuilt = Document(state, document.version)
    assert (
        Writer().write(rebuilt) == content
        or {**json.loads(Writer().write(rebuilt))["database"]} == json.loads(content)["database"]
    )


@given(SESSIONS, SESSIONS)
def test_a_difference_makes_one_state_of_another(first: list, second: list) -> None:
    one, two = begun(), begun()
    play(one, first)
    play(two, second)
    edit = Edit("x", one.version, "file", tuple(Change(k, r) for k, r in difference(one.state, two.state)))
    _, conflicts = one.apply(edit, 0.0)
    swapped = any("a class" in c.reason for c in conflicts)  # two classes that exchange their names
    assert swapped or (conflicts == [] and one.state == two.state)


def test_the_writer_keeps_up_with_changes() -> None:
    document, writer = begun(), Writer()
    writer.write(document)
    document.apply(Edit("A", 1, "x", (Change("click/k", {"video": "v1", "class": "c1", "time": 1.0}),)), 0.0)
    writer.forget("v1")
    assert writer.write(document) == Writer().write(document)
    document.apply(Edit("A", 2, "x", (Change("class/c1", {"name": "new"}),)), 0.0)
    assert writer.write(document) == Writer().write(document)


def test_two_people_on_one_item() -> None:
    document = begun()
    item = {"video": "v1", "class": "c1", "start": 1.0, "end": 2.0}
    document.apply(Edit("A", 1, "x", (Change("segment/s", item),)), 0.0)
    document.apply(Edit("B", 2, "x", (Change("segment/s", {"end": 3.0}),)), 0.0)
    # another field goes together; a border does not go with the other border of somebody else
    entry, conflicts = document.apply(Edit("A", 2, "x", (Change("segment/s", {"note": "hm"}),)), 0.0)
    assert entry
    assert not conflicts
    entry, (conflict,) = document.apply(Edit("A", 2, "x", (Change("segment/s", {"start": 0.5}),)), 0.0)
    assert entry is None
    assert conflict.theirs is not None
    assert conflict.theirs["end"] == 3.0
    # B deletes, A moves
    document.apply(Edit("B", 4, "x", (Change("segment/s", None),)), 0.0)
    _, (conflict,) = document.apply(Edit("A", 4, "x", (Change("segment/s", {"start": 0.5}),)), 0.0)
    assert conflict.theirs is None
    assert "deleted" in conflict.reason


def test_segments_give_clicks_and_tags_and_never_the_reverse() -> None:
    document = begun()
    parts = (
        Change("segment/s", {"video": "v1", "class": "c1", "start": 1.0, "end": 3.0}),
        Change("segment/t", {"video": "v1", "class": "c2", "start": 5.0, "end": 6.0}),
        Change("click/k", {"video": "v1", "class": "c2", "time": 5.25}),
        Change("tag/c3/v1", {"value": "absent"}),
        Change("click/l", {"video": "v 2/ä", "class": "c3", "time": 2.0}),
    )
    document.apply(Edit("A", 1, "x", parts), 0.0)
    parsed = activitynet.parse(json.loads(Writer().write(document)), Path("x.json"))
    one, two = parsed.videos["v1"], parsed.videos["v 2/ä"]
    assert one.labels == (0, 1)
    assert one.points is not None
    assert sorted(one.points.time.tolist()) == [2.0, 5.25]  # the middle of s; t has a click of its own
    assert len(two.instances) == 0
    assert two.labels == (2,)
    assert (one.subset, two.subset) == ("train", "train")


def test_classes_are_merged_deleted_and_brought_back() -> None:
    document = begun()
    parts = (
        Change("click/k", {"video": "v1", "class": "c1", "time": 1.0}),
        Change("tag/c1/v1", {"value": "occurs"}),
        Change("tag/c2/v1", {"value": "absent"}),
    )
    document.apply(Edit("A", 1, "x", parts), 0.0)
    before = dict(document.state)
    entry, conflicts = document.apply(Edit("A", 2, "merge", merge_classes(document, "c1", "c2")), 0.0)
    assert entry
    assert not conflicts
    assert document.state["click/k"]["class"] == "c2"
    assert document.state["tag/c2/v1"]["value"] == "occurs"
    assert "class/c1" not in document.state
    document.undo("A", 0.0)
    assert document.state == before
    document.apply(Edit("A", document.version, "delete", delete_class(document, "c1")), 0.0)
    assert "click/k" not in document.state
    document.undo("A", 0.0)
    assert document.state == before


def test_a_class_with_new_items_of_somebody_else_stays() -> None:
    document = begun()
    late = delete_class(document, "c1")
    document.apply(Edit("B", 1, "x", (Change("click/k", {"video": "v1", "class": "c1", "time": 1.0}),)), 0.0)
    entry, (conflict,) = document.apply(Edit("A", 1, "delete", late), 0.0)
    assert entry is None
    assert conflict.key == "class/c1"
    # and the other way round: an item of a class that is gone is handed back
    document.apply(Edit("B", 2, "x", delete_class(document, "c2")), 0.0)
    _, (conflict,) = document.apply(
        Edit("A", 2, "x", (Change("click/l", {"video": "v1", "class": "c2", "time": 1.0}),)), 0.0
    )
    assert "class" in conflict.reason


@pytest.mark.parametrize(
    ("key", "fields"),
    [
        ("click/k", {"video": "v1", "class": "c1", "time": float("nan")}),
        ("click/k", {"video": "v1", "class": "c1", "time": -1}),
        ("click/k", {"video": "v1", "class": "c1"}),
        ("click/k", {"video": "v1", "class": "c1", "time": True}),
        ("click/../k", {"video": "v1", "class": "c1", "time": 1}),
        ("segment/s", {"video": "v1", "class": "c1", "start": 2, "end": 1}),
        ("class/c", {"name": " ", "colour": "#000000"}),
        ("class/c", {"name": "x", "colour": "red"}),
        ("tag/c1/v1", {"value": "maybe"}),
        ("video/v1", {"notes": "?"}),
        ("nonsense/1", {}),
    ],
)
def test_what_makes_no_record_is_refused_and_nothing_is_done(key: str, fields: dict) -> None:
    document = begun()
    before = dict(document.state)
    good = Change("click/good", {"video": "v1", "class": "c1", "time": 1.0})
    with pytest.raises(InputError):
        document.apply(Edit("A", 1, "x", (good, Change(key, fields))), 0.0)
    assert document.state == before
    assert document.version == 1
    with pytest.raises(InputError):
        complete(key, fields)


def test_foreign_files_are_read() -> None:
    foreign = {
        "database": {
            "v": {
                "subset": "validation",
                "duration": 10,
                "annotations": [
                    {"segment": ["1.5", "2"], "label": "Jump"},
                    {"segment": [4, 5], "label": "Fall"},
                ],
                "points": [{"time": 7, "label": "Jump"}],
                "ignored": [[8, 9]],
            }
        }
    }
    state, version = read(json.dumps(foreign).encode(), Path("gt.json"))
    assert version is None
    kinds = sorted(k.partition("/")[0] for k in state)
    assert kinds == ["class", "class", "click", "ignored", "segment", "segment", "video"]
    assert state["video/v"]["subset"] == "validation"
    assert {r["name"]: r["key"] for k, r in state.items() if k.startswith("class/")} == {
        "Fall": "1",
        "Jump": "2",
    }
    again, _ = read(annotations_file.Writer().write(Document(state)), Path("x"))
    assert again == state
