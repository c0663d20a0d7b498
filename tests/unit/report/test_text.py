import dataclasses
from io import StringIO
from pathlib import Path

import pytest

from tersenet.budget import Budget
from tersenet.record import ArtifactRecord, FloatOperator, FloatTwin, Quality, Report
from tersenet.report.text import show, to_text


def test_warnings_come_first_and_the_page_last(report: Report, tmp_path: Path) -> None:
    text = to_text(dataclasses.replace(report, folder=tmp_path), width=400)
    lines = [line for line in text.splitlines() if line]
    assert lines[0] == f"! {report.warnings[0]}"
    assert lines[-1] == f"The whole report: {tmp_path / 'report.html'}"
    assert all(f"> {sentence}" in lines for sentence in report.next)


@pytest.mark.parametrize("width", [80, 100, 160])
def test_before_and_after_of_every_target_fit_the_terminal(report: Report, width: int) -> None:
    text = to_text(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    for row in (
        "onnxruntime    493 kB  3.79×   82.80 %   +0.05 ±0.29  0.57 ms  2.31×  6.23 MB",
        "executorch     521 kB  3.57×   81.45 %   +1.40 ±0.68  0.85 ms  0.98×   209 kB",
        "litert-micro   501 kB  3.75×   82.95 %   −0.10 ±0.31        –          137 kB",
    ):
        assert row in text
    assert "…" not in text.split("Drop: worse")[0].split("MACs", 1)[1]


def test_what_stayed_in_float_has_its_reason(report: Report) -> None:
    text = to_text(report, 200)
    assert "executorch: softmax stayed float: executorch has no integer kernel for softmax" in text
    assert "executorch: pad ×2 declined: the delegate pads in space alone, not channels" in text
    many = tuple(FloatOperator(f"op{index}", "", "why") for index in range(9))
    record = dataclasses.replace(report.records[0], float_ops=many)
    assert "... and 3 more, all on the page" in to_text(dataclasses.replace(report, records=(record,)), 200)


def test_the_budget_s_verdict(report: Report) -> None:
    assert "The budget is not met by executorch" in to_text(report)
    fine = dataclasses.replace(report, records=report.records[:1])
    assert "Every budget is met." in to_text(fine)
    assert "budget" not in to_text(dataclasses.replace(fine, budget=Budget(), warnings=(), next=()))


def test_a_record_of_bare_necessities(report: Report) -> None:
    bare = ArtifactRecord("litert", "model.tflite", 10, "", FloatTwin(10))
    assert "litert" in to_text(dataclasses.replace(report, records=(bare,), warnings=(), next=()))
    quality = Quality("mean squared error", 0.0123, 1.5, (1.0, 2.0), 100, "percent", "labels", "lower")
    text = to_text(dataclasses.replace(report, records=(dataclasses.replace(bare, quality=quality, twin=FloatTwin(20, 0.0121)),)))
    assert "drop, %" in text
    assert "+1.50 ±0.50" in text


def test_what_packs_well_is_said(report: Report) -> None:
    dense = dataclasses.replace(report.records[0], packed_bytes=440_000)
    assert "packed for delivery" not in to_text(dataclasses.replace(report, records=(dense,)), 200)
    sparse = dataclasses.replace(dense, packed_bytes=150_000, twin=dataclasses.replace(dense.twin, packed_bytes=1_700_000))
    assert "onnxruntime: packed for delivery (zlib, level 9) 150 kB, the float file 1.70 MB." in to_text(
        dataclasses.replace(report, records=(sparse,)), 200
    )


def test_square_brackets_are_no_markup(report: Report) -> None:
    text = to_text(dataclasses.replace(report, warnings=("the layer [red]conv[/] and [/nothing]",)), 200)
    assert "! the layer [red]conv[/] and [/nothing]" in text


def test_no_colours_where_there_is_no_terminal(report: Report) -> None:
    buffer = StringIO()
    show(report, buffer)
    assert "\x1b" not in buffer.getvalue()
    assert max(len(line.rstrip()) for line in buffer.getvalue().splitlines()) <= 100
    assert "onnxruntime" in buffer.getvalue()
