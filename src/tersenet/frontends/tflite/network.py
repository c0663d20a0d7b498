"""A LiteRT file as a torch module: parameters under the names of its layers, operators in its order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn

from tersenet.errors import ModelError
from tersenet.formats.tflite import Graph, Operator
from tersenet.frontends.tflite.operators.convolution import OUTPUTS
from tersenet.frontends.tflite.site import Part, Site, dequantized, grid
from tersenet.frontends.tflite.sparse import densified
from tersenet.frontends.tflite.table import OPERATORS, why_refused
from tersenet.graph.signature import unique
from tersenet.schemes import Encoding

# The schema's integer types that activations are stored in.
GRIDS = ("int8", "uint8", "int16")
# The last part of a name that converters give the weights of a layer.
_PRODUCT = re.compile("Conv|depthwise|MatMul|lookup|Gather")


class Network(nn.Module):
    """Computes what the file computes, in floats; integers on a grid are the numbers that they stand for.

    Args:
        graph: the file.
        grids: mark the grid of each integer activation by a fake quantization, for whoever records them.

    Raises:
        ModelError: operators that cannot be read, all of them in one message.
    """

    def __init__(self, graph: Graph, *, grids: bool) -> None:
        super().__init__()
        graph = densified(graph)
        self.graph, self.grids, self.fixed_batch = graph, grids, ""
        self.inputs = dict(zip(unique(clean(graph.tensors[index].name) or "input" for index in graph.inputs), graph.inputs, strict=True))
        needed = _needed(graph)
        _check(graph, needed)
        self.steps: list[tuple[int, Part]] = []
        self.constants: dict[int, str] = {}
        self.sparse: list[str] = []  # weights that the file stores without their zeros
        self.weights: dict[str, Encoding] = {}  # what integer weights stand for
        names = _layer_names(graph, needed)
        for number in needed:
            site = Site(graph, graph.operators[number], names[number])
            function, places = OPERATORS[site.operator.code](site)
            if isinstance(function, nn.Module):
                self.add_module(names[number], function)
                found = grid(site.tensor(1), OUTPUTS[type(function)]) if type(function) in OUTPUTS else None
                self.weights.update({f"{names[number]}.weight": found} if found else {})
                if any(graph.tensors[index].sparsity is not None for index in site.operator.inputs if index >= 0):
                    self.sparse.append(f"{names[number]}.weight")
            for place in places:
                self._hold(site, place, names[number])
            self.steps.append((number, (function, places)))

    def _hold(self, site: Site, place: int, name: str) -> None:
        """A constant that an operator takes like any other value becomes a parameter, or a buffer where it is no number to be trained."""
        if not site.is_constant(place):
            return
        index = site.operator.inputs[place]
        if index in self.constants:
            return
        value = torch.from_numpy(np.array(dequantized(site.tensor(place))))
        key = f"{name}_constant_{place}"
        if value.is_floating_point():
            self.register_parameter(key, nn.Parameter(value))
        else:
            self.register_buffer(key, value)
        self.constants[index] = key

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        values: dict[int, torch.Tensor] = {index: getattr(self, key) for index, key in self.constants.items()}
        for name, index in self.inputs.items():
            if self.fixed_batch and tuple(inputs[name].shape) != self.graph.tensors[index].shape:
                raise ValueError(self.fixed_batch)
            values[index] = self._on_grid(index, inputs[name])
        for number, (function, places) in self.steps:
            operator = self.graph.operators[number]
            made = function(*(values[operator.inputs[place]] for place in places))
            for index, value in zip(operator.outputs, made if isinstance(made, tuple) else (made,), strict=True):
                values[index] = self._on_grid(index, value)
        names = unique(clean(self.graph.tensors[index].name) or "output" for index in self.graph.outputs)
        return {name: values[index] for name, index in zip(names, self.graph.outputs, strict=True)}

    def _on_grid(self, index: int, value: torch.Tensor) -> torch.Tensor:
        tensor = self.graph.tensors[index]
        if not self.grids or tensor.numbers is None or len(tensor.numbers.scale) != 1 or tensor.dtype not in GRIDS or not tensor.numbers.scale[0]:
            return value
        limits = np.iinfo(tensor.dtype)
        scale, zero = tensor.numbers.scale[0], tensor.numbers.zero_point[0]
        return torch.fake_quantize_per_tensor_affine(value, scale, zero, int(limits.min), int(limits.max))


def _needed(graph: Graph) -> list[int]:
    """The operators that outputs depend on, in order; others (sizes that the file states anyway) are not looked at."""
    wanted, found = set(graph.outputs), []
    for number in reversed(range(len(graph.operators))):
        operator = graph.operators[number]
        if wanted & set(operator.outputs):
            found.append(number)
            places = _read_at_run_time(operator.code, len(operator.inputs))
            wanted |= {operator.inputs[place] for place in places if operator.inputs[place] >= 0}
    return found[::-1]


def _read_at_run_time(code: str, count: int) -> Sequence[int]:
    """Which inputs may be computed ones: the shape of a reshape is not, since the file states that of its result."""
    return {"RESHAPE": (0,), "BROADCAST_TO": (0,), "TRANSPOSE_CONV": (1, 2, 3)[: max(count - 1, 0)]}.get(code, range(count))


def _check(graph: Graph, needed: Iterable[int]) -> None:
    strangers = sorted({graph.operators[number].code for number in needed} - OPERATORS.keys())
    if strangers:
        listed = "; ".join(f"{code}: {why_refused(code)}" for code in strangers)
        raise ModelError(f"{len(strangers)} of its operators cannot be read ({listed}).")
    made = {index for number in needed for index in graph.operators[number].outputs} | set(graph.inputs)
    for index in graph.outputs:
        if index not in made:
            raise ModelError(f"its output {graph.tensors[index].name!r} is made by none of its operators.")


def clean(name: str) -> str:
    """A name of letters, digits and underscores, without what converters put around it.

    >>> clean("serving_default_input_1:0"), clean("model/conv2d/BiasAdd;model/bn")
    ('input_1', 'model_conv2d_BiasAdd')
    """
    plain = name.split(";")[0].removeprefix("serving_default_").split(":")[0]
    plain = re.sub(r"\W+", "_", plain).strip("_")
    return f"_{plain}" if plain[:1].isdigit() else plain


def _layer_names(graph: Graph, needed: Sequence[int]) -> dict[int, str]:
    """Each operator's layer: the scope of its result (``model/conv2d/BiasAdd`` -> ``conv2d``), else its code."""
    reserved = set(dir(nn.Module())) | {"graph", "grids", "inputs", "steps", "constants", "fixed_batch", "sparse", "weights"}
    operators = [graph.operators[number] for number in needed]
    names = [_scope(graph, operator) or operator.code.lower() for operator in operators]
    return dict(zip(needed, unique(f"{name}_layer" if name in reserved else name for name in names), strict=True))


def _scope(graph: Graph, operator: Operator) -> str:
    """Converters join the names of what they fused by semicolons; that of the product is the layer's."""
    told = [graph.tensors[index].name for index in (*operator.inputs[1:2], *operator.outputs[:1]) if index >= 0]
    parts = [segment.split(":")[0].split("/") for name in told for segment in name.split(";")]
    products = [part for part in parts if len(part) > 1 and _PRODUCT.search(part[-1])]
    chosen = products[0] if products else graph.tensors[operator.outputs[0]].name.split(";")[0].split(":")[0].split("/")
    return clean("_".join(chosen[1:-1] if len(chosen) > 2 else chosen[:1]))
