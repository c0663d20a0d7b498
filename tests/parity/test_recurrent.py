"""Recurrent layers of every form in every runtime that has them: floats against torch, int8 weights against the simulation."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
import torch
from torch import nn

from tersenet.data.parts import Data
from tersenet.errors import UnsupportedError
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.measure.agreement import sqnr_db
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.targets import table

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")

INPUTS, SIZE, LENGTH = 12, 16, 9


class Recurrent(nn.Module):
    """A layer and what is read of it: the sequence, or the last hidden or cell states."""

    def __init__(self, kind: type[nn.RNNBase], read: str = "sequence", given: bool = False, **options) -> None:
        super().__init__()
        self.layer, self.read = kind(INPUTS, SIZE, **{"batch_first": True, **options}), read
        count = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
        self.starts = nn.ParameterList(nn.Parameter(torch.randn(count, 1, SIZE)) for _ in range((1 + (kind is nn.LSTM)) * given))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence = x if self.layer.batch_first else x.transpose(0, 1)
        states = tuple(start.expand(-1, x.shape[0], -1) for start in self.starts)
        result, last = self.layer(sequence, states if len(states) > 1 else states[0]) if states else self.layer(sequence)
        if self.read == "sequence":
            return result if self.layer.batch_first else result.transpose(0, 1)
        chosen = last[int(self.read == "cell")] if isinstance(last, tuple) else last
        return chosen.transpose(0, 1).flatten(1)


FORMS: dict[str, dict] = {
    "plain": {},
    "time first": {"batch_first": False},
    "without biases": {"bias": False},
    "deep, both ways": {"num_layers": 2, "bidirectional": True},
    "both ways, time first": {"bidirectional": True, "batch_first": False},
    "last hidden": {"read": "hidden", "num_layers": 2},
    "given states": {"given": True, "num_layers": 2, "bidirectional": True},
}
CASES: dict[str, tuple[type[nn.RNNBase], dict]] = {f"lstm, {form}": (nn.LSTM, options) for form, options in FORMS.items()}
CASES |= {f"gru, {form}": (nn.GRU, FORMS[form]) for form in ("plain", "without biases", "both ways, time first", "last hidden", "given states")}
CASES |= {f"tanh, {form}": (nn.RNN, FORMS[form]) for form in ("plain", "deep, both ways", "given states")}
CASES["relu, both ways"] = (nn.RNN, {"nonlinearity": "relu", "bidirectional": True})
CASES["lstm, last cell"] = (nn.LSTM, {"read": "cell", "bidirectional": True})
CASES["lstm, last cell of given states"] = (nn.LSTM, {"read": "cell", "given": True})
CASES["lstm, projected"] = (nn.LSTM, {"proj_size": 5, "bidirectional": True})
RUNTIMES = ("onnxruntime", "litert")


@lru_cache(maxsize=2)
def network(name: str) -> tuple[Model, np.ndarray]:
    kind, options = CASES[name]
    torch.manual_seed(0)
    module = Recurrent(kind, **options).eval()
    x = np.random.default_rng(1).standard_normal((8, LENGTH, INPUTS)).astype(np.float32)
    return load(module, (torch.from_numpy(x[:2]),)), x


def quantized(model: Model, x: np.ndarray, runtime: str, **options) -> Model:
    capabilities = table.capabilities(table.find(runtime))
    return Quantize(**options).apply(model, Context((capabilities,), Data.from_arrays(calibration=x))).model


def exported(model: Model, runtime: str, folder, **options) -> Artifact:
    target = table.find(runtime)
    export = table.exporter(target).export(model, folder / f"model{target.extension}", ExportOptions(**options))
    return Artifact(export.path, runtime, table.runner(target).load(export.path), export.inputs, export.outputs)


def refused(name: str, runtime: str) -> bool:
    """onnxruntime has no LSTM that projects its state."""
    return runtime == "onnxruntime" and "projected" in name


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", sorted(CASES))
def test_floats_and_int8_weights(name: str, runtime: str, tmp_path) -> None:
    model, x = network(name)
    if refused(name, runtime):
        with pytest.raises(UnsupportedError, match="projects"):
            exported(model, runtime, tmp_path)
        return
    artifact = exported(model, runtime, tmp_path)
    expected = model(x)
    np.testing.assert_allclose(artifact(x), expected, atol=1e-5)
    whole = artifact.path.stat().st_size

    small = quantized(model, x, runtime)
    plan = small.plans[0]
    assert len([unit for unit in plan.units.values() if unit.dynamic]) == 1
    assert not plan.values and all("no heavy operator" in why for why in plan.float_operators.values())  # permutes beside the layer
    artifact = exported(small, runtime, tmp_path)
    result, simulated = artifact(x), simulate(small, plan)(x)
    assert sqnr_db(simulated, result) > 55
    assert sqnr_db(expected, result) > 28
    weights = sum(tensor.numel() for key, tensor in model.graph.state_dict().items() if "weight" in key)
    assert artifact.path.stat().st_size < whole - 1.5 * weights  # scales, and operators that make floats again, take their share in so small a layer


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_one_operator_whatever_the_length(runtime: str, tmp_path) -> None:
    model, x = network("lstm, plain")
    operators = exported(quantized(model, x, runtime), runtime, tmp_path).session.operators().operators
    assert operators.get("DynamicQuantizeLSTM" if runtime == "onnxruntime" else "UNIDIRECTIONAL_SEQUENCE_LSTM") == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_of_litert_files(batch: int, tmp_path) -> None:
    model, x = network("lstm, deep, both ways")
    small = quantized(model, x, "litert")
    result = exported(small, "litert", tmp_path, batch=batch)(x)
    assert sqnr_db(simulate(small, small.plans[0])(x), result) > 55


@pytest.mark.parametrize("options", [{"granularity": "per-tensor"}, {"weights": "int4"}, {"weight_ranges": "mse"}, {"full_range": True}])
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", ["lstm, deep, both ways", "gru, both ways, time first"])
def test_options_of_weights(name: str, runtime: str, options: dict, tmp_path) -> None:
    model, x = network(name)
    small = quantized(model, x, runtime, **options)
    result = exported(small, runtime, tmp_path)(x)
    assert sqnr_db(simulate(small, small.plans[0])(x), result) > (40 if "weights" in options else 55)
    assert sqnr_db(model(x), result) > (8 if "weights" in options else 28)


class Reviews(nn.Module):
    """Embedding, LSTM, linear layer: the network of every tutorial on reviews."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(200, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embedding(x))[0][:, -1])


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_layers_beside_an_lstm_run_in_integers(runtime: str, tmp_path) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).integers(0, 200, (64, 20))
    model = load(Reviews().eval(), (torch.from_numpy(x[:2]),))
    small = quantized(model, x, runtime)
    plan = small.plans[0]
    assert {unit.kind for unit in plan.units.values() if not unit.dynamic} >= {"embedding", "linear"}
    assert [unit.kind for unit in plan.units.values() if unit.dynamic] == ["lstm"]
    assert not plan.float_operators
    artifact = exported(small, runtime, tmp_path)
    result, simulated = artifact(x), simulate(small, plan)(x)
    assert (result.argmax(1) == simulated.argmax(1)).mean() > 0.98
    assert sqnr_db(simulated, result) > 35
    operators = artifact.session.operators()
    assert {entry["op"] for entry in operators.declined} <= {"UNIDIRECTIONAL_SEQUENCE_LSTM", "EMBEDDING_LOOKUP", "GATHER", "CAST"}
