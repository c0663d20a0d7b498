"""Names for what goes into a torch module and comes out of it, however it is nested."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from tersenet.errors import ModelError
from tersenet.model import as_tensors


@dataclass(frozen=True)
class Call:
    """One call of a module on its example inputs, taken apart.

    Args:
        tensors: the tensors among the arguments, in the order of the module's signature.
        names: of the tensors.
        arguments: puts other tensors into the places of these; returns the call's args and kwargs.
    """

    tensors: tuple[torch.Tensor, ...]
    names: tuple[str, ...]
    arguments: Callable[[Sequence[torch.Tensor]], tuple[tuple[Any, ...], dict[str, Any]]]


def bind(module: torch.nn.Module, example_inputs: Any) -> Call:
    """The call ``module(*example_inputs)``, or ``module(**example_inputs)`` for a dict that names the parameters of forward.

    Raises:
        ModelError: the arguments do not fit forward, or hold no tensor.
    """
    args, kwargs = _arguments(module, example_inputs)
    try:
        bound = inspect.signature(module.forward).bind(*args, **kwargs)
    except (TypeError, ValueError) as error:
        raise ModelError(f"the example inputs do not fit {type(module).__name__}.forward: {error}.") from error
    roots = _root_names(bound)
    args, kwargs = bound.args, bound.kwargs
    leaves, spec = pytree.tree_flatten_with_path((args, kwargs))
    values = [_as_tensor(leaf) for _, leaf in leaves]
    places = [place for place, value in enumerate(values) if isinstance(value, torch.Tensor)]
    if not places:
        raise ModelError(
            f"the example inputs of {type(module).__name__} hold no tensor; give one for each input, such as (torch.zeros(1, 3, 32, 32),)."
        )

    def arguments(tensors: Sequence[torch.Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        filled = list(values)
        for place, tensor in zip(places, tensors, strict=True):
            filled[place] = tensor
        return pytree.tree_unflatten(filled, spec)

    names = unique([_input_name(leaves[place][0], roots) for place in places])
    return Call(tuple(values[place] for place in places), names, arguments)


def _arguments(module: torch.nn.Module, example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(example_inputs, Mapping):
        parameters = inspect.signature(module.forward).parameters
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        return ((), dict(example_inputs)) if takes_any or set(example_inputs) <= set(parameters) else ((example_inputs,), {})
    if isinstance(example_inputs, tuple | list):
        return tuple(example_inputs), {}
    return (example_inputs,), {}


def _root_names(bound: inspect.BoundArguments) -> dict[tuple[int, Any], str]:
    """(0, position) or (1, keyword) -> the name of forward's parameter."""
    names: dict[tuple[int, Any], str] = {(1, keyword): keyword for keyword in bound.kwargs}
    position = 0
    for name, value in bound.arguments.items():
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            for index in range(len(value)):
                names[(0, position)] = f"{name}_{index}"
                position += 1
        elif position < len(bound.args) and name not in bound.kwargs:
            names[(0, position)] = name
            position += 1
    return names


def _input_name(path: Sequence[Any], roots: Mapping[tuple[int, Any], str]) -> str:
    keys: list[Any] = [getattr(key, "idx", getattr(key, "key", getattr(key, "name", None))) for key in path]
    name = roots[(keys[0], keys[1])]
    for key in keys[2:]:
        name = key if isinstance(key, str) else f"{name}_{key}"
    return name


def _as_tensor(value: Any) -> Any:
    """Arrays as tensors; float64 arrays as float32, which is what networks take."""
    if isinstance(value, np.ndarray):
        return as_tensors([value.astype(np.float32) if value.dtype == np.float64 else value])[0]
    return value


def unique(names: Iterable[str]) -> tuple[str, ...]:
    """The names, with a number after those that came before.

    >>> unique(["a", "b", "a"])
    ('a', 'b', 'a_2')
    """
    result: list[str] = []
    for name in names:
        number, candidate = 1, name
        while candidate in result:
            number += 1
            candidate = f"{name}_{number}"
        result.append(candidate)
    return tuple(result)


def named_outputs(value: Any) -> dict[str, torch.Tensor]:
    """The tensors that a network returned, by name.

    A lone tensor is ``output``; the parts of a tuple are ``output_0``, ``output_1``; those of a dict, a named tuple or a
    dataclass have their own names. None is left out.

    Raises:
        ModelError: something else than a tensor is returned, or no tensor at all.
    """
    pairs = list(_leaves(value, "output"))
    if not pairs:
        raise ModelError("the network returns no tensor.")
    return dict(zip(unique([name for name, _ in pairs]), (tensor for _, tensor in pairs), strict=True))


def _leaves(value: Any, name: str) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield name, value
    elif value is None:
        return
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, str(key))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for field, part in zip(value._fields, value, strict=True):
            yield from _leaves(part, field)
    elif isinstance(value, tuple | list):
        for index, part in enumerate(value):
            yield from _leaves(part, f"{name}_{index}")
    elif dataclasses.is_dataclass(value):
        for entry in dataclasses.fields(value):
            yield from _leaves(getattr(value, entry.name), entry.name)
    else:
        raise ModelError(
            f"the network returns a {type(value).__name__} ({name}); it must return tensors, alone or in tuples, lists, dicts or dataclasses."
        )
