"""NumPy files of strangers: arrays and plain values come out of them, code never runs.

Object arrays are pickles. Three things stand between such a file and this process: its opcodes are read
beforehand and must belong to a small grammar, in which every length fits into the file (`_skim`); the only
callables that it can reach are stand-ins of ours, which check every argument and hold no NumPy object while
the file is still being read (`_KNOWN`); and what comes out is walked through once more, so that only arrays,
numbers, texts and shallow containers of them are left (`_Walk`).
"""

from __future__ import annotations

import ast
import math
import mmap
import os
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from weaktal.core.errors import InputError
from weaktal.core.printable import printable, shown

Shape = tuple[int, ...]

MAGIC = b"\x93NUMPY"
MAX_HEADER = 10_000
# a size in an array without elements costs nothing, and a loop over it may last for ever
MAX_EMPTY = 1_000_000
_NUMBERS = {
    f"{kind}{size}"
    for kind, sizes in (("iu", (1, 2, 4, 8)), ("f", (2, 4, 8)), ("c", (8, 16)))
    for kind in kind
    for size in sizes
} | {"b1"}


class _Refused(Exception):
    """Why a file is not read; becomes an `InputError`."""


def read_npy(path: str | os.PathLike[str], *, mmap: bool = False) -> np.ndarray:
    """The array of a ``.npy`` file; object arrays are rebuilt from a small grammar, see above.

    Args:
        path: the file.
        mmap: map the file instead of reading it (object arrays are always read).

    Raises:
        InputError: the file is missing, no ``.npy`` file, cut short, or holds more than arrays, numbers,
            texts and containers of them.
    """
    path = Path(path)
    with _Explained(path, ".npy"), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        shape, dtype, fortran = _header(file, size)
        if dtype.hasobject:
            return _objects(file, shape)
        if 0 in shape:
            return np.empty(shape, dtype)
        if mmap:
            return np.memmap(path, dtype, "r", file.tell(), shape, "F" if fortran else "C")
        flat = np.fromfile(file, dtype, math.prod(shape))
        return flat.reshape(shape, order="F" if fortran else "C")


def npy_shape(path: str | os.PathLike[str]) -> Shape:
    """The shape of a ``.npy`` file, from its header; errors as in `read_npy`."""
    path = Path(path)
    with _Explained(path, ".npy"), path.open("rb") as file:
        return _header(file, os.fstat(file.fileno()).st_size)[0]


def read_npz(path: str | os.PathLike[str]) -> dict[str, Callable[[], np.ndarray]]:
    """The arrays of an ``.npz`` archive by name, each read when its value is called; no object arrays.

    Raises:
        InputError: as in `read_npy`; an archive that is encrypted, or packed beyond what numbers allow. So do
            the calls.
    """
    path = Path(path)
    with _Explained(path, ".npz"), zipfile.ZipFile(path) as archive:
        members = {i.filename.removesuffix(".npy"): i for i in archive.infolist() if not i.is_dir()}
        if len(members) != sum(not i.is_dir() for i in archive.infolist()):
            raise _Refused("an array is in it twice")
        for name, member in members.items():
            if member.flag_bits & 1:
                raise _Refused(f"{shown(name, 60)} is encrypted")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise _Refused(f"{shown(name, 60)} is packed by a method that NumPy does not use")
            if member.file_size > 200 * member.compress_size + 2**26:
                raise _Refused(
                    f"{shown(name, 60)} unpacks to {member.file_size} bytes from {member.compress_size}"
                )

    def read(member: zipfile.ZipInfo) -> np.ndarray:
        with _Explained(path, ".npz"), zipfile.ZipFile(path) as archive, archive.open(member) as file:
            shape, dtype, fortran = _header(file, member.file_size)
            if dtype.hasobject:
                raise _Refused("it holds an object array")
            data = file.read(math.prod(shape) * dtype.itemsize)
            return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")

    return {name: partial(read, member) for name, member in members.items()}


