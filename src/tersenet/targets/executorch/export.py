"""Writes .pte files: graph and plan in, a program whose operators XNNPACK has taken out."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import fx

from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError, unknown
from tersenet.graph.walk import inputs, outputs
from tersenet.model import Model
from tersenet.target import Export, ExportOptions
from tersenet.targets.executorch.capabilities import capabilities
from tersenet.targets.executorch.delegate import compile_program
from tersenet.targets.executorch.lower import border_grids, lowered
from tersenet.targets.executorch.program import read_program
from tersenet.tensors import Port, TensorSpec


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
        examples = tuple(torch.zeros(node.meta["val"].shape, dtype=node.meta["val"].dtype) for node in inputs(module))
        data = bytes(compile_program(module, examples).buffer)
        path.write_bytes(data)
        ports = _ports(module, model)
        return Export(path, *ports, names=_names(module, *ports), notes=_notes(data, model, options, integer_io, ports))


def _ports(module: fx.GraphModule, model: Model) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    grids = border_grids(module)

    def made(kind: str, nodes: list[fx.Node], specs: tuple[TensorSpec, ...]) -> tuple[Port, ...]:
        pairs = zip(nodes, specs, strict=True)
        return tuple(_port(f"{kind}_{number}", node, spec, grids.get(node)) for number, (node, spec) in enumerate(pairs))

    return made("input", inputs(module), model.inputs), made("output", outputs(module), model.outputs)


def _port(name: str, node: fx.Node, spec: TensorSpec, grid: tuple[float, int] | None) -> Port:
    value = node.meta["val"]
    dtype = str(value.dtype).removeprefix("torch.")
    scale, zero_point = grid if grid is not None else (None, None)
    return Port(name, tuple(int(size) for size in value.shape), dtype, spec.layout, spec.name, tuple(range(value.dim())), scale, zero_point)


def _names(module: fx.GraphModule, taken: tuple[Port, ...], returned: tuple[Port, ...]) -> dict[str, str]:
    """Only what goes in and comes out has a name: the delegate hides everything between."""
    pairs = [*zip(inputs(module), taken, strict=True), *zip(outputs(module), returned, strict=True)]
    return {node.name: port.name for node, port in pairs}


def _notes(data: bytes, model: Model, options: ExportOptions, integer_io: bool, ports: tuple[tuple[Port, ...], tuple[Port, ...]]) -> tuple[str, ...]:
    program = read_program(data)
    notes = []
    if program.kernels:
        names = ", ".join(sorted({name.removeprefix("aten::") for name in program.kernels}))
        notes.append(f"XNNPACK took {program.delegated} operators in {len(program.delegates)} parts; on portable kernels run: {names}.")
    if integer_io:
        for port in (*ports[0], *ports[1]):
            if port.dtype == "float32":
                notes.append(f"{port.source} stays float32 although integers were asked for: it is not quantized.")
    if options.layout and any(spec.layout and spec.layout != options.layout for spec in model.inputs):
        notes.append(f"layout {options.layout} was asked for; executorch files keep the source's layout.")
    return tuple(notes)
