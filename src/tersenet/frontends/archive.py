"""Reading a zip archive of a stranger: checked names, checked sizes, nothing unpacked to disk."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from tersenet.errors import ModelError

_PART = 1 << 20  # bytes that are read together
Content = TypeVar("Content", bytes, bytearray)


class Archive:
    """The entries of a ``.pt2`` file by their path below the archive's own folder.

    torch stores entries as they are, without compression, so that all of them together cannot be larger than the file: a file
    that says otherwise was not written by torch.
    """

    def __init__(self, path: Path, entries: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = entries
        self._names: dict[str, zipfile.ZipInfo] = {}
        declared = 0
        for info in entries.infolist():
            parts = PurePosixPath(info.filename).parts
            if ".." in parts or info.filename.startswith("/") or "\\" in info.filename or ":" in info.filename:
                raise ModelError(
                    f"{path} holds an entry called {info.filename[:80]!r}, which points outside of the archive; it was not written by torch."
                )
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise ModelError(
                    f"{path} holds compressed or encrypted entries, and torch writes none; save the network again with torch.export.save."
                )
            declared += info.file_size
            self._names["/".join(parts[1:])] = info
        if declared > path.stat().st_size:
            raise ModelError(f"{path} says that it holds {declared} bytes, more than the file has; it was not written by torch.")

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def names(self) -> list[str]:
        return list(self._names)

    def read(self, name: str) -> bytes:
        """The bytes of an entry.

        Raises:
            ModelError: there is no such entry, or it is damaged.
        """
        return self._read(name, self._zip.read)

    def _read(self, name: str, how: Callable[[zipfile.ZipInfo], Content]) -> Content:
        if name not in self._names:
            raise ModelError(f"{self.path} has no entry {name}; it is damaged, or was not written by torch.export.save.")
        try:
            return how(self._names[name])
        except (zipfile.BadZipFile, OSError, EOFError, ValueError) as error:
            raise ModelError(f"{self.path} is damaged: its entry {name} cannot be read ({error}).") from error

    def buffer(self, name: str) -> bytearray:
        """The same in memory that may be written to, so that tensors can lie there without another copy."""
        return self._read(name, self._filled)

    def _filled(self, info: zipfile.ZipInfo) -> bytearray:
        content, place = bytearray(info.file_size), 0
        with self._zip.open(info) as stream:
            while part := stream.read(_PART):
                content[place : place + len(part)] = part
                place += len(part)
        return content

    def json(self, name: str) -> Any:
        try:
            return json.loads(self.read(name))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"{self.path} is damaged: its entry {name} is not JSON.") from error


@contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """The archive at `path`.

    Raises:
        ModelError: it is not a zip archive, is cut short, or claims what cannot be.
    """
    try:
        entries = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is no .pt2 archive, or is cut short: {error}.") from error
    with entries:
        yield Archive(path, entries)
