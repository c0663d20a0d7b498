"""The exporter for microcontrollers: the same files under a stricter table, and C source beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tersenet.capabilities import Capabilities
from tersenet.errors import MissingDependencyError, RecipeError, UnsupportedError, unknown
from tersenet.target import Export, ExportOptions
from tersenet.targets.four_bits import OPTION, asked, holds_any
from tersenet.targets.litert.capabilities import LITERT_MICRO, MICRO_OPERATORS

if TYPE_CHECKING:
    from tersenet.formats.tflite import Graph
    from tersenet.model import Model

CONVERSIONS = {"QUANTIZE", "DEQUANTIZE"}
OPTIONS = (OPTION,)


class MicroExporter:
    """Writes .tflite files of integers alone, and the C array and header that go into a firmware."""

    def capabilities(self, cpu: str) -> Capabilities:
        """What the interpreter for microcontrollers can do."""
        return LITERT_MICRO

    def export(self, model: Model, path: Path, options: ExportOptions) -> Export:
        """Write the file, and ``model.c`` and ``model.h`` beside it, called after it.

        Raises:
            RecipeError: an option that these files do not have.
            UnsupportedError: the network is not quantized, or has operators that the interpreter lacks; all are named.
            MissingDependencyError: the packages that hold the schema or the interpreter are not installed.
        """
        for name in options.format:
            if name not in OPTIONS:
                raise RecipeError(unknown("option of litert-micro files", name, OPTIONS))
        choice, plan = asked(options), model.plan_for(LITERT_MICRO.name)
        if plan is None:
            raise UnsupportedError("files for microcontrollers hold integers alone, and this network is float; quantize it for litert-micro first.")
        try:
            from tersenet.formats.tflite import write
            from tersenet.targets.litert.network import lower
        except ImportError as error:
            raise MissingDependencyError(f"LiteRT files need ai-edge-litert and flatbuffers ({error}): pip install 'tersenet[litert]'") from error
        from tersenet.targets.litert.arena import smallest_arena
        from tersenet.targets.litert.c_source import write_sources
        from tersenet.targets.litert.four_bits import in_four_bits

        lowered = lower(model, LITERT_MICRO, replace(options, format={}))
        refuse_missing(lowered.graph, {tensor: node for node, tensor in lowered.names.items()})
        graph, stored = in_four_bits(lowered.graph, LITERT_MICRO, choice) if holds_any(plan) else (lowered.graph, ())
        path.write_bytes(write(graph))
        arena = smallest_arena(path)
        sources = write_sources(path, arena["bytes"], sorted({operator.code for operator in lowered.graph.operators}))
        moved = {name: order for name, order in lowered.orders.items() if order != tuple(range(len(order)))}
        note = f"needs an arena of {arena['bytes']} bytes, measured on this machine; pointers of 32 bits need less"
        return Export(path, lowered.inputs, lowered.outputs, lowered.names, moved, sources, (*lowered.notes, *stored, note))


def refuse_missing(graph: Graph, layers: dict[str, str]) -> None:
    """Raise one error that names every operator that the interpreter lacks or that would run in floats."""
    problems = []
    for operator in graph.operators:
        made = graph.tensors[operator.outputs[0]]
        where = f"{operator.code} ({layers.get(made.name, made.name)})"
        if operator.code not in MICRO_OPERATORS:
            problems.append(f"{where}: the interpreter has no such operator")
        elif operator.code not in CONVERSIONS and any(
            graph.tensors[index].dtype == "float32" for index in (*operator.inputs, *operator.outputs) if index >= 0
        ):
            problems.append(f"{where}: it would run in floats")
    if problems:
        raise UnsupportedError(
            f"microcontrollers run integers and the operators of their interpreter alone; this network has {len(problems)} others: "
            f"{'; '.join(problems)}. Write these layers with other operators, or export for litert."
        )
