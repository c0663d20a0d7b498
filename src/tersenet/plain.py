"""Frozen dataclasses to plain JSON and back, every value checked against its type on the way in.

A field whose JSON key is no fit name in Python (``float``) says so in its metadata: ``field(metadata={"key": "float"})``;
one that is not part of the record has the key None. Keys that a class does not know are left out, so that an older
version reads a newer one's record.
"""

from __future__ import annotations

import contextlib
import functools
import math
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, TypeVar

from tersenet.errors import InputError, shortened

T = TypeVar("T")
LARGEST = 2**63 - 1
_hints: Callable[..., dict[str, Any]] = functools.cache(typing.get_type_hints)  # asked once a value, and slow


def to_plain(value: Any) -> Any:
    """Dicts, lists, strings, numbers, booleans and None. A number that JSON has no word for (NaN, infinity) becomes None."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if is_dataclass(value) and not isinstance(value, type):
        return fields_to_plain(value)
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return to_plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def fields_to_plain(value: Any) -> dict[str, Any]:
    """A dataclass as a dict, its fields under their JSON keys."""
    return {_key(entry): to_plain(getattr(value, entry.name)) for entry in fields(value) if _key(entry) is not None}


def from_plain(cls: type[T], record: Any, where: str = "record") -> T:
    """The inverse of `to_plain`.

    Args:
        cls: a dataclass whose fields are dataclasses, str, bool, int, float, None, tuples, mappings, unions of these, or Any.
        record: what ``json.loads`` gave.
        where: how messages name the value.

    Raises:
        InputError: a key is missing, or a value has another type than it must have.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"{where} must be a JSON object, got {type(record).__name__}.")
    hints = _hints(cls)
    values = {}
    for entry in fields(cls):  # type: ignore[arg-type]  # T is a dataclass
        key = _key(entry)
        if key is None:
            continue
        if key in record:
            values[entry.name] = _checked(hints[entry.name], record[key], f"{where}.{key}")
        elif entry.default is MISSING and entry.default_factory is MISSING:
            raise InputError(f"{where} has no {key!r}; it is not a record of this kind, or it is damaged.")
    return cls(**values)


def check_fields(value: Any, where: str, kind: type[InputError] = InputError) -> None:
    """Hold the fields of a dataclass that somebody has made to their types, as `from_plain` does.

    Raises:
        InputError: a value has another type than it must have; it is of the kind that is asked for.
    """
    hints = _hints(type(value))
    try:
        for entry in fields(value):
            given = getattr(value, entry.name)
            found = _checked(hints[entry.name], given, f"{where}.{entry.name}")
            if (made := _made(found, given)) is not None:
                raise kind(f"{where}.{entry.name} must be of the class {type(made).__name__}, got {type(given).__name__}.")
    except kind:
        raise
    except InputError as error:
        raise kind(str(error)) from error


def check_text(value: Any, where: str, kind: type[InputError] = InputError) -> None:
    """Hold a name, or a list of names, to what a report can be written with: text, every character of it.

    Half of a character (a lone surrogate, which names of files in other encodings hold) cannot be written.

    Raises:
        InputError: of the kind that is asked for.
    """
    for text in [value] if isinstance(value, str) else value:
        try:
            text.encode()
        except (AttributeError, UnicodeEncodeError) as error:
            raise kind(f"{where} must be text that UTF-8 can hold, got {shortened(text)}; give another name.") from error


def _made(found: Any, given: Any) -> Any:
    """What checking made of a mapping that stands in the place of a dataclass, also inside a tuple; None where everything was as it must be."""
    if isinstance(found, tuple):
        return next((made for pair in zip(found, given, strict=True) if (made := _made(*pair)) is not None), None)
    return found if is_dataclass(found) and not is_dataclass(given) else None


def _key(entry: Field[Any]) -> Any:
    return entry.metadata.get("key", entry.name)


def _checked(hint: Any, value: Any, where: str) -> Any:
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        return _checked_union([part for part in parts if part is not type(None)], value, where)
    if origin is tuple:
        return _checked_tuple(parts, value, where)
    if origin is Callable:
        return _checked_function(value, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _checked_mapping(parts, value, where)
    if not isinstance(hint, type):
        return value
    if is_dataclass(hint) and isinstance(value, hint):
        check_fields(value, where)
        return value
    if hasattr(hint, "from_json"):
        return hint.from_json(value)
    if is_dataclass(hint):
        return from_plain(hint, value, where)
    return _checked_scalar(hint, value, where)


def _checked_union(parts: list[Any], value: Any, where: str) -> Any:
    """The value as the first of some types that it fits."""
    for part in parts[:-1]:
        with contextlib.suppress(InputError):
            return _checked(part, value, where)
    return _checked(parts[-1], value, where)


def _checked_tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise InputError(f"{where} must be a list, got {type(value).__name__}.")
    open_ended = len(parts) == 2 and parts[1] is Ellipsis
    if not open_ended and len(value) != len(parts):
        raise InputError(f"{where} must have {len(parts)} entries, got {len(value)}.")
    kinds = [parts[0]] * len(value) if open_ended else parts
    return tuple(_checked(kind, item, f"{where}[{index}]") for index, (kind, item) in enumerate(zip(kinds, value, strict=True)))


def _checked_function(value: Any, where: str) -> Any:
    if not callable(value):
        raise InputError(f"{where} must be a function, got {type(value).__name__}.")
    return value


def _checked_mapping(parts: tuple[Any, ...], value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a JSON object, got {type(value).__name__}.")
    return {str(key): _checked(parts[1], item, f"{where}.{key}") for key, item in value.items()}


def _checked_scalar(hint: type, value: Any, where: str) -> Any:
    allowed: Any = (int, float) if hint is float else hint
    if not isinstance(value, allowed) or (isinstance(value, bool) and hint is not bool):
        raise InputError(f"{where} must be {hint.__name__}, got {type(value).__name__}.")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where} must be a finite number, got {value}.")
    if isinstance(value, int) and abs(value) > LARGEST:
        raise InputError(f"{where} must be a number of at most 64 bits, got a longer one.")
    return float(value) if isinstance(value, int) and hint is float else value