# what readers raise about broken files
_BROKEN = (
    *(_Refused, ValueError, EOFError, LookupError, AttributeError, TypeError, ArithmeticError, BufferError),
    *(MemoryError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile),
)


def text_of(value: object) -> str:
    """A name in an array: bytes are UTF-8, or else latin-1 (Python 2 wrote what the machine used)."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value.decode("latin-1")
    return str(value)


class _Explained:
    """What goes wrong inside becomes an `InputError` about the file."""

    def __init__(self, path: Path, suffix: str) -> None:
        self.path, self.suffix = path, suffix

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        what = f"not a readable {self.suffix} file"
        if isinstance(error, FileNotFoundError):
            raise InputError("no such file", file=self.path) from None
        if isinstance(error, OSError):
            raise InputError(f"{what}: {error.strerror or error}", file=self.path) from None
        if isinstance(error, pickle.UnpicklingError):
            raise InputError(f"this pickled array was not opened: {error}", file=self.path) from None
        if isinstance(error, _BROKEN):
            said = printable(str(error) or type(error).__name__, 200)  # some cite pages of the file
            raise InputError(f"{what}: {said}", file=self.path) from None


# ------------------------------------------------------------------------------------------- headers


def _header(file: IO[bytes], size: int) -> tuple[Shape, np.dtype[Any], bool]:
    """Shape, type and order of what follows in a stream of `size` bytes; the data fits into them."""
    start = file.read(8)
    if start[:6] != MAGIC or len(start) < 8:
        raise _Refused("it does not begin like one")
    if start[6] not in (1, 2, 3):
        raise _Refused(f"version {start[6]} of the format is not known")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if length > min(MAX_HEADER, size):
        raise _Refused(f"a header of {length} bytes")
    raw = file.read(length)
    text = raw.decode("utf-8" if start[6] == 3 else "latin-1")
    try:
        # Python 2 wrote long integers as 3L
        entry = ast.literal_eval(re.sub(r"(?<=\d)L\b", "", text).strip())
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise _Refused(f"the header {shown(text.strip(), 80)} cannot be read") from None
    if not isinstance(entry, dict) or entry.keys() != {"descr", "fortran_order", "shape"}:
        raise _Refused(f"the header {shown(text.strip(), 80)} is of another kind")
    dtype = _header_dtype(entry["descr"])
    if not isinstance(entry["fortran_order"], bool):
        raise _Refused("the header does not say the order of the data")
    shape = _shape(entry["shape"])
    left = size - 8 - width - length
    if not dtype.hasobject and math.prod(shape) * dtype.itemsize > left:
        raise _Refused(
            f"shape {shown(shape, 80)} of {dtype} needs {math.prod(shape) * dtype.itemsize} bytes "
            f"and {left} are there"
        )
    return shape, dtype, entry["fortran_order"]


def _header_dtype(descr: object) -> np.dtype[Any]:
    if not isinstance(descr, str) or not re.fullmatch(r"[<>|=]?[a-zA-Z]\d{0,9}", descr):
        raise _Refused(f"arrays of type {shown(descr, 60)} are not read")
    order, base = ("", descr) if descr[0].isalpha() else (descr[0], descr[1:])
    return _ordered(_dtype(base), order or "=")


def _ordered(dtype: np.dtype[Any], order: str) -> np.dtype[Any]:
    return dtype.newbyteorder(order)  # type: ignore[arg-type]


def _dtype(base: str) -> np.dtype[Any]:
    """A type from a closed list: numbers, texts of fixed size, objects."""
    sized = re.fullmatch(r"[SU]([1-9]\d{0,8})", base)
    if base not in _NUMBERS and not sized and base not in ("O", "O4", "O8"):
        raise _Refused(f"arrays of type {shown(base, 60)} are not read")
    return np.dtype("O" if base[0] == "O" else base)


def _shape(value: object) -> Shape:
    if not isinstance(value, tuple) or len(value) > 16:
        raise _Refused(f"a shape {shown(value, 80)}")
    for n in value:
        if type(n) is not int or not 0 <= n < 2**62:
            raise _Refused(f"a shape {shown(value, 80)}")
    if 0 in value and max(value) > MAX_EMPTY:
        raise _Refused(f"a shape {shown(value, 80)} of nothing")
    return value


# ------------------------------------------------------------------------------------ the opcodes


# opcodes without an argument or with one of fixed size: marks, None, booleans, integers, floats, tuples,
# lists, dictionaries, calls, states, and the memory (whose large indices are looked at one by one)
_PLAIN = re.compile(
    rb"(?:[(N\x88\x89)t\x85\x86\x87\]lae}dsuRb\x93\x94]|[Kqh].|M..|[Jj]....|G.{8}|r..\x00\x00|\x80[\x00-\x05])+",
    re.DOTALL,
)
# opcodes with the size of their argument before it: bytes of that size, and whether it may be long
_SIZED = {
    ord(code): width for width, codes in ((1, "UC\x8c"), (4, "TBX"), (8, "\x8d\x8e\x96")) for code in codes
}
_LONG = {0x8A: 1, 0x8B: 4}  # integers
_LINES = {ord(code): lines for code, lines in zip("ILFSVpgc", (1, 1, 1, 1, 1, 1, 1, 2), strict=True)}
_SHORT_LINE = frozenset(b"ILFpg")


def _skim(data: mmap.mmap, at: int) -> None:
    """Read the opcodes of a pickle without acting on them.

    Raises:
        UnpicklingError: an opcode outside of the grammar, a length or index beyond the file.
    """
    begin, end, containers = at, len(data), 0
    while True:
        if (plain := _PLAIN.match(data, at)) is not None:
            containers += sum(plain[0].count(code) for code in (b"]", b"}"))
            at = plain.end()
        if at >= end:
            raise pickle.UnpicklingError("it is cut short")
        code = data[at]
        at += 1
        if code == ord("."):
            break
        if code in _LINES:
            for _ in range(_LINES[code]):
                stop = data.find(b"\n", at)
                if stop < 0 or (code in _SHORT_LINE and stop - at > 40):
                    raise pickle.UnpicklingError(f"an argument without an end at byte {at}")
                if code == ord("p") and not 0 <= int(data[at:stop]) < end:
                    raise pickle.UnpicklingError(f"an index beyond the file at byte {at}")
                at = stop + 1
            continue
        width = _SIZED.get(code) or _LONG.get(code)
        if code == ord("r"):
            width, size = 4, 0
            if int.from_bytes(data[at : at + 4], "little") >= end:
                raise pickle.UnpicklingError(f"an index beyond the file at byte {at}")
        elif code == 0x95:  # a frame: what follows belongs together, and is looked at as usual
            width, size = 8, 0
            if int.from_bytes(data[at : at + 8], "little") > end - at - 8:
                raise pickle.UnpicklingError("it is cut short")
        elif width is None:
            raise pickle.UnpicklingError(f"it asks for an operation that arrays do not need at byte {at - 1}")
        else:
            size = int.from_bytes(data[at : at + width], "little")
            if size > end - at - width:
                raise pickle.UnpicklingError("it is cut short")
            if code in _LONG and size > 16:
                raise pickle.UnpicklingError(f"an integer of {size} bytes")
        at += width + size
    # an empty list takes a byte in the file and 56 in memory
    if containers > (at - begin) // 4 + 2**20:
        raise pickle.UnpicklingError("it is made of empty lists")


# -------------------------------------------------------------------------- what a pickle may call


def _refuse(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(what)


def _text(value: object) -> str:
    """A short text of a pickle; Python 2 stored bytes."""
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    if not isinstance(value, str) or len(value) > 100:
        raise _refuse(f"a name was expected in place of {shown(value, 60)}")
    return value


class _Call:
    """A function that a pickle may call. It holds nothing that a pickle could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., object]) -> None:
        self._function = function

    def __call__(self, *args: object) -> object:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise _refuse("it gives a state to a function")


