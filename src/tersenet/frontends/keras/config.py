"""The configurations of Keras 2 and Keras 3 in one form: layers, their calls, and what goes into each call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tersenet.errors import ModelError

FUNCTIONAL = {"Functional", "Model"}
# Classes of Keras that compute what their layers say; Network is of its first versions.
NETWORKS = {*FUNCTIONAL, "Sequential", "Network"}
# The packages whose classes are Keras's own.
OF_KERAS = {"keras", "tf_keras"}
_DEEPEST = 50  # networks within networks


@dataclass(frozen=True)
class Ref:
    """An output of one call of a layer."""

    layer: str
    call: int
    output: int


@dataclass(frozen=True)
class Call:
    """One call of a layer: its arguments, with a `Ref` wherever a tensor stands."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Described:
    """A layer as a configuration describes it.

    Args:
        kind: the name of its class.
        module: where Keras 3 says that the class is, "" in older files.
        registered: the name that its author registered the class under, "" for a class of Keras.
        calls: in the order in which they were made; a network that is a chain has none, for they follow from the order.
        build: what Keras 3 says that the layer was built with.
    """

    kind: str
    name: str
    config: Mapping[str, Any]
    module: str = ""
    registered: str = ""
    calls: tuple[Call, ...] = ()
    build: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_network(self) -> bool:
        return self.kind in NETWORKS or ("layers" in self.config and "output_layers" in self.config)

    @property
    def computes_its_layers(self) -> bool:
        """Whether it is a network of a class of Keras, whose layers say all that it computes."""
        return self.kind in NETWORKS and not self.registered


@dataclass(frozen=True)
class Network:
    """A network: its layers, and which of their outputs are its inputs and outputs (lists and dicts of `Ref`).

    Args:
        chained: each layer is called on all that the one before it returns, and how much that is its layers alone know.
    """

    name: str
    layers: tuple[Described, ...]
    inputs: Any
    outputs: Any
    chained: bool = False


def described(entry: Any) -> Described:
    """One layer of a configuration.

    Raises:
        ModelError: it is not one that Keras writes.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("class_name"), str):
        raise ModelError("its configuration must give the class_name of each layer")
    config = entry.get("config")
    if isinstance(config, list):  # a Sequential of the first versions
        config = {"layers": config}
    if not isinstance(config, Mapping):
        raise ModelError(f"the configuration of a {entry['class_name'][:80]} is absent")
    name = str(entry.get("name") or config.get("name") or entry["class_name"])
    kind = str(entry["class_name"]).rpartition(">")[2]
    build = entry.get("build_config")
    nodes = entry.get("inbound_nodes") or []
    if not isinstance(nodes, list):
        raise ModelError(f"the calls of {name[:80]!r} must be a list")
    module, registered = (str(entry.get(key) or "") for key in ("module", "registered_name"))
    registered = registered or (entry["class_name"] if ">" in entry["class_name"] else "")
    registered = "" if package_of(module) in OF_KERAS else registered
    calls = tuple(_call(node) for node in nodes)
    return Described(kind, name, config, module, registered, calls, build if isinstance(build, Mapping) else {})


def package_of(module: str) -> str:
    """The package that a module is in."""
    return module.partition(".")[0]


def network(layer: Described) -> Network:
    """The network that a layer is: functional, or a chain.

    Raises:
        ModelError: its configuration is not one that Keras writes.
    """
    entries = layer.config.get("layers")
    if not isinstance(entries, list) or not entries:
        raise ModelError(f"the network {layer.name!r} has no layers in its configuration; save it after it was built")
    layers = tuple(described(entry) for entry in entries)
    names = [inner.name for inner in layers]
    if len(set(names)) < len(names):
        raise ModelError(f"the names of the layers of {layer.name!r} must differ")
    if layer.kind == "Sequential":
        return _chain(layer, layers)
    if "input_layers" not in layer.config or "output_layers" not in layer.config:
        raise ModelError(f"the network {layer.name!r} does not say what its inputs and outputs are")
    layers = tuple(replace(inner, calls=tuple(_in_order(call, inner) for call in inner.calls)) for inner in layers)
    bases = _bases(layer, layers)
    inputs, outputs = (mapped(_refs(layer.config[key]), lambda ref: ref) for key in ("input_layers", "output_layers"))
    shifted = tuple(replace(inner, calls=tuple(_shifted(call, bases[0]) for call in inner.calls)) for inner in layers)
    return Network(layer.name, shifted, inputs, mapped(outputs, lambda ref: _shift(ref, bases[1])))


def _chain(layer: Described, layers: Sequence[Described]) -> Network:
    """A Sequential: each layer is called on what the one before it returns."""
    if layers[0].kind != "InputLayer":
        shape = _first_shape(layer, layers[0])
        taken = {inner.name for inner in layers}
        name = next(name for name in (f"{layers[0].name}_input{'_' * more}" for more in range(len(taken) + 1)) if name not in taken)
        first = Described("InputLayer", name, {"batch_shape": shape, "dtype": _input_dtype(layers[0])})
        layers = (first, *layers)
    chained = [layers[0]]
    for inner in layers[1:]:
        chained.append(replace(inner, calls=(Call((Ref(chained[-1].name, 0, 0),)),)))
    return Network(layer.name, tuple(chained), [Ref(layers[0].name, 0, 0)], [Ref(layers[-1].name, 0, 0)], chained=True)


def _in_order(call: Call, inner: Described) -> Call:
    """A call of a network on a dict of tensors, in the order of that network's own inputs."""
    names = inner.config.get("input_layers")
    if not isinstance(names, Mapping) or len(call.args) != 1 or not isinstance(call.args[0], Mapping) or set(call.args[0]) != set(names):
        return call
    return replace(call, args=({name: call.args[0][name] for name in names},))


