"""What a user's function is, beyond its name: another function, or the same over other values, must not be answered from an earlier run."""

from __future__ import annotations

import copyreg
import dis
import hashlib
import importlib.util
import io
import logging
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

PLAIN = (str, bytes, int, float, complex, bool, np.generic, type(None))
# What Python adds to every class.
UNTOLD = frozenset({"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__"})
# Where Python's own modules lie.
STANDARD = sysconfig.get_path("stdlib")
NESTED = (tuple, list, frozenset, set)


# What was found of functions that had kept something of their own calls -> what had been found of them before.
_BEFORE: dict[str, list[str]] = {}


def identity_of(*functions: Callable[..., Any]) -> list[str]:
    """Names, and SHA-256 of the code and of the plain values and functions that it reaches.

    Followed are constants, defaults, closures, globals that the code names, what it names or imports of modules of the user's own, classes, and
    objects' state. Functions of libraries count by name: what they reach is not looked into. What this does not see, `answers_of` mostly does.
    """
    seen: dict[int, tuple[int, Any]] = {}
    parts = [part for function in functions for part in _parts(function, seen)]
    names = [function.__qualname__ if isinstance(function, FunctionType) else type(function).__qualname__ for function in functions]
    found = hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()
    return _BEFORE.get(found, [*names, found])


@contextmanager
def called(*functions: Callable[..., Any]) -> Iterator[None]:
    """While functions are called: one that keeps something of its calls (a history, a count) is known behind them as it was before."""
    before = identity_of(*functions)
    try:
        yield
    finally:
        after = identity_of(*functions)
        if after != before:
            _BEFORE[after[-1]] = before


def _parts(value: Any, seen: dict[int, tuple[int, Any]]) -> list[str]:
    """What a value is told by; its class alone where it refuses a question, or lies deeper than Python goes."""
    try:
        return list(_told(value, seen))
    except Exception:  # noqa: BLE001  # an object may answer with anything
        return [f"untold {type(value).__module__}.{type(value).__qualname__}"]


def _told(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
    if isinstance(value, PLAIN):
        yield f"{type(value).__name__} {value!r}"
    if type(value) in PLAIN:
        return
    if id(value) in seen:
        yield f"again {seen[id(value)][0]}"
        return
    seen[id(value)] = (len(seen), value)  # alive, so that no other object takes its number
    if isinstance(value, (*PLAIN, Mapping, *NESTED)) and not _of_library(type(value)):  # a list, a number or the like, with more to it
        yield from _parts((type(value), getattr(value, "__dict__", {})), seen)
    if isinstance(value, PLAIN):
        return
    if isinstance(value, logging.Logger | io.IOBase):  # where words go; what it holds changes with every word
        yield f"{type(value).__name__} {getattr(value, 'name', '')}"
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__} {getattr(value, '__version__', '')}"
    elif hasattr(value, "detach") and hasattr(value, "tolist") and not isinstance(value, type):  # a tensor
        yield from _parts(np.asarray(value.detach().tolist()), seen)
    elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
        yield from _parts(value.tolist(), seen)
    elif isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    elif isinstance(value, Mapping):
        yield "mapping"
        for key, item in value.items():
            yield from _parts(key, seen)
            yield from _parts(item, seen)
    elif isinstance(value, NESTED):
        yield f"{type(value).__name__} {len(value)}"
        for item in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            yield from _parts(item, seen)
    else:
        yield from _called(value, seen)


