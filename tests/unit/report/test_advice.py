import dataclasses
from typing import Any

import pytest

from tersenet.budget import Budget, judge
from tersenet.record import Agreement, ArtifactRecord, FloatOperator, FloatTwin, Latency, Quality, Report
from tersenet.report import advice


@pytest.fixture
def fine(report: Report) -> Report:
    """A run of one target without a fault."""
    record = ArtifactRecord(
        target="litert",
        path="artifacts/litert/model.tflite",
        bytes=50_000,
        sha256="",
        twin=FloatTwin(200_000, 0.9, Latency(2.0, 1.9, 2.1)),
        quality=Quality("accuracy", 0.899, 0.1, (-0.2, 0.4), 4000),
        latency_ms=Latency(1.0, 0.9, 1.1),
        speedup=2.0,
        speedup_ci95=(1.9, 2.1),
        agreement=Agreement(0.999, 3, 0.1, 40.0, 4000),
        layers=report.records[0].layers,
    )
    return dataclasses.replace(report, records=(record,), budget=Budget(), warnings=(), next=())


def changed(report: Report, **changes: Any) -> Report:
    return dataclasses.replace(report, records=(dataclasses.replace(report.records[0], **changes),))


def test_nothing_is_said_of_what_is_as_it_should_be(fine: Report) -> None:
    assert advice.warnings(fine) == ()
    assert [text[:4] for text in advice.next_steps(fine)] == ["Ship"]
    assert advice.next_steps(fine)[0].startswith("Ship artifacts/litert/model.tflite (50.0 kB); manifest.json says")


def test_a_file_that_keeps_its_state_is_to_be_reset(fine: Report) -> None:
    zeros = "3 weights that are mostly zero are stored whole, in 84,480 bytes; --sparse (the option sparse) needs 17,562"
    assert (
        advice.next_steps(changed(fine, notes=("needs an arena", zeros)))[0] == f"litert: {zeros}."
    )  # a note that names an option is for who runs it
    ship, reset = advice.next_steps(changed(fine, stateful=True))
    assert ship.startswith("Ship")
    assert reset.startswith("Recurrent layers in the file of litert go on") and "reset it before each sequence" in reset


def only(report: Report) -> str:
    texts = advice.warnings(report)
    assert len(texts) == 1, texts
    return texts[0]


def test_not_smaller_and_why(fine: Report) -> None:
    assert "names, scales and structure" in only(changed(fine, bytes=20_000, twin=FloatTwin(19_000)))
    assert "no weights became narrower" in only(changed(fine, bytes=200_000))
    operators = (*(FloatOperator("conv1d", f"c{index}", "x") for index in range(3)), FloatOperator("gelu", "g", "x"))
    assert "conv1d (3) and gelu stayed in float" in only(changed(fine, bytes=200_000, float_ops=operators))


def test_not_faster_and_why(fine: Report) -> None:
    slow = {"speedup": 0.5, "speedup_ci95": (0.45, 0.55)}
    text = only(changed(fine, **slow, declined=(FloatOperator("pad", "p", "x"),)))
    assert "slower than float (speed-up 0.50, 95 % interval 0.45 to 0.55)" in text
    assert "declined pad" in text
    assert "every border costs a conversion" in only(changed(fine, **slow, float_ops=(FloatOperator("gelu", "g", "x"),)))
    assert "calling the operators costs" in only(changed(fine, **slow, latency_ms=Latency(0.02, 0.01, 0.03)))
    assert "float kernels are as good" in only(changed(fine, **slow))
    old = dataclasses.replace(changed(fine, **slow), environment={"instruction_sets": ["sse4.1", "avx"]})
    assert "no instructions for sums of 8-bit products (it has sse4.1, avx)" in only(old)
    assert "not measurably faster" in only(changed(fine, speedup=1.01, speedup_ci95=(0.98, 1.04)))


def test_where_no_speed_is_gained_the_fastest_file_is_named(fine: Report) -> None:
    slow = changed(fine, target="onnxruntime", speedup=0.5, speedup_ci95=(0.45, 0.55), latency_ms=Latency(4.0, 3.9, 4.1))
    assert advice.next_steps(slow)[0].startswith(
        "On this processor the fastest file is onnxruntime's in float (2.00 ms a run). Time the files on the device"
    )
    both = dataclasses.replace(slow, records=(*slow.records, *fine.records))
    assert advice.next_steps(both)[0].startswith("On this processor the fastest file is litert's (1.00 ms a run).")


def test_not_agreeing_and_why(fine: Report) -> None:
    text = only(changed(fine, agreement=Agreement(0.981, 7, 0.5, 20.0, 1000)))
    assert "the same class on 98.1 % of 1,000 samples; 7 ties are left out, at least 99.5 % are expected" in text
    assert "NaN or infinity" in only(changed(fine, agreement=Agreement(None, 0, None, None, 10)))
    assert advice.warnings(changed(fine, agreement=Agreement(None, 0, 0.1, 30.0, 10))) == ()


LOSS = Quality("accuracy", 0.88, 2.0, (1.5, 2.5), 4000)


