"""Slices of what a convolution gives go behind its batch norm and its activation, which can then be folded into it and fused with it.

Transposed convolutions of Keras and TensorFlow end in such slices: they take more off behind than before, which torch's do not.
"""

from __future__ import annotations

from torch import fx

from tersenet.graph.build import call, infer
from tersenet.graph.fold import FOLDS_INTO
from tersenet.graph.operators import ACTIVATIONS, kind_of
from tersenet.graph.walk import bind, calls, shape_of


def sink_slices(module: fx.GraphModule) -> None:
    """Move slices along the axes of an image, a sound or a volume behind what treats each place alike. Exact."""
    settled: set[fx.Node] = set()
    for node in list(calls(module)):
        if kind_of(node) != "batch_norm" and kind_of(node) not in ACTIVATIONS:
            continue
        while (source := node.args[0]) and isinstance(source, fx.Node) and _can_sink(source, settled):
            _sink(module, source, node)
            settled.add(node)


def _can_sink(source: fx.Node, settled: set[fx.Node]) -> bool:
    """Whether this is a slice, of spatial axes and read by nothing else, of what a convolution gives or what has been moved before one."""
    while kind_of(source) == "slice":
        if len(source.users) != 1 or source.kwargs or bind(source)["dim"] % len(shape_of(source)) < 2:
            return False
        head = source.args[0]
        assert isinstance(head, fx.Node)
        if len(head.users) == 1 and (head in settled or (kind_of(head) in FOLDS_INTO and kind_of(head) != "linear")):
            return True
        source = head
    return False


def _sink(module: fx.GraphModule, piece: fx.Node, node: fx.Node) -> None:
    readers = list(node.users)
    node.replace_input_with(piece, piece.args[0])  # type: ignore[arg-type]
    node.meta["val"] = infer(node)
    moved = call(module, piece.target, (node, *piece.args[1:]), before=node.next, like=piece)
    for reader in readers:
        reader.replace_input_with(node, moved)
    module.graph.erase_node(piece)
