"""Two files' times, measured in turn within one process, so that whatever else the machine does hits both alike."""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tersenet.measure.bootstrap import interval
from tersenet.measure.cpu import cpu
from tersenet.record import Latency
from tersenet.target import Artifact, feed

BLOCK = 10  # pairs that are resampled together: neighbours in time share the machine's mood
SETTLED = 0.005  # stop early once half the ratio's interval is this small a share of the ratio


@dataclass(frozen=True)
class InTurn:
    """Two files, timed A B A B ...

    Args:
        reference, compressed: their times.
        speedup: median over pairs of reference time / compressed time.
        speedup_ci95: its 95 % interval, by a bootstrap over blocks of pairs.
    """

    reference: Latency
    compressed: Latency
    speedup: float
    speedup_ci95: tuple[float, float] | None


def prepared(artifact: Artifact, samples: Sequence[Sequence[np.ndarray]]) -> Callable[[], object]:
    """A function of nothing that runs the next sample, laid out beforehand as the file takes it: the runtime's time alone.

    Args:
        artifact: the file.
        samples: network inputs, each a sequence of arrays with a batch that the file takes (1, as a rule).
    """
    fed = [[feed(np.asarray(array), port) for array, port in zip(sample, artifact.inputs, strict=True)] for sample in samples]
    turn, run = itertools.cycle(fed), artifact.session.run
    return lambda: run(next(turn))


def in_turn(
    reference: Callable[[], object],
    compressed: Callable[[], object],
    threads: int = 1,
    seconds: float = 3.0,
    least: int = 200,
    most: int = 2000,
    seed: int = 0,
) -> InTurn:
    """Time two functions in turn: after a warm-up, until the ratio is known to half a percent, or `seconds` or `most` pairs are spent.

    Args:
        reference, compressed: run once each call (see `prepared`).
        threads: that both runtimes were given, for the record.
        seconds: the cap on the whole, warm-up included; at least three pairs are timed whatever they cost.
        least, most: pairs to time.
        seed: of the bootstrap.
    """
    start = time.perf_counter()
    _warm_up(reference, compressed, seconds / 5)
    times = np.zeros((0, 2))
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle of a run is not the runtime's time
    try:
        while len(times) < most:
            times = np.concatenate([times, _pairs(reference, compressed, min(BLOCK, most - len(times)), start + seconds, len(times))])
            spent = time.perf_counter() - start
            if spent >= seconds or (len(times) >= least and _settled(times, seed)):
                break
    finally:
        if collecting:
            gc.enable()
    ratios = times[:, 0] / times[:, 1]
    return InTurn(
        _latency(times[:, 0], threads, seed), _latency(times[:, 1], threads, seed), float(np.median(ratios)), _median_interval(ratios, seed)
    )


def _warm_up(reference: Callable[[], object], compressed: Callable[[], object], seconds: float) -> None:
    end = time.perf_counter() + seconds
    for count in itertools.count(1):
        reference()
        compressed()
        if count >= 3 and (count >= BLOCK or time.perf_counter() >= end):
            return


def _pairs(reference: Callable[[], object], compressed: Callable[[], object], count: int, deadline: float, done: int) -> np.ndarray:
    """Milliseconds of `count` pairs, fewer where the deadline passes; three at least, with what was done.

    Blocks begin with the one and the other in turn: whoever goes first finds the caches as the clockwork here has left them.
    """
    runs, rows = (reference, compressed), []
    order = (0, 1) if done // BLOCK % 2 == 0 else (1, 0)
    for index in range(count):
        row = [0.0, 0.0]
        for which in order:
            row[which] = _milliseconds(runs[which])
        rows.append(row)
        if done + index >= 2 and time.perf_counter() >= deadline:
            break
    return np.maximum(np.asarray(rows), 1e-6)  # a clock's tick may be longer than an empty run


def _milliseconds(run: Callable[[], object]) -> float:
    clock = time.perf_counter_ns
    start = clock()
    run()
    return (clock() - start) / 1e6


def _settled(times: np.ndarray, seed: int) -> bool:
    ratios = times[:, 0] / times[:, 1]
    ends = _median_interval(ratios, seed, resamples=200)
    return ends is not None and (ends[1] - ends[0]) / 2 <= SETTLED * float(np.median(ratios))


def _median_interval(values: np.ndarray, seed: int, resamples: int = 1000) -> tuple[float, float] | None:
    """95 % interval of the median, blocks of neighbours drawn together; at least ten blocks, smaller ones of a short series."""
    size = min(BLOCK, max(1, len(values) // 10))
    blocks = values[: len(values) // size * size].reshape(-1, size)
    return interval(lambda drawn: float(np.median(blocks[drawn])), len(blocks), resamples, seed)


def _latency(times: np.ndarray, threads: int, seed: int) -> Latency:
    p10, median, p90 = (float(value) for value in np.percentile(times, (10, 50, 90)))
    return Latency(median, p10, p90, threads, len(times), cpu(), _median_interval(times, seed))
