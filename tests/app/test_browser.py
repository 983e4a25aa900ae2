"""People at work, in a real browser: tag, click, train, review, export; two of them; and the power goes."""

from __future__ import annotations

import json
import re
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from tests.app.conftest import Server, until
from weaktal.app.media import picture_times
from weaktal.cli import main

DROP = """(time) => {
  const first = document.querySelector('wt-app').store.classes.keys().next().value;
  document.querySelector('wt-annotate').drop(first, time);
}"""

LENGTHS = """() => {
  const all = [...document.querySelectorAll('.row .c-length')].map((e) => e.textContent);
  return all.length === 8 && !all.includes('–');
}"""


@pytest.fixture
def page(browser: Any, server: Server) -> Any:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(60_000)  # a machine that does much else, too
    found = context.new_page()
    problems: list[str] = []
    found.on("pageerror", lambda error: problems.append(str(error)))
    found.goto(server.url)
    found.wait_for_selector(".row")
    yield found
    context.close()
    assert problems == []


def add_classes(page: Any, *names: str) -> None:
    for name in names:
        page.fill(".classes form input", name)
        page.press(".classes form input", "Enter")
        page.wait_for_selector(f".class-list >> text={name}")


def open_video(page: Any, name: str) -> None:
    page.goto(re.sub("#.*", "", page.url) + f"#/annotate/{name}")
    page.wait_for_selector(f".video-head h1 >> text={name}")
    page.wait_for_function("() => document.querySelector('.frame-no')?.textContent.includes(' of ')")
    page.wait_for_function("() => document.querySelector('.stage video').readyState >= 2")


def shown(page: Any) -> int:
    """The picture that the player shows, once it has arrived there."""
    page.wait_for_function("() => !document.querySelector('.stage video').seeking")
    return int(page.get_attribute("wt-annotate", "data-frame"))


def settled(page: Any) -> None:
    """Everything is saved."""
    page.wait_for_selector(".saved[data-state='ok']")
    page.wait_for_function("() => !document.querySelector('wt-app').store.queue.length")


