"""``file.py:name`` and ``package.module:name``: a network that a user's own Python file makes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tersenet.errors import ModelError, TersenetError, unknown

_FORM = re.compile(r"^(?P<where>.+?\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_]\w*)$")


def is_reference(source: Any) -> bool:
    """Whether a source reads ``file.py:name`` or ``package.module:name``.

    >>> is_reference("nets/small.py:net"), is_reference("C:/nets/small.onnx")
    (True, False)
    """
    return isinstance(source, str) and _FORM.match(source) is not None


def resolve(reference: str, final: Callable[[Any], bool] = lambda _: False) -> Any:
    """What a reference names; a function is called, with no arguments, and what it returns is the answer.

    Args:
        reference: ``file.py:name`` or ``package.module:name``. The file is executed: the user named it.
        final: whether an object, although it can be called, is meant as it is (a module is).

    Raises:
        ModelError: the file or the name does not exist, or the user's own code fails; the message has its file and line, and the
            user's error is chained.
    """
    found = _FORM.match(reference)
    if found is None:
        raise ModelError(f"{reference!r} must read file.py:name or package.module:name.")
    where, name = found["where"], found["name"]
    with contextlib.redirect_stdout(sys.stderr):  # what the user's code prints must not mix with a record on stdout
        module = _imported(where)
        if not hasattr(module, name):
            raise ModelError(f"{where}: " + unknown("name", name, [key for key in vars(module) if not key.startswith("_")]))
        value = getattr(module, name)
        if final(value) or not callable(value):
            return value
        with _own_errors(where, f"{name}()"), _on_path(where):
            return value()


def _imported(where: str) -> ModuleType:
    if not where.endswith(".py"):
        with _own_errors(where, "importing it"), _on_path("."):
            return importlib.import_module(where)
    path = Path(where)
    if not path.is_file():
        raise ModelError(f"the file {where} does not exist.")
    key = f"_tersenet_{path.stem}_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(key, path.resolve())
    if spec is None or spec.loader is None:
        raise ModelError(f"{where} cannot be imported as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[key] = module  # dataclasses and pickling look a class's module up
    with _own_errors(where, "importing it"), _on_path(where):
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[key]
            raise
    return module


@contextlib.contextmanager
def _own_errors(where: str, what: str) -> Iterator[None]:
    """Translate what the user's code raises; our own errors pass as they are."""
    try:
        yield
    except TersenetError:
        raise
    except (Exception, SystemExit) as raised:
        raise ModelError(f"{where}: {what} failed{_line(raised, where)}: {type(raised).__name__}: {raised}") from raised


def _line(raised: BaseException, where: str) -> str:
    if isinstance(raised, SyntaxError) and raised.lineno:
        return f" at line {raised.lineno}"
    frames = [frame for frame in traceback.extract_tb(raised.__traceback__) if Path(frame.filename).name == Path(where).name]
    return f" at line {frames[-1].lineno} (`{frames[-1].line}`)" if frames else ""


@contextlib.contextmanager
def _on_path(where: str) -> Iterator[None]:
    """The folder of the file on sys.path, so that it can import its neighbours."""
    folder = str(Path(where).resolve().parent if where.endswith(".py") else Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
