"""Where data come from: a built-in name, a folder, a file, a function of the user's own."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tersenet.data import archives, digits, idx, images, sounds, tables
from tersenet.data.parts import Data
from tersenet.data.preparation import Preparation
from tersenet.data.processing import Processing
from tersenet.errors import DataError, TersenetError, check_readable
from tersenet.tensors import TensorSpec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

LEGAL = (
    "'digits', a folder of IDX files or of class-named folders of images or sounds, an .npz, .csv or .parquet file "
    "(news.csv:headline,topic names the columns of texts and labels), or file.py:name"
)


def load(
    source: str | Path | Data,
    specs: Sequence[TensorSpec] | None = None,
    seed: int = 0,
    trust: bool = False,
    preparation: Preparation | None = None,
    processing: Processing | None = None,
) -> Data:
    """Data from what the user named.

    Args:
        source: ``digits``, a folder of IDX files or of class-named folders of images or sounds, ``.npz``, ``.csv``, ``.parquet``, ``file.py:name``
            (a function of no arguments that returns a `Data`: the user's own code, and run as such), or a `Data`.
        specs: the network's inputs, where the data shall be bound to them.
        seed: of what is cut.
        trust: unpickle what an ``.npz`` of objects holds.
        preparation: what is done to images and arrays; None: uint8 images are scaled to 0..1.
        processing: how the network's own source prepares what nobody else has a preparation for.

    Raises:
        DataError: missing, unreadable, damaged or unfit; the message names the source.
        MissingDependencyError: a package that this kind of source needs is not installed.
    """
    if not isinstance(source, str | Path | Data):
        raise DataError(f"data must be a tersenet.Data or name a source ({LEGAL}), got {type(source).__name__}.")
    asked = _Asked(tuple(specs or ()), seed, trust, preparation, processing or Processing())
    data = source if isinstance(source, Data) else _named(str(source), asked)
    if not specs:
        return data
    try:
        data = asked.processing.applied(data, specs)
    except DataError as error:
        raise DataError(f"{data.name}: {error}") from error
    return data.bind(specs)


@dataclass(frozen=True)
class _Asked:
    """What `load` was asked for, beside the source."""

    specs: Sequence[TensorSpec]
    seed: int
    trust: bool
    preparation: Preparation | None
    processing: Processing

    @property
    def of_files(self) -> Preparation | None:
        """What is done to files of images or sounds: what the user says, else the network's source.

        Raises:
            DataError: the network's source has a way that is not known here.
        """
        if self.preparation is None and self.processing.refused:
            raise DataError(self.processing.refused)
        return self.preparation or next((way for way in self.processing.inputs.values() if way.decoded is not None), None)


def _named(source: str, asked: _Asked) -> Data:
    """`_read`, with the source's name in every message."""
    try:
        return _read(source, asked)
    except DataError as error:
        if source in str(error):
            raise
        raise DataError(f"{source}: {error}") from error


def _read(source: str, asked: _Asked) -> Data:
    if source == "digits":
        return digits.read_digits(asked.seed)
    if source.startswith("hf:"):
        saved = "save its parquet file and name that (file.parquet:text,label), or write file.py:name"
        raise DataError(f"{source}: data are not fetched from the hub; {saved}.")
    if ".py:" in source:
        check_readable(Path(source.rpartition(":")[0]), DataError)
        return _function(source)
    file, columns = tables.named_columns(source)
    path = Path(file)
    check_readable(path, DataError)
    try:
        if not path.exists():
            raise DataError(f"{source} does not exist. Data are {LEGAL}.")
        if path.is_dir():
            return _folder(path, asked)
        kind = path.suffix.lower()
        if kind == ".npz":
            return archives.read_npz(path, asked.preparation, asked.seed, asked.trust)
        if kind in tables.SUFFIXES:
            return tables.read_table(path, asked.seed, columns, asked.processing.task or "text-classification")
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}.") from error
    raise DataError(f"{source} is of no known kind. Data are {LEGAL}.")


def _folder(path: Path, asked: _Asked) -> Data:
    if not any(path.iterdir()):
        raise DataError(f"{path} is an empty folder.")
    if idx.is_idx_folder(path):
        return idx.read_folder(path, asked.preparation, asked.seed)
    heard = sounds.groups_of(path, sounds.SUFFIXES)["train"] and not images.groups_of(path)["train"]
    return (sounds if heard else images).read_folder(path, asked.specs, asked.of_files, asked.seed)


def _function(source: str) -> Data:
    """What a user's function returns."""
    file, _, name = source.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise DataError(f"{file} does not exist (of {source}).")
    if not name.isidentifier():
        raise DataError(f"{source} must name a function behind the colon, as data.py:load.")
    try:
        with _beside(path), redirect_stdout(sys.stderr):  # what the user prints must not mix with a record on stdout
            found = getattr(_module(path), name, None)
            if found is None:
                raise DataError(f"{file} has no function {name!r} (of {source}).")
            data = found() if callable(found) else found
    except TersenetError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise DataError(f"{source} failed: {type(error).__name__}: {error}") from error
    if not isinstance(data, Data):
        raise DataError(f"{source} must return a tersenet.Data, got {type(data).__name__}; make one with tersenet.Data.from_arrays.")
    return data if data.name != "arrays" else data.renamed(f"{path.stem}:{name}")


def _module(path: Path) -> ModuleType:
    """The module of a user's file, under a name of its own."""
    name = f"_tersenet_data_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise DataError(f"{path} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a user's file import what lies beside it."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
