"""Operators that runtimes' tables do not speak of by name: written as others, or by kernels of one runtime; files give what torch gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from operator_networks import Formula
from tersenet.errors import UnsupportedError
from tersenet.frontends.table import load
from tersenet.target import Artifact, ExportOptions

pytest.importorskip("ai_edge_litert")
pytest.importorskip("onnxruntime")
from tersenet.targets.litert.export import LiteRTExporter
from tersenet.targets.litert.run import LiteRTRunner
from tersenet.targets.onnxruntime.export import OnnxExporter
from tersenet.targets.onnxruntime.run import OnnxRunner

RUNTIMES = {"litert": (LiteRTExporter, LiteRTRunner), "onnxruntime": (OnnxExporter, OnnxRunner)}
X = np.random.default_rng(0).uniform(-2, 2, (2, 5, 6)).astype(np.float32)
X[0, 0, :3] = 0, 0.5, -0.5
Function = Callable[[torch.Tensor], torch.Tensor]
UNIT = torch.linspace(-1, 1, 5 * 6).reshape(5, 6)

EVERYWHERE: Mapping[str, Function] = {
    "acos": lambda x: torch.acos(torch.tanh(x)),
    "acosh": lambda x: torch.acosh(x.abs() + 1.01),
    "all": lambda x: (x > -1).all(2).float(),
    "any": lambda x: (x > 1).any(1).float(),
    "argsort": lambda x: x.argsort(1, descending=True).float(),
    "asin": lambda x: torch.asin(torch.tanh(x)) + torch.asin(UNIT),
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atan2": lambda x: torch.atan2(x, x.flip(1)) + torch.atan2(torch.zeros_like(x), x),
    "atanh": lambda x: torch.atanh(0.9 * torch.tanh(x)),
    "bilinear": lambda x: F.bilinear(x, x.flip(1), UNIT[:4].unflatten(1, (6, 1)).tile(1, 1, 6) + UNIT[:4, None], UNIT[0, :4]),
    "cosh": torch.cosh,
    "cosine": lambda x: F.cosine_similarity(x, x.flip(1), dim=2),
    "cumprod": lambda x: x.cumprod(1),
    "einsum": lambda x: torch.einsum("btf,bsf->bts", x, x.flip(1)) + torch.einsum("btf,fhd->bthd", x, UNIT.reshape(6, 5, 1))[..., 0],
    "erfc": torch.erfc,
    "expm1": torch.expm1,
    "floor_divide": lambda x: torch.floor_divide(x, 0.7),
    "fmod": lambda x: torch.fmod(x, 0.7),
    "fold": lambda x: F.fold(x[:, :4, :6], (4, 6), 2, stride=2),
    "frac": torch.frac,
    "glu": lambda x: F.glu(x, 2),
    "isinf": lambda x: torch.isinf(x / torch.relu(x)).float(),
    "isnan": lambda x: torch.isnan(torch.sqrt(x)).float(),
    "lerp": lambda x: torch.lerp(x, x.flip(1), 0.25),
    "log10": lambda x: torch.log10(x.abs() + 1),
    "log1p": lambda x: torch.log1p(x.abs()),
    "log2": lambda x: torch.log2(x.abs() + 1),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(1)),
    "logsigmoid": F.logsigmoid,
    "logsumexp": lambda x: torch.logsumexp(x, (1, 2)),
    "min": lambda x: x.min(1)[0],
    "remainder": lambda x: torch.remainder(x, -0.7),
    "repeat_interleave": lambda x: x.repeat_interleave(3, 1),
    "searchsorted": lambda x: torch.searchsorted(torch.tensor([-1.0, 0.0, 0.5]), x).float(),
    "sinh": torch.sinh,
    "softshrink": F.softshrink,
    "softsign": F.softsign,
    "sort": lambda x: x.sort(-1)[0],
    "std": lambda x: x.std(1),
    "threshold": lambda x: F.threshold(x, 0.5, -1.0),
    "unfold": lambda x: x.unfold(1, 3, 2),
    "tan": lambda x: torch.tan(0.6 * x),
    "topk": lambda x: torch.cat([x.topk(3, 1)[0], x.topk(2, 1, largest=False)[1].float()], 1),
    "trunc": torch.trunc,
    "xor": lambda x: ((x > 0) ^ (x < 1)).float(),
}
RECURRENT = {"lstm": nn.LSTMCell(6, 4), "gru": nn.GRUCell(6, 4), "rnn": nn.RNNCell(6, 4), "relu": nn.RNNCell(6, 4, bias=False, nonlinearity="relu")}
BITS = torch.tensor([5, 3, 12], dtype=torch.int32)
# What has no operator in LiteRT.
ONNX_ONLY: Mapping[str, Function] = {
    "avg_pool3d": lambda x: F.avg_pool3d(x.reshape(-1, 1, 5, 2, 3), (2, 1, 2)),
    "bicubic": lambda x: F.interpolate(x.unsqueeze(1), (8, 9), mode="bicubic", align_corners=False),
    "bits": lambda x: ((x[:, :, :3] * 10).int() & BITS | BITS).float(),
    "grid_sample": lambda x: F.grid_sample(x.unsqueeze(1), x[:, :, :4].reshape(-1, 2, 5, 2), align_corners=False),
    "max_pool3d": lambda x: F.max_pool3d(x.reshape(-1, 1, 5, 2, 3), (2, 1, 2)),
    "scatter": lambda x: torch.zeros_like(x).scatter(1, x.argsort(1), x),
    "scatter_add": lambda x: x.scatter_add(1, (x > 0).long(), x),
    "scatter_reduce": lambda x: x.scatter_reduce(1, (x > 0).long(), x, "amax"),
    "transposed3d": lambda x: F.conv_transpose3d(x.reshape(-1, 1, 5, 2, 3), UNIT[:2, :4].reshape(1, 2, 2, 2, 1), stride=2),
}


def outputs(runtime: str, function: Callable[..., torch.Tensor], path: Path, *parts: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    """What the file gives, and what torch gives."""
    model = load(Formula(function, *parts).eval(), (torch.from_numpy(X),))
    assert not model.fixed_batch
    exporter, runner = RUNTIMES[runtime]
    export = exporter().export(model, path, ExportOptions(batch=len(X)))
    found = Artifact(export.path, runtime, runner().load(export.path), export.inputs, export.outputs)(X)
    with torch.no_grad():
        return found, function(torch.from_numpy(X), *parts).numpy()


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", EVERYWHERE)
def test_what_every_runtime_computes(name: str, runtime: str, tmp_path: Path) -> None:
    found, wanted = outputs(runtime, EVERYWHERE[name], tmp_path / "file")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", RECURRENT)
def test_cells_that_a_loop_calls(name: str, runtime: str, tmp_path: Path) -> None:
    def loop(x: torch.Tensor, cell: nn.Module) -> torch.Tensor:
        state = None
        for step in range(3):
            state = cell(x[:, step], state)
        return torch.cat(state, 1) if isinstance(state, tuple) else state

    found, wanted = outputs(runtime, loop, tmp_path / "file", RECURRENT[name])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ONNX_ONLY)
def test_what_onnxruntime_alone_computes(name: str, tmp_path: Path) -> None:
    found, wanted = outputs("onnxruntime", ONNX_ONLY[name], tmp_path / "file")
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedError, match="LiteRT"):
        outputs("litert", ONNX_ONLY[name], tmp_path / "other")


def test_what_the_table_says_is_absent_is_what_cannot_be_lowered() -> None:
    from tersenet.graph.operators import KINDS
    from tersenet.targets.litert.capabilities import ABSENT
    from tersenet.targets.litert.operators.table import LOWERINGS

    opened = {"attention", "batch_norm", "einsum", "gru", "rnn_relu", "rnn_tanh", "rsub", "size"}  # written as others before they are lowered
    assert KINDS - set(LOWERINGS) - opened == ABSENT
