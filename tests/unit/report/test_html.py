import dataclasses
import html
import html.parser
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from tersenet.errors import OutputError
from tersenet.record import ArtifactRecord, FloatOperator, FloatTwin, Layer, Quality, Report
from tersenet.report.advice import advised
from tersenet.report.html import frame, headline, layer_groups, left_in_float, page, write
from tersenet.report.text import to_text

VOID = {"meta", "link", "br", "input", "img", "hr"}


class Tree(html.parser.HTMLParser):
    """Checks that every element is closed in its order, and keeps the text and the attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.tags: set[str] = set()
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_page_says_what_the_record_says(report: Report) -> None:
    text = Tree(page(report)).text
    for record in report.records:
        assert record.target in text
        assert f"{record.bytes:,}" in text
        assert record.path in text
    for sentence in (*report.warnings, *report.next):
        assert sentence in text
    for layer in report.records[0].layers:
        assert layer.name in text
    assert "2.31× faster" in text
    assert "3.79× smaller" in text
    assert "1.40 points worse" in text
    assert "the delegate pads in space alone" in text
    assert "This machine's time says nothing of the device's" in text


def test_warnings_come_before_everything_that_is_measured(report: Report) -> None:
    text = Tree(page(report)).text
    assert text.index("4 warnings") < text.index("Before and after") < text.index("Layer by layer") < text.index("How it was made")


def test_it_opens_offline(report: Report) -> None:
    source = page(report)
    tree = Tree(source)
    assert not tree.tags & {"script", "img", "object", "embed", "base", "iframe", "video", "audio", "form"}
    assert [value for _, name, value in tree.attributes if name in ("href", "src", "srcset", "action", "data")] == ["data:,"]
    assert re.search(r"https?:|url\(|@import|@font-face", source) is None
    assert "default-src 'none'" in source


def test_the_same_record_gives_the_same_page(report: Report) -> None:
    assert page(report) == page(Report.from_json(json.loads(json.dumps(report.to_json()))))


EVIL = "\"><script>alert(1)</script><b onmouseover='x'>&amp;{{ 7*7 }}"


def _everywhere(value: Any) -> Any:
    """The same record with every string, and every key of a free table, replaced."""
    if isinstance(value, str):
        return EVIL
    if isinstance(value, list):
        return [_everywhere(item) for item in value]
    if isinstance(value, dict):
        return {(EVIL if key in ("python", "numpy", "CONV_2D") else key): _everywhere(item) for key, item in value.items()}
    return value


def test_nothing_in_a_record_becomes_markup(report: Report) -> None:
    source = page(Report.from_json(_everywhere(report.to_json())))
    tree = Tree(source)
    assert "script" not in tree.tags
    assert "b" not in {tag for tag, name, _ in tree.attributes if name == "onmouseover"}
    assert "<script" not in source
    assert "49" not in re.findall(r"&amp;(\w+)", source)
    assert "alert(1)" in tree.text


def _bare() -> ArtifactRecord:
    return ArtifactRecord("litert", "artifacts/litert/model.tflite", 10, "", FloatTwin(10))


def test_a_record_of_bare_necessities_is_drawn(report: Report) -> None:
    bare = dataclasses.replace(report, records=(_bare(),), warnings=(), next=(), trail=(), recipe=(), environment={})
    tree = Tree(page(bare))
    assert "not judged" in tree.text
    assert "Nothing: every operator" in tree.text
    assert "warning" not in tree.text
    assert "No file was written." in Tree(page(dataclasses.replace(bare, records=()))).text


@pytest.mark.parametrize(
    "layer",
    [
        Layer("flat", 200.0, (0.0, 0.0), 1.0, (5, 0), (0.0, 0.0)),
        Layer("none", None, (-1.0, 1.0), 0.0),
        Layer("", -200.0, (1.0, -1.0), 7.0, (0,), (2.0, 1.0)),
    ],
)
def test_odd_layers_are_drawn(report: Report, layer: Layer) -> None:
    Tree(page(dataclasses.replace(report, records=(dataclasses.replace(_bare(), layers=(layer,)),))))


def test_an_unbounded_metric_is_drawn_in_percent(report: Report) -> None:
    quality = Quality("mean squared error", 0.0123, 1.5, (1.0, 2.0), 100, "percent", "labels", "lower")
    record = dataclasses.replace(_bare(), quality=quality, twin=FloatTwin(20, 0.0121))
    text = Tree(page(dataclasses.replace(report, records=(record,)))).text
    assert "1.50 percent worse" in text
    assert "0.0121 → 0.0123" in text
    nothing = dataclasses.replace(record, quality=dataclasses.replace(quality, drop_points=None, drop_points_ci95=None))
    Tree(page(dataclasses.replace(report, records=(nothing,))))


def test_memory_of_another_kind_is_not_set_beside_it(report: Report) -> None:
    twin = dataclasses.replace(report.records[3].twin, peak_memory_bytes=15_100_000, memory_is="process growth")
    record = dataclasses.replace(report.records[3], twin=twin)
    assert "float 15.1 MB" not in Tree(page(dataclasses.replace(report, records=(record,)))).text
    alike = dataclasses.replace(record, memory_is="process growth")
    assert "process growth; float 15.1 MB" in Tree(page(dataclasses.replace(report, records=(alike,)))).text


def test_targets_with_the_same_numbers_share_a_drawing(report: Report) -> None:
    groups = layer_groups(report)
    assert [group.targets for group in groups] == [("onnxruntime", "litert", "executorch", "litert-micro")]
    assert set(groups[0].agreement_db["conv1"]) == set(groups[0].targets)
    assert groups[0].weakest is not None
    assert groups[0].weakest.name == "layer3.4.conv1"
    other = dataclasses.replace(report.records[1], layers=report.records[1].layers[:5])
    groups = layer_groups(dataclasses.replace(report, records=(report.records[0], other)))
    assert [group.targets for group in groups] == [("onnxruntime",), ("litert",)]
    text = Tree(page(dataclasses.replace(report, records=(report.records[0], other)))).text
    assert "Layer by layer: onnxruntime" in text
    assert "Layer by layer: litert" in text


def test_operators_left_for_one_reason_are_one_entry(report: Report) -> None:
    operators = (*(FloatOperator("gelu", f"gelu_{index}", "no kernel") for index in range(4)), FloatOperator("softmax", "", "other"))
    left = left_in_float(dataclasses.replace(report, records=(dataclasses.replace(_bare(), float_ops=operators),)))
    assert [(entry.op, len(entry.names), entry.why) for entry in left] == [("gelu", 4, "no kernel"), ("softmax", 1, "other")]


def test_the_headline(report: Report) -> None:
    assert headline(report) == (
        "4 files: the smallest is 493 kB (onnxruntime, 3.79× smaller than float); the fastest takes 0.57 ms (onnxruntime, 2.31× faster); "
        "at worst accuracy is 1.40 points worse (executorch)."
    )
    onnx, litert, torch, _ = report.records
    one = headline(dataclasses.replace(report, records=(onnx,)))
    assert one == "One file for onnxruntime: 493 kB, 3.79× smaller than float, 2.31× faster, accuracy is 0.05 points worse, within chance."
    assert "the fastest takes 0.61 ms (litert, 2.80× faster)" in headline(dataclasses.replace(report, records=(torch, litert)))
    assert "none loses accuracy" in headline(dataclasses.replace(report, records=(litert, litert)))


def test_it_is_written_into_the_folder(report: Report, tmp_path: Path) -> None:
    assert write(report, tmp_path).read_text(encoding="utf-8") == page(report)
    with pytest.raises(OutputError):
        write(report, tmp_path / "absent")


def test_in_a_notebook_it_is_framed(report: Report) -> None:
    source = report._repr_html_()
    assert source == frame(report)
    tree = Tree(source)
    inside = next(value for tag, name, value in tree.attributes if (tag, name) == ("iframe", "srcdoc"))
    assert inside == page(report)


WHOLE = (0, -1, 1, 7, 2**63 - 1, -(2**63) + 1)
REAL = (0.0, -1.0, 1e-9, 0.5, 1e12, 1.7e308, -1.7e308, 5e-324)


@pytest.mark.parametrize("seed", range(40))
def test_a_record_with_senseless_numbers_is_drawn(report: Report, seed: int) -> None:
    generator = random.Random(seed)

    def changed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: item if key == "budget" else changed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [changed(item) for item in value[:3]]
        if isinstance(value, bool | str) or value is None or generator.random() < 0.7:
            return value
        return generator.choice(WHOLE if isinstance(value, int) else REAL)

    record = report.to_json()
    again = Report.from_json(changed({**record, "artifacts": [{**entry, "layers": entry["layers"][:2]} for entry in record["artifacts"][:2]]}))
    source = page(again)
    Tree(source)
    assert re.search(r'="(nan|inf|-inf)', source) is None
    to_text(again)
    advised(again)
