"""The picture of docs/training.md: `python -m tests.bench.pictures BENCH/report.html`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright

from tests.conftest import ARGS, chromium_path

OUT = Path(__file__).parents[2] / "docs/images"
UNTIL = ".pair"  # the picture ends below the first of these


def main(page_file: Path) -> None:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium_path(), args=ARGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme="light")
        page.goto(page_file.resolve().as_uri())
        bottom = page.eval_on_selector(UNTIL, "e => e.getBoundingClientRect().bottom + window.scrollY")
        clip = {"x": 0, "y": 0, "width": 1280, "height": bottom + 16}
        image = Image.open(io.BytesIO(page.screenshot(full_page=True, clip=clip)))
        browser.close()
    path = OUT / "bench-1280-light.png"
    # noise in the last two bits is half of the file
    pixels = (np.asarray(image.convert("RGB"), np.int16) + 2).clip(0, 255) // 4 * 4
    Image.fromarray(pixels.astype(np.uint8)).quantize(160).save(path, optimize=True)
    print(path, f"{path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
