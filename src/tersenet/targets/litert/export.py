"""The exporter: graph and plan in, one .tflite file out. What it needs of the runtime is imported on first use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tersenet.capabilities import Capabilities
from tersenet.errors import MissingDependencyError, RecipeError, unknown
from tersenet.target import Export, ExportOptions
from tersenet.targets.four_bits import OPTION, asked, holds_any
from tersenet.targets.litert.capabilities import LITERT

if TYPE_CHECKING:
    from tersenet.model import Model

OPTIONS = ("sparse", OPTION)


class LiteRTExporter:
    """Writes .tflite files for LiteRT."""

    def capabilities(self, cpu: str) -> Capabilities:
        """What the runtime can do; the same on every instruction set."""
        return LITERT

    def export(self, model: Model, path: Path, options: ExportOptions) -> Export:
        """Write one file: integer where the plan says so, float where there is none.

        Raises:
            RecipeError: an option that these files do not have.
            UnsupportedError: an operator that the runtime cannot run.
            MissingDependencyError: the packages that hold the schema are not installed.
        """
        for name in options.format:
            if name not in OPTIONS:
                raise RecipeError(unknown("option of litert files", name, OPTIONS))
        choice = asked(options)
        try:
            from tersenet.formats.tflite import Signature, write
            from tersenet.targets.litert.four_bits import in_four_bits
            from tersenet.targets.litert.network import lower
            from tersenet.targets.litert.sparse import could_be_smaller, without_zeros
        except ImportError as error:
            raise MissingDependencyError(f"LiteRT files need ai-edge-litert and flatbuffers ({error}): pip install 'tersenet[litert]'") from error
        lowered = lower(model, self.capabilities(options.cpu), replace(options, format={}))
        if options.format.get("sparse"):
            graph, about = without_zeros(lowered.graph)
        else:  # looked at only where somebody made zeros on purpose, for it takes its time
            graph, about = lowered.graph, could_be_smaller(lowered.graph) if model.annotations.masks else ()
        graph, stored = in_four_bits(graph, LITERT, choice) if holds_any(model.plan_for(LITERT.name)) else (graph, ())
        signature = Signature(tuple(port.source for port in lowered.inputs), tuple(port.source for port in lowered.outputs))
        path.write_bytes(write(graph, signature))
        moved = {name: order for name, order in lowered.orders.items() if order != tuple(range(len(order)))}
        stateful = any(tensor.variable for tensor in lowered.graph.tensors)
        notes = ("recurrent layers keep their state from one run to the next: call reset_all_variables() before each sequence",) if stateful else ()
        said = (*lowered.notes, *about, *stored, *notes)
        return Export(path, lowered.inputs, lowered.outputs, lowered.names, moved, (), said, stateful=stateful)
