"""Plain facts on a terminal: nested mappings and rows, for the commands that draw no report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_listing(found: Any, console: Console | None = None) -> None:
    """Print facts: mappings as indented lines, lists of like mappings as tables."""
    console = console or Console(highlight=False)
    for line in _lines(found, 0):
        console.print(line)


def _lines(found: Any, depth: int) -> list[Text | Table]:
    indent = "  " * depth
    if _is_rows(found):
        return [_table(found)]
    if isinstance(found, Mapping):
        lines: list[Text | Table] = []
        for key, value in found.items():
            if isinstance(value, Mapping) or _is_rows(value) or (isinstance(value, list) and value and isinstance(value[0], str) and len(value) > 1):
                lines += [Text(f"{indent}{key}:"), *_lines(value, depth + 1)]
            else:
                lines.append(Text(f"{indent}{key}: {_short(value)}"))
        return lines
    if isinstance(found, list):
        return [Text(f"{indent}- {_short(value)}") for value in found]
    return [Text(f"{indent}{_short(found)}")]


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _table(rows: list[Mapping[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        numeric = all(isinstance(row.get(name), int | float) for row in rows if row.get(name) is not None)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_short(row.get(name))) for name in names))
    return table


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(_short(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return str(value)
