"""Features packed for speed: all rows in one file of float32, and an index beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weaktal.core import InputError, atomic_path, shown, write_text
from weaktal.features.layouts import PACK_INDEX, stored_names
from weaktal.features.store import FeatureStore

DATA = "features.float32"


def write_pack(
    store: FeatureStore, folder: str | os.PathLike[str], names: Sequence[str] | None = None
) -> None:
    """Pack the features of some videos; `FeatureStore.open` reads the folder, memory-mapped.

    Args:
        store: any features.
        folder: gets ``pack.json`` (names, lengths, width, rate, where they come from) and the data file.
        names: which videos, in this order; all without it.

    Raises:
        InputError: a video whose features are not sound, a name that cannot be that of a file (so that a pack
            can always be unpacked); nothing is written then.
    """
    names = store.names if names is None else names
    stored_names(names, ".safetensors")
    folder = Path(folder)
    lengths = []
    starts = [store.start(name) for name in names]
    with atomic_path(folder / DATA) as temporary:
        with temporary.open("wb") as file:
            for name in names:
                rows = np.ascontiguousarray(store.load(name), dtype="<f4")
                file.write(rows.data)
                lengths.append(len(rows))
        index = {
            "format": "weaktal-pack 1",
            "data": DATA,
            "dim": store.dim,
            "about": {k: v for k, v in store.provenance.items() if v is not None},
            "names": list(names),
            "lengths": lengths,
        }
        if any(start is not None for start in starts):
            index["starts"] = starts
        # an index that says another size than the data file is refused, so no order of the two can mislead
        write_text(folder / PACK_INDEX, json.dumps(index) + "\n")
    reread(folder, names)


def reread(folder: Path, names: Sequence[str]) -> None:
    """Open features that were just written.

    Raises:
        InputError: other videos are found than those that were written.
    """
    found = FeatureStore.open(folder).names
    if sorted(found) != sorted(set(names)):
        lost = sorted(set(names) ^ set(found))
        raise InputError(
            "these features are not read back as they were written",
            file=folder,
            found=f"{len(found)} videos, and not {shown(lost[0])}" if lost else f"{len(found)} videos",
            expected=f"{len(set(names))}",
        )
