"""Make an ONNX graph small without changing what it computes: no dead operators, no long names.

Equal constants are one already (`Lowering.constant`), and documentation and shapes of inner tensors are never written. On a
ResNet-32, names alone are a tenth of the file.
"""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterator
from itertools import product

from tersenet.formats.onnx import Graph

LETTERS = string.ascii_lowercase + string.ascii_uppercase + string.digits


def compact(graph: Graph) -> dict[str, str]:
    """Drop what no output needs and shorten names, in place; inputs and outputs keep theirs.

    Returns:
        old name -> new name of every tensor that is left.
    """
    drop_dead(graph)
    kept = {value.name for value in (*graph.inputs, *graph.outputs)}
    counts = Counter(name for operator in graph.operators for name in (*operator.inputs, *operator.outputs) if name)
    fresh = (name for name in _short_names() if name not in kept)
    names = {name: name if name in kept else next(fresh) for name, _ in counts.most_common()}
    graph.rename(names)
    return names


def drop_dead(graph: Graph) -> None:
    """Remove operators whose results nobody reads, and constants that are left over."""
    needed = {value.name for value in graph.outputs}
    alive = []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            alive.append(operator)
            needed.update(name for name in operator.inputs if name)
    graph.operators = alive[::-1]
    graph.constants = {name: array for name, array in graph.constants.items() if name in needed}


def _short_names() -> Iterator[str]:
    length = 1
    while True:
        yield from ("".join(letters) for letters in product(LETTERS, repeat=length))
        length += 1
