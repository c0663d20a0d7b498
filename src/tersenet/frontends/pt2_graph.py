"""The JSON of an exported program -> a graph of ATen operators, from literal tables alone: nothing in the file is evaluated.

The format is that of ``torch/_export/serde/schema.py``, schema version 8.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx

from tersenet.errors import ModelError, UntrustedError
from tersenet.frontends.pt2_operators import OPERATORS

DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
LAYOUTS: Mapping[int, torch.layout] = {7: torch.strided}
MEMORY_FORMATS: Mapping[int, torch.memory_format] = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    3: torch.channels_last_3d,
    4: torch.preserve_format,
}
# Arithmetic on sizes.
SIZES: Mapping[str, Callable[..., Any]] = {
    **{
        f"_operator.{name}": getattr(operator, name)
        for name in ("eq", "ne", "le", "ge", "lt", "gt", "neg", "pos", "mul", "add", "sub", "floordiv", "mod", "pow", "truediv", "and_", "or_")
    },
    "math.trunc": math.trunc,
    "torch.sym_not": torch.sym_not,
    "torch.sym_int": torch.sym_int,
    "torch.sym_float": torch.sym_float,
    "torch.sym_ite": torch.sym_ite,
    "torch.sym_max": torch.sym_max,
    "torch.sym_min": torch.sym_min,
}
_TARGET = re.compile(r"^torch\.ops\.aten\.([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z_][A-Za-z0-9_]*)$")


def beyond(what: str) -> UntrustedError:
    """The error for what only torch's own reader can read."""
    return UntrustedError(
        f"{what} is beyond what is read safely. If you trust where the file comes from, --trust reads it with torch.export.load, "
        "which may run code that came with it; better: load the network from its Python class (file.py:name)."
    )


