"""From the ATen graph to ONNX operators: names, constants and sizes; what each operator becomes is in `operators`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import fx

from tersenet.errors import UnsupportedError
from tersenet.formats.onnx import Graph, Operator
from tersenet.graph.operators import kind_of
from tersenet.graph.walk import calls, constant, dtype_of, layer_of, shape_of

Result = str | tuple[str, ...]


class Lowering:
    """An ONNX graph under construction.

    Args:
        module: the graph that is lowered; its shapes may be symbolic.
        saturating_pairs: the kernels add products of neighbouring weights in 16 bits.

    Attributes:
        graph: what was built so far.
        made: node -> the name of its tensor (several for an operator with several results).
        integers: node -> the name of the 8-bit tensor that holds its value, where an operator was applied to integers.
    """

    def __init__(self, module: fx.GraphModule, saturating_pairs: bool = False) -> None:
        self.module = module
        self.saturating_pairs = saturating_pairs
        self.graph = Graph()
        self.made: dict[fx.Node, Result] = {}
        self.integers: dict[fx.Node, str] = {}
        self._held: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def lower(self, builders: Mapping[str, Callable[[Lowering, fx.Node], Result]]) -> None:
        """Lower every operator.

        Raises:
            UnsupportedError: one that the table does not have.
        """
        for node in calls(self.module):
            kind = kind_of(node)
            builder = builders.get(kind)
            if builder is None:
                raise unsupported(
                    node, "it is not in the table of ONNX operators", "add a builder for it to tersenet/targets/onnxruntime/operators/table.py"
                )
            self.made[node] = builder(self, node)

    def add(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append an operator with one result; attributes that are None are left out. Returns the result's name."""
        return self.add_many(kind, 1, *inputs, domain=domain, **attributes)[0]

    def add_many(self, kind: str, count: int, *inputs: str, domain: str = "", **attributes: Any) -> tuple[str, ...]:
        """The same for an operator with several results."""
        number = len(self.graph.operators)
        results = tuple(f"{kind}/{number}/{index}" for index in range(count))
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        kept = {name: value for name, value in attributes.items() if value is not None}
        self.graph.operators.append(Operator(kind, given, list(results), kept, domain))
        return results

    def constant(self, array: Any, dtype: str | None = None) -> str:
        """Hold an array in the file, once for equal ones, and return its name."""
        held = np.asarray(array, dtype=dtype)
        key = (held.dtype.str, held.shape, held.tobytes())
        if key not in self._held:
            self._held[key] = f"constant/{len(self._held)}"
            self.graph.constants[self._held[key]] = held
        return self._held[key]

    def value(self, argument: Any, like: fx.Node | None = None) -> str:
        """The tensor of an argument: a node's, or a number as a constant of the type of `like`."""
        if isinstance(argument, fx.Node):
            if argument.op == "get_attr" and argument not in self.made:
                self.made[argument] = self.constant(constant(self.module, argument).cpu().numpy())
            made = self.made[argument]
            if not isinstance(made, str):
                raise unsupported(argument, "it has several results, and one was expected")
            return made
        dtype = dtype_of(like) or torch.float32
        return self.constant(torch.tensor(argument, dtype=dtype).numpy())

    def cast(self, argument: Any, dtype: torch.dtype) -> str:
        """The tensor of an argument, as a type."""
        if not isinstance(argument, fx.Node):
            return self.constant(torch.tensor(argument, dtype=dtype).numpy())
        name = self.value(argument)
        return name if dtype_of(argument) in (dtype, None) else self.add("Cast", name, to=element_type(dtype))

    def sizes(self, sizes: Sequence[Any]) -> str:
        """A list of sizes as one int64 tensor; sizes that the graph computes are nodes."""
        if all(isinstance(size, int) for size in sizes):
            return self.constant(np.array(sizes, dtype=np.int64))
        parts = [self.value(size) if isinstance(size, fx.Node) else self.constant(np.array([int(size)], dtype=np.int64)) for size in sizes]
        return parts[0] if len(parts) == 1 else self.add("Concat", *parts, axis=0)

    def shape(self, node: fx.Node) -> str:
        """The shape of a node's tensor as an int64 tensor: a constant where all sizes are known."""
        sizes = shape_of(node)
        if all(isinstance(size, int) for size in sizes):
            return self.constant(np.array(sizes, dtype=np.int64))
        return self.add("Shape", self.value(node))

    def reshape(self, tensor: str, sizes: Sequence[Any], given: Sequence[Any] | None = None, before: Sequence[Any] = ()) -> str:
        """Reshape to sizes of which those that are open may be symbolic.

        Args:
            given: the sizes as the graph computes them, where it does.
            before: the sizes of the tensor itself: leading ones that stay are copied, whatever they are.
        """
        wanted = [size if isinstance(size, int) else -1 for size in sizes]
        if wanted.count(-1) > 1 and given is None:
            for place, (size, old) in enumerate(zip(sizes, before, strict=False)):
                if isinstance(size, int) or str(size) != str(old):
                    break
                wanted[place] = 0  # ONNX: the size of the input at this place
        if wanted.count(-1) <= 1:
            return self.add("Reshape", tensor, self.constant(np.array(wanted, dtype=np.int64)))
        if given is None:
            raise UnsupportedError(f"a reshape to {tuple(sizes)} has more than one open size; leave only the batch open when the network is loaded.")
        return self.add("Reshape", tensor, self.sizes(given))


def element_type(dtype: torch.dtype) -> int:
    """ONNX's number for a type."""
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype).removeprefix("torch."))))


def unsupported(node: fx.Node, why: str, change: str = "replace it in the network, or leave it out") -> UnsupportedError:
    """The error for an operator that cannot be written."""
    return UnsupportedError(f"onnxruntime cannot run operator {kind_of(node) or node.op!r} ({node.name}, in {layer_of(node)}): {why}; {change}.")


def listed(value: Any, count: int) -> list[int]:
    """A number or a list of one as a list of `count`."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return items * count if len(items) == 1 else items
