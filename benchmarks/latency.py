"""How fast the files run: ours against each peer's of the same network, in turn within one process, one thread.

    python benchmarks/latency.py [SECONDS [NETWORK...]]      SECONDS for each pair of files

A row's value is our time over the other's, the median over pairs of runs; `ci95` is its interval; `processor_value` is the same of
the processor's own clock, which does not count what else the machine did. Files that take floats are compared with ours that takes
floats, files that take integers with ours that takes integers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from setting import files, images
from setting.results import Results

from tersenet.measure.latency import in_turn, prepared

NETWORKS = sys.argv[2:] or ["mobilenet_v2", "resnet32", "resnet8"]
LIMIT = 1.02
SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0


def main() -> None:
    results = Results("latency", ("network", "target", "file", "against"))
    for name in NETWORKS:
        samples = np.load(images.kept(name))[:8]
        for target in files.TARGETS:
            ours, twin = files.ours(name, target), files.ours(name, target, integers=False)
            compare(results, samples, (name, target, "int8", "float twin"), ours, twin)
            converters = files.their_float(name, target)
            if converters is not None:
                compare(results, samples, (name, target, "float", "converter's float"), twin, converters)
                compare(results, samples, (name, target, "int8", "converter's float"), ours, converters)
        for peer, row in files.PEERS.items():
            other = files.theirs(name, peer)
            if other is not None:
                integer_io = np.issubdtype(np.dtype(files.opened(other).inputs[0].dtype), np.integer)
                ours = files.ours(name, row.target, integer_io=integer_io or None)
                compare(results, samples, (name, row.target, "int8", peer), ours, other, LIMIT if row.own else None)


def compare(results: Results, samples: np.ndarray, key: tuple[str, str, str, str], ours: Path, other: Path, limit: float | None = None) -> None:
    """Time two files in turn and keep the ratio."""
    network, target, file, against = key
    first, second = files.opened(ours), files.opened(other)
    batches = [[sample[None]] for sample in samples]
    timed = in_turn(prepared(second, batches), prepared(first, batches), threads=1, seconds=SECONDS, least=400, most=4000)
    processor = processor_ratio(prepared(first, batches), prepared(second, batches), timed.compressed.runs // 2)
    low, high = timed.speedup_ci95 or (timed.speedup, timed.speedup)
    results.put(
        network=network,
        target=target,
        file=file,
        against=against,
        ms=round(timed.compressed.median, 4),
        other_ms=round(timed.reference.median, 4),
        value=round(1 / timed.speedup, 4),
        ci95=[round(1 / high, 4), round(1 / low, 4)],
        processor_value=round(processor, 4),
        pairs=timed.compressed.runs,
        io=first.inputs[0].dtype,
        other_io=second.inputs[0].dtype,
        operators=files.counted(first),
        other_operators=files.counted(second),
        **({"limit": limit} if limit else {}),
    )


def processor_ratio(first: Callable[[], object], second: Callable[[], object], pairs: int) -> float:
    """The median over pairs of runs of the first's processor time over the second's."""
    ratios = []
    for _ in range(max(pairs, 30)):
        spent = []
        for run in (first, second):
            start = time.process_time_ns()
            run()
            spent.append(time.process_time_ns() - start)
        ratios.append(spent[0] / spent[1])
    return float(np.median(ratios))


if __name__ == "__main__":
    main()
