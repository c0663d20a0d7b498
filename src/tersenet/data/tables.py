"""Tables of texts and labels: ``.csv`` and ``.parquet``."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tersenet.data.assembly import assemble
from tersenet.data.parts import Data
from tersenet.data.samples import read_part
from tersenet.errors import DataError, MissingDependencyError, unknown

SUFFIXES = (".csv", ".parquet")
COLUMNS = ("text", "label")


def named_columns(source: str) -> tuple[str, tuple[str, str]]:
    """The file, and the columns of texts and labels: those that follow a colon, else `COLUMNS`.

    >>> named_columns("news.csv:headline,topic")
    ('news.csv', ('headline', 'topic'))
    """
    file, _, names = source.rpartition(":")
    texts, comma, labels = names.partition(",")
    if comma and file.lower().endswith(SUFFIXES):
        return file, (texts, labels)
    return source, COLUMNS


def read_table(path: Path, seed: int, columns: tuple[str, str] = COLUMNS, task: str = "text-classification") -> Data:
    """Texts and their classes.

    Args:
        columns: of the texts and of the labels.
        task: what the labels are for; those of a regression are numbers.

    Raises:
        DataError: unreadable, empty, a column is missing (its close matches are named), or a cell is.
        MissingDependencyError: pyarrow is not installed (for ``.parquet``).
    """
    texts, labels = (_parquet if path.suffix.lower() == ".parquet" else _csv)(path, columns)
    if not texts:
        raise DataError(f"{path} is empty; it needs rows below its header.")
    for name, column in zip(columns, (texts, labels), strict=True):
        holes = sum(cell is None or cell == "" for cell in column)
        if holes:
            raise DataError(f"{path}: column {name!r} has {holes} empty cells of {len(column)}; fill them or take the rows out.")
    inputs = np.empty(len(texts), dtype=object)  # texts side by side, not in a rectangle as wide as the longest
    inputs[:] = [str(text) for text in texts]
    part = read_part("train", inputs, _numbers(path, columns[1], labels) if task == "regression" else np.array([str(label) for label in labels]))
    return Data.of(assemble({"train": part}, task, seed=seed), path.stem)


def _numbers(path: Path, column: str, labels: list[object]) -> np.ndarray:
    try:
        return np.array([float(str(label)) for label in labels])
    except ValueError as error:
        raise DataError(f"{path}: the network predicts a number, and column {column!r} holds something else: {error}.") from error


def _csv(path: Path, columns: tuple[str, str]) -> tuple[list[object], list[object]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            _check_columns(path, columns, list(rows.fieldnames or []))
            read = [(row[columns[0]], row[columns[1]]) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as comma-separated UTF-8 text: {error}.") from error
    return [text for text, _ in read], [label for _, label in read]


def _parquet(path: Path, columns: tuple[str, str]) -> tuple[list[object], list[object]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise MissingDependencyError("reading .parquet needs pyarrow, which is not installed: pip install 'tersenet[data]'") from error
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, columns, file.schema_arrow.names)
            table = file.read(columns=list(columns))
            texts, labels = (table.column(column).to_pylist() for column in columns)
    except DataError:
        raise
    except Exception as error:  # whatever a damaged file makes the parser raise
        raise DataError(f"{path} cannot be read as parquet: {error}.") from error
    return texts, labels


def _check_columns(path: Path, columns: tuple[str, str], found: list[str]) -> None:
    for column in columns:
        if column not in found:
            raise DataError(
                f"{path}: {unknown('column', column, found)}" if found else f"{path} is empty; it needs a header with {', '.join(columns)}."
            )
