"""Tracing: what comes out, and what stays untouched."""

import collections
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from source import CHECKOUT
from tersenet.graph.trace import trace
from tersenet.graph.walk import calls
from traced import Encoder, MobileBlock, Recurrent, ResNet, agree, operators, randn

torch.set_num_threads(1)


@pytest.mark.parametrize("module", [ResNet(), MobileBlock()], ids=["resnet", "mobilenet"])
def test_convolutional_networks_have_an_open_batch(module):
    model = trace(module, (randn(1, 3, 16, 16),))
    assert model.inputs[0].shape == (None, 3, 16, 16)
    assert model.inputs[0].layout == "NCHW"
    assert model.outputs[0].name == "output" and model.outputs[0].shape[0] is None
    assert model.fixed_batch == ""
    for batch in (1, 2, 7):
        agree(module, model, randn(batch, 3, 16, 16))


def test_the_graph_is_clean():
    model = trace(ResNet(), (randn(1, 3, 16, 16),))
    found = operators(model)
    assert set(found) <= {"conv2d", "batch_norm", "relu", "add", "adaptive_avg_pool2d", "sym_size", "view", "linear"}
    assert found.count("batch_norm") == 5
    assert all(node.op in {"placeholder", "get_attr", "call_function", "output"} for node in model.graph.graph.nodes)
    assert all(node.users for node in model.graph.graph.nodes if node.op != "output")
    assert not any("num_batches_tracked" in name for name in model.graph.state_dict())
    assert all("val" in node.meta for node in model.graph.graph.nodes if node.op != "output")


