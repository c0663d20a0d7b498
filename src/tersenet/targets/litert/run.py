"""Runs .tflite files in LiteRT's interpreter; numpy and the runtime alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tersenet.errors import MissingDependencyError, ModelError
from tersenet.target import Placement, contents
from tersenet.targets.silence import lines_kept_back
from tersenet.tensors import Port

DELEGATE = "DELEGATE"
# What a process's first delegate says of itself.
NATIVE_NOISE = (b"INFO: Created TensorFlow Lite XNNPACK delegate",)


class LiteRTRunner:
    """The runner of the `litert` target."""

    def load(self, path: Path, threads: int = 1) -> LiteRTSession:
        return LiteRTSession(Path(path), threads)

    def inner(self, path: Path, arrays: Sequence[np.ndarray]) -> Mapping[str, np.ndarray] | None:
        """Every input and computed tensor, integers brought back to floats.

        They are read from a copy of the file that returns them all, so that XNNPACK runs it as it runs the file itself: the interpreter's
        own kernels, which can be looked at without that, round otherwise.
        """
        graph = checked(Path(path))
        computed = {tensor for operator in graph.operators for tensor in operator.outputs}
        shown = tuple(index for index in sorted(computed) if graph.tensors[index].name and not graph.tensors[index].variable)
        interpreter = _interpreter(Path(path), 1, _written(replace(graph, outputs=shown)))
        _invoke(interpreter, arrays, Path(path))
        values = {index: interpreter.get_tensor(index) for index in shown} | dict(zip(graph.inputs, arrays, strict=True))
        return {graph.tensors[index].name: as_floats(value, graph.tensors[index].numbers) for index, value in values.items()}


class LiteRTSession:
    """One file, loaded: XNNPACK takes what it can, as it does by default."""

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self.graph = checked(path)
        self.interpreter = _interpreter(path, threads)
        self.inputs = tuple(_port(detail) for detail in self.interpreter.get_input_details())
        self.outputs = tuple(_port(detail) for detail in self.interpreter.get_output_details())

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        _invoke(self.interpreter, arrays, self.path)
        return [self.interpreter.get_tensor(detail["index"]) for detail in self.interpreter.get_output_details()]

    def memory(self) -> tuple[int, str] | None:
        """None: the interpreter's Python package has no figure of its arena."""
        return None

    def operators(self) -> Placement:
        """Operators of the file, and which of them the delegate took.

        The interpreter lists the delegate's nodes behind the file's own operators, with the tensors that go in and come out: what
        lies between them is what it took.
        """
        listed = self.interpreter._get_ops_details()
        taken: set[int] = set()
        for node in listed:
            if node["op_name"] == DELEGATE:
                taken |= self._between(node["inputs"], node["outputs"])
        operators = self.graph.operators
        left = [operator for index, operator in enumerate(operators) if index not in taken]
        why = "XNNPACK did not take it: it runs on the interpreter's own kernel"
        declined = tuple({"op": operator.code, "name": self.graph.tensors[operator.outputs[0]].name, "why": why} for operator in left)
        counts = dict(sorted(Counter(operator.code for operator in operators).items()))
        return Placement(counts, len(taken) / len(operators) if operators else 1.0, declined)

    def _between(self, inputs: Iterable[int], outputs: Iterable[int]) -> set[int]:
        """Operators from which outputs are computed without going behind the inputs."""
        maker = {tensor: index for index, operator in enumerate(self.graph.operators) for tensor in operator.outputs}
        border, waiting, found = set(map(int, inputs)), list(map(int, outputs)), set()
        while waiting:
            tensor = waiting.pop()
            index = maker.get(tensor)
            if tensor in border or index is None or index in found:
                continue
            found.add(index)
            waiting.extend(self.graph.operators[index].inputs)
        return found


def checked(path: Path) -> Any:
    """The file's graph, read by ourselves first: the native parser trusts what it is given.

    Raises:
        ModelError: it cannot be read, or it does not hold together.
        MissingDependencyError: the runtime is not installed.
    """
    try:
        from tersenet.formats.tflite import read
    except ImportError as error:
        raise MissingDependencyError("running .tflite files needs ai-edge-litert and flatbuffers: pip install 'tersenet[litert]'") from error
    try:
        return read(contents(path))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _written(graph: Any) -> bytes:
    from tersenet.formats.tflite import write  # `checked` has answered where the packages behind it are missing

    return write(graph)


def _interpreter(path: Path, threads: int, content: bytes | None = None) -> Any:
    """An interpreter of a file, or of what is given in its place."""
    from ai_edge_litert.interpreter import Interpreter

    source: dict[str, Any] = {"model_path": str(path)} if content is None else {"model_content": content}
    try:
        interpreter = Interpreter(num_threads=threads, **source)
        with lines_kept_back(NATIVE_NOISE):
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is not a model that LiteRT runs: {first_line(error)}") from error
    return interpreter


def _invoke(interpreter: Any, arrays: Sequence[np.ndarray], path: Path) -> None:
    """Run once, from a state of zeros where the file keeps one."""
    try:
        interpreter.reset_all_variables()
        for detail, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"LiteRT could not run {path} on these arrays: {first_line(error)}") from error


def _port(detail: Mapping[str, Any]) -> Port:
    scale, zero_point = detail["quantization"]
    numbers = {"scale": float(scale), "zero_point": int(zero_point)} if scale else {}
    shape = tuple(int(size) for size in detail["shape"])
    return Port(detail["name"], shape, np.dtype(detail["dtype"]).name, source=detail["name"], **numbers)  # type: ignore[arg-type]


def as_floats(array: np.ndarray, numbers: Any) -> np.ndarray:
    """Integers of a quantized tensor as the numbers that they stand for; others as they are."""
    if numbers is None or not np.issubdtype(array.dtype, np.integer):
        return array
    return (array.astype(np.float32) - np.float32(numbers.zero_point[0])) * np.float32(numbers.scale[0])


def first_line(error: Exception) -> str:
    """What a foreign error says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
