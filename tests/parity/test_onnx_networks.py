"""Networks from ONNX files compute what onnxruntime computes from the same file, with an open batch, readable names, and in training mode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tersenet
from onnx_networks import NETWORKS, exported, reference, seeded
from tersenet.testing.frontend import check_frontend


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_torch_exports_with_an_open_batch(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, example = NETWORKS[name]
    path = exported(tmp_path, seeded(make), example, dynamo=dynamo, open_batch=True)
    if (name, dynamo) == ("recurrent", True):  # this exporter writes the example's batch into states, and calls it open
        example = example[:2]
    model = check_frontend(tersenet.load, path, reference(path), [example])
    assert model.format == "onnx" and not model.fixed_batch and [spec.name for spec in model.inputs] == ["x"]


@pytest.mark.parametrize("dynamo", [False, True], ids=["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_batch_of_one_that_is_written_into_the_file_is_opened(name: str, dynamo: bool, tmp_path: Path) -> None:
    make, example = NETWORKS[name]
    path = exported(tmp_path, seeded(make), example, dynamo=dynamo, open_batch=False)
    model, run = tersenet.load(path), reference(path)
    assert not model.fixed_batch, model.fixed_batch
    wanted = np.concatenate([run(example[place : place + 1]) for place in range(len(example))])
    np.testing.assert_allclose(model(example), wanted, rtol=0, atol=1e-5 * max(1, np.abs(wanted).max()))
