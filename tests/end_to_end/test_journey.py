"""Whole runs from outside: small networks through every installed runtime, and what the contract promises of them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import command_line
import tersenet
from hurry import hurry
from source import CHECKOUT
from tersenet import cli, journey
from tersenet.targets import table

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

INSTALLED = [row["target"] for row in table.describe() if row["installed"]]
TWINS = {target: table.find(target).float_twin for target in INSTALLED}
Finished = tuple[Path, int, str]
ALL = [word for target in INSTALLED for word in ("--to", target)]


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither timing nor memory is what these tests look at: `run` measures both, of every runtime's files."""
    hurry(monkeypatch)
    monkeypatch.setattr("tersenet.measure.memory.growth", lambda *_: 0)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    command_line.write_sources(folder)
    return folder


@pytest.fixture(scope="module")
def run(sources: Path) -> Finished:
    """One run for every runtime: its folder, exit code and what it printed."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        hurry(patch)
        folder, model = sources / "all", f"{sources / 'networks.py'}:small"
        code = cli.main(["compress", model, "--data", str(sources / "small.npz"), *ALL, "--max-bytes", "1MB", "--out", str(folder), "--json"])
    return folder, code, printed.getvalue()


def started(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run([sys.executable, str(CHECKOUT / "tests" / "hurry.py"), *arguments], cwd=folder, capture_output=True, text=True, check=False)


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return record


def network(sources: Path, name: str) -> tersenet.Model:
    model: tersenet.Model = tersenet.load(f"{sources / 'networks.py'}:{name}")
    return model


# --- the folder and the record of one run


def test_it_prints_the_record_alone(run: Finished) -> None:
    folder, code, out = run
    assert code == 0
    assert json.loads(out) == record_of(folder)


def test_the_folder_is_as_the_contract_has_it(run: Finished) -> None:
    folder = run[0]
    assert {path.name for path in folder.iterdir()} == {
        *("report.html", "report.json", "recipe.json", "manifest.json", "log.txt", "artifacts", "steps", "signature.json")
    }
    assert {path.name for path in (folder / "artifacts").iterdir()} == set(INSTALLED)
    for target in INSTALLED:
        extension = table.find(target).extension
        wanted = {f"model{extension}", f"model-float{extension}", "names.json"}
        found = {path.name for path in (folder / "artifacts" / target).iterdir()}
        assert wanted <= found
        assert found - wanted <= ({"model.c", "model.h"} if target == "litert-micro" else set())
    assert "https://" not in (folder / "report.html").read_text().replace("https://www.w3.org", "")


def test_the_record_has_every_key(run: Finished) -> None:
    folder = run[0]
    record = record_of(folder)
    assert record["tersenet"] == tersenet.__version__
    assert record["seconds"] > 0
    assert record["peak_rss_bytes"] > 1e6
    assert record["seed"] == 0
    assert record["environment"]
    assert record["model"] == {"name": "small", "format": "torch", "parameters": 107, "macs": 36 * 72 + 24, "float_bytes": 428}
    counts = {key: record["data"][key] for key in ("n_train", "n_calibration", "n_selection", "n_evaluation")}
    assert sum(counts.values()) == 160
    assert min(counts.values()) > 0
    assert record["data"]["task"] in ("classification", "image-classification")
    assert len(record["data"]["fingerprint"]) == 64
    assert record["budget"] == {"max_drop_points": None, "max_bytes": 1_000_000, "max_latency_ms": None, "max_memory_bytes": None}
    assert record["met"] is True
    assert record["recipe"] == json.loads((folder / "recipe.json").read_text()) == [{"step": "quantize"}]
    assert [set(entry) for entry in record["trail"]] == [{"step", "seconds", "changed", "skipped"}]
    assert record["tried"] == []
    assert [artifact["target"] for artifact in record["artifacts"]] == INSTALLED


@pytest.mark.parametrize("target", INSTALLED)
def test_an_artifact_is_what_its_record_says(run: Finished, target: str) -> None:
    folder = run[0]
    found = next(artifact for artifact in record_of(folder)["artifacts"] if artifact["target"] == target)
    file = folder / found["path"]
    assert found["path"] == f"artifacts/{target}/model{table.find(target).extension}"
    assert found["bytes"] == file.stat().st_size
    assert found["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert found["met"] is True
    assert found["missed"] == []
    assert set(found["seconds"]) == {"export", "measure"}
    assert sum(found["operators"].values()) >= 3
    assert 0 <= found["delegated"] <= 1
    assert found["float"]["bytes"] == file.with_name("model-float" + file.suffix).stat().st_size
    quality = found["quality"]
    assert quality["metric"] == "accuracy"
    assert quality["n"] == record_of(folder)["data"]["n_evaluation"]
    assert quality["drop_points"] == pytest.approx(100 * (found["float"]["quality"] - quality["value"]))
    low, high = quality["drop_points_ci95"]
    assert low <= quality["drop_points"] <= high
    if table.find(target).times:
        for latency in (found["latency_ms"], found["float"]["latency_ms"]):
            assert 0 < latency["p10"] <= latency["median"] <= latency["p90"]
            assert latency["threads"] == 1
        assert found["speedup_ci95"][0] <= found["speedup"] <= found["speedup_ci95"][1]
    else:
        assert found["latency_ms"] is found["speedup"] is None
    assert found["peak_memory_bytes"] >= 0  # so small a file may fit into what the process has anyway
    assert found["memory_is"] == ("arena" if target == "litert-micro" else found["memory_is"])
    assert found["agreement"]["top1"] >= 0.995
    assert found["layers"]
    assert {"name", "sqnr_db", "range", "used", "histogram"} <= set(found["layers"][0])


@pytest.mark.parametrize("target", INSTALLED)
def test_an_artifact_computes_what_the_network_does(run: Finished, sources: Path, target: str) -> None:
    import torch

    artifact = journey.opened_report(run[0]).artifacts[target]
    samples = command_line.images(7, seed=5)["x"]
    wanted = network(sources, "small")(samples)
    got = artifact(samples)
    assert got.shape == wanted.shape == (7, 3)
    assert got.dtype == np.float32
    noise = ((got - wanted) ** 2).mean() / (wanted**2).mean()
    assert -10 * np.log10(noise) > 20
    for form in (samples.tolist(), torch.from_numpy(samples), {"x": samples}, (samples,)):
        assert np.array_equal(artifact(form), got)
    assert np.array_equal(artifact(samples[:1]), got[:1])


@pytest.mark.parametrize("target", INSTALLED)
def test_an_artifact_refuses_what_does_not_fit(run: Finished, target: str) -> None:
    artifact = journey.opened_report(run[0]).artifacts[target]
    samples = command_line.images(2)["x"]
    for bad in [(samples[:, :, :5],), (samples, samples), ({"y": samples},), (), ("text",), (samples[:0],), (samples[0],), (None,)]:
        with pytest.raises(tersenet.TersenetError):
            artifact(*bad)


def test_the_manifest_says_what_files_take(run: Finished) -> None:
    manifest = json.loads((run[0] / "manifest.json").read_text())
    assert set(manifest["files"]) == set(INSTALLED)
    for target, entry in manifest["files"].items():
        assert (run[0] / entry["path"]).is_file()
        assert (run[0] / entry["float_path"]).is_file()
        (taken,) = entry["inputs"]
        assert taken["layout"] == ("NHWC" if target.startswith("litert") else "NCHW")
        assert taken["axes"] == ([0, 2, 3, 1] if target.startswith("litert") else [0, 1, 2, 3])
        assert taken["dtype"] == ("int8" if target == "litert-micro" else "float32")
        assert (taken["scale"] is None) == (target != "litert-micro")
        done = subprocess.run([sys.executable, "-c", entry["example"]], cwd=run[0], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_what_is_there_answers_and_another_run_is_refused(run: Finished, sources: Path, capsys: Any) -> None:
    folder = run[0]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    common = [f"{sources / 'networks.py'}:small", "--data", sources / "small.npz", *ALL, "--out", folder]
    again = command_line.call(capsys, "compress", *common, "--max-bytes", "1000kB", "--json")
    assert again.code == 0, again.err
    assert json.loads(again.out) == record_of(folder)
    other = command_line.call(capsys, "compress", *common, "--seed", "1")
    assert other.code == 2
    assert "another run" in command_line.message(other.err)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


def test_the_same_command_gives_the_same_bytes(run: Finished, sources: Path, tmp_path: Path) -> None:
    """Once more, in a process of its own."""
    targets = [target for target in INSTALLED if target != "executorch"]
    words = [word for target in targets for word in ("--to", target)]
    done = started(sources, "compress", "networks.py:small", "--data", "small.npz", *words, "--max-bytes", "1MB", "--out", str(tmp_path / "again"))
    assert done.returncode == 0, done.stderr
    for target in targets:
        first, second = (
            {path.name: path.read_bytes() for path in (folder / "artifacts" / target).iterdir()} for folder in (run[0], tmp_path / "again")
        )
        assert first == second


def test_report_redraws_the_page(run: Finished, capsys: Any, tmp_path: Path) -> None:
    shutil.copytree(run[0], tmp_path / "copy")
    page = tmp_path / "copy" / "report.html"
    page.unlink()
    done = command_line.call(capsys, "report", tmp_path / "copy")
    assert done.code == 0
    assert done.out.strip() == str(page)
    assert page.read_text() == (run[0] / "report.html").read_text()


# --- measure and inspect


@pytest.mark.parametrize("target", INSTALLED)
def test_measure_an_artifact(run: Finished, sources: Path, capsys: Any, tmp_path: Path, target: str) -> None:
    """Beside its manifest, alone in another folder, and against its float twin."""
    found = next(artifact for artifact in record_of(run[0])["artifacts"] if artifact["target"] == target)
    file, data = run[0] / found["path"], sources / "small.npz"
    plain = file.with_name("model-float" + file.suffix)
    done = command_line.call(capsys, "measure", file, "--data", data, "--against", plain, "--json")
    assert done.code == 0, done.err
    facts = json.loads(done.out)
    assert facts["target"] == target
    assert facts["against"]["target"] == TWINS[target]
    assert facts["quality"]["value"] == found["quality"]["value"]
    assert facts["quality"]["drop_points"] == pytest.approx(found["quality"]["drop_points"])
    assert facts["bytes"] == found["bytes"]
    assert ("speedup" in facts) == table.find(target).times
    if target == "executorch":
        return  # its runtime takes seconds to load, and four processes would load it again
    moved = shutil.copy(file, tmp_path / file.name)
    channels_last = tmp_path / "last.npz"
    with np.load(data) as arrays:
        np.savez(channels_last, x=arrays["x"].transpose(0, 2, 3, 1), y=arrays["y"])
    alone = command_line.call(capsys, "measure", moved, "--data", channels_last if target.startswith("litert") else data, "--json")
    assert alone.code == 0, alone.err
    assert json.loads(alone.out)["quality"]["value"] == pytest.approx(found["quality"]["value"])


def test_measure_needs_no_torch(run: Finished, sources: Path) -> None:
    block = "import sys; sys.modules['torch'] = None\nfrom tersenet.cli import main\nsys.exit(main(sys.argv[1:]))"
    for target in [target for target in INSTALLED if target != "executorch"]:
        file = run[0] / "artifacts" / target / f"model{table.find(target).extension}"
        command = [sys.executable, "-c", block, "measure", str(file), "--data", "small.npz", "--json"]
        done = subprocess.run(command, cwd=sources, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["target"] == target


@pytest.mark.parametrize("target", INSTALLED)
def test_measure_of_damaged_files_and_of_data_that_do_not_fit(run: Any, sources: Path, capsys: Any, tmp_path: Path, target: str) -> None:
    file = next((run[0] / "artifacts" / target).glob("model.[opt]*"))
    whole = file.read_bytes()
    for cut in (len(whole) // 3, len(whole) - 200):
        damaged = tmp_path / f"cut{file.suffix}"
        damaged.write_bytes(whole[:cut])
        done = command_line.call(capsys, "measure", damaged, "--data", sources / "small.npz")
        assert done.code == 2, done
        assert damaged.name in command_line.message(done.err)
    done = command_line.call(capsys, "measure", file, "--data", sources / "flat.npz")
    assert done.code == 2
    assert "shape" in command_line.message(done.err)


def test_inspect_network_and_data(sources: Path, capsys: Any) -> None:
    model = command_line.call(capsys, "inspect", f"{sources / 'networks.py'}:small", "--json")
    assert model.code == 0, model.err
    facts = json.loads(model.out)
    assert (facts["parameters"], facts["macs"]) == (107, 36 * 72 + 24)
    assert set(facts["targets"]) == set(INSTALLED)
    assert {"conv", "head"} <= {layer["layer"] for layer in facts["layers"]}
    data = command_line.call(capsys, "inspect", "--data", sources / "small.npz", "--json")
    assert data.code == 0, data.err
    assert "160" in data.out or sum(value for key, value in json.loads(data.out).items() if key.startswith("n_")) == 160
    for arguments in (
        ["inspect", f"{sources / 'networks.py'}:small"],
        ["inspect", "--data", sources / "small.npz"],
        ["targets"],
        ["targets", "--json"],
    ):
        shown = command_line.call(capsys, *arguments)
        assert shown.code == 0
        assert len(shown.out) > 100


# --- budgets and options of files


def test_a_missed_budget(sources: Path, capsys: Any, tmp_path: Path) -> None:
    model, data = f"{sources / 'networks.py'}:small", sources / "small.npz"
    done = command_line.call(capsys, "compress", model, "--data", data, "--max-bytes", "1kB", "--max-latency", "10s", "--out", tmp_path / "o")
    assert done.code == 1, done.err
    record = record_of(tmp_path / "o")
    assert record["met"] is False
    (artifact,) = record["artifacts"]
    (missed,) = artifact["missed"]
    assert missed["budget"] == "max_bytes"
    assert missed["over"] == artifact["bytes"] - 1000
    assert missed["text"].split(":")[0] in done.out
    again = command_line.call(capsys, "compress", model, "--data", data, "--max-bytes", "1kB", "--max-latency", "10s", "--out", tmp_path / "o")
    assert again.code == 1


@pytest.mark.parametrize(
    ("options", "layout", "dtype", "batch"),
    [
        (["--io", "int8"], {"litert": "NHWC"}, True, 1),
        (["--layout", "nchw", "--batch", "4"], {}, False, 4),
        (["--layout", "nhwc"], {"litert": "NHWC", "onnxruntime": "NHWC"}, False, 1),
    ],
)
def test_options_of_files(sources: Path, capsys: Any, tmp_path: Path, options: list[str], layout: dict[str, str], dtype: bool, batch: int) -> None:
    model, data = f"{sources / 'networks.py'}:small", sources / "small.npz"
    targets = [target for target in ("onnxruntime", "litert") if target in INSTALLED]
    done = command_line.call(capsys, "compress", model, "--data", data, *[w for t in targets for w in ("--to", t)], *options, "--out", tmp_path / "o")
    assert done.code == 0, done.err
    files = json.loads((tmp_path / "o" / "manifest.json").read_text())["files"]
    artifacts = journey.opened_report(tmp_path / "o").artifacts
    samples = command_line.images(6, seed=3)["x"]
    wanted = network(sources, "small")(samples)
    for target in targets:
        (taken,) = files[target]["inputs"]
        (given,) = files[target]["outputs"]
        assert taken["layout"] == layout.get(target, "NCHW")
        integer = "uint8" if target == "onnxruntime" else "int8"
        assert taken["dtype"] == given["dtype"] == (integer if dtype else "float32")
        assert (taken["scale"] is not None) == dtype
        assert taken["shape"][0] == (None if target == "onnxruntime" else batch)
        got = artifacts[target](samples)
        assert got.shape == wanted.shape
        assert ((got - wanted) ** 2).mean() < 0.01 * (wanted**2).mean()


def test_layers_are_looked_at_in_every_file(sources: Path, tmp_path: Path) -> None:
    """ExecuTorch hides inner values: there a second file returns them, and the record says so. The file that ships is the same."""
    report = tersenet.compress(
        network(sources, "small"), str(sources / "small.npz"), to=INSTALLED, out=tmp_path / "run", settings=tersenet.Settings(layers=True)
    )
    for record in report.records:
        compared = [layer.agreement_db for layer in record.layers if layer.agreement_db is not None]
        assert len(compared) >= len(record.layers) - 2 and min(compared) > 30
        notes = [note for note in record.notes if "debug export" in note]
        debug = tmp_path / "run" / "artifacts" / record.target / "model-debug.pte"
        assert bool(notes) == debug.is_file() == (record.target == "executorch")


def test_qoperator_and_cpu(sources: Path, capsys: Any, tmp_path: Path) -> None:
    model, data = f"{sources / 'networks.py'}:small", sources / "small.npz"
    done = command_line.call(capsys, "compress", model, "--data", data, "--qoperator", "--cpu", "x86-avx2", "--out", tmp_path / "o")
    assert done.code == 0, done.err
    import onnx

    kinds = {node.op_type for node in onnx.load(tmp_path / "o" / "artifacts" / "onnxruntime" / "model.onnx").graph.node}
    assert "QLinearConv" in kinds
    assert json.loads((tmp_path / "o" / "report.json").read_text())["environment"]["kernels_for"] == "x86-avx2"


def test_sparse(sources: Path, capsys: Any, tmp_path: Path) -> None:
    """Weights without their zeros, for the runtime that can unpack them; another of the same run stays as it is."""
    pytest.importorskip("ai_edge_litert")
    recipe = tmp_path / "sparse.json"
    recipe.write_text(json.dumps({"recipe": [{"step": "sparsify", "ratio": 0.95}, {"step": "quantize"}]}))
    command = ("compress", f"{sources / 'networks.py'}:small", "--data", sources / "small.npz", "--recipe", recipe, "--to", "litert")
    sizes = {}
    for name, more in (("whole", ()), ("sparse", ("--sparse", "--to", "onnxruntime"))):
        done = command_line.call(capsys, *command, *more, "--out", tmp_path / name)
        assert done.code == 0, done.err
        record = json.loads((tmp_path / name / "report.json").read_text())
        sizes[name] = next(entry["bytes"] for entry in record["artifacts"] if entry["target"] == "litert")
        assert ("stored" in json.dumps(record["artifacts"])) == (name == "sparse")
    assert sizes["sparse"] <= sizes["whole"]


# --- kinds of networks, data and tasks, from Python


def compressed(sources: Path, name: str, data: tersenet.Data, out: Path, targets: tuple[str, ...] = ("onnxruntime", "litert")) -> Any:
    """A network, and the report of its files."""
    model = network(sources, name)
    return model, tersenet.compress(model, data, to=[target for target in targets if target in INSTALLED], out=out)


def close(report: tersenet.Report, model: tersenet.Model, *inputs: np.ndarray, decibels: float = 20.0) -> None:
    """Every file answers as the network does."""
    wanted = model(*inputs)
    for artifact in report.artifacts.values():
        got = artifact(*inputs)
        assert isinstance(got, tuple) == isinstance(wanted, tuple)
        pairs = zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got, wanted)]
        for ours, floats in pairs:
            assert ours.shape == floats.shape
            assert 10 * np.log10((floats**2).mean() / ((ours - floats) ** 2).mean()) > decibels


def test_data_without_labels(sources: Path, tmp_path: Path) -> None:
    x = command_line.images(160)["x"]
    model, report = compressed(sources, "small", tersenet.Data.from_arrays(calibration=x[:60], evaluation=x[60:]), tmp_path / "o")
    for artifact in report.to_json()["artifacts"]:
        assert artifact["quality"]["metric"] == "agreement with float"
        assert artifact["quality"]["judge"] != "labels"
        assert artifact["float"]["quality"] == 1.0
        assert artifact["quality"]["value"] > 0.8
    close(report, model, x)


def test_regression(sources: Path, tmp_path: Path) -> None:
    x = command_line.vectors(160)["x"]
    y = network(sources, "regression")(x) + np.random.default_rng(1).normal(0, 0.1, (160, 1)).astype(np.float32)
    model, report = compressed(sources, "regression", tersenet.Data.from_arrays(train=(x, y), task="regression"), tmp_path / "o")
    for artifact in report.to_json()["artifacts"]:
        assert artifact["quality"]["metric"] == "mean squared error"
        assert 0 < artifact["float"]["quality"] < 0.05
        assert artifact["quality"]["drop_points"] == pytest.approx(100 * (artifact["quality"]["value"] / artifact["float"]["quality"] - 1), rel=1e-3)
    close(report, model, x)


def hits(outputs: Any, labels: np.ndarray) -> float:
    """A metric of the user's own, over both outputs."""
    first, second = outputs
    return float(((first.argmax(1) == labels) & (second.argmax(1) == labels % 2)).mean())


