"""Exported programs (``.pt2``), read without torch's own reader, which unpickles and evaluates what is in the file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import fx

from tersenet.errors import ModelError, TersenetError
from tersenet.frontend import Reading
from tersenet.frontends import pt2_own
from tersenet.frontends.archive import Archive, opened
from tersenet.frontends.pt2_graph import DTYPES, GraphReader, beyond
from tersenet.graph.tidy import attribute_name
from tersenet.graph.trace import trace_open
from tersenet.model import Model

LARGEST_EXAMPLE = 1 << 28  # elements of an example input: 1 GB of floats
_ENTRY = re.compile(r"^[A-Za-z0-9_]+$")
_NAME = re.compile(r"^[A-Za-z0-9_.]+$")
_DAMAGE = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OverflowError, StopIteration, SyntaxError)


class Pt2Frontend:
    """What ``torch.export.save`` wrote, or `tersenet.save`."""

    def accepts(self, source: Any) -> bool:
        return isinstance(source, Path) and source.suffix.lower() == ".pt2"

    def read(self, source: Path, reading: Reading) -> Model:
        if reading.weights:
            raise ModelError(f"{source} has weights of its own; other weights can be loaded into a torch module only (file.py:name).")
        name = reading.name or source.stem
        try:
            with opened(source) as archive:
                own = pt2_own.ENTRY in archive
                found = _read(archive, name)
                return replace(found, name=reading.name or found.name) if own else found
        except TersenetError as error:
            if reading.trust and not isinstance(error, ModelError):
                return _trusted(source, name)
            raise type(error)(_naming(source, str(error))) from error
        except _DAMAGE as error:
            raise ModelError(
                f"{source} is damaged: its description of the network does not hold together ({type(error).__name__}: {str(error)[:100]})."
            ) from error


def _naming(source: Path, text: str) -> str:
    return text if str(source) in text else f"{source}: {text}"


def _read(archive: Archive, name: str) -> Model:
    models = [entry for entry in archive.names() if re.fullmatch(r"models/[^/]+\.json", entry)]
    if len(models) != 1:
        if any(entry.startswith("serialized_") for entry in archive.names()):
            raise beyond("the form of torch before 2.8, whose weights are a pickle,")
        if any(entry.endswith("data.pkl") for entry in archive.names()):
            raise ModelError("it is a pickle, as torch.save writes it, and no program of torch.export; save the network with torch.export.save.")
        raise ModelError(f"a .pt2 file must hold one network, and this holds {len(models)}.")
    program = archive.json(models[0])
    version = program["schema_version"]["major"]
    if version != 8:
        raise beyond(f"schema version {version}")
    if "byteorder" in archive and archive.read("byteorder") != b"little":
        raise ModelError("its numbers are stored in big-endian order; save the network on a little-endian machine.")
    lifted, state, inputs = _signature(archive, Path(models[0]).stem, program)
    if pt2_own.ENTRY in archive:
        return pt2_own.model_of(archive.json(pt2_own.ENTRY), state)
    graph = GraphReader(program, lifted).read()
    used = {node.target for node in graph.nodes if node.op == "get_attr"}
    module = fx.GraphModule({target: state[target] for target in used}, graph)
    tensors, axes = _examples(program["graph_module"]["graph"], inputs)
    first = next(iter(tensors.values()))
    why = "" if 0 in axes[0] else f"it was exported with a fixed batch of {first.shape[0] if first.dim() else 1}; export it with dynamic_shapes"
    return trace_open(
        module, tensors, axes, name=name, fixed_batch=why, source={"file": archive.path.name, "torch": str(program["torch_version"])[:40]}
    )


def _signature(archive: Archive, stem: str, program: Mapping[str, Any]) -> tuple[dict[str, str], dict[str, torch.Tensor], list[str]]:
    """Placeholder -> name of its tensor; name -> tensor; names of the inputs, in order."""
    weights = _config(archive, f"data/weights/{stem}_weights_config.json")
    constants = _config(archive, f"data/constants/{stem}_constants_config.json")
    lifted: dict[str, str] = {}
    state: dict[str, torch.Tensor] = {}
    inputs: list[str] = []
    loaded: dict[str, torch.Tensor] = {}
    for entry in program["graph_module"]["signature"]["input_specs"]:
        ((kind, content),) = entry.items()
        if kind == "user_input":
            inputs += [content["arg"]["as_tensor"]["name"]] if "as_tensor" in content["arg"] else []
        elif kind in {"parameter", "buffer", "tensor_constant"}:
            target = content[f"{kind}_name"]
            if not _NAME.match(target):
                raise ModelError(f"a parameter is called {target[:80]!r}")
            folder, meta = ("weights", weights[target]) if target in weights else ("constants", constants[target])
            held = attribute_name(target)
            lifted[content["arg"]["name"]] = held
            state[held] = _shared(archive, f"data/{folder}/", meta, kind == "parameter", loaded)
        elif kind != "constant_input":
            raise beyond(f"an input of kind {kind}")
    return lifted, state, inputs


def _config(archive: Archive, entry: str) -> Mapping[str, Any]:
    return archive.json(entry)["config"] if entry in archive else {}


def _shared(archive: Archive, folder: str, meta: Mapping[str, Any], is_parameter: bool, loaded: dict[str, torch.Tensor]) -> torch.Tensor:
    """The tensor behind a record; what two names share stays shared."""
    key = f"{folder} {meta}"
    if key not in loaded:
        tensor = _tensor(archive, folder, meta)
        loaded[key] = torch.nn.Parameter(tensor, tensor.is_floating_point()) if is_parameter else tensor
    return loaded[key]


def _tensor(archive: Archive, folder: str, meta: Mapping[str, Any]) -> torch.Tensor:
    if meta["use_pickle"]:
        raise beyond(f"a pickled tensor ({meta['path_name']})")
    if not _ENTRY.match(meta["path_name"]):
        raise ModelError(f"a tensor's entry is called {meta['path_name'][:80]!r}")
    described = meta["tensor_meta"]
    if described["layout"] != 7 or described["device"]["type"] != "cpu" or described["dtype"] not in DTYPES:
        raise ModelError(f"the tensor {meta['path_name']} must be dense and on the CPU; export the network on the CPU")
    dtype = DTYPES[described["dtype"]]
    sizes, strides = [_fixed(size) for size in described["sizes"]], [_fixed(stride) for stride in described["strides"]]
    offset = _fixed(described["storage_offset"])
    if len(sizes) != len(strides) or min([*sizes, *strides, offset, 0]) < 0:
        raise ModelError(f"the tensor {meta['path_name']} has sizes {sizes} and strides {strides}")
    if 0 in sizes:
        return torch.empty(sizes, dtype=dtype)
    raw = archive.buffer(folder + meta["path_name"])
    needed = (offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) + 1) * dtype.itemsize
    if needed > len(raw) or math.prod(sizes) * dtype.itemsize > len(raw):
        raise ModelError(f"the tensor {meta['path_name']} needs {max(needed, math.prod(sizes) * dtype.itemsize)} bytes, and {len(raw)} are there")
    whole = torch.frombuffer(raw, dtype=dtype, count=len(raw) // dtype.itemsize)
    tensor = whole.as_strided(sizes, strides, offset)
    # A part of a larger storage, or one in another order, gets memory of its own; a whole one has it.
    return tensor.clone(memory_format=torch.contiguous_format) if tensor.numel() < whole.numel() or not tensor.is_contiguous() else tensor


def _fixed(size: Mapping[str, Any]) -> int:
    value = size["as_int"]
    if not isinstance(value, int):
        raise ModelError("a size must be an integer")
    return value


def _examples(graph: Mapping[str, Any], inputs: list[str]) -> tuple[dict[str, torch.Tensor], list[set[int]]]:
    """Example inputs of the sizes that the file states, and the axes of each that may be of any size.

    An open size is an expression in the file; it is not evaluated: its hint, the size that the network was exported with, is taken.
    """
    tensors, axes = {}, []
    for name in inputs:
        meta = graph["tensor_values"][name]
        sizes = [size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"] for size in meta["sizes"]]
        if not all(isinstance(size, int) and size >= 0 for size in sizes) or math.prod(sizes) > LARGEST_EXAMPLE:
            raise ModelError(f"the input {name} has the sizes {sizes}; they must be integers, with at most {LARGEST_EXAMPLE} elements in all.")
        tensors[name] = torch.zeros(sizes, dtype=DTYPES[meta["dtype"]])
        axes.append({axis for axis, size in enumerate(meta["sizes"]) if "as_expr" in size})
    if not tensors:
        raise ModelError("the network has no tensor among its inputs")
    return tensors, axes


def _trusted(source: Path, name: str) -> Model:
    """With torch's own reader; only where the user trusts the file."""
    try:
        program = torch.export.load(source)
    except Exception as error:  # torch raises whatever its parts do
        raise ModelError(f"{source} cannot be read by torch.export.load: {type(error).__name__}: {str(error).splitlines()[0][:200]}") from error
    by_name = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
    values = {entry: by_name[entry] for entry in program.graph_signature.user_inputs if isinstance(by_name.get(entry), torch.Tensor)}
    sizes = {entry: [size if isinstance(size, int) else size.node.hint for size in value.shape] for entry, value in values.items()}
    tensors = {entry: torch.zeros(sizes[entry], dtype=value.dtype) for entry, value in values.items()}
    axes = [{axis for axis, size in enumerate(value.shape) if not isinstance(size, int)} for value in values.values()]
    why = "" if 0 in axes[0] else "it was exported with a fixed batch; export it with dynamic_shapes"
    return trace_open(program.module(), tensors, axes, name=name, fixed_batch=why, source={"file": source.name})