def test_from_a_folder_of_videos_to_measured_detections(page: Any, server: Server, folder: Path) -> None:
    add_classes(page, "Jump", "Kick")
    # --- click by keyboard while it plays
    open_video(page, "demo_train_000")
    page.keyboard.press("Space")
    page.wait_for_function("() => Number(document.querySelector('wt-annotate').dataset.frame) > 6")
    page.keyboard.press("1")
    page.wait_for_function("() => Number(document.querySelector('wt-annotate').dataset.frame) > 14")
    page.keyboard.press("2")
    assert page.get_attribute("wt-annotate", "data-playing") == "true"
    page.keyboard.press("k")
    settled(page)
    points = until(lambda: server.saved()["demo_train_000"].get("points"), "clicks on the disk")
    assert [p["label"] for p in points] == ["Jump", "Kick"]
    times = picture_times(folder / "demo_train_000.mp4")
    for point in points:  # the time of a picture, not of a clock
        assert np.abs(times - point["time"]).min() < 1e-9
    # --- frame-exact steps, nudge, undo
    page.keyboard.press("Home")
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    assert shown(page) == 5
    page.keyboard.press("1")
    page.keyboard.press("]")
    settled(page)
    clicks = sorted(p["time"] for p in server.saved()["demo_train_000"]["points"])
    assert clicks[0] == pytest.approx(times[6]) or len(clicks) == 3
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelectorAll('.label-row').length === 2")
    # --- reload: everything is there, also the way back
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('.label-row').length === 2")
    page.keyboard.press("Control+Shift+z")
    page.wait_for_function("() => document.querySelectorAll('.label-row').length === 3")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelectorAll('.label-row').length === 2")
    # --- a held key is a segment with two borders
    page.keyboard.press("Home")
    shown(page)
    page.keyboard.down("2")
    page.wait_for_timeout(400)
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert shown(page) == 4
    page.keyboard.up("2")
    settled(page)
    (segment,) = until(lambda: server.saved()["demo_train_000"]["annotations"], "the segment")
    np.testing.assert_allclose(segment["segment"], times[[0, 4]], atol=1e-9)
    page.keyboard.press("Delete")
    # --- the others
    for i in range(1, 5):
        open_video(page, f"demo_train_{i:03}")
        page.evaluate("() => document.querySelector('wt-annotate').player.seek(1.5)")
        shown(page)
        page.keyboard.press("1")
        page.evaluate("() => document.querySelector('wt-annotate').player.seek(2.5)")
        shown(page)
        page.keyboard.press("2")
    page.keyboard.press("Enter")  # next video: nothing occurs there
    page.wait_for_selector(".video-head h1 >> text=demo_train_005")
    page.keyboard.press("0")
    page.wait_for_selector(".nothing.on")
    page.keyboard.press("Shift+1")
    page.wait_for_selector(".tag-button.occurs")
    page.keyboard.press("Shift+1")
    page.wait_for_selector(".tag-button.absent")
    settled(page)
    entry = until(lambda: (e := server.saved()["demo_train_005"]).get("tags") and e, "tags on the disk")
    assert entry["tags"] == {"occurs": [], "absent": ["Jump"]}
    assert entry["video"]["nothing"] is True
    # --- train
    page.click("nav >> text=Train")
    page.wait_for_selector(".method >> text=lac")
    page.check("input[value=lac]")
    page.click("summary")
    page.fill(".settings", "steps=60")
    page.click(".train-form >> button:has-text('Train')")
    page.wait_for_selector(".run[data-state=running]")
    page.wait_for_selector(".run[data-state=done]", timeout=120_000)
    run = folder / "runs/01-lac"
    assert (run / "checkpoints/last/weights.safetensors").exists()
    # --- review
    page.click(".run >> text=Review")
    page.wait_for_selector(".found-row [aria-current]")
    page.evaluate(
        "() => { const r = document.querySelector('.threshold input'); r.value = '0'; "
        "r.dispatchEvent(new Event('input')); }"
    )
    page.wait_for_function("() => document.querySelectorAll('.found-row').length >= 3")
    ready = """() => {
      const { player, timeline } = document.querySelector('wt-review');
      return player.frames && timeline.marks.some((m) => m.key === 'candidate');
    }"""
    page.wait_for_function(ready)
    page.keyboard.press("Enter")  # accept
    first = until(lambda: _segments(server), "the accepted segment")
    assert first[0]["origin"]["run"] == "01-lac"

    # drag the end of the next one, then accept it
    def over_its_end() -> dict[str, Any] | None:
        """Where the end of the candidate is, once the pointer has it."""
        box = page.evaluate(
            """() => {
              const { timeline: t, current: c } = document.querySelector('wt-review');
              const lane = t.lanes.find((l) => l.class.id === c.class);
              if (!lane) return null;
              const r = t.canvas.getBoundingClientRect();
              return { x: r.left + t.gutter + t.x(c.end), y: r.top + lane.top + 10, end: c.end };
            }"""
        )
        if box is None:
            return None
        page.mouse.move(box["x"], box["y"])
        cursor = page.evaluate("() => document.querySelector('wt-review').timeline.canvas.style.cursor")
        return box if cursor == "ew-resize" else None

    page.wait_for_function(ready)
    box = until(over_its_end, "the candidate's border under the pointer")
    page.mouse.down()
    page.mouse.move(box["x"] - 25, box["y"], steps=4)
    page.mouse.up()
    page.wait_for_function("() => document.querySelector('wt-review').borders")
    page.keyboard.press("Enter")
    second = until(lambda: (s := _segments(server)) and len(s) == 2 and s, "the second segment")
    moved = [s for s in second if abs(s["segment"][1] - s["origin"]["end"]) > 1e-6]
    assert len(moved) == 1
    assert moved[0]["segment"][1] < box["end"]
    page.keyboard.press("Delete")  # reject
    until(lambda: any(e.get("negatives") for e in server.saved().values()), "the negative")
    settled(page)
    # --- what next
    page.click("nav >> text=Next")
    page.wait_for_selector(".moment")
    # --- export, and measure with the command
    page.click("nav >> text=Library")
    page.click("text=Export")
    with page.expect_download() as download:
        page.click("text=ActivityNet JSON")
    exported = json.loads(Path(download.value.path()).read_text())
    assert exported["classes"] == ["Jump", "Kick"]
    assert sum(len(v["annotations"]) for v in exported["database"].values()) == 2
    command = [
        "evaluate",
        str(run / "detections.json"),
        "--data",
        str(folder / "project.yaml"),
        "--subset",
        "train",
    ]
    assert main(command) == 0