@pytest.mark.parametrize("task", [(hits, "both right", "higher"), None])
def test_two_outputs_and_a_metric_of_the_users_own(sources: Path, tmp_path: Path, task: Any) -> None:
    x, y = command_line.vectors(160).values()
    task = task or tersenet.Task.own(hits, "both right", "higher")
    model, report = compressed(sources, "two", tersenet.Data.from_arrays(train=(x, y), task=task), tmp_path / "o")
    assert {artifact["quality"]["metric"] for artifact in report.to_json()["artifacts"]} == {"both right"}
    close(report, model, x)


def test_a_metric_that_fails(sources: Path, tmp_path: Path) -> None:
    x, y = command_line.vectors(160).values()
    for function in (lambda outputs, labels: float("nan"), lambda outputs, labels: "good", lambda outputs: 0.5, lambda outputs, labels: 1 / 0):
        with pytest.raises(tersenet.TersenetError, match="mine"):
            compressed(sources, "two", tersenet.Data.from_arrays(train=(x, y), task=(function, "mine", "higher")), tmp_path / "o")
        assert not (tmp_path / "o").exists()


def test_tokens_beside_numbers(sources: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    inputs = {"numbers": random.standard_normal((160, 4)).astype(np.float32), "tokens": random.integers(0, 20, (160, 5))}
    data = tersenet.Data.from_arrays(train=(inputs, random.integers(0, 3, 160)))
    model, report = compressed(sources, "tokens", data, tmp_path / "o", ("onnxruntime", "litert", "executorch"))
    close(report, model, inputs["tokens"], inputs["numbers"])
    wanted = model(inputs)
    for artifact in report.artifacts.values():
        assert ((artifact(inputs) - wanted) ** 2).mean() < 0.01 * (wanted**2).mean()


def test_sequences(sources: Path, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    x = random.standard_normal((160, 7, 4)).astype(np.float32)
    model, report = compressed(sources, "sequence", tersenet.Data.from_arrays(train=(x, random.integers(0, 3, 160))), tmp_path / "o")
    close(report, model, x)


def test_a_fixed_batch(sources: Path, tmp_path: Path) -> None:
    x, y = command_line.vectors(161).values()
    model, report = compressed(sources, "fixed", tersenet.Data.from_arrays(train=(x, y)), tmp_path / "o")
    assert model.fixed_batch
    close(report, model, x[:2])
    assert {artifact(x).shape for artifact in report.artifacts.values()} == {(161, 3)}


# --- interruptions


def test_the_float_file_is_the_network_that_came(run: Finished, sources: Path, tmp_path: Path) -> None:
    """A network that steps made smaller is held against the one that the user has."""
    recipe = tersenet.Recipe([tersenet.Prune(ratio=0.5), tersenet.Quantize()])
    tersenet.compress(f"{sources / 'networks.py'}:small", str(sources / "small.npz"), recipe=recipe, out=tmp_path / "out")
    floats = [folder / "artifacts/onnxruntime/model-float.onnx" for folder in (run[0], tmp_path / "out")]
    assert floats[0].read_bytes() == floats[1].read_bytes()
    pruned, whole = (next(row for row in record_of(folder)["artifacts"] if row["target"] == "onnxruntime") for folder in (tmp_path / "out", run[0]))
    assert pruned["float"]["bytes"] == whole["float"]["bytes"]
    assert pruned["bytes"] < whole["bytes"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on(sources: Path, tmp_path: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "tersenet.cli", "compress", "networks.py:small", "--data", "small.npz", "--out", str(tmp_path / "o")]
    # A shell starts its background jobs with interrupts ignored, and children inherit that.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=sources, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    unfinished = tmp_path / "o" / ".unfinished"
    until = time.monotonic() + 120
    while not list(unfinished.glob("artifacts/*/model-float.onnx")) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    os.kill(process.pid, number)
    out, err = process.communicate(timeout=60)
    assert out == ""
    assert process.returncode == (130 if number == signal.SIGINT else -signal.SIGKILL), err
    if number == signal.SIGINT:
        assert "tersenet compress networks.py:small" in err
        assert "Traceback" not in err
    assert unfinished.is_dir()
    assert not (tmp_path / "o" / "report.json").exists()
    kept = {path: path.stat().st_mtime_ns for path in unfinished.glob("steps/*/result.json")}
    assert kept
    done = started(sources, *command[3:])
    assert done.returncode == 0, done.stderr
    assert not unfinished.exists()
    (step,) = (tmp_path / "o").glob("steps/*/result.json")
    assert [step.stat().st_mtime_ns] == list(kept.values())


def test_an_interrupt_within_a_destructor_is_not_lost(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Python prints and forgets what a destructor raises; torch has many."""

    class Leaving:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    def run(*arguments: object) -> None:
        Leaving()
        time.sleep(5)

    monkeypatch.setattr("tersenet.demo.demo", run)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert command_line.call(capsys, "demo").code == 130
    finally:
        signal.signal(signal.SIGINT, before)
