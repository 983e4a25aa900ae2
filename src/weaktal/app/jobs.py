"""Runs of a project: started as processes of their own, watched, stopped, resumed, and found again."""

from __future__ import annotations

import ast
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from weaktal.app import annotations_file
from weaktal.app.document import Document, Record, split_key
from weaktal.app.project import Project, stamps
from weaktal.app.work import JOB, LOCK, PROGRESS, hold
from weaktal.core import InputError, did_you_mean, write_text
from weaktal.core.names import file_name
from weaktal.core.reading import parse_yaml
from weaktal.features.layouts import safetensors_about

RECIPES = ("own", "demo")  # the first that a method has is used
MOST_POINTS = 300  # of a curve of losses
BEAT = 0.7  # seconds between looks at what runs
SHORT = {"window": 6}  # of the motion backbone: 0.4 seconds, for actions of one to a few seconds


@dataclass(frozen=True)
class Choice:
    """A method that can be trained from the page.

    Attributes:
        name, supervision, recipe: of the method.
        title: what it is, in a line.
    """

    name: str
    supervision: str
    recipe: str
    title: str


def choices() -> list[Choice]:
    """The methods with a recipe for one's own videos.

    Read from their source: importing them takes torch, and seconds, which the server does without.
    """
    package = Path(str(files("weaktal")))
    out = []
    for folder in sorted((package / "recipes").iterdir()):
        recipe = next((r for r in RECIPES if (folder / f"{r}.yaml").exists()), None)
        source = package / "methods" / f"{folder.name}.py"
        if recipe is None or not source.exists():
            continue
        tree = ast.parse(source.read_text(encoding="utf-8"))
        title = (ast.get_docstring(tree) or folder.name).splitlines()[0]
        supervision = next(filter(None, map(_supervision, ast.walk(tree))), None)
        if supervision is not None:
            out.append(Choice(folder.name, supervision, recipe, title))
    return out


def _supervision(node: ast.AST) -> str | None:
    """The value of an assignment ``supervision = "..."``."""
    if isinstance(node, ast.AnnAssign):
        target: ast.expr = node.target
    elif isinstance(node, ast.Assign):
        target = node.targets[0]
    else:
        return None
    value = node.value
    if isinstance(target, ast.Name) and target.id == "supervision" and isinstance(value, ast.Constant):
        return str(value.value)
    return None


def read_settings(lines: Sequence[str]) -> dict[str, Any]:
    """``key=value`` texts as a mapping; values are YAML.

    >>> read_settings(["lr=3e-4", "steps = 40"])
    {'lr': 0.0003, 'steps': 40}

    Raises:
        InputError: a text that is none.
    """
    out: dict[str, Any] = {}
    for line in lines:
        key, equals, text = line.partition("=")
        if not equals or not key.strip():
            raise InputError("a setting is KEY=VALUE", field="settings", found=repr(line)[:100])
        try:
            value = parse_yaml(text)
            value = float(value) if isinstance(value, str) else value  # YAML 1.1 takes 3e-4 for a text
        except (InputError, ValueError):
            value = text.strip()
        out[key.strip()] = value
    return out


# ---------------------------------------------------------------------------- what labels allow


def trainable(document: Document, supervision: str) -> list[str]:
    """Videos that a method can learn from: those not held out, in which a class occurs, or nothing does.

    For point-level supervision, videos with clicks (or segments, which give clicks).
    """
    names = []
    for name, video in document.of("video"):
        if video["subset"] == "test":
            continue
        if video["nothing"]:
            names.append(name)
            continue
        for key in document.keys_of_video(name):
            kind = split_key(key)[0]
            tagged = kind == "tag" and document.state[key]["value"] == "occurs" and supervision == "video"
            if tagged or kind in ("click", "segment"):
                names.append(name)
                break
    return names


def allowed(document: Document) -> dict[str, Any]:
    """What can be trained with the labels that are there, and why something cannot, for people."""
    out: dict[str, Any] = {}
    for supervision, what in (("video", "a tag, a click or a segment"), ("point", "clicks")):
        names = trainable(document, supervision)
        reason = None
        if sum(not document.state[f"video/{n}"]["nothing"] for n in names) < 2:
            reason = f"label at least two videos for training with {what}"
        out[supervision] = {"videos": len(names), "reason": reason}
    return out


