"""What a network and its plan say of a file before it runs: simulated outputs, layers' errors, what stays in float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tersenet.capabilities import Capabilities
from tersenet.data.parts import Data, Part
from tersenet.graph.cost import bytes_moved
from tersenet.graph.deploy import deployable
from tersenet.graph.operators import kind_of
from tersenet.graph.simulate import simulate
from tersenet.graph.walk import layer_of, outputs
from tersenet.layers import compare_layers, simulated_values
from tersenet.measure.quality import outputs_of
from tersenet.model import Model
from tersenet.plan import QuantizationPlan
from tersenet.progress import Progress
from tersenet.record import FloatOperator, Layer

# The simulation runs in floats and is slow: agreement is judged on at most so many samples, layers on fewer still.
AGREEMENT_SAMPLES = 2000
LAYER_SAMPLES = 16
LAYER_BATCH = 4


Outputs = np.ndarray | Sequence[np.ndarray]


@dataclass
class Simulated:
    """Outputs of a simulation, computed when they are asked for: a slow runtime judges, and so compares, fewer samples than a fast one.

    Args:
        model: the simulation.
        part: the samples.
        progress: called with (done, total, what).
    """

    model: Model
    part: Part
    progress: Progress
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    outputs: Outputs = ()

    def __call__(self, rows: np.ndarray) -> Outputs:
        """Of some samples, in order; those of the last call are kept."""
        if not np.isin(rows, self.rows).all():
            self.outputs, _ = outputs_of(self.model, self.part[rows], progress=lambda done, total, _: self.progress(done, total, "simulating"))
            self.rows = rows
        places = np.searchsorted(self.rows, rows)
        return self.outputs[places] if isinstance(self.outputs, np.ndarray) else [array[places] for array in self.outputs]


@dataclass(frozen=True)
class Expectation:
    """What a file should compute, and what is known of it.

    Args:
        simulated: what the simulation makes of samples of the evaluation part; None where the network was not quantized.
        rows: which samples are to be compared at most, in order.
        step: the scale of the first quantized output; None where it is float.
        float_ops: operators that stay in float, and why.
        layers: errors of each layer, by the value that it makes.
        inner: the simulation's quantized values for `sample`, by name; empty unless the files' layers are to be looked at.
        sample: one evaluation sample.
        bytes_moved: weights and activations read and written in one run, in the types that the file keeps them in.
    """

    simulated: Simulated | None = None
    rows: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    step: float | None = None
    float_ops: tuple[FloatOperator, ...] = ()
    layers: Mapping[str, Layer] = field(default_factory=dict)
    inner: Mapping[str, np.ndarray] = field(default_factory=dict)
    sample: tuple[np.ndarray, ...] = ()
    bytes_moved: int | None = None


def chosen_rows(total: int, count: int, seed: int) -> np.ndarray:
    """`count` of `total` samples in their order; a smaller choice by the same seed lies within a larger one."""
    return np.sort(np.random.default_rng(seed).permutation(total)[:count])


def in_float(model: Model) -> Expectation:
    """Of a network without a plan."""
    return Expectation(bytes_moved=bytes_moved(deployable(model)))


def expectations(
    model: Model, plan: QuantizationPlan, tables: Sequence[Capabilities], data: Data, seed: int, progress: Progress, inside: bool = False
) -> dict[str, Expectation]:
    """Make ready to simulate a plan on the evaluation part, and look at each layer.

    Args:
        model: the network.
        plan: of one or several runtimes.
        tables: of the runtimes; those whose kernels compute alike share a simulation.
        data: bound to the network.
        seed: of the choice of samples.
        progress: called with (done, total, what).
        inside: keep inner values of one sample, to compare the files' own with.

    Returns:
        By the names of the runtimes.
    """
    graph = deployable(model, plan)
    nodes = {node.name: node for node in graph.graph.nodes}
    first = plan.values.get(outputs(graph)[0].name)
    batches = (model.filled(arrays) for arrays, _ in data.calibration.take(LAYER_SAMPLES).batches(model.batches_of(LAYER_BATCH)))
    common = Expectation(
        rows=chosen_rows(len(data.evaluation), AGREEMENT_SAMPLES, seed),
        step=first.scale[0] if first else None,
        float_ops=tuple(FloatOperator(kind_of(nodes[name]), layer_of(nodes[name]), why) for name, why in plan.float_operators.items()),
        layers=compare_layers(model, plan, batches),
        sample=data.evaluation.batch(slice(0, 1))[0],
        bytes_moved=bytes_moved(graph, plan),
    )
    kinds = {"quantize", *(unit.kind for unit in plan.units.values())}
    made: dict[tuple[tuple[str, str], ...], Expectation] = {}
    found = {}
    for table in tables:
        arithmetic = {kind: library for kind, library in table.arithmetic.items() if kind in kinds}
        key = tuple(sorted(arithmetic.items()))
        if key not in made:
            simulated = Simulated(simulate(model, plan, arithmetic), data.evaluation, progress)
            made[key] = replace(common, simulated=simulated, inner=simulated_values(model, plan, common.sample, arithmetic) if inside else {})
        found[table.name] = made[key]
    return found
