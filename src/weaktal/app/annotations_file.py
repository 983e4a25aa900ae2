"""``annotations.json`` of a project: ActivityNet JSON for every command, with all that the page knows in it.

What `weaktal.formats.activitynet` reads is the training view: ``annotations`` are the segments; ``points``
are the clicks, and one in the middle of every segment without a click of its class (marked with ``of``, so
that it is not read back as a click); ``labels`` are the classes that are tagged, clicked or segmented, none
where a person says that nothing occurs, and missing where nothing is known yet, where ``subset`` is
"unlabelled"; ``complete`` is false where an imported file said so, until the video is done. The rest stands
under keys that other readers ignore: ids, notes, origins, ``tags``, ``negatives``, ``video``, and ``app``
beside ``database``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from weaktal.app.document import KINDS, Document, Record, State, complete, split_key
from weaktal.core import Annotations, InputError
from weaktal.formats import activitynet

FORMAT = 1
UNLABELLED = "unlabelled"
# distinct on light and dark ground, and from each other with the usual forms of colour blindness
PALETTE = (
    "#3d7bd9", "#e08a1e", "#2a9d6f", "#d1495b", "#8661c1", "#1f9fb3",
    "#b5892b", "#d16ba5", "#6a994e", "#5c6bc0", "#c8553d", "#4d908e",
)  # fmt: skip


def class_key(names: Iterable[str], taken: Iterable[str]) -> str:
    """The next free key for a class: digits first, then letters that the player does not use."""
    used = set(taken)
    return next((k for k in "123456789qwertyuiasdfghzxcvbm" if k not in used), "")


def new_class(name: str, existing: Mapping[str, Record]) -> Record:
    """A record for a class of that name: the next colour and the next free key."""
    key = class_key((), (c["key"] for c in existing.values()))
    order = 1 + max((c["order"] for c in existing.values()), default=-1)
    used = {c["colour"] for c in existing.values()}
    colour = next((c for c in PALETTE if c not in used), PALETTE[len(existing) % len(PALETTE)])
    return complete("class/new", {"name": name, "colour": colour, "key": key, "order": order})


def stable_id(*parts: object) -> str:
    """An id for something that came without one: the same for the same thing."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:12]


def ordered_classes(document: Document) -> dict[str, Record]:
    """Classes by id, in their order."""
    return dict(sorted(document.of("class"), key=lambda item: (item[1]["order"], item[0])))


# ---------------------------------------------------------------------------------------- writing


def training_points(
    clicks: Iterable[Record], segments: Iterable[tuple[str, Record]]
) -> list[tuple[float, str, str]]:
    """Clicks that segments give: (time, class, id of the segment), for each without a click of its class."""
    placed: dict[str, list[float]] = {}
    for click in clicks:
        placed.setdefault(click["class"], []).append(click["time"])
    return [
        ((s["start"] + s["end"]) / 2, s["class"], id_)
        for id_, s in segments
        if not any(s["start"] <= t <= s["end"] for t in placed.get(s["class"], ()))
    ]


def video_entry(document: Document, name: str) -> dict[str, Any]:
    """What the file says about one video."""
    state = document.state
    video = state[f"video/{name}"]
    names = {id_: c["name"] for id_, c in document.of("class")}
    rank = {id_: i for i, id_ in enumerate(ordered_classes(document))}
    return _entry(document, name, video, names, rank)


