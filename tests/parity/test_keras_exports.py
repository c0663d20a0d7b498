"""Every row of the table of Keras layers, and random networks, as float files in the runtimes."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_networks
from keras_layers import CASES, Case, convert, inputs_of, layer_of, randomized
from tersenet.errors import UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.trace import trace
from tersenet.model import Model
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("pyfive")
pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner

keras = pytest.importorskip("keras")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:You passed `rms_scaling=True`"),
]
RUNTIMES = {"litert": (LiteRTExporter, LiteRTRunner), "onnxruntime": (OnnxExporter, OnnxRunner)}
BATCH = 3
# Configurations that a runtime has no operator for: its own limits, which it names.
CANNOT: dict[str, dict[str, str]] = {
    "litert": {"Conv1DTranspose": "dilation", "Conv2DTranspose": "dilation", "Conv3DTranspose": "", "Conv3D": "one group"},
    "onnxruntime": {},
}
NEITHER = {"Resizing": "bilinear2d_aa"}


def as_in(runtime: str, model: Model, inputs: list[np.ndarray], path: Path) -> tuple[np.ndarray, ...]:
    """What a float file gives."""
    exporter, runner = RUNTIMES[runtime]
    export = exporter().export(model, path, ExportOptions(batch=BATCH))
    found = Artifact(export.path, runtime, runner().load(export.path), export.inputs, export.outputs)(*inputs)
    return found if isinstance(found, tuple) else (found,)


def close(found: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.shape == theirs.shape
        assert np.abs(mine.astype(np.float64) - theirs).max(initial=0) <= 1e-3 * max(1.0, float(np.abs(theirs).max(initial=0)))


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("kind", [kind for kind, cases in CASES.items() if cases])
def test_a_layer_runs(kind: str, runtime: str, tmp_path: Path) -> None:
    excused = {**NEITHER, **CANNOT[runtime]}.get(kind)
    for place, (model, inputs, wanted) in enumerate(traced_cases(kind)):
        try:
            found = as_in(runtime, model, inputs, tmp_path / f"{place}")
        except UnsupportedError as error:
            assert excused is not None, error
            assert excused in str(error)
            continue
        close(found, (wanted,))


@lru_cache(maxsize=1)  # both runtimes, one after the other
def traced_cases(kind: str) -> list[tuple[Model, list[np.ndarray], np.ndarray]]:
    return [traced(kind, case) for case in CASES[kind]]


def traced(kind: str, case: Case) -> tuple[Model, list[np.ndarray], np.ndarray]:
    layer, inputs = getattr(keras.layers, kind)(**case.options), inputs_of(case, BATCH)
    given_to = [torch.from_numpy(array) for array in inputs]
    with torch.no_grad():
        layer(given_to if len(given_to) > 1 else given_to[0], **({"training": False} if layer._call_has_training_arg else {}))
        randomized(layer)
        module = convert(layer_of(layer, [(None, *shape) for shape in case.shapes]))
        return trace(module, tuple(inputs)), inputs, module(*given_to).numpy()


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_networks_run(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    network = keras_networks.network(data.draw, chain=data.draw(st.booleans()))
    folder = tmp_path_factory.mktemp("network")
    network.save(folder / "network.keras")
    model, inputs = load(folder / "network.keras"), keras_networks.inputs_of(network)
    wanted = model(*inputs)
    for runtime in RUNTIMES:
        try:
            found = as_in(runtime, model, inputs, folder / runtime)
        except UnsupportedError as error:  # the one limit of the layers that are drawn
            assert runtime == "litert"
            assert "dilation" in str(error)
            continue
        close(found, wanted if isinstance(wanted, tuple) else (wanted,))
