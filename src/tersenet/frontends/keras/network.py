"""A Keras network as a torch module: its layers called in the order of its graph, with masks that travel as Keras's do."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.keras.config import Call, Ref, leaves, mapped

# Arguments of a Keras call that say how to run, not what to compute.
_HOW = {"training", "mask", "name"}


@dataclass(frozen=True)
class Step:
    """One call of a layer.

    Args:
        module: name of the layer's module within the network.
        layer: the layer's name in the configuration.
        call: which call of the layer it is.
        given: what it is called with.
        masks: the layer takes the masks of its inputs; else only one that it is called with.
        passes: the mask of its first input is that of its output.
        unmasks: what it is called with has no mask afterwards.
    """

    module: str
    layer: str
    call: int
    given: Call
    masks: bool
    passes: bool
    unmasks: bool = False


@dataclass
class Value:
    """A tensor and its mask: False where a step of a sequence is only padding."""

    tensor: torch.Tensor
    mask: torch.Tensor | None = None


class KerasNetwork(torch.nn.Module):
    """Layers by their names, called step by step.

    Args:
        inputs, outputs: structures (lists, dicts) of `Ref`.
    """

    def __init__(self, inputs: Any, outputs: Any) -> None:
        super().__init__()
        self.steps: list[Step] = []
        self.given = inputs
        self.returned = outputs

    def run(self, values: Sequence[Value]) -> list[Value]:
        """Outputs, in order, for inputs in order."""
        known = {(ref.layer, ref.call): [value] for ref, value in zip(leaves(self.given), values, strict=True)}
        for step in self.steps:
            known[step.layer, step.call] = self.call(step, known)
        return [known[ref.layer, ref.call][ref.output] for ref in leaves(self.returned)]

    def call(self, step: Step, known: Mapping[tuple[str, int], list[Value]]) -> list[Value]:
        module: Any = self.get_submodule(step.module)
        args = [mapped(argument, lambda ref: known[ref.layer, ref.call][ref.output]) for argument in opened(step.given.args)]
        kwargs = {key: mapped(argument, lambda ref: known[ref.layer, ref.call][ref.output]) for key, argument in step.given.kwargs.items()}
        explicit = kwargs.pop("mask", None)
        if isinstance(module, KerasNetwork):
            return module.run([value if isinstance(value, Value) else Value(value) for value in args])
        values = [value for value in args if isinstance(value, Value)]
        masks = [value.mask for value in values]
        mask: Any = masks[0] if len(masks) == 1 else masks
        if explicit is not None:
            mask = _tensors(explicit)
        arguments = [_tensors(argument) for argument in args]
        named = {key: _tensors(argument) for key, argument in kwargs.items()}
        if step.masks or (explicit is not None and takes_masks(module)):
            named["mask"] = mask
        results = module(*arguments, **named)
        results = list(results) if isinstance(results, tuple | list) else [results]
        if hasattr(module, "output_mask"):
            passed = module.output_mask(*arguments, mask=mask)
        else:
            passed = _first(mask) if step.passes else None
        if step.unmasks:
            for value in values:
                value.mask = None
        return [Value(tensor, passed if place == 0 else None) for place, tensor in enumerate(results)]

    def forward(self, *inputs: torch.Tensor) -> Any:
        results = [value.tensor for value in self.run([Value(tensor) for tensor in inputs])]
        return results[0] if len(results) == 1 else tuple(results)


class NamedNetwork(torch.nn.Module):
    """The outermost network, whose inputs and outputs have names."""

    def __init__(self, network: KerasNetwork, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        super().__init__()
        for name, module in network.named_children():
            self.add_module(name, module)
        self._network = [network]  # in a list, for its layers are this module's own already
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)

    def forward(self, /, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        values = [Value(inputs[name]) for name in self._inputs]
        results = [value.tensor for value in self._network[0].run(values)]
        return dict(zip(self._outputs, results, strict=True))


def opened(args: Sequence[Any]) -> list[Any]:
    """The arguments one by one, lists of tensors opened."""
    found: list[Any] = []
    for argument in args:
        if isinstance(argument, list | tuple) and leaves(argument):
            found += opened(argument)
        elif isinstance(argument, Mapping) and leaves(argument):
            found += opened(list(argument.values()))
        else:
            found.append(argument)
    return found


def _tensors(argument: Any) -> Any:
    if isinstance(argument, Value):
        return argument.tensor
    if isinstance(argument, np.ndarray):
        return torch.from_numpy(argument.astype(np.float32) if argument.dtype == np.float64 else argument)
    if isinstance(argument, list | tuple):
        return type(argument)(_tensors(part) for part in argument)
    if isinstance(argument, Mapping):
        return {key: _tensors(part) for key, part in argument.items()}
    return argument


def _first(mask: Any) -> torch.Tensor | None:
    return next((part for part in mask), None) if isinstance(mask, list | tuple) else mask


def accepted(module: torch.nn.Module, call: Call, name: str) -> Call:
    """A call with the arguments that the module takes: defaults and how to run are left out, the initial state of a recurrent layer and other
    tensors given as lists follow the inputs.

    Raises:
        ModelError: it is called with something that the module does not take.
    """
    parameters = inspect.signature(module.forward).parameters
    anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    args, kwargs = list(call.args), {}
    left = dict(call.kwargs)
    for key in list(parameters)[len(opened(args)) :]:  # tensors that are given by name in the order of the parameters
        if not leaves(left.get(key)) or key in _HOW:
            break
        args.append(left.pop(key))
    for key, argument in left.items():
        if key == "initial_state" and argument is not None:
            args.append(argument)
        elif key == "mask" and leaves(argument):
            kwargs[key] = argument
        elif key in _HOW or argument is None:
            continue
        elif anything or key in parameters:
            kwargs[key] = argument
        elif argument is not False:
            raise ModelError(f"the layer {name!r} is called with {key}={str(argument)[:60]}, which is not converted")
    return Call(tuple(args), kwargs)


def takes_masks(module: torch.nn.Module) -> bool:
    """Whether a module's forward has an argument `mask`."""
    return "mask" in inspect.signature(module.forward).parameters


def takes_states(module: torch.nn.Module) -> bool:
    """Whether states may follow a module's input."""
    return "states" in inspect.signature(module.forward).parameters


def references(call: Call) -> list[Ref]:
    """Every output of another call that a call needs."""
    return leaves((list(call.args), dict(call.kwargs)))
