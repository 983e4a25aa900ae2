"""NumPy files of strangers: arrays and plain values come out of them, code never runs."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from weaktal.core.errors import InputError


def _latin1(text: str, encoding: str) -> bytes:
    """What Python 2 era pickles call to make bytes; any other codec is refused."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"the codec {encoding!r} is not allowed")
    return text.encode("latin1")


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    return np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)


def _allowed() -> dict[tuple[str, str], Callable[..., Any]]:
    # The two functions are taken from what NumPy itself pickles, so that no private module is imported.
    rebuild = np.empty(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    names: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("_codecs", "encode"): _latin1,
    }
    for package in ("numpy.core", "numpy._core"):
        names[f"{package}.multiarray", "_reconstruct"] = rebuild  # type: ignore[assignment]
        names[f"{package}.multiarray", "scalar"] = scalar  # type: ignore[assignment]
        names[f"{package}.numeric", "_frombuffer"] = _from_buffer
    return names


class _ArrayUnpickler(pickle.Unpickler):
    """Knows NumPy arrays, NumPy scalars and Python's plain values, and nothing else."""

    _known = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._known[module, name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which is neither an array nor a plain value"
            ) from None


def read_npy(path: str | os.PathLike[str], *, mmap: bool = False) -> np.ndarray:
    """The array of a ``.npy`` file; object arrays come through an allow-listed unpickler.

    Args:
        path: the file.
        mmap: map the file instead of reading it (object arrays are always read).

    Raises:
        InputError: the file is missing, no ``.npy`` file, cut short, or holds more than arrays, numbers,
            strings and containers of them.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            read = {
                (1, 0): np.lib.format.read_array_header_1_0,
                (2, 0): np.lib.format.read_array_header_2_0,
            }.get(version)
            # version 3.0 (field names beyond latin1) has no public header reader, and holds no objects here
            shape, _, dtype = read(file) if read else ((1,), False, np.dtype(np.uint8))
            if dtype.hasobject:
                array = _ArrayUnpickler(file, encoding="latin1").load()
                if not isinstance(array, np.ndarray):
                    raise pickle.UnpicklingError("it does not hold an array")
                return array
        return np.asarray(
            np.load(path, mmap_mode="r" if mmap and 0 not in shape else None, allow_pickle=False)
        )
    except FileNotFoundError:
        raise InputError("no such file", file=path) from None
    except pickle.UnpicklingError as error:
        raise InputError(f"this pickled array was not opened: {error}", file=path) from None
    except (OSError, ValueError, EOFError, KeyError, IndexError, AttributeError, TypeError) as error:
        raise InputError(f"not a readable .npy file: {error}", file=path) from None
