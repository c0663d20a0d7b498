"""How constants of a graph come from others: what rewriting passes computed is recorded, and can be computed again in a graph that learns.

A deployable graph holds folded weights, transposed matrices and computed tables. A network that learns must have them follow its
parameters at every step, with gradients through them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Made:
    """How a tensor was computed: a function of tensors and plain values."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    keywords: Mapping[str, Any]


class Tape(TorchFunctionMode):
    """While it is entered, remembers every tensor that is computed from the named ones.

    Args:
        named: name -> tensor; the first of several names of one tensor counts.
    """

    def __init__(self, named: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        for name, tensor in named.items():
            self.names.setdefault(id(tensor), name)
        self.made: dict[int, Made] = {}
        self.held: list[Tensor] = list(named.values())  # a tensor that is gone leaves its id to another
        self.constants: dict[str, Tensor] = {}  # that `play` reads and no named tensor has a part in, by name

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        # a cast to the same type, say, returns what it was given
        if isinstance(result, Tensor) and not self._known(result) and any(self._known(value) for value in _tensors((args, kwargs or {}))):
            self.made[id(result)] = Made(func, args, kwargs or {})
            self.held.append(result)
        return result

    def _known(self, tensor: Tensor) -> bool:
        return id(tensor) in self.names or id(tensor) in self.made

    def sources(self, tensor: Tensor) -> set[str]:
        """Names of the tensors that this one was computed from; its own, where it has one."""
        if id(tensor) in self.names:
            return {self.names[id(tensor)]}
        made = self.made.get(id(tensor))
        return set() if made is None else {name for part in _tensors((made.arguments, made.keywords)) for name in self.sources(part)}

    def play(self, graph: fx.Graph, tensor: Tensor, before: fx.Node, played: dict[int, fx.Node]) -> fx.Node:
        """Compute a tensor again in a graph, from the named ones and from `constants`.

        Args:
            graph: of a module that will have those under their names.
            tensor: one that the tape knows.
            before: the node in front of which it is computed.
            played: what this graph computes already, by id; grows.
        """
        if id(tensor) in played:
            return played[id(tensor)]
        if id(tensor) in self.names:
            with graph.inserting_before(before):
                node = graph.create_node("get_attr", self.names[id(tensor)])
        elif id(tensor) in self.made:
            made = self.made[id(tensor)]
            if made.function is Tensor.detach:  # gradients are to go through
                return self.play(graph, made.arguments[0], before, played)
            arguments, keywords = _replaced((made.arguments, dict(made.keywords)), lambda part: self._part(graph, part, before, played))
            with graph.inserting_before(before):
                node = graph.create_node("call_function", made.function, arguments, keywords)
        else:
            raise KeyError("the tape does not know this tensor")
        node.meta["val"] = tensor
        played[id(tensor)] = node
        return node

    def _part(self, graph: fx.Graph, part: Tensor, before: fx.Node, played: dict[int, fx.Node]) -> fx.Node:
        """An argument of what is computed."""
        if id(part) not in played and not self._known(part):
            name = f"constant_of_parameters_{len(self.constants)}"
            self.constants[name] = part.detach().clone()
            self.held.append(part)
            self.names[id(part)] = name
        return self.play(graph, part, before, played)


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))


def _replaced(value: Any, replacement: Callable[[Tensor], Any]) -> Any:
    """The same arguments with a node for every tensor."""
    if isinstance(value, Tensor):
        return replacement(value)
    if isinstance(value, Mapping):
        return {key: _replaced(item, replacement) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_replaced(item, replacement) for item in value)
    return torch.Size(value) if isinstance(value, torch.Size) else value
