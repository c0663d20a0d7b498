"""Facts on a terminal: nothing is squeezed into columns that are too narrow to read."""

from io import StringIO
from typing import Any

from rich.console import Console

from tersenet.report.listing import print_listing


def shown(found: Any, width: int = 80) -> list[str]:
    buffer = StringIO()
    print_listing(found, Console(file=buffer, width=width, highlight=False, color_system=None))
    return [line.rstrip() for line in buffer.getvalue().splitlines()]


def test_like_rows_are_a_table_indented_with_what_it_belongs_to() -> None:
    lines = shown({"inputs": [{"name": "x", "shape": [None, 3]}, {"name": "y", "shape": [2]}]})
    assert lines == ["inputs:", "  name  shape", "  x     any, 3", "  y     2"]


def test_rows_with_long_lists_are_blocks_one_below_the_other() -> None:
    kernels = [f"kernel{number}" for number in range(30)]
    lines = shown([{"target": "one", "installed": True, "missing": [], "kernels": kernels}, {"target": "two", "kernels": []}])
    assert lines[:2] == ["one", "  installed  yes"]
    assert lines[2].startswith("  kernels    kernel0, kernel1")
    assert lines[3].startswith("             kernel"), "what wraps stays in its column"
    assert "two" in lines
    assert not any("missing" in line for line in lines)


def test_plain_facts() -> None:
    assert shown({"name": "a", "count": 1234, "share": 0.12345, "known": None, "ok": False}) == [
        "name: a",
        "count: 1,234",
        "share: 0.1235",
        "known:",
        "ok: no",
    ]
