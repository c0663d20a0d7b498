"""A made record, as a run over a ResNet-32 for four runtimes leaves one: what the drawings are tested and looked at with.

python tests/unit/report/conftest.py FOLDER        # draws it, to look at
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tersenet.budget import Budget, judge
from tersenet.measure.layers import LayerMeter, weight_range
from tersenet.record import (
    Agreement,
    ArtifactRecord,
    DataRecord,
    FloatOperator,
    FloatTwin,
    Latency,
    Layer,
    ModelRecord,
    Quality,
    Report,
    TrailEntry,
)
from tersenet.report.advice import advised
from tersenet.schemes import Encoding, Scheme
from tersenet.step import Change

CPU = "AMD EPYC, x86_64, 2 cores"
WIDTHS = ((1, 16), (2, 32), (3, 64))


def _layer(name: str, op: str, channels: int, generator: np.random.Generator, weak: float = 0.0) -> Layer:
    values = generator.gamma(1.2, 0.6, 4000) * (1 + weak * generator.exponential(3, 4000))
    if op == "add":
        values = generator.normal(0.3, 0.9, 4000)
    low, high = min(0.0, float(values.min())), float(np.quantile(values, 0.99995))
    scale = (high - low) / 255
    meter = LayerMeter(name, (low, high), op)
    simulated = np.clip(np.round(values / scale), np.round(low / scale), np.round(high / scale)) * scale
    meter.add(values, simulated + scale * generator.normal(0, 0.8 + 2 * weak, values.size))
    if op == "add":
        return meter.layer(agreement_db=float(generator.uniform(52, 66)))
    weights = generator.laplace(0, 0.06, (channels, 9 * channels)) * generator.uniform(0.3, 1.6, (channels, 1))
    scales = np.abs(weights).max(1) / 127
    encoding = Encoding(Scheme(symmetric=True, granularity="per-channel", restricted=True), tuple(scales.tolist()), (0,) * channels, 0, "weight")
    return meter.layer(weight_range(weights, encoding), agreement_db=float(generator.uniform(52, 66)))


def made_layers(seed: int = 0) -> tuple[Layer, ...]:
    generator = np.random.default_rng(seed)
    layers = [_layer("conv1", "conv2d", 16, generator)]
    for stage, channels in WIDTHS:
        for block in range(5):
            weak = 1.6 if (stage, block) == (3, 4) else 0.0
            layers.append(_layer(f"layer{stage}.{block}.conv1", "conv2d", channels, generator, weak))
            layers.append(_layer(f"layer{stage}.{block}.conv2", "conv2d", channels, generator))
            if block % 2:
                layers.append(_layer(f"layer{stage}.{block}.add", "add", channels, generator))
    return (*layers, _layer("linear", "linear", 64, generator))


def _latency(median: float, runs: int = 400) -> Latency:
    return Latency(median, 0.96 * median, 1.11 * median, 1, runs, CPU, (0.99 * median, 1.01 * median))


def _artifact(target: str, path: str, sizes: tuple[int, int], drop: tuple[float, float, float], **more: object) -> ArtifactRecord:
    record = ArtifactRecord(
        target=target,
        path=f"artifacts/{target}/{path}",
        bytes=sizes[1],
        sha256="9f2c" * 16,
        twin=FloatTwin(sizes[0], 0.8285),
        seconds={"export": 0.21, "measure": 6.4},
        operators={"CONV_2D": 31, "ADD": 15, "PAD": 2, "MEAN": 1, "FULLY_CONNECTED": 1, "QUANTIZE": 1, "DEQUANTIZE": 1},
        delegated=1.0,
        quality=Quality("accuracy", 0.8285 - drop[0] / 100, drop[0], (drop[1], drop[2]), 2000),
        layers=made_layers(),
        agreement=Agreement(0.9995, 14, 0.31, 41.7, 2000),
    )
    return replace(record, **more)  # type: ignore[arg-type]


def made_artifacts() -> tuple[ArtifactRecord, ...]:
    """Four files: two that are as they should be, one that gained no speed, one for a device that this machine cannot time."""
    onnx = _artifact("onnxruntime", "model.onnx", (1_866_204, 492_585), (0.05, -0.24, 0.34))
    onnx = replace(onnx, twin=replace(onnx.twin, latency_ms=_latency(1.32)), latency_ms=_latency(0.57), speedup=2.31, speedup_ci95=(2.27, 2.35))
    onnx = replace(onnx, operators={"QLinearConv": 31, "QLinearAdd": 15}, peak_memory_bytes=6_230_016, memory_is="process growth")
    litert = _artifact("litert", "model.tflite", (1_880_020, 503_912), (-0.10, -0.41, 0.21))
    litert = replace(litert, twin=replace(litert.twin, latency_ms=_latency(1.71)), latency_ms=_latency(0.61), speedup=2.80, speedup_ci95=(2.74, 2.86))
    litert = replace(litert, peak_memory_bytes=311_296, memory_is="planner")
    torch = _artifact("executorch", "model.pte", (1_858_592, 521_216), (1.40, 0.72, 2.08))
    torch = replace(torch, twin=replace(torch.twin, latency_ms=_latency(0.83)), latency_ms=_latency(0.85), speedup=0.98, speedup_ci95=(0.95, 1.02))
    torch = replace(torch, peak_memory_bytes=208_896, memory_is="planner", delegated=0.91, operators={"delegate": 1, "aten.pad": 2})
    declined = tuple(FloatOperator("pad", f"layer{stage}.0.pad", "the delegate pads in space alone, not channels") for stage in (2, 3))
    torch = replace(torch, declined=declined, float_ops=(FloatOperator("softmax", "softmax", "executorch has no integer kernel for softmax"),))
    micro = _artifact("litert-micro", "model.tflite", (1_880_020, 501_344), (-0.10, -0.41, 0.21), peak_memory_bytes=137_216, memory_is="arena")
    return onnx, litert, torch, replace(micro, bytes_moved=2_311_168)


def made_report() -> Report:
    budget = Budget(max_drop=0.5, max_bytes="510kB")
    judged = [(record, *judge(budget, record)) for record in made_artifacts()]
    records = tuple(replace(record, met=met, missed=missed) for record, met, missed in judged)
    changed = tuple(Change(f"layer{stage}.{block}.conv1", "int8, 16 scales, range 0 … 4.1") for stage, _ in WIDTHS for block in range(5))
    report = Report(
        tersenet="0.1.0",
        seconds=41.2,
        peak_rss_bytes=812_000_000,
        seed=0,
        environment={
            "python": "3.11.7",
            "platform": "Linux-6.1-x86_64",
            "cpu": CPU,
            "instruction_sets": ["sse4.1", "avx", "avx2", "avx512", "avx512-vnni"],
            "threads": 1,
            "versions": {"numpy": "2.4.6", "torch": "2.13.0", "onnxruntime": "1.32.0", "ai-edge-litert": "2.3.0", "executorch": "1.5.1"},
        },
        model=ModelRecord("resnet32", "torch", 464_154, 69_124_096, 1_856_616),
        data=DataRecord("cifar", "image-classification", 2000, 256, 1000, 2000, "4be1" * 16),
        records=records,
        budget=budget,
        met=all(record.met for record in records),
        recipe=({"step": "quantize", "weights": "int8", "activations": "int8", "ranges": "minmax"},),
        trail=(TrailEntry("quantize", 3.4, changed, (Change("softmax", "executorch has no integer kernel for softmax"),)),),
    )
    return advised(report)


@pytest.fixture(scope="session")
def report() -> Report:
    return made_report()


if __name__ == "__main__":
    from tersenet.report.html import write

    print(write(made_report(), Path(sys.argv[1])))
