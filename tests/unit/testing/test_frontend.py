"""The contract suite of frontends passes an honest frontend and catches each kind of fault."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.testing.frontend import check_frontend

INPUTS = [[np.random.default_rng(seed).standard_normal((4, 3)).astype(np.float32)] for seed in range(2)]
EXCUSED = {"executorch": "its lowering takes seconds, and is tried once"}
NO_MODE = {"training": "what is tried here is not training"}


def network(scale: float = 1.0) -> nn.Linear:
    torch.manual_seed(0)
    layer = nn.Linear(3, 5)
    nn.init.zeros_(layer.bias)
    with torch.no_grad():
        layer.weight.mul_(scale)
    return layer


def run(module: nn.Module) -> Callable[[np.ndarray], np.ndarray]:
    return lambda x: module(torch.from_numpy(x)).detach().numpy()


reference = run(network())


def traced(module: nn.Module) -> Model:
    return trace(module, (torch.zeros(2, 3),))


def honest(source: object) -> Model:
    return traced(network())


@pytest.mark.parametrize("excused", [pytest.param({}, marks=pytest.mark.slow), EXCUSED], ids=["every runtime", "without executorch"])
def test_an_honest_frontend_passes(excused):
    assert check_frontend(honest, "source", reference, INPUTS, training=reference, excused=excused).outputs[0].shape == (None, 5)


def refused(load: Callable[[object], Model], words: str, wanted: Callable[[np.ndarray], np.ndarray] = reference, **excused: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_frontend(load, "source", wanted, INPUTS, excused={**EXCUSED, **NO_MODE, **excused})


def other_every_time(source: object, count: list[int] = []) -> Model:  # noqa: B006 - the memory is the fault
    count.append(1)
    return traced(nn.Sequential(*[nn.Identity()] * len(count), network()))


def fixed(reason: str) -> Model:
    model = honest("source")
    return replace(model, inputs=(replace(model.inputs[0], shape=(4, 3)),), fixed_batch=reason)


@pytest.mark.parametrize(
    "load, words",
    [
        (lambda source: traced(nn.Linear(3, 5)), "differs by"),
        (lambda source: traced(nn.Linear(3, 6)), r"shape \(4, 6\), wanted \(4, 5\)"),
        (lambda source: replace(honest(source), fixed_batch="because"), "the batch is open"),
        (lambda source: fixed(""), "does not say why"),
        (lambda source: fixed("x"), "'x', which is no reason in words"),
        (lambda source: replace(honest(source), outputs=(replace(honest(source).outputs[0], dtype="int8"),)), "described as int8"),
        (lambda source: replace(honest(source), outputs=()), "1 come out, 0 are described"),
        (other_every_time, "another fingerprint"),
    ],
)
def test_faults_are_caught(load, words):
    refused(load, words)


def test_a_batch_that_is_fixed_for_a_reason_passes():
    excused = {**EXCUSED, "training": "a fixed batch is what is tried"}
    assert check_frontend(lambda source: fixed("the file has a batch of 4"), "source", reference, INPUTS, excused=excused).fixed_batch


class Changed(nn.Module):
    """A layer's outputs, times a factor, and a little more."""

    def __init__(self, layer: nn.Module, factor: float = 1.0, more: float = 0.0) -> None:
        super().__init__()
        self.layer, self.factor, self.more = layer, factor, more

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.factor + self.more


@pytest.mark.parametrize("scale, more", [(1, 2e-4), (5, 2e-4), (20, 2e-4), (100, 2e-3)])
def test_numbers_are_held_to_their_own_size_not_to_that_of_the_largest(scale, more):
    refused(lambda source: traced(Changed(network(scale), more=more)), "differs by 2.0", run(network(scale)))


@pytest.mark.parametrize("factor", [0.0, 0.99])
def test_small_outputs_are_held_to_their_own_size(factor):
    refused(lambda source: traced(Changed(network(1e-4), factor)), "is small", run(network(1e-4)))


def test_outputs_that_are_no_numbers_are_caught():
    class Negative(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - 100).log()

    refused(lambda source: traced(Negative()), "differs by nan", run(Negative()), parameters="it has none at all")


