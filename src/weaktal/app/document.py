"""What people say about videos, as records that are edited one by one, by several people at once.

A document is a flat map from keys to records::

    class/ID          name, colour, key, description, order
    video/NAME        path, subset, duration, fps, bytes, done, nothing, partial, note
    tag/CLASS/NAME    value: "occurs" or "absent"
    click/ID          video, class, time, note
    segment/ID        video, class, start, end, note, origin
    negative/ID       video, class, start, end, origin     (a detection that a person rejected)
    ignored/ID        video, start, end                    (ambiguous: detections there do not count)

An `Edit` changes records: each of its changes sets fields of one record, or deletes it. It says which version
its author saw; a field that somebody else has changed since is not overwritten but handed back as a
`Conflict`, and everything else in the edit is done. So the later of two editors sees the change, and what
they did to different items, or to different fields of one, goes together.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from weaktal.core import InputError, did_you_mean

Record = dict[str, Any]
State = dict[str, Record]

MOST_CHANGES = 100_000  # of one edit: deleting a class takes its items along
MOST_UNDO = 1000  # edits that an author can take back
SECONDS = 1e7  # no video is longer

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_COLOUR = re.compile(r"#[0-9a-f]{6}")


# ------------------------------------------------------------------------------------------ records


def _text(most: int, least: int = 0) -> Callable[[object], bool]:
    return lambda x: isinstance(x, str) and least <= len(x.strip()) and len(x) <= most


def _seconds(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x) and 0 <= x <= SECONDS


def _number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and math.isfinite(x)


def _optional(check: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda x: x is None or check(x)


def _origin(x: object) -> bool:
    """Where an item comes from: a run, its score and the segment it proposed."""
    return isinstance(x, dict) and len(x) <= 8 and all(isinstance(v, str | int | float) for v in x.values())


@dataclass(frozen=True)
class Field:
    """One field of a record: what is allowed, in code and in words, and what it is where nobody said."""

    allowed: Callable[[object], bool]
    expected: str
    default: Any = ...  # no default: must be given


_VIDEO, _CLASS = Field(_text(255, 1), "the name of a video"), Field(_text(64, 1), "the id of a class")
_TIME = Field(_seconds, "seconds, a number from 0")
_NOTE = Field(_text(10_000), "a text", "")
_ORIGIN = Field(_optional(_origin), "a mapping of texts and numbers", None)
_SPAN = {"video": _VIDEO, "class": _CLASS, "start": _TIME, "end": _TIME}

KINDS: dict[str, dict[str, Field]] = {
    "class": {
        "name": Field(_text(200, 1), "a name"),
        "colour": Field(
            lambda x: isinstance(x, str) and bool(_COLOUR.fullmatch(x)), "a colour such as #3d7bd9"
        ),
        "key": Field(lambda x: isinstance(x, str) and len(x) <= 1, "one digit or letter, or nothing", ""),
        "description": Field(_text(10_000), "a text", ""),
        "order": Field(_number, "a number", 0),
    },
    "video": {
        "path": Field(_text(4096), "a path", ""),
        "subset": Field(_text(100, 1), "the name of a subset", "train"),
        "duration": Field(_optional(_seconds), "seconds", None),
        "fps": Field(_optional(lambda x: _number(x) and x > 0), "frames per second", None),  # type: ignore[operator]
        "bytes": Field(_optional(_number), "the size of the file", None),
        "done": Field(lambda x: isinstance(x, bool), "true or false", False),
        "nothing": Field(lambda x: isinstance(x, bool), "true or false", False),
        "partial": Field(lambda x: isinstance(x, bool), "true or false", False),
        "note": _NOTE,
    },
    "tag": {"value": Field(lambda x: x in ("occurs", "absent"), "'occurs' or 'absent'")},
    "click": {"video": _VIDEO, "class": _CLASS, "time": _TIME, "note": _NOTE},
    "segment": {**_SPAN, "note": _NOTE, "origin": _ORIGIN},
    "negative": {**_SPAN, "origin": _ORIGIN},
    "ignored": {"video": _VIDEO, "start": _TIME, "end": _TIME},
}
ITEMS = ("click", "segment", "negative", "ignored")  # what has a place in a video


def split_key(key: str) -> tuple[str, ...]:
    """The parts of a key: its kind, and ids or names.

    >>> split_key("tag/c1/my/video")
    ('tag', 'c1', 'my/video')

    Raises:
        InputError: not a key.
    """
    kind, _, rest = key.partition("/")
    if kind not in KINDS:
        raise InputError(
            "no such kind of record", found=repr(key), expected="one of " + ", ".join(KINDS),
            hint=did_you_mean(kind, KINDS),
        )  # fmt: skip
    parts = (kind, *rest.split("/", 1)) if kind == "tag" else (kind, rest)
    ids = parts[1:2] if kind == "tag" else parts[1:] if kind != "video" else ()
    named = parts[-1] if kind in ("video", "tag") else "x"
    if len(parts) != (3 if kind == "tag" else 2) or not 0 < len(named) <= 255:
        raise InputError("not a key of a record", found=repr(key[:100]))
    if not all(_ID.fullmatch(part) for part in ids):
        raise InputError("an id is letters, digits, - and _", found=repr(key[:100]))
    return parts


def complete(key: str, values: Mapping[str, Any]) -> Record:
    """A record with every field, checked.

    Raises:
        InputError: a field that is missing, unknown, or not as it should be.
    """
    parts = split_key(key)
    fields = KINDS[parts[0]]
    for name in values:
        if name not in fields:
            raise InputError(
                "unknown field", field=key, found=repr(name), expected="one of " + ", ".join(fields),
                hint=did_you_mean(name, fields),
            )  # fmt: skip
    record = {}
    for name, rule in fields.items():
        value = values.get(name, rule.default)
        if value is ...:
            raise InputError("a field is missing", field=key, expected=name)
        if not rule.allowed(value):
            raise InputError(f"not {rule.expected}", field=f"{key}.{name}", found=repr(value)[:200])
        record[name] = value
    if "end" in record and not record["end"] >= record["start"]:
        raise InputError(
            "a segment ends before it starts", field=key, found=f"[{record['start']}, {record['end']}]"
        )
    return record


def video_of(key: str, record: Mapping[str, Any]) -> str | None:
    """The video that a record belongs to; None for a class."""
    parts = split_key(key)
    if parts[0] in ("video", "tag"):
        return parts[-1]
    return record.get("video")


# -------------------------------------------------------------------------------------------- edits


@dataclass(frozen=True)
class Change:
    """What an edit does to one record: set fields (of a new one all that matter), or None to delete it."""

    key: str
    fields: Mapping[str, Any] | None

    @classmethod
    def parse(cls, value: object) -> Change:
        """Of JSON ``{"key": ..., "set": {...} | null}``."""
        if not isinstance(value, dict) or set(value) != {"key", "set"} or not isinstance(value["key"], str):
            raise InputError("not a change", found=repr(value)[:200], expected='{"key": ..., "set": ...}')
        if not (value["set"] is None or isinstance(value["set"], dict)):
            raise InputError("not a change", field="set", found=repr(value["set"])[:200])
        split_key(value["key"])
        return cls(value["key"], value["set"])


@dataclass(frozen=True)
class Edit:
    """Changes that belong together: undone and redone as one.

    Attributes:
        author: who, an id of a page.
        base: the version of the document that the author saw.
        label: what it is, for people ("add click").
        changes: to records, in order.
        undoes, redoes: the version of the edit that this one takes back, or brings back.
    """

    author: str
    base: int
    label: str
    changes: tuple[Change, ...]
    undoes: int | None = None
    redoes: int | None = None


@dataclass(frozen=True)
class Applied:
    """A change that was made: the record before and after, None where there is none."""

    key: str
    before: Record | None
    after: Record | None


@dataclass(frozen=True)
class Conflict:
    """A change that was not made, because of somebody else's.

    Attributes:
        key: the record.
        mine: the fields that were asked for; None for a deletion.
        theirs: the record as it is; None where it is deleted.
        reason: for people.
    """

    key: str
    mine: Mapping[str, Any] | None
    theirs: Record | None
    reason: str


@dataclass(frozen=True)
class Entry:
    """One line of the history: an edit as it was done."""

    version: int
    time: float
    author: str
    label: str
    changes: tuple[Applied, ...]
    undoes: int | None = None
    redoes: int | None = None

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "version": self.version,
            "time": self.time,
            "author": self.author,
            "label": self.label,
            "changes": [{"key": c.key, "before": c.before, "after": c.after} for c in self.changes],
        }
        return out | {k: v for k in ("undoes", "redoes") if (v := getattr(self, k)) is not None}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Entry:
        changes = tuple(Applied(c["key"], c["before"], c["after"]) for c in value["changes"])
        head = (int(value["version"]), float(value["time"]), str(value["author"]), str(value["label"]))
        return cls(*head, changes, value.get("undoes"), value.get("redoes"))


@dataclass
class _Stamp:
    """When and by whom the fields of a record were last changed; "" stands for its being there at all."""

    fields: dict[str, tuple[int, str]] = field(default_factory=dict)

    def later(self, names: Iterable[str], base: int, author: str, floor: int) -> set[str]:
        """Those of `names` that another author has changed after `base`."""
        changed = set()
        for name in names:
            version, by = self.fields.get(name, self.fields.get("", (floor, "")))
            if version > base and by != author:
                changed.add(name)
        return changed


class Document:
    """The records, their versions, and every author's way back.

    Not safe for several threads at once: `weaktal.app.project.Project` holds a lock around it.

    Attributes:
        version: number of the last edit.
        state: the records by key.
        floor: the version from which on it is known who changed what.
    """

    def __init__(self, state: State | None = None, version: int = 0, floor: int | None = None) -> None:
        self.state: State = dict(state or {})
        self.version = version
        self.floor = version if floor is None else floor
        self._stamps: dict[str, _Stamp] = {}
        self._undo: dict[str, deque[Entry]] = {}
        self._redo: dict[str, deque[Entry]] = {}
        self._by_video: dict[str, dict[str, None]] = {}
        self._by_class: dict[str, dict[str, None]] = {}
        self._by_kind: dict[str, dict[str, None]] = {}
        for key, record in self.state.items():
            self._index(key, record)

    # ---- looking

    def of(self, kind: str) -> Iterator[tuple[str, Record]]:
        """Ids (or names) and records of a kind, in order of their making."""
        place = len(kind) + 1
        for key in list(self._by_kind.get(kind, ())):
            yield key[place:], self.state[key]

    def keys_of_video(self, name: str) -> list[str]:
        """Keys of everything that belongs to a video, itself included."""
        return list(self._by_video.get(name, ()))

    def keys_of_class(self, class_id: str) -> list[str]:
        """Keys of the items and tags of a class."""
        return list(self._by_class.get(class_id, ()))

    def undo_label(self, author: str) -> str | None:
        """What `undo` would take back."""
        stack = self._undo.get(author)
        return stack[-1].label if stack else None

    def redo_label(self, author: str) -> str | None:
        """What `redo` would bring back."""
        stack = self._redo.get(author)
        return stack[-1].label if stack else None

    # ---- changing

    def apply(self, edit: Edit, now: float) -> tuple[Entry | None, list[Conflict]]:
        """Do an edit, item by item.

        Args:
            edit: what to do.
            now: seconds since the epoch, for the history.

        Returns:
            The entry for the history (None if nothing changed), and what was not done.

        Raises:
            InputError: a record that would not be a record; then nothing at all is done.
        """
        if len(edit.changes) > MOST_CHANGES:
            raise InputError("too many changes in one edit", found=len(edit.changes), expected=MOST_CHANGES)
        done: list[Applied] = []
        conflicts: list[Conflict] = []
        try:
            for change in edit.changes:
                outcome = self._change(change, edit)
                if isinstance(outcome, Conflict):
                    conflicts.append(outcome)
                elif outcome is not None:
                    self._put(outcome.key, outcome.after)
                    done.append(outcome)
            conflicts += self._keep_what_is_used(done)
        except InputError:
            for applied in reversed(done):
                self._put(applied.key, applied.before)
            raise
        if not done:
            return None, conflicts
        label, author = edit.label, edit.author
        entry = Entry(self.version + 1, now, author, label, tuple(done), edit.undoes, edit.redoes)
        self.note(entry)
        return entry, conflicts

    def _keep_what_is_used(self, done: list[Applied]) -> list[Conflict]:
        """Classes and videos come back whose deletion would orphan what their editor did not know of."""
        conflicts = []
        for c in [c for c in done if c.after is None]:
            kind, name = split_key(c.key)[0], split_key(c.key)[-1]
            left = self.keys_of_class(name) if kind == "class" else []
            left = self.keys_of_video(name) if kind == "video" else left
            if left:
                done.remove(c)
                self._put(c.key, c.before)
                conflicts.append(Conflict(c.key, None, c.before, f"{len(left)} items of it have come since"))
        return conflicts

    def _change(self, change: Change, edit: Edit) -> Applied | Conflict | None:
        key, fields = change.key, change.fields
        before = self.state.get(key)
        stamp = self._stamps.get(key, _Stamp())
        if fields is None:
            if before is None:
                return None
            changed = stamp.later(["", *KINDS[split_key(key)[0]]], edit.base, edit.author, self.floor)
            if changed:
                return Conflict(key, None, before, "changed by somebody else since")
            return Applied(key, before, None)
        if before is None:
            gone = stamp.later([""], edit.base, edit.author, self.floor) if key in self._stamps else set()
            if gone:
                return Conflict(key, dict(fields), None, "deleted by somebody else since")
            after = complete(key, fields)
        else:
            after = complete(key, {**before, **fields})
            different = {name for name in fields if after[name] != before[name]}
            if not different:
                return None
            changed = stamp.later(different, edit.base, edit.author, self.floor)
            if "start" in after and stamp.later({"start", "end"}, edit.base, edit.author, self.floor):
                changed |= different & {"start", "end"}  # two borders are one thing
            if changed:
                return Conflict(key, dict(fields), before, "changed by somebody else since")
        missing = self._missing(key, after)
        if missing is not None:
            return Conflict(key, dict(fields), before, missing)
        return Applied(key, before, after)

    def _missing(self, key: str, record: Record) -> str | None:
        """What a record refers to and is not there."""
        parts = split_key(key)
        class_id = parts[1] if parts[0] == "tag" else record.get("class")
        if class_id is not None and f"class/{class_id}" not in self.state:
            return "its class is deleted"
        video = video_of(key, record)
        if video is not None and parts[0] != "video" and f"video/{video}" not in self.state:
            return "its video is removed"
        if parts[0] == "class":
            for other, entry in self.of("class"):
                if other != parts[1] and entry["name"].strip() == record["name"].strip():
                    return f"there is a class {record['name'].strip()!r} already"
        return None

    def note(self, entry: Entry) -> None:
        """Take over an entry of the history that is (or is now) in `state`: versions, and the way back."""
        for c in entry.changes:
            stamp = self._stamps.setdefault(c.key, _Stamp())
            mark = (entry.version, entry.author)
            if c.before is None or c.after is None:
                stamp.fields = {"": mark}
            else:
                stamp.fields |= {k: mark for k, v in c.after.items() if c.before.get(k) != v}
        self.version = entry.version
        undo = self._undo.setdefault(entry.author, deque(maxlen=MOST_UNDO))
        redo = self._redo.setdefault(entry.author, deque(maxlen=MOST_UNDO))
        if entry.undoes is not None:
            if undo and undo[-1].version == entry.undoes:
                undo.pop()
            redo.append(entry)
        elif entry.redoes is not None:
            if redo and redo[-1].version == entry.redoes:
                redo.pop()
            undo.append(entry)
        else:
            undo.append(entry)
            redo.clear()

    def replay(self, entry: Entry) -> None:
        """Make an entry of the history again, on a state that it was made on."""
        for c in entry.changes:
            self._put(c.key, c.after)
        self.note(entry)

    def undo(self, author: str, now: float) -> tuple[Entry | None, list[Conflict]]:
        """Take back the author's last edit; what somebody else has changed since stays and is handed back."""
        return self._back(self._undo.get(author), author, "undo", now)

    def redo(self, author: str, now: float) -> tuple[Entry | None, list[Conflict]]:
        """Bring back what the author's last `undo` took away."""
        return self._back(self._redo.get(author), author, "redo", now)

    def _back(
        self, stack: deque[Entry] | None, author: str, what: str, now: float
    ) -> tuple[Entry | None, list[Conflict]]:
        if not stack:
            return None, []
        entry = stack[-1]
        which = {"undoes": entry.version} if what == "undo" else {"redoes": entry.version}
        edit = Edit(author, entry.version, entry.label, inverse(entry.changes), **which)
        made, conflicts = self.apply(edit, now)
        if made is None:  # nothing of it can be taken back: it must not stand in the way of those before
            stack.pop()
        return made, conflicts

    # ---- indices

    def _put(self, key: str, record: Record | None) -> None:
        before = self.state.pop(key, None) if record is None else self.state.get(key)
        if before is not None:
            self._unindex(key, before)
        if record is not None:
            self.state[key] = record
            self._index(key, record)

    def _index(self, key: str, record: Record) -> None:
        video, class_id = video_of(key, record), _class_of(key, record)
        self._by_kind.setdefault(key.partition("/")[0], {})[key] = None
        if video is not None:
            self._by_video.setdefault(video, {})[key] = None
        if class_id is not None:
            self._by_class.setdefault(class_id, {})[key] = None

    def _unindex(self, key: str, record: Record) -> None:
        video, class_id = video_of(key, record), _class_of(key, record)
        if key not in self.state:
            self._by_kind[key.partition("/")[0]].pop(key, None)
        if video is not None:
            self._by_video[video].pop(key, None)
        if class_id is not None:
            self._by_class[class_id].pop(key, None)


