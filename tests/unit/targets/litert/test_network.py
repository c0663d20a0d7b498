"""What a whole network becomes: its operators, its conversions, its ports."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.errors import UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.model import Model
from tersenet.numerics.recurrent import CELLS
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.testing.networks import samples, small_convolutional

pytest.importorskip("ai_edge_litert")
from tersenet.formats.tflite import Graph, read
from tersenet.targets.litert.capabilities import LITERT
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.network import lower
from tersenet.targets.litert.operators.table import LOWERINGS
from tersenet.targets.litert.run import LiteRTRunner


@pytest.fixture(scope="module")
def model() -> Model:
    return small_convolutional()


@pytest.fixture(scope="module")
def quantized(model) -> Model:
    return Quantize().apply(model, Context((LITERT,), Data.from_arrays(calibration=samples(32, 1)))).model


def codes(graph: Graph) -> Counter[str]:
    return Counter(operator.code for operator in graph.operators)


def test_a_plain_network_has_no_operator_that_it_does_not_need(model):
    found = codes(lower(model, LITERT, ExportOptions()).graph)
    assert found == {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 1, "ADD": 1, "MAX_POOL_2D": 1, "MEAN": 1, "FULLY_CONNECTED": 1}


def test_an_integer_network_converts_once_at_either_end(model, quantized):
    floats, integers = (codes(lower(each, LITERT, ExportOptions()).graph) for each in (model, quantized))
    assert integers == floats + Counter({"QUANTIZE": 1, "DEQUANTIZE": 1})


def test_with_integer_input_and_output_nothing_is_converted(model, quantized):
    lowered = lower(quantized, LITERT, ExportOptions(integer_io=True))
    assert codes(lowered.graph) == codes(lower(model, LITERT, ExportOptions()).graph)
    assert [port.dtype for port in (*lowered.inputs, *lowered.outputs)] == ["int8", "int8"]
    assert all(tensor.dtype != "float32" for tensor in lowered.graph.tensors)


def test_images_are_channels_last_unless_asked_otherwise(model):
    lowered = lower(model, LITERT, ExportOptions())
    assert (lowered.inputs[0].shape, lowered.inputs[0].axes) == ((1, 8, 8, 3), (0, 2, 3, 1))
    kept = lower(model, LITERT, ExportOptions(layout="NCHW"))
    assert (kept.inputs[0].shape, kept.inputs[0].axes) == ((1, 3, 8, 8), (0, 1, 2, 3))
    assert codes(kept.graph) == codes(lowered.graph) + Counter({"TRANSPOSE": 1})


def test_integers_are_transposed_rather_than_floats(quantized):
    graph = lower(quantized, LITERT, ExportOptions(layout="NCHW")).graph
    (turned,) = [operator for operator in graph.operators if operator.code == "TRANSPOSE"]
    assert graph.tensors[turned.inputs[0]].dtype == "int8"


def test_a_batch_is_fixed_as_asked(model, tmp_path):
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions(batch=3))
    assert export.inputs[0].shape[0] == 3
    x = samples(7, 2)
    result = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)(x)
    np.testing.assert_allclose(result, model(x), atol=1e-5)


def test_biases_carry_their_scales(quantized):
    graph = lower(quantized, LITERT, ExportOptions()).graph
    for operator in graph.operators:
        if operator.code in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            source, weight, bias = (graph.tensors[index] for index in operator.inputs)
            assert source.numbers and weight.numbers and bias.numbers and bias.dtype == "int32"
            products = np.float32(source.numbers.scale[0]) * np.asarray(weight.numbers.scale, np.float32)
            np.testing.assert_array_equal(np.asarray(bias.numbers.scale, np.float32), products)
            assert len(weight.numbers.scale) == weight.shape[weight.numbers.axis] == len(weight.numbers.zero_point)


def test_the_same_network_gives_the_same_bytes(quantized, tmp_path):
    paths = [LiteRTExporter().export(quantized, tmp_path / f"{index}.tflite", ExportOptions()).path for index in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_constants_have_no_names_and_values_have_short_ones(quantized, tmp_path):
    export = LiteRTExporter().export(quantized, tmp_path / "model.tflite", ExportOptions())
    tensors = read(export.path.read_bytes()).tensors
    assert all((tensor.name == "") == (tensor.data is not None) for tensor in tensors)
    names = {tensor.name for tensor in tensors if tensor.name}
    assert set(export.names.values()) <= names
    assert {export.inputs[0].name, export.outputs[0].name} <= names
    assert all(len(name) <= 3 for name in names - {export.inputs[0].name, export.outputs[0].name})


def test_an_operator_that_is_in_no_table_is_named_with_what_to_do():
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.inv(self.layer(x) @ x)

    model = load(Odd().eval(), (torch.randn(2, 4, 4),))
    with pytest.raises(UnsupportedError, match=r"linalg_inv.*table"):
        lower(model, LITERT, ExportOptions())


def test_arguments_that_the_runtime_cannot_honour_are_named():
    model = load(nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2)).eval(), (torch.randn(2, 4, 5, 5),))
    with pytest.raises(UnsupportedError, match="one group"):
        lower(model, LITERT, ExportOptions())


def test_every_integer_kernel_has_a_lowering():
    written_out = {kind for kind, kernel in LITERT.kernels.items() if kernel.dynamic == "never"}
    assert set(LITERT.kernels) - written_out <= set(LOWERINGS)
    assert written_out <= set(CELLS)


def test_several_inputs_and_outputs_of_several_types(tmp_path):
    class Several(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(11, 6)

        def forward(self, tokens: torch.Tensor, mask: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            rows = torch.where(mask[:, :, None], self.table(tokens), torch.zeros(()))
            return rows + x[:, None], rows.sum((1, 2)) > 0

    arguments = (torch.randint(0, 11, (2, 5)), torch.rand(2, 5) > 0.5, torch.randn(2, 6))
    model = load(Several().eval(), arguments)
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    arrays = [argument.numpy() for argument in arguments]
    results = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)(*arrays)
    for result, expected in zip(results, model(*arrays), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-6)
        assert result.dtype == expected.dtype


def test_an_output_that_is_an_input_and_outputs_that_are_one_value(tmp_path):
    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            y = torch.relu(x)
            return x, y, y

    model = load(Same(), (torch.randn(2, 3),))
    export = LiteRTExporter().export(model, tmp_path / "model.tflite", ExportOptions())
    x = np.array([[-1, 0, 2]], np.float32)
    results = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)(x)
    for result, expected in zip(results, (x, np.maximum(x, 0), np.maximum(x, 0)), strict=True):
        np.testing.assert_array_equal(result, expected)


def test_what_has_no_operator_of_its_own_is_written_out_and_said_so(tmp_path):
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(x)[0])

    torch.manual_seed(0)
    x = np.random.default_rng(0).standard_normal((8, 3, 4)).astype(np.float32)
    model = load(Recurrent().eval(), (torch.from_numpy(x),))
    quantized = Quantize().apply(model, Context((LITERT,), Data.from_arrays(calibration=x))).model
    export = LiteRTExporter().export(quantized, tmp_path / "model.tflite", ExportOptions())
    assert export.notes[0].startswith("gru of layer layer is written out as ")
    # Names of results stay, so that the plan still holds.
    result = Artifact(export.path, "litert", LiteRTRunner().load(export.path), export.inputs, export.outputs)(x)
    plan = quantized.plan_for("litert")
    assert np.abs(result - simulate(quantized, plan)(x)).max() <= 1.01 * plan.values["linear"].scale[0]