class _Type:
    """Stands for a NumPy type while a pickle is read."""

    __slots__ = ("_base", "built")

    def __init__(self, base: str) -> None:
        self._base = _dtype(base)
        self.built: np.dtype[Any] | None = self._base if self._base.itemsize == 1 else None

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, tuple) or len(state) not in (8, 9) or state[0] not in (3, 4):
            raise _refuse("a type with a forged state")
        order, inner, sizes, flags = _text(state[1]), state[2:5], state[5:7], state[7]
        size = self._base.itemsize if self._base.kind in "SU" else -1
        sound = (
            order in ("<", ">", "|", "=")
            and all(x is None for x in inner)
            and all(type(x) is int for x in (*sizes, flags))
            and sizes[0] == size
            and -1 <= sizes[1] <= 16
            and (len(state) == 8 or not state[8])
        )
        if not sound:
            raise _refuse("a type with a forged state")
        self.built = _ordered(self._base, order)


class _Array:
    """Stands for an array while a pickle is read."""

    __slots__ = ("built",)

    def __init__(self) -> None:
        self.built: np.ndarray | None = None

    def __setstate__(self, state: object) -> None:
        if self.built is not None or not isinstance(state, tuple):
            raise _refuse("an array with a forged state")
        if len(state) == 5 and state[0] == 1:
            state = state[1:]
        if len(state) != 4 or state[2] not in (True, False):
            raise _refuse("an array with a forged state")
        shape, dtype, fortran, data = state
        self.built = _filled(shape, dtype, bool(fortran), data)


