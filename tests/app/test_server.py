"""The server: who may talk to it, what it refuses, and that nothing outside of the project is served."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.app.conftest import Server, until
from weaktal.app.serve import is_loopback, listening
from weaktal.cli import main
from weaktal.core import InputError


@pytest.fixture(scope="module")
def shared(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One server for all that only ask it."""
    import shutil

    target = tmp_path_factory.mktemp("shared") / "project"
    shutil.copytree(videos, target)
    found = Server(target)
    with found.client() as client:
        changes = [
            {"key": "class/c1", "set": {"name": "Jump", "colour": "#3d7bd9", "key": "1"}},
            {"key": "click/k", "set": {"video": "demo_train_000", "class": "c1", "time": 1.5}},
        ]
        edit = {"author": "t", "base": 0, "label": "x", "changes": changes}
        until(lambda: client.get("/api/project?author=t").json()["videos"], "the videos")
        assert client.post("/api/edits", json=edit).json()["conflicts"] == []
        yield found, client
    found.stop()


def test_only_who_knows_the_token_may_talk(shared: tuple[Server, httpx.Client]) -> None:
    server, _ = shared
    bare = httpx.Client(base_url=server.root, trust_env=False)
    for path in ("/", "/api/project", "/api/events", "/media/demo_train_000", "/api/frames/demo_train_000"):
        assert bare.get(path).status_code == 403, path
        assert bare.get(path, params={"token": "x" * 43}).status_code == 403
    assert bare.post("/api/edits", json={}).status_code == 403
    assert bare.get("/static/app.js").status_code == 200  # no secret
    page = bare.get(server.url)
    assert page.status_code == 200
    cookie = page.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert f"weaktal-{server.port}=" in cookie  # cookies do not know ports
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    mode = (server.path / "cache/token").stat().st_mode
    assert os.name == "nt" or not mode & (stat.S_IRWXG | stat.S_IRWXO)


def test_other_pages_and_other_names_are_refused(shared: tuple[Server, httpx.Client]) -> None:
    server, client = shared
    assert client.get("/api/project?author=t", headers={"Host": "evil.example"}).status_code == 421
    assert (
        client.get("/api/project?author=t", headers={"Host": f"localhost:{server.port}"}).status_code == 200
    )
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
        assert client.post("/api/undo", json={"author": "t"}, headers=headers).status_code == 403, headers
    assert client.post("/api/undo", content="author=t").status_code == 415
    same = {"Origin": server.root.rstrip("/")}
    assert client.post("/api/redo", json={"author": "nobody"}, headers=same).status_code == 200


def test_nothing_outside_of_the_project_is_served(shared: tuple[Server, httpx.Client]) -> None:
    _, client = shared
    for path in (
        "/media/../project.yaml",
        "/media/%2e%2e%2fproject.yaml",
        "/media//etc/passwd",
        "/media/project",
        "/static/../server.py",
        "/static/%2e%2e/server.py",
        "/api/thumbnails/0/1/..%2f..%2fetc",
        "/api/videos/nobody",
    ):
        assert client.get(path).status_code in (400, 404), path
    for fields in ({"path": "/etc/passwd"}, {"bytes": 3}):
        edit = {
            "author": "t",
            "base": 99,
            "label": "x",
            "changes": [{"key": "video/demo_train_000", "set": fields}],
        }
        answer = client.post("/api/edits", json=edit)
        assert answer.status_code == 400
        assert "import only" in answer.json()["error"]


def test_sizes_are_bounded(shared: tuple[Server, httpx.Client]) -> None:
    _, client = shared
    large = b'{"author": "' + b"t" * (9 << 20) + b'"}'
    assert (
        client.post("/api/undo", content=large, headers={"Content-Type": "application/json"}).status_code
        == 413
    )

    def stream() -> Any:
        for _ in range(9):
            yield b" " * (1 << 20)

    try:  # without a length: cut off as soon as it is too much
        answer = client.post("/api/undo", content=stream(), headers={"Content-Type": "application/json"})
        assert answer.status_code >= 400
    except httpx.HTTPError:
        pass
    assert client.get("/api/project?author=t").status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/edits", {"author": "t"}),
        ("/api/edits", {"author": "../x", "base": 0, "label": "x", "changes": []}),
        (
            "/api/edits",
            {"author": "t", "base": 0, "label": "x", "changes": [{"key": "click/1", "set": {"time": 1}}]},
        ),
        (
            "/api/edits",
            {"author": "t", "base": 0, "label": "x", "changes": [{"key": "nothing", "set": None}]},
        ),
        ("/api/edits", {"author": "t", "base": 0, "label": "x", "changes": "all"}),
        ("/api/import/videos", {"author": "t", "paths": ["relative.mp4"]}),
        ("/api/import/videos", {"author": "t", "paths": ["/no/such/folder"]}),
        ("/api/import/videos", {"author": "t", "paths": 3}),
        ("/api/classes/merge", {"author": "t", "class": "c1", "into": "c9"}),
        ("/api/classes/merge", {"author": "t", "class": "c1", "into": "c1"}),
        ("/api/train", {"method": "nothing"}),
        ("/api/train", {"method": "lac", "seed": -1}),
        ("/api/train", {"method": "lac", "settings": ["steps"]}),
        ("/api/train", {"method": "lac"}),  # one video with a click is too little
        ("/api/runs/none/stop", {}),
        ("/api/proxies/nobody", {}),
        ("/api/accept/nobody", {}),
    ],
)
def test_what_cannot_be_done_is_said(
    shared: tuple[Server, httpx.Client], path: str, body: dict[str, Any]
) -> None:
    _, client = shared
    answer = client.post(path, json=body)
    assert answer.status_code == 400
    assert answer.json()["error"]
    assert "Traceback" not in answer.text
    assert client.post(path, content="{", headers={"Content-Type": "application/json"}).status_code == 400


