"""Writes .onnx files: graph and plan in, standard QDQ (or QOperator) out.

The ONNX operators are written here, from the same deployable graph that plans speak of, rather than by torch.onnx: a
MobileNetV2 takes milliseconds instead of seconds, names and sharing are ours, and nothing has to be undone afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from pathlib import Path

import numpy as np
import torch
from torch import fx

from tersenet.capabilities import Capabilities
from tersenet.errors import RecipeError, unknown
from tersenet.formats.onnx import Graph, Operator, Value, encode
from tersenet.graph.deploy import deployable
from tersenet.graph.narrow import clip_narrow_values
from tersenet.graph.operators import kind_of
from tersenet.graph.rewrite import QuantizeDequantize, apply_plan
from tersenet.graph.walk import inputs, outputs
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.store import write_file
from tersenet.target import Export, ExportOptions
from tersenet.targets.four_bits import OPTION, asked, holds_any
from tersenet.targets.onnxruntime.capabilities import capabilities
from tersenet.targets.onnxruntime.compact import compact
from tersenet.targets.onnxruntime.flatten import flatten_products
from tersenet.targets.onnxruntime.four_bits import RUNTIME, in_four_bits
from tersenet.targets.onnxruntime.lowering import Lowering
from tersenet.targets.onnxruntime.operators.quantization import DEQUANTIZE, QUANTIZE, numbers
from tersenet.targets.onnxruntime.operators.table import BUILDERS
from tersenet.targets.onnxruntime.qoperator import to_qoperators
from tersenet.tensors import Port, TensorSpec

OPTIONS = ("qoperator", OPTION)


class OnnxExporter:
    """The exporter of the `onnxruntime` target."""

    def capabilities(self, cpu: str) -> Capabilities:
        return capabilities(cpu)

    def export(self, model: Model, path: Path, options: ExportOptions) -> Export:
        for name in options.format:
            if name not in OPTIONS:
                raise RecipeError(unknown("option of onnxruntime files", name, OPTIONS))
        plan, choice = model.plan_for("onnxruntime"), asked(options)
        module = deployable(model, plan)
        network = {node.name for node in module.graph.nodes if node.op != "get_attr"}
        if plan is not None:
            plan = clip_narrow_values(module, plan, capabilities(options.cpu).kernels)
            apply_plan(module, plan, QuantizeDequantize("uint8"))
            flatten_products(module)
        file = _File(module, model, plan, options)
        file.build.lower(BUILDERS)
        ports = file.inputs, file.outputs()
        graph = file.build.graph
        if options.format.get("qoperator"):
            to_qoperators(graph)
        stored = in_four_bits(graph) if choice != "never" and holds_any(plan) else ()
        final = compact(graph)
        write_file(path, encode(graph))
        runtime = RUNTIME if stored else ""
        return Export(path, *ports, names=file.names(final, network), notes=(*file.notes, *stored), runtime=runtime)


class _File:
    """Inputs, outputs and names of one file."""

    def __init__(self, module: fx.GraphModule, model: Model, plan: QuantizationPlan | None, options: ExportOptions) -> None:
        self.module = module
        self.model = model
        self.plan = plan
        self.integer_io = bool(options.integer_io) and plan is not None
        self.layout = options.layout
        self.build = Lowering(module, capabilities(options.cpu).saturating_pairs)
        self.notes: list[str] = []
        self.sizes: dict[str, str] = {}
        self.inputs = tuple(self._input(node, spec) for node, spec in zip(inputs(module), model.inputs, strict=True))

    @property
    def graph(self) -> Graph:
        return self.build.graph

    def _input(self, node: fx.Node, spec: TensorSpec) -> Port:
        """Declare one input; where the file takes integers, they stand for the quantized value."""
        conversion = next((user for user in node.users if kind_of(user) == QUANTIZE), None) if self.integer_io else None
        value, axes = node.meta["val"], self._axes(spec, node.meta["val"].dim())
        kind = str(conversion.args[5] if conversion is not None else value.dtype).removeprefix("torch.")
        shape = tuple(value.shape[axis] for axis in axes) if axes else tuple(value.shape)
        self.graph.inputs.append(Value(spec.name, kind, self._shape(shape)))
        tensor = spec.name
        if axes:
            tensor = self.build.add("Transpose", spec.name, perm=[int(axis) for axis in np.argsort(axes)])
        scale, zero_point = None, None
        if conversion is not None:
            self.build.integers[node] = tensor
            scale, zero_point = float(conversion.args[1]), int(conversion.args[2])  # type: ignore[arg-type]
        elif self.integer_io and value.dtype.is_floating_point:
            self.notes.append(f"input {spec.name} stays float: no operator that reads it runs in integers.")
        self.build.made[node] = tensor
        layout = self.layout if axes else spec.layout
        open_shape = tuple(size if isinstance(size, int) else None for size in shape)
        return Port(spec.name, open_shape, kind, layout, spec.name, axes, scale, zero_point)

    def _axes(self, spec: TensorSpec, rank: int) -> tuple[int, ...]:
        """The source's axes in the file's order, where another layout of images was asked for."""
        if not self.layout or spec.layout == self.layout or rank != len(self.layout):
            return ()
        if sorted(spec.layout) != sorted(self.layout):
            self.notes.append(f"input {spec.name} keeps its axes: what they mean is not known, so {self.layout} could not be made of them.")
            return ()
        return tuple(spec.layout.index(letter) for letter in self.layout)

    def _shape(self, shape: tuple[int | torch.SymInt, ...]) -> tuple[int | str, ...]:
        """Numbers, and a name for each open size: the first of axis 0 is the batch."""
        names: list[int | str] = []
        for axis, size in enumerate(shape):
            if isinstance(size, int):
                names.append(size)
                continue
            taken = set(self.sizes.values())
            fresh = "batch" if axis == 0 and "batch" not in taken else f"size_{len(self.sizes)}"
            names.append(self.sizes.setdefault(str(size), fresh))
        return tuple(names)

    def outputs(self) -> tuple[Port, ...]:
        """Declare the outputs, under the network's own names."""
        return tuple(self._output(node, spec) for node, spec in zip(outputs(self.module), self.model.outputs, strict=True))

    def _output(self, node: fx.Node, spec: TensorSpec) -> Port:
        scale, zero_point, source = None, None, node
        if self.integer_io and kind_of(node) == DEQUANTIZE:
            source = node.args[0]  # type: ignore[assignment]
            scale, zero_point = float(node.args[1]), int(node.args[2])  # type: ignore[arg-type]
        elif self.integer_io and node.meta["val"].dtype.is_floating_point:
            self.notes.append(f"output {spec.name} stays float: the operator that makes it runs in float.")
        value = source.meta["val"]
        kind = str(value.dtype).removeprefix("torch.")
        taken = {value.name for value in (*self.graph.inputs, *self.graph.outputs)}
        name = spec.name if spec.name not in taken else f"{spec.name}_out"
        self.graph.outputs.append(Value(name, kind, self._shape(tuple(value.shape))))
        self._give(self.build.value(source), name)
        shape = tuple(size if isinstance(size, int) else None for size in value.shape)
        return Port(name, shape, kind, spec.layout, spec.name, (), scale, zero_point)

    def _give(self, tensor: str, name: str) -> None:
        """Let a tensor be called `name`; what is an input, a constant or an output already is copied."""
        fixed = {value.name for value in (*self.graph.inputs, *self.graph.outputs)} | set(self.graph.constants)
        if tensor in fixed:
            self.graph.operators.append(Operator("Identity", [tensor], [name]))
            return
        for operator in self.graph.operators:
            operator.inputs = [name if given == tensor else given for given in operator.inputs]
            operator.outputs = [name if given == tensor else given for given in operator.outputs]
        for node, made in self.build.made.items():
            if isinstance(made, str):
                self.build.made[node] = name if made == tensor else made
            else:
                self.build.made[node] = tuple(name if given == tensor else given for given in made)

    def names(self, final: Mapping[str, str], network: Set[str]) -> dict[str, str]:
        """Node of the deployable graph -> the file's tensor that its readers read, after quantization."""
        found = {}
        for node, made in self.build.made.items():
            if node.name not in network or not isinstance(made, str):
                continue
            held = next((name for name in (*self._quantized(node), made) if name in final), None)
            if held is not None:
                found[node.name] = final[held]
        return found

    def _quantized(self, node: fx.Node) -> Iterator[str]:
        """The tensors that hold a quantized value: first as its readers read it, then as integers."""
        encoding = self.plan.values.get(node.name) if self.plan is not None else None
        conversion = next((user for user in node.users if encoding and kind_of(user) == QUANTIZE and numbers(user)[0] == encoding.scale[0]), None)
        if conversion is None:
            return
        integers = [conversion]
        for held in integers:
            integers += [user for user in held.users if kind_of(user) == "reshape"]
        yield from (self.build.value(user) for held in integers for user in held.users if kind_of(user) == DEQUANTIZE)
        yield self.build.value(conversion)