def test_parameters_keep_their_names():
    module = ResNet()
    names = set(trace(module, (randn(1, 3, 16, 16),)).graph.state_dict())
    assert names == {name for name in module.state_dict() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name, held", [("graph", "graph_"), ("code", "code_"), ("meta", "meta_"), ("recompile", "recompile_"), ("inner", "inner")])
def test_names_that_graph_modules_use_themselves(name, held):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, nn.Linear(3, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return getattr(self, name)(x)

    model = trace(Net(), (randn(1, 3),))
    assert set(model.graph.state_dict()) == {f"{held}.weight", f"{held}.bias"}


def test_parameters_called_like_keywords_inputs_or_operators():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name in ("x", "relu", "class"):
                self.register_parameter(name, nn.Parameter(randn(3)))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(x + self.x * self.relu + getattr(self, "class"))

    module = Net()
    model = trace(module, (randn(1, 3),))
    assert [spec.name for spec in model.inputs] == ["x"]
    agree(module, model, randn(4, 3))


def test_source_lines_are_kept():
    model = trace(ResNet(), (randn(1, 3, 16, 16),))
    head = next(node for node in calls(model.graph) if node.name == "linear")
    assert "traced.py" in head.meta["stack_trace"]


def test_the_users_module_is_untouched():
    module = ResNet()
    module.train()
    module.blocks[0].bn1.eval()
    calls_seen = []
    module.head.register_forward_hook(lambda *_: calls_seen.append(1))
    modes = [part.training for part in module.modules()]
    before = {name: (id(tensor), tensor.clone()) for name, tensor in module.state_dict(keep_vars=True).items()}
    hooks = [dict(part._forward_hooks) for part in module.modules()]
    model = trace(module, (randn(1, 3, 16, 16),))
    assert [part.training for part in module.modules()] == modes
    assert [dict(part._forward_hooks) for part in module.modules()] == hooks
    after = module.state_dict(keep_vars=True)
    assert all(id(after[name]) == kept and torch.equal(after[name], value) for name, (kept, value) in before.items())
    fingerprint = model.fingerprint
    with torch.no_grad():
        module.head.weight.add_(1)
    del model.__dict__["fingerprint"]
    assert model.fingerprint == fingerprint, "the model must hold copies"


def test_tied_weights_stay_tied():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.out = nn.Embedding(9, 4), nn.Linear(4, 9, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.out(self.embed(x))

    model = trace(Tied(), (torch.zeros(1, 3, dtype=torch.int64),))
    assert len({tensor.data_ptr() for tensor in model.graph.state_dict().values()}) == 1


@pytest.mark.parametrize("kind, options", [(nn.LSTM, {}), (nn.LSTM, {"bidirectional": True, "num_layers": 2}), (nn.GRU, {}), (nn.RNN, {})])
def test_recurrent_networks_take_sequences_of_any_length(kind, options):
    module = Recurrent(kind, **options)
    model = trace(module, (randn(1, 7, 5),), dynamic={"x": {1: "length"}})
    assert model.inputs[0].shape == (None, None, 5)
    assert operators(model).count(kind.__name__.lower().replace("rnn", "rnn_tanh")) == 1
    for batch, length in ((1, 1), (3, 20)):
        agree(module, model, randn(batch, length, 5))


def test_long_recurrences_are_not_unrolled():
    model = trace(Recurrent(), (randn(1, 300, 5),))
    assert len(list(calls(model.graph))) < 10


def test_recurrent_operators_work_as_before_after_tracing():
    trace(Recurrent(), (randn(1, 7, 5),))
    with torch.device("meta"):
        output, (hidden, cell) = nn.LSTM(5, 6)(torch.empty(7, 2, 5))
    assert output.shape == (7, 2, 6) and hidden.shape == cell.shape == (1, 2, 6)


def test_transformers_with_named_inputs_and_outputs():
    module = Encoder().eval()
    tokens = torch.arange(9)[None] % 20
    example = {"attention_mask": torch.ones_like(tokens), "input_ids": tokens}
    model = trace(module, example, dynamic={"input_ids": {1: "length"}, "attention_mask": {1: "length"}})
    assert [spec.name for spec in model.inputs] == ["input_ids", "attention_mask"]
    assert [spec.dtype for spec in model.inputs] == ["int64", "int64"]
    assert [spec.name for spec in model.outputs] == ["logits", "hidden"]
    ids, mask = torch.randint(0, 20, (3, 5), generator=torch.Generator().manual_seed(0)), torch.ones(3, 5, dtype=torch.int64)
    mask[1, 3:] = 0
    with torch.no_grad():
        wanted = module(ids, mask)
    logits, hidden = model({"attention_mask": mask.numpy(), "input_ids": ids.numpy()})
    np.testing.assert_allclose(logits, wanted["logits"].numpy(), atol=1e-5)
    np.testing.assert_allclose(hidden, wanted["hidden"].numpy(), atol=1e-5)
    assert "_transformer_encoder_layer_fwd" not in operators(model)


def test_attention_with_several_inputs():
    module = nn.MultiheadAttention(8, 2, batch_first=True)
    model = trace(module, (randn(1, 5, 8), randn(1, 4, 8), randn(1, 4, 8)))
    assert [spec.name for spec in model.inputs] == ["query", "key", "value"]
    assert [spec.name for spec in model.outputs] == ["output_0", "output_1"]
    agree(module, model, randn(3, 5, 8), randn(3, 4, 8), randn(3, 4, 8))


Pair = collections.namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Named:
    score: torch.Tensor
    parts: list
    missing: torch.Tensor | None = None


@pytest.mark.parametrize(
    "make, names",
    [
        (lambda x: (x, x + 1), ["output_0", "output_1"]),
        (lambda x: [x, (x + 1, x + 2)], ["output_0", "output_1_0", "output_1_1"]),
        (lambda x: {"a": x, "b": None, "c": [x + 1]}, ["a", "c_0"]),
        (lambda x: Pair(x, x + 1), ["left", "right"]),
        (lambda x: Named(x, [x + 1]), ["score", "parts_0"]),
        (lambda x: {"a": {"y": x}, "b": {"y": x + 1}}, ["y", "y_2"]),
    ],
)
def test_outputs_are_named(make, names):
    class Returns(nn.Module):
        def forward(self, x: torch.Tensor):
            return make(x * 2)

    model = trace(Returns(), (randn(1, 3),))
    assert [spec.name for spec in model.outputs] == names
    agree(Returns(), model, randn(4, 3))


def test_nested_inputs_and_constants():
    class Nested(nn.Module):
        def forward(self, batch: dict, *rest: torch.Tensor, scale: float = 1.0):
            return batch["image"] * scale + batch["meta"][1] + rest[0]

    example = {"image": np.zeros((1, 3)), "meta": ["name", randn(1, 3)]}
    model = trace(Nested(), (example, randn(1, 3)))
    assert [(spec.name, spec.dtype) for spec in model.inputs] == [("image", "float32"), ("meta_1", "float32"), ("rest_0", "float32")]
    ones = np.ones((4, 3), np.float32)
    np.testing.assert_array_equal(model({"image": ones, "meta_1": 2 * ones, "rest_0": 3 * ones}), 6 * ones)


@pytest.mark.parametrize(
    "module, shape, layout",
    [
        (nn.Conv1d(3, 4, 3), (1, 3, 9), "NCW"),
        (nn.Sequential(nn.ZeroPad2d(1), nn.Conv2d(3, 4, 3)), (1, 3, 8, 8), "NCHW"),
        (nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)), (1, 3, 8, 8), "NCHW"),
        (nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), (1, 3, 8, 8), ""),
        (Recurrent(), (1, 7, 5), ""),
    ],
)
def test_layout_is_told_by_the_first_convolution(module, shape, layout):
    assert trace(module, (randn(*shape),)).inputs[0].layout == layout


