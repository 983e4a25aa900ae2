"""From a data set to banks of features: in memory, on a GPU, or memory-mapped when they do not fit."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from weaktal.core import Annotations, CoverageWarning, Detections, InputError, NameIndex
from weaktal.core.findings import some
from weaktal.features.bank import FeatureBank
from weaktal.features.check import likely_cause, mismatched
from weaktal.methods.protocol import TrainingData

if TYPE_CHECKING:
    from weaktal.dataset import Dataset
    from weaktal.features.store import FeatureStore

UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
UNITS |= {f"{u}i": 1024 ** (i + 1) for i, u in enumerate("kmgt")}


def parse_size(text: str | int) -> int:
    """Bytes of a size such as "8GiB", "500 MB" or 1000.

    >>> parse_size("1.5KiB"), parse_size("2GB")
    (1536, 2000000000)
    """
    match = re.fullmatch(r"\s*([0-9.]+)\s*([kmgt]?i?)b?\s*", str(text).lower())
    try:
        assert match
        return int(float(match[1]) * UNITS[match[2]])
    except (AssertionError, KeyError, ValueError):
        raise InputError("not a size of memory", found=repr(text), expected="such as 8GiB or 500MB") from None


def available_memory() -> int:
    """Bytes of memory that this machine and this process' control group leave free."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
        free = int(found[1]) * 1024 if found else free
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    if limit.exists() and used.exists() and (text := limit.read_text().strip()) != "max":
        free = min(free, max(0, int(text) - int(used.read_text())))
    return free


