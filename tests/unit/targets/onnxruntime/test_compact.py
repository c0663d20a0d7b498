"""Dead operators and long names leave a graph; what it computes stays."""

import numpy as np

from tersenet.formats.onnx import Graph, Operator, Value
from tersenet.targets.onnxruntime.compact import compact


def graph() -> Graph:
    operators = [
        Operator("Add", ["a", "a long name"], ["sum/of/two"]),
        Operator("Neg", ["sum/of/two"], ["nobody reads this"]),
        Operator("Mul", ["sum/of/two", "sum/of/two"], ["y"]),
    ]
    constants = {"a long name": np.float32(1), "left over": np.float32(2)}
    return Graph([Value("a", "float32", (1,))], [Value("y", "float32", (1,))], operators, constants)


def test_names_become_short_and_dead_ends_leave() -> None:
    made = graph()
    names = compact(made)
    assert [operator.kind for operator in made.operators] == ["Add", "Mul"]
    assert names == {"a": "a", "y": "y", "sum/of/two": "b", "a long name": "c"}  # the most used is named first, and "a" is taken
    assert list(made.constants) == ["c"]
    assert made.operators[1].inputs == ["b", "b"]


def test_many_names_stay_apart() -> None:
    operators = [Operator("Neg", [f"value {index}"], [f"value {index + 1}"]) for index in range(5000)]
    made = Graph([Value("value 0", "float32", (1,))], [Value("value 5000", "float32", (1,))], operators)
    names = compact(made)
    assert len(set(names.values())) == len(names) == 5001
    assert max(len(operator.outputs[0]) for operator in made.operators[:-1]) == 3