def _entry(
    document: Document, name: str, video: Record, names: Mapping[str, str], rank: Mapping[str, int]
) -> dict[str, Any]:
    found: dict[str, list[tuple[str, Record]]] = {kind: [] for kind in KINDS}
    for key in document.keys_of_video(name):
        parts = split_key(key)
        found[parts[0]].append((parts[1], document.state[key]))
    for kind in ("segment", "negative", "ignored"):
        found[kind].sort(key=lambda item: (item[1]["start"], item[1]["end"], item[0]))
    found["click"].sort(key=lambda item: (item[1]["time"], item[0]))
    occurs = [c for c, tag in found["tag"] if tag["value"] == "occurs"]
    absent = [c for c, tag in found["tag"] if tag["value"] == "absent"]
    known = {*occurs, *(r["class"] for kind in ("click", "segment") for _, r in found[kind])}
    in_order = rank.__getitem__

    def item(record: Record, id_: str, **more: Any) -> dict[str, Any]:
        out = {**more, "label": names[record["class"]], "id": id_}
        if record.get("note"):
            out["note"] = record["note"]
        if record.get("origin"):
            out["origin"] = record["origin"]
        return out

    labelled = bool(known) or video["nothing"]
    subset = video["subset"]
    entry: dict[str, Any] = {"subset": UNLABELLED if subset == "train" and not labelled else subset}
    entry |= {k: video[k] for k in ("duration", "fps") if video[k] is not None}
    entry["annotations"] = [item(r, i, segment=[r["start"], r["end"]]) for i, r in found["segment"]]
    points = [item(r, i, time=r["time"]) for i, r in found["click"]]
    derived = training_points((r for _, r in found["click"]), found["segment"])
    points += [{"time": t, "label": names[c], "of": of} for t, c, of in derived]
    if points:
        entry["points"] = points
    if labelled:
        entry["labels"] = [names[c] for c in sorted(known, key=in_order)]
    if known and video["partial"] and not video["done"]:
        entry["complete"] = False
    if found["ignored"]:
        entry["ignored"] = [[r["start"], r["end"]] for _, r in found["ignored"]]
    if found["tag"]:
        entry["tags"] = {
            "occurs": [names[c] for c in sorted(occurs, key=in_order)],
            "absent": [names[c] for c in sorted(absent, key=in_order)],
        }
    if found["negative"]:
        entry["negatives"] = [item(r, i, segment=[r["start"], r["end"]]) for i, r in found["negative"]]
    about = {k: video[k] for k in ("path", "bytes", "done", "nothing", "note") if video[k]}
    if about:
        entry["video"] = about
    return entry


