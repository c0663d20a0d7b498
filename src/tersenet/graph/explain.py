"""Why a network could not be traced, in plain words: the line of the user's file, the reason, what to change."""

from __future__ import annotations

import inspect
import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path

import torch

# What a tracing error says -> the reason in plain words, and what to change. The first pattern that matches counts.
REASONS: tuple[tuple[str, str, str], ...] = (
    (
        r"data-dependent|GuardOnDataDependent|\bu\d+\b|aten\._local_scalar_dense|Tensor\.item|is_nonzero",
        "the code branches on values that are only known when data flow through it, or sizes a tensor by them",
        "choose with torch.where instead of `if`, and let sizes depend on shapes only",
    ),
    (
        r"numpy\(\)|\.numpy|__array__|FakeTensor.*data pointer|data_ptr|tolist",
        "the code takes the numbers out of a tensor (numpy, tolist or a data pointer)",
        "stay with torch operators inside forward",
    ),
    (
        r"aten\.nonzero|aten\.unique|masked_select|dynamic_output_shape|DynamicOutputShape",
        "the shape of a result depends on the values of the data",
        "use an operator whose result has a fixed shape, such as torch.where or torch.topk",
    ),
    (
        r"failed to unpack the object at pos|_pack_padded_sequence",
        "a size is computed from the values of a tensor, as pack_padded_sequence does",
        "let sizes depend on shapes only; pad sequences and mask what comes out",
    ),
    (
        r"could not find.*kernel|no fake impl|not.*implement.*meta|UnsupportedOperator|fake kernel|FakeTensor support",
        "an operator cannot be traced, because its shapes cannot be computed without data",
        "replace it by plain torch operators",
    ),
    (
        r"script_method|ScriptModule|torch\.jit|RecursiveScriptModule",
        "a part of the network is TorchScript, which hides its operators",
        "build the network from its Python class and load its weights",
    ),
)
_SPECIALIZED = re.compile(r"specialized it to be a constant \((\d+)\)")
_OURS = tuple(str(folder.resolve()) + os.sep for folder in (Path(torch.__file__).parent, Path(__file__).parents[1]))
_STANDARD = str(Path(sysconfig.get_paths()["stdlib"]).resolve()) + os.sep


def reason_for(error: BaseException) -> tuple[str, str]:
    """Why tracing failed, and what to change ("" where nothing better can be said)."""
    text = " ".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    if found := _SPECIALIZED.search(text):
        return f"the code ties an open dimension to the size {found[1]} of the example", "take sizes from x.shape instead of writing them as numbers"
    for pattern, reason, change in REASONS:
        if re.search(pattern, text):
            return reason, change
    return first_line(error), ""


def first_line(error: BaseException) -> str:
    """The type and the first line of an error's message, shortened."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    line = re.sub(r"\bs\d+\b", "n", line)  # torch's own symbols of open sizes
    return f"{type(error).__name__}: {line[:200]}" if line else type(error).__name__


def place_of(error: BaseException, module: torch.nn.Module | None = None) -> str:
    """``net.py, line 5 (`return x if x.sum() > 0 else -x`): ``: the deepest line of the user's own code; "" where there is none."""
    for one in _chain(error):
        for frame in reversed(traceback.extract_tb(one.__traceback__)):
            if _is_users(frame.filename):
                return _place(frame.filename, frame.lineno or 0)
    return _place_of_class(module) if module is not None else ""


def place_of_node(node: torch.fx.Node) -> str:
    """The deepest line of the user's own code that made this node; "" where it is not known."""
    frames = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    for file, line in reversed(frames):
        if _is_users(file):
            return _place(file, int(line))
    return ""


def _place_of_class(module: torch.nn.Module) -> str:
    try:
        file = inspect.getsourcefile(type(module))
        line = inspect.getsourcelines(type(module).forward)[1]
    except (OSError, TypeError):
        return ""
    return _place(file, line) if file and _is_users(file) else ""


def _place(file: str, line: int) -> str:
    shown = os.path.relpath(file) if Path(file).resolve().is_relative_to(Path.cwd()) else file
    text = linecache.getline(file, line).strip()
    return f"{shown}, line {line}" + (f" (`{text}`): " if text else ": ")


def _is_users(file: str) -> bool:
    if file.startswith("<"):
        return False
    path = str(Path(file).resolve())
    standard = path.startswith(_STANDARD) and "site-packages" not in path
    return not standard and not path.startswith(_OURS)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it came from."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__
