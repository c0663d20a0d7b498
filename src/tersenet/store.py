"""Finished work on disk: a run's folder that is either complete or absent, and steps kept under the hash of their inputs.

A run writes into ``DIR/.unfinished`` and is moved up when it is done, the mark of a finished run (``signature.json``) last.
So a run that failed leaves nothing, one that was interrupted leaves what a later call resumes from, and a reader
never sees half a run. Whoever writes holds ``DIR/.lock``; the system gives it up when its process ends, however it ends.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tersenet.errors import OutputError, shortened

UNFINISHED = ".unfinished"
MARK = "signature.json"
LOCK = ".lock"
_DRAFT = ".draft-"
# Bytes of a network's name in that of its folder: a name in a folder has at most 255, and files beside it carry more of their own.
LONGEST_NAME = 200
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OCCUPIED = {errno.ENOTEMPTY, errno.EEXIST}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS}


def signature(**inputs: Any) -> str:
    """What a piece of work is known by: SHA-256 of its inputs as canonical JSON.

    Args:
        inputs: plain JSON values (tuples count as lists), by name; their order does not matter.

    Returns:
        64 hexadecimal digits, equal in every process.

    Raises:
        TypeError, ValueError: a value is not plain JSON (NaN and infinity are not).
    """
    text = json.dumps(inputs, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def run_folder(out: str | Path | None, name: str, key: str) -> Path:
    """Where a run goes: the folder that the user names, or the usual one."""
    return usual_folder(name, key) if out is None else Path(out)


def check_out(out: Any) -> None:
    """Raise OutputError where a run shall go to what is no path; None is the usual folder."""
    try:
        fits = isinstance(out, str | Path | None) and b"\0" not in os.fsencode(out or "")
    except UnicodeEncodeError:  # half of a character
        fits = False
    if not fits:
        raise OutputError(f"out must be the path of a folder, got {shortened(out)}.")


def usual_folder(name: str, key: str) -> Path:
    """Where a run goes unless told: within ``runs``, whatever the network is called. A name that is too long for a file's is cut.

    >>> usual_folder("../a b", "0123456789abcdef").as_posix()
    'runs/a-b-01234567'
    """
    plain = re.sub(r"[^\w.]+", "-", name).strip(".-")
    if len(plain.encode(errors="replace")) > LONGEST_NAME:
        digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:8]  # names that differ behind the cut do not meet
        plain = f"{plain.encode(errors='replace')[: LONGEST_NAME - 9].decode(errors='ignore')}-{digest}"
    return Path("runs") / f"{plain or 'network'}-{key[:8]}"


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file whole or not at all: into a temporary sibling, then moved over `path`.

    Raises:
        OutputError: the folder cannot be written, or the disk is full.
    """
    data = content.encode() if isinstance(content, str) else content
    with _explained(path, everything=True):
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o666 & ~_umask())  # mkstemp makes files that the user alone can read
            os.replace(name, path)
        except BaseException:
            _forget(Path(name))
            raise


class Store:
    """Finished work, each piece a folder under its key. A piece is there whole or not at all, whatever stopped its writer.

    Args:
        folder: where the pieces lie; made on the first `put`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, key: str) -> Path | None:
        """The folder of a finished piece, or None.

        Args:
            key: what `signature` gave.
        """
        path = self.folder / key
        return path if path.is_dir() else None

    def draft(self, key: str) -> Path:
        """A folder for work on a piece that is not finished, so that it can be gone on with after an interruption; `clear` removes it.

        Args:
            key: what `signature` gave; another key is other work.

        Raises:
            OutputError: the store cannot be written.
        """
        path = self.folder / f"{_DRAFT}{key}"
        with _explained(self.folder):
            path.mkdir(parents=True, exist_ok=True)
        return path

    def clear(self) -> None:
        """Remove all drafts, once what they were for is kept."""
        for path in self.folder.glob(f"{_DRAFT}*"):
            _forget(path)
        with suppress(OSError):  # not empty, or not there
            self.folder.rmdir()

    def put(self, key: str, writer: Callable[[Path], None]) -> Path:
        """Keep a piece of work.

        Args:
            key: what `signature` gave.
            writer: fills the empty folder that it is given.

        Returns:
            The piece's folder; the one that was there already where another process was faster.

        Raises:
            OutputError: the store cannot be written, or the disk is full; nothing is left of the piece.
        """
        path = self.folder / key
        with _explained(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=_DRAFT, dir=self.folder))
            try:
                writer(draft)
                _sync(draft)
                try:
                    os.replace(draft, path)
                except OSError as error:
                    if error.errno not in _OCCUPIED:  # occupied: the same work, already kept
                        raise
            finally:
                _forget(draft)
        return path


@dataclass(frozen=True)
class Run:
    """A claimed run folder.

    Args:
        folder: where the user finds the run.
        work: where to write until it is done; what lies here is moved to `folder`. The same as `folder` where it is finished.
        finished: whether `folder` holds this very run already.
    """

    folder: Path
    work: Path
    finished: bool

    @property
    def steps(self) -> Store:
        """The finished steps that a resumed run starts from."""
        return Store(self.work / "steps")

    def settled(self, path: Path) -> Path:
        """Where a file of `work` lies once the run is done."""
        return self.folder / path.relative_to(self.work)


@contextmanager
def claim(folder: Path, signature: str) -> Iterator[Run]:
    """Hold a folder for one run; on leaving, its files are moved into place.

    An error inside removes everything that the run made; an interrupt (KeyboardInterrupt) keeps it to be resumed.

    Args:
        folder: absent, empty, or holding the same run (finished, or interrupted).
        signature: of everything that the run's outcome depends on.

    Yields:
        The run. Write to `Run.work`, and only if it is not `Run.finished`.

    Raises:
        OutputError: the folder holds another run or other files, another process writes to it, it cannot be written, or the disk is full.
    """
    folder = Path(folder)
    with _explained(folder, everything=True):
        finished = _signature_in(folder) == signature
        if not finished:
            _must_be_free(folder, signature)
            made = _make_folders(folder)
    if finished:
        yield Run(folder, folder, True)
        return
    try:
        with _locked(folder):
            if _signature_in(folder) == signature:  # another process was faster
                yield Run(folder, folder, True)
            else:
                yield from _written(folder, signature)
    except KeyboardInterrupt:
        raise
    except BaseException:
        for path in reversed(made):
            with suppress(OSError):  # not empty: somebody else's by now
                path.rmdir()
        raise


def _written(folder: Path, signature: str) -> Iterator[Run]:
    """A run that is to be made, in a folder that is locked."""
    work = folder / UNFINISHED
    try:
        with _explained(folder):
            _must_be_free(folder, signature)
            _begin(work, signature)
            yield Run(folder, work, False)
            _move_up(work, folder)
    except KeyboardInterrupt:
        raise
    except BaseException:
        _forget(work)
        raise


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Be the only one who writes to a folder.

    A lock of the system's (flock), so that none outlives its process; the file that carries it says who holds it.
    """
    path = folder / LOCK
    with _explained(folder, everything=True):
        file = _lock(path)
    try:
        yield
    finally:
        _forget(path)  # before the lock is let go: whoever opens the file anew finds another one
        os.close(file)


