"""Tracing: what comes out, what stays untouched, and what is said of what cannot be traced."""

import collections
import dataclasses
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tersenet.errors import ModelError
from tersenet.graph.signature import named_outputs
from tersenet.graph.trace import trace
from tersenet.graph.walk import calls

torch.set_num_threads(1)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def agree(module: nn.Module, model, *inputs: torch.Tensor) -> None:
    """The model and the module give the same outputs."""
    with torch.no_grad():
        wanted = list(named_outputs(module.eval()(*inputs)).values())
    got = model(*(tensor.numpy() for tensor in inputs))
    got = got if isinstance(got, tuple) else (got,)
    assert len(got) == len(wanted)
    for here, there in zip(got, wanted, strict=True):
        assert here.shape == tuple(there.shape)
        np.testing.assert_allclose(here, there.numpy(), atol=1e-5)


def operators(model) -> list[str]:
    return [getattr(node.target, "_opname", node.target.__name__) for node in calls(model.graph)]


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Conv2d(inputs, outputs, 1, stride) if stride > 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += x if self.down is None else self.down(x)
        return self.relu(y)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(Block(8, 8, 1), Block(8, 16, 2))
        self.head = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.adaptive_avg_pool2d(self.blocks(self.stem(x)), 1)
        return self.head(x.view(x.shape[0], -1))


class MobileBlock(nn.Module):
    """An inverted residual with squeeze and excitation, as in MobileNetV3."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 12, 1, bias=False), nn.BatchNorm2d(12), nn.Hardswish(inplace=True))
        self.depthwise = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False), nn.BatchNorm2d(12), nn.ReLU6(inplace=True))
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 4, 1), nn.ReLU(), nn.Conv2d(4, 12, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(12, 3, 1, bias=False), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        return x + self.project(y * self.squeeze(y))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM, **options) -> None:
        super().__init__()
        self.cell = kind(5, 6, batch_first=True, **options)
        self.head = nn.Linear(6 * (1 + self.cell.bidirectional), 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.cell(x)[0][:, -1])


class Encoder(nn.Module):
    """Tokens, a padding mask, two transformer layers; returns a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu")
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> dict:
        padding = attention_mask == 0 if attention_mask is not None else None
        hidden = self.layers(self.embed(input_ids), src_key_padding_mask=padding)
        return {"logits": self.head(hidden.mean(1)), "hidden": hidden, "unused": None}


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
    assert "test_trace.py" in head.meta["stack_trace"]


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


def test_writes_in_place_become_functional():
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            y.add_(1).relu_()
            y[:, 0] = -1.0
            y[:, 1:].mul_(3)
            return y.clamp_(-5, 5)

    model = trace(Writes(), (randn(1, 4),))
    assert not any(name.endswith("_") for name in operators(model))
    agree(Writes(), model, randn(5, 4))


