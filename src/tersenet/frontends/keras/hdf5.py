"""HDF5 files of strangers, read by pyfive: what is there, in order; sizes checked before memory is taken; every failure a ModelError."""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError

INSTALL = "reading Keras files needs pyfive: pip install 'tersenet[keras]'"
# A file whose structures point back at themselves is read over and over; one that does not is read about once, headers a few times.
_READS, _READ_AGAIN = 200_000, 4
# Weights are stored as they are; where somebody packed them, they may unpack to this many times the size of the file.
_UNPACKED, _UNPACKED_FREE = 20, 1 << 24
_BLOCK = 1 << 20
SIGNATURE = b"\x89HDF\r\n\x1a\n"
_CONTIGUOUS = 1  # the storage class of HDF5 for one block of bytes


class Window:
    """A part of a file as a file of its own, which stops answering when it is read far more often than any sound file needs.

    Args:
        stream: can be read and sought.
        start, size: the part, bytes.
    """

    def __init__(self, stream: IO[bytes], start: int, size: int) -> None:
        self.size = size
        self._stream, self._start, self._place = stream, start, 0
        self._reads, self._bytes = _READS + size // 64, _READ_AGAIN * size + (1 << 24)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._place = max(0, offset + (0, self._place, self.size)[whence])
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int = -1) -> bytes:
        there = max(0, self.size - self._place)
        wanted = there if size is None or size < 0 else min(size, there)
        self._reads -= 1
        self._bytes -= wanted
        if self._reads < 0 or self._bytes < 0:
            raise ModelError("its structures point back at themselves")
        self._stream.seek(self._start + self._place)
        self._place += wanted
        return self._stream.read(wanted)

    def close(self) -> None:
        """The stream belongs to whoever opened it."""


class Group:
    """One group of an HDF5 file: its attributes, arrays and groups by name."""

    def __init__(self, source: Any, window: Window, left: list[int]) -> None:
        self._source, self._window, self._left = source, window, left

    def __contains__(self, name: str) -> bool:
        return name in self.names()  # pyfive's own test would read the member

    def names(self) -> list[str]:
        """The members, in the order of the file's index."""
        with translated():
            return list(self._source)

    def group(self, name: str) -> Group:
        """A group inside; the name may be a path.

        Raises:
            ModelError: there is none of that name.
        """
        with translated():
            found = self._source[name] if name in self._source or "/" in name else None
            is_group = hasattr(type(found), "attrs") and not hasattr(type(found), "dtype")
        if not is_group:
            raise ModelError(f"there is no group {name[:80]!r} in it")
        return Group(found, self._window, self._left)

    def attribute(self, name: str) -> Any:
        """An attribute: text as str, arrays as lists; None where there is none."""
        with translated():
            return _plain(self._source.attrs.get(name))

    def array(self, name: str) -> np.ndarray:
        """An array inside, as a copy of its own; the name may be a path.

        Raises:
            ModelError: there is none of that name, it is not of numbers, or the file is too small to hold it.
        """
        with translated():
            found = self._source[name]
            if not hasattr(found, "dtype") or not isinstance(found.dtype, np.dtype) or found.dtype.kind not in "fiub":
                raise ModelError(f"{name[:80]!r} must be an array of numbers")
            shape, dtype = tuple(int(size) for size in found.shape), found.dtype
            count = math.prod(shape)
            self._take(name, count * dtype.itemsize, packed=found.id.layout_class != _CONTIGUOUS)
            if found.id.layout_class != _CONTIGUOUS:
                return np.array(found[()]).reshape(shape)
            handle = found.file._fh if hasattr(found, "file") else found.parent.file._fh
            handle.seek(found.id.data_offset)
            raw = np.empty(count * dtype.itemsize, np.uint8)
            for start in range(0, len(raw), _BLOCK):
                block = handle.read(min(_BLOCK, len(raw) - start))
                if len(block) < min(_BLOCK, len(raw) - start):
                    raise ModelError(f"the array {name[:80]!r} needs {len(raw)} bytes, and {start} are there")
                raw[start : start + len(block)] = np.frombuffer(block, np.uint8)
            return raw.view(dtype).reshape(shape)

    def _take(self, name: str, size: int, packed: bool) -> None:
        self._left[0] -= size
        if size > self._window.size and not packed:
            raise ModelError(f"the array {name[:80]!r} needs {size} bytes, more than the file has")
        if self._left[0] < 0:
            raise ModelError("it unpacks to far more than its size")


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.reshape(-1).tolist()]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    return value.item() if isinstance(value, np.generic) else value


@contextmanager
def translated() -> Iterator[None]:
    """What pyfive raises on a damaged file, as a ModelError whose message continues ``FILE is damaged: ``."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (ModelError, MissingDependencyError):
        raise
    except KeyError as error:
        raise ModelError(f"an entry is missing ({str(error)[:120]})") from error
    except Exception as error:
        raise ModelError(f"its HDF5 structures are broken ({type(error).__name__}: {str(error)[:120]})") from error


def opened(stream: IO[bytes], start: int, size: int) -> Group:
    """The root group of an HDF5 file that lies in a stream.

    Raises:
        ModelError: it is none, or is damaged; the message continues ``FILE is damaged: ``.
        MissingDependencyError: pyfive is not installed.
    """
    try:
        import pyfive
    except ModuleNotFoundError as error:
        raise MissingDependencyError(INSTALL) from error
    window = Window(stream, start, size)
    with translated():
        file = pyfive.File(window)
        end = file._superblock._contents["end_of_file_address"]  # what is cut off may be slack at the end, which no array would miss
        if size < end:
            raise ModelError(f"it is truncated: it was written with {end} bytes, and {size} are there")
        return Group(file, window, [_UNPACKED * size + _UNPACKED_FREE])


def joined(group: Group, name: str) -> Sequence[str]:
    """A list of names that may be cut into several attributes (``names0``, ``names1`` ...), for HDF5 keeps attributes small."""
    whole = group.attribute(name)
    if whole is not None:
        return [str(item) for item in whole] if isinstance(whole, list) else [str(whole)]
    found: list[str] = []
    for count in itertools.count():
        part = group.attribute(f"{name}{count}")
        if part is None:
            return found
        found += [str(item) for item in part]
    return found
