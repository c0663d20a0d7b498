import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from tersenet import record
from tersenet.budget import Budget, Miss
from tersenet.errors import InputError, OutputError, TersenetError
from tersenet.plain import from_plain, to_plain
from tersenet.record import (
    Agreement,
    ArtifactRecord,
    DataRecord,
    FloatTwin,
    Latency,
    Layer,
    ModelRecord,
    Quality,
    Report,
    TrailEntry,
    WeightRange,
)
from tersenet.step import Change


@pytest.fixture
def report() -> Report:
    latency = Latency(0.61, 0.6, 0.7, 1, 100, "a cpu", (0.6, 0.62))
    layer = Layer("conv", 38.0, (-1.0, 6.0), 0.93, (1, 2, 3), op="conv2d", weights=WeightRange((4, 5), (-1.0, 1.0), (-1.0, 1.0)))
    artifact = ArtifactRecord(
        target="litert",
        path="artifacts/litert/model.tflite",
        bytes=51_234,
        sha256="00",
        twin=FloatTwin(330_000, 0.874, Latency(1.9, 1.8, 2.2)),
        met=False,
        missed=(Miss("max_bytes", 50_000, 51_234, 1_234, "too large"),),
        seconds={"export": 0.2, "measure": 3.1},
        operators={"CONV_2D": 9},
        delegated=0.98,
        quality=Quality("accuracy", 0.872, 0.2, (-0.1, 0.5), 2000),
        latency_ms=latency,
        speedup=3.1,
        speedup_ci95=(3.0, 3.2),
        peak_memory_bytes=120_000,
        memory_is="arena",
        layers=(layer,),
        agreement=Agreement(0.999, 12, 0.02, 38.1, 2000),
    )
    return Report(
        tersenet="0.1.0",
        seconds=41.2,
        peak_rss_bytes=812_000_000,
        seed=0,
        environment={"python": "3.11"},
        model=ModelRecord("net", "torch", 78_666, 12_501_632, 314_664),
        data=DataRecord("digits", "image-classification", 0, 256, 1000, 2000, "ff"),
        records=(artifact,),
        budget=Budget(max_drop=0.5, max_bytes=50_000),
        met=False,
        recipe=({"step": "quantize"},),
        trail=(TrailEntry("quantize", 1.2, skipped=(Change("softmax", "no kernel"),)),),
        warnings=("one",),
        next=("two",),
    )


CONTRACT = {
    "": "tersenet seconds peak_rss_bytes seed environment model data budget met recipe trail tried artifacts warnings next",
    "model": "name format parameters macs float_bytes",
    "data": "name task n_train n_calibration n_selection n_evaluation fingerprint",
    "budget": "max_drop_points max_bytes max_latency_ms max_memory_bytes",
}
ARTIFACT = {
    "": "target path bytes sha256 met missed seconds operators delegated float quality latency_ms speedup speedup_ci95 peak_memory_bytes memory_is "
    "float_ops layers agreement",
    "float": "bytes quality latency_ms",
    "quality": "metric value drop_points drop_points_ci95 n",
    "latency_ms": "median p10 p90 threads runs cpu",
    "agreement": "top1 ties max_abs sqnr_db",
}


def test_the_keys_of_the_contract(report: Report) -> None:
    record = json.loads(json.dumps(report.to_json()))
    for part, keys in CONTRACT.items():
        assert set(keys.split()) <= set(record[part] if part else record), part
    for part, keys in ARTIFACT.items():
        artifact = record["artifacts"][0]
        assert set(keys.split()) <= set(artifact[part] if part else artifact), part
    assert set(record["artifacts"][0]["layers"][0]) >= {"name", "sqnr_db", "range", "used", "histogram"}
    assert record["trail"][0]["skipped"] == [{"what": "softmax", "why": "no kernel"}]
    assert "folder" not in record
    assert "open_artifact" not in record