def test_a_loss_that_is_no_chance_names_the_weakest_layer(fine: Report) -> None:
    text = only(changed(fine, quality=Quality("accuracy", 0.88, 2.0, (1.5, 2.5), 4000)))
    assert "2.00 points worse" in text
    assert "layer3.4.conv1" in text
    assert advice.warnings(changed(fine, quality=Quality("accuracy", 0.88, 1.5, (-0.1, 1.9), 4000))) == ()
    ahead = advice.next_steps(changed(fine, quality=Quality("accuracy", 0.88, 2.0, (1.5, 2.5), 4000)))
    assert ahead[0].startswith('Keep the weakest layer in float: Quantize(keep_float=("layer3.4.conv1",))')


def test_a_file_that_loses_more_than_chance_is_not_to_be_shipped(fine: Report) -> None:
    bad = changed(fine, quality=LOSS, path="artifacts/onnxruntime/model.onnx", target="onnxruntime", bytes=20_000)
    assert not any("Ship" in text for text in advice.next_steps(bad))
    both = dataclasses.replace(fine, records=(*bad.records, *fine.records))
    assert advice.next_steps(both)[-1].startswith("Ship artifacts/litert/model.tflite (50.0 kB);")
    chance = changed(fine, quality=Quality("accuracy", 0.88, 2.0, (-0.1, 4.1), 4000))
    assert any("Ship" in text for text in advice.next_steps(chance))
    allowed = dataclasses.replace(bad, budget=Budget(max_drop=3))
    assert advice.next_steps(allowed)[-1].startswith("Ship artifacts/onnxruntime/model.onnx")
    budget = Budget(max_bytes=30_000)
    judged = [dataclasses.replace(record, met=judge(budget, record)[0], missed=judge(budget, record)[1]) for record in both.records]
    ahead = advice.next_steps(dataclasses.replace(both, records=tuple(judged), budget=budget))
    assert not any("Ship" in text or "Eight bits" in text for text in ahead)


def test_outliers_ask_for_another_estimator(fine: Report) -> None:
    layers = (dataclasses.replace(fine.records[0].layers[0], name="outlier", sqnr_db=5.0, used=0.2),)
    ahead = advice.next_steps(changed(fine, layers=layers, quality=Quality("accuracy", 0.88, 2.0, (1.5, 2.5), 4000)))
    assert ahead[1] == 'outlier: a few outliers take 80 % of its range. Try another estimator of ranges: Quantize(ranges="mse").'
    recipe = ({"step": "quantize", "ranges": "mse"},)
    ahead = advice.next_steps(dataclasses.replace(changed(fine, layers=layers, quality=LOSS), recipe=recipe))
    assert ahead[1].endswith('Quantize(ranges="percentile").')


def test_a_loss_with_ranges_that_hold_every_value_asks_for_those_of_least_error(fine: Report) -> None:
    recipe = ({"step": "quantize"},)
    ahead = advice.next_steps(dataclasses.replace(changed(fine, quality=LOSS), recipe=recipe))
    assert ahead[1].endswith('Quantize(ranges="mse").')
    assert not any("ranges" in text for text in advice.next_steps(dataclasses.replace(fine, recipe=recipe)))


def test_few_samples_and_no_labels_make_figures_weak(fine: Report) -> None:
    weak = dataclasses.replace(fine, data=dataclasses.replace(fine.data, n_calibration=32, n_evaluation=200))
    weak = changed(weak, quality=Quality("agreement", 0.99, 1.0, (-1.0, 3.0), 200, judge="float outputs"))
    texts = advice.warnings(weak)
    assert "no labels" in texts[0]
    assert "only to ±2.0 points" in texts[1]
    assert "32 calibration samples" in texts[2]
    ahead = advice.next_steps(weak)
    assert "Give about 3,200 evaluation samples to know the drop to ±0.5 point." in ahead


def test_a_missed_budget_comes_first_and_says_what_would_meet_it(fine: Report) -> None:
    budget = Budget(max_bytes=40_000)
    met, missed = judge(budget, fine.records[0])
    alone = dataclasses.replace(changed(fine, met=met, missed=missed, bytes=50_000), budget=budget)
    assert advice.warnings(alone)[0] == missed[0].text
    assert "Eight bits alone do not reach this budget" in advice.next_steps(alone)[0]
    assert "has 36.9 k weights" in advice.next_steps(alone)[0]
    other = dataclasses.replace(fine.records[0], target="onnxruntime", bytes=30_000)
    both = dataclasses.replace(alone, records=(*alone.records, other))
    assert advice.next_steps(both)[0] == "Within the budget: onnxruntime. Ship one of these, or loosen the limit that the others miss."


def test_what_was_not_timed_is_to_be_timed(fine: Report) -> None:
    assert "Time litert on the device itself" in advice.next_steps(changed(fine, latency_ms=None, speedup=None))[0]


def test_advised_keeps_what_was_said_before_and_says_nothing_twice(fine: Report) -> None:
    first = advice.advised(dataclasses.replace(fine, warnings=("before",)))
    assert first.warnings == ("before",)
    assert advice.advised(first) == first
