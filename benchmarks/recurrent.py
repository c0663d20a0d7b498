"""Recurrent layers with int8 weights, in the runtimes that have them: bytes, error and time beside the same runtime's float file.

    python benchmarks/recurrent.py [SECONDS]      SECONDS of timing for each pair of files

``lstm`` and ``gru`` are one layer of 64 units on 300 steps of 40 features; ``reviews`` is an embedding of 10,000 words x 16, an LSTM of 32
units and a linear layer, trained here on made-up reviews (each word has a hidden weight, and the sign of their sum is the class), on 80
words at a time. A row's value is our time over the float file's, the median over pairs of runs.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from setting.results import Results
from torch import nn

from tersenet.data.parts import Data
from tersenet.frontends.table import load
from tersenet.graph.simulate import simulate
from tersenet.measure.agreement import agreement, sqnr_db
from tersenet.measure.latency import in_turn, prepared
from tersenet.model import Model
from tersenet.step import Context
from tersenet.steps.quantize import Quantize
from tersenet.target import Artifact, ExportOptions
from tersenet.targets import table

SECONDS = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
TARGETS = ("onnxruntime", "litert")
WORDS, LENGTH, TEACHING = 10_000, 80, 800
LEAST_TOP1 = 0.995


class Features(nn.Module):
    """One recurrent layer on a sequence of features."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.layer = kind(40, 64, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Reviews(nn.Module):
    """The network of every tutorial on reviews."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.layer, self.head = nn.Embedding(WORDS, 16), nn.LSTM(16, 32, batch_first=True), nn.Linear(32, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(self.embedding(x))[0][:, -1])


def reviews(count: int, generator: np.random.Generator, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of words, common ones more often, and their classes."""
    words = (WORDS * generator.random((count, LENGTH)) ** 10).astype(np.int64)
    return words, (weights[words].sum(1) > 0).astype(np.int64)


def taught() -> tuple[nn.Module, np.ndarray, np.ndarray]:
    """The network, its samples for calibration and evaluation, and the latter's classes."""
    torch.manual_seed(0)
    generator = np.random.default_rng(0)
    weights = generator.standard_normal(WORDS).astype(np.float32)
    module = Reviews()
    with torch.no_grad():
        module.layer.bias_ih_l0[32:64] = 1.0  # the forget gate stays open at first, as in Keras
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    for _ in range(TEACHING):
        words, classes = reviews(64, generator, weights)
        loss = nn.functional.cross_entropy(module(torch.from_numpy(words)), torch.from_numpy(classes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    words, classes = reviews(2256, generator, weights)
    return module.eval(), words, classes


def opened(model: Model, target_name: str, folder: Path, name: str) -> Artifact:
    target = table.find(target_name)
    export = table.exporter(target).export(model, folder / f"{name}{target.extension}", ExportOptions())
    return Artifact(export.path, target_name, table.runner(target).load(export.path), export.inputs, export.outputs)


def measure(results: Results, name: str, module: nn.Module, samples: np.ndarray, classes: np.ndarray | None = None) -> None:
    """A row for each runtime: the first 256 samples calibrate (of few, all do), the others judge."""
    model = load(module, (torch.from_numpy(samples[:2]),))
    calibration, judged = (samples[:256], samples[256:]) if len(samples) > 256 else (samples, samples)
    expected = model(judged)
    for target in TARGETS:
        capabilities = table.capabilities(table.find(target))
        small = Quantize().apply(model, Context((capabilities,), Data.from_arrays(calibration=calibration))).model
        with tempfile.TemporaryDirectory() as folder:
            plain, ours = opened(model, target, Path(folder), "float"), opened(small, target, Path(folder), "int8")
            found = ours(judged)
            against = agreement(simulate(small, small.plans[0])(judged), found, None, classes=classes is not None)
            batches = [[sample[None]] for sample in judged[:8]]
            timed = in_turn(prepared(plain, batches), prepared(ours, batches), threads=1, seconds=SECONDS, least=200, most=4000)
            quality = {}
            if classes is not None:
                right = classes[-len(judged) :]
                float_accuracy, accuracy = ((output.argmax(1) == right).mean() for output in (expected, found))
                quality = {"float_accuracy": round(float(float_accuracy), 4), "accuracy": round(float(accuracy), 4)}
            results.put(
                network=name,
                target=target,
                bytes=ours.path.stat().st_size,
                float_bytes=plain.path.stat().st_size,
                sqnr_db=round(sqnr_db(expected, found), 1),
                file_to_simulation_db=round(against.sqnr_db, 1),
                **({"top1": round(against.top1, 5)} if against.top1 is not None else {}),
                **quality,
                ms=round(timed.compressed.median, 4),
                float_ms=round(timed.reference.median, 4),
                value=round(1 / timed.speedup, 4),
                ci95=[round(1 / end, 4) for end in reversed(timed.speedup_ci95 or (timed.speedup, timed.speedup))],
                operators=dict(ours.session.operators().operators),
            )


def main() -> None:
    results = Results("recurrent", ("network", "target"))
    features = np.random.default_rng(0).standard_normal((16, 300, 40)).astype(np.float32)
    for kind in (nn.LSTM, nn.GRU):
        torch.manual_seed(0)
        measure(results, kind.__name__.lower(), Features(kind).eval(), features)
    measure(results, "reviews", *taught())


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
