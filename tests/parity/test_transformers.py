"""Networks of Transformers, read from folders: their outputs are Transformers' own, and each runtime that has the operators runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import tersenet
import transformers_networks as networks
from tersenet.targets import table
from tersenet.testing.frontend import check_frontend

pytest.importorskip("transformers")
FAST = {"BertForSequenceClassification-3", "ResNetForImageClassification-3"}
NAMES = [f"{case.architecture}-{case.options['num_labels']}" for case in networks.CASES]
EACH = [pytest.param(case, id=name, marks=() if name in FAST else pytest.mark.slow) for case, name in zip(networks.CASES, NAMES, strict=True)]
TARGETS = ("onnxruntime", "litert", "executorch")
Whole = tuple[networks.Case, torch.nn.Module, tersenet.Model, tuple[np.ndarray, ...]]


@pytest.fixture(scope="module", params=networks.CASES, ids=NAMES)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A network as Transformers has it and as it was read, once for all runtimes; and samples."""
    case, folder = request.param, tmp_path_factory.mktemp("checkpoint")
    network = networks.saved(case, folder)
    return case, network, tersenet.load(folder, **networks.options(case)), networks.samples(case, network)


def outputs(case: networks.Case, network: torch.nn.Module, arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    names = ("input_ids", "attention_mask") if case.kind == "text" else (network.main_input_name,)
    with torch.no_grad():
        return network(**{name: torch.from_numpy(array) for name, array in zip(names, arrays, strict=True)}).logits.numpy()


@pytest.mark.parametrize("case", EACH)
def test_the_frontend_keeps_its_contract(case: networks.Case, tmp_path: Path) -> None:
    network = networks.saved(case, tmp_path)
    model = check_frontend(
        lambda folder: tersenet.load(folder, **networks.options(case)),
        tmp_path,
        lambda *arrays: outputs(case, network, arrays),
        [networks.samples(case, network)],
        training=lambda *arrays: outputs(case, networks.learning(network), arrays),
        excused={"export": "the next test runs it in every runtime"},
    )
    assert model.format == "transformers" and not model.fixed_batch and model.outputs[0].name == "logits"
    assert set(model.graph.state_dict()) >= {name for name, _ in network.named_parameters() if "." in name and "pooler" in name}


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_runtimes_run_it(whole: Whole, target: str, tmp_path: Path) -> None:
    case, network, model, arrays = whole
    row = table.find(target)
    if any(importlib.util.find_spec(module.partition(".")[0]) is None for module in row.requires):
        pytest.skip(f"{target} is not installed")
    if target in case.refused:
        pytest.skip(case.refused[target])
    export = table.exporter(row).export(model, tmp_path / f"model{row.extension}", tersenet.ExportOptions())
    artifact = tersenet.Artifact(export.path, target, table.runner(row).load(export.path), export.inputs, export.outputs)
    for index in range(len(arrays[0])):
        one = tuple(array[index : index + 1] for array in arrays)
        assert np.abs(artifact(*one) - outputs(case, network, one)).max() < 1e-4


def test_sequences_may_be_left_open(tmp_path: Path) -> None:
    case = networks.CASES[0]
    network = networks.saved(case, tmp_path)
    model = tersenet.load(tmp_path, length=networks.TOKENS, dynamic={"input_ids": {1: "length"}})
    assert [spec.shape for spec in model.inputs[:2]] == [(None, None)] * 2
    ids, mask = (array[:, :7] for array in networks.samples(case, network))
    assert np.abs(model(ids, mask) - outputs(case, network, (ids, mask))).max() < 1e-5


def test_a_length_is_looked_at_before_anything_is_made(tmp_path: Path) -> None:
    networks.saved(networks.CASES[0], tmp_path)
    found = tersenet.inspect_model(tmp_path, ["onnxruntime"], length=9)
    assert [spec["shape"] for spec in found["inputs"][:2]] == [(None, 9)] * 2
