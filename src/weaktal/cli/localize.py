"""`weaktal localize`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from weaktal.core import Detections, InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run_folder", type=Path, metavar="RUN", help="run directory of a trained method")
    add("--data", type=Path, help="data set description (YAML); by default the one that was trained on")
    add("--out", type=Path, help="detections, .json or .csv (default RUN/detections.json)")
    add("--subset", default="test", help="role or name of the subset (default test)")
    add("--checkpoint", choices=("last", "best"), help="default: what the run's checkpoint rule says")
    add("--from-scores", action="store_true", help="repeat from the scores saved in RUN, without the network")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="localization setting",
    )
    add("--proposals", type=Path, help="segments of a base locator, for proposal-level methods")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    add(
        "--max-memory", metavar="SIZE", help="most memory for features, such as 8GiB; above it, memory-mapped"
    )


def run(args: argparse.Namespace) -> int:
    from weaktal.bench.measure import load_proposals
    from weaktal.formats import save_detections
    from weaktal.formats.scores import load_scores, save_scores
    from weaktal.methods.protocol import SnippetMethod
    from weaktal.train import Run, parse_settings
    from weaktal.train.config import validated
    from weaktal.train.inference import detect_videos, score_videos
    from weaktal.train.loop import launch

    opened = Run.open(args.run_folder)
    scores_path = opened.folder / "scores" / f"{args.subset}.safetensors"
    begin = time.perf_counter()
    detections: Detections
    if args.from_scores:
        method = opened.build()
        if not isinstance(method, SnippetMethod):
            raise InputError(f"{method.name} has no snippet scores; localize without --from-scores")
        if not scores_path.exists():
            raise InputError("no scores saved yet", file=scores_path, hint="localize without --from-scores")
        scores, classes = load_scores(scores_path)
        if classes != method.classes:
            raise InputError("these scores are of other classes", file=scores_path)
    else:
        method = opened.method(args.checkpoint)
    settings = parse_settings(args.settings)
    if settings:
        method.config = validated(type(method.config), {**opened.config.config, **settings})
    if args.from_scores:
        assert isinstance(method, SnippetMethod)
        detections = method.localize(scores)
    else:
        from weaktal.dataset import Dataset
        from weaktal.train import inference_bank

        path = args.data or opened.config.data.get("path")
        if path is None:
            raise InputError("no data set: name its description with --data")
        dataset = Dataset.load(path)
        bank = inference_bank(
            dataset,
            args.subset,
            max_memory=args.max_memory,
            scratch=opened.folder / "features",
        )
        if bank.dim != opened.config.dim:
            raise InputError(
                "the features are of another width than the method's",
                file=path,
                found=bank.dim,
                expected=opened.config.dim,
            )
        method.to(launch(args.device).device)
        if isinstance(method, SnippetMethod):
            scores = score_videos(method, bank)
            save_scores(scores, scores_path, method.classes)
            detections = method.localize(scores)
        else:
            proposals = load_proposals(args.proposals or opened.config.data.get("proposals"), dataset)
            detections = detect_videos(method, bank, proposals=proposals)
    out = args.out or opened.folder / "detections.json"
    save_detections(detections, out)
    seconds = time.perf_counter() - begin
    print(
        f"{len(detections)} detections in {len(detections.names)} videos, {seconds:.1f} s: {out}",
        file=sys.stderr,
    )
    return 0