def through_a_view(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.view(-1).add_(1)
    return y


def through_a_part(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.chunk(2, 1)[0].mul_(3)
    return y


def through_detach(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    y.detach().add_(5)
    return y


def into_the_input(x: torch.Tensor) -> torch.Tensor:
    x.detach().mul_(2)
    return x + 1


def view_of_a_view_made_before(x: torch.Tensor) -> torch.Tensor:
    y = x * 1
    z = y.select(1, 0).unsqueeze(0)
    y.add_(1)
    return z


def keeps_its_type(x: torch.Tensor) -> torch.Tensor:
    y = torch.ones(4, dtype=torch.int32)
    return (x > 0).int().add_((x > 1).long()) * y.mul_(2)


@pytest.mark.parametrize("function", [through_a_view, through_a_part, through_detach, into_the_input, view_of_a_view_made_before, keeps_its_type])
def test_writes_are_seen_under_every_name(function):
    class Writes(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return function(x)

    model = trace(Writes(), (randn(2, 4),))
    assert not any(name.endswith("_") for name in operators(model))
    x = randn(3, 4)
    wanted = Writes()(x.clone()).numpy()
    got = model(x.numpy().copy())
    assert got.dtype == wanted.dtype
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_batch_norm_keeps_its_form_beside_writes_into_views():
    class Writes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bn = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.bn(x)
            y[:, 0] = 0
            return y

    model = trace(Writes(), (randn(1, 3, 4, 4),))
    assert "batch_norm" in operators(model)
    agree(Writes(), model, randn(2, 3, 4, 4))


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


class Branches(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


class TakesItem(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, : int(x.max().item())]


class Numpy(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(x.numpy() * 2)


class Picks(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0]


class Conditional(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))


class Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ torch.zeros(9, 9)


@pytest.mark.parametrize(
    "module, line, words",
    [
        (Branches(), "return x * 2 if x.sum() > 0 else x", ["branches", "torch.where"]),
        (TakesItem(), "return x[:, : int(x.max().item())]", ["values"]),
        (Numpy(), "return torch.from_numpy(x.numpy() * 2)", ["numpy", "torch operators"]),
        (Picks(), "return x[x > 0]", ["shape", "values"]),
        (Conditional(), "torch.cond(", ["cond"]),
        (Fails(), "return x @ torch.zeros(9, 9)", ["fails on its own example inputs", "mat1"]),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_what_cannot_be_traced_is_explained(module, line, words, capfd):
    with pytest.raises(ModelError) as caught:
        trace(module, (torch.ones(2, 3),))
    text = str(caught.value)
    assert "test_trace.py, line " in text
    assert line in text
    assert all(word in text for word in words)
    assert "\n" not in text and len(text) < 500
    assert capfd.readouterr() == ("", "")


def test_tracing_prints_nothing(capfd):
    class Prints(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            print("user")
            return x + 1

    trace(Prints(), (randn(1, 3),))
    trace(Recurrent(), (randn(1, 7, 5),))
    assert capfd.readouterr() == ("", "")


class AddsToState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.add_(1)
        return x + self.seen


class ReplacesState(AddsToState):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen = self.seen + 1
        return x + self.seen


@pytest.mark.parametrize("kind", [AddsToState, ReplacesState])
def test_state_that_the_network_writes_is_refused(kind):
    module = kind()
    with pytest.raises(ModelError, match="seen.*take the state as an input"):
        trace(module, (randn(1, 3),))
    assert torch.equal(module.seen, torch.zeros(3))


def test_autocast_is_refused():
    class Mixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu"):
                return x @ x.T

    with pytest.raises(ModelError, match="autocast"):
        trace(Mixed(), (randn(2, 3),))


@pytest.mark.parametrize("value, word", [(float("nan"), "NaN"), (float("inf"), "infinite")])
def test_weights_must_be_finite(value, word):
    module = ResNet()
    with torch.no_grad():
        module.blocks[1].conv2.weight[0, 0, 0, 0] = value
    with pytest.raises(ModelError, match=rf"blocks\.1\.conv2\.weight holds {word}"):
        trace(module, (randn(1, 3, 16, 16),))


def test_statistics_must_be_numbers():
    module = ResNet()
    module.blocks[0].bn1.running_var[0] = float("nan")
    with pytest.raises(ModelError, match=r"blocks\.0\.bn1\.running_var holds NaN"):
        trace(module, (randn(1, 3, 16, 16),))


def test_weights_must_be_float32():
    with pytest.raises(ModelError, match=r"weight is float64.*\.float\(\)"):
        trace(nn.Linear(3, 4).double(), (randn(1, 3).double(),))


def test_lazy_modules_have_no_shape_yet():
    with pytest.raises(ModelError, match="weight has no shape yet.*lazy"):
        trace(nn.LazyLinear(4), (randn(1, 3),))


@pytest.mark.parametrize(
    "example, words",
    [
        ((randn(1, 3), randn(1, 3)), "do not fit Linear.forward"),
        ((), "do not fit"),
        (("three",), "hold no tensor"),
    ],
)
def test_example_inputs_must_fit(example, words):
    with pytest.raises(ModelError, match=words):
        trace(nn.Linear(3, 4), example)


def test_axes_to_leave_open_must_exist():
    with pytest.raises(ModelError, match="no input 'tokens'.*the inputs are x"):
        trace(Recurrent(), (randn(1, 7, 5),), dynamic={"tokens": {1: "length"}})
    with pytest.raises(ModelError, match=r"axis 1 \(length\) of input 'x' must have a size of 2 or more"):
        trace(Recurrent(), (randn(1, 1, 5),), dynamic={"x": {1: "length"}})


def test_fingerprints_are_equal_in_every_process():
    script = (
        "import importlib.util, sys, torch; s = importlib.util.spec_from_file_location('t', sys.argv[1]); t = importlib.util.module_from_spec(s); "
        "sys.modules['t'] = t; s.loader.exec_module(t); torch.manual_seed(0); print(t.trace(t.ResNet(), (t.randn(1, 3, 16, 16),)).fingerprint)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(Path(__file__))], capture_output=True, text=True, check=True)
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
