"""Methods that re-score the segments of a base locator: train the base, make its proposals, train on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

from lightning_fabric import Fabric

from weaktal.core import Detections, InputError, SnippetScores
from weaktal.dataset import Dataset
from weaktal.formats import load_detections, save_detections
from weaktal.methods import find_method
from weaktal.methods.protocol import Method, MethodConfig, SnippetMethod
from weaktal.train.config import recipes, resolve_config
from weaktal.train.data import at_device, inference_bank, training_data
from weaktal.train.inference import detect_videos, score_videos
from weaktal.train.loop import fit, launch
from weaktal.train.run import Run, TrainingSettings

PROPOSALS = "proposals.json"


class _Proposes(Protocol):
    def proposals(self, scores: list[SnippetScores]) -> Detections: ...


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
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    fabric: Fabric | None = None,
) -> Path:
    """Train a base locator and write its proposals, nothing suppressed, for the training and the test subset.

    Args:
        dataset: features, annotations, points.
        folder: run directory of the base locator.
        base: its name; it has a method `proposals` from scores to detections.
        config: its configuration.
        recipe: where that comes from, for the record.
        subset: what it is trained on.
        seed, training, resume, checkpoint_seconds, progress, fabric: see `weaktal.train.fit` and
            `Run.create`.

    Returns:
        The file: ``proposals.json`` in `folder`. A resumed run that has it already returns at once.

    Raises:
        InputError: as from training; or the base locator proposes nothing.
    """
    folder, training = Path(folder), training or TrainingSettings()
    fabric = fabric or launch(training.device, training.precision)
    path = folder / PROPOSALS
    data = training_data(
        dataset,
        find_method(base).supervision,
        subset=subset,
        seed=seed,
        max_memory=training.max_memory,
        scratch=folder / "features",
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
            data={"path": str(dataset.path.resolve()), "name": dataset.name, "subset": subset},
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
        if not isinstance(method, SnippetMethod) or not hasattr(method, "proposals"):
            raise InputError("this method makes no proposals", found=base)
        banks = [data.bank]
        if dataset.annotations is not None and len(dataset.annotations) > len(data):
            banks.append(inference_bank(dataset, max_memory=training.max_memory, scratch=folder / "features"))
        found = [cast(_Proposes, method).proposals(score_videos(method, bank)) for bank in banks]
        save_detections(Detections.concatenate(found, method.classes), path)
    fabric.barrier()
    return path


def train_on_base(
    dataset: Dataset,
    out: str | Path,
    *,
    method: str = "tspnet",
    config: MethodConfig | None = None,
    base_config: MethodConfig | None = None,
    recipe: str | None = None,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    progress: bool = True,
) -> tuple[Detections, Detections]:
    """A base locator and a proposal-level method on top of it, trained and run on the test subset.

    Args:
        dataset: features, annotations, points.
        out: run directory; the base locator's is ``base`` in it.
        method: a method that has a base.
        config, base_config: their configurations; by default those of `recipe`.
        recipe: see `recipe_of`.
        seed: of both.
        device, resume, progress: see `weaktal.train.fit`.

    Returns:
        Detections of the base locator, and of the method, in the test subset; each also stands in its run
        directory as ``detections.json``.
    """
    out, training = Path(out), TrainingSettings(device=device)
    kind: type[Method] = find_method(method)
    if kind.base is None:
        raise InputError("this method has no base locator", found=method)
    fabric = launch(device)
    base_config = base_config or resolve_config(kind.base, recipe_of(kind.base, recipe))
    config = config or resolve_config(method, recipe)
    path = base_proposals(
        dataset,
        out / "base",
        kind.base,
        base_config,
        seed=seed,
        training=training,
        resume=resume,
        progress=progress,
        fabric=fabric,
    )
    data = training_data(dataset, kind.supervision, seed=seed)
    proposals = load_detections(path, data.weak.classes)
    data = replace(data, proposals=proposals, bank=at_device(data.bank, fabric.device))
    run = Run.create(
        out,
        method,
        config,
        dim=data.bank.dim,
        classes=data.weak.classes,
        seed=seed,
        recipe=recipe,
        data={
            "path": str(dataset.path.resolve()),
            "name": dataset.name,
            "subset": "train",
            "proposals": str(path.resolve()),
        },
        training=training,
        resume=resume,
    )
    trained = run.build()
    fit(trained, data, out, seed=seed, resume=resume, progress=progress, fabric=fabric)
    test = at_device(inference_bank(dataset), fabric.device)
    base = Run.open(out / "base").method("last").to(fabric.device)
    found = detect_videos(base, test), detect_videos(trained, test, proposals=proposals)
    for detections, folder in zip(found, (out / "base", out), strict=True):
        save_detections(detections, folder / "detections.json")
    return found


def recipe_of(base: str, recipe: str | None) -> str | None:
    """The base locator's recipe of the same name, if it has one."""
    return recipe if recipe in recipes(base) else None
