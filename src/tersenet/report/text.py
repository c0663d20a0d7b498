"""A run in the terminal: what is wrong first, then before and after for every target. Plain text where there is no terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import StringIO
from typing import TextIO

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tersenet.record import Agreement, ArtifactRecord, FloatOperator, Quality, Report
from tersenet.report.advice import loss_is_noise
from tersenet.report.wording import MISSING, counted, metric, milliseconds, share, signed, size, times

PAGE = "report.html"
SHOWN = 6  # operators that stayed in float, one a line; the page has them all


def show(report: Report, file: TextIO | None = None, width: int | None = None) -> None:
    """Print a run: in colours on a terminal, plain elsewhere.

    Args:
        report: the run.
        file: where to; None: standard output.
        width: columns; None: the terminal's, or 100 where there is none.
    """
    file = file or sys.stdout
    console = Console(file=file, width=width, highlight=False, emoji=False, markup=False)
    if console.is_terminal:
        console.print(draw(report))
    else:
        file.write(to_text(report, width or 100))


def to_text(report: Report, width: int = 100) -> str:
    """A run as plain text."""
    buffer = StringIO()
    Console(file=buffer, width=width, highlight=False, emoji=False, markup=False, color_system=None).print(draw(report))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def draw(report: Report) -> RenderableType:
    """A run as something that rich can print."""
    return Group(*_parts(report))


def _parts(report: Report) -> Iterator[RenderableType]:
    for text in report.warnings:
        yield _sentence("! ", text, "yellow")
    if report.warnings:
        yield ""
    yield _headline(report)
    yield ""
    yield _table(report)
    yield ""
    yield from _notes(report)
    yield from _stayed_float(report)
    yield _verdict(report)
    for text in report.next:
        yield _sentence("> ", text, "")
    if report.folder is not None:
        yield _sentence("The whole report: ", str(report.folder / PAGE), "bold")


def _sentence(mark: str, text: str, style: str) -> RenderableType:
    grid = Table.grid()
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(Text(mark, style), Text(text, style))
    return grid


def _headline(report: Report) -> RenderableType:
    model, data = report.model, report.data
    what = f"{counted(model.parameters)} parameters, {counted(model.macs)} MACs, {size(model.float_bytes)} in float"
    judged = f"judged on {data.n_evaluation:,} samples of {data.name}"
    return Text.assemble((model.name, "bold"), f"  {what}; {judged}")


def _table(report: Report) -> Table:
    quality = next((record.quality for record in report.records if record.quality), None)
    unit = "%" if quality and quality.unit == "percent" else "points"
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1), collapse_padding=True)
    table.add_column("", no_wrap=True)
    name = quality.metric if quality else "quality"
    for header in ("size", "", name, f"drop, {unit}", "one run", "", "memory"):
        table.add_column(header, justify="right", no_wrap=len(header) < 14)
    for record in report.records:
        table.add_row(*_shipped(record))
        table.add_row(*_float(record), style="dim", end_section=True)
    return table


def _shipped(record: ArtifactRecord) -> list[str | Text]:
    quality, latency = record.quality, record.latency_ms
    return [
        Text(record.target, "bold"),
        size(record.bytes),
        _coloured(times(record.twin.bytes / max(record.bytes, 1)), record.bytes < record.twin.bytes),
        metric(quality, quality.value if quality else None),
        Text(_drop(quality), "red" if quality and (quality.drop_points or 0) > 0 and not loss_is_noise(quality) else ""),
        milliseconds(latency.median if latency else None),
        _coloured(times(record.speedup), record.speedup > 1) if record.speedup else "",
        size(record.peak_memory_bytes),
    ]


def _float(record: ArtifactRecord) -> list[str]:
    twin = record.twin
    latency = milliseconds(twin.latency_ms.median if twin.latency_ms else None)
    memory = size(twin.peak_memory_bytes) if twin.peak_memory_bytes and twin.memory_is == record.memory_is else ""
    return ["  float", size(twin.bytes), "", metric(record.quality, twin.quality), "", latency, "", memory]


def _coloured(text: str, good: bool) -> Text:
    return Text(text, "green" if good else "red")


def _drop(quality: Quality | None) -> str:
    """``+0.05 ±0.29``: worse is positive."""
    if quality is None:
        return MISSING
    ends = quality.drop_points_ci95
    half = f" ±{(ends[1] - ends[0]) / 2:.2f}" if ends else ""
    return f"{signed(quality.drop_points)}{half}"


def _notes(report: Report) -> Iterator[RenderableType]:
    """What the table's figures are, and what it has none for."""
    if any(record.quality and record.quality.drop_points_ci95 for record in report.records):
        yield Text("Drop: worse is positive; ± is half the 95 % interval, the same samples through both files.", "dim")
    timed = next((record.latency_ms for record in report.records if record.latency_ms), None)
    if timed is not None:
        threads = f"{timed.threads} thread{'s' if timed.threads != 1 else ''}"
        yield Text(f"One run: median, in turn with float, {threads}, {timed.cpu}.", "dim")
    for record in report.records:
        if record.latency_ms is None:
            moved = f" and moves {size(record.bytes_moved)}" if record.bytes_moved else ""
            work = f"one run takes {counted(report.model.macs)} MACs{moved}"
            yield Text(f"{record.target}: this machine's time says nothing of the device's; {work}.", "dim")
    for record in report.records:
        if record.packs:
            twin = f", the float file {size(record.twin.packed_bytes)}" if record.twin.packed_bytes else ""
            yield Text(f"{record.target}: packed for delivery (zlib, level 9) {size(record.packed_bytes)}{twin}.", "dim")
    yield from _origins(report)