def _called(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
    """Functions, methods, classes and other objects."""
    if isinstance(value, FunctionType):
        yield f"function {value.__module__}.{value.__qualname__}"
        if not _of_library(value):
            yield from _code(value.__code__)
            for item in (value.__defaults__, value.__kwdefaults__, vars(value), *_reached(value)):
                yield from _parts(item, seen)
    elif isinstance(value, MethodType):
        yield from _parts(value.__func__, seen)
        yield from _parts(value.__self__, seen)
    elif isinstance(value, partial):
        for item in (value.func, value.args, value.keywords):
            yield from _parts(item, seen)
    elif isinstance(value, staticmethod | classmethod):
        yield from _parts(value.__func__, seen)
    elif isinstance(value, property):
        yield from _parts((value.fget, value.fset), seen)
    elif isinstance(value, type):
        yield f"class {value.__module__}.{value.__qualname__}"
        for kind in (kind for kind in value.__mro__ if not _of_library(kind)):
            yield from _parts({name: item for name, item in vars(kind).items() if name not in UNTOLD}, seen)
    else:
        yield from _parts(type(value), seen)
        yield from _state(value, seen)


def _state(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
    """What an object holds, in its attributes or in what it would be made of again."""
    if value is np.random.mtrand._rand:  # numpy's own generator, which scipy's distributions hold: its state is another in every process
        return
    slots = [name for kind in type(value).__mro__ for name in _names_of_slots(kind)]
    held = {**{name: getattr(value, name) for name in slots if hasattr(value, name)}, **getattr(value, "__dict__", {})}
    if held:
        yield from _parts(held, seen)
        return
    made: Any = ()
    with suppress(Exception):  # what cannot be made again is known by its class alone
        made = copyreg.dispatch_table.get(type(value), lambda one: one.__reduce_ex__(4))(value)
    if not isinstance(made, tuple):  # the name of something global: of a function in C, of a dtype of torch's
        made = ("", made)
    for item in made[1:]:  # arguments, state, and what is put into it one by one
        yield from _parts(list(item) if isinstance(item, Iterator) else item, seen)


def _names_of_slots(kind: type) -> Sequence[str]:
    slots = kind.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def _of_library(value: Any) -> bool:
    """The module of a function or a class is Python's or an installed package's."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__ or ""
    return _in_library(name, getattr(sys.modules.get(name), "__file__", None) or "")


def _in_library(name: str, file: str) -> bool:
    ours = name.partition(".")[0] in {"tersenet", *sys.builtin_module_names} - {"__main__"}
    return ours or "site-packages" in file or file.startswith(STANDARD)


def _reached(function: FunctionType) -> Iterator[Any]:
    """What it closes over, globals that the code names, and what it names or imports of modules of the user's own."""
    names = _names(function.__code__)
    # Not what is loaded as an attribute: a global may have the same name and nothing to do with it.
    loaded = _operands(function.__code__, "LOAD_GLOBAL", "LOAD_NAME", "IMPORT_NAME")
    for value in (*_closed_over(function), *(function.__globals__.get(name) for name in loaded)):
        yield value
        yield from _of_module(value, names)
    for module in _operands(function.__code__, "IMPORT_NAME"):
        spec = None
        with suppress(Exception):  # it may not be there, or be another one when it is called
            spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin and not _in_library(module, spec.origin):
            yield hashlib.sha256(Path(spec.origin).read_bytes()).hexdigest()


def _of_module(value: Any, names: Sequence[str]) -> Iterator[Any]:
    """What code names of a module of the user's own, and of modules in it."""
    if isinstance(value, ModuleType) and not _of_library(value):
        for inner in (getattr(value, name) for name in names if hasattr(value, name)):
            yield inner
            if inner is not value:
                yield from _of_module(inner, names)


def _operands(code: CodeType, *operations: str) -> list[str]:
    """What operations of the code, and of the code within it, name: the globals that it loads, the modules that it imports."""
    own = [str(entry.argval) for entry in dis.get_instructions(code) if entry.opname in operations]
    return sorted({*own, *(name for constant in code.co_consts if isinstance(constant, CodeType) for name in _operands(constant, *operations))})


def _closed_over(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # a cell that is still empty
            yield cell.cell_contents


def _code(code: CodeType) -> Iterator[str]:
    yield code.co_code.hex()
    yield " ".join((*code.co_names, *code.co_varnames))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant)


def _names(code: CodeType) -> list[str]:
    """Names of globals and of attributes that the code and the code within it mention."""
    inner = (name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant))
    return sorted({*code.co_names, *inner})