def _class_of(key: str, record: Record) -> str | None:
    parts = split_key(key)
    return parts[1] if parts[0] == "tag" else record.get("class")


def inverse(changes: Sequence[Applied]) -> tuple[Change, ...]:
    """Changes that take others back, last one first; only fields that were changed are set."""
    out = []
    for c in reversed(changes):
        if c.before is None or c.after is None:
            out.append(Change(c.key, c.before))
        else:
            before, after = c.before, c.after
            out.append(Change(c.key, {k: v for k, v in before.items() if after.get(k) != v}))
    return tuple(out)


def merge_classes(document: Document, source: str, target: str) -> tuple[Change, ...]:
    """Changes that make every item and tag of one class those of another, and delete the class.

    A tag that the other class has already stays; "occurs" wins over "absent".
    """
    changes = []
    for key in document.keys_of_class(source):
        parts = split_key(key)
        if parts[0] != "tag":
            changes.append(Change(key, {"class": target}))
            continue
        there = f"tag/{target}/{parts[2]}"
        value = document.state[key]["value"]
        changes.append(Change(key, None))
        if there not in document.state or value == "occurs":
            changes.append(Change(there, {"value": value}))
    return (*changes, Change(f"class/{source}", None))


def delete_class(document: Document, class_id: str) -> tuple[Change, ...]:
    """Changes that delete a class with its items and tags."""
    return (*(Change(k, None) for k in document.keys_of_class(class_id)), Change(f"class/{class_id}", None))