def _origins(report: Report) -> Iterator[RenderableType]:
    """Where memory figures come from, and whether the files do what was simulated."""
    kinds: dict[str, list[str]] = {}
    for record in report.records:
        if record.memory_is:
            kinds.setdefault(record.memory_is, []).append(record.target)
    if kinds:
        told = "; ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds.items())
        yield Text(f"Memory: {told}.", "dim")
    agreeing = [f"{record.target} {_agrees(record.agreement)}" for record in report.records if record.agreement]
    if agreeing:
        yield Text(f"Agrees with the simulation: {', '.join(agreeing)}.", "dim")


def _agrees(found: Agreement) -> str:
    return share(found.top1) if found.top1 is not None else f"{found.sqnr_db:.0f} dB" if found.sqnr_db is not None else MISSING


def _stayed_float(report: Report) -> Iterator[RenderableType]:
    lines = [*_reasons(report, "stayed float", "float_ops"), *_reasons(report, "declined", "declined")]
    if not lines:
        return
    yield ""
    yield Text("In float, or not taken by the fast kernels", "bold")
    for line in lines[:SHOWN]:
        yield Padding(Text(line), (0, 0, 0, 2))
    if len(lines) > SHOWN:
        yield Padding(Text(f"... and {len(lines) - SHOWN} more, all on the page"), (0, 0, 0, 2))


def _reasons(report: Report, what: str, attribute: str) -> list[str]:
    """One line for each reason, operators that share it together."""
    lines = []
    for record in report.records:
        grouped: dict[tuple[str, str], list[FloatOperator]] = {}
        for operator in getattr(record, attribute):
            grouped.setdefault((operator.op, operator.why), []).append(operator)
        for (kind, why), operators in grouped.items():
            count = f" ×{len(operators)}" if len(operators) > 1 else ""
            lines.append(f"{record.target}: {kind}{count} {what}: {why}")
    return lines


def _verdict(report: Report) -> RenderableType:
    if not report.budget.limits():
        return Text("")
    missed = [record.target for record in report.records if not record.met]
    if not missed:
        return Text("\nEvery budget is met.\n", "bold green")
    return Text(f"\nThe budget is not met by {', '.join(missed)} (see above).\n", "bold red")
