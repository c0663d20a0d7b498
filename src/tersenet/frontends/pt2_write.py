"""Writing a model to a ``.pt2`` file: an exported program that torch reads, and beside it what only we know."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx
from torch.export.exported_program import ModuleCallEntry, ModuleCallSignature
from torch.export.graph_signature import ExportGraphSignature, InputKind, InputSpec, OutputKind, OutputSpec, TensorArgument
from torch.utils import _pytree as trees

from tersenet.errors import OutputError
from tersenet.frontends.pt2_own import FILE, record_of
from tersenet.graph.symbolic import symbolic
from tersenet.graph.walk import copy, outputs
from tersenet.model import Model
from tersenet.store import write_file


def save(model: Model, path: str | Path) -> Path:
    """Write a network to a file that `tersenet.load` reads back as it is, plans and annotations too, and ``torch.export.load`` as a program.

    The same model gives the same bytes.

    Args:
        model: the network; its plans and annotations are for `tersenet.load` alone.
        path: of the file, which ends in ``.pt2``.

    Returns:
        The path.

    Raises:
        OutputError: another ending, or the folder cannot be written.
        ModelError: an operator has an argument that no file can hold.
    """
    if not isinstance(model, Model) or not isinstance(path, str | Path):
        raise OutputError(f"a tersenet.Model is saved to the path of a file, got {type(model).__name__} and {type(path).__name__}.")
    path = Path(path)
    if path.suffix.lower() != ".pt2":
        raise OutputError(f"a network is saved to a .pt2 file, got {path.name!r}; name one that ends in .pt2.")
    record = json.dumps(record_of(model), separators=(",", ":"), allow_nan=False)
    buffer = io.BytesIO()  # a name on the disk would become part of the bytes
    torch.export.save(_program(model), buffer, extra_files={FILE: record})
    write_file(path, buffer.getvalue())
    return path


def _program(model: Model) -> torch.export.ExportedProgram:
    """The graph as torch.export would have given it: tensors as the first placeholders."""
    module = symbolic(copy(model.graph), model.inputs)
    graph, made = fx.Graph(), {}
    held = [node for node in module.graph.nodes if node.op == "get_attr"]
    state = {str(node.target): _tensor(module, str(node.target)) for node in held}
    inputs: list[InputSpec] = []
    for node in (*held, *(node for node in module.graph.nodes if node.op == "placeholder")):
        made[node] = graph.placeholder(f"p_{node.name}" if node.op == "get_attr" else str(node.target))
        inputs.append(_input(made[node].name, str(node.target) if node.op == "get_attr" else "", state))
    for node in module.graph.nodes:
        if node.op in ("call_function", "output"):
            made[node] = graph.node_copy(node, lambda old: made[old])
    for old, new in made.items():
        new.meta = {"val": old.meta["val"]} if old.op != "output" else {}
    results = [made[node].name for node in outputs(module)]
    return torch.export.ExportedProgram(
        root=torch.nn.Module(),
        graph=graph,
        graph_signature=ExportGraphSignature(inputs, [OutputSpec(OutputKind.USER_OUTPUT, TensorArgument(name), None) for name in results]),
        state_dict=state,
        range_constraints=_ranges(graph),
        module_call_graph=[_call(inputs, results, model)],
        constants={},
    )


def _tensor(module: fx.GraphModule, target: str) -> torch.Tensor:
    path, _, name = target.rpartition(".")
    return getattr(module.get_submodule(path), name)


def _input(name: str, target: str, state: Mapping[str, torch.Tensor]) -> InputSpec:
    if not target:
        return InputSpec(InputKind.USER_INPUT, TensorArgument(name), None)
    if isinstance(state[target], torch.nn.Parameter):
        return InputSpec(InputKind.PARAMETER, TensorArgument(name), target)
    return InputSpec(InputKind.BUFFER, TensorArgument(name), target, persistent=True)


def _ranges(graph: fx.Graph) -> dict[Any, Any]:
    """What sizes each symbol may have."""
    found: dict[Any, Any] = {}
    for node in graph.nodes:
        value = node.meta.get("val")
        sizes: tuple[Any, ...] = tuple(value.shape) if isinstance(value, torch.Tensor) else ()
        for size in sizes:
            if isinstance(size, torch.SymInt):
                found |= {symbol: size.node.shape_env.var_to_range[symbol] for symbol in size.node.expr.free_symbols}
    return found


def _call(inputs: list[InputSpec], results: list[str], model: Model) -> ModuleCallEntry:
    """How the network is called: its inputs in order; one output by itself, several as a dict by name."""
    given: list[Any] = [entry.arg for entry in inputs if entry.kind is InputKind.USER_INPUT]
    made: list[Any] = [TensorArgument(name) for name in results]
    names = [spec.name for spec in model.outputs]
    tree: Any = 0 if names == ["output"] else dict.fromkeys(names, 0)
    signature = ModuleCallSignature(given, made, trees.tree_flatten(((0,) * len(given), {}))[1], trees.tree_flatten(tree)[1])
    return ModuleCallEntry("", replace(signature, forward_arg_names=[entry.name for entry in given]))
