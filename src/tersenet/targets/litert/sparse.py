"""Weights stored without their zeros.

The file keeps what is not zero and where it stands; an operator DENSIFY makes the weights whole again, once, when the file is loaded, and the dense
kernels compute with them as ever: same numbers, same time, fewer bytes.

Tried in LiteRT 2.3: the sparse kernels that the interpreter has of its own, for FULLY_CONNECTED alone, are slower than XNNPACK's dense ones unless
nine of ten blocks of four are zero. XNNPACK unpacks weights for all its operators but an integer FULLY_CONNECTED, with which it cannot load the
file: that one becomes a convolution of an image of one pixel, which is the same product.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from tersenet.formats.tflite import Graph, Operator, Tensor
from tersenet.formats.tflite_sparsity import Sparsity, packed, smallest

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
WEIGHT = 1  # which input of these holds the weights
IMAGE = {"TRANSPOSE_CONV": 2}  # and which the activations, where not the first
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")
PIXEL = {"padding": 1, "strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}  # padding 1: VALID
PIXEL_BYTES = 300  # what the two operators RESHAPE around it, their tensors and shapes take, at most


def without_zeros(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """The same network, its weights stored without zeros wherever that makes the file smaller.

    Returns:
        the graph, and sentences for the report.
    """
    if _mixes(graph):
        return graph, ("weights are stored whole: XNNPACK on ARM can fail on a file that computes images in floats and weights in integers",)
    forms = _forms(graph)
    if not forms:
        return graph, ("weights are stored whole: none that can be unpacked has so many zeros that it would be smaller without them",)
    before, after = _sizes(graph, forms)
    made = _Rewriting(graph, forms)
    for operator in graph.operators:
        made.add(operator)
    note = f"{len(forms)} weights are stored without their zeros, in {after:,} bytes for {before:,}; they are unpacked when the file is loaded"
    return replace(graph, tensors=tuple(made.tensors), operators=tuple(made.operators)), (note,)


def could_be_smaller(graph: Graph) -> tuple[str, ...]:
    """What to say of a file that stores zeros although it need not: the option, and what it would save; nothing where it saves nothing."""
    forms = {} if _mixes(graph) else _forms(graph)
    if not forms:
        return ()
    before, after = _sizes(graph, forms)
    return (f"{len(forms)} weights that are mostly zero are stored whole, in {before:,} bytes; --sparse (the option sparse) needs {after:,}",)


def _forms(graph: Graph) -> dict[int, Sparsity]:
    """Weights that are smaller without their zeros, and how."""
    return {index: form for index in _weights(graph) if (form := _form(graph, index)) is not None}


def _sizes(graph: Graph, forms: Mapping[int, Sparsity]) -> tuple[int, int]:
    """Bytes of these weights, whole and without their zeros."""
    return sum(_stored(graph.tensors[index], None) for index in forms), sum(_stored(graph.tensors[index], form) for index, form in forms.items())


def _mixes(graph: Graph) -> bool:
    """Whether images of floats are computed beside weights of integers.

    XNNPACK looks in such a file for chains that its sparse kernels could take (of floats, on ARM), and may come upon weights of a type that it does
    not expect there (its ``subgraph.c``, rewriting for NCHW).
    """
    made = [graph.tensors[index] for operator in graph.operators if operator.code not in CONVERSIONS for index in operator.outputs]
    floats = any(tensor.dtype == "float32" and len(tensor.shape) == 4 for tensor in made)
    return floats and any(graph.tensors[operator.inputs[WEIGHT]].dtype != "float32" for operator in graph.operators if operator.code in WEIGHTED)


def _weights(graph: Graph) -> list[int]:
    """Constants that only operators with weights read, as their weights and in the type of their activations."""
    found: set[int] = set()
    others = set(graph.outputs)
    for operator in graph.operators:
        for place, index in enumerate(operator.inputs):
            (found if place == WEIGHT and operator.code in WEIGHTED and _alike(graph, operator) else others).add(index)
    return sorted(index for index in found - others if graph.tensors[index].data is not None)


def _alike(graph: Graph, operator: Operator) -> bool:
    """Integers on which floats are brought at run time are read from the file itself."""
    weights, image = (graph.tensors[operator.inputs[place]].dtype for place in (WEIGHT, IMAGE.get(operator.code, 0)))
    return weights == image and weights in ("float32", "int8")


def _form(graph: Graph, index: int) -> Sparsity | None:
    tensor = graph.tensors[index]
    assert tensor.data is not None
    products = sum(operator.code == "FULLY_CONNECTED" and operator.inputs[WEIGHT] == index for operator in graph.operators)
    return smallest(tensor.data, PIXEL_BYTES * products if tensor.dtype == "int8" else 0)


def _stored(tensor: Tensor, form: Sparsity | None) -> int:
    assert tensor.data is not None
    if form is None:
        return tensor.data.nbytes
    values, levels = packed(tensor.data, form)
    return values.nbytes + sum(part.nbytes for level in levels if not isinstance(level, int) for part in level)


class _Rewriting:
    """The graph in the making; tensors keep their numbers, new ones come behind them."""

    def __init__(self, graph: Graph, forms: dict[int, Sparsity]) -> None:
        self.forms = forms
        self.tensors = list(graph.tensors)
        self.operators: list[Operator] = []
        self.whole: dict[int, int] = {}  # weights -> what DENSIFY makes of them

    def add(self, operator: Operator) -> None:
        index = operator.inputs[WEIGHT] if operator.code in WEIGHTED else -1
        if index not in self.forms:
            self.operators.append(operator)
            return
        pixel = operator.code == "FULLY_CONNECTED" and self.tensors[index].dtype == "int8"
        if index not in self.whole:
            self._densify(index, pixel)
        places = (*operator.inputs[:WEIGHT], self.whole[index], *operator.inputs[WEIGHT + 1 :])
        operator = replace(operator, inputs=places)
        self.operators.extend(self._as_pixel(operator) if pixel else (operator,))

    def _densify(self, index: int, pixel: bool) -> None:
        held, form = self.tensors[index], self.forms[index]
        assert held.data is not None
        if pixel:
            held, form = replace(held, shape=_pixel(held.shape), data=held.data.reshape(_pixel(held.shape))), _between(form)
        self.tensors[index] = replace(held, sparsity=form)
        self.whole[index] = self._new(replace(held, data=None))
        self.operators.append(Operator("DENSIFY", (index,), (self.whole[index],)))

    def _as_pixel(self, operator: Operator) -> Iterator[Operator]:
        """A product of a matrix as a convolution of an image of one pixel."""
        source, result = self.tensors[operator.inputs[0]], self.tensors[operator.outputs[0]]
        outputs, *_, inputs = self.tensors[operator.inputs[WEIGHT]].shape
        rows = math.prod(source.shape) // inputs
        image = self._new(replace(source, name="", shape=(rows, 1, 1, inputs), data=None))
        made = self._new(replace(result, name="", shape=(rows, 1, 1, outputs)))
        yield Operator("RESHAPE", (operator.inputs[0], self._shape(self.tensors[image].shape)), (image,))
        options = {**PIXEL, "fusedActivationFunction": operator.options.get("fusedActivationFunction", 0)}
        yield Operator("CONV_2D", (image, *operator.inputs[1:]), (made,), options)
        yield Operator("RESHAPE", (made, self._shape(result.shape)), operator.outputs)

    def _shape(self, shape: Sequence[int]) -> int:
        return self._new(Tensor("", (len(shape),), "int32", data=np.array(shape, np.int32)))

    def _new(self, tensor: Tensor) -> int:
        self.tensors.append(tensor)
        return len(self.tensors) - 1


def _pixel(shape: Sequence[int]) -> tuple[int, int, int, int]:
    """A matrix (outputs, inputs) as the kernel of a convolution (outputs, 1, 1, inputs)."""
    outputs, inputs = shape
    return outputs, 1, 1, inputs


def _between(form: Sparsity) -> Sparsity:
    """The form of a matrix with two axes of one place put between its own."""
    moved = {0: 0, 1: 3} | {axis: axis + 2 for axis in range(2, len(form.order))}
    order = tuple(moved[axis] for axis in form.order)
    return Sparsity((1, 2, *order), (False, False, *form.compressed), tuple((moved[axis], size) for axis, size in form.blocks))