def _filled(shape: object, dtype: object, fortran: bool, data: object) -> np.ndarray:
    """An array of this shape over the data, if they are of one size."""
    found, size = _built(dtype), _shape(shape)
    order: Literal["F", "C"] = "F" if fortran else "C"
    if found.hasobject:
        if type(data) is not list or len(data) != math.prod(size):
            raise _refuse("an array of objects over something else than a list of that length")
        flat = np.empty(len(data), object)
        for i, x in enumerate(data):
            flat[i] = x
        return flat.reshape(size)  # NumPy lists objects row by row, in arrays of any order
    if not isinstance(data, bytes | bytearray) or len(data) != math.prod(size) * found.itemsize:
        raise _refuse("an array over data of another size")
    if not data:
        return np.empty(size, found)
    return np.frombuffer(bytes(data), found).reshape(size, order=order)


def _built(dtype: object) -> np.dtype[Any]:
    if not isinstance(dtype, _Type) or dtype.built is None:
        raise _refuse("an array without a type")
    return dtype.built


def _reconstruct(kind: object, shape: object, code: object) -> _Array:
    """What NumPy pickles an array as: an empty one, that then gets its state."""
    if kind is not _NDARRAY or shape != (0,) or _text(code) != "b":
        raise _refuse("an array that is made otherwise than NumPy makes one")
    return _Array()


def _from_buffer(data: object, dtype: object, shape: object, order: object) -> _Array:
    out = _Array()
    if _text(order) not in ("C", "F"):
        raise _refuse("an array of unknown order")
    if _built(dtype).hasobject:
        raise _refuse("an array of objects over bytes")
    out.built = _filled(shape, dtype, _text(order) == "F", data)
    return out


def _scalar(dtype: object, data: object) -> object:
    if _built(dtype).hasobject:
        raise _refuse("a number that is an object")
    return _filled((1,), dtype, False, data)[0]


def _make_type(base: object, align: object = 0, copy: object = 1) -> _Type:
    if align not in (0, 1) or copy not in (0, 1):
        raise _refuse("a type that is made otherwise than NumPy makes one")
    return _Type(_text(base))