def test_outputs_that_hang_on_how_many_samples_there_are_are_caught():
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x) + (x.shape[0] - 4)

    refused(lambda source: traced(Counting()), "for one sample differs by")


class Held(nn.Module):
    """A layer whose weights are kept otherwise: under other names, as buffers, or as plain tensors."""

    def __init__(self, weight: str, bias: str, hold: Callable[[nn.Module, str, torch.Tensor], None]) -> None:
        super().__init__()
        self.names = weight, bias
        hold(self, weight, network().weight.detach())
        hold(self, bias, network().bias.detach())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight, bias = (getattr(self, name) for name in self.names)
        return nn.functional.linear(x, weight, bias)


def as_parameter(module: nn.Module, name: str, value: torch.Tensor) -> None:
    module.register_parameter(name, nn.Parameter(value))


@pytest.mark.parametrize(
    "names",
    [("p_0", "p_1"), ("_lifted_tensor_constant0", "_param_constant1"), ("a8f3e9c2", "b8f3e9c2"), ("b" * 64, "bias")],
)
def test_names_that_nobody_gave_are_caught(names):
    refused(lambda source: traced(Held(*names, as_parameter)), "is none that a person gave")


def test_unreadable_names_are_caught():
    model = honest("source")
    model.graph.register_buffer("a b", torch.zeros(1))
    refused(lambda source: model, "'a b' is not readable")


def bias_alone(module: nn.Module, name: str, value: torch.Tensor) -> None:
    (as_parameter if name == "bias" else nn.Module.register_buffer)(module, name, value)


@pytest.mark.parametrize(
    "hold, words",
    [(setattr, "no tensor is"), (nn.Module.register_buffer, "no tensor is"), (bias_alone, "its weight is no parameter")],
)
def test_weights_that_cannot_be_trained_are_caught(hold, words):
    refused(lambda source: traced(Held("weight", "bias", hold)), words)


def test_a_network_that_no_runtime_takes_is_caught_unless_the_reason_is_said():
    class Singular(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.special.i0(self.layer(x))

    refused(lambda source: traced(Singular()), "no runtime takes the network: .*special_i0", run(Singular()))
    excused = {**NO_MODE, "export": "no runtime has the operator"}
    check_frontend(lambda source: traced(Singular()), "source", run(Singular()), INPUTS, excused=excused)


def test_a_file_that_computes_something_else_is_caught(monkeypatch):
    from tersenet.targets.onnxruntime.export import OnnxExporter

    export = OnnxExporter.export
    monkeypatch.setattr(OnnxExporter, "export", lambda self, model, *rest: export(self, traced(network(1.01)), *rest))
    refused(honest, "output in onnxruntime differs by")


class Normalized(nn.Module):
    """A layer and its batch norm, alive or folded to the factor that it is in evaluation."""

    def __init__(self, folded: bool = False) -> None:
        super().__init__()
        self.layer, self.folded, self.norm = network(), folded, nn.BatchNorm1d(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) / (1 + 1e-5) ** 0.5 if self.folded else self.norm(self.layer(x))


def test_training_mode_is_held_too():
    evaluated, learning = run(Normalized().eval()), run(Normalized().train())
    model = check_frontend(lambda source: traced(Normalized()), "source", evaluated, INPUTS, training=learning, excused=EXCUSED)
    running = [tensor for name, tensor in model.graph.named_buffers() if name.endswith("running_mean")]
    assert torch.equal(running[0], torch.zeros(5)), "the model's own statistics stay"
    with pytest.raises(AssertionError, match="in training mode differs by"):
        check_frontend(lambda source: traced(Normalized(folded=True)), "source", evaluated, INPUTS, training=learning, excused=EXCUSED)


@pytest.mark.parametrize(
    "training, excused, words",
    [
        (None, {}, "`training` must be the source in training mode"),
        (reference, NO_MODE, "`training` must be the source in training mode"),
        (None, {"training": "none"}, "'none' is no reason in words"),
        (None, {**NO_MODE, "names": "they are hard to read"}, "'names' is nothing to be excused from: training"),
    ],
)
def test_what_is_not_held_has_a_reason(training, excused, words):
    with pytest.raises(AssertionError, match=words):
        check_frontend(honest, "source", reference, INPUTS, training=training, excused=excused)
