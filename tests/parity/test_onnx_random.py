"""Random graphs of claimed operators compute what onnxruntime computes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tersenet
from onnx_random import random_graph
from tersenet.testing.frontend import check_frontend

QUIET = onnxruntime.SessionOptions()
QUIET.log_severity_level = 3  # no word on constants that no node reads
SEEDS = st.integers(0, 2**32 - 1)


def check(seed: int) -> None:
    graph, shape = random_graph(seed)
    numbers = np.random.default_rng(seed).standard_normal((3, *shape)).astype(np.float32)
    excused = {
        "training": "an .onnx file is of a network as it is evaluated",
        "parameters": "a random graph may have no weights",
        "executorch": "lowering takes too long",
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "random.onnx"
        path.write_bytes(graph.SerializeToString())
        session = onnxruntime.InferenceSession(path, QUIET, providers=["CPUExecutionProvider"])
        model = check_frontend(tersenet.load, path, lambda array: tuple(session.run(None, {"x": array})), [[numbers]], excused=excused)
    assert not model.fixed_batch, model.fixed_batch


@settings(max_examples=12, deadline=None, derandomize=True)
@given(SEEDS)
def test_a_few_random_graphs(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_many_random_graphs(part: int) -> None:
    for seed in range(part * 30, part * 30 + 30):
        check(seed)