def test_annotations_travel(shared: tuple[Server, httpx.Client]) -> None:
    server, client = shared
    table = "video,subset,duration,fps,start,end,label\ndemo_train_001,,,,1.0,2.0,Fall\n"
    answer = client.post("/api/import/annotations?name=mine.csv&author=t", content=table)
    assert answer.json()["changes"] >= 2
    again = client.post("/api/import/annotations?name=mine.csv&author=t", content=table)
    assert again.json()["changes"] == 0  # not twice
    bad = client.post("/api/import/annotations?name=../mine.json&author=t", content='{"database": 3}')
    assert bad.status_code == 400
    assert "/tmp" not in bad.json()["error"]
    for kind in client.get("/api/formats").json():
        got = client.get(f"/api/export?format={kind['name']}")
        assert got.status_code == 200, kind
        assert got.content
    assert client.get("/api/export?format=nonsense").status_code == 400
    client.post("/api/undo", json={"author": "t"})
    until(lambda: not server.saved()["demo_train_001"]["annotations"], "undo of an import")


def test_a_video_in_parts(shared: tuple[Server, httpx.Client]) -> None:
    server, client = shared
    whole = (server.path / "demo_train_000.mp4").read_bytes()
    part = client.get("/media/demo_train_000", headers={"Range": "bytes=100-299"})
    assert (part.status_code, part.content) == (206, whole[100:300])
    assert client.get("/media/demo_train_000", headers={"Range": "bytes=99999999-"}).status_code == 416
    picture = client.get("/api/thumbnails/0/2/demo_train_000")
    assert picture.content[:2] == b"\xff\xd8"
    assert client.get("/api/thumbnails/99/2/demo_train_000").status_code == 404


def test_the_command_says_what_it_opens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost")) == (True, True, True)
    assert not is_loopback("0.0.0.0")
    (tmp_path / "v.mp4").write_bytes(b"x")
    open_ = Server(tmp_path, "--host", "0.0.0.0")
    open_.process.terminate()
    _, errors = open_.process.communicate()
    assert "everyone who reaches this machine" in errors
    taken = listening("127.0.0.1", 0)
    with pytest.raises(InputError, match="cannot listen"):
        listening("127.0.0.1", taken.getsockname()[1])
    taken.close()
    (tmp_path / "notes.txt").write_text("x")
    assert main(["app", str(tmp_path / "notes.txt")]) == 2
    assert "neither a folder nor a data set description" in capsys.readouterr().err


def test_the_address_stays_after_a_restart(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"x")
    server = Server(tmp_path)
    token = server.token
    server.kill()
    server.again()
    assert server.token == token
    server.stop()
    assert json.loads((tmp_path / "annotations.json").read_text())["database"]["v"]


def test_other_tools_get_what_people_said(shared: tuple[Server, httpx.Client]) -> None:
    _, client = shared
    segment = {"video": "demo_train_002", "class": "c1", "start": 1.0, "end": 2.0}
    edit = {"author": "u", "base": 99, "label": "x", "changes": [{"key": "segment/s", "set": segment}]}
    assert client.post("/api/edits", json=edit).json()["conflicts"] == []
    boris = client.get("/api/export?format=boris")
    assert boris.headers["content-disposition"].endswith('"annotations.boris"')
    content = boris.json()
    events = [e for o in content["observations"].values() for e in o["events"]]
    assert len(events) == 3  # a click, and the two borders of a segment; not the click that the segment gives
    assert client.get("/api/export?format=elan").content[:2] == b"PK"  # a folder
    client.post("/api/undo", json={"author": "u"})
    again = client.post("/api/import/annotations?name=x.boris&author=u", content=boris.content)
    assert again.json()["changes"] >= 1
    client.post("/api/undo", json={"author": "u"})
