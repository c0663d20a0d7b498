"""Operators as files of older opsets write them (attributes for what became inputs, softmax over several axes) give what onnxruntime gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

import tersenet

# Operator, opset, attributes, how many outputs.
FORMS: tuple[tuple[str, int, dict[str, Any], int], ...] = (
    ("Softmax", 11, {"axis": 1}, 1),
    ("Softmax", 11, {"axis": 2}, 1),
    ("Softmax", 9, {}, 1),
    ("LogSoftmax", 12, {"axis": 1}, 1),
    ("Hardmax", 11, {"axis": 1}, 1),
    ("ReduceSum", 11, {"axes": [1, -1], "keepdims": 0}, 1),
    ("ReduceMean", 11, {"axes": [2]}, 1),
    ("ReduceMax", 12, {"axes": [1]}, 1),
    ("ReduceL2", 17, {"axes": [-1], "keepdims": 0}, 1),
    ("ReduceLogSumExp", 13, {"axes": [1, 2]}, 1),
    ("Unsqueeze", 11, {"axes": [1, 4]}, 1),
    ("Squeeze", 11, {"axes": [2]}, 1),
    ("Split", 11, {"axis": 1, "split": [1, 3]}, 2),
    ("Split", 11, {"axis": 3}, 3),
    ("Slice", 9, {"starts": [1, -2], "ends": [100, -1], "axes": [1, 3]}, 1),
    ("Slice", 9, {"starts": [0, 1], "ends": [2**63 - 1, 3]}, 1),
    ("Clip", 10, {"min": -0.5, "max": 0.25}, 1),
    ("Clip", 10, {"min": 0.0, "max": 6.0}, 1),
    ("TopK", 9, {"k": 2, "axis": 3}, 2),
    ("ArgMax", 11, {"axis": 3, "keepdims": 0}, 1),
    ("Flatten", 9, {"axis": 2}, 1),
    ("Dropout", 7, {"ratio": 0.5}, 1),
    ("Gemm", 7, {}, 1),
    ("BatchNormalization", 9, {"epsilon": 1e-3}, 1),
)


@pytest.mark.parametrize(("kind", "opset", "attributes", "outputs"), FORMS, ids=[f"{form[0]}-{place}" for place, form in enumerate(FORMS)])
def test_an_old_form(kind: str, opset: int, attributes: dict[str, Any], outputs: int, tmp_path: Path) -> None:
    shape = (4,) if kind == "Gemm" else (4, 1, 3) if kind == "Squeeze" else (4, 2, 3)
    numbers = np.random.default_rng(0).standard_normal((5, *shape)).astype(np.float32)
    constants = {"Gemm": [(4, 3), (3,)], "BatchNormalization": [(4,)] * 4}.get(kind, [])
    weights = {f"w{place}": np.abs(np.random.default_rng(place).standard_normal(size)).astype(np.float32) for place, size in enumerate(constants)}
    made = [
        helper.make_tensor_value_info(f"y{place}", TensorProto.INT64 if kind == "ArgMax" or (place and kind == "TopK") else TensorProto.FLOAT, None)
        for place in range(outputs)
    ]
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *weights], [value.name for value in made], **attributes)],
        "old",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        made,
        [helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.reshape(-1).tolist()) for name, value in weights.items()],
    )
    path = tmp_path / "old.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4).SerializeToString())
    wanted = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": numbers})
    model = tersenet.load(path)
    got = model(numbers)
    for here, there in zip(got if isinstance(got, tuple) else (got,), wanted, strict=True):
        assert here.dtype == there.dtype and here.shape == there.shape
        np.testing.assert_allclose(here, there, rtol=1e-5, atol=1e-5)
    assert not model.fixed_batch
