"""The page of a frontend's table in one language: what is converted, and with what limits; what is refused, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Words:
    """The sentences of a page in one language.

    Args:
        title, intro: what it begins with.
        converted, refused: the titles of its two tables.
        row: what a row is about: a layer, an operator.
        limits, reason: the last column of each table.
        between: the columns between these and the names.
    """

    title: str
    intro: str
    converted: str
    refused: str
    row: str
    limits: str
    reason: str
    between: tuple[str, ...] = ()


def page(words: Words, converted: Iterable[Sequence[str]], refused: Iterable[Sequence[str]]) -> str:
    """The whole page. A row holds a name, the columns between, and the sentence (or "" for no limits)."""
    parts = [
        f"# {words.title}",
        words.intro,
        f"## {words.converted}",
        table([words.row, *words.between, words.limits], ([f"`{name}`", *rest] for name, *rest in converted)),
        f"## {words.refused}",
        table([words.row, *words.between, words.reason], ([f"`{name}`", *rest] for name, *rest in refused)),
    ]
    return "\n\n".join(parts) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown."""
    return "\n".join([_row(columns), "|---" * len(columns) + "|", *map(_row, rows)])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
