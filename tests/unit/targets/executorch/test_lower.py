"""The graph that XNNPACK's partitioner reads, before any of executorch is asked."""

import pytest
import torch
from torch import nn

import networks
from networks import Case, Function
from tersenet.data.parts import Data
from tersenet.errors import UnsupportedError
from tersenet.graph.operators import aten_name, kind_of
from tersenet.graph.trace import trace
from tersenet.graph.walk import calls
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.targets.executorch.capabilities import KERNELS, REASONS, capabilities
from tersenet.targets.executorch.lower import border_grids, lowered
from tersenet.targets.executorch.spell import SPELLINGS, is_dequantize, is_quantize

SPELLED = {case.name: case for case in networks.CASES}
# Every case that one of the spellings rewrites, with what must be gone from the graph then.
REWRITTEN = {
    "clamp": "clamp.default",
    "clamp low": "clamp.default",
    "Hardsigmoid": "hardsigmoid.default",
    "gelu tanh": "gelu.default",
    "pad channels": "slice.Tensor",
    "attention": "matmul.default",
    "split": "split_with_sizes.default",
    "select": "select.int",
    "avg pool padded": "",
    "max pool 1d": "max_pool1d.default",
    "transpose": "transpose.int",
    "transposed": "conv_transpose2d.input",
    "global pool": "adaptive_avg_pool2d.default",
    "reshape": "reshape.default",
    "ReLU6": "relu6.default",
    "max": "max.dim",
    "adaptive max": "adaptive_max_pool2d.default",
}


def residual() -> Model:
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            x = torch.relu(self.first(x))
            return (x + self.second(x)).relu().mean((2, 3))

    torch.manual_seed(0)
    return trace(Net().eval(), (torch.randn(2, 3, 8, 8),))


def quantized(model: Model) -> Model:
    arrays = tuple(torch.randn(16, *spec.shape[1:], generator=torch.Generator().manual_seed(5)).numpy() for spec in model.inputs)
    data = Data.from_arrays(calibration=arrays if len(arrays) > 1 else arrays[0]).bind(model.inputs, model.outputs)
    return Quantize().run(model, Context((capabilities(),), data)).model


@pytest.mark.parametrize("name", sorted(REWRITTEN))
def test_spellings_are_exact(name):
    case: Case = SPELLED[name]
    module, inputs = networks.made(case, batch=2)
    model = trace(module, inputs)
    graph = lowered(model, None, 2, False)
    assert REWRITTEN[name] not in {aten_name(node) for node in calls(graph)}
    with torch.no_grad():
        (result,) = graph(*inputs)
        expected = torch.from_numpy(model(*(tensor.numpy() for tensor in inputs)))
    assert result.shape == expected.shape
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-5)


def test_every_spelling_is_tested():
    assert len(SPELLINGS) == 12


def test_rows_and_columns_become_one_convolution():
    module = Function(lambda x: x[:, :, ::2, ::3])
    graph = lowered(trace(module, (torch.randn(2, 4, 9, 9),)), None, 1, False)
    (only,) = calls(graph)
    assert aten_name(only) == "convolution.default" and list(only.args[3]) == [2, 3]


def test_one_quantize_and_a_dequantize_for_each_reader():
    model = quantized(residual())
    graph = lowered(model, model.plan_for("executorch"), 1, False)
    shared = [node for node in calls(graph) if is_quantize(node) and len(node.users) > 1]
    assert shared, "the residual value has two readers"
    for node in calls(graph):
        if is_dequantize(node):
            assert len(node.users) == 1
        if not is_quantize(node) and not is_dequantize(node) and any(is_quantize(user) for user in node.users):
            assert len(node.users) == 1


def test_no_float_weights_stay():
    model = quantized(residual())
    graph = lowered(model, model.plan_for("executorch"), 1, False)
    for name, tensor in graph.named_buffers():
        assert tensor.dtype == torch.int8 or tensor.dim() <= 1, name


def test_integers_at_the_border():
    model = quantized(residual())
    graph = lowered(model, model.plan_for("executorch"), 1, True)
    grids = border_grids(graph)
    assert len(grids) == 2
    plan = model.plan_for("executorch")
    assert next(iter(grids.values())) == (plan.values["x"].scale[0], plan.values["x"].zero_point[0])
    assert {node.meta["val"].dtype for node in grids} == {torch.int8}


def test_what_cannot_run_is_refused_with_its_layer():
    module, inputs = networks.made(SPELLED["conv3d"], batch=2)
    with pytest.raises(UnsupportedError, match="conv3d"):
        lowered(trace(module, inputs), None, 1, False)


def test_the_table_says_each_kind_once():
    assert not set(KERNELS) & set(REASONS)
    assert capabilities("anything") == capabilities("")


def test_batch():
    graph = lowered(residual(), None, 5, False)
    assert next(node for node in graph.graph.nodes if node.op == "placeholder").meta["val"].shape[0] == 5
    assert any(kind_of(node) for node in calls(graph))