def write_inputs(project: Project, folder: Path, supervision: str) -> tuple[Path, list[str], list[str]]:
    """The data set of a run, as it is now: what is trained on is the subset train, all else is test.

    Returns:
        Its description, the videos that are trained on, and all videos.

    Raises:
        InputError: too few labels.
    """
    with project.lock:
        document = project.document
        chosen = trainable(document, supervision)
        reason = allowed(document)[supervision]["reason"]
        if reason:
            raise InputError("there is too little to learn from", hint=reason)
        everything = [name for name, _ in document.of("video")]
        train = set(chosen)
        database = {}
        for name in everything:
            entry = annotations_file.video_entry(document, name)
            entry["subset"] = "train" if name in train else "rest"
            database[name] = entry
        names = [r["name"] for r in annotations_file.ordered_classes(document).values()]
    content = json.dumps({"version": "weaktal 1", "classes": names, "database": database})
    write_text(folder / "annotations.json", content + "\n")
    subsets = {"train": "train"} | ({"test": "rest"} if len(chosen) < len(everything) else {})
    features = project.description.get("features") or {"path": "features"}
    features = {"path": features} if isinstance(features, str) else dict(features)
    features["path"] = os.path.relpath(project.folder / features["path"], folder)
    description = {
        "name": project.name,
        "annotations": "annotations.json",
        "subsets": subsets,
        "features": features,
        "protocol": project.description.get("protocol", "activitynet"),
    }
    write_text(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    return folder / "data.yaml", chosen, everything


# ------------------------------------------------------------------------------------ the log


@dataclass
class _Log:
    """The losses of a run so far; only what is new is read."""

    offset: int = 0
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    stage: str = ""
    size: int = 0

    def read(self, path: Path) -> None:
        try:
            size = path.stat().st_size
        except OSError:
            return
        if size < self.offset:  # resumed: lines after the checkpoint were dropped
            self.offset, self.steps, self.losses = 0, [], []
        with path.open("rb") as file:
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self.offset += len(line)
                try:
                    said = json.loads(line)
                    if "total" in said:
                        self.steps.append(int(said["total_step"]))
                        self.losses.append(float(said["total"]))
                        self.stage = str(said["stage"])
                except (ValueError, KeyError, TypeError):
                    continue

    def curve(self) -> list[list[float]]:
        """Points of the curve: step, and the mean loss of the steps around it."""
        n = len(self.steps)
        size = max(1, -(-n // MOST_POINTS))
        parts = [(self.steps[i : i + size], self.losses[i : i + size]) for i in range(0, n, size)]
        return [[steps[-1], round(sum(losses) / len(losses), 5)] for steps, losses in parts]


class Jobs:
    """The runs of a project.

    Args:
        project: whose folder ``runs/`` they are in.
        tell: called with the `state` of all runs whenever something has changed.
    """

    def __init__(self, project: Project, tell: Callable[[dict[str, Any]], None]) -> None:
        self.project, self.tell = project, tell
        self.folder = project.folder / "runs"
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[Path, _Log] = {}
        self._rates: dict[str, tuple[float, int]] = {}
        self._static: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._stamps = stamps()
        self._wake = threading.Event()
        self._closing = False
        self._last = ""
        self._thread = threading.Thread(target=self._watch, name="jobs", daemon=True)

    def begin(self) -> None:
        """Watch what runs, from now on."""
        self._thread.start()

    # ---- looking

    def names(self) -> list[str]:
        """Run directories, in order of their making."""
        if not self.folder.is_dir():
            return []
        found = [p for p in self.folder.iterdir() if (p / JOB).exists() or (p / "config.yaml").exists()]
        return [p.name for p in sorted(found, key=lambda p: (self._made(p), p.name))]

    def _made(self, path: Path) -> float:
        for name in (JOB, "config.yaml"):
            if (path / name).exists():
                said = _json(path / name) if name == JOB else {}
                return float(said.get("created") or (path / name).stat().st_mtime)
        return 0.0

    def path(self, name: object) -> Path:
        """The directory of a run.

        Raises:
            InputError: there is none of that name.
        """
        known = self.names()
        if not isinstance(name, str) or name not in known:
            raise InputError("no such run", found=repr(name)[:100], hint=did_you_mean(str(name), known))
        return self.folder / name

    def running(self, name: str) -> bool:
        """Whether a process works on a run."""
        child = self._children.get(name)
        if child is not None:
            if child.poll() is None:
                return True
            del self._children[name]
        path = self.folder / name
        if not (path / LOCK).exists():
            return False
        lock = hold(path)
        if lock is None:
            return True
        lock.close()
        return False

    def view(self, name: str) -> dict[str, Any]:
        """A run as the page shows it."""
        path = self.folder / name
        job, progress = _json(path / JOB), _json(path / PROGRESS)
        running = self.running(name)
        state = progress.get("state", "waiting" if job else "done")
        if running and state != "running":
            state = "starting"
        elif not running and state in ("running", "waiting"):
            state = "interrupted"
        stages = (
            next((s.get("stages") for s in progress.get("steps", ()) if s["name"] == "train"), None) or []
        )
        done, total, stage = 0, sum(s["steps"] for s in stages), ""
        curve: list[list[float]] = []
        folders = list(dict.fromkeys(s["folder"] for s in stages)) or ["."]
        for each in folders:
            file = path / each / "log.jsonl"
            log = self._logs.setdefault(file, _Log())
            log.read(file)
            done += log.steps[-1] + 1 if log.steps else 0
            curve, stage = log.curve() or curve, log.stage or stage
        left = self._left(name, done, total) if running and state == "running" else None
        return {
            "name": name,
            "state": state,
            "method": job.get("method") or self._config(path).get("method"),
            "settings": [f"{k}={v}" for k, v in job.get("settings", {}).items()],
            "recipe": job.get("recipe") or self._config(path).get("recipe"),
            "supervision": job.get("supervision"),
            "seed": job.get("seed", self._config(path).get("seed")),
            "created": job.get("created"),
            "videos": job.get("videos"),
            "clicks": job.get("clicks"),
            "commands": job.get("commands", []),
            "ours": bool(job),
            "error": progress.get("error"),
            "steps": progress.get("steps", []),
            "done": done,
            "total": total,
            "stage": stage,
            "left": left,
            "curve": curve,
            "detections": (path / "detections.json").exists(),
            "metrics": self._metrics(path),
            "features": self._other_features(path),
        }

    def _left(self, name: str, done: int, total: int) -> float | None:
        """Seconds left of the training, from the pace since this process first looked."""
        now = time.monotonic()
        if not done:
            return None
        began, first = self._rates.setdefault(name, (now, done))
        if done <= first or not total:
            return None
        return (now - began) / (done - first) * max(0, total - done)

    def _config(self, path: Path) -> dict[str, Any]:
        return self._kept(path / "config.yaml", lambda text: parse_yaml(text, path))

    def _other_features(self, path: Path) -> str | None:
        """In words, how the features of the project differ from those that a run was trained on."""
        data = self._config(path).get("data") or {}
        old = data.get("features") if isinstance(data, dict) else None
        entry = self.project.description.get("features") or {}
        folder = self.project.folder / (entry if isinstance(entry, str) else entry.get("path", "features"))
        first = next(iter(sorted(folder.glob("[!.]*.safetensors"))), None) if folder.is_dir() else None
        if not isinstance(old, dict) or first is None:
            return None
        new = self._kept(first, lambda _: None, about=safetensors_about)
        keys = [k for k in ("backbone", "rate", "window", "stride", "offset") if k in old and k in new]
        different = [f"{k} {old[k]}, now {new[k]}" for k in keys if not _alike(old[k], new[k])]
        return (
            "trained on other features than those that are here: " + "; ".join(different)
            if different
            else None
        )

    def _metrics(self, path: Path) -> dict[str, Any] | None:
        said = self._kept(path / "metrics.json", json.loads)
        average = said.get("average_mAP")
        return {"average_mAP": average} if isinstance(average, int | float) else None

    def _kept(
        self, path: Path, parse: Callable[[str], Any], about: Callable[[Path], Any] | None = None
    ) -> dict[str, Any]:
        """A file that seldom changes, read when it does: by its text, or by `about`."""
        try:
            mark = (path.stat().st_mtime_ns, path.stat().st_size)
            known = self._static.get(str(path))
            if known is None or known[0] != mark:
                said = about(path) if about is not None else parse(path.read_text(encoding="utf-8"))
                known = (mark, said if isinstance(said, dict) else {})
                self._static[str(path)] = known
            return known[1]
        except (OSError, ValueError, InputError):
            return {}

    def state(self) -> dict[str, Any]:
        """``runs``: the views of all; ``stamp``: of two states the one with the greater is the newer one."""
        with self._lock:
            return {"stamp": next(self._stamps), "runs": [self.view(name) for name in self.names()]}

    # ---- doing

    def start(
        self,
        choice: Choice,
        *,
        seed: int,
        missing: Sequence[str],
        features: Path,
        extractor: Mapping[str, Any] | None,
        settings: Mapping[str, Any] | None = None,
        workers: int | None = None,
    ) -> str:
        """Begin a run; returns its name.

        Args:
            choice: what is trained.
            seed: of every random choice.
            missing: videos whose features are to be extracted first.
            features: the folder of features.
            extractor: ``backbone`` and ``options``, where features are missing.
            settings: hyper-parameters in place of the recipe's.
            workers: processes of the extraction.

        Raises:
            InputError: the labels do not allow it.
        """
        number = 1 + max((int(m[1]) for n in self.names() if (m := re.match(r"(\d+)-", n))), default=0)
        name = file_name(f"{number:02}-{choice.name}", what="run")
        path = self.folder / name
        inputs = path / "inputs"
        inputs.mkdir(parents=True)
        data, chosen, _ = write_inputs(self.project, inputs, choice.supervision)
        with self.project.lock:
            document = self.project.document
            ids = {r["name"]: id_ for id_, r in document.of("class")}
            clicks = sum(1 for _, r in document.of("click") if r["video"] in set(chosen))
            where = {name: self.project.video_path(name) for name in missing}
        job: dict[str, Any] = {
            "method": choice.name,
            "recipe": choice.recipe,
            "supervision": choice.supervision,
            "seed": seed,
            "settings": dict(settings or {}),
            "data": str(data),
            "videos": len(chosen),
            "trained_on": chosen,
            "classes": ids,
            "clicks": clicks,
            "created": time.time(),
        }
        commands = []
        videos = [str(p) for p in where.values() if p is not None and p.exists()]
        if videos and extractor is not None:
            job["extract"] = {"videos": videos, "out": str(features), "workers": workers, **extractor}
            options = "".join(f" --set {k}={v}" for k, v in extractor["options"].items())
            options = f"--backbone {extractor['backbone']}{options}"
            commands.append(f"weaktal extract VIDEOS {options} --out {features}")
        changed = "".join(f" --set {k}={v}" for k, v in (settings or {}).items())
        commands.append(
            f"weaktal train {choice.name} --data {data} --recipe {choice.recipe}{changed} --seed {seed} "
            f"--out {path}"
        )
        commands.append(f"weaktal localize {path} --data {data}")
        job["commands"] = commands
        write_text(path / JOB, json.dumps(job, indent=1) + "\n")
        self._launch(name)
        return name

    def _launch(self, name: str) -> None:
        path = self.folder / name
        (path / PROGRESS).unlink(missing_ok=True)
        self._rates.pop(name, None)
        with (path / "job.log").open("ab") as log:
            self._children[name] = subprocess.Popen(
                [sys.executable, "-m", "weaktal.app.work", str(path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it goes on when this process ends
            )
        self._wake.set()

    def stop(self, name: str) -> None:
        """End the process of a run; it can be resumed.

        Raises:
            InputError: nothing runs there.
        """
        path = self.path(name)
        pid = _json(path / PROGRESS).get("pid")
        child = self._children.get(name)
        if not self.running(name):
            raise InputError("this run is not running", found=name)
        if child is not None and child.poll() is None:
            pid = child.pid
        if isinstance(pid, int):
            os.kill(pid, signal.SIGTERM)
        self._wake.set()

    def resume(self, name: str) -> None:
        """Go on with a run that was stopped or has failed.

        Raises:
            InputError: it runs, or was not begun here.
        """
        path = self.path(name)
        if self.running(name):
            raise InputError("this run is running", found=name)
        if not (path / JOB).exists():
            raise InputError(
                "this run was not begun from the page", found=name, hint="weaktal train --resume"
            )
        self._launch(name)

    def tail(self, name: str) -> str:
        """The last words of a run's process."""
        try:
            with (self.path(name) / "job.log").open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - 8000))
                return file.read().decode("utf-8", "replace")
        except OSError:
            return ""

    # ---- watching

    def _watch(self) -> None:
        while not self._closing:
            busy = True
            with suppress(OSError, InputError):  # a run is being removed: the next look will do
                state = self.state()
                text = json.dumps(state["runs"])
                if text != self._last:
                    self._last = text
                    self.tell(state)
                busy = any(v["state"] in ("running", "starting") for v in state["runs"])
            self._wake.wait(BEAT if busy else 4 * BEAT)
            self._wake.clear()

    def close(self) -> None:
        """Stop watching; what runs goes on."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()


def _alike(one: object, other: object) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=1e-6, abs_tol=1e-9)
    return one == other


def _json(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said if isinstance(said, dict) else {}


def trained_on(run: Path) -> Record:
    """What a run was made of: its job, or an empty record for a run from elsewhere."""
    return _json(run / JOB)
