"""The server behind the page: Starlette, on loopback, one project."""

from __future__ import annotations

import asyncio
import json
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from weaktal.app.document import Change, Edit, delete_class, merge_classes, split_key
from weaktal.app.findings import Findings, Shelf, activation, detection_id, review
from weaktal.app.jobs import SHORT, Choice, Jobs, allowed, choices, read_settings
from weaktal.app.loop import learning_curve, next_moments
from weaktal.app.media import Library, Media, Proxies, Thumbnails
from weaktal.app.project import Outcome, Project
from weaktal.app.views import Views
from weaktal.core import InputError
from weaktal.features.layouts import safetensors_about

STATIC = Path(__file__).parent / "static"
AUTHOR = re.compile(r"[A-Za-z0-9_-]{1,64}")
MOST_WAITING = 1000  # events of a page that does not fetch them
PATIENCE = 3.0  # seconds that the videos wait for a first page to be asked for, before they are looked at
PAUSE = 0.3  # and for it to be shown
BEAT = 15.0  # seconds between signs of life on a quiet stream of events
LEVELS = range(-4, 14)  # small pictures stand 2**level seconds apart


class Hub:
    """Passes what happens on to every open page, from any thread."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self.queues: set[asyncio.Queue[str]] = set()

    def tell(self, kind: str, facts: Mapping[str, Any]) -> None:
        if self.loop is None or self.loop.is_closed():
            return
        text = f"event: {kind}\ndata: {json.dumps(facts)}\n\n"
        with suppress(RuntimeError):  # the loop has just ended
            self.loop.call_soon_threadsafe(self._put, text)

    def _put(self, text: str) -> None:
        for queue in list(self.queues):
            if queue.qsize() >= MOST_WAITING:
                while not queue.empty():
                    queue.get_nowait()
                text = "event: reload\ndata: {}\n\n"
            queue.put_nowait(text)

    async def stream(self) -> AsyncIterator[str]:
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.queues.add(queue)
        try:
            yield "retry: 500\nevent: hello\ndata: {}\n\n"
            while True:
                try:
                    yield await asyncio.wait_for(queue.get(), BEAT)
                except TimeoutError:
                    yield ": still here\n\n"
        finally:
            self.queues.discard(queue)


class Room:
    """A project with everything that serves it; the routes are its methods."""

    def __init__(self, project: Project) -> None:
        self.project = project
        cache = project.folder / "cache"
        self.hub = Hub()
        self.library = Library(cache, project.video_path, self._looked)
        self.proxies = Proxies(cache / "proxies", self._proxied)
        self.thumbnails = Thumbnails()
        self.views = Views(project, self.library, self.proxies)
        self.cache = cache
        self.shelf = Shelf()
        self.jobs = Jobs(project, self._worked)
        self._choices: list[Choice] | None = None
        self._ready: set[str] = set()
        self._seen = threading.Event()
        self._stop = project.listen(self._heard)

    def begin(self) -> None:
        """Look at the videos and the features, in the background."""
        self.jobs.begin()
        self.views.find_features()
        with self.project.lock:
            names = [name for name, _ in self.project.document.of("video")]
        self._seen.wait(PATIENCE)  # thousands of headers must not be read while the first page waits
        self.library.want(names)

    def close(self) -> None:
        self._seen.set()
        self._stop()
        self.jobs.close()
        self.proxies.close()
        self.library.close()
        self.thumbnails.close()
        self.project.close()

    # ---- what happens by itself

    def _heard(self, kind: str, facts: Mapping[str, Any]) -> None:
        if kind == "edit":
            self.hub.tell("edit", self.views.edit_event(facts["entry"]))
        else:
            self.hub.tell(kind, facts)

    def _looked(self, found: Mapping[str, Media]) -> None:
        self.views.forget(found)
        with self.project.lock:
            state = self.project.document.state
            changes: list[tuple[str, dict[str, Any] | None]] = []
            for name, media in found.items():
                record = state.get(f"video/{name}")
                if record is not None and record["duration"] is None and media.duration is not None:
                    changes.append((f"video/{name}", {"duration": media.duration, "fps": media.fps}))
            if changes:
                self.project.change("look at videos", changes, "library")
        self.rows(found)

    def rows(self, names: Any) -> None:
        """Tell the pages of videos whose row has changed."""
        rows = [row for name in names if (row := self.views.row(name)) is not None]
        if rows:
            self.hub.tell("rows", {"rows": rows})

    def _worked(self, state: dict[str, Any]) -> None:
        steps = {
            f"{r['name']}/{s['name']}/{s.get('done')}"
            for r in state["runs"]
            for s in r["steps"]
            if s["name"] == "extract"
        }
        if steps != self._ready:  # there may be new features
            self._ready = steps
            before = self.views.features
            self.rows(before ^ self.views.find_features())
        self.hub.tell("jobs", state)

    def _proxied(self, name: str, state: Mapping[str, Any]) -> None:
        self.hub.tell("proxy", {"video": name, **state})

    # ---- the page

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})

    async def get_project(self, request: Request) -> Response:
        found = await answer(self.views.project_view, _author(request.query_params.get("author")))
        asyncio.get_running_loop().call_later(PAUSE, self._seen.set)
        return found

    async def get_video(self, request: Request) -> Response:
        return await answer(self.views.video_view, request.path_params["name"])

    async def events(self, request: Request) -> Response:
        return StreamingResponse(
            self.hub.stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store"}
        )

    # ---- edits

    async def post_edit(self, request: Request) -> Response:
        body = await json_of(request)

        def work() -> dict[str, Any]:
            author = _author(body.get("author"))
            base, label, changes = body.get("base"), body.get("label"), body.get("changes")
            if not isinstance(base, int) or not isinstance(label, str) or not isinstance(changes, list):
                raise InputError("an edit has 'author', 'base', 'label' and 'changes'")
            parsed = tuple(map(Change.parse, changes))
            for change in parsed:
                if split_key(change.key)[0] == "video" and change.fields is not None:
                    # which files are served is not for edits to say
                    for field in ("path", "bytes"):
                        if field in change.fields:
                            raise InputError(
                                "this field is set by import only", field=change.key, found=field
                            )
            outcome = self.project.edit(Edit(author, base, label[:200], parsed))
            return self.views.outcome(outcome, author)

        return await answer(work)

    async def post_undo(self, request: Request) -> Response:
        return await self._back(request, self.project.undo)

    async def post_redo(self, request: Request) -> Response:
        return await self._back(request, self.project.redo)

    async def _back(self, request: Request, what: Callable[[str], Outcome]) -> Response:
        body = await json_of(request)

        def work() -> dict[str, Any]:
            author = _author(body.get("author"))
            return self.views.outcome(what(author), author)

        return await answer(work)

    async def post_read(self, request: Request) -> Response:
        """The notices have been read."""
        self.project.notices.clear()
        return JSONResponse({})

    # ---- edits that the server puts together, as they reach into videos that no page has open

    async def post_remove(self, request: Request) -> Response:
        body = await json_of(request)

        def changes() -> tuple[str, tuple[Change, ...]]:
            names = body.get("names")
            if not isinstance(names, list) or not all(isinstance(n, str) for n in names):
                raise InputError("name the videos", field="names", found=repr(names)[:100])
            keys = [k for name in names for k in reversed(self.project.document.keys_of_video(name))]
            return f"remove {len(names)} videos", tuple(Change(k, None) for k in keys)

        return await self._whole(body, changes)

    async def post_merge(self, request: Request) -> Response:
        body = await json_of(request)

        def changes() -> tuple[str, tuple[Change, ...]]:
            source, target = self._class(body.get("class")), self._class(body.get("into"))
            if source == target:
                raise InputError("a class cannot be merged into itself")
            names = [self.project.document.state[f"class/{c}"]["name"] for c in (source, target)]
            return f"merge {names[0]} into {names[1]}", merge_classes(self.project.document, source, target)

        return await self._whole(body, changes)

    async def post_delete_class(self, request: Request) -> Response:
        body = await json_of(request)

        def changes() -> tuple[str, tuple[Change, ...]]:
            id_ = self._class(body.get("class"))
            name = self.project.document.state[f"class/{id_}"]["name"]
            return f"delete class {name}", delete_class(self.project.document, id_)

        return await self._whole(body, changes)

    def _class(self, value: object) -> str:
        if not isinstance(value, str) or f"class/{value}" not in self.project.document.state:
            raise InputError("no such class", found=repr(value)[:100])
        return value

    async def _whole(
        self, body: dict[str, Any], changes: Callable[[], tuple[str, tuple[Change, ...]]]
    ) -> Response:
        def work() -> dict[str, Any]:
            author = _author(body.get("author"))
            with self.project.lock:
                label, parts = changes()
                version = self.project.document.version
                return self.views.outcome(self.project.edit(Edit(author, version, label, parts)), author)

        return await answer(work)

    # ---- videos

    async def post_videos(self, request: Request) -> Response:
        body = await json_of(request)

        def work() -> dict[str, Any]:
            paths = body.get("paths")
            if not isinstance(paths, list) or not paths or not all(isinstance(p, str) for p in paths):
                raise InputError("name videos or folders", found=repr(paths)[:100])
            found = [Path(p.strip()).expanduser() for p in paths if p.strip()]
            for path in found:
                if not path.is_absolute():
                    raise InputError(
                        "a path begins at the root", found=str(path), expected="/folder/video.mp4"
                    )
                if not path.exists():
                    raise InputError("no such file or folder", file=path)
            names = self.project.import_videos(found, _author(body.get("author")))
            self.library.want(names)
            return {"added": names}

        return await answer(work)

    async def post_accept(self, request: Request) -> Response:
        """The person says that a changed file is right: what it is now is what its labels are about."""
        name = request.path_params["name"]

        def work() -> dict[str, Any]:
            media = self.library.now(name)
            if media.error:
                raise InputError(media.error, found=name)
            fields = {"bytes": media.bytes, "duration": media.duration, "fps": media.fps}
            self.project.change(f"accept the file of {name}", [(f"video/{name}", fields)])
            self.views.forget([name])
            self.rows([name])
            return {}

        return await answer(work)

    async def media(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = await run_in_threadpool(self._file_of, name)
        kind = {".webm": "video/webm", ".mov": "video/mp4"}.get(path.suffix.lower(), "video/mp4")
        return FileResponse(path, media_type=kind, headers={"Cache-Control": "private, max-age=3600"})

    def _file_of(self, name: str) -> Path:
        path = self.project.video_path(name)
        if path is None or not path.is_file():
            raise HTTPException(404, "the video's file is not there")
        proxy = self.proxies.ready(name, path)
        if proxy is not None:
            return proxy
        if not self.library.now(name).playable:
            raise HTTPException(404, "browsers cannot play this video; ask for a proxy")
        return path

    async def frames(self, request: Request) -> Response:
        name = request.path_params["name"]

        def work() -> bytes:
            return bytes(self.library.times(name).astype("<f8").tobytes())

        try:
            return Response(await run_in_threadpool(work), media_type="application/octet-stream")
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)

    async def thumbnail(self, request: Request) -> Response:
        name, level, index = (request.path_params[k] for k in ("name", "level", "index"))
        level = int(level)
        path = self.project.video_path(name)
        if level not in LEVELS or path is None or not 0 <= index < 1 << 24:
            raise HTTPException(404)

        def work() -> bytes:
            stat = path.stat()
            stamp = f"{stat.st_size}-{stat.st_mtime_ns}"
            kept = self.cache / "thumbnails" / name / stamp / f"{level}_{index}.jpg"
            if kept.exists():
                return bytes(kept.read_bytes())
            step = 2.0**level
            made = self.thumbnails.at(path, (index + 0.5) * step if index else 0.0, step)
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkstemp(dir=kept.parent, suffix=".part")[1])
            partial.write_bytes(made)
            partial.replace(kept)
            return made

        try:
            jpeg = await run_in_threadpool(work)
        except (InputError, OSError) as error:
            raise HTTPException(404, str(error)) from None
        return Response(jpeg, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=86400"})

    async def post_proxy(self, request: Request) -> Response:
        name = request.path_params["name"]

        def work() -> dict[str, Any]:
            path = self.project.video_path(name)
            if path is None or not path.exists():
                raise InputError("the video's file is not there", found=name)
            if self.proxies.ready(name, path) is None:
                self.proxies.ask(name, path)
            return self.proxies.state(name, path)

        return await answer(work)

    # ---- training

    async def get_training(self, request: Request) -> Response:
        """What can be trained, with what there is."""

        def work() -> dict[str, Any]:
            if self._choices is None:
                self._choices = choices()
            with self.project.lock:
                names = [name for name, _ in self.project.document.of("video")]
                possible = allowed(self.project.document)
            missing = [n for n in names if n not in self.views.features]
            return {
                "choices": [vars(c) for c in self._choices],
                "allowed": possible,
                "missing": len(missing),
                "features": len(names) - len(missing),
                "extractor": self._extractor(),
                **self.jobs.state(),
            }

        return await answer(work)

    def _extractor(self) -> dict[str, Any] | None:
        """What made the features that are there; what makes them where there are none; None if unknown."""
        folder = self.views.features_folder()
        for path in sorted(folder.glob("[!.]*.safetensors")) if folder.is_dir() else ():
            made = safetensors_about(path).get("extractor")
            return {"backbone": made["name"], "options": made["options"], "given": True} if made else None
        if folder.exists() and (folder.is_file() or any(folder.iterdir())):
            return None
        return {"backbone": "motion", "options": SHORT, "given": False}

    async def get_runs(self, request: Request) -> Response:
        return await answer(self.jobs.state)

    async def post_train(self, request: Request) -> Response:
        body = await json_of(request)

        def work() -> dict[str, Any]:
            known = {c.name: c for c in self._choices or choices()}
            method, seed, backbone = body.get("method"), body.get("seed", 0), body.get("backbone")
            settings = body.get("settings", [])
            if not isinstance(settings, list) or not all(isinstance(s, str) for s in settings):
                raise InputError("settings are a list of KEY=VALUE", found=repr(settings)[:100])
            if not isinstance(method, str) or method not in known:
                raise InputError(
                    "no such method", found=repr(method)[:100], expected="one of " + ", ".join(known)
                )
            if not isinstance(seed, int) or not 0 <= seed < 2**31:
                raise InputError("a seed is a whole number from 0", found=repr(seed)[:100])
            with self.project.lock:
                names = [name for name, _ in self.project.document.of("video")]
            missing = [n for n in self.views.find_features() ^ set(names) if n in names]
            extractor = self._extractor()
            if extractor and not extractor["given"] and isinstance(backbone, dict):
                extractor = {"backbone": str(backbone["backbone"]), "options": dict(backbone["options"])}
            plain = None if extractor is None else {k: extractor[k] for k in ("backbone", "options")}
            if missing and plain is None and len(missing) == len(names):
                raise InputError(
                    "there are features here that the page cannot make more of", hint="weaktal extract"
                )
            name = self.jobs.start(
                known[method],
                settings=read_settings(settings),
                seed=seed,
                missing=missing,
                features=self.views.features_folder(),
                extractor=plain,
            )
            return {"run": name}

        return await answer(work)

    async def post_stop(self, request: Request) -> Response:
        return await answer(lambda: self.jobs.stop(request.path_params["run"]))

    async def post_resume(self, request: Request) -> Response:
        return await answer(lambda: self.jobs.resume(request.path_params["run"]))

    async def get_log(self, request: Request) -> Response:
        return await answer(lambda: {"text": self.jobs.tail(request.path_params["run"])})

    # ---- what runs have found

    def _findings(self, names: str) -> dict[str, Findings]:
        """Of the runs that a request names, those that have found something."""
        asked = [n for n in names.split(",") if n]
        with self.project.lock:
            document = self.project.document
            return {name: self.shelf.get(self.jobs.path(name), document) for name in asked}

    async def get_review(self, request: Request) -> Response:
        def work() -> dict[str, Any]:
            found = self._findings(request.query_params.get("runs", ""))
            with self.project.lock:
                return {"version": self.project.document.version, **review(self.project.document, found)}

        return await answer(work)

    async def get_found(self, request: Request) -> Response:
        """Detections and activation of runs in one video."""
        name = request.path_params["name"]

        def work() -> dict[str, Any]:
            out = []
            for run, found in self._findings(request.query_params.get("runs", "")).items():
                rows = np.flatnonzero(found.detections.video == _place(found.detections.names, name))
                d = found.detections[rows]
                detections = [
                    {
                        "run": run, "class": d.classes[c], "start": s, "end": e, "score": round(p, 4),
                        "status": "", "id": detection_id(name, d.classes[c], s, e),
                    }
                    for c, s, e, p in zip(
                        d.label.tolist(), d.start.tolist(), d.end.tolist(), found.certainty[rows].tolist(),
                        strict=True,
                    )
                ]  # fmt: skip
                out.append({"run": run, "detections": detections, "activation": activation(found, name)})
            return {"runs": out}

        return await answer(work)

    async def get_next(self, request: Request) -> Response:
        """What should be labelled next, and how good labels have made the runs."""

        def work() -> dict[str, Any]:
            names = [n for n in self.jobs.names() if (self.jobs.folder / n / "detections.json").exists()]
            asked = [
                n for n in request.query_params.get("runs", ",".join(names[-3:])).split(",") if n in names
            ]
            found = self._findings(",".join(asked))
            with self.project.lock:
                moments = next_moments(self.project, found, self.views.features)
                curve = learning_curve(self.project, self.jobs, self.shelf)
            return {"runs": names, "used": asked, "moments": moments, "curve": curve}

        return await answer(work)

    # ---- annotations in and out

    async def post_annotations(self, request: Request) -> Response:
        name = Path(request.query_params.get("name", "annotations.json")).name
        author = _author(request.query_params.get("author"))
        content = await request.body()

        def work() -> dict[str, Any]:
            from weaktal.formats import load_annotations

            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / (name or "annotations.json")
                path.write_bytes(content)
                with self.project.lock:
                    videos = list(self.project.document.of("video"))
                fps = {video: record["fps"] for video, record in videos if record["fps"]}
                try:
                    found = load_annotations(path, fps=fps)
                except InputError as error:
                    raise InputError(str(error).replace(f"{folder}/", "")) from None
            with self.project.lock:
                outcome = self.project.import_annotations(found, author)
            count = 0 if outcome.entry is None else len(outcome.entry.changes)
            return {"changes": count, "videos": len(found), **self.views.way_back(author)}

        return await answer(work)

    async def get_export(self, request: Request) -> Response:
        from weaktal.app.export import export

        kind = request.query_params.get("format", "activitynet")
        try:
            name, content, notes = await run_in_threadpool(export, self.project, kind)
        except InputError as error:
            return JSONResponse({"error": str(error)}, 400)
        headers = {
            "Content-Disposition": f'attachment; filename="{name}"',
            "X-Notes": quote("; ".join(notes)[:2000]),
        }
        return Response(content, media_type="application/octet-stream", headers=headers)

    async def get_formats(self, request: Request) -> Response:
        from weaktal.app.export import formats

        return await answer(formats)

    # ---- all together

    def routes(self) -> list[Route | Mount]:
        video = "/api/videos/{name:path}"
        return [
            Route("/", self.page),
            Mount("/static", StaticFiles(directory=STATIC), name="static"),
            Route("/api/project", self.get_project),
            Route("/api/events", self.events),
            Route("/api/edits", self.post_edit, methods=["POST"]),
            Route("/api/undo", self.post_undo, methods=["POST"]),
            Route("/api/redo", self.post_redo, methods=["POST"]),
            Route("/api/remove", self.post_remove, methods=["POST"]),
            Route("/api/classes/merge", self.post_merge, methods=["POST"]),
            Route("/api/classes/delete", self.post_delete_class, methods=["POST"]),
            Route("/api/training", self.get_training),
            Route("/api/runs", self.get_runs),
            Route("/api/train", self.post_train, methods=["POST"]),
            Route("/api/runs/{run}/stop", self.post_stop, methods=["POST"]),
            Route("/api/runs/{run}/resume", self.post_resume, methods=["POST"]),
            Route("/api/runs/{run}/log", self.get_log),
            Route("/api/review", self.get_review),
            Route("/api/next", self.get_next),
            Route("/api/found/{name:path}", self.get_found),
            Route("/api/notices/read", self.post_read, methods=["POST"]),
            Route("/api/formats", self.get_formats),
            Route("/api/export", self.get_export),
            Route("/api/import/annotations", self.post_annotations, methods=["POST"]),
            Route("/api/import/videos", self.post_videos, methods=["POST"]),
            Route("/api/frames/{name:path}", self.frames),
            Route("/api/thumbnails/{level}/{index:int}/{name:path}", self.thumbnail),
            Route("/api/proxies/{name:path}", self.post_proxy, methods=["POST"]),
            Route("/api/accept/{name:path}", self.post_accept, methods=["POST"]),
            Route("/media/{name:path}", self.media),
            Route(video, self.get_video),
        ]


def _place(names: Sequence[str], name: str) -> int:
    return names.index(name) if name in names else -1


def _author(value: object) -> str:
    if not isinstance(value, str) or not AUTHOR.fullmatch(value):
        raise InputError("a page says who it is", field="author", found=repr(value)[:80])
    return value


async def json_of(request: Request) -> dict[str, Any]:
    """The body of a request: a JSON object."""
    if request.headers.get("content-type", "").split(";")[0] != "application/json":
        raise HTTPException(415, "send application/json")
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise HTTPException(400, "malformed JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "send an object")
    return body


async def answer(work: Callable[..., Any], *args: Any) -> JSONResponse:
    """Do something in a thread; the user's mistakes come back as ``{"error": ...}``."""
    try:
        return JSONResponse(await run_in_threadpool(work, *args))
    except InputError as error:
        return JSONResponse({"error": str(error)}, 400)


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _wrong(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


def application(room: Room) -> Starlette:
    """The application of a project; it closes the project when it ends."""

    @asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        room.hub.loop = asyncio.get_running_loop()
        beginning = asyncio.create_task(run_in_threadpool(room.begin))
        watching = asyncio.create_task(_watch(room))
        yield
        beginning.cancel()
        watching.cancel()
        await run_in_threadpool(room.close)

    handlers: dict[Any, Any] = {HTTPException: _error, InputError: _wrong}
    return Starlette(routes=room.routes(), lifespan=life, exception_handlers=handlers)


async def _watch(room: Room) -> None:
    """See from time to time whether somebody has changed the annotations by hand."""
    while True:
        await asyncio.sleep(1.0)
        began = time.monotonic()
        await run_in_threadpool(room.project.refresh)
        await asyncio.sleep(min(10.0, 5 * (time.monotonic() - began)))