def _segments(server: Server) -> list[dict[str, Any]]:
    return [s for entry in server.saved().values() for s in entry["annotations"]]


def test_two_people_at_once(browser: Any, page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    open_video(page, "demo_train_001")
    other_context = browser.new_context(viewport={"width": 1000, "height": 700})
    other = other_context.new_page()
    other.goto(server.url)
    other.wait_for_selector(".row")
    open_video(other, "demo_train_001")
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    shown(page)
    page.keyboard.press("1")
    other.wait_for_selector(".label-row")  # the other one sees it
    settled(page)
    # the other one loses the network, moves the click, and adds another
    other_context.set_offline(True)
    other.click(".label-button")
    other.keyboard.press("[")
    other.keyboard.press("Home")
    other.wait_for_timeout(100)
    other.evaluate(DROP, 0.2)
    # meanwhile the first one moves it the other way
    page.keyboard.press("]")
    page.keyboard.press("]")
    settled(page)
    times = picture_times(server.path / "demo_train_001.mp4")
    other_context.set_offline(False)
    other.wait_for_selector(".toast.warn >> text=changed by somebody else")
    until(lambda: len(server.saved()["demo_train_001"]["points"]) == 2, "both people's clicks")
    saved = sorted(p["time"] for p in server.saved()["demo_train_001"]["points"])
    assert saved == [pytest.approx(0.2), pytest.approx(times[10])]  # theirs stands, and nothing is lost
    other.click(".toast.warn >> text=Use mine")
    until(
        lambda: any(abs(p["time"] - times[7]) < 1e-6 for p in server.saved()["demo_train_001"]["points"]),
        "the change after all",
    )
    other_context.close()


def test_the_server_is_killed_in_the_middle(page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    open_video(page, "demo_train_002")
    for i in range(10):
        page.evaluate(DROP, i / 10)
    server.kill()  # some are saved, some are under way
    for i in range(10, 20):
        page.evaluate(DROP, i / 10)
    page.wait_for_selector(".saved[data-state='offline']")
    server.again()
    settled(page)
    until(lambda: len(server.saved()["demo_train_002"].get("points", ())) == 20, "all twenty clicks")
    page.reload()
    page.wait_for_function("() => document.querySelectorAll('.label-row').length > 10")


def test_runs_survive_the_server(page: Any, server: Server, folder: Path) -> None:
    add_classes(page, "Jump", "Kick")
    settled(page)
    with server.client() as client:
        ids = [c["id"] for c in client.get("/api/project?author=t").json()["classes"]]
        changes = [
            {"key": f"click/k{i}{j}", "set": {"video": f"demo_train_{i:03}", "class": c, "time": 1.0 + j}}
            for i in range(4)
            for j, c in enumerate(ids)
        ]
        version = client.get("/api/project?author=t").json()["version"]
        edit = {"author": "t", "base": version, "label": "x", "changes": changes}
        assert client.post("/api/edits", json=edit).status_code == 200
        asked = {"method": "lac", "seed": 1, "settings": ["steps=100000"]}
        assert client.post("/api/train", json=asked).json() == {"run": "01-lac"}

        def run() -> dict[str, Any]:
            return client.get("/api/runs").json()["runs"][0]

        until(lambda: run()["done"] > 20, "training to go", 90)
    server.kill()
    server.again()
    with server.client() as client:
        begun = run()["done"]
        assert run()["state"] == "running"  # found again
        until(lambda: run()["done"] > begun, "training to go on")
        page.goto(server.root + "#/train")
        page.click(".run >> text=Stop")
        page.wait_for_selector(".run[data-state=stopped]")
        done = run()["done"]
        page.click(".run >> text=Resume")
        page.wait_for_selector(".run[data-state=running]")
        until(lambda: run()["done"] > 0 and run()["state"] == "running", "resuming")
        assert done > 0
        assert client.post("/api/runs/01-lac/stop", json={}).status_code == 200
        until(lambda: run()["state"] == "stopped", "the end")


def test_a_video_that_browsers_cannot_play_gets_a_copy(page: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "old.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        for k in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((72, 96, 3), 8 * k, np.uint8), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    page.click("text=Add videos")
    page.fill("dialog textarea", str(path))
    page.click("dialog >> button:has-text('Add')")
    page.wait_for_selector("text=1 video added")
    open_video(page, "old")
    page.evaluate("() => document.querySelector('wt-annotate').player.show(17)")
    assert shown(page) == 17
    # the picture that is on the screen is picture 17
    level = page.evaluate(
        """() => {
          const c = document.createElement('canvas'), v = document.querySelector('.stage video');
          c.width = c.height = 1;
          c.getContext('2d').drawImage(v, 0, 0, 1, 1);
          return c.getContext('2d').getImageData(0, 0, 1, 1).data[0];
        }"""
    )
    assert abs(level - 8 * 17) <= 6
    assert not (server.path / "old.avi").exists()
    # it vanishes: said, and its labels stay
    path.unlink()
    page.reload()
    page.wait_for_selector(".stage-overlay >> text=not there")
    path_of = until(lambda: server.saved()["old"]["video"]["path"], "its path")
    assert path_of.endswith("old.avi")


def test_a_long_video_is_read_in_parts(page: Any, server: Server, tmp_path: Path) -> None:
    """Two hours: the player shows any picture of it, and only parts of the file travel."""
    path = tmp_path / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=2, options={"preset": "ultrafast", "crf": "20", "g": "120"}
        )
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 60, (8, 72, 96, 3), np.uint8)
        for k in range(14_400):
            image = noise[k % 8] + np.uint8(k % 180)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 2)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with server.client() as client:
        assert client.post("/api/import/videos", json={"author": "t", "paths": [str(path)]}).json()[
            "added"
        ] == ["long"]
        part = client.get("/media/long", headers={"Range": "bytes=1000-1999"})
        assert (part.status_code, len(part.content)) == (206, 1000)
    page.reload()
    page.wait_for_selector(".row")
    # a place that is asked for before the first picture is there: the clocks must not be told from that one
    page.evaluate("() => { location.hash = '#/annotate/long'; }")
    page.wait_for_function(
        """() => {
          const { player } = document.querySelector('wt-annotate') ?? {};
          if (!player?.frames) return false;
          player.show(9000);
          return true;
        }""",
        polling=1,
    )
    assert shown(page) == 9000
    page.wait_for_function("() => document.querySelector('.stage video').currentTime === 4500.25")
    page.click("nav >> text=Library")
    open_video(page, "long")
    for index in (13_000, 77, 7_200, 14_399):
        page.evaluate("(i) => document.querySelector('wt-annotate').player.show(i)", index)
        assert shown(page) == index
        time = page.evaluate("() => document.querySelector('.stage video').currentTime")
        assert time == pytest.approx(index / 2 + 0.25, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_for_people_with_other_senses(browser: Any, server: Server, scheme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    with server.client() as client:
        changes: list[dict[str, Any]] = [
            {"key": "class/c1", "set": {"name": "Jump", "colour": "#3d7bd9", "key": "1"}},
            {"key": "tag/c1/demo_train_001", "set": {"value": "absent"}},
            {"key": "segment/s", "set": {"video": "demo_train_000", "class": "c1", "start": 1, "end": 2}},
            {"key": "click/k", "set": {"video": "demo_train_000", "class": "c1", "time": 3}},
            {"key": "video/demo_train_002", "set": {"done": True}},
        ]
        edit = {"author": "t", "base": 99, "label": "x", "changes": changes}
        assert client.post("/api/edits", json=edit).json()["conflicts"] == []
    run = server.path / "runs/00-seen"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("method: lac\nseed: 0\n")
    found = [
        {"label": "Jump", "score": 0.9, "segment": [1.0, 2.2]},
        {"label": "Jump", "score": 0.5, "segment": [3, 4]},
    ]
    (run / "detections.json").write_text(
        json.dumps({"results": {"demo_train_001": found, "demo_train_000": found}})
    )
    for width, height in ((1280, 800), (390, 844)):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.url)
        page.wait_for_selector(".row")
        waits = {
            "library": ".row", "annotate/demo_train_000": ".label-row", "train": ".method",
            "review": ".found-row", "next": ".moment, .moments .empty",
        }  # fmt: skip
        for name, sign in waits.items():
            page.goto(f"{server.root}#/{name}")
            page.wait_for_selector(sign)
            if name.startswith("annotate"):
                page.click(".label-button")
            page.wait_for_timeout(350)  # colours that fade in
            found = Axe().run(page).response["violations"]
            serious = {
                v["id"]: [n["html"][:160] + " " + n["failureSummary"][:300] for n in v["nodes"]]
                for v in found
                if v["impact"] in ("serious", "critical")
            }
            assert serious == {}, (name, width, scheme)
            across = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert across <= 0, (name, width)
        page.keyboard.press("?")
        page.wait_for_selector("dialog")
        assert not [
            v for v in Axe().run(page).response["violations"] if v["impact"] in ("serious", "critical")
        ]
        context.close()


def test_keyboard_alone(page: Any, server: Server) -> None:
    """From the first page to a saved click without a pointer."""
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("/")
    page.keyboard.type("train_003")
    page.wait_for_function("() => document.querySelectorAll('.row').length === 1")
    page.focus(".classes form input")
    page.keyboard.type("Spin")
    page.keyboard.press("Enter")
    page.wait_for_selector(".class-row >> text=Spin")
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(".video-head h1 >> text=demo_train_003")
    page.wait_for_function("() => document.querySelector('.frame-no')?.textContent.includes(' of ')")
    page.keyboard.press("End")
    page.keyboard.press("1")
    page.keyboard.press("n")
    page.keyboard.type("at the very end")
    page.keyboard.press("Enter")
    until(
        lambda: (
            [p.get("note") for p in server.saved()["demo_train_003"].get("points", ())] == ["at the very end"]
        ),
        "the note",
    )


def test_the_focus_stays_where_it_is_while_lists_are_made_anew(page: Any, server: Server) -> None:
    """Somebody else's edits, sorting, one's own keys: what is drawn again is not left."""
    focused = "() => document.activeElement.textContent"
    page.focus(".row:has-text('demo_train_003') a")
    page.evaluate("() => { window.row = document.querySelector('.row:has(a:focus)'); }")
    page.evaluate("() => document.querySelector('wt-app').store.emit('rows', null)")
    page.wait_for_function("() => !window.row.isConnected")
    assert page.evaluate(focused) == "demo_train_003"
    page.focus(".table-head >> text=Video")
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "Video ↓"
    add_classes(page, "Jump", "Spin")
    open_video(page, "demo_train_000")
    page.focus(".class-list li:nth-child(2) .tag-button")
    page.keyboard.press("Enter")
    page.wait_for_selector(".class-list li:nth-child(2) .tag-button.occurs")
    settled(page)
    assert page.evaluate("() => document.activeElement.closest('li')?.textContent").count("Spin")
    # a click with the pointer leaves the keys to the player
    page.click(".class-list li:nth-child(2) .tag-button")
    page.wait_for_selector(".class-list li:nth-child(2) .tag-button.absent")
    assert page.evaluate("() => document.activeElement === document.body")


def test_classes_in_the_page(page: Any, server: Server) -> None:
    add_classes(page, "Jump", "Hop", "Fall")
    settled(page)
    with server.client() as client:
        known = client.get("/api/project?author=t").json()
        ids = {c["name"]: c["id"] for c in known["classes"]}
        changes = [
            {"key": f"click/{n}", "set": {"video": "demo_train_000", "class": ids[n], "time": 1.0}}
            for n in ids
        ]
        edit = {"author": "t", "base": known["version"], "label": "x", "changes": changes}
        assert client.post("/api/edits", json=edit).json()["conflicts"] == []
    page.wait_for_selector(".row >> text=Jump")
    page.click(".class-row >> text=Hop")
    page.select_option("dialog select", label="Jump")
    page.click("dialog >> text=Merge >> nth=1")
    page.wait_for_selector("dialog", state="detached")
    page.wait_for_function("() => document.querySelectorAll('.class-row').length === 2")
    until(
        lambda: [p["label"] for p in server.saved()["demo_train_000"]["points"]].count("Jump") == 2,
        "the merge",
    )
    page.click(".class-row >> text=Fall")
    page.wait_for_selector("dialog >> text=1 label of this class would go along")
    page.click("dialog >> text=Delete class")
    page.wait_for_selector("dialog", state="detached")
    until(lambda: len(server.saved()["demo_train_000"]["points"]) == 2, "the deletion")
    page.click(".topbar button[aria-label=Undo]")
    page.click(".topbar button[aria-label=Undo]")
    until(
        lambda: (
            sorted(p["label"] for p in server.saved()["demo_train_000"]["points"]) == ["Fall", "Hop", "Jump"]
        ),
        "everything to be back",
    )


def test_bulk_tags_filter_and_sort(page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    page.fill("input[type=search]", "test")
    page.wait_for_function("() => document.querySelectorAll('.row').length === 2")
    page.check(".table-head input[type=checkbox]")
    page.click(".bulk >> text=Occurs")
    page.click(".bulk >> text=Hold out")
    settled(page)
    entry = until(lambda: (e := server.saved()["demo_test_001"]).get("labels") and e, "the tag")
    assert (entry["labels"], entry["subset"]) == (["Jump"], "test")
    page.fill("input[type=search]", "")
    page.wait_for_function(LENGTHS)
    page.click(".table-head >> text=Length")
    lengths = page.eval_on_selector_all(".row .c-length", "(all) => all.map((e) => e.textContent)")
    assert lengths == sorted(lengths, reverse=True)
    page.keyboard.press("Control+z")
    until(lambda: server.saved()["demo_test_001"]["subset"] == "train", "undo")


def test_the_page_tells_of_what_happens_outside(page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    settled(page)
    path = server.path / "annotations.json"
    until(lambda: "Jump" in path.read_text(), "the class on the disk")
    by_hand = json.loads(path.read_text())
    by_hand["database"]["demo_train_000"]["points"] = [{"time": 1.0, "label": "Jump"}]
    path.write_text(json.dumps(by_hand))
    page.wait_for_selector(".toast >> text=changed outside of this page")
    page.wait_for_selector(".row:has-text('demo_train_000') >> text=Jump")
    # a video is replaced by another one
    shutil.copy(server.path / "demo_train_001.mp4", server.path / "demo_train_000.mp4")
    open_video(page, "demo_train_000")
    page.wait_for_selector(".toast >> text=has changed")


LATE = """(late) => {
  const { fetch } = window;
  window.fetch = async (path, options) => {
    const answer = await fetch(path, options);
    if (path === late) await new Promise((done) => setTimeout(done, 1500));
    return answer;
  };
}"""


def test_an_answer_that_comes_late_changes_nothing_that_was_done_since(
    browser: Any, page: Any, server: Server
) -> None:
    """What an edit did is told to all pages at once; its own answer may come after what was done since."""
    add_classes(page, "Jump")
    open_video(page, "demo_train_000")
    page.evaluate(LATE, "/api/redo")
    page.evaluate(DROP, 1.0)
    page.wait_for_selector(".label-row")
    settled(page)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    other = context.new_page()
    other.goto(server.url)
    other.wait_for_selector(".row")
    open_video(other, "demo_train_000")
    page.keyboard.press("Control+z")
    rows = "(n) => document.querySelectorAll('.label-row').length === n"
    page.wait_for_function(rows, arg=0)
    page.keyboard.press("Control+Shift+z")
    for one in (page, other):
        one.wait_for_function(rows, arg=1)
    other.click(".label-row")
    other.keyboard.press("Delete")
    page.wait_for_function(rows, arg=0)
    page.wait_for_timeout(2000)
    assert page.evaluate(rows, 0)
    # and undone twice in a hurry
    page.evaluate(DROP, 1.5)
    settled(page)
    page.keyboard.press("Control+z")
    page.wait_for_function(rows, arg=0)
    page.keyboard.press("Control+Shift+z")
    page.wait_for_function(rows, arg=1)
    page.keyboard.press("Control+z")
    page.wait_for_function(rows, arg=0)
    page.wait_for_timeout(2000)
    assert page.evaluate(rows, 0)
    assert "points" not in server.saved()["demo_train_000"] or not server.saved()["demo_train_000"]["points"]
    context.close()


def test_what_happens_while_the_page_loads_is_heard(browser: Any, server: Server) -> None:
    """The videos are looked at once a page has asked for them, which may be before it has its answer."""
    context = browser.new_context()
    page = context.new_page()
    answers: list[Any] = []

    def hold(route: Any) -> None:
        answers.append(route.fetch())
        if len(answers) == 1:
            until(lambda: server.saved()["demo_test_001"].get("duration"), "the videos to be looked at")
            time.sleep(0.5)
        route.fulfill(response=answers[-1])

    page.route("**/api/project?*", hold)
    page.goto(server.url)
    page.wait_for_function(LENGTHS)
    context.close()


def test_the_video_that_was_asked_for_last_is_the_one_that_opens(page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    for name in ("demo_train_000", "demo_train_001"):
        open_video(page, name)
        page.evaluate(DROP, 1.0)
    settled(page)
    page.click("nav >> text=Library")
    page.wait_for_selector(".row")
    page.evaluate(LATE, "/api/videos/demo_train_000")
    page.evaluate("() => { location.hash = '#/annotate/demo_train_000'; }")
    page.wait_for_selector(".video-head h1 >> text=demo_train_000")
    page.evaluate("() => { location.hash = '#/annotate/demo_train_001'; }")
    page.wait_for_selector(".label-row")
    page.wait_for_timeout(2000)
    page.evaluate(DROP, 2.0)
    settled(page)
    saved = until(lambda: (d := server.saved())["demo_train_001"]["points"][1:] and d, "the click")
    assert [len(saved[n]["points"]) for n in ("demo_train_000", "demo_train_001")] == [1, 2]


def test_a_duplicated_tab_is_another_author(page: Any, server: Server) -> None:
    mine = page.evaluate("() => document.querySelector('wt-app').store.author")
    double = page.context.new_page()
    double.add_init_script(f"sessionStorage.setItem('weaktal-tab', {json.dumps(mine)})")
    double.goto(server.url)
    double.wait_for_selector(".row")
    assert double.evaluate("() => document.querySelector('wt-app').store.author") != mine
    double.close()
    page.reload()
    page.wait_for_selector(".row")
    assert page.evaluate("() => document.querySelector('wt-app').store.author") == mine


def test_undo_in_review_brings_a_detection_back(page: Any, server: Server) -> None:
    add_classes(page, "Jump")
    settled(page)
    run = server.path / "runs/00-seen"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("method: lac\nseed: 0\n")
    rows = [{"label": "Jump", "score": 0.9 - i / 10, "segment": [i, i + 0.8]} for i in range(3)]
    (run / "detections.json").write_text(json.dumps({"results": {"demo_train_001": rows}}))
    page.click("nav >> text=Review")
    page.wait_for_function("() => document.querySelectorAll('.found-row').length === 3")
    page.click(".found-row >> nth=1")
    page.keyboard.press("Delete")  # the button that was clicked does not keep the keys
    page.wait_for_function("() => document.querySelectorAll('.found-row').length === 2")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.found-row').length === 1")
    until(lambda: server.saved()["demo_train_001"].get("negatives"), "the negative")
    until(lambda: server.saved()["demo_train_001"]["annotations"], "the segment")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelectorAll('.found-row').length === 2")
    page.keyboard.press("Control+z")
    page.wait_for_function("() => document.querySelectorAll('.found-row').length === 3")
    settled(page)
    until(lambda: "negatives" not in server.saved()["demo_train_001"], "both to be gone")