def test_json_both_ways(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_a_later_version_s_keys_are_left_out(report: Report) -> None:
    record = report.to_json()
    record["from_the_future"] = 1
    record["artifacts"][0]["also"] = {}
    assert Report.from_json(record) == report


def test_write_and_read(report: Report, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    report.write(tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["report.json"]
    again = Report.read(tmp_path / "run")
    assert again == report
    assert again.folder == tmp_path / "run"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seconds": "long"}, "report.seconds must be float, got str"),
        ({"seed": 1.5}, "report.seed must be int, got float"),
        ({"seed": True}, "report.seed must be int, got bool"),
        ({"met": 1}, "report.met must be bool"),
        ({"model": None}, "report.model must be a JSON object"),
        ({"artifacts": {}}, "report.artifacts must be a list"),
        ({"artifacts": [3]}, r"report.artifacts\[0\] must be a JSON object"),
        ({"environment": []}, "report.environment must be a JSON object"),
        ({"budget": {"max_bytes": "lots"}}, "lots"),
        ({"budget": 3}, "budget"),
    ],
)
def test_a_damaged_record_is_one_clear_error(report: Report, change: dict, says: str) -> None:
    with pytest.raises(OutputError, match=says):
        Report.from_json({**report.to_json(), **change})


def test_missing_keys_and_pairs_of_three(report: Report) -> None:
    record = report.to_json()
    del record["model"]
    with pytest.raises(OutputError, match="no 'model'"):
        Report.from_json(record)
    record = report.to_json()
    record["artifacts"][0]["speedup_ci95"] = [1, 2, 3]
    with pytest.raises(OutputError, match="speedup_ci95 must have 2 entries"):
        Report.from_json(record)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[1]"])
def test_a_file_that_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    with pytest.raises(OutputError):
        Report.read(tmp_path)
    with pytest.raises(OutputError, match="folder of a run"):
        Report.read(tmp_path / "absent")


def test_artifacts_are_loaded_when_first_asked_for(report: Report) -> None:
    opened = []

    def open_artifact(record: ArtifactRecord) -> object:
        opened.append(record.target)
        return lambda x: x + 1

    whole = dataclasses.replace(report, open_artifact=open_artifact)
    assert list(whole.artifacts) == ["litert"]
    assert len(whole.artifacts) == 1
    assert opened == []
    assert whole.artifacts["litert"](1) == 2
    assert whole.artifacts["litert"](2) == 3
    assert opened == ["litert"]
    for name in ("nowhere", ["litert"]):
        assert name not in whole.artifacts and whole.artifacts.get(name) is None  # type: ignore[comparison-overlap, call-overload]
        with pytest.raises(TersenetError) as caught:
            whole.artifacts[name]  # type: ignore[index]
        assert str(caught.value) == f"unknown artifact {name!r}; known: litert."
    with pytest.raises(OutputError, match="record alone"):
        report.artifacts["litert"]


def test_plain_values_are_json_whatever_numpy_gave() -> None:
    plain = to_plain({"a": np.float32(1.5), "b": np.arange(2), "c": math.inf, "d": (np.int64(3), math.nan), "e": np.bool_(True)})
    assert json.dumps(plain) == '{"a": 1.5, "b": [0, 1], "c": null, "d": [3, null], "e": true}'


def test_a_union_takes_what_any_of_its_parts_takes() -> None:
    assert from_plain(FloatTwin, {"bytes": 1}) == FloatTwin(1)
    with pytest.raises(InputError, match=r"record.bytes must be int"):
        from_plain(FloatTwin, {"bytes": None})


def test_attributes_are_named_like_the_keys_but_for_two() -> None:
    """As docs/measuring.md says."""
    classes = [each for each in vars(record).values() if dataclasses.is_dataclass(each) and each.__module__ == record.__name__]
    others = {entry.name: entry.metadata["key"] for each in classes for entry in dataclasses.fields(each) if entry.metadata.get("key")}
    assert others == {"records": "artifacts", "twin": "float"}
