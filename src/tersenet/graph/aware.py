"""The network that quantization-aware training trains: the deployable graph with the plan's grids in it, over the model's own parameters.

Folded weights are computed from the parameters at every step, so that what the forward pass rounds is what the file will hold. While batch norm's
statistics move, the convolution has its weight rounded as folded with the running statistics, divided by the same factors again, and a batch norm of
the batch behind it: no second convolution as in Jacob et al. 2018 (figure C8), and no jumps of the rounded weights from batch to batch, which
Krishnamoorthi 2018 ("Quantizing deep convolutional networks for efficient inference", section 3.2.2) found to harm. Once `settled`, and in evaluation
always, it is folded: exactly what is deployed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from tersenet.graph.deploy import rewritten
from tersenet.graph.fold import Norm, beside_weight
from tersenet.graph.learning import BiasGrid, FollowingGrid, Grid, LearnedGrid, MovingGrid, SharedGrid, Unrounded
from tersenet.graph.rewrite import apply_plan
from tersenet.graph.tape import Tape
from tersenet.graph.training import MOMENTUM, RUNNING, at_least, learned, trainable
from tersenet.graph.walk import bind, calls, constant, copy, rebind
from tersenet.model import Model
from tersenet.plan import QuantizationPlan, Unit
from tersenet.schemes import Encoding

GRIDS = "grids"
VALUES, WEIGHTS = f"{GRIDS}.values", f"{GRIDS}.weights"
aten = torch.ops.aten


@dataclass(frozen=True)
class Aware:
    """A network that learns with its grids.

    Args:
        module: the network; its parameters are the model's own, under their names, and the grids' behind "grids". Its attribute `settled` says
            whether batch norm is folded while it learns.
        values: name of a group of values -> its grid.
        weights: ``anchor.argument`` -> the grid of an operator's weight.
    """

    module: fx.GraphModule
    values: Mapping[str, Grid]
    weights: Mapping[str, Grid]


def aware(model: Model, plan: QuantizationPlan, learn: str, loose: Collection[str] = (), dropout: float | None = None) -> Aware:
    """The network that learns of a model and a plan.

    Args:
        model: stays as it is.
        plan: made on the deployable graph of the model; every value's encoding names its group (`Encoding.shared`).
        learn: how grids do: steps (step sizes and offsets are parameters), moving (ranges of values follow a moving average) or fixed (they stay);
            under the last two a weight's grid spans the weight, whatever it has become.
        loose: groups that a kernel fixes the numbers of; they do not learn.
        dropout: as in `trainable`.
    """
    module = trainable(model, dropout, source=False)
    source = learned(model, module).graph
    tape = Tape({**dict(source.named_parameters(remove_duplicate=False)), **dict(source.named_buffers(remove_duplicate=False))})
    with tape:
        deployed = rewritten(source)
    parameters = dict(module.named_parameters(remove_duplicate=False))
    simulated, dialect = copy(deployed), _Learning(plan, learn, loose, {name: parameters[name] for name in model.annotations.codebooks})
    apply_plan(simulated, plan, dialect)
    for target, grid in dialect.grids().items():
        module.add_submodule(target, grid)
    played = _follow_parameters(module, simulated, tape)
    alive, moved = _copied(simulated.graph)
    _revive_norms(alive, deployed, tape, {key: moved[node] for key, node in played.items()})
    for name, tensor in tape.constants.items():
        module.register_buffer(name, tensor)
    _switch(module, alive, simulated.graph)
    return Aware(module, dialect.values, dialect.weights)


class _Learning:
    """The dialect of `apply_plan` that puts grids as parts of the module."""

    def __init__(self, plan: QuantizationPlan, learn: str, loose: Collection[str], shared: Mapping[str, Tensor]) -> None:
        self.plan, self.learn, self.loose, self.shared = plan, learn, loose, shared
        self.values: dict[str, Grid] = {}
        self.weights: dict[str, Grid] = {}
        self.biases: dict[str, BiasGrid] = {}

    def grids(self) -> dict[str, nn.Module]:
        beside = {f"{WEIGHTS}.{name.replace('.', '_')}": grid for name, grid in {**self.weights, **self.biases}.items()}
        return {**{f"{VALUES}.{name}": grid for name, grid in self.values.items()}, **beside}

    def _value(self, encoding: Encoding) -> Grid:
        group = encoding.shared
        if group not in self.values:
            if group in self.loose:
                self.values[group] = Unrounded(encoding) if encoding.role == "output" else Grid(encoding)
            else:
                kinds: Mapping[str, Callable[[], Grid]] = {
                    "steps": lambda: LearnedGrid(encoding, weight=False),
                    "moving": lambda: MovingGrid(encoding),
                    "fixed": lambda: Grid(encoding),
                }
                self.values[group] = kinds[self.learn]()
        return self.values[group]

    def activation(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node) -> fx.Node:
        return _through(module, f"{VALUES}.{encoding.shared}", self._value(encoding), value, before)

    def weight(self, module: fx.GraphModule, value: fx.Node, encoding: Encoding, before: fx.Node, name: str) -> fx.Node:
        if encoding.role == "constant":
            return self.activation(module, value, encoding, before)
        target = f"{WEIGHTS}.{name.replace('.', '_')}"
        if encoding.role == "bias":
            anchor = name.rpartition(".")[0]
            source = self._value(self.plan.values[bind(before)["input"].name])
            self.biases[name] = BiasGrid(encoding, source, self.weights[f"{anchor}.weight"])
            return _through(module, target, self.biases[name], value, before)
        self.weights[name] = self._weight(encoding, constant(module, value), beside_weight(before, self.shared))
        return _through(module, target, self.weights[name], value, before)

    def _weight(self, encoding: Encoding, weight: Tensor, shared: Tensor | None) -> Grid:
        if shared is not None and encoding.axis is not None and encoding.scheme.granularity == "per-channel":
            return SharedGrid(encoding, weight, shared)
        return LearnedGrid(encoding, weight=True) if self.learn == "steps" else FollowingGrid(encoding, weight)

    def conversion(
        self, module: fx.GraphModule, value: fx.Node, grids: tuple[Encoding | None, Encoding], before: fx.Node, unit: Unit | None
    ) -> fx.Node:
        return self.activation(module, value, grids[1], before)

    def operator(self, module: fx.GraphModule, node: fx.Node, unit: Unit, plan: QuantizationPlan) -> None:
        """Nothing: a kernel's own integer arithmetic has no gradient, and differs by less than a step."""


