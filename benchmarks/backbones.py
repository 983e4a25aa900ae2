"""What backbones without a hub are worth: on rendered videos by training, on a real clip by its one action.

    python benchmarks/backbones.py demo --out /tmp/backbones     # mAP of LAC on the demo, three backbones
    python benchmarks/backbones.py clip VIDEO START END           # one action from START to END, seconds

On a clip there is nothing to train a method on. Its snippets are told apart by the difference of the means of
those inside and outside of the action; blocks of two seconds are held out in turn, with 0.6 s around them.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

BACKBONES = ("motion", "efficientnet", "efficientnet+motion")


def streams_of(backbone: str, video: Path) -> tuple[np.ndarray, float]:
    """Rows (L, D) of a video, and how many there are in a second."""
    from weaktal.features.extract.driver import Job, open_video, stream_features

    built = Job(backbone).build()
    about = built.describe()
    blocks = [
        np.concatenate([rows[s] for s in about.dims], 1)
        for rows in stream_features(built, about, open_video(about, video))
    ]
    return np.concatenate(blocks), about.rate


def area(score: np.ndarray, inside: np.ndarray) -> float:
    """Area under the ROC curve: how often a snippet inside scores above one outside."""
    return float((score[inside][:, None] > score[~inside]).mean())


def clip(args: argparse.Namespace) -> None:
    for backbone in BACKBONES:
        rows, rate = streams_of(backbone, args.video)
        seconds = (np.arange(len(rows)) + 0.5) / rate
        inside = (seconds >= args.start) & (seconds < args.end)
        score = np.zeros(len(rows))
        for block in range(int(seconds[-1] // 2) + 1):
            held = seconds // 2 == block
            learn = np.abs(seconds - (2 * block + 1)) > 1.6
            a, b = rows[learn & inside].mean(0), rows[learn & ~inside].mean(0)
            score[held] = (rows[held] - (a + b) / 2) @ (a - b) / np.linalg.norm(a - b)
        print(f"{backbone:22} area under the ROC curve {area(score, inside):.3f}", flush=True)


def demo(args: argparse.Namespace) -> None:
    from weaktal.cli import main
    from weaktal.demo import render

    render(args.out / "demo", seed=3, train=args.train, test=args.test, workers=args.workers)
    for backbone in BACKBONES:
        folder = args.out / backbone
        folder.mkdir(exist_ok=True)
        for name in ("gt.json", "points.txt", "demo.yaml"):
            shutil.copy(args.out / "demo" / name, folder / name)
        words = ["extract", str(args.out / "demo/videos"), "--backbone", backbone]
        words += ["--out", str(folder / "features")]
        if args.workers:
            words += ["--workers", str(args.workers)]
        assert main(words) == 0
    for seed in range(args.seeds):
        for backbone in BACKBONES:
            folder = args.out / backbone
            run, data = folder / f"run-{seed}", str(folder / "demo.yaml")
            words = ["train", args.method, "--data", data, "--recipe", "demo", "--seed", str(seed)]
            assert main([*words, "--out", str(run)]) == 0
            assert main(["localize", str(run)]) == 0
            result = run / "measured.json"
            words = ["evaluate", str(run / "detections.json"), "--data", data, "--json", str(result)]
            assert main([*words, "--tiou", "0.1:0.7:0.1"]) == 0
            found = json.loads(result.read_text())
            print(f"{backbone:22} seed {seed}: mAP@0.1:0.7 {100 * found['average_mAP']:.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("demo")
    one.add_argument("--out", type=Path, required=True, help="folder for everything")
    one.add_argument("--train", type=int, default=36, help="training videos (default 36)")
    one.add_argument("--test", type=int, default=16, help="test videos (default 16)")
    one.add_argument("--seeds", type=int, default=1)
    one.add_argument("--method", default="lac", help="lac (default), asm_loc or tspnet")
    one.add_argument("--workers", type=int)
    one.set_defaults(run=demo)
    other = commands.add_parser("clip")
    other.add_argument("video", type=Path)
    other.add_argument("start", type=float)
    other.add_argument("end", type=float)
    other.set_defaults(run=clip)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
