"""Features packed for speed: all rows in one file of float32, and an index beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from weaktal.core import atomic_path, write_text
from weaktal.features.layouts import PACK_INDEX
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
        InputError: a video whose features are not sound; nothing is written then.
    """
    names = store.names if names is None else names
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
