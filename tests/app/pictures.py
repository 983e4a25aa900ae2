"""The pictures of docs/app.md: `python -m tests.app.pictures` (chromium, playwright; a few minutes).

Renders demo videos, labels them as their script says, trains twice, and looks at every page.
"""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.app.conftest import Server, until
from tests.conftest import ARGS, chromium_path
from weaktal.app.project import Project
from weaktal.core import Instances
from weaktal.demo.render import render
from weaktal.formats import load_annotations

OUT = Path(__file__).parents[2] / "docs/images"
UNLABELLED = 5  # of the training videos
# page, width, height, scheme
SHOTS = (
    ("library", 1280, 800, "light"),
    ("annotate", 1280, 800, "light"),
    ("annotate", 1280, 800, "dark"),
    ("train", 1280, 800, "light"),
    ("review", 1280, 800, "light"),
    ("review", 1280, 800, "dark"),
    ("next", 1280, 800, "light"),
    ("library", 390, 844, "dark"),
    ("annotate", 390, 844, "light"),
    ("review", 390, 844, "dark"),
    ("train", 390, 844, "light"),
)


def labelled(root: Path) -> Path:
    """A project with videos, clicks in most of them, some segments, and two that are held out."""
    render(root, train=18, test=4, seconds=(9.0, 16.0))
    given = load_annotations(root / "gt.json", points=root / "points.txt")
    names = [v.name for v in given if v.name.startswith("demo_train")]
    without, full = set(names[-UNLABELLED:]), set(names[:3])
    given = given.where(lambda v: v.name in names and v.name not in without)
    given = given.map(
        lambda v: replace(
            v, instances=v.instances if v.name in full else Instances(), subset="train",
            points=None if v.name in full else v.points, labels=(), complete=False,
        )
    )  # fmt: skip
    project = Project.open(root / "videos")
    project.import_annotations(given)
    held = [(f"video/{n}", {"subset": "test"}) for n in names[3:5]]
    done = [(f"video/{n}", {"done": True}) for n in names[:6]]
    project.change("begin", [*held, *done, (f"video/{names[7]}", {"note": "the arm is hidden at 0:08"})])
    project.close()
    return root / "videos"


def train(server: Server) -> None:
    with server.client() as client:
        for seed, method in enumerate(("lac", "lac")):
            run = client.post("/api/train", json={"method": method, "seed": seed}).json()["run"]

            def state(name: str = run) -> str:
                return next(r["state"] for r in client.get("/api/runs").json()["runs"] if r["name"] == name)

            until(lambda state=state: state() in ("done", "failed"), "training", 500)
            assert state() == "done"


def prepare(page: Any, name: str) -> str:
    """Makes a page show something; returns a selector that tells when it does."""
    if name == "annotate":
        page.wait_for_function("() => document.querySelector('.frame-no')?.textContent.includes(' of ')")
        page.evaluate(
            """() => {
              const a = document.querySelector('wt-annotate');
              a.select(a.marks.find((m) => m.kind === 'segment')?.key ?? a.marks[0]?.key ?? null);
              a.player.seek(a.marks[0].start + 0.6);
            }"""
        )
    if name == "review":
        page.wait_for_function("() => document.querySelector('wt-review').timeline.detections.length")
    if name == "train":
        page.wait_for_selector(".compare-check input >> nth=1")
        for box in page.query_selector_all(".compare-check input"):
            box.check()
    return {"library": ".row", "annotate": ".label-row", "train": ".method", "review": ".found-row"}.get(
        name, ".moment"
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as root, sync_playwright() as driver:
        folder = labelled(Path(root) / "jumps")
        server = Server(folder)
        browser = driver.chromium.launch(executable_path=chromium_path(), args=ARGS)
        try:
            train(server)
            rests = {"annotate": "/demo_train_001", "review": "/01-lac,02-lac"}
            for name, width, height, scheme in SHOTS:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
                page.goto(f"{server.url}#/library")
                page.wait_for_selector(".row")
                page.evaluate("() => sessionStorage.setItem('weaktal-run', '01-lac')")
                page.goto(f"{server.root}#/{name}{rests.get(name, '')}")
                page.wait_for_selector(prepare(page, name))
                page.wait_for_timeout(4000)
                image = Image.open(io.BytesIO(page.screenshot()))
                path = OUT / f"app-{name}-{width}-{scheme}.png"
                # noise in the last two bits is half of the file
                pixels = (np.asarray(image.convert("RGB"), np.int16) + 2).clip(0, 255) // 4 * 4
                Image.fromarray(pixels.astype(np.uint8)).save(path, optimize=True)
                print(path, f"{path.stat().st_size / 1000:.0f} kB", flush=True)
                page.close()
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
