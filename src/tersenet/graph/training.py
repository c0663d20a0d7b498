"""A network that can learn, made of a model's graph, and the model that it becomes: batch norm and dropout there and back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import fx

from tersenet.graph.marks import put_back
from tersenet.graph.operators import MOVEMENTS, aten_name, kind_of
from tersenet.graph.walk import add_constant, bind, calls, constant, copy, is_constant, outputs, rebind
from tersenet.model import Model

# Operators that behave otherwise while a network learns: the argument that says so.
MODES = {
    "batch_norm.default": "training",
    "dropout.default": "train",
    "dropout_.default": "train",
    "feature_dropout.default": "train",
    "feature_dropout_.default": "train",
    "alpha_dropout.default": "train",
    "alpha_dropout_.default": "train",
    "feature_alpha_dropout.default": "train",
    "rrelu.default": "training",
    "lstm.input": "train",
    "gru.input": "train",
    "rnn_tanh.input": "train",
    "rnn_relu.input": "train",
}
RUNNING = ("running_mean", "running_var")
# What a running mean moves by where the source kept a plain average, which an exported graph writes as 0; and the most that it is raised to.
MOMENTUM = 0.1
FOLLOWED = 3  # the running statistics are behind by 1 part in exp(3) of what changed before an epoch


def trainable(model: Model, dropout: float | None = None, source: bool = True) -> fx.GraphModule:
    """A network of its own that computes what the model does, and learns: parameters have gradients, ``train()`` and ``eval()`` switch the modes.

    In training mode batch norm takes the batch's own statistics and moves the running ones, and dropout drops. The names of
    parameters and nodes stay; what two names share stays shared.

    Args:
        model: stays as it is.
        dropout: the share that every dropout drops, 0 to 1; None: what each has.
        source: noise that the source's own training had is there in training mode, and penalties of values are watched.

    Returns:
        The module, in training mode.
    """
    module = _apart(copy(model.graph))
    marks = {*model.annotations.noises, *model.annotations.activities}
    if source and marks:
        put_back(module, model.annotations, dropout)
    for parts in _shared(module):
        _hold(module, parts, _at(module, parts[0]).detach().clone())
    running = {str(node.target) for _, nodes in _batch_norms(module) for node in nodes}
    for name, parameter in list(module.named_parameters()):
        parameter.requires_grad_(parameter.is_floating_point() and name not in running)
    module.least_momentum = 0.0  # type: ignore[assignment]  # a plain number
    modes = [node for node in calls(module) if aten_name(node) in MODES]
    if modes:
        with module.graph.inserting_before(next(iter(module.graph.nodes))):
            switch = module.graph.create_node("get_attr", "training")  # every module has this attribute, and train() and eval() set it
        for node in modes:
            rebind(node, **{MODES[aten_name(node)]: switch})
            if kind_of(node) == "batch_norm":
                rebind(node, momentum=at_least(module.graph, bind(node)["momentum"] or MOMENTUM, node))
            if dropout is not None and "dropout" in aten_name(node) and node.name not in marks:
                rebind(node, p=dropout)
    module.recompile()
    return module.train()


def at_least(graph: fx.Graph, momentum: float, before: fx.Node) -> fx.Node:
    """A batch norm's momentum, or what `follow_within` gave the module of the graph where that is larger."""
    with graph.inserting_before(before):
        least = graph.create_node("get_attr", "least_momentum")
        return graph.call_function(larger, (momentum, least))


def larger(momentum: float, least: float) -> float:
    """As a function that is no operator of a network."""
    return max(momentum, least)


def follow_within(module: torch.nn.Module, steps: int) -> None:
    """Let the running statistics of a module of ours follow within so many steps.

    Large networks come with a momentum that suits their own long training (0.001 in Keras's MobileNetV2): in a few short epochs on
    other data, or behind pruning, the running statistics would stay those of another network, and evaluation with them would be wrong.
    """
    module.least_momentum = min(MOMENTUM, FOLLOWED / steps)  # type: ignore[assignment]  # a plain number


def learned(model: Model, module: torch.nn.Module) -> Model:
    """The model with the tensors that a network made by `trainable` has by now; in evaluation mode, with no plan.

    Plans and the source's grids speak of other numbers, so they are left; masks stay.

    Args:
        model: what the network was made of.
        module: the network; on any device.
    """
    graph = _apart(copy(model.graph))
    state = {**dict(module.named_buffers(remove_duplicate=False)), **dict(module.named_parameters(remove_duplicate=False))}
    for parts in _shared(graph):
        value = state[parts[0]].detach().to("cpu", copy=True)
        _hold(graph, parts, value)
    annotations = replace(model.annotations, values={}, weights={})
    return replace(model, graph=graph.eval(), plans=(), annotations=annotations)