def _lock(path: Path) -> int:
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                os.ftruncate(file, 0)
                os.write(file, f"{os.getpid()}\n".encode())
                return file
        except BlockingIOError as error:
            holder = os.read(file, 32).decode(errors="replace").strip()
            os.close(file)
            who = f"process {holder}" if holder else "another process"
            raise OutputError(f"{path.parent} is being written to by {who}; wait until it is done, or name another folder with --out.") from error
        except OSError:
            os.close(file)
            raise
        os.close(file)  # its holder removed the file in between


def _begin(work: Path, signature: str) -> None:
    if _signature_in(work) is None:
        _forget(work)  # a start that did not get as far as its mark
        work.mkdir()
        write_file(work / MARK, json.dumps({"signature": signature}) + "\n")


def _must_be_free(folder: Path, signature: str) -> None:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"results go to a folder, and {folder} is a file; name another folder with --out.")
    unfinished = _signature_in(folder / UNFINISHED)
    if unfinished == signature or not folder.exists():
        return
    if _signature_in(folder) is not None or unfinished is not None:
        raise OutputError(f"{folder} holds another run (of another model, data, options or version); name another folder with --out, or remove it.")
    strangers = sorted(entry.name for entry in folder.iterdir() if entry.name not in (UNFINISHED, LOCK))
    if strangers:
        raise OutputError(f"{folder} holds files that are no run of tersenet ({', '.join(strangers[:3])}); name a new or empty folder with --out.")


def _signature_in(folder: Path) -> str | None:
    """The signature that a folder is marked with; None where there is none, or it is damaged."""
    try:
        record = json.loads((folder / MARK).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return record.get("signature") if isinstance(record, dict) else None


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents; return those that were not there."""
    missing = [path for path in (*reversed(folder.parents), folder) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return missing


def _move_up(work: Path, folder: Path) -> None:
    """Move everything in `work` to `folder`, the mark last, so that a folder with a mark is complete."""
    _sync(work)
    for entry in sorted(work.iterdir(), key=lambda path: path.name == MARK):
        if entry.name != MARK and (folder / entry.name).is_dir():
            shutil.rmtree(folder / entry.name)  # left by a move that was cut short
        os.replace(entry, folder / entry.name)
    work.rmdir()


def _sync(folder: Path) -> None:
    """Bring every file to the disk: a rename must not outlive what it names."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _forget(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _explained(path: Path, everything: bool = False) -> Iterator[None]:
    """Operating system errors about `path` and what lies in it as OutputError; others pass, unless `everything` inside is about our own output."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise OutputError(f"the disk is full: {path} could not be written; make room or name another folder with --out.") from error
        if not (everything or _concerns(error, path)):
            raise
        why = "may not be written" if error.errno in _REFUSED else f"cannot be written ({error.strerror or error})"
        raise OutputError(f"{path} {why}; name another folder with --out.") from error


def _concerns(error: OSError, path: Path) -> bool:
    names = [Path(os.path.abspath(os.fsdecode(name))) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    target = Path(os.path.abspath(path))
    return any(name == target or target in name.parents for name in names)
