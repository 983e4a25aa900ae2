"""A project: a plain folder of files that every command understands, and the one place that changes them.

::

    PROJECT/project.yaml        a data set description (see docs/data.md)
    PROJECT/annotations.json    what people said, for every command and for the page
    PROJECT/history/edits.jsonl every edit ever made, one a line
    PROJECT/features/           of `weaktal extract`
    PROJECT/runs/               of `weaktal train`
    PROJECT/cache/              made from the videos; may be deleted at any time

An edit is saved when its line in the history is on the disk; ``annotations.json`` follows at once, whole or
not at all, and is caught up from the history when a project opens. So whenever a process dies, nothing that
was acknowledged is lost, and a line that was being written is dropped.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import yaml

from weaktal.app import annotations_file
from weaktal.app.annotations_file import Writer, difference, new_class, ordered_classes, stable_id
from weaktal.app.document import Applied, Change, Conflict, Document, Edit, Entry, Record, State, split_key
from weaktal.core import Annotations, InputError, atomic_path, write_text
from weaktal.core.names import file_name
from weaktal.core.reading import read_yaml
from weaktal.features.extract.videos import SUFFIXES, find_videos

DESCRIPTION = "project.yaml"
ANNOTATIONS = "annotations.json"
HISTORY = "history/edits.jsonl"
TAIL = 2000  # edits of the history that are read at opening, for undo and to tell conflicts
OUTSIDE = "annotations.json"  # author of what was changed by hand

Listener = Callable[[str, Mapping[str, Any]], None]


def stamps() -> Iterator[int]:
    """Growing numbers for what a page is told, in any order: the greater one is the newer one.

    They begin at the microsecond, so that the next server on this project goes on above those of this one.
    """
    return count(time.time_ns() // 1000)


class _Overtaken(Exception):
    pass


@dataclass(frozen=True)
class Outcome:
    """What came of an edit: its entry in the history (None if nothing changed), and what was not done."""

    entry: Entry | None
    conflicts: list[Conflict]


class Project:
    """An opened project. All methods may be called from several threads.

    Attributes:
        folder: where it is.
        document: the records; hold `lock` to look at more than one of them.
        description: the entries of ``project.yaml``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.lock = threading.RLock()
        self.notices: list[str] = []
        self._listeners: list[Listener] = []
        self._writer = Writer()
        self._changed = threading.Condition(self.lock)
        self._closing = False
        self._holder = _hold(self.folder)
        try:
            self.description = _read_description(self.folder / DESCRIPTION)
            self._load()
            self._journal: IO[bytes] = _append_to(self.folder / HISTORY)
        except BaseException:
            self._holder.close()
            raise
        self._saver = threading.Thread(target=self._save_forever, name="saver", daemon=True)
        self._saver.start()

    # ------------------------------------------------------------------------------ opening

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Project:
        """Open the project at a path, or make one.

        Args:
            path: the folder of a project; a folder of videos, which becomes one; a folder that does not
                exist yet; or a data set description, whose project is the folder ``NAME-app`` beside it.

        Raises:
            InputError: a file that is no description, a project that is damaged or open elsewhere.
        """
        path = Path(path)
        if path.is_dir():
            if not (path / DESCRIPTION).exists():
                _make(path, path.resolve().name)
                project = cls(path)
                if videos := _videos_inside(path):
                    project.import_videos(videos, "import")
                return project
            return cls(path)
        if path.suffix in (".yaml", ".yml"):
            return cls(path.parent) if path.name == DESCRIPTION else _of_dataset(path)
        if path.exists():
            raise InputError(
                "neither a folder nor a data set description", file=path, expected="FOLDER or DATASET.yaml"
            )
        path.mkdir(parents=True)
        _make(path, path.resolve().name)
        return cls(path)

    def _load(self) -> None:
        path = self.folder / ANNOTATIONS
        content = path.read_bytes() if path.exists() else Writer().write(Document())
        try:
            state, said = annotations_file.read(content, path)
        except InputError as error:
            if not (self.folder / HISTORY).exists():
                raise
            aside = self._set_aside(content)
            state, said = {}, 0  # the history has everything
            self.notices.append(f"{error}. It was kept as {aside} and made anew from the history.")
        entries = list(_read_history(self.folder / HISTORY))
        # a file that is not ours has been put there: it is what counts
        version = said if said is not None else entries[-1].version if entries else 0
        later = [e for e in entries if e.version > version]
        recent = [e for e in entries if e.version <= version][-TAIL:]
        floor = recent[0].version - 1 if recent else version
        self.document = Document(state, version, floor)
        for entry in recent:
            self.document.note(entry)
        self.document.version = version
        for entry in later:
            self.document.replay(entry)
        self._written = content if not later and path.exists() else b""
        self._mark = _mark(path)
        self._saved = self.document.version if self._written else -1
        self._base: tuple[State, int] = dict(self.document.state), self.document.version

    def _set_aside(self, content: bytes) -> str:
        name = f"history/annotations-{time.strftime('%Y%m%d-%H%M%S')}.json"
        with atomic_path(self.folder / name) as temporary:
            temporary.write_bytes(content)
        return name

    def close(self) -> None:
        """Save what is not saved and let go of the folder."""
        with self.lock:
            self._closing = True
            self._changed.notify_all()
        self._saver.join()
        self._journal.close()
        self._holder.close()

    @property
    def name(self) -> str:
        return str(self.description.get("name") or self.folder.name)

    # ------------------------------------------------------------------------------ editing

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener(kind, facts)` for everything that happens; returns what ends it."""
        with self.lock:
            self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Tell every listener."""
        for listener in list(self._listeners):
            listener(kind, facts)

    def edit(self, edit: Edit) -> Outcome:
        """Do an edit and save it.

        Raises:
            InputError: a change that makes no record; nothing is done.
        """
        with self.lock:
            self.refresh()
            return self._commit(*self.document.apply(edit, time.time()))

    def undo(self, author: str) -> Outcome:
        """Take back the author's last edit."""
        with self.lock:
            return self._commit(*self.document.undo(author, time.time()))

    def redo(self, author: str) -> Outcome:
        """Bring back what `undo` took away."""
        with self.lock:
            return self._commit(*self.document.redo(author, time.time()))

    def change(
        self, label: str, changes: Iterable[tuple[str, Record | None]], author: str = "page"
    ) -> Outcome:
        """An edit made here, on the newest version."""
        with self.lock:
            parts = tuple(Change(key, record) for key, record in changes)
            return self.edit(Edit(author, self.document.version, label, parts))

    def _commit(self, entry: Entry | None, conflicts: list[Conflict]) -> Outcome:
        if entry is not None:
            self._journal.write(json.dumps(entry.to_json(), ensure_ascii=False).encode() + b"\n")
            self._journal.flush()
            os.fsync(self._journal.fileno())
            self._forget(entry.changes)
            self._changed.notify_all()
            self.tell("edit", {"entry": entry})
        return Outcome(entry, conflicts)

    def _forget(self, changes: Iterable[Applied]) -> None:
        for c in changes:
            parts = split_key(c.key)
            names = {parts[-1]} if parts[0] in ("video", "tag") else set()
            names |= {r["video"] for r in (c.before, c.after) if r is not None and "video" in r}
            for name in names:
                self._writer.forget(name)

    # ------------------------------------------------------------------------------ saving

    def _save_forever(self) -> None:
        while True:
            with self.lock:
                while self._saved == self.document.version and not self._closing:
                    self._changed.wait()
                if self._saved == self.document.version:
                    return
            self.save()

    def save(self) -> None:
        """Write ``annotations.json`` now."""
        with self.lock:
            path = self.folder / ANNOTATIONS
            while True:
                self.refresh()
                content, version = self._writer.write(self.document), self.document.version
                with suppress(_Overtaken), atomic_path(path) as temporary:
                    temporary.write_bytes(content)
                    if _mark(path) != self._mark:
                        raise _Overtaken  # somebody has just changed it by hand
                    break
            self._written, self._saved, self._mark = content, version, _mark(path)
            self._base = dict(self.document.state), version

    def refresh(self) -> None:
        """Take in ``annotations.json`` if somebody else has changed it, item by item, as their edit."""
        path = self.folder / ANNOTATIONS
        with self.lock:
            mark = _mark(path)
            if mark == self._mark:
                return
            self._mark = mark
            try:
                content = path.read_bytes()
            except FileNotFoundError:
                self.say(f"{ANNOTATIONS} was removed; it is written again from what the page knows")
                self._saved = -1
                self._changed.notify_all()
                return
            if content == self._written:
                return
            try:
                theirs, _ = annotations_file.read(content, path)
            except InputError as error:
                aside = self._set_aside(content)
                self.say(f"{error}. This edit by hand was not taken over; it is kept as {aside}.")
                self._saved = -1
                self._changed.notify_all()
                return
            changes = tuple(Change(k, r) for k, r in difference(self._base[0], theirs))
            edit = Edit(OUTSIDE, self._base[1], f"{ANNOTATIONS} was edited by hand", changes)
            entry, conflicts = self.document.apply(edit, time.time())
            self._saved = -1
            self._commit(entry, conflicts)
            self._changed.notify_all()
            count = len(entry.changes) if entry else 0
            text = f"{ANNOTATIONS} was changed outside of this page: {count} items taken over"
            if conflicts:
                aside = self._set_aside(content)
                text += f"; {len(conflicts)} were changed here since and stay so (the file: {aside})"
            self.say(text)

    def say(self, text: str) -> None:
        """A notice for people: it stays until it is read."""
        self.notices.append(text)
        self.tell("notice", {"text": text})

    # ------------------------------------------------------------------------------ videos and classes

    def video_path(self, name: str) -> Path | None:
        """Where a video's file is (or was)."""
        with self.lock:
            record = self.document.state.get(f"video/{name}")
        return self.folder / record["path"] if record is not None and record["path"] else None

    def import_videos(self, paths: Sequence[Path], author: str = "page") -> list[str]:
        """Add videos by path; folders are searched. Returns the names of those that are new.

        Raises:
            InputError: nothing there, or another video of that name is in the project.
        """
        found = find_videos(paths)
        for path in found:
            if not path.is_file():
                raise InputError("no such file", file=path)
            file_name(path.stem)
        with self.lock:
            changes: list[tuple[str, Record | None]] = []
            for path in found:
                key, relative = f"video/{path.stem}", self._relative(path)
                known = self.document.state.get(key)
                if known is not None and known["path"] and (self.folder / known["path"]).exists():
                    if (self.folder / known["path"]).resolve() == path.resolve():
                        continue
                    raise InputError(
                        "another video of this name is in the project",
                        found=str(path),
                        expected=f"not {known['path']}",
                        hint="rename one of the two files",
                    )
                changes.append((key, {"path": relative, "bytes": path.stat().st_size}))
            self.change(f"import {len(changes)} videos", changes, author)
        return [split_key(key)[1] for key, _ in changes]

    def _relative(self, path: Path) -> str:
        """A path as it is written down: relative to the project where it is near, so that both can move."""
        path = path.resolve()
        relative = os.path.relpath(path, self.folder)
        return relative if relative.count("..") <= 2 else str(path)

    def add_class(self, name: str) -> str:
        """The id of a class; it is made if there is none of that name."""
        with self.lock:
            classes = ordered_classes(self.document)
            for id_, record in classes.items():
                if record["name"] == name:
                    return id_
            id_ = stable_id("class", name, self.document.version)
            self.change(f"add class {name}", [(f"class/{id_}", new_class(name, classes))])
            return id_

    def import_annotations(self, annotations: Annotations, author: str = "page") -> Outcome:
        """Take in annotations of any origin: instances as segments, points as clicks, labels as tags.

        What is there already, of the same class at the same time, is not added twice. Videos are matched by
        name; those that are not in the project are added without a file.
        """
        with self.lock:
            state = self.document.state
            classes = {r["name"]: i for i, r in self.document.of("class")}
            made = dict(self.document.of("class"))
            changes: list[tuple[str, Record | None]] = []
            for name in annotations.classes:
                if name not in classes:
                    id_ = stable_id("class", name, self.document.version)
                    made[id_] = new_class(name, made)
                    classes[name] = id_
                    changes.append((f"class/{id_}", made[id_]))
            ids = [classes[name] for name in annotations.classes]
            for video in annotations:
                key = f"video/{video.name}"
                record: Record = {"subset": video.subset or "train"} if key not in state else {}
                if key not in state or state[key]["duration"] is None:
                    record |= {"duration": video.duration, "fps": video.fps}
                if video.empty and key not in state:
                    record["nothing"] = True
                if video.labels and not video.complete:
                    record["partial"] = True
                if record or key not in state:
                    changes.append((key, record))
                there = {_what(state[k]) for k in self.document.keys_of_video(video.name) if _what(state[k])}
                items: list[tuple[str, Record]] = []
                it, points = video.instances, video.points
                for s, e, c in zip(it.start.tolist(), it.end.tolist(), it.label.tolist(), strict=True):
                    items.append(("segment", {"class": ids[c], "start": max(s, 0.0), "end": max(e, 0.0)}))
                if points is not None:
                    middles = {((r["start"] + r["end"]) / 2, r["class"]) for _, r in items}
                    for t, c in zip(points.time.tolist(), points.label.tolist(), strict=True):
                        if (t, ids[c]) not in middles:  # else it is what a segment gives anyway
                            items.append(("click", {"class": ids[c], "time": max(t, 0.0)}))
                for start, end in video.ignored.tolist():
                    items.append(("ignored", {"start": max(start, 0.0), "end": max(end, 0.0)}))
                for i, (kind, values) in enumerate(items):
                    values["video"] = video.name
                    if _what(values) not in there:
                        id_ = stable_id(kind, *values.values(), i, self.document.version)
                        changes.append((f"{kind}/{id_}", values))
                known = {r.get("class") for _, r in items}
                for c in video.labels:
                    tag = f"tag/{ids[c]}/{video.name}"
                    if ids[c] not in known and tag not in state:
                        changes.append((tag, {"value": "occurs"}))
            return self.change("import annotations", changes, author)


def _what(record: Record) -> tuple[Any, ...] | None:
    """What makes two items the same."""
    if "time" in record:
        return ("click", record["class"], record["time"])
    if "start" in record:
        return (record.get("class"), record["start"], record["end"])
    return None


# ------------------------------------------------------------------------------------------ files


def _mark(path: Path) -> tuple[int, int, int] | None:
    """What changes whenever a file does."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _hold(folder: Path) -> IO[bytes]:
    """Hold a project as long as this process lives; the system lets go of it however the process ends."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history").mkdir(exist_ok=True)
    file = (folder / "history/.lock").open("wb")
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        return file
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise InputError(
            "this project is open already", file=folder, hint="use the address that the other command printed"
        ) from None
    return file


def _append_to(path: Path) -> IO[bytes]:
    """The history, ready for the next line: one that was torn when a process died is cut off."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("ab+")
    size = file.seek(0, os.SEEK_END)
    if size:
        back = min(size, 1 << 16)
        while True:
            file.seek(size - back)
            block = file.read(back)
            end = block.rfind(b"\n")
            if end >= 0 or back == size:
                file.truncate(size - back + end + 1)
                break
            back = min(size, 2 * back)
    return file


def _read_history(path: Path) -> Iterator[Entry]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return  # torn when a process died: it was never acknowledged
            try:
                yield Entry.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(
                    "the history is damaged", file=path, field=f"line {number}", found=error,
                    hint="restore it, or move it away to begin a new one",
                ) from None  # fmt: skip


def _videos_inside(folder: Path) -> list[Path]:
    skip = {"features", "runs", "history", "cache"}
    return sorted(
        p
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES
        and p.is_file()
        and not p.name.startswith(".")
        and p.relative_to(folder).parts[0] not in skip
    )


def _make(folder: Path, name: str, **entries: Any) -> None:
    """The description of a new project."""
    description = {"name": name, "annotations": ANNOTATIONS, "features": {"path": "features"}, "videos": "."}
    description |= entries
    if not (folder / ANNOTATIONS).exists():
        write_text(folder / ANNOTATIONS, Writer().write(Document()).decode())
    text = yaml.safe_dump(description, sort_keys=False, allow_unicode=True)
    write_text(folder / DESCRIPTION, "# A data set description: every command of weaktal reads it.\n" + text)


def _read_description(path: Path) -> dict[str, Any]:
    found = read_yaml(path)
    if not isinstance(found, dict):
        raise InputError("not a data set description", file=path, found=type(found).__name__)
    if found.get("annotations") != ANNOTATIONS:
        raise InputError(
            "the description of a project names its own file",
            file=path,
            field="annotations",
            found=repr(found.get("annotations")),
            expected=ANNOTATIONS,
        )
    return found


def _of_dataset(path: Path) -> Project:
    """The project of a data set description: a folder of its own beside it, so that nothing of it changes."""
    from weaktal.dataset import Dataset

    dataset = Dataset.load(path)
    folder = path.parent / f"{path.stem}-app"
    if (folder / DESCRIPTION).exists():
        return Project(folder)
    folder.mkdir(exist_ok=True)

    def moved(options: Mapping[str, Any]) -> dict[str, Any]:
        return {k: os.path.relpath(v, folder) if isinstance(v, Path) else v for k, v in options.items()}

    sources = dataset.features.get("sources")
    features = moved(dataset.features) if sources is None else [moved(source) for source in sources]
    entries: dict[str, Any] = {"protocol": dataset.protocol, "features": features or {"path": "features"}}
    entries["videos"] = os.path.relpath(dataset.videos, folder) if dataset.videos else "."
    if dataset.roles:
        entries["subsets"] = dict(dataset.roles)
    (folder / "runs").mkdir(exist_ok=True)
    _make(folder, dataset.name, **entries)
    project = Project(folder)
    try:
        if dataset.annotations is not None:
            project.import_annotations(dataset.annotations, "import")
        videos = _videos_inside(dataset.videos) if dataset.videos and dataset.videos.is_dir() else []
        known = {name for name, _ in project.document.of("video")}
        if videos := [p for p in videos if not known or p.stem in known]:
            project.import_videos(videos, "import")
        link_runs(path, folder / "runs")
    except BaseException:
        project.close()
        raise
    return project


def link_runs(description: Path, runs: Path) -> None:
    """Links in `runs` to the run directories beside a data set description, so that the page shows them."""
    beside = description.parent
    for config in sorted([*beside.glob("*/config.yaml"), *beside.glob("*/base/config.yaml")]):
        run = config.parent
        name = run.name if run.name != "base" else f"{run.parent.name}-base"
        if (run / "detections.json").exists() and not (runs / name).exists():
            (runs / name).symlink_to(os.path.relpath(run, runs), target_is_directory=True)
