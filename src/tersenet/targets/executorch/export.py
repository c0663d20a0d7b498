"""Writes .pte files: graph and plan in, a program whose operators XNNPACK has taken out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx

from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError, unknown
from tersenet.graph.deploy import deployable
from tersenet.graph.walk import inputs, outputs
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.target import Export, ExportOptions
from tersenet.targets.executorch.capabilities import capabilities
from tersenet.targets.executorch.delegate import compile_program
from tersenet.targets.executorch.lower import border_grids, inner_values, lowered
from tersenet.targets.executorch.program import read_program
from tersenet.tensors import Port, TensorSpec
from tersenet.words import several


class ExecuTorchExporter:
    """The exporter of the `executorch` target."""

    def capabilities(self, cpu: str) -> Capabilities:
        return capabilities(cpu)

    def export(self, model: Model, path: Path, options: ExportOptions) -> Export:
        for name in options.format:
            raise RecipeError(unknown("option of executorch files", name, ()))
        plan = model.plan_for("executorch")
        integer_io = bool(options.integer_io) and plan is not None
        module = lowered(model, plan, options.batch, integer_io)
        data = _write(module, path)
        ports = _ports(module, model.inputs, model.outputs)
        notes = _notes(data, model, options, integer_io, ports)
        if not options.inside or plan is None:
            return Export(path, *ports, names=_names(module, *ports), notes=notes)
        debug = _debug(model, plan, path.with_name(f"{path.stem}-debug{path.suffix}"), options.batch)
        why = f"XNNPACK hides inner values: layers are compared on a debug export that returns them ({debug.path.name}), not on this file."
        return Export(path, *ports, names=_names(module, *ports), notes=(*notes, why), debug=debug)


def _write(module: fx.GraphModule, path: Path) -> bytes:
    examples = tuple(torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype) for node in inputs(module))
    data = bytes(compile_program(module, examples).buffer)
    path.write_bytes(data)
    return data


def _debug(model: Model, plan: QuantizationPlan, path: Path, batch: int) -> Export:
    """The same graph and plan in a file that returns what XNNPACK hides: every quantized value, as the integers that it is."""
    shown = inner_values(deployable(model), plan)
    module = lowered(model, plan, batch, False, shown)
    _write(module, path)
    values = tuple(TensorSpec(name, (), "int8") for name in shown)
    ports = _ports(module, model.inputs, (*model.outputs, *values))
    return Export(path, *ports, names={name: name for name in shown})


def _ports(module: fx.GraphModule, taken: tuple[TensorSpec, ...], returned: tuple[TensorSpec, ...]) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    grids = border_grids(module)

    def made(nodes: list[fx.Node], specs: tuple[TensorSpec, ...]) -> tuple[Port, ...]:
        return tuple(_port(node, spec, grids.get(node)) for node, spec in zip(nodes, specs, strict=True))

    return made(inputs(module), taken), made(outputs(module), returned)


def _port(node: fx.Node, spec: TensorSpec, grid: tuple[float, int] | None) -> Port:
    """A program knows its inputs and outputs by their places alone: here they have the source's names."""
    value = node.meta["val"]
    dtype = str(value.dtype).removeprefix("torch.")
    scale, zero_point = grid if grid is not None else (None, None)
    return Port(spec.name, tuple(int(size) for size in value.shape), dtype, spec.layout, spec.name, tuple(range(value.dim())), scale, zero_point)


def _names(module: fx.GraphModule, taken: tuple[Port, ...], returned: tuple[Port, ...]) -> dict[str, str]:
    """Only what goes in and comes out has a name: the delegate hides everything between."""
    pairs = [*zip(inputs(module), taken, strict=True), *zip(outputs(module), returned, strict=True)]
    return {node.name: port.name for node, port in pairs}


def _notes(data: bytes, model: Model, options: ExportOptions, integer_io: bool, ports: tuple[tuple[Port, ...], tuple[Port, ...]]) -> tuple[str, ...]:
    program = read_program(data)
    notes = []
    if program.kernels:
        names = ", ".join(sorted({name.removeprefix("aten::") for name in program.kernels}))
        notes.append(
            f"XNNPACK took {several(program.delegated, 'operator')} in {several(len(program.delegates), 'part')}; on portable kernels run: {names}."
        )
    if integer_io:
        for port in (*ports[0], *ports[1]):
            if port.dtype == "float32":
                notes.append(f"{port.source} stays float32 although integers were asked for: it is not quantized.")
    if options.layout and any(spec.layout and spec.layout != options.layout for spec in model.inputs):
        notes.append(f"layout {options.layout} was asked for; executorch files keep the source's layout.")
    return tuple(notes)
