"""Damaged files of every format, opened in forks of a warm parent with limits of time and memory (`tersenet.testing.damage`).

    python benchmarks/damaged.py [COUNT [FORMAT...]]      COUNT files of each format, 10,000 unless said

Findings are kept under .bench/damaged, counted, and tried again by the next run, which goes on where the last one was.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from setting.networks import BENCH
from setting.results import Results

import tersenet
from tersenet.testing.damage import LOADED, REFUSED, Damage, tried

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
from whole_files import FORMATS  # the tests damage the same files

COUNT = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
KEPT = BENCH / "damaged"


def main() -> None:
    torch.set_num_threads(1)
    results = Results("damaged", ("format",))
    for name in sys.argv[2:] or FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            whole = FORMATS[name](Path(folder))
            tersenet.load(whole)  # what a first file imports
            gc.collect()
            gc.freeze()  # so that a fork need not copy what it only counts
            judge(results, name, whole)


def judge(results: Results, name: str, whole: Path) -> None:
    """The damaged files of one format that no earlier run has tried, and the findings of the earlier ones."""
    nothing: dict[str, Any] = {"files": 0, "outcomes": {}, "kept": {}, "spent_seconds": 0}
    before = next((row for row in results.rows if row["format"] == name), nothing)
    counts, kept, spent = Counter(before["outcomes"]), dict(before["kept"]), before["spent_seconds"]
    damage = Damage(whole)
    for number, (outcome, _) in tried(damage, [int(number) for number in kept]):
        counts.subtract([kept.pop(str(number)).split(":")[0]])
        counts.update([outcome])
    start, first = time.perf_counter(), before["files"]
    for number, (outcome, why) in tried(damage, range(first, COUNT)):
        counts.update([outcome])
        if outcome not in (LOADED, REFUSED):
            kept[str(number)] = f"{outcome}: {why}"
            damage.keep(number, KEPT / f"{name}-{number}")
        if number % 250 == 249 or number == COUNT - 1:
            row = {"files": number + 1, "value": len(kept), "limit": 0, "outcomes": {key: n for key, n in sorted(counts.items()) if n}, "kept": kept}
            results.put(format=name, **row, spent_seconds=round(spent + time.perf_counter() - start, 1))


if __name__ == "__main__":
    main()