def _first_shape(layer: Described, first: Described) -> Any:
    for config, keys in (
        (first.config, ("batch_input_shape", "batch_shape")),
        (layer.config, ("build_input_shape",)),
        (layer.build, ("input_shape",)),
    ):
        for key in keys:
            if isinstance(config.get(key), list):
                return config[key]
    if first.kind in {"Functional", "Model", "Sequential"}:
        inner = network(first)
        held = next(each for each in inner.layers if each.name == next(iter(leaves(inner.inputs))).layer)
        return held.config.get("batch_input_shape") or held.config.get("batch_shape")
    return first.build.get("input_shape")


def _input_dtype(first: Described) -> str:
    return "int32" if first.kind == "Embedding" else "float32"


def _call(node: Any) -> Call:
    """One entry of ``inbound_nodes``: a dict of arguments in Keras 3, ``[layer, call, output, kwargs]`` in lists and dicts of these before."""
    if _is_of_keras_3(node):
        args, kwargs = value(node.get("args", [])), value(node.get("kwargs", {}))
        if not isinstance(args, list) or not isinstance(kwargs, Mapping):
            raise ModelError("a call of a layer must have a list of arguments")
        return Call(tuple(args), kwargs)
    if not isinstance(node, list | Mapping):
        raise ModelError("a call of a layer must be a list or an object")
    beside: dict[str, Any] = {}
    first = _first_argument(node, beside)
    return Call(tuple(first) if isinstance(first, list) else (first,), beside)


def _is_of_keras_3(node: Any) -> bool:
    return isinstance(node, Mapping) and isinstance(node.get("args", []), list) and "args" in node


def _first_argument(structure: Any, kwargs: dict[str, Any], depth: int = 0) -> Any:
    """What a layer of Keras 2 is called on: tensors and constants in lists and dicts. Each of them has the other arguments of the call beside it."""
    if depth > _DEEPEST:
        raise ModelError("an argument of a call is nested too deeply")
    if isinstance(structure, Mapping):
        return {key: _first_argument(part, kwargs, depth + 1) for key, part in structure.items()}
    if isinstance(structure, list) and not (structure and isinstance(structure[0], str)):
        return [_first_argument(part, kwargs, depth + 1) for part in structure]
    found = _legacy(structure)
    if len(structure) > 3 and isinstance(structure[3], Mapping):
        kwargs.update({key: _legacy_argument(argument) for key, argument in structure[3].items()})
    return found


def _legacy(entry: Any) -> Any:
    if not isinstance(entry, list) or len(entry) < 3 or not isinstance(entry[0], str):
        raise ModelError("an argument of a call must be [layer, call, output]")
    if entry[0] == "_CONSTANT_VALUE":
        return value(entry[2])
    if not isinstance(entry[1], int) or not isinstance(entry[2], int):
        raise ModelError("an argument of a call must be [layer, call, output]")
    return Ref(entry[0], entry[1], entry[2])


def _legacy_argument(argument: Any) -> Any:
    """A tensor among keyword arguments is ``[layer, call, output]`` too, possibly within lists."""
    if isinstance(argument, list):
        if len(argument) >= 3 and isinstance(argument[0], str) and all(isinstance(part, int) for part in argument[1:3]):
            return _legacy(argument)
        return [_legacy_argument(part) for part in argument]
    return value(argument)