def _through(module: fx.GraphModule, target: str, grid: nn.Module, value: fx.Node, before: fx.Node) -> fx.Node:
    module.add_submodule(target, grid)
    with module.graph.inserting_before(before):
        node = module.graph.create_node("call_module", target, (value,), {}, f"{value.name}_quantized")
    node.meta["val"] = value.meta["val"]
    return node


def _follow_parameters(module: fx.GraphModule, simulated: fx.GraphModule, tape: Tape) -> dict[int, fx.Node]:
    """Constants of a simulated graph become what they are computed from; `module` gets all others. Returns what the graph computes, by id."""
    alive = {name for name, parameter in module.named_parameters(remove_duplicate=False) if parameter.requires_grad}
    alive |= {
        str(bind(node)[name].target) for node in calls(module) if node.target is aten.batch_norm.default for name in RUNNING if bind(node)[name]
    }
    played: dict[int, fx.Node] = {}
    for node in [node for node in simulated.graph.nodes if node.op == "get_attr"]:
        tensor = _tensor(simulated, str(node.target))
        if tape.sources(tensor) & alive:
            node.replace_all_uses_with(tape.play(simulated.graph, tensor, node, played))
            simulated.graph.erase_node(node)
        elif not _has(module, str(node.target)):
            module.register_buffer(str(node.target), tensor.detach().clone())
    return played


def _tensor(module: fx.GraphModule, target: str) -> Tensor:
    """The very tensor that a graph reads, which `constant` gives as another object."""
    path, _, name = target.rpartition(".")
    found: Tensor = getattr(module.get_submodule(path), name)
    return found


def _has(module: fx.GraphModule, target: str) -> bool:
    path, _, name = target.rpartition(".")
    try:
        return hasattr(module.get_submodule(path), name)
    except AttributeError:
        return False


def _copied(graph: fx.Graph) -> tuple[fx.Graph, dict[fx.Node, fx.Node]]:
    """Another graph, and its nodes by those of the first."""
    made: dict[fx.Node, fx.Node] = {}
    fresh = fx.Graph()
    for node in graph.nodes:
        made[node] = fresh.node_copy(node, lambda old: made[old])
    return fresh, made


def _revive_norms(graph: fx.Graph, deployed: fx.GraphModule, tape: Tape, played: dict[int, fx.Node]) -> None:
    """Batch norm behind the operators that it was folded into, and their weights without its factors."""
    switch = None
    for node in [node for node in graph.nodes if "batch_norm" in node.meta]:
        norm: Norm = node.meta["batch_norm"]
        if switch is None:
            with graph.inserting_before(next(iter(graph.nodes))):
                switch = graph.create_node("get_attr", "training")

        def computed(target: Any, node: fx.Node = node) -> Any:
            return tape.play(graph, _tensor(deployed, target), node, played) if target else None

        factors = tape.play(graph, norm.factors, node, played)
        with graph.inserting_before(node):
            weight = graph.create_node("call_function", divided, (bind(node)["weight"], factors))
        rebind(node, weight=weight, bias=computed(norm.bias))
        tensors = {name: computed(norm.arguments[name]) for name in ("weight", "bias", *RUNNING)}
        readers = list(node.users)
        with graph.inserting_after(node):
            revived = graph.create_node("call_function", aten.batch_norm.default, (), {})
        momentum = at_least(graph, norm.arguments["momentum"] or MOMENTUM, revived)
        held = {**norm.arguments, **tensors, "training": switch, "momentum": momentum}
        revived.args = (node, *(held[name] for name in list(bind(revived))[1:]))
        for reader in readers:
            reader.replace_input_with(node, revived)


def divided(weight: Tensor, factors: Tensor) -> Tensor:
    """A weight without the factors that were folded into it; where one is 0 there is nothing to divide."""
    factors = factors.to(weight.dtype)
    return weight / torch.where(factors == 0, 1.0, factors)


def _switch(module: Any, alive: fx.Graph, settled: fx.Graph) -> None:
    """Give the module both graphs over the same tensors: the one with live batch norm as its own, and a `forward` that chooses."""
    module.graph = alive
    folded = fx.GraphModule(module, settled)
    for each in (module, folded):
        each.graph.eliminate_dead_code()
        each.recompile()
    of_alive, of_settled = type(module).forward, type(folded).forward
    module.settled = False

    def forward(*inputs: Tensor) -> Any:
        return (of_alive if module.training and not module.settled else of_settled)(module, *inputs)

    module.forward = forward
