"""From a described network to modules: each layer converted by its row of the table, shapes worked out on the way."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch._subclasses import FakeTensorMode

from tersenet.annotations import Noise, Penalty
from tersenet.errors import ModelError, TersenetError
from tersenet.frontends.keras import operations, tensorflow_functions, wrapped
from tersenet.frontends.keras.config import Call, Described, Network, Ref, leaves, mapped, network
from tersenet.frontends.keras.layer import Convert, Layer, Shapes, Weights
from tersenet.frontends.keras.layers.regularization import Noisy, watch
from tersenet.frontends.keras.network import KerasNetwork, Step, Value, accepted, references, takes_masks, takes_states
from tersenet.frontends.keras.penalties import Kept, Probe, activity, kept
from tersenet.frontends.keras.regularizers import Unknown, text
from tersenet.frontends.keras.table import LAYERS, PASSES_MASK, REFUSED
from tersenet.frontends.keras.weights import forget, of_layers
from tersenet.graph.recurrent import shapes_only

# Sizes that stand for an open axis while shapes are worked out: what differs between the two is open too. Large enough for deep convolutions.
OPEN_SIZES = (224, 256)
BATCH = 2
_DEEPEST = 30
_SUBCLASS = (
    "a class of its author's own, and what its call computes is not in the file: if it is nothing else than what its layers do, give "
    "tersenet.load the network itself, as Keras loads it; else build all of it as a functional keras.Model(inputs, outputs) and save that"
)
_REGISTER = "give a function that converts it: tersenet.load_keras(path, layers={{{!r}: convert}})"

# One output at build time: its form (no numbers) at each of the sizes.
Probes = list[list[Value]]
_DTYPES = {"int32": torch.int32, "int64": torch.int64, "uint8": torch.uint8, "int8": torch.int8, "int16": torch.int16, "bool": torch.bool}


class Builder:
    """Builds modules.

    Args:
        custom: name of a class, with the package that it was registered under or without, -> the user's function that converts it; goes
            before the table.
        version: of the Keras that wrote the file.
        checked: every class of its networks computes what its layers say.
    """

    def __init__(self, custom: Mapping[str, Convert] | None = None, version: str = "", checked: bool = False) -> None:
        given = custom or {}
        self.custom = {name.rpartition(">")[2]: convert for name, convert in given.items()} | dict(given)
        self.third = version.startswith("3")
        self.checked = checked
        self.notes: list[str] = []
        self.left: list[tuple[str, str]] = []  # regularizers and constraints that are not kept
        self.frozen: list[str] = []  # layers that the source does not train
        self.marks: list[Noise | Penalty] = []
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)
        self._depth = 0
        self._within = 0

    def network(self, layer: Described, weights: Weights, shapes: Shapes, dtypes: Sequence[torch.dtype]) -> KerasNetwork:
        """The module of a network, functional or a chain.

        Args:
            shapes: of its inputs, None for any size.

        Raises:
            ModelError: a layer of it cannot be converted, or does not fit what comes in; its class is not of Keras.
        """
        if not (layer.computes_its_layers or self.checked):
            raise ModelError(f"the network {layer.name!r} is a {layer.registered or layer.kind}, {_SUBCLASS}")
        found = network(layer)
        built = KerasNetwork(found.inputs, found.outputs)
        if len(leaves(found.inputs)) != len(shapes):
            raise ModelError(f"the network {layer.name!r} takes {len(leaves(found.inputs))} inputs, and {len(shapes)} are given to it")
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ModelError("its networks within networks are nested too deeply")
        try:
            _Assembly(self, found, built, weights).run(self.probes(shapes, dtypes))
        finally:
            self._depth -= 1
        return built

    def probes(self, shapes: Shapes, dtypes: Sequence[torch.dtype]) -> Probes:
        sizes = OPEN_SIZES if any(None in shape[1:] for shape in shapes) else OPEN_SIZES[:1]
        with self._fake:
            return [
                [
                    Value(torch.zeros([_size(axis, size, open_size) for axis, size in enumerate(shape)], dtype=dtype))
                    for shape, dtype in zip(shapes, dtypes, strict=True)
                ]
                for open_size in sizes
            ]

    def module(self, layer: Described, weights: Weights, shapes: Shapes, dtypes: Sequence[torch.dtype]) -> torch.nn.Module:
        """The module of one layer, whatever it is."""
        if layer.is_network and layer.kind not in self.custom:
            return self.network(layer, weights, shapes, dtypes)
        if operations.is_operation(layer):
            return (tensorflow_functions if layer.kind in operations.OF_TENSORFLOW else operations).converted(layer)
        _check_policy(layer)
        return self.convert(Layer(layer.kind, layer.name, layer.config, weights, shapes, self.convert, layer.registered))

    def convert(self, layer: Layer) -> torch.nn.Module:
        """The module of a layer by its row of the table.

        Raises:
            ModelError: there is none, or its weights do not fit.
        """
        found = self.custom.get(layer.registered) or self.custom.get(layer.kind)
        if found is None and wrapped.is_wrapper(layer):
            return wrapped.stripped(layer)
        described = Described(layer.kind, layer.name, layer.config, registered=layer.registered)
        if found is None and described.is_network:
            return self.network(described, layer.weights, layer.input_shapes, [torch.float32] * len(layer.input_shapes))
        if found is None:
            found = self._from_table(layer)
        self._within += 1
        try:
            module = found(layer)
        except TersenetError:
            raise
        except Exception as error:
            shapes = ", ".join(str(tuple(array.shape)) for array in layer.weights.own) or "none"
            raise ModelError(
                f"the layer {layer.name!r} ({layer.kind}) cannot be made from its configuration and its weights ({shapes}): "
                f"{type(error).__name__}: {str(error)[:160]}"
            ) from error
        finally:
            self._within -= 1
        if not isinstance(module, torch.nn.Module):
            raise ModelError(f"the converter of {layer.kind} must return a torch module, got {type(module).__name__}")
        self.notes += [f"{layer.name}: {note}" for note in getattr(module, "notes", ())]
        self._keep(layer, module, None if found in self.custom.values() else lambda weights: found(replace(layer, weights=weights)))
        return module

    def _keep(self, layer: Layer, module: torch.nn.Module, probe: Probe | None) -> None:
        """Keep what only training feels beside the module: as its attribute, and as marks in what it computes."""
        if layer.config.get("trainable") is False:  # Keras neither changes its weights nor adds what they cost
            self.frozen += [layer.name] * any(True for _ in module.parameters())
            own = Kept()
        else:
            own = kept(layer, module, probe)
        self.left += own.left
        if own.penalties or own.constraints:
            module.kept = own  # type: ignore[assignment]
        if isinstance(module, Noisy) and module.noise.amount:
            module.number = self._marked(module.noise)
        try:
            cost = activity(layer)
            if cost is not None and self._within:
                raise Unknown("it is of values inside another layer")
        except Unknown as why:
            self.left.append(("_regularizer", f"{layer.name} (activity: {text(layer.config.get('activity_regularizer'))}): {why}"))
            return
        if cost is not None:
            watch(module, self._marked(cost))

    def _marked(self, entry: Noise | Penalty) -> int:
        self.marks.append(entry)
        return len(self.marks) - 1

    def _from_table(self, layer: Layer) -> Convert:
        if layer.kind in REFUSED and not layer.registered:
            raise ModelError(f"the layer {layer.name!r} is a {layer.kind}, which is not read: {REFUSED[layer.kind]}")
        if layer.kind not in LAYERS or layer.registered:
            raise ModelError(
                f"the layer {layer.name!r} is a {layer.registered or layer.kind}, which is none of Keras's own; {_REGISTER.format(layer.kind)}"
            )
        module, function = LAYERS[layer.kind]
        return getattr(importlib.import_module(module), function)

    def run(self, built: KerasNetwork, step: Step, known: Mapping[tuple[str, int], list[Value]]) -> list[Value]:
        """One call, on tensors without numbers."""
        with self._fake, torch.no_grad(), shapes_only():
            return built.call(step, known)


class _Assembly:
    """One network on its way: converts layers as their inputs become known."""

    def __init__(self, builder: Builder, found: Network, built: KerasNetwork, weights: Weights) -> None:
        self.builder, self.found, self.built = builder, found, built
        # Operations of Keras 3 are no layers, and do not count among them.
        layers = [layer for layer in found.layers if not operations.is_operation(layer)]
        held = of_layers(weights, [layer.kind for layer in layers])
        self.weights = {layer.name: tree for layer, tree in zip(layers, held, strict=True)}
        self.modules: dict[str, str] = {}
        self.known: list[dict[tuple[str, int], list[Value]]] = []

    def run(self, probes: Probes) -> None:
        inputs = leaves(self.found.inputs)
        self.known = [{(ref.layer, ref.call): [value] for ref, value in zip(inputs, probe, strict=True)} for probe in probes]
        given = {ref.layer for ref in inputs}
        waiting = [(layer, number) for layer in self.found.layers if layer.name not in given for number in range(len(layer.calls))]
        names = {layer.name for layer in self.found.layers}
        for layer, number in waiting:
            for ref in references(layer.calls[number]):
                if ref.layer not in names:
                    raise ModelError(f"the layer {layer.name!r} is called on {ref.layer[:80]!r}, which is no layer of the network")
        while waiting:
            left = []
            for layer, number in waiting:
                before = number == 0 or (layer.name, number - 1) in self.known[0]
                if before and all(self._is_known(ref) for ref in references(layer.calls[number])):
                    self._step(layer, number)
                else:
                    left.append((layer, number))
            if len(left) == len(waiting):
                raise ModelError(f"its graph has loops or loose ends: {', '.join(layer.name for layer, _ in left[:3])} cannot be computed")
            waiting = left
        for ref in leaves(self.found.outputs):
            if not self._is_known(ref):
                raise ModelError(f"its output {ref.layer[:80]!r} is computed by no layer")
        self.built.returned = self._all_of(self.found.outputs)

    def _all_of(self, structure: Any) -> Any:
        """In a chain, every output of a layer where its first is named."""

        def opened(ref: Ref) -> Any:
            count = len(self.known[0][ref.layer, ref.call])
            return ref if count == 1 else [replace(ref, output=place) for place in range(count)]

        return mapped(structure, opened) if self.found.chained else structure

    def _is_known(self, ref: Ref) -> bool:
        return 0 <= ref.output < len(self.known[0].get((ref.layer, ref.call), ()))

    def _step(self, layer: Described, number: int) -> None:
        call = replace(layer.calls[number], args=self._all_of(layer.calls[number].args))
        if layer.name not in self.modules:
            shapes, dtypes = self._shapes(call)
            weights = self.weights.pop(layer.name, Weights())
            module = self.builder.module(layer, weights, shapes, dtypes)
            forget(weights)
            module.eval()
            self.modules[layer.name] = _attribute(self.built, wrapped.plain_name(layer))
            self.built.add_module(self.modules[layer.name], module)
        module = self.built.get_submodule(self.modules[layer.name])
        self._note_training(layer, call)
        # Keras 3 gives a layer the mask of its input where no other tensor is given by a name of its own, as the initial state is; and it takes
        # the masks off what MultiHeadAttention attends to, so that later layers see none.
        masks = takes_masks(module) and not (self.builder.third and takes_states(module) and len(_given(call)) > 1)
        unmasks = self.builder.third and layer.kind == "MultiHeadAttention"
        call = call if isinstance(module, KerasNetwork) else accepted(module, call, layer.name)
        passes = layer.kind in PASSES_MASK and not operations.is_operation(layer)
        step = Step(self.modules[layer.name], layer.name, number, call, masks, passes, unmasks)
        for known in self.known:
            try:
                known[layer.name, number] = self.builder.run(self.built, step, known)
            except TersenetError:
                raise
            except Exception as error:
                came = ", ".join(str(shape) for shape in self._shapes(call)[0])
                raise ModelError(
                    f"the layer {layer.name!r} ({layer.kind}) does not fit what comes in, of shape {came}: {str(error).splitlines()[0][:160]}"
                ) from error
        self.built.steps.append(step)

    def _note_training(self, layer: Described, call: Call) -> None:
        if call.kwargs.get("training"):  # False is what Keras writes for every call
            self.builder.notes.append(f"{layer.name} is called with training={call.kwargs['training']}, which is not kept")

    def _shapes(self, call: Call) -> tuple[Shapes, list[torch.dtype]]:
        """The shapes that come in: the batch open, and each size that differs between the probes."""
        shapes, dtypes = [], []
        for ref in leaves((list(call.args), {key: given for key, given in call.kwargs.items() if not key.endswith("mask")})):
            tensors: list[Any] = [known[ref.layer, ref.call][ref.output].tensor for known in self.known]
            if not isinstance(tensors[0], torch.Tensor):  # sizes of a tensor, as tf.shape gives them
                continue
            sizes = list(zip(*(tensor.shape for tensor in tensors), strict=True))
            shapes.append(tuple(None if axis == 0 or len(set(each)) > 1 else int(each[0]) for axis, each in enumerate(sizes)))
            dtypes.append(tensors[0].dtype)
        return tuple(shapes), dtypes


def _given(call: Call) -> list[Any]:
    """The arguments of a call that are tensors or hold some, masks left out."""
    return [argument for argument in (*call.args, *(given for key, given in call.kwargs.items() if key != "mask")) if leaves(argument)]


def _check_policy(layer: Described) -> None:
    """Floats of every width become float32; integers that Keras itself has quantized weights to do not."""
    policy = layer.config.get("dtype")
    inner = policy.get("config") if isinstance(policy, Mapping) else None
    name = str(inner.get("name") if isinstance(inner, Mapping) else policy)
    if "_from_" in name or (isinstance(policy, Mapping) and "Quantized" in str(policy.get("class_name"))):
        raise ModelError(f"the layer {layer.name!r} was quantized by Keras itself ({name}); save the network before model.quantize, in float")


def _attribute(built: torch.nn.Module, name: str) -> str:
    """A layer's name as a module can have it."""
    cleaned = re.sub(r"\W", "_", name) or "layer"
    cleaned = f"layer_{cleaned}" if not cleaned[0].isalpha() else cleaned
    while hasattr(built, cleaned):
        cleaned += "_"
    return cleaned


def _size(axis: int, size: int | None, open_size: int) -> int:
    return size if size is not None else (BATCH if axis == 0 else open_size)


def dtype_of(name: Any) -> torch.dtype:
    """The type of an input; every width of floats is float32 here."""
    return _DTYPES.get(str(name), torch.float32)
