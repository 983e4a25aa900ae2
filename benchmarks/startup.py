"""How long commands take that a person waits for many times a day, as ratios to ``python -c "import numpy"``.

    python benchmarks/startup.py ../shared/data/thumos14

FOLDER holds ``gt.json`` and ``proposals/detection_result_base_test.json``. The commands run in turn, each as
a process of its own, `--rounds` times; of each the least time counts, as all else is the machine's doing.
CPU time is about what an idle machine would take; on a busy one the clock says more.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path


def commands(folder: Path) -> dict[str, list[str]]:
    weaktal = [sys.executable, "-m", "weaktal"]
    truth, found = str(folder / "gt.json"), str(folder / "proposals/detection_result_base_test.json")
    return {
        'python -c "pass"': [sys.executable, "-c", "pass"],
        'python -c "import numpy"': [sys.executable, "-c", "import numpy"],
        "weaktal --version": [*weaktal, "--version"],
        "weaktal evaluate": [*weaktal, "evaluate", found, "--ground-truth", truth],
        "weaktal data inspect": [*weaktal, "data", "inspect", truth],
    }


def timed(command: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of processor time."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    passed, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--rounds", type=int, default=15)
    args = parser.parse_args()
    asked = commands(args.folder)
    least = {name: timed(command) for name, command in asked.items()}  # also fills the caches
    for _ in range(args.rounds):
        for name, command in asked.items():
            passed, used = timed(command)
            least[name] = min(passed, least[name][0]), min(used, least[name][1])
    processor = least['python -c "import numpy"'][1]
    print("| command | seconds | CPU seconds | CPU, to import numpy |\n|---|---|---|---|")
    for name, (passed, used) in least.items():
        print(f"| `{name}` | {passed:.3f} | {used:.3f} | {used / processor:.2f} |")


if __name__ == "__main__":
    main()
