import dataclasses

import pytest

from tersenet.budget import Budget, judge, parse_points, parse_size, parse_time_ms
from tersenet.errors import BudgetError
from tersenet.record import ArtifactRecord, FloatTwin, Latency, Quality


@pytest.mark.parametrize(
    ("text", "size"),
    [("60kB", 60_000), ("1.5MB", 1_500_000), ("4096", 4096), ("64KiB", 65_536), ("1 GiB", 1 << 30), ("100B", 100), (4096, 4096), ("0.3KiB", 307)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(("text", "time_ms"), [("2ms", 2.0), ("800us", 0.8), ("0.1s", 100.0), ("5 µs", 0.005), (2.5, 2.5)])
def test_times(text: str | float, time_ms: float) -> None:
    assert parse_time_ms(text) == pytest.approx(time_ms)


@pytest.mark.parametrize("text", ["lots", "", "-5", "60 kilo", "kB", "1e400", "12..5kB", "0", "0.2B", None, True, "nan", "inf"])
def test_sizes_that_are_none(text: object) -> None:
    with pytest.raises(BudgetError) as caught:
        parse_size(text, "max-bytes")  # type: ignore[arg-type]
    assert "max-bytes" in str(caught.value)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["2", "soon", "-2ms", "0ms", 0, -1.0, float("nan"), True, "2 hours"])
def test_times_that_are_none(text: object) -> None:
    with pytest.raises(BudgetError):
        parse_time_ms(text)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["little", "-0.5", float("nan"), float("inf"), True, [1]])
def test_points_that_are_none(text: object) -> None:
    with pytest.raises(BudgetError):
        parse_points(text)  # type: ignore[arg-type]


def test_a_budget_is_kept_in_plain_units() -> None:
    budget = Budget(max_drop="0.5", max_bytes="60kB", max_latency="800us", max_memory="64KiB")
    assert budget == Budget(0.5, 60_000, 0.8, 65_536)
    assert budget.to_json() == {"max_drop_points": 0.5, "max_bytes": 60_000, "max_latency_ms": 0.8, "max_memory_bytes": 65_536}
    assert Budget.from_json(budget.to_json()) == budget
    assert Budget().limits() == {}


def _artifact(**changes: object) -> ArtifactRecord:
    record = ArtifactRecord(
        "litert",
        "artifacts/litert/model.tflite",
        50_000,
        "",
        FloatTwin(200_000),
        quality=Quality("accuracy", 0.90, 0.4, (-0.2, 1.0), 500),
        latency_ms=Latency(1.0, 0.9, 1.1, ci95=(0.95, 1.05)),
        peak_memory_bytes=30_000,
    )
    return dataclasses.replace(record, **changes)  # type: ignore[arg-type]


def test_what_meets_the_budget_misses_nothing() -> None:
    assert judge(Budget(0.4, 50_000, 1.0, 30_000), _artifact()) == (True, ())
    assert judge(Budget(), _artifact()) == (True, ())


def test_each_limit_is_missed_by_its_own_figure() -> None:
    met, missed = judge(Budget(0.3, 49_000, 0.8, 29_000), _artifact())
    assert not met
    assert [(miss.budget, miss.value) for miss in missed] == [
        ("max_drop_points", 0.4),
        ("max_bytes", 50_000),
        ("max_latency_ms", 1.0),
        ("max_memory_bytes", 30_000),
    ]
    assert missed[1].over == 1000
    assert missed[1].text == "litert: the file is 50,000 bytes, allowed are 49,000: 1,000 too much."


def test_sure_asks_the_worse_end_of_the_interval() -> None:
    budget = Budget(max_drop=0.5, max_latency="1.01ms")
    assert judge(budget, _artifact())[0]
    met, missed = judge(budget, _artifact(), sure=True)
    assert not met
    assert [miss.value for miss in missed] == [1.0, 1.05]
    assert "worse end" in missed[0].text


def test_what_cannot_be_measured_is_not_proven() -> None:
    met, missed = judge(Budget(max_latency="2ms"), _artifact(latency_ms=None))
    assert not met
    assert missed[0].value is None
    assert "not proven" in missed[0].text
