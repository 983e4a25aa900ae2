"""Every block of the documentation, run as it stands there, from an installed wheel and from outside.

Trainings get the settings of `SMALL`, so that they take a second, and lines change as `CHANGED` says; what
cannot run in a test is listed in `ELSEWHERE` with the reason. Data are of `world.py`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.given import BEFORE, GIVEN, Step
from tests.docs.world import make_world
from tests.methods.tiny import SIZES
from weaktal.demo import render
from weaktal.methods import find_method

pytest.importorskip("hatchling")
pytest.importorskip("av")

ROOT = Path(__file__).parents[2]
PAGES = sorted(p for p in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")] if "```" in p.read_text())
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
REAL = ROOT.parent / "shared/data"

SMALL: dict[str, dict[str, Any]] = {
    **SIZES,
    "asm_loc": {**SIZES["asm_loc"], "epochs": 4, "num_steps": 1, "detect_step": 1},
    "issf": {**SIZES["issf"], "epochs": 4, "momentum_start": 2},
    "own": {"hidden": 8, "epochs": 2, "batch_size": 4},
}
CHANGED = {
    r"--starts 5": "--starts 2",
    r"--seeds 0 1 2": "--seeds 0",
    r"--trials 40": "--trials 2",
    r"--false-alarms 0\.1": "--false-alarms 0.5",  # four videos promise no less than 0.2
    r"threshold\(0\.1": "threshold(0.5",
    r"StudentConfig\(hidden=128\), dim=2048": "StudentConfig(hidden=8, steps=4), dim=8",
    r"VIDEOS\.\.\.|VIDEO\.\.\.": "videos",
    r"(weaktal reproduce .*--data .*)": r"\1 --anyway",  # these data are not those of the papers
    r"ASMLocConfig\(batch_size=32\)": "ASMLocConfig(epochs=2, num_steps=0, snippets=24, heads=2)",
}
# how a line begins, and why it does not run here
ELSEWHERE = {
    "make ": "the tests are part of it; the demo takes minutes",
    "pip install": "an index of packages is not part of the project",
    "weaktal app": "stays until Ctrl+C: tests/app",
    "torchrun": "processes and machines: tests/train/test_distributed.py",
    "srun": "needs Slurm",
    "python benchmarks/": "takes hours: test_benchmarks_have_the_options_that_pages_use",
    "OMP_NUM_THREADS=1 weaktal": "a single training of a table",
    "python -m tests.": "measures the page",
    "python thumos_synthetic.py": "not of this project",
    "weaktal extract videos --backbone i3d": "needs the authors' weights",
    "weaktal convert-checkpoint": "needs official weights: tests/cli/test_convert_checkpoint.py",
    "weaktal localize runs/official": "needs official weights",
    "weaktal calibrate demo/asm_loc-0": "the demo's own run, which takes minutes",
    "weaktal predict demo/asm_loc-0": "the demo's own run, which takes minutes",
}
FAILS = {"weaktal data inspect clicks-in-frames/data.yaml"}  # shown for what it says
README_ELSEWHERE = re.compile("my_videos|my_data|my_run")  # tests/test_own_videos.py
PAGES_ELSEWHERE = {"python.md": "tests/test_python_docs.py"}
# what a person fills in, by its first line
TABLES = {"video,label": "labels.csv", "clip_01,3.2,jump": "clicks.txt"}


def lines(text: str) -> list[tuple[str, str]]:
    """What one types in a block, each with what the block shows as its answer."""
    text = text.replace("\\\n", " ")
    if not re.search(r"^\$ ", text, re.MULTILINE):
        typed = [line.split("   #")[0].split("  #")[0].strip() for line in text.splitlines()]
        return [(line, "") for line in typed if line and not line.startswith("#")]
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(" ".join(p.split("\n", 1)[0].split()), p.split("\n", 1)[1].strip()) for p in parts]


def small(line: str) -> str:
    """A training that takes a second."""
    for old, new in CHANGED.items():
        line = re.sub(old, new, line)
    words = line.split()
    if words[:2] not in (["weaktal", "train"], ["weaktal", "search"], ["weaktal", "reproduce"]):
        return line
    if words[1] == "reproduce" and "--data" not in words:
        return line
    methods = [w for w in words[2:] if w in SIZES or ".py:" in w]
    fuse = len(methods) > 1
    for method in methods:
        usual = None if ".py:" in method else find_method(method).base
        base = next((w.split("=")[1] for w in words if w.startswith("base=")), usual)
        given = {"": SMALL["own" if ".py:" in method else method]}
        if base is not None and "--proposals" not in words:
            given["base."] = SMALL[base]
        for prefix, settings in given.items():
            for key, value in settings.items():
                line += f" --set {method + '.' if fuse else ''}{prefix}{key}={json.dumps(value)}"
    return line + (" --quiet" if words[1] != "search" else "")


def written(text: str, cards: bool) -> list[Step]:
    """A description, a plan, or a space of settings becomes the file that its first line or its name says."""
    about = yaml.safe_load(text)
    named = re.match(r"# (\S+\.yaml)", text)
    name = named[1] if named else f"{about['name']}.yaml" if "name" in about else "described.yaml"
    if cards:  # each data set in a folder of its own
        name = f"{about['name']}/{name}"
    for method, entry in about.get("methods", {}).items():
        kind = (entry or {}).get("method", method)
        about["methods"][method] = {**(entry or {}), "set": SMALL[kind]}
    if "seeds" in about:
        about["seeds"], about["evaluate_every"] = about["seeds"][:1], 1
    if "epochs" in about and "learning_rate" in about:  # a space
        about["epochs"] = {"low": 3, "high": 5, "step": 2}
    steps = [("python", f"open({name!r}, 'w').write({yaml.safe_dump(about, sort_keys=False)!r})")]
    if "annotations" in about:
        steps.append(("command", f"weaktal data inspect {name}"))
    return steps


def steps(page: Path) -> list[tuple[Step, str]]:
    """The steps of a page, with the answers that it shows."""
    out: list[tuple[Step, str]] = [((kind, small(text)), "") for kind, text in BEFORE.get(page.name, [])]
    given = GIVEN.get(page.name)
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            if given:
                out.append((("python", given), ""))
                given = None
            out.append((("python", small(text)), ""))
        elif language == "yaml":
            out += [(step, "") for step in written(text, page.stem == "datasets")]
        elif text.split("\n")[0] in TABLES:
            out.append((("python", f"open({TABLES[text.splitlines()[0]]!r}, 'w').write({text!r})"), ""))
        elif language in ("", "sh", "bash", "console"):
            for line, answer in lines(text):
                known = line.startswith(("weaktal ", "cd "))
                usage = re.search(r"\[--| METHOD |FOLDER|DATASET|\.\.\. ", line) or re.match(
                    r"weaktal [\w ]+:", line
                )
                if page.stem == "README" and README_ELSEWHERE.search(line):
                    continue
                if known and not usage and not line.startswith(tuple(ELSEWHERE)):
                    out.append((("command", small(line)), answer))
    return out


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with the wheel, which finds all else where this one has it."""
    folder = tmp_path_factory.mktemp("installed")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    home = folder / "env"
    venv.create(home, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin/python"), "install", "--quiet"]
    subprocess.run(
        [*pip, "--no-deps", "--no-index", "--no-compile", *map(str, folder.glob("*.whl"))], check=True
    )
    (site,) = home.glob("lib/python*/site-packages")
    others = [p for p in sys.path if p.endswith("-packages")]
    (site / "others.pth").write_text("\n".join(others))
    return home / "bin/python"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    render(folder / "rendered", train=4, test=1, seconds=(8.0, 10.0), size=(80, 60), fps=15)
    shutil.move(folder / "rendered/videos", folder / "videos")
    for where in ("my_videos", "new_videos"):
        (folder / where).mkdir()
        for n, video in enumerate(sorted((folder / "videos").iterdir())[:3], start=1):
            shutil.copy(video, folder / where / f"clip_{n:02}.mp4")
    truth = (folder / "rendered/gt.json").read_text()
    (folder / "motion.json").write_text(truth)
    return folder


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_blocks_of_a_page_run(page: Path, python: Path, world: Path, tmp_path: Path) -> None:
    every = steps(page)
    if page.name in PAGES_ELSEWHERE or not every:
        pytest.skip(PAGES_ELSEWHERE.get(page.name, "shows nothing that runs here"))
    here = tmp_path / "here"
    shutil.copytree(world, here)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/data").symlink_to(REAL if REAL.is_dir() else here / "data")
    told = run([(*step, 2 * (step[1] in FAILS)) for step, _ in every], python, here)
    for (step, answer), result in zip(every, told, strict=True):
        if answer and "../shared" in step[1] and REAL.is_dir():
            assert_answered(answer, result["told"])


def run(every: list[tuple[str, str, int]], python: Path, here: Path) -> list[dict[str, Any]]:
    """What each step printed; all end as expected."""
    file = here.parent / "steps.json"
    file.write_text(json.dumps(every))
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    clean["PATH"] = f"{python.parent}{os.pathsep}{clean['PATH']}"
    command = [str(python), str(Path(__file__).with_name("runner.py")), str(file)]
    done = subprocess.run(command, cwd=here, env=clean, capture_output=True, text=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    for (_, text, expected), result in zip(every, told, strict=False):
        assert result["code"] == expected, f"{text}\n{result['told']}"
    assert len(told) == len(every), done.stderr
    return told


def assert_answered(shown: str, told: str) -> None:
    """Every line that a page shows is in what the command says, whatever the blanks."""
    said = [" ".join(line.split()) for line in told.splitlines()]
    for line in shown.splitlines():
        assert " ".join(line.split()) in said or not line.strip(), f"shown but not said: {line}\n{told}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_benchmarks_have_the_options_that_pages_use(page: Path) -> None:
    for file, rest in re.findall(
        r"python (benchmarks/\w+\.py)([^\n`|]*)", page.read_text().replace("\\\n", " ")
    ):
        source = (ROOT / file).read_text()
        for option in re.findall(r"--[\w-]+", rest.split("  #")[0]):
            assert f'"{option}"' in source, f"{page.name}: {file} has no option {option}"


@pytest.mark.parametrize(
    ("layout", "features"),
    [
        ("a folder a stream", "{path: features, rate: 1.5625}"),
        ("a file a video", "{path: thumos, rate: 1.5625}"),
        (
            "one array of all",
            "{path: Thumos14reduced-I3D-JOINTFeatures.npy, names: wtalc/videoname.npy, rate: 1.5625}",
        ),
    ],
)
def test_reproduce_takes_every_published_layout(
    python: Path, world: Path, tmp_path: Path, layout: str, features: str
) -> None:
    here = tmp_path / "here"
    shutil.copytree(world, here)
    annotations = "wtalc" if layout == "one array of all" else "gt.json"
    (here / "thumos14.yaml").write_text(
        f"name: thumos14\nannotations: {annotations}\nfeatures: {features}\nprotocol: activitynet\n"
    )
    line = small("weaktal reproduce sal thumos14 --data thumos14.yaml --seeds 0 --evaluate-every 1")
    refused = line.replace(" --anyway", "")
    told = run([("command", refused, 2), ("command", line, 0)], python, here)
    assert "3 classes, THUMOS14 has 20" in told[0]["told"]
    for part in ("last checkpoint", "best on the test set", "DIFFERENT"):
        assert part in told[1]["told"]
    assert (here / "reproduction-sal-thumos14/report.html").exists()