def ending(model: Model, place: int = 0) -> str:
    """What one of the network's outputs, the first unless told, is: "probabilities" (softmax), "probability" (a sigmoid for each), or "scores".

    Told by the operator that computes it, behind those that only move values. Logarithms of probabilities are scores.
    """
    node = outputs(model.graph)[place]
    while kind_of(node) in MOVEMENTS or "dropout" in aten_name(node):
        node = node.all_input_nodes[0]
    return {"softmax": "probabilities", "sigmoid": "probability", "hardsigmoid": "probability"}.get(kind_of(node), "scores")


class Statistics:
    """Batch norm's running statistics of a network, to be estimated anew: the plain mean over batches of each batch's own.

    Averaged or pruned weights make other activations than those that the running statistics saw (Izmailov et al. 2018,
    "Averaging Weights Leads to Wider Optima and Better Generalization", section 3.2).

    Args:
        module: made by `trainable`; shares its tensors with what is run here.
    """

    def __init__(self, module: fx.GraphModule) -> None:
        self.module = copy(module)
        norms = list(_batch_norms(self.module))
        for node, _ in norms:
            rebind(node, momentum=1.0)  # the running statistics become those of the batch
        self.module.recompile()
        self.module.train()
        self.running = [constant(self.module, held) for held in dict.fromkeys(held for _, nodes in norms for held in nodes)]
        self.sums = [torch.zeros_like(tensor) for tensor in self.running]
        self.count = 0

    def __bool__(self) -> bool:
        """Whether the network has batch norm."""
        return bool(self.running)

    def see(self, *inputs: torch.Tensor) -> None:
        """Take the statistics of a batch in."""
        with torch.no_grad():
            self.module(*inputs)
        torch._foreach_add_(self.sums, self.running)
        self.count += 1

    def settle(self) -> None:
        """Write the means into the network."""
        if self.count:
            torch._foreach_copy_(self.running, torch._foreach_div(self.sums, self.count))


def _batch_norms(module: fx.GraphModule) -> Iterator[tuple[fx.Node, list[fx.Node]]]:
    """Each batch norm, and the nodes that read its running statistics."""
    for node in calls(module):
        if aten_name(node) == "batch_norm.default":
            yield node, [held for name in RUNNING if is_constant(held := bind(node)[name])]


def _apart(module: fx.GraphModule) -> fx.GraphModule:
    """Running statistics that are another tensor too, as files have it that hold equal numbers once, become tensors of their own."""
    norms = list(_batch_norms(module))
    roles: dict[int, set[Any]] = {}
    for node in module.graph.nodes:
        for child in node.all_input_nodes:
            if is_constant(child):
                roles.setdefault(id(_at(module, child.target)), set()).update(_roles(node, child))
    for node, _ in norms:
        for name in RUNNING:
            held = bind(node)[name]
            if is_constant(held) and len(roles[id(_at(module, held.target))]) > 1:
                rebind(node, **{name: add_constant(module, f"{node.name}.{name}", constant(module, held).clone(), node, held)})
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _roles(node: fx.Node, child: fx.Node) -> Iterator[Any]:
    """What a tensor is to an operator: a certain layer's running statistic, or something else."""
    if aten_name(node) != "batch_norm.default":
        yield "another"
        return
    bound = bind(node)
    for name, value in bound.items():
        if value is child:
            yield (name, bound["weight"], bound["bias"]) if name in RUNNING else "another"


def _shared(module: fx.GraphModule) -> Iterator[list[str]]:
    """The names of each tensor that the graph reads."""
    names: dict[int, list[str]] = {}
    for target in dict.fromkeys(str(node.target) for node in module.graph.nodes if node.op == "get_attr"):
        if isinstance(found := _at(module, target), torch.Tensor):
            names.setdefault(id(found), []).append(target)
    return iter(list(names.values()))


def _at(module: torch.nn.Module, target: str) -> Any:
    path, _, name = target.rpartition(".")
    return getattr(module.get_submodule(path), name)


def _hold(module: torch.nn.Module, targets: list[str], value: torch.Tensor) -> None:
    """Put a tensor where others are, as what they are: parameter or buffer."""
    is_parameter = isinstance(_at(module, targets[0]), torch.nn.Parameter)
    held = torch.nn.Parameter(value, value.is_floating_point()) if is_parameter else value
    for target in targets:
        path, _, name = target.rpartition(".")
        setattr(module.get_submodule(path), name, held)
