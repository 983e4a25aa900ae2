"""What the page is told: projects, videos and edits as plain JSON values."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weaktal.app.annotations_file import ordered_classes
from weaktal.app.document import Conflict, Entry, split_key, video_of
from weaktal.app.media import Library, Media, Proxies
from weaktal.app.project import Outcome, Project, stamps
from weaktal.core import InputError

LOST = 0.5  # seconds by which two readings of one duration may differ


class Views:
    """Looks at a project for the page; what is asked often is kept until it changes.

    Rows reach a page as answers and as events, in any order; of two rows of a video the one with the greater
    ``stamp`` is the newer one.
    """

    def __init__(self, project: Project, library: Library, proxies: Proxies) -> None:
        self.project, self.library, self.proxies = project, library, proxies
        self.features: frozenset[str] = frozenset()
        self.features_error: str | None = None
        self._rows: dict[str, dict[str, Any]] = {}
        self._stamps = stamps()

    def find_features(self) -> frozenset[str]:
        """Which videos have features: from the names of files where that is enough."""
        entry = self.project.description.get("features") or {}
        options = {"path": entry} if isinstance(entry, str) else dict(entry)
        folder = self.project.folder / options.pop("path", "features")
        found: Iterable[str] = ()
        self.features_error = None
        if folder.is_dir() and not options:
            found = (p.name.removesuffix(".safetensors") for p in folder.glob("[!.]*.safetensors"))
        names = frozenset(found)
        if not names and folder.exists() and (folder.is_file() or any(folder.iterdir())):
            from weaktal.dataset import Dataset

            try:
                names = frozenset(Dataset.load(self.project.folder / "project.yaml").store.names)
            except InputError as error:
                self.features_error = str(error)
        with self.project.lock:  # not while a row is made of what was known before
            changed, self.features = self.features ^ names, names
            self.forget(changed)
        return names

    def features_folder(self) -> Path:
        """Where features of this project lie."""
        entry = self.project.description.get("features") or {}
        path = entry if isinstance(entry, str) else entry.get("path", "features")
        return self.project.folder / path

    def forget(self, names: Iterable[str]) -> None:
        """These videos have changed."""
        with self.project.lock:
            for name in names:
                self._rows.pop(name, None)

    # ---- one after the other

    def row(self, name: str) -> dict[str, Any] | None:
        """A video as the library shows it; None if there is none."""
        with self.project.lock:
            row = self._rows.get(name)
            if row is None:
                row = self._row(name)
                if row is not None:
                    self._rows[name] = row
            return row

    def _removed(self, name: str) -> dict[str, Any]:
        return {"name": name, "removed": True, "stamp": next(self._stamps)}

    def _row(self, name: str) -> dict[str, Any] | None:
        state = self.project.document.state
        video = state.get(f"video/{name}")
        if video is None:
            return None
        counts = {"click": 0, "segment": 0, "negative": 0}
        tags: dict[str, str] = {}
        seen: dict[str, int] = {}
        for key in self.project.document.keys_of_video(name):
            parts = split_key(key)
            if parts[0] in counts:
                counts[parts[0]] += 1
                if parts[0] != "negative":
                    c = state[key]["class"]
                    seen[c] = seen.get(c, 0) + 1
            elif parts[0] == "tag":
                tags[parts[1]] = state[key]["value"]
        touched = any(counts.values()) or bool(tags) or video["nothing"]
        media = self.library.get(name)
        return {
            "name": name,
            "duration": video["duration"],
            "fps": video["fps"],
            "subset": video["subset"],
            "state": "done" if video["done"] else "work" if touched else "untouched",
            "nothing": video["nothing"],
            "note": video["note"],
            "tags": tags,
            "seen": seen,
            "clicks": counts["click"],
            "segments": counts["segment"],
            "negatives": counts["negative"],
            "features": name in self.features,
            "trouble": trouble(video, media),
            "playable": bool(media and media.playable),
            "stamp": next(self._stamps),
        }

    def project_view(self, author: str) -> dict[str, Any]:
        """All that the first page needs."""
        project = self.project
        with project.lock:
            document = project.document
            classes = [{"id": i, **r} for i, r in ordered_classes(document).items()]
            rows = [self.row(name) for name, _ in document.of("video")]
            return {
                "name": project.name,
                "folder": str(project.folder),
                "version": document.version,
                "classes": classes,
                "videos": rows,
                "notices": list(project.notices),
                "featuresError": self.features_error,
                **self.way_back(author),
            }

    def way_back(self, author: str) -> dict[str, Any]:
        """What undo and redo would do for an author."""
        document = self.project.document
        return {"undo": document.undo_label(author), "redo": document.redo_label(author)}

    def video_view(self, name: str) -> dict[str, Any]:
        """All records of a video, and what its file is."""
        before = self.library.get(name)
        media = self.library.now(name)
        if media != before:
            self.forget([name])
        project = self.project
        with project.lock:
            document = project.document
            row = self.row(name)
            if row is None:
                raise InputError("no such video in this project", found=name)
            records = {k: document.state[k] for k in document.keys_of_video(name)}
            path = project.video_path(name)
            return {
                "row": row,
                "version": document.version,
                "records": records,
                "media": {
                    "width": media.width,
                    "height": media.height,
                    "codec": media.codec,
                    "bytes": media.bytes,
                    "error": media.error,
                    "playable": media.playable,
                    "stamp": f"{media.bytes}-{media.modified}",
                    "path": str(path) if path else "",
                    "proxy": self.proxies.state(name, path),
                },
            }

    def edit_event(self, entry: Entry) -> dict[str, Any]:
        """An edit as every page is told of it."""
        names = videos_of(entry)
        self.forget(names)
        return {
            "version": entry.version,
            "author": entry.author,
            "label": entry.label,
            "changes": [{"key": c.key, "record": c.after, "video": _where(c.key, c)} for c in entry.changes],
            "rows": [self.row(name) or self._removed(name) for name in names],
        }

    def outcome(self, outcome: Outcome, author: str) -> dict[str, Any]:
        """What became of an edit, for who made it."""
        with self.project.lock:
            event = None if outcome.entry is None else self.edit_event(outcome.entry)
            conflicts = [conflict_view(c) for c in outcome.conflicts]
            version = self.project.document.version
            return {"version": version, "edit": event, "conflicts": conflicts, **self.way_back(author)}


def _where(key: str, change: Any) -> str | None:
    return video_of(key, change.after or change.before or {})


def videos_of(entry: Entry) -> list[str]:
    """The videos that an edit touches; all that had an item of a class are told by its items."""
    names: dict[str, None] = {}
    for c in entry.changes:
        for record in (c.before, c.after):
            name = video_of(c.key, record) if record is not None else None
            if name is not None:
                names[name] = None
    return list(names)


def conflict_view(conflict: Conflict) -> dict[str, Any]:
    return {
        "key": conflict.key,
        "mine": None if conflict.mine is None else dict(conflict.mine),
        "theirs": conflict.theirs,
        "reason": conflict.reason,
    }


def trouble(video: dict[str, Any], media: Media | None) -> str | None:
    """What is wrong with a video's file, for people; None if nothing is known to be."""
    if not video["path"]:
        return "no file is known for this video"
    if media is None:
        return None
    if media.error is not None:
        return f"{media.error}: {video['path']}"
    if video["bytes"] is not None and media.bytes != video["bytes"]:
        was, now = video["duration"], media.duration
        if was is not None and now is not None and abs(was - now) > LOST:
            return f"the file has changed: it was {was:.2f} s long and is {now:.2f} s; labels may not fit"
        return "the file has changed since it was imported; labels may not fit"
    return None
