"""A run as one page that opens offline: no script, no font, no picture from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from tersenet.plain import to_plain
from tersenet.record import ArtifactRecord, FloatOperator, Layer, Quality, Report
from tersenet.report import svg, wording
from tersenet.report.advice import WEAK_DB, loss_is_noise, size_gain, weakest
from tersenet.store import write_file

FILE_NAME = "report.html"
FRAME_HEIGHT = 900


@dataclass(frozen=True)
class LayerGroup:
    """Targets whose layers have the same numbers, drawn once."""

    targets: tuple[str, ...]
    layers: tuple[Layer, ...]
    agreement_db: Mapping[str, Mapping[str, float]]  # layer -> target -> decibels
    largest_db: float
    weakest: Layer | None


@dataclass(frozen=True)
class Left:
    """Operators of one target that stayed in float, or were declined, for one reason."""

    target: str
    op: str
    why: str
    names: tuple[str, ...]
    what: str


def page(report: Report) -> str:
    """The page's text."""
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            report=report,
            groups=layer_groups(report),
            left=left_in_float(report),
            largest=largest_values(report),
            headline=headline(report),
        )
    )


def write(report: Report, folder: Path) -> Path:
    """Write report.html into a folder, whole or not at all.

    Raises:
        OutputError: the folder cannot be written to.
    """
    path = Path(folder) / FILE_NAME
    write_file(path, page(report))
    return path


def frame(report: Report) -> str:
    """The page in a frame of its own, for a notebook: its styles and the notebook's do not mix."""
    style = f"width:100%;height:{FRAME_HEIGHT}px;border:0"
    return f'<iframe srcdoc="{escape(page(report))}" style="{style}" sandbox title="tersenet report"></iframe>'


def layer_groups(report: Report) -> tuple[LayerGroup, ...]:
    """Layers of all targets, those with the same numbers together, in the order of the targets."""
    found: dict[tuple[Layer, ...], list[ArtifactRecord]] = {}
    for record in report.records:
        if record.layers:
            found.setdefault(tuple(replace(layer, agreement_db=None) for layer in record.layers), []).append(record)
    groups = []
    for layers, records in found.items():
        agreement: dict[str, dict[str, float]] = {layer.name: {} for layer in layers}
        for record in records:
            for layer in record.layers:
                if layer.agreement_db is not None:
                    agreement[layer.name][record.target] = layer.agreement_db
        largest = max((layer.sqnr_db for layer in layers if layer.sqnr_db is not None), default=1.0)
        largest = min(max(largest, 1.0), 80.0)  # an exact layer would flatten all the others
        groups.append(LayerGroup(tuple(record.target for record in records), layers, agreement, largest, weakest(records[0])))
    return tuple(groups)


def left_in_float(report: Report) -> tuple[Left, ...]:
    """Operators that run in float or outside the fast kernels, one entry for each reason."""
    grouped: dict[tuple[str, str, str, str], list[str]] = {}
    for record in report.records:
        for what, operators in (("stays in float", record.float_ops), ("declined by the fast kernels", record.declined)):
            for operator in operators:
                grouped.setdefault((record.target, operator.op, operator.why, what), []).append(_name(operator))
    return tuple(Left(target, op, why, tuple(names), what) for (target, op, why, what), names in grouped.items())


def _name(operator: FloatOperator) -> str:
    return operator.name or operator.op


def largest_values(report: Report) -> dict[str, float]:
    """What fills the width of each kind of chart, over all targets, so that targets can be compared by eye."""
    bytes_, times, drops = [1], [1e-9], [0.1]
    for record in report.records:
        bytes_ += [record.bytes, record.twin.bytes]
        times += [latency.median for latency in (record.latency_ms, record.twin.latency_ms) if latency]
        if record.quality and record.quality.drop_points is not None:
            drops += [abs(value) for value in (record.quality.drop_points, *(record.quality.drop_points_ci95 or ()))]
    if report.budget.max_drop is not None:
        drops.append(float(report.budget.max_drop))
    return {"bytes": float(max(bytes_)), "latency": max(times), "drop": 1.1 * max(drops)}


def headline(report: Report) -> str:
    """One sentence that says what came out."""
    records = report.records
    if not records:
        return "No file was written."
    if len(records) == 1:
        return f"One file for {records[0].target}: {', '.join(_gains(records[0]))}."
    smallest = min(records, key=lambda record: record.bytes)
    parts = [f"the smallest is {wording.size(smallest.bytes)} ({smallest.target}, {size_gain(smallest)} than float)"]
    timed = [(record.latency_ms.median, record) for record in records if record.latency_ms]
    if timed:
        median, fastest = min(timed, key=lambda pair: pair[0])
        parts.append(f"the fastest takes {wording.milliseconds(median)} ({fastest.target}, {wording.compared(fastest.speedup, 'faster', 'slower')})")
    worst = max(records, key=lambda record: record.quality.drop_points or 0.0 if record.quality else 0.0)
    if worst.quality is not None and worst.quality.drop_points is not None:
        lost = worst.quality.drop_points > 0
        parts.append(f"at worst {_quality_change(worst.quality)} ({worst.target})" if lost else f"none loses {worst.quality.metric}")
    return f"{len(records)} files: {'; '.join(parts)}."


def _gains(record: ArtifactRecord) -> list[str]:
    parts = [wording.size(record.bytes), f"{size_gain(record)} than float"]
    if record.speedup is not None:
        parts.append(wording.compared(record.speedup, "faster", "slower"))
    if record.quality is not None and record.quality.drop_points is not None:
        parts.append(_quality_change(record.quality))
    return parts


def _quality_change(quality: Quality) -> str:
    chance = ", within chance" if loss_is_noise(quality) and wording.change(quality) != wording.UNCHANGED else ""
    return f"{quality.metric} is {wording.change(quality)}{chance}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("tersenet.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    for words in (wording.size, wording.counted, wording.milliseconds, wording.times, wording.signed, wording.between, wording.plain, wording.share):
        environment.filters[words.__name__] = words
    environment.filters["pretty"] = _pretty
    environment.globals |= {
        "bar": svg.bar,
        "whisker": svg.whisker,
        "sparkline": svg.sparkline,
        "histogram": svg.histogram,
        "words": wording,
        "size_gain": size_gain,
        "loss_is_noise": loss_is_noise,
        "weak_db": WEAK_DB,
    }
    return environment


def _pretty(value: Any) -> str:
    return json.dumps(to_plain(value), indent=2, ensure_ascii=False)
