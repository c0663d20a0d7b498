"""What a user's function is, beyond its name: another function, or the same over other values, must not be answered from an earlier run."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

PLAIN = (str, bytes, int, float, complex, bool, type(None))
NESTED = (tuple, list, frozenset, set)


def identity_of(function: Callable[..., Any]) -> list[str]:
    """Name and SHA-256 of a function's code and of all plain values and functions that it reaches.

    Followed are constants, defaults, closures, globals that the code names, methods' and callable objects' state. Modules count by name and version:
    what a library's own functions reach is not looked into.
    """
    name = getattr(function, "__qualname__", type(function).__qualname__)
    digest = hashlib.sha256()
    for part in _parts(function, set()):
        digest.update(part.encode() + b"\0")
    return [name, digest.hexdigest()]


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    if isinstance(value, PLAIN):
        yield f"{type(value).__name__} {value!r}"
        return
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, ModuleType):
        yield f"module {value.__name__} {getattr(value, '__version__', '')}"
    elif hasattr(value, "detach") and not isinstance(value, type):  # a tensor
        yield from _parts(value.detach().cpu().double().numpy(), seen)
    elif isinstance(value, np.ndarray) and value.dtype.kind != "O":
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


def _called(value: Any, seen: set[int]) -> Iterator[str]:
    """Functions, methods, classes and other objects."""
    if isinstance(value, FunctionType):
        yield f"function {value.__module__}.{value.__qualname__}"
        if not _of_library(value):
            yield from _code(value.__code__)
            reached = (value.__globals__[name] for name in _names(value.__code__) if name in value.__globals__)
            for item in (value.__defaults__, value.__kwdefaults__, *_closed_over(value), *reached):
                yield from _parts(item, seen)
    elif isinstance(value, MethodType):
        yield from _parts(value.__func__, seen)
        yield from _parts(value.__self__, seen)
    elif isinstance(value, partial):
        for item in (value.func, value.args, value.keywords):
            yield from _parts(item, seen)
    elif isinstance(value, type) or not hasattr(value, "__dict__"):
        yield f"{type(value).__qualname__} {getattr(value, '__qualname__', '')}"
    else:
        yield f"object {type(value).__module__}.{type(value).__qualname__}"
        yield from _parts(type(value).__call__ if callable(value) else None, seen)
        yield from _parts(vars(value), seen)


def _of_library(function: FunctionType) -> bool:
    """Its module is Python's or an installed package's."""
    top = (function.__module__ or "").partition(".")[0]
    return top in sys.stdlib_module_names - {"__main__"} or "site-packages" in function.__code__.co_filename


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
