"""What a network takes: what the file says of it, what the user gives an example of, and which axes are open."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.operators.creation import dtype_of
from tersenet.frontends.onnx.program import Input, Program
from tersenet.frontends.onnx.tensors import TYPES, Constant
from tersenet.graph.signature import unique
from tersenet.graph.tidy import identifier

LARGEST_EXAMPLE = 1 << 28  # elements of an example input: 1 GB of floats
OPEN_SIZE = 32  # of an axis that the user leaves open and gives no example of
_EXAMPLE = "tersenet.load(file, {{{!r}: array}}); from the command line, name a file.py:function that returns it"


def declared_inputs(proto: Any) -> list[Input]:
    """What the file says; older files list their weights among it too."""
    held = {tensor.name for tensor in proto.graph.initializer}
    found = []
    for value in proto.graph.input:
        if value.name in held:
            continue
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"the input {value.name} is no tensor; networks take tensors.")
        kind = value.type.tensor_type
        sizes = tuple(_declared(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None
        found.append(Input(value.name, TYPES.get(kind.elem_type, ""), sizes))
    if len({given.name for given in found}) != len(found):
        raise ModelError("two inputs have one name.")
    return found


def _declared(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return dim.dim_param or None


def given_inputs(proto: Any, example_inputs: Any) -> dict[str, Any]:
    """The user's example inputs by name."""
    names = [given.name for given in declared_inputs(proto)]
    if example_inputs is None:
        return {}
    if not isinstance(example_inputs, Mapping):
        values = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
        if len(values) > len(names):
            raise ModelError(f"{len(values)} example inputs are given, and the network takes {len(names)} ({', '.join(names)}).")
        example_inputs = dict(zip(names, values, strict=False))
    known = {identifier(name): name for name in names} | {name: name for name in names}
    unknown = [name for name in example_inputs if name not in known]
    if unknown:
        raise ModelError(f"there is no input {unknown[0]!r} to give an example of; the inputs are {', '.join(names)}.")
    return {known[name]: value for name, value in example_inputs.items()}


def fix_inputs(program: Program, given: Mapping[str, Any]) -> None:
    """Inputs that the user gives as plain numbers are constants from here on: the sampling rate that a network branches on."""
    for entry in list(program.inputs):
        value = given.get(entry.name)
        if isinstance(value, bool | int | float):
            program.constants[entry.name] = Constant(torch.tensor(value, dtype=_dtype(entry)), entry.dtype)
            program.inputs.remove(entry)


def _dtype(entry: Input) -> torch.dtype:
    number = next((number for number, name in TYPES.items() if name == entry.dtype), 0)
    return dtype_of(number)


def examples(
    program: Program, given: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, str]]
) -> tuple[dict[str, torch.Tensor], list[set[int]], int]:
    """Example inputs by name, the axes of each that are to be open, and the batch that is written into the file (0 where it is open)."""
    names = unique([identifier(entry.name) for entry in program.inputs])
    unknown = set(dynamic) - set(names) - {entry.name for entry in program.inputs}
    if unknown:
        raise ModelError(f"there is no input {sorted(unknown)[0]!r} to leave open; the inputs are {', '.join(names)}.")
    batch = next((entry.shape[0] for entry in program.inputs if entry.shape), None)
    tensors, axes = {}, []
    for name, entry in zip(names, program.inputs, strict=True):
        sizes, opens = _sizes(entry, batch, given.get(entry.name), dynamic.get(name, dynamic.get(entry.name, {})))
        if math.prod(sizes) > LARGEST_EXAMPLE:
            raise ModelError(f"the input {entry.name} has the sizes {sizes}, more than {LARGEST_EXAMPLE} elements in all.")
        tensors[name] = torch.zeros(sizes, dtype=_dtype(entry))
        axes.append(opens)
    return tensors, axes, batch if isinstance(batch, int) else 0


def _sizes(entry: Input, batch: int | str | None, example: Any, asked: Mapping[int, str]) -> tuple[list[int], set[int]]:
    shape = np.shape(example) if example is not None else None
    if entry.shape is None and shape is None:
        raise ModelError(f"the file does not say how many axes the input {entry.name} has; give an example of it: {_EXAMPLE.format(entry.name)}.")
    declared = entry.shape if entry.shape is not None else (None,) * len(shape or ())
    if shape is not None and not _fits(declared, shape):
        raise ModelError(f"the input {entry.name} has the shape {list(declared)} in the file; the example has {list(shape)}.")
    closed = [axis for axis in asked if not 0 <= axis < len(declared) or isinstance(declared[axis], int)]
    if closed:
        raise ModelError(f"axis {closed[0]} of the input {entry.name} cannot be left open: the file has the shape {list(declared)}.")
    sizes, opens = [], set(asked)
    for axis, said in enumerate(declared):
        is_batch = said == batch if isinstance(said, str) else axis == 0 and (said is None or said == batch)
        if is_batch:
            opens.add(axis)
            sizes.append(max(2, said if isinstance(said, int) else shape[axis] if shape is not None else 2))
        elif isinstance(said, int):
            sizes.append(said)
        elif shape is not None:
            sizes.append(max(2, shape[axis]) if axis in asked else shape[axis])
        elif axis in asked:
            sizes.append(OPEN_SIZE)
        else:
            raise ModelError(
                f"the file leaves axis {axis} of the input {entry.name} open ({said or 'any size'}), and only the batch can stay so by itself: give "
                f"an example of the size that you want: {_EXAMPLE.format(entry.name)}."
            )
    return sizes, opens


def _fits(declared: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    """Whether an example may be of this shape; its batch may be any."""
    return len(declared) == len(shape) and all(axis == 0 or not isinstance(said, int) or said == shape[axis] for axis, said in enumerate(declared))
