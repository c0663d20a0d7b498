"""Plain facts on a terminal: nested mappings and rows, for the commands that draw no report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

LONG = 5  # entries of a list, beyond which a column is no place for it

LONG_LINE = 100


def print_listing(found: Any, console: Console | None = None) -> None:
    """Print facts: mappings as indented lines, lists of like mappings as tables."""
    console = console or Console(highlight=False)
    for line in _lines(found, 0):
        console.print(line)


def _lines(found: Any, depth: int) -> list[RenderableType]:
    indent = "  " * depth
    if _is_rows(found):
        blocks = any(isinstance(value, list) and len(value) > LONG for row in found for value in row.values())
        return [_block(row, depth) for row in found] if blocks else [Padding(_table(found), (0, 0, 0, 2 * depth), expand=False)]
    if isinstance(found, Mapping):
        lines: list[RenderableType] = []
        for key, value in found.items():
            if isinstance(value, Mapping) or _is_rows(value) or _is_long(value):
                lines += [Text(f"{indent}{key}:"), *_lines(value, depth + 1)]
            else:
                lines.append(Text(f"{indent}{key}: {_short(value)}"))
        return lines
    if isinstance(found, list):
        return [Text(f"{indent}- {_short(value)}") for value in found]
    return [Text(f"{indent}{_short(found)}")]


def _is_long(value: Any) -> bool:
    """Sentences, a line each; short words stay on one line."""
    return isinstance(value, list) and len(value) > 1 and isinstance(value[0], str) and sum(len(word) for word in value) > LONG_LINE


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, Mapping) for row in value)


def _block(row: Mapping[str, Any], depth: int) -> RenderableType:
    """One of several rows that are too wide for a table: its first value as a title, the others below it; empty ones left out."""
    (_, title), *rest = row.items()
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(_short(title), "bold"))
    for name, value in rest:
        if value not in (None, "", [], {}):
            grid.add_row(Text(f"  {name}"), Text(_short(value)))
    return Padding(grid, (0, 0, 1, 2 * depth), expand=False)


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
        return ", ".join("any" if part is None else _short(part) for part in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_short(part)}" for key, part in value.items())
    return str(value)
