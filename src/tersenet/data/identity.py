"""What a user's function is, beyond its name: another function, or the same over other values, must not be answered from an earlier run."""

from __future__ import annotations

import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

PLAIN = (str, bytes, int, float, complex, bool, np.generic, type(None))
# What Python adds to every class.
UNTOLD = frozenset({"__dict__", "__weakref__", "__module__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__"})
# Where Python's own modules lie.
STANDARD = sysconfig.get_path("stdlib")
NESTED = (tuple, list, frozenset, set)


def identity_of(function: Callable[..., Any]) -> list[str]:
    """Name and SHA-256 of a function's code and of the plain values and functions that it reaches.

    Followed are constants, defaults, closures, globals that the code names, what it names of modules of the user's own, classes, and objects'
    state. Functions of libraries count by name: what they reach is not looked into. What this does not see, `answers_of` mostly does.
    """
    kind = type(function)
    parts: list[str] = []
    with suppress(Exception):  # an object may refuse any question, or lie deeper than Python goes: then the name alone counts
        parts = list(_parts(function, {}))
    name = function.__qualname__ if isinstance(function, FunctionType) else kind.__qualname__
    return [name, hashlib.sha256("\0".join(parts).encode()).hexdigest()]


def _parts(value: Any, seen: dict[int, tuple[int, Any]]) -> Iterator[str]:
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
    if isinstance(value, ModuleType):
        yield f"module {value.__name__} {getattr(value, '__version__', '')}"
    elif hasattr(value, "detach") and not isinstance(value, type):  # a tensor
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
    slots = [name for kind in type(value).__mro__ for name in _names_of_slots(kind)]
    if slots or hasattr(value, "__dict__"):
        held = {name: getattr(value, name) for name in slots if hasattr(value, name)}
        yield from _parts({**held, **getattr(value, "__dict__", {})}, seen)
        return
    made: Any = ()
    with suppress(Exception):  # what cannot be made again is known by its class alone
        made = value.__reduce_ex__(4)
    yield from _parts(made[1:3] if isinstance(made, tuple) else made, seen)


def _names_of_slots(kind: type) -> Sequence[str]:
    slots = kind.__dict__.get("__slots__", ())
    return [slots] if isinstance(slots, str) else list(slots)


def _of_library(value: Any) -> bool:
    """The module of a function or a class is Python's or an installed package's."""
    name = value.__name__ if isinstance(value, ModuleType) else value.__module__ or ""
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    ours = name.partition(".")[0] in {"tersenet", *sys.builtin_module_names} - {"__main__"}
    return ours or "site-packages" in file or file.startswith(STANDARD)


def _reached(function: FunctionType) -> Iterator[Any]:
    """What it closes over, globals that the code names, and what it names of modules of the user's own."""
    names = _names(function.__code__)
    for value in (*_closed_over(function), *(function.__globals__.get(name) for name in names)):
        yield value
        if isinstance(value, ModuleType) and not _of_library(value):
            yield from (getattr(value, inner) for inner in names if hasattr(value, inner))


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
    """Global names that the code and the code within it mention."""
    inner = (name for constant in code.co_consts if isinstance(constant, CodeType) for name in _names(constant))
    return sorted({*code.co_names, *inner})