def value(serialized: Any, depth: int = 0) -> Any:
    """What Keras's serialization stands for: tensors as `Ref`, arrays, slices, plain values; nothing is looked up or run.

    Raises:
        ModelError: a function or another object of Python stands there.
    """
    if depth > _DEEPEST:
        raise ModelError("an argument of a call is nested too deeply")
    if isinstance(serialized, list):
        return [value(item, depth + 1) for item in serialized]
    if not isinstance(serialized, Mapping):
        return serialized
    kind, config = serialized.get("class_name"), serialized.get("config")
    if kind is None and set(serialized) == {"start", "stop", "step"}:  # a slice, as Keras 2 writes it
        return slice(*(value(serialized[key], depth + 1) for key in ("start", "stop", "step")))
    if kind is None:
        return {key: value(item, depth + 1) for key, item in serialized.items()}
    if kind == "__tuple__" and isinstance(serialized.get("items"), list):
        return [value(item, depth + 1) for item in serialized["items"]]
    if kind == "__ellipsis__":
        return Ellipsis
    if not isinstance(config, Mapping):
        raise ModelError(f"an argument of a call is a {str(kind)[:80]} without a configuration")
    if kind == "__keras_tensor__":
        return _legacy(config.get("keras_history"))
    if kind in {"__tensor__", "__numpy__"}:
        return np.asarray(config["value"], dtype=config["dtype"])
    if kind == "__slice__":
        return slice(*(value(config[key], depth + 1) for key in ("start", "stop", "step")))
    raise ModelError(f"an argument of a call is a {str(kind)[:80]}, which cannot be read from a file")


def _refs(structure: Any) -> Any:
    """``input_layers`` and ``output_layers``: one ``[layer, call, output]``, or lists or dicts of these."""
    if isinstance(structure, Mapping):
        return {str(key): _refs(part) for key, part in structure.items()}
    if not isinstance(structure, list):
        raise ModelError("the inputs and outputs of a network must be lists")
    if len(structure) >= 3 and isinstance(structure[0], str):
        return _legacy(structure)
    return [_refs(part) for part in structure]


def mapped(structure: Any, change: Callable[[Ref], Any]) -> Any:
    """A structure with every `Ref` in it changed."""
    if isinstance(structure, Ref):
        return change(structure)
    if isinstance(structure, Mapping):
        return {key: mapped(part, change) for key, part in structure.items()}
    return type(structure)(mapped(part, change) for part in structure) if isinstance(structure, list | tuple) else structure


def leaves(structure: Any) -> list[Ref]:
    """Every `Ref` of a structure, in order."""
    found: list[Ref] = []
    mapped(structure, found.append)
    return found


def _bases(layer: Described, layers: Sequence[Described]) -> tuple[dict[str, int], dict[str, int]]:
    """The number that the first call of each network inside has, among arguments and among outputs.

    A functional network has a first call of its own, which Keras 2 counts everywhere and Keras 3 counts among outputs only.
    """
    inside = {inner.name: len(inner.calls) for inner in layers if inner.is_network}
    within = [ref for inner in layers for call in inner.calls for ref in leaves((call.args, dict(call.kwargs)))]
    returned = leaves(_refs(layer.config["output_layers"]))

    def shifted(refs: Sequence[Ref]) -> dict[str, int]:
        return {name: 1 for name, calls in inside.items() if any(ref.layer == name and ref.call >= calls for ref in refs)}

    nodes = [node for entry in layer.config["layers"] for node in entry.get("inbound_nodes") or []]
    modern = any(inner.module for inner in layers) and all(_is_of_keras_3(node) for node in nodes)
    if modern:
        kinds = {inner.name: inner.kind for inner in layers}
        return shifted(within), {**{name: 1 for name in inside if kinds[name] in FUNCTIONAL}, **shifted(returned)}
    both = shifted([*within, *returned])
    return both, both


def _shifted(call: Call, bases: Mapping[str, int]) -> Call:
    return Call(mapped(call.args, lambda ref: _shift(ref, bases)), mapped(dict(call.kwargs), lambda ref: _shift(ref, bases)))


def _shift(ref: Ref, bases: Mapping[str, int]) -> Ref:
    return Ref(ref.layer, max(0, ref.call - bases.get(ref.layer, 0)), ref.output)
