"""What cannot be traced, and what is said of it."""

import pytest
import torch
from torch import nn

from tersenet.errors import ModelError
from tersenet.graph.trace import trace
from traced import Recurrent, ResNet, randn

torch.set_num_threads(1)


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
    assert "test_explain.py, line " in text
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
