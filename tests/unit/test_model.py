"""A model is called with arrays, and gives arrays of the shapes that its network has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import tersenet
from tersenet.model import Model, as_tensors
from tersenet.targets import table


class Scaled(nn.Module):
    """A batch and a scalar: what a file of another framework may take beside its samples."""

    def forward(self, x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
        return torch.relu(x * factor)


class Sum(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.sum()


@pytest.fixture(scope="module")
def scaled() -> Model:
    return tersenet.load(Scaled(), (torch.zeros(2, 3), torch.tensor(2.0)))


X = np.arange(12, dtype=np.float32).reshape(4, 3)


def test_a_scalar_stays_one_and_other_arrays_lie_in_order_of_their_axes() -> None:
    scalar, turned = as_tensors([np.float32(5) + np.zeros((), np.float32), X.T])
    assert scalar.shape == () and turned.shape == (3, 4) and turned.is_contiguous()


def test_a_network_may_take_a_scalar_and_return_one(scaled: Model) -> None:
    np.testing.assert_array_equal(scaled(X, np.float32(3)), X * 3)
    total = tersenet.load(Sum(), (torch.zeros(2, 3),))(X)
    assert isinstance(total, np.ndarray) and total.shape == () and total == X.sum()


@pytest.mark.parametrize("name", ["onnxruntime", "litert", "executorch"])
def test_a_file_takes_the_scalar_with_every_batch(scaled: Model, name: str, tmp_path) -> None:
    target = table.find(name)
    if table.missing((*target.requires, *target.writes)):
        pytest.skip(f"{name} is not installed")
    export = table.exporter(target).export(scaled, tmp_path / f"model{target.extension}", tersenet.ExportOptions(batch=3))
    artifact = tersenet.Artifact(export.path, name, table.runner(target).load(export.path), export.inputs, export.outputs)
    np.testing.assert_array_equal(artifact(X, np.float32(3)), X * 3)


class Weighed(nn.Linear):
    """Its weight is one of its outputs."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(x), self.weight


def test_a_weight_that_is_an_output_is_a_copy() -> None:
    network = Weighed(3, 2)
    model = tersenet.load(network, (torch.zeros(2, 3),))
    given = model(X)[1]
    np.testing.assert_array_equal(given, network.weight.detach().numpy())
    given[:] = 0
    np.testing.assert_array_equal(model(X)[1], network.weight.detach().numpy())
