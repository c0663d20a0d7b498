"""A network that is saved comes back as it was, by us to the last name and by torch as a program; the same network gives the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import networks
import tersenet
from tersenet import Quantize
from tersenet.annotations import Annotations
from tersenet.errors import OutputError, TersenetError
from tersenet.frontends.pt2_own import ENTRY
from tersenet.graph.walk import calls, layer_of, shape_of
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Context
from tersenet.testing.networks import small_convolutional
from tersenet.testing.step import FAKE_TABLE, _data


@pytest.mark.parametrize("start", range(0, len(networks.CASES), 12))
def test_networks_of_every_operator_come_back(start: int, tmp_path: Path) -> None:
    cases = networks.CASES[start : start + 12]
    module, inputs = networks.together(cases, 2)
    model = tersenet.load(module, inputs)
    path = tersenet.save(model, tmp_path / "network.pt2")
    found = tersenet.load(path)
    assert found.fingerprint == model.fingerprint
    assert (found.inputs, found.outputs, found.name, found.fixed_batch) == (model.inputs, model.outputs, model.name, model.fixed_batch)
    assert [layer_of(node) for node in calls(found.graph)] == [layer_of(node) for node in calls(model.graph)]
    for one, other in zip(calls(found.graph), calls(model.graph), strict=True):
        if isinstance(one.meta["val"], torch.Tensor):
            assert [isinstance(size, int) for size in shape_of(one)] == [isinstance(size, int) for size in shape_of(other)], one.name
    arrays = [array.numpy() for array in inputs]
    program = torch.export.load(path).module()
    results = program(*inputs)
    wanted = model(*arrays)
    wanted = wanted if isinstance(wanted, tuple) else (wanted,)
    results = list(results.values()) if isinstance(results, dict) else [results]
    assert all(np.allclose(one.detach().numpy(), other, atol=1e-5, equal_nan=True) for one, other in zip(results, wanted, strict=True))


def test_annotations_and_plans_come_back(tmp_path: Path) -> None:
    model = small_convolutional()
    grid = Encoding(Scheme("int8"), (0.5,), (3,))
    mask = np.random.default_rng(0).random((5, 8)) < 0.5
    model = replace(model, annotations=Annotations({"relu": grid}, {"head.weight": grid}, {"head.weight": mask}), provenance={"from": "a test"})
    model = Quantize(take_over=False).apply(model, Context((FAKE_TABLE,), _data())).model
    found = tersenet.load(tersenet.save(model, tmp_path / "network.pt2"))
    assert found.fingerprint == model.fingerprint
    assert found.plans == model.plans
    assert np.array_equal(found.annotations.masks["head.weight"], mask)
    assert (found.annotations.values, found.annotations.weights, found.provenance) == ({"relu": grid}, {"head.weight": grid}, {"from": "a test"})
    assert tersenet.load(tmp_path / "network.pt2", name="other").name == "other"


def test_the_same_network_gives_the_same_bytes_in_every_process(tmp_path: Path) -> None:
    script = "import sys, tersenet; from tersenet.testing.networks import small_convolutional; tersenet.save(small_convolutional(), sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, tmp_path / "first.pt2"], check=True)
    tersenet.save(small_convolutional(), tmp_path / "second.pt2")
    assert (tmp_path / "first.pt2").read_bytes() == (tmp_path / "second.pt2").read_bytes()


def test_a_fixed_batch_stays_fixed(tmp_path: Path) -> None:
    class Fixed(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2 if x.shape[0] == 3 else x

    model = tersenet.load(Fixed(), (torch.zeros(3, 4),))
    found = tersenet.load(tersenet.save(model, tmp_path / "network.pt2"))
    assert found.fixed_batch == model.fixed_batch
    assert np.array_equal(found(np.ones((2, 4), np.float32)), model(np.ones((2, 4), np.float32)))


def test_another_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="a network is saved to a .pt2 file, got 'network.onnx'"):
        tersenet.save(small_convolutional(), tmp_path / "network.onnx")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"torch.ops.aten.relu.default"', '"torch.ops.aten.from_file.default"'),
        ('"torch.ops.aten.relu.default"', '"os.system"'),
        ('"get_attr","head_weight","head.weight"', '"get_attr","head_weight","head.missing"'),
        ('"version":1', '"version":9'),
        ('"call_function"', '"call_module"'),
        ('{"node":"relu"}', '{"node":"nobody"}'),
        ('"inputs":[{', '"inputs":[{"more":1,'),
    ],
)
def test_a_changed_record_is_refused_in_one_line(old: str, new: str, tmp_path: Path) -> None:
    path, changed = tersenet.save(small_convolutional(), tmp_path / "network.pt2"), tmp_path / "changed.pt2"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith(ENTRY):
                assert old in content.decode()
                content = content.decode().replace(old, new).encode()
                json.loads(content)
            target.writestr(zipfile.ZipInfo(entry.filename), content)
    with pytest.raises(TersenetError) as caught:
        tersenet.load(changed)
    assert "changed.pt2" in str(caught.value)
