"""What a file may cost: a budget in the user's words, and whether a measured artifact meets it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tersenet.errors import BudgetError, shortened

if TYPE_CHECKING:  # a record holds its budget and what it missed
    from tersenet.record import ArtifactRecord

SIZES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
TIMES_MS = {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3}
_QUANTITY = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([a-zµ]*)\s*", re.IGNORECASE)


@dataclass(frozen=True)
class Budget:
    """Limits that every artifact must meet; None where there is none.

    Args:
        max_drop: points of the task's metric (percent of float's for an unbounded metric), worse counted positive.
        max_bytes: of the file: ``"60kB"``, ``"64KiB"``, ``"1.5MB"``, ``4096``; kept as a whole number of bytes.
        max_latency: of one run: ``"2ms"``, ``"800us"``, ``"0.1s"``; a number means milliseconds, and so it is kept.
        max_memory: of one run, as `max_bytes`.

    Raises:
        BudgetError: one of them does not parse, or is out of range.

    >>> Budget(max_bytes="60kB", max_latency="800us")
    Budget(max_drop=None, max_bytes=60000, max_latency=0.8, max_memory=None)
    """

    max_drop: float | str | None = None
    max_bytes: int | str | None = None
    max_latency: float | str | None = None
    max_memory: int | str | None = None

    def __post_init__(self) -> None:
        for name, parse in (("max_drop", parse_points), ("max_bytes", parse_size), ("max_latency", parse_time_ms), ("max_memory", parse_size)):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, parse(given, name.replace("_", "-")))

    def limits(self) -> dict[str, float]:
        """The limits that were set, by their names in a record."""
        return {name: limit for name, limit in self.to_json().items() if limit is not None}

    def to_json(self) -> dict[str, Any]:
        return {
            "max_drop_points": self.max_drop,
            "max_bytes": self.max_bytes,
            "max_latency_ms": self.max_latency,
            "max_memory_bytes": self.max_memory,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Budget:
        if not isinstance(record, Mapping):
            raise BudgetError(f"a budget must be a JSON object, got {type(record).__name__}.")
        return cls(record.get("max_drop_points"), record.get("max_bytes"), record.get("max_latency_ms"), record.get("max_memory_bytes"))


@dataclass(frozen=True)
class Miss:
    """A limit that an artifact does not meet.

    Args:
        budget: the limit's name in a record: max_drop_points, max_bytes, max_latency_ms, max_memory_bytes.
        limit: what was allowed.
        value: what was measured; None where nothing can be measured here.
        over: by how much it is too much; None where nothing can be measured here.
        text: the sentence for people.
    """

    budget: str
    limit: float
    value: float | None
    over: float | None
    text: str


def judge(budget: Budget, artifact: ArtifactRecord, sure: bool = False) -> tuple[bool, tuple[Miss, ...]]:
    """Whether an artifact's measured values meet every limit, and what they miss.

    A limit on something that cannot be measured on this machine (a microcontroller's latency) is not met: nothing proves it.

    Args:
        budget: the limits.
        artifact: the measured file.
        sure: the worse end of each 95 % interval must meet the limit too.
    """
    misses = []
    for name, limit in budget.limits().items():
        value = _measured(artifact, name, sure)
        if value is None or value > limit:
            misses.append(_miss(name, limit, value, artifact, sure))
    return not misses, tuple(misses)


def _measured(artifact: ArtifactRecord, name: str, sure: bool) -> float | None:
    quality, latency = artifact.quality, artifact.latency_ms
    worst_drop = quality.drop_points_ci95[1] if quality and sure and quality.drop_points_ci95 else None
    worst_time = latency.ci95[1] if latency and sure and latency.ci95 else None
    values: dict[str, float | None] = {
        "max_drop_points": None if quality is None else worst_drop if worst_drop is not None else quality.drop_points,
        "max_bytes": artifact.bytes,
        "max_latency_ms": None if latency is None else worst_time if worst_time is not None else latency.median,
        "max_memory_bytes": artifact.peak_memory_bytes,
    }
    return values[name]


def _miss(name: str, limit: float, value: float | None, artifact: ArtifactRecord, sure: bool) -> Miss:
    what, unit = {
        "max_drop_points": ("the drop", artifact.quality.unit if artifact.quality else "points"),
        "max_bytes": ("the file", "bytes"),
        "max_latency_ms": ("a run", "ms"),
        "max_memory_bytes": ("the peak memory", "bytes"),
    }[name]
    if value is None:
        return Miss(name, limit, None, None, f"{artifact.target}: {what} cannot be measured here, so at most {limit:,.6g} {unit} is not proven.")
    end = " at the worse end of its interval" if sure and name in ("max_drop_points", "max_latency_ms") else ""
    over = value - limit
    shown = "{:,.0f}" if unit == "bytes" else "{:,.3g}"
    figures = [shown.format(number) for number in (value, limit, over)]
    text = f"{artifact.target}: {what} is {figures[0]} {unit}{end}, allowed are {figures[1]}: {figures[2]} too much."
    return Miss(name, limit, value, over, text)


def parse_size(given: int | float | str, name: str = "size") -> int:
    """Bytes of ``60kB``, ``1.5MB``, ``64KiB``, ``4096``.

    Raises:
        BudgetError: it does not parse, or is less than one byte.
    """
    size = math.floor(_quantity(given, SIZES, name, "a size such as 60kB, 1.5MB, 64KiB or 4096"))
    if size < 1:
        raise BudgetError(f"{name} must be at least one byte, got {shortened(given)}.")
    return size


def parse_time_ms(given: float | str, name: str = "time") -> float:
    """Milliseconds of ``2ms``, ``800us``, ``0.1s``, or of a number of milliseconds.

    Raises:
        BudgetError: it does not parse, has no unit, or is not positive.
    """
    time_ms = float(given) if _is_number(given) else _quantity(given, TIMES_MS, name, "a time such as 2ms, 800us or 0.1s")
    if not 0 < time_ms < math.inf:
        raise BudgetError(f"{name} must be a positive time, got {shortened(given)}.")
    return time_ms


def parse_points(given: float | str, name: str = "points") -> float:
    """Percentage points of a metric, zero or more.

    Raises:
        BudgetError: it does not parse, or is negative.
    """
    try:
        points = float(given)
    except (TypeError, ValueError):
        points = math.nan
    if isinstance(given, bool) or not 0 <= points < math.inf:
        raise BudgetError(f"{name} must be a number of percentage points, zero or more (0.5: from 91.0 to 90.5), got {shortened(given)}.")
    return points


def _quantity(given: Any, units: Mapping[str, float], name: str, wanted: str) -> float:
    match = _QUANTITY.fullmatch(str(given)) if _is_number(given) or isinstance(given, str) else None
    if match is None or match[2].lower() not in units:
        raise BudgetError(f"{name} must be {wanted}, got {shortened(given)}.")
    amount = float(match[1]) * units[match[2].lower()]
    if not math.isfinite(amount):
        raise BudgetError(f"{name} must be {wanted}, got {shortened(given)}.")
    return amount


def _is_number(given: Any) -> bool:
    return isinstance(given, int | float) and not isinstance(given, bool)