def _latin1(text: object, encoding: object) -> bytes:
    """What Python 3 calls to write bytes in the protocols of Python 2."""
    if not isinstance(text, str) or _text(encoding) != "latin1":
        raise _refuse(f"the codec {shown(encoding, 40)} is not allowed")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _never(*args: object) -> object:
    raise _refuse("it calls the array type itself")


_NDARRAY = _Call(_never)
_KNOWN: dict[tuple[str, str], _Call] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Call(_make_type),
    ("_codecs", "encode"): _Call(_latin1),
    ("__builtin__", "bytes"): _Call(_no_bytes),
    ("builtins", "bytes"): _Call(_no_bytes),
}
for _package in ("numpy.core", "numpy._core"):
    _KNOWN[f"{_package}.multiarray", "_reconstruct"] = _Call(_reconstruct)
    _KNOWN[f"{_package}.multiarray", "scalar"] = _Call(_scalar)
    _KNOWN[f"{_package}.numeric", "_frombuffer"] = _Call(_from_buffer)


class _ArrayUnpickler(pickle.Unpickler):
    """Knows the stand-ins of `_KNOWN` and Python's plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise _refuse(
                f"it asks for {module}.{name}, which is neither an array nor a plain value"
            ) from None


_VALUES = frozenset((type(None), bool, int, float, str, bytes))
MAX_DEPTH = 8


class _Walk:
    """Puts arrays in the place of their stand-ins; bounds how much there is, counting what is shared anew."""

    def __init__(self, budget: int) -> None:
        self.left, self.seen = budget, dict[int, np.ndarray]()

    def value(self, value: object, depth: int = 0) -> Any:
        kind = type(value)
        if kind in _VALUES or isinstance(value, np.generic):
            return value
        if depth > MAX_DEPTH:
            raise _refuse("its values are nested too deeply")
        if kind is _Array:
            return self.array(value, depth)  # type: ignore[arg-type]
        if kind is list or kind is tuple:
            self._spend(len(value))  # type: ignore[arg-type]
            if _VALUES.issuperset(map(type, value)):  # type: ignore[call-overload]
                return value
            return kind(self.value(x, depth + 1) for x in value)  # type: ignore[attr-defined]
        if kind is dict:
            self._spend(len(value))  # type: ignore[arg-type]
            return {
                self.value(k, MAX_DEPTH): self.value(x, depth + 1)
                for k, x in value.items()  # type: ignore[attr-defined]
            }
        raise _refuse(f"it holds a {kind.__name__.strip('_').lower()} where a value belongs")

    def array(self, stub: _Array, depth: int) -> np.ndarray:
        if id(stub) in self.seen:
            return self.seen[id(stub)]
        array = stub.built
        if array is None:
            raise _refuse("an array without data")
        if array.dtype.hasobject:
            stub.built = None  # one that holds itself is not there when it is met again
            self._spend(array.size)
            flat = array.reshape(-1)  # a view: arrays of objects are made in C order
            for i, x in enumerate(flat):
                if type(x) not in _VALUES:
                    flat[i] = self.value(x, depth + 1)
        self.seen[id(stub)] = array
        return array

    def _spend(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise _refuse("it repeats itself beyond its size")


def _objects(file: IO[bytes], shape: Shape) -> np.ndarray:
    """The object array that follows in a file."""
    at = file.tell()
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        _skim(data, at)
        budget = len(data)
    # texts of Python 2 come out as the bytes that they are
    stub = _ArrayUnpickler(file, encoding="bytes").load()
    if not isinstance(stub, _Array):
        raise _refuse("it does not hold an array")
    array = _Walk(budget).array(stub, 0)
    if not array.dtype.hasobject or math.prod(shape) != array.size:
        raise _refuse("it holds another array than its header says")
    return array.reshape(shape) if array.shape != shape else array
