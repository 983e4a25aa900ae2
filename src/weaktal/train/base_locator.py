"""The base locator of a method that re-scores segments: train it, and make its proposals."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightning_fabric import Fabric

from weaktal.core import Detections, InputError, SnippetScores
from weaktal.dataset import Dataset
from weaktal.formats import save_detections
from weaktal.formats.scores import load_scores, save_scores
from weaktal.methods import find_method
from weaktal.methods.protocol import MethodConfig, SnippetMethod
from weaktal.train.config import recipes
from weaktal.train.data import at_device, describe_data, feature_bank, inference_bank, training_data
from weaktal.train.inference import score_videos
from weaktal.train.loop import fit, launch
from weaktal.train.run import Run, TrainingSettings

PROPOSALS = "proposals.json"
SCORES = "scores.safetensors"  # of the snippets of the training videos, beside the proposals


def base_proposals(
    dataset: Dataset,
    folder: str | Path,
    base: str,
    config: MethodConfig,
    *,
    recipe: str | None = None,
    subset: str = "train",
    seed: int = 0,
    training: TrainingSettings | None = None,
    resume: bool = False,
    leave_out: Sequence[str] = (),
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    fabric: Fabric | None = None,
) -> Path:
    """Train a base locator and write its proposals, nothing suppressed, for the training and the test subset.

    Args:
        dataset: features, annotations, points.
        folder: run directory of the base locator.
        base: its name, of a method that scores snippets.
        config: its configuration.
        recipe: where that comes from, for the record.
        subset: what it is trained on.
        leave_out: videos of the subset that it is not trained on; it proposes in them, too.
        seed, training, resume, checkpoint_seconds, progress, fabric: see `weaktal.train.fit` and
            `Run.create`.

    Returns:
        The file: ``proposals.json`` in `folder`. Beside it lies ``scores.safetensors``, what the base locator
        says about the snippets of the training videos. A resumed run that has it already returns at once.

    Raises:
        InputError: as from training; or the base locator proposes nothing.
    """
    folder, training = Path(folder), training or TrainingSettings()
    scratch = folder / "features"
    fabric = fabric or launch(training.device, training.precision)
    path = folder / PROPOSALS
    data = training_data(
        dataset,
        find_method(base).supervision,
        subset=subset,
        seed=seed,
        max_memory=training.max_memory,
        scratch=scratch,
        leave_out=leave_out,
    )
    if fabric.is_global_zero:
        Run.create(
            folder,
            base,
            config,
            dim=data.bank.dim,
            classes=data.weak.classes,
            seed=seed,
            recipe=recipe,
            data=describe_data(dataset, data, subset, left_out=leave_out),
            training=training,
            resume=resume,
        )
    fabric.barrier()
    if path.exists():
        return path
    run = Run.open(folder)
    data = replace(data, bank=at_device(data.bank, fabric.device, training.max_memory))
    fit(
        run.build(),
        data,
        folder,
        seed=seed,
        resume=resume,
        compile=training.compile,
        checkpoint_seconds=checkpoint_seconds,
        progress=progress,
        fabric=fabric,
    )
    if fabric.is_global_zero:
        method = run.method("last").to(fabric.device)
        if not isinstance(method, SnippetMethod):
            raise InputError("this method scores no snippets, so it is no base locator", found=base)
        banks = [data.bank]
        apart = [name for name in leave_out if name in dataset.store]
        if apart:
            banks.append(feature_bank(dataset.store, apart, max_memory=training.max_memory, scratch=scratch))
        if dataset.annotations is not None and len(dataset.annotations) > len(data) + len(apart):
            banks.append(inference_bank(dataset, max_memory=training.max_memory, scratch=scratch))
        scores = [score_videos(method, bank) for bank in banks]
        save_scores(scores[0], folder / SCORES, method.classes)
        found = [method.candidates(s) for s in scores]
        save_detections(Detections.concatenate(found, method.classes), path)
    fabric.barrier()
    return path


def base_scores(proposals: str | os.PathLike[str] | None) -> dict[str, SnippetScores] | None:
    """What the base locator that made a proposals file says about training videos, if that lies beside it."""
    path = None if proposals is None else Path(proposals).with_name(SCORES)
    if path is None or not path.is_file():
        return None
    return {s.video: s for s in load_scores(path)[0]}


def recipe_of(base: str, recipe: str | None) -> str | None:
    """The base locator's recipe of the same name, if it has one."""
    return recipe if recipe in recipes(base) else None
