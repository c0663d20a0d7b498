"""What a ``.pt2`` of ours holds beside the exported program: the model as it is, every name and annotation in it, as plain JSON.

torch's own part of the archive keeps neither the names of all operators nor annotations and plans. This part does, over the
same stored tensors, and is read from literal tables alone, as the other is.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import fx

from tersenet.annotations import Annotations
from tersenet.errors import ModelError
from tersenet.frontends.pt2_graph import DTYPES, LAYOUTS, MEMORY_FORMATS, SIZES, aten_operator, beyond
from tersenet.graph.symbolic import symbolic
from tersenet.graph.walk import layer_of
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.tensors import TensorSpec

FILE = "tersenet.json"
ENTRY = f"extra/{FILE}"
_VERSION = 1
_FUNCTIONS: Mapping[str, Any] = {**SIZES, "_operator.getitem": operator.getitem}
_NAMED: Mapping[str, Mapping[str, Any]] = {
    "dtype": {str(value): value for value in DTYPES.values()},
    "layout": {str(value): value for value in LAYOUTS.values()},
    "memory_format": {str(value): value for value in MEMORY_FORMATS.values()},
    "device": {"cpu": torch.device("cpu")},
    "number": {str(value): value for value in (math.inf, -math.inf)},
}


def record_of(model: Model) -> dict[str, Any]:
    """A model as plain JSON, but for its tensors.

    Raises:
        ModelError: an argument of an operator that has no word here.
    """
    nodes = [[node.op, node.name, _target(node), _plain(node.args), _plain(node.kwargs), _layer(node)] for node in model.graph.graph.nodes]
    return {
        "version": _VERSION,
        "name": model.name,
        "format": model.format,
        "fixed_batch": model.fixed_batch,
        "provenance": dict(model.provenance),
        "inputs": [asdict(spec) for spec in model.inputs],
        "outputs": [asdict(spec) for spec in model.outputs],
        "nodes": nodes,
        "plans": [plan.to_json() for plan in model.plans],
        "annotations": model.annotations.to_json(),
    }


def model_of(record: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> Model:
    """The model that `record_of` wrote.

    Args:
        record: what was written.
        state: tensors by name.

    Raises:
        ModelError, UntrustedError: the record is damaged, or names an operator that does more than compute.
    """
    if record["version"] != _VERSION:
        raise beyond(f"version {record['version']} of our own part")
    graph = fx.Graph()
    made: dict[str, fx.Node] = {}
    for op, name, target, args, kwargs, layer in record["nodes"]:
        if op == "get_attr" and target not in state:
            raise ModelError(f"the tensor {str(target)[:80]} is missing")
        function = _function(target) if op == "call_function" else target
        if op not in ("placeholder", "get_attr", "call_function", "output") or not str(name).isidentifier():
            raise ModelError(f"a node is {str(op)[:40]} {str(name)[:80]!r}")
        made[name] = graph.create_node(op, function, tuple(_value(args, made)), _value(kwargs, made), name=name)
        if layer:
            made[name].meta["nn_module_stack"] = {"layer": (str(layer), "")}
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    module = fx.GraphModule({target: state[target] for target in used}, graph, "Network")
    graph.lint()
    inputs, outputs = (tuple(_spec(spec) for spec in record[side]) for side in ("inputs", "outputs"))
    return Model(
        graph=symbolic(module, inputs).eval(),
        inputs=inputs,
        outputs=outputs,
        name=record["name"],
        format=record["format"],
        fixed_batch=record["fixed_batch"],
        provenance=record["provenance"],
        plans=tuple(QuantizationPlan.from_json(plan) for plan in record["plans"]),
        annotations=Annotations.from_json(record["annotations"]),
    )


def _target(node: fx.Node) -> str:
    if node.op != "call_function":
        return str(node.target)
    if isinstance(node.target, torch._ops.OpOverload):
        return f"torch.ops.{node.target}"
    return next((name for name, function in _FUNCTIONS.items() if function is node.target), str(node.target))


def _function(target: str) -> Any:
    return _FUNCTIONS[target] if target in _FUNCTIONS else aten_operator(target)


def _layer(node: fx.Node) -> str:
    """The layer that an operator comes from, as the tracer knew it; "" where it did not."""
    return layer_of(node) if node.op == "call_function" and node.meta.get("nn_module_stack") else ""


def _plain(value: Any) -> Any:
    if isinstance(value, fx.Node):
        return {"node": value.name}
    if isinstance(value, tuple):
        return {"tuple": [_plain(item) for item in value]}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {"dict": {key: _plain(item) for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | str) or (isinstance(value, float) and math.isfinite(value)):
        return value
    for kind, known in _NAMED.items():
        if str(value) in known:
            return {kind: str(value)}
    raise ModelError(f"the argument {value!r} of an operator cannot be written to a file.")


def _value(plain: Any, made: Mapping[str, fx.Node]) -> Any:
    if isinstance(plain, list):
        return [_value(item, made) for item in plain]
    if not isinstance(plain, Mapping):
        return plain
    ((kind, content),) = plain.items()
    if kind == "node":
        return made[content]
    if kind == "tuple":
        return tuple(_value(item, made) for item in content)
    if kind == "dict":
        return {key: _value(item, made) for key, item in content.items()}
    return _NAMED[kind][content]


def _spec(record: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(**{**record, "shape": tuple(record["shape"])})
