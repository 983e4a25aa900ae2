"""The tests of all that works without torch, under other versions of Python: `python tests/pythons.py`.

For each version the interpreter that the machine has: ``pythonX.Y``, or one that pyenv or uv keeps. One that
is not there is skipped, and the last line says so. Each has an environment of its own in ``build/``, with the
versions of ``constraints.txt``, or with ``--oldest`` the oldest that ``pyproject.toml`` allows. ``--torch``
installs everything instead and runs all tests; PyPI's torch for x86_64 is a CUDA build of several GB, and
``make lower-bounds`` is the same for its oldest.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.12", "3.13", "3.14")  # 3.11 is what everything else runs under
# what the rooms without torch import, and their tests
PACKAGES = """
    numpy pyyaml pydantic safetensors rich jinja2 matplotlib orjson h5py av opencv-contrib-python-headless
    defusedxml pympi-ling praatio opentimelineio otio-fcpx-xml-adapter otio-cmx3600-adapter
    pytest pytest-xdist hypothesis pandas
"""
TESTS = """
    tests/core tests/formats tests/evaluate tests/localize tests/report tests/test_dataset.py
    tests/cli/test_data.py tests/cli/test_evaluate.py tests/cli/test_diagnose.py tests/features
    --ignore=tests/features/extract --ignore=tests/features/test_sampling.py
"""


def interpreter(version: str) -> Path | None:
    """An interpreter of a version on this machine, of several the newest that pyenv or uv keeps."""
    asks = "import sys, venv; print('%d.%d' % sys.version_info[:2])"
    for place in (shutil.which(f"python{version}"), *_kept(version)):
        # a shim of pyenv is there even where its interpreter is not
        if place and _said([str(place), "-c", asks]) == version:
            return Path(place)
    return None


def _kept(version: str) -> list[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found = list(pyenv.glob(f"{version}.*/bin/python"))
    if uv := _said(["uv", "python", "dir"]):
        found += Path(uv).glob(f"cpython-{version}.*/bin/python")
    return sorted(found, key=lambda p: int(re.findall(r"\d+", p.parts[-3])[2]), reverse=True)


def _said(command: list[str]) -> str | None:
    """What a command prints; None if it is not there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def oldest() -> list[str]:
    """What `PACKAGES` names, with the bounds that ``pyproject.toml`` gives."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [
        *project["dependencies"],
        *(r for extra in project["optional-dependencies"].values() for r in extra),
    ]
    bounds = {re.split(r"[^\w-]", r)[0]: r for r in asked}
    return [bounds[name] for name in PACKAGES.split()]


def passes(python: Path, version: str, kind: str) -> bool:
    """Install what is needed, and test; `kind` is "pinned", "oldest" or "torch"."""
    home = ROOT / f"build/python{version}-{kind}"
    own = home / "bin/python"
    if not own.exists():
        subprocess.run([python, "-m", "venv", home], check=True)
    install = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pinned = ["-c", ROOT / "constraints.txt"]
    if kind == "torch":
        subprocess.run([*install, *pinned, "-e", f"{ROOT}[all,dev]"], check=True)
    elif kind == "oldest":
        subprocess.run([*install, "uv"], check=True)
        lowest = ["--resolution", "lowest-direct", "--python", own]
        subprocess.run([home / "bin/uv", "pip", "install", "--quiet", *lowest, *oldest()], check=True)
    else:
        subprocess.run([*install, *pinned, *PACKAGES.split()], check=True)
    if kind != "torch":
        subprocess.run([*install, "--no-deps", "-e", ROOT], check=True)
    tests = [] if kind == "torch" else TESTS.split()
    print(f"Python {version} ({python}), {kind} versions", flush=True)
    command = [own, "-m", "pytest", "-n", "auto", "-p", "no:cacheprovider", *tests]
    # no browser there: in CI its tests would fail in place of being skipped
    env = {k: v for k, v in os.environ.items() if k != "CI"}
    return subprocess.run(command, cwd=ROOT, env=env).returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "versions", nargs="*", default=VERSIONS, metavar="X.Y", help="default: all that we name"
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--oldest", action="store_true", help="with the oldest versions allowed")
    which.add_argument("--torch", action="store_true", help="install torch, too, and run all tests")
    args = parser.parse_args()
    told: dict[str, list[str]] = {"passed": [], "FAILED": [], "skipped, not on this machine": []}
    for version in args.versions:
        python = interpreter(version)
        kind = "torch" if args.torch else "oldest" if args.oldest else "pinned"
        if python is None:
            told["skipped, not on this machine"].append(version)
            continue
        try:
            fine = passes(python, version, kind)
        except subprocess.CalledProcessError as error:
            print(f"Python {version}: could not be set up: {error}", flush=True)
            fine = False
        told["passed" if fine else "FAILED"].append(version)
    print("pythons: " + "; ".join(f"{kind}: {', '.join(v)}" for kind, v in told.items() if v))
    return 1 if told["FAILED"] else 0


if __name__ == "__main__":
    sys.exit(main())
