"""ONNX files, opset 7 to the newest, as trainable graphs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tersenet.errors import MissingDependencyError, ModelError, TersenetError
from tersenet.frontend import Reading
from tersenet.frontends.onnx.activations import restore_activations
from tersenet.frontends.onnx.batch import why_joined
from tersenet.frontends.onnx.compute import check_known
from tersenet.frontends.onnx.dequantize import open_quantized
from tersenet.frontends.onnx.fold import fold
from tersenet.frontends.onnx.linear import spell_linear
from tersenet.frontends.onnx.network import Network
from tersenet.frontends.onnx.operators.creation import dtype_of
from tersenet.frontends.onnx.program import Builder, Input, Program
from tersenet.frontends.onnx.tensors import TYPES, Constant, Folder, mapped
from tersenet.frontends.onnx.wire import TORN, without_tensors
from tersenet.graph.grids import with_grids
from tersenet.graph.tidy import attribute_name, identifier
from tersenet.graph.trace import trace_open
from tersenet.model import Model

OLDEST = 7  # operators had other attributes before it
LARGEST_EXAMPLE = 1 << 28  # elements of an example input: 1 GB of floats
_EXAMPLE = "tersenet.load(file, {{{!r}: array}}), from the command line by a file.py:function that returns it"
OPEN_SIZE = 32  # of an axis that the user leaves open and gives no example of


class OnnxFrontend:
    """What any framework's exporter wrote."""

    def accepts(self, source: Any) -> bool:
        return isinstance(source, Path) and source.suffix.lower() == ".onnx"

    def read(self, source: Path, reading: Reading) -> Model:
        if reading.weights:
            raise ModelError(f"{source} has weights of its own; other weights can be loaded into a torch module only (file.py:name).")
        try:
            return _read(source, reading)
        except MissingDependencyError:
            raise
        except TersenetError as error:
            raise type(error)(str(error) if str(source) in str(error) else f"{source}: {error}") from error
        except (RecursionError, MemoryError, OverflowError, OSError, ValueError, TypeError, KeyError, IndexError) as error:
            raise ModelError(f"{source} is damaged: it does not hold together ({type(error).__name__}: {str(error)[:100]}).") from error


def _read(source: Path, reading: Reading) -> Model:
    proto, raw = _parsed(source)
    given = _given(proto, reading.example_inputs)
    builder = Builder(proto, raw, Folder(source.parent))
    program = builder.build(_inputs(proto))
    del proto, raw, builder
    _check_opset(program)
    _fix_inputs(program, given)
    check_known([operation.node for operation in program.block.operations if not operation.branches])
    fold(program)
    open_quantized(program)
    fold(program)
    spell_linear(program)
    if not program.inputs:
        raise ModelError("the network takes no tensor.")
    tensors, axes, fixed = _examples(program, given, reading.dynamic)
    names = _unique([identifier(name) for name in program.results])
    network = Network(program, names, fixed)
    for constant in program.constants:
        program.constants[constant] = Constant(torch.empty(0))  # the module holds them now
    model = _traced(network, tensors, axes, reading.name or source.stem)
    weights = {attribute_name(path): grid for path, grid in network.grids.items()}
    used = {str(node.target) for node in model.graph.graph.nodes if node.op == "get_attr"}
    kept = {name: grid for name, grid in weights.items() if name in used}
    model = replace(model, annotations=replace(model.annotations, weights=kept))
    return replace(
        with_grids(restore_activations(model)),
        format="onnx",
        provenance={"file": source.name, "opset": program.opsets.get("", 1), "torch": torch.__version__},
    )


def _parsed(source: Path) -> tuple[Any, Sequence[memoryview | None]]:
    """The message without its large tensors, and the bytes of these."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ModuleNotFoundError as error:
        raise MissingDependencyError(f"reading {source} needs onnx: pip install 'tersenet[onnx]'") from error
    if source.is_dir() or source.stat().st_size == 0:
        raise ModelError("it is empty, or a folder; an ONNX network is one file.")
    try:
        small, raw = without_tensors(mapped(source))
        proto = onnx.ModelProto.FromString(small)
    except (DecodeError, RuntimeError) as error:
        raise ModelError(f"{TORN}.") from error
    if not proto.HasField("graph") or not proto.graph.output:
        raise ModelError(f"{TORN}: there is no graph in it, or it has no output.")
    return proto, raw


def _check_opset(program: Program) -> None:
    version = program.opsets.get("", 1)
    if version < OLDEST:
        raise ModelError(f"it is written for opset {version}; {OLDEST} and newer are read. onnx.version_converter makes it one of those.")


def _inputs(proto: Any) -> list[Input]:
    """What the network takes; older files list their weights among it too."""
    held = {tensor.name for tensor in proto.graph.initializer}
    found = []
    for value in proto.graph.input:
        if value.name in held:
            continue
        if not value.type.HasField("tensor_type"):
            raise ModelError(f"the input {value.name} is no tensor; networks take tensors.")
        kind = value.type.tensor_type
        sizes = tuple(_dim(dim) for dim in kind.shape.dim) if kind.HasField("shape") else None
        found.append(Input(value.name, TYPES.get(kind.elem_type, ""), sizes))
    if len({given.name for given in found}) != len(found):
        raise ModelError("two inputs have one name.")
    return found


def _dim(dim: Any) -> int | str | None:
    if dim.HasField("dim_value"):
        return int(dim.dim_value) if dim.dim_value > 0 else None
    return dim.dim_param or None


def _given(proto: Any, example_inputs: Any) -> dict[str, Any]:
    """The user's example inputs by name."""
    names = [given.name for given in _inputs(proto)]
    if example_inputs is None:
        return {}
    if not isinstance(example_inputs, Mapping):
        values = example_inputs if isinstance(example_inputs, tuple | list) else (example_inputs,)
        example_inputs = dict(zip(names, values, strict=False))
    known = {identifier(name): name for name in names} | {name: name for name in names}
    unknown = [name for name in example_inputs if name not in known]
    if unknown:
        raise ModelError(f"there is no input {unknown[0]!r} to give an example of; the inputs are {', '.join(names)}.")
    return {known[name]: value for name, value in example_inputs.items()}


