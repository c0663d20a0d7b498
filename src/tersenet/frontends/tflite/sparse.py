"""Sparse constants of a file, read whole."""

from __future__ import annotations

from dataclasses import replace

from tersenet.formats.tflite import Graph

DENSIFY = "DENSIFY"


def densified(graph: Graph) -> Graph:
    """The same file without its operators DENSIFY: what one would make of a constant is a constant, which still says how it was stored.

    One that makes something of a computed value stays, for no runtime has it.
    """
    made = {}
    for operator in graph.operators:
        if operator.code == DENSIFY and graph.tensors[operator.inputs[0]].data is not None:
            made[operator.outputs[0]] = graph.tensors[operator.inputs[0]]
    tensors = tuple(
        replace(made[index], name=tensor.name or made[index].name) if index in made else tensor for index, tensor in enumerate(graph.tensors)
    )
    kept = tuple(operator for operator in graph.operators if operator.code != DENSIFY or operator.outputs[0] not in made)
    return replace(graph, tensors=tensors, operators=kept)
