"""ONNX files, opset 7 to the newest, as trainable graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from tersenet.errors import MissingDependencyError, ModelError, TersenetError
from tersenet.frontend import Reading
from tersenet.frontends.mapping import mapped, release
from tersenet.frontends.onnx.activations import restore_activations
from tersenet.frontends.onnx.batch import why_joined
from tersenet.frontends.onnx.compute import check_known
from tersenet.frontends.onnx.dequantize import open_quantized, scale_weights
from tersenet.frontends.onnx.fold import fold
from tersenet.frontends.onnx.inputs import declared_inputs, examples, fix_inputs, given_inputs
from tersenet.frontends.onnx.linear import spell_linear
from tersenet.frontends.onnx.network import Network
from tersenet.frontends.onnx.program import Builder, Program
from tersenet.frontends.onnx.recurrent import spell_recurrent
from tersenet.frontends.onnx.tensors import Constant, Folder
from tersenet.frontends.onnx.wire import TORN, Cut, without_tensors
from tersenet.graph.grids import with_grids
from tersenet.graph.signature import unique
from tersenet.graph.tidy import attribute_name, identifier
from tersenet.graph.trace import trace_open
from tersenet.model import Model

OLDEST = 7  # operators had other attributes before it
NEWEST = 28  # later ones may mean something else by the same name; a test compares it with the installed onnx


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
    given = given_inputs(proto, reading.example_inputs)
    builder = Builder(proto, raw, Folder(source.parent))
    program = builder.build(declared_inputs(proto))
    for view in raw.views():
        release(view)  # what lay askew was copied
        break
    del proto, raw, builder
    _check_opset(program)
    fix_inputs(program, given)
    check_known([operation.node for operation in program.block.operations if not operation.branches])
    fold(program)
    open_quantized(program)
    fold(program)
    scale_weights(program)
    fold(program)
    spell_linear(program)
    spell_recurrent(program)
    if not program.inputs:
        raise ModelError("the network takes no tensor.")
    tensors, axes, fixed = examples(program, given, reading.dynamic)
    names = unique([identifier(name) for name in program.results])
    network = Network(program, names, fixed).eval()  # it runs too, and what trains would move the statistics of batch norm
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


def _parsed(source: Path) -> tuple[Any, Cut]:
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
    if not OLDEST <= version <= NEWEST and any(not operation.node.domain for operation in program.operations()):
        raise ModelError(f"it is written for opset {version}; {OLDEST} to {NEWEST} are read. onnx.version_converter makes it one of those.")


def _traced(network: Network, tensors: Mapping[str, torch.Tensor], axes: Sequence[Set[int]], name: str) -> Model:
    """With an open batch where that works, and gives what the file gives; else with the file's own, and the reason."""
    why = ""
    if any(axes):
        try:
            model = trace_open(network, tensors, axes, name=name, fixed_batch="", source={})
            own = [_at(tensor, held, network.batch) for tensor, held in zip(tensors.values(), axes, strict=True)]
            why = why_joined(model, lambda *parts: tuple(network(*parts).values()), own, axes) if network.batch else ""
            if not why:
                return model
        except ModelError as error:
            why = str(error)
    left = [opens - {min(opens)} if opens else set() for opens in axes]
    for batch in (network.batch,) if network.batch else (1, 2):  # exporters write the one of their example, and call it open
        held = {key: _at(tensor, opens, batch) for (key, tensor), opens in zip(tensors.items(), axes, strict=True)}
        try:
            return trace_open(network, held, left, name=name, fixed_batch=why or f"the file has a batch of {batch} written into it", source={})
        except ModelError as error:
            failed = error
    raise failed


def _at(tensor: torch.Tensor, opens: Set[int], batch: int) -> torch.Tensor:
    """An example of the file's own batch."""
    if not opens or not batch:
        return tensor
    sizes = list(tensor.shape)
    sizes[min(opens)] = batch
    return torch.zeros(sizes, dtype=tensor.dtype)