def feature_bank(
    store: FeatureStore,
    names: Sequence[str],
    *,
    max_memory: int | str | None = None,
    scratch: str | Path | None = None,
) -> FeatureBank:
    """The features of some videos as one bank.

    Args:
        store: where they are.
        names: which, in this order.
        max_memory: bytes that the features may take; by default half of the free memory. Above it they are
            packed into a file under `scratch` once and memory-mapped from there.
        scratch: folder for that file.

    Raises:
        InputError: no video, or too little memory and no `scratch`.
    """
    if not names:
        raise InputError("no video to work on")
    lengths = np.array([store.length(n) for n in names], np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    axes = tuple(store.axis(n) for n in names)
    size = int(offsets[-1]) * store.dim * 4
    limit = available_memory() // 2 if max_memory is None else parse_size(max_memory)
    if size <= limit:
        data = torch.empty((int(offsets[-1]), store.dim))
        rows = data.numpy()
        for name, a, b in zip(names, offsets, offsets[1:], strict=False):
            rows[a:b] = store.load(name)
        return FeatureBank(tuple(names), data, offsets, axes)
    if scratch is None:
        raise InputError(
            "the features do not fit into the memory allowed",
            found=f"{size / 2**30:.2f} GiB",
            expected=f"at most {limit / 2**30:.2f} GiB",
            hint="raise --max-memory or name a folder for a packed copy",
        )
    path = _packed(store, names, offsets, Path(scratch))
    return FeatureBank.mapped(tuple(names), path, offsets, axes, store.dim)


def _packed(store: FeatureStore, names: Sequence[str], offsets: np.ndarray, folder: Path) -> Path:
    """A file of all rows, one after the other; made once and used again by a resumed run."""
    about = [list(names), offsets.tolist(), store.dim, store.provenance]
    key = hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]
    path = folder / f"features-{key}.float32"
    size = int(offsets[-1]) * store.dim * 4
    if path.exists() and path.stat().st_size == size:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(folder).free < size:
        raise InputError(
            "no room for a packed copy of the features", file=folder, expected=f"{size / 2**30:.2f} GiB free"
        )
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            for name in names:
                file.write(np.ascontiguousarray(store.load(name), dtype=np.float32).data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _with_features(
    annotations: Annotations, store: FeatureStore, role: str, *, labelled: bool
) -> Annotations:
    """The videos that can be used; says how many cannot, and why."""
    known = NameIndex(store.names)
    missing = [v.name for v in annotations if v.name not in known]
    bare = [v.name for v in annotations if labelled and v.name in known and not v.labels and not v.complete]
    for names, why in ((missing, "no features"), (bare, "no label")):
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            warnings.warn(
                f"{len(names)} of {len(annotations)} {role} videos have {why} and are left out: {shown}",
                CoverageWarning,
                stacklevel=3,
            )
    left_out = {*missing, *bare}
    kept = annotations.where(lambda v: v.name not in left_out)
    if not len(kept):
        raise InputError(
            f"no video of the subset {role!r} can be used", found=f"{len(missing)} without features"
        )
    return kept


def training_data(
    dataset: Dataset,
    supervision: str,
    *,
    subset: str = "train",
    seed: int = 0,
    proposals: Detections | None = None,
    max_memory: int | str | None = None,
    scratch: str | Path | None = None,
    only: Sequence[str] | None = None,
    leave_out: Sequence[str] = (),
) -> TrainingData:
    """What training may see of a data set: features and weak labels of one subset.

    Args:
        dataset: see `weaktal.dataset.Dataset`.
        supervision: "video" or "point", what the method learns from.
        subset: role or name of the subset.
        seed: of the run.
        proposals: segments of a base locator, for proposal-level methods.
        max_memory, scratch: see `feature_bank`.
        only: of the subset, these videos alone.
        leave_out: of the subset, all but these videos (a fold of a cross-validation).

    Raises:
        InputError: no usable video, none with a class, or no points where the method needs them.
    """
    annotations = dataset.subset(subset)
    if only is not None or leave_out:
        keep = set(annotations.videos if only is None else only) - set(leave_out)
        annotations = annotations.where(lambda v: v.name in keep)
    annotations = _with_features(annotations, dataset.store, subset, labelled=True)
    weak = annotations.weak(supervision)
    if not weak.multi_hot().any():
        raise InputError(
            f"no video of the subset {subset!r} has a class",
            file=dataset.annotation_file,
            found=f"{len(weak)} videos in which nothing occurs",
        )
    names = tuple(v.name for v in weak.videos)
    bank = feature_bank(dataset.store, names, max_memory=max_memory, scratch=scratch)
    return TrainingData(bank, weak, seed, proposals)


def training_notes(data: TrainingData, annotations: Annotations | None = None) -> list[str]:
    """What makes a training mean less than it seems to: classes and features that say nothing, a wrong rate.

    Args:
        data: what is trained on.
        annotations: with the durations to hold the features' lengths against.

    Raises:
        InputError: the features of every video are the same in all snippets.
    """
    notes = []
    seen = data.weak.multi_hot().max(axis=0, initial=0) > 0
    bare = [name for name, found in zip(data.weak.classes, seen, strict=True) if not found]
    if bare:
        notes.append(f"{len(bare)} classes have no training video and cannot be learnt: {some(bare)}")
    if annotations is not None and (said := _wrong_rate(data, annotations)) is not None:
        notes.append(said)
    if data.bank.mapping is None:
        edges = data.bank.offsets.tolist()
        flat = [
            name
            for name, a, b in zip(data.bank.names, edges, edges[1:], strict=False)
            if b - a > 1 and bool((data.bank.data[a:b] == data.bank.data[a]).all())
        ]
        if len(flat) == len(data.bank):
            raise InputError(
                "the features of every video are the same in all of its snippets: nothing can be learnt",
                found=some(flat),
                hint="placeholders? weaktal data inspect says which are all zero",
            )
        if flat:
            notes.append(f"{len(flat)} training videos have the same features in all snippets: {some(flat)}")
    return notes


def _wrong_rate(data: TrainingData, annotations: Annotations) -> str | None:
    """Whether a tenth of the videos or more have other lengths than their durations and the rate say."""
    known = {v.name: v.duration for v in annotations if v.duration}
    rows = [i for i, name in enumerate(data.bank.names) if name in known]
    if not rows:
        return None
    axis = data.bank.axes[rows[0]]
    rate = axis.length / (axis.end - axis.start)
    length = data.bank.lengths[rows].astype(np.float64)
    duration = np.array([known[data.bank.names[i]] for i in rows])
    off = mismatched(length, duration, rate)
    if off.mean() <= 0.1:
        return None
    return (
        f"{int(off.sum())} of {len(rows)} training videos have another length than duration x rate (rate "
        f"{rate:g}): {likely_cause(length, duration, None, rate)}"
    )


def describe_data(
    dataset: Dataset,
    data: TrainingData,
    subset: str,
    proposals: str | os.PathLike[str] | None = None,
    notes: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, Any]:
    """What a run's ``config.yaml`` says about its data, such as the features that `predict` must make again.

    Args:
        dataset, data: what is trained on.
        subset: role or name of it.
        proposals: file of a base locator's segments, for proposal-level methods.
        notes: what to know about results of this training, kept with them.
        left_out: videos of the subset that are not trained on.
    """
    return {
        **({"notes": list(notes)} if notes else {}),
        **({"left_out": list(left_out)} if left_out else {}),
        "path": str(dataset.path.resolve()),
        "name": dataset.name,
        "subset": subset,
        "videos": len(data),
        "proposals": str(Path(proposals).resolve()) if proposals else None,
        "features": dataset.store.provenance,
    }


def inference_bank(
    dataset: Dataset,
    subset: str = "test",
    *,
    max_memory: int | str | None = None,
    scratch: str | Path | None = None,
) -> FeatureBank:
    """The features of the videos of a subset; of all videos where the data set has no annotations."""
    if dataset.annotations is None:
        names: Sequence[str] = dataset.store.names
    else:
        kept = _with_features(dataset.subset(subset), dataset.store, subset, labelled=False)
        names = tuple(kept.videos)
    return feature_bank(dataset.store, names, max_memory=max_memory, scratch=scratch)


def at_device(bank: FeatureBank, device: torch.device, max_memory: int | str | None = None) -> FeatureBank:
    """The same features on a GPU, if half of its free memory stays free; otherwise where they are."""
    if device.type != "cuda" or bank.mapping is not None or bank.data.device == device:
        return bank
    free, _ = torch.cuda.mem_get_info(device)
    limit = free // 2 if max_memory is None else min(free // 2, parse_size(max_memory))
    return bank if bank.data.nbytes > limit else bank.to(device)
