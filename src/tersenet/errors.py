"""Every error of tersenet, in one tree.

    TersenetError
    ├── InputError            what the user gave cannot be used
    │   ├── ModelError        ... the network or its file
    │   ├── DataError         ... the data
    │   ├── RecipeError       ... a step, a recipe or one of their options
    │   ├── BudgetError       ... a budget that does not parse
    │   ├── DivergedError     ... training, whose loss became no number
    │   └── OutputError       ... the folder that results go to
    ├── UnsupportedError      a runtime has no way to run an operator
    ├── MissingDependencyError  an optional package is not installed
    └── UntrustedError        reading this file would run code that came with it

A message says what must hold, what was got, what is allowed and what to do, in one or two sentences.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any


class TersenetError(Exception):
    """Base of all errors that tersenet raises on purpose; the command line answers one with exit code 2."""

    def __str__(self) -> str:
        """One line, whatever names a stranger's file holds; of a page that was given for a name, its ends."""
        text = Exception.__str__(self)
        if len(text) > LONGEST_MESSAGE:
            text = f"{text[: LONGEST_MESSAGE // 2]} ... {text[-LONGEST_MESSAGE // 2 :]}"
        return "".join(character if character.isprintable() else " " for character in text)


class InputError(TersenetError):
    """Something the user gave cannot be used."""


class ModelError(InputError):
    """The network cannot be read, traced or compressed."""


class DataError(InputError):
    """The data cannot be read, or do not fit the network or the task."""


class RecipeError(InputError):
    """A step, a recipe or one of their options is not valid."""


class BudgetError(InputError):
    """A size, a time or a number of points does not parse or is out of range."""


class DivergedError(InputError):
    """The loss became NaN or infinite.

    `model` is the network as it was when it last was well; None where that is the one that was given.
    """

    model: Any = None


class OutputError(InputError):
    """The output folder cannot be used: it holds another run, is not writable, or is full."""


class UnsupportedError(TersenetError):
    """A runtime has no way to run an operator of this network."""


class MissingDependencyError(TersenetError):
    """An optional package is not installed; the message has the line that installs it."""


class UntrustedError(TersenetError):
    """Reading this file would execute code that came with it; only ``--trust`` allows that."""


def check_readable(path: Path, raising: type[TersenetError]) -> None:
    """Refuse a file or folder that may not be read, or whose name the system does not take, before anybody calls it damaged.

    Raises:
        TersenetError: of the class `raising`; a path that is not there is left to whoever asks.
    """
    try:
        if not path.exists():
            return
    except OSError as error:
        raise raising(f"{path} cannot be read: {error.strerror}.") from error
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        raise raising(f"{path} cannot be read: permission denied.")


WITHOUT_TORCH = "torch is needed here and is not installed: pip install 'tersenet[torch]'"
# A network has hundreds of layers; an error that lists them all is not read. Nor is one that repeats a page that was given for a name.
MOST_SHOWN = 30
LONGEST_SHOWN = 200
LONGEST_MESSAGE = 4000


def unknown(what: str, got: Any, known: Iterable[str]) -> str:
    """The sentence for a name that is not in a table, or for what is no name: close matches first, then all legal names.

    >>> unknown("target", "onnxruntim", ["onnxruntime", "litert"])
    "unknown target 'onnxruntim'; did you mean 'onnxruntime'? Known: litert, onnxruntime."
    """
    names = sorted(known)
    close = difflib.get_close_matches(got, names, n=2) if isinstance(got, str) else []
    hint = f"did you mean {' or '.join(repr(name) for name in close)}? " if close else ""
    shown = ", ".join(names[:MOST_SHOWN]) + (f" and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else "")
    return f"unknown {what} {shortened(got)}; {hint}{'Known' if hint else 'known'}: {shown}."


def check_known(what: str, got: Any, known: Collection[str], raising: type[TersenetError]) -> None:
    """Hold a name to a table, whatever was given for it.

    Raises:
        TersenetError: of the class `raising`; it is not in the table, or no name at all (a list, an array, None).
    """
    if not isinstance(got, str) or got not in known:
        raise raising(unknown(what, got, known))


def shortened(value: Any) -> str:
    """What somebody gave, as a message repeats it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  # somebody's object may answer with anything; a list may be deeper than Python goes
        text = type(value).__name__
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."