def test_layout_follows_permutes():
    class ChannelsLast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.conv((x / 255).permute(0, 3, 1, 2)).flatten(1)

    assert trace(ChannelsLast(), (randn(1, 8, 6, 3),)).inputs[0].layout == "NHWC"


def test_gradient_regions_are_opened():
    class Regions(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                y = x * 2
            with torch.enable_grad():
                z, w = (y + 1).split(2, 1)
            return y + torch.cat([w, z], 1)

    model = trace(Regions(), (randn(1, 4),))
    assert set(operators(model)) == {"mul", "add", "split", "getitem", "cat"}
    agree(Regions(), model, randn(3, 4))


def test_a_batch_that_cannot_be_open_is_fixed_and_says_why():
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(4, -1).sum(1)

    model = trace(Fixed(), (randn(4, 3, 2),))
    assert model.inputs[0].shape == (4, 3, 2) and model.outputs[0].shape == (4,)
    assert "4" in model.fixed_batch
    agree(Fixed(), model, randn(4, 3, 2))


def test_numbers_that_the_batch_divides_stay_open():
    class Halves(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.view(x.shape[0] // 2, 2, -1).sum(1)

    model = trace(Halves(), (randn(4, 3),))
    agree(Halves(), model, randn(6, 3))


# What cannot be traced. Each class is one line long where it goes wrong, so that the message can be checked.


def test_fingerprints_are_equal_in_every_process():
    script = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); from traced import ResNet, randn; from tersenet.graph.trace import trace; "
        "torch.manual_seed(0); print(trace(ResNet(), (randn(1, 3, 16, 16),)).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(CHECKOUT / "tests")], capture_output=True, text=True, check=True)
    torch.manual_seed(0)
    assert done.stdout.strip() == trace(ResNet(), (randn(1, 3, 16, 16),)).fingerprint


def test_a_fixed_batch_takes_any_number_of_samples_in_turn() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(2, 3) + torch.arange(2).reshape(2, 1) * 10

    model = trace(Fixed(), (torch.rand(2, 3),))
    assert model.fixed_batch and model.inputs[0].shape == (2, 3)
    x = np.random.default_rng(0).random((5, 3), dtype=np.float32)
    wanted = x + np.float32([[0], [10], [0], [10], [0]])
    np.testing.assert_allclose(model(x), wanted, rtol=1e-6)
    assert model.batches_of(32) == 2 and model.filled([x[:1]])[0].tolist() == [x[0].tolist()] * 2