def _fix_inputs(program: Program, given: Mapping[str, Any]) -> None:
    """Inputs that the user gives as plain numbers are constants from here on: the sampling rate that a network branches on."""
    for entry in list(program.inputs):
        value = given.get(entry.name)
        if isinstance(value, bool | int | float):
            program.constants[entry.name] = Constant(torch.tensor(value, dtype=_input_type(entry)), entry.dtype)
            program.inputs.remove(entry)


def _input_type(entry: Input) -> torch.dtype:
    number = next((number for number, name in TYPES.items() if name == entry.dtype), 0)
    return dtype_of(number)


def _examples(
    program: Program, given: Mapping[str, Any], dynamic: Mapping[str, Mapping[int, str]]
) -> tuple[dict[str, torch.Tensor], list[set[int]], int]:
    """Example inputs, the axes of each that are to be open, and the batch that is written into the file (0: none)."""
    names = _unique([identifier(entry.name) for entry in program.inputs])
    batch = next((entry.shape[0] for entry in program.inputs if entry.shape), None)
    tensors, axes = {}, []
    unknown = set(dynamic) - set(names) - {entry.name for entry in program.inputs}
    if unknown:
        raise ModelError(f"there is no input {sorted(unknown)[0]!r} to leave open; the inputs are {', '.join(names)}.")
    for name, entry in zip(names, program.inputs, strict=True):
        asked = dynamic.get(name, dynamic.get(entry.name, {}))
        sizes, opens = _sizes(entry, batch, given.get(entry.name), asked)
        if math.prod(sizes) > LARGEST_EXAMPLE:
            raise ModelError(f"the input {entry.name} has the sizes {sizes}, more than {LARGEST_EXAMPLE} elements in all.")
        tensors[name] = torch.zeros(sizes, dtype=_input_type(entry))
        axes.append(opens)
    return tensors, axes, batch if isinstance(batch, int) else 0


def _sizes(entry: Input, batch: int | str | None, example: Any, asked: Mapping[int, str]) -> tuple[list[int], set[int]]:
    shape = np.shape(example) if example is not None else None
    if entry.shape is None and shape is None:
        raise ModelError(
            f"the file does not say how many axes the input {entry.name} has; give an example of it (example_inputs={{{entry.name!r}: ...}})."
        )
    declared = entry.shape if entry.shape is not None else (None,) * len(shape or ())
    if shape is not None and (
        len(shape) != len(declared) or any(isinstance(said, int) and said != got for said, got in list(zip(declared, shape, strict=True))[1:])
    ):
        raise ModelError(f"the input {entry.name} has the shape {list(declared)} in the file; the example has {list(shape)}.")
    sizes, opens = [], set(asked)
    for axis, said in enumerate(declared):
        is_batch = said == batch if isinstance(said, str) else axis == 0 and (said is None or said == batch)
        if is_batch:
            opens.add(axis)
            sizes.append(said if isinstance(said, int) and said > 1 else 2)
        elif isinstance(said, int):
            sizes.append(said)
            opens.discard(axis)
        elif axis in asked or shape is not None:
            sizes.append(max(2, shape[axis]) if shape is not None and axis in asked else shape[axis] if shape is not None else OPEN_SIZE)
        else:
            raise ModelError(
                f"the file leaves axis {axis} of the input {entry.name} open ({said or 'any size'}), and only the batch can stay so by itself: give "
                f"an example of the size that you want ({_EXAMPLE.format(entry.name)})."
            )
    return sizes, opens


def _fits(declared: Sequence[int | str | None], shape: Sequence[int]) -> bool:
    """Whether an example may be of this shape; its batch may be any."""
    return len(declared) == len(shape) and all(axis == 0 or not isinstance(said, int) or said == shape[axis] for axis, said in enumerate(declared))


def _unique(names: Sequence[str]) -> tuple[str, ...]:
    made: list[str] = []
    for name in names:
        number, fresh = 1, name
        while fresh in made:
            number += 1
            fresh = f"{name}_{number}"
        made.append(fresh)
    return tuple(made)


def _traced(network: Network, tensors: Mapping[str, torch.Tensor], axes: Sequence[Set[int]], name: str) -> Model:
    """With an open batch where that works, and gives what the file gives; else with the file's own, and the reason."""
    why = ""
    if any(axes):
        try:
            model = trace_open(network, tensors, axes, name=name, fixed_batch="", source={})
            own = [_at(tensor, held, network.batch) for tensor, held in zip(tensors.values(), axes, strict=True)]
            why = why_joined(model, network, own, axes) if network.batch else ""
            if not why:
                return model
        except ModelError as error:
            why = str(error)
    batch = network.batch or 1
    held = {key: _at(tensor, opens, batch) for (key, tensor), opens in zip(tensors.items(), axes, strict=True)}
    left = [{axis for axis in opens if axis != min(opens)} for opens in axes]
    return trace_open(network, held, left, name=name, fixed_batch=why or f"the file has a batch of {batch} written into it", source={})


def _at(tensor: torch.Tensor, opens: Set[int], batch: int) -> torch.Tensor:
    """An example of the file's own batch."""
    if not opens or not batch:
        return tensor
    sizes = list(tensor.shape)
    sizes[min(opens)] = batch
    return torch.zeros(sizes, dtype=tensor.dtype)