class Writer:
    """Makes the file of a document; what was made for a video is kept until something about it changes."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}
        self._classes: list[Any] = []

    def forget(self, name: str) -> None:
        """Something about this video has changed."""
        self._lines.pop(name, None)

    def write(self, document: Document) -> bytes:
        classes = ordered_classes(document)
        listed = [{"id": id_, **record} for id_, record in classes.items()]
        if listed != self._classes:
            self._lines.clear()
            self._classes = listed
        names = {id_: c["name"] for id_, c in classes.items()}
        rank = {id_: i for i, id_ in enumerate(classes)}
        lines = []
        for name, video in document.of("video"):
            line = self._lines.get(name)
            if line is None:
                entry = _entry(document, name, video, names, rank)
                line = f"{json.dumps(name)}: {json.dumps(entry)}"
                self._lines[name] = line
            lines.append(line)
        app = {"format": FORMAT, "version": document.version, "classes": listed}
        head = (
            f'{{"version": "weaktal 1", "taxonomy": [], "classes": {json.dumps(list(names.values()))},\n'
            f'"app": {json.dumps(app)},\n"database": {{\n'
        )
        return (head + ",\n".join(lines) + "\n}}\n").encode()


# ---------------------------------------------------------------------------------------- reading


def read(content: bytes, path: Path) -> tuple[State, int | None]:
    """The records in a file, ours or any ActivityNet JSON, and the document's version (None if not ours).

    Raises:
        InputError: no annotations, with the place.
    """
    try:
        document = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError("malformed JSON", file=path, found=error) from None
    if not isinstance(document, dict):
        raise InputError("no annotations", file=path, found=type(document).__name__, expected="an object")
    known = activitynet.parse(document, path)  # everything that the format asks for is there
    app = document.get("app")
    if app is not None and not (isinstance(app, dict) and isinstance(app.get("classes"), list)):
        raise InputError("not as we write it", file=path, field="app", found=repr(app)[:100])
    if app is not None and app.get("format") != FORMAT:
        raise InputError(
            "made by another version of WeakTAL", file=path, field="app.format",
            found=app.get("format"), expected=FORMAT,
        )  # fmt: skip
    try:
        return _read(document, app or {}, known), None if app is None else int(app["version"])
    except InputError as error:
        raise InputError(
            error.message, file=path, field=error.field, found=error.found,
            expected=error.expected, hint=error.hint,
        ) from None  # fmt: skip
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise InputError("not as we write it", file=path, found=error) from None


def _read(document: Mapping[str, Any], app: Mapping[str, Any], annotations: Annotations) -> State:
    state: State = {}
    classes: dict[str, Record] = {}
    by_name: dict[str, str] = {}
    database = document.get("database", document)
    for listed in app.get("classes", ()):
        id_ = str(listed["id"])
        classes[id_] = complete(f"class/{id_}", {k: v for k, v in listed.items() if k != "id"})
        by_name.setdefault(classes[id_]["name"], id_)

    def class_id(name: str) -> str:
        if name not in by_name:
            id_ = stable_id("class", name)
            classes[id_] = new_class(name, classes)
            by_name[name] = id_
        return by_name[name]

    listed_names = document.get("classes")
    if listed_names is None:
        listed_names = sorted({r["label"] for v in database.values() for r in v.get("annotations", ())})
    for name in listed_names:
        class_id(name)
    for name, entry in database.items():
        about = entry.get("video") or {}
        subset = entry.get("subset")
        values = {k: about[k] for k in ("path", "bytes", "done", "nothing", "note") if k in about}
        video = annotations.videos[name]
        values["partial"] = bool(video.labels) and not video.complete
        if not app:
            values["nothing"] = video.empty
        values |= {k: float(entry[k]) for k in ("duration", "fps") if entry.get(k) is not None}
        values["subset"] = "train" if subset in (None, UNLABELLED) else str(subset)
        state[f"video/{name}"] = complete(f"video/{name}", values)
        known = set()
        for kind, rows in (("segment", entry.get("annotations")), ("negative", entry.get("negatives"))):
            for i, row in enumerate(rows or ()):
                start, end = map(float, row["segment"])
                c = class_id(row["label"])
                record = {"video": name, "class": c, "start": max(start, 0.0), "end": max(end, 0.0)}
                if kind == "segment":
                    known.add(c)
                    record["note"] = row.get("note", "")
                record["origin"] = row.get("origin")
                _add(state, kind, row.get("id"), record, i)
        for i, row in enumerate(entry.get("points") or ()):
            if "of" in row:
                continue
            c = class_id(row["label"])
            known.add(c)
            record = {
                "video": name,
                "class": c,
                "time": max(float(row["time"]), 0.0),
                "note": row.get("note", ""),
            }
            _add(state, "click", row.get("id"), record, i)
        for i, (start, end) in enumerate(entry.get("ignored") or ()):
            _add(state, "ignored", None, {"video": name, "start": float(start), "end": float(end)}, i)
        tags = entry.get("tags") or {}
        for c in tags.get("absent", ()):
            state[f"tag/{class_id(c)}/{name}"] = {"value": "absent"}
        said = {class_id(c) for c in tags.get("occurs", ())}
        said |= {class_id(c) for c in entry.get("labels", ())} - known
        for c in said:
            state[f"tag/{c}/{name}"] = {"value": "occurs"}
    return {**{f"class/{id_}": record for id_, record in classes.items()}, **state}


def _add(state: State, kind: str, id_: object, record: Record, place: int) -> None:
    """Under its own id; under one that is made of what it is, where it has none or one that is taken."""
    key = f"{kind}/{id_}" if isinstance(id_, str) and id_ else ""
    if not key or key in state:
        key = f"{kind}/{stable_id(kind, *record.values())}"
        while key in state:
            key = f"{kind}/{stable_id(key, place)}"
    state[key] = complete(key, record)


def difference(before: State, after: State) -> list[tuple[str, Record | None]]:
    """What to set or delete so that one state becomes another: classes first, their deletion last."""
    changed: list[tuple[str, Record | None]] = [(k, r) for k, r in after.items() if before.get(k) != r]
    gone: list[tuple[str, Record | None]] = [(k, None) for k in before if k not in after]
    first = {"class": 0, "video": 1}

    def rank(change: tuple[str, Record | None]) -> int:
        return first.get(change[0].partition("/")[0], 2)

    return [*sorted(changed, key=rank), *sorted(gone, key=rank, reverse=True)]
