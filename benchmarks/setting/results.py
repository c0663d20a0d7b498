"""What every benchmark writes: one small JSON with its rows, and what they were measured on."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tersenet.measure.environment import environment

RESULTS = Path(__file__).resolve().parents[1] / "results"


def _processor(found: dict[str, Any]) -> str:
    return f"{found['cpu']}, {found['instruction_sets'][-1]}"


class Results:
    """The rows of one benchmark; each is written as it comes, so that an interrupted run goes on where it was.

    Args:
        name: of the benchmark, and of its file.
        keys: fields of a row that say which one it is.
        seed: of whatever is random in it.
    """

    def __init__(self, name: str, keys: Sequence[str], seed: int = 0) -> None:
        self.path, self.keys, self.seed = RESULTS / f"{name}.json", tuple(keys), seed
        self.rows = self._written()
        self.started = time.perf_counter()

    def _written(self) -> list[dict[str, Any]]:
        return json.loads(self.path.read_text())["rows"] if self.path.exists() else []

    def _environment(self) -> dict[str, Any]:
        """What the first rows were measured on; a row of another processor names it."""
        return json.loads(self.path.read_text())["environment"] if self._written() else environment()

    def has(self, **key: Any) -> bool:
        """Whether the row is there already."""
        return any(all(row[name] == key[name] for name in self.keys) for row in self.rows)

    def put(self, **row: Any) -> None:
        """Add a row, or replace the one of the same key, and say it."""
        if "limit" in row and row.get("value") is not None:
            row["met"] = row["value"] <= row["limit"] if row.pop("at_most", True) else row["value"] >= row["limit"]
        row["seconds"] = round(time.perf_counter() - self.started, 1)
        self.rows = [other for other in self._written() if any(other[name] != row[name] for name in self.keys)] + [row]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        usual, here = self._environment(), environment()
        if _processor(here) != _processor(usual):
            row["processor"] = _processor(here)
        record = {"benchmark": self.path.stem, "seed": self.seed, "environment": usual, "rows": self.rows}
        self.path.write_text(json.dumps(record, indent=1) + "\n")
        print("  ".join(f"{name} {value}" for name, value in row.items()), flush=True)
        self.started = time.perf_counter()
