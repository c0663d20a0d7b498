import gc
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from tersenet.measure.latency import in_turn, prepared
from tersenet.target import Artifact
from tersenet.tensors import Port


def _busy(milliseconds: float) -> Callable[[], None]:
    def run() -> None:
        end = time.perf_counter() + milliseconds / 1000
        while time.perf_counter() < end:
            pass

    return run


def test_the_ratio_of_two_known_times() -> None:
    found = in_turn(_busy(0.6), _busy(0.2), threads=2, seconds=2.0, most=60)
    assert found.speedup == pytest.approx(3.0, rel=0.2)
    assert found.speedup_ci95 is not None
    assert found.speedup_ci95[0] <= found.speedup <= found.speedup_ci95[1]
    assert found.compressed.p10 <= found.compressed.median <= found.compressed.p90
    assert found.reference.median == pytest.approx(0.6, rel=0.3)
    assert found.compressed.threads == 2
    assert found.compressed.runs == found.reference.runs >= 10
    assert found.compressed.cpu


def test_the_cap_holds_and_three_pairs_are_timed_all_the_same() -> None:
    start = time.perf_counter()
    found = in_turn(_busy(40), _busy(40), seconds=0.05)
    assert found.compressed.runs == 3
    assert time.perf_counter() - start < 2


def test_they_run_in_turn_and_the_collector_is_left_as_it_was() -> None:
    order: list[str] = []
    in_turn(lambda: order.append("a"), lambda: order.append("b"), seconds=1.0, least=20, most=20)
    timed = "".join(order[-40:])
    assert timed == "ab" * 10 + "ba" * 10  # neither is always the first of its pair
    assert "".join(order[:-40]) == "ab" * (len(order[:-40]) // 2)
    assert gc.isenabled()


def test_a_file_against_itself_is_neither_faster_nor_slower() -> None:
    table = np.random.default_rng(0).random(20_000)
    found = in_turn(lambda: np.sort(table), lambda: np.sort(table), seconds=1.0)
    assert found.speedup == pytest.approx(1.0, abs=0.05)


class FakeSession:
    inputs = (Port("x", (1, 2), "int8", scale=0.5, zero_point=1),)
    outputs = (Port("y", (1, 2), "int8"),)

    def __init__(self) -> None:
        self.fed: list[np.ndarray] = []

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        self.fed.append(arrays[0])
        return [arrays[0]]


def test_samples_are_laid_out_before_the_clock_starts() -> None:
    session = FakeSession()
    run = prepared(Artifact(Path("model"), "fake", session), [[np.array([[0.5, 1.0]])], [np.array([[2.0, 3.0]])]])  # type: ignore[arg-type]
    for _ in range(3):
        run()
    assert [array.tolist() for array in session.fed] == [[[2, 3]], [[5, 7]], [[2, 3]]]
    assert session.fed[0] is session.fed[2]
    assert session.fed[0].dtype == np.int8