class GraphReader:
    """Builds the graph of one exported program.

    Args:
        program: the parsed ``model.json``.
        lifted: placeholder name -> the name of the parameter, buffer or constant behind it.
    """

    def __init__(self, program: Mapping[str, Any], lifted: Mapping[str, str]) -> None:
        self.record = program["graph_module"]
        self.lifted = lifted
        self.graph = fx.Graph()
        self.values: dict[str, Any] = {}

    def read(self) -> fx.Graph:
        """Placeholders are the network's inputs, ``get_attr`` nodes its parameters, and the output a dict by name."""
        record = self.record["graph"]
        for entry in record["inputs"]:
            self._input(entry)
        for node in record["nodes"]:
            self._operator(node)
        self.graph.output(self._outputs())
        return self.graph

    def _input(self, entry: Mapping[str, Any]) -> None:
        ((kind, value),) = entry.items()
        if kind == "as_tensor":
            name = value["name"]
            if name in self.lifted:
                self.values[name] = self.graph.get_attr(self.lifted[name])
            else:
                self.values[name] = self.graph.placeholder(_identifier(name))
        elif kind not in {"as_none", "as_int", "as_float", "as_bool", "as_string"}:  # a constant input is not read by any operator
            raise beyond(f"an input of kind {kind}")

    def _operator(self, record: Mapping[str, Any]) -> None:
        target = record["target"]
        if target in SIZES:
            function, names = SIZES[target], None
        else:
            function = aten_operator(target)
            names = [argument.name for argument in function._schema.arguments]
        args, kwargs = self._arguments(record["inputs"], names)
        node = self.graph.call_function(function, args, kwargs)
        self._name_results(node, record["outputs"], function)

    def _arguments(self, entries: list[Mapping[str, Any]], names: list[str] | None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments; an argument without a kind (older files) is positional where it fits."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for place, entry in enumerate(entries):
            value = self._value(entry["arg"])
            if names is not None and entry["name"] not in names:
                raise ModelError(f"an operator has no argument {entry['name']!r}")
            kind = entry.get("kind")
            if kind == 1 or (kind is None and (names is None or (place < len(names) and names[place] == entry["name"] and not kwargs))):
                args.append(value)
            else:
                kwargs[entry["name"]] = value
        return tuple(args), kwargs

    def _value(self, argument: Mapping[str, Any]) -> Any:
        ((kind, value),) = argument.items()
        if kind in _VALUES:
            return _VALUES[kind](self, value)
        raise beyond(f"an argument of kind {kind}")

    def _size(self, value: Mapping[str, Any]) -> Any:
        ((kind, content),) = value.items()
        return self.values[content] if kind == "as_name" else content

    def _optional(self, value: Mapping[str, Any]) -> Any:
        ((kind, content),) = value.items()
        return None if kind == "as_none" else self.values[content["name"]]

    def _device(self, value: Mapping[str, Any]) -> torch.device:
        if value["type"] != "cpu":
            raise ModelError(f"the network was exported on {value['type']}; export it on the CPU")
        return torch.device("cpu")

    def _name_results(self, node: fx.Node, outputs: list[Mapping[str, Any]], function: Any) -> None:
        """The names under which later operators read the result, or its parts."""
        names: list[str | None] = []
        for entry in outputs:
            ((kind, value),) = entry.items()
            if kind == "as_tensors":
                names += [part["name"] for part in value]
            else:
                names.append(_result_name(kind, value))
        returns = function._schema.returns if isinstance(function, torch._ops.OpOverload) else ()
        in_parts = len(returns) > 1 or (len(returns) == 1 and isinstance(returns[0].type, torch.ListType))
        if not in_parts:
            for name in names[:1]:
                if name is not None:
                    self.values[name] = node
            return
        for index, name in enumerate(names):
            if name is not None:
                self.values[name] = self.graph.call_function(operator.getitem, (node, index))

    def _outputs(self) -> dict[str, fx.Node]:
        entries = [next(iter(entry.items())) for entry in self.record["signature"]["output_specs"]]
        other = sorted({kind for kind, _ in entries} - {"user_output"})
        if other:
            raise ModelError(f"the network has side effects ({', '.join(other)}); take the state as an input and return its new value")
        flat = [self._value(content["arg"]) for _, content in entries]
        names = output_names(self.record, len(flat))
        return {name: node for name, node in zip(names, flat, strict=True) if isinstance(node, fx.Node)}


_VALUES: Mapping[str, Callable[[GraphReader, Any], Any]] = {
    "as_none": lambda reader, value: None,
    "as_tensor": lambda reader, value: reader.values[value["name"]],
    "as_tensors": lambda reader, value: [reader.values[part["name"]] for part in value],
    "as_optional_tensor": lambda reader, value: reader._optional(value),
    "as_optional_tensors": lambda reader, value: [reader._optional(part) for part in value],
    "as_int": lambda reader, value: int(value),
    "as_ints": lambda reader, value: [int(part) for part in value],
    "as_float": lambda reader, value: float(value),
    "as_floats": lambda reader, value: [float(part) for part in value],
    "as_bool": lambda reader, value: bool(value),
    "as_bools": lambda reader, value: [bool(part) for part in value],
    "as_string": lambda reader, value: str(value),
    "as_sym_int": lambda reader, value: reader._size(value),
    "as_sym_ints": lambda reader, value: [reader._size(part) for part in value],
    "as_sym_float": lambda reader, value: reader._size(value),
    "as_sym_bool": lambda reader, value: reader._size(value),
    "as_scalar_type": lambda reader, value: DTYPES[value],
    "as_memory_format": lambda reader, value: MEMORY_FORMATS[value],
    "as_layout": lambda reader, value: LAYOUTS[value],
    "as_device": lambda reader, value: reader._device(value),
}


def aten_operator(target: str) -> torch._ops.OpOverload:
    """The operator of ATen with this full name.

    Raises:
        UntrustedError: it is not in the table of operators that compute on tensors and nothing else.
    """
    found = _TARGET.match(target)
    if found is None or found[1] not in OPERATORS:
        raise beyond(f"the operator {str(target)[:100]}")
    overload = getattr(getattr(torch.ops.aten, found[1], None), found[2], None)
    if not isinstance(overload, torch._ops.OpOverload):
        raise ModelError(f"this torch ({torch.__version__}) has no operator {target[:100]}")
    return overload


def _result_name(kind: str, value: Any) -> str | None:
    if kind == "as_none":
        return None
    if kind in {"as_sym_int", "as_sym_float", "as_sym_bool"}:
        return value["as_name"]
    if kind == "as_tensor":
        return value["name"]
    raise beyond(f"a result of kind {kind}")


def _identifier(name: str) -> str:
    if not name.isidentifier():
        raise ModelError(f"an input is called {name[:80]!r}")
    return name


def output_names(record: Mapping[str, Any], count: int) -> list[str]:
    """Names of the outputs: ``output``, ``output_0`` ..., or the keys of a dict that the network returns."""
    from tersenet.graph.signature import named_outputs

    spec = next((entry["signature"]["out_spec"] for entry in record["module_call_graph"] if entry["fqn"] == "" and entry.get("signature")), None)
    places = iter(torch.arange(count))
    tree = _tree(json.loads(spec)[1], places) if spec else list(places)
    rest = list(places)
    named = {int(place): name for name, place in named_outputs(tree).items()} if tree is not None else {}
    if rest or len(named) != count:
        return ["output"] if count == 1 else [f"output_{index}" for index in range(count)]
    return [named[index] for index in range(count)]


def _tree(spec: Mapping[str, Any], places: Any) -> Any:
    """The containers that a network's result was flattened from, with places for tensors."""
    children = spec.get("children_spec", [])
    if spec["type"] is None:
        return next(places, None)
    if spec["type"] in {"builtins.dict", "collections.OrderedDict"}:
        keys = json.loads(spec["context"]) if isinstance(spec["context"], str) else spec["context"]
        return {str(key): _tree(child, places) for key, child in zip(keys, children, strict=True)}
    return [_tree(child, places) for child in children]
