"""What onnxruntime's optimizer and quantizers leave in files: each operator of its domain that is claimed, against onnxruntime itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import tersenet
from onnx_networks import reference
from tersenet.frontends.onnx.table import OPERATORS, REFUSED

DOMAIN = "com.microsoft"
RANDOM = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(np.float32)


def whole(low: int, high: int, *shape: int, dtype: str = "int32") -> np.ndarray:
    return RANDOM.integers(low, high, shape).astype(dtype)


def scale(value: float) -> np.ndarray:
    return np.array(value, np.float32)


@dataclass(frozen=True)
class Case:
    """One operator.

    Args:
        given: what comes in: arrays with a batch in front.
        held: the operator's other inputs, constants; None for one that is left out.
        order: places of those that come in among all inputs; the first ones unless said.
        spare: results behind the first, which nobody reads.
        quantized: scale and zero point of the integers that come in, and those of the result; the floats around them are quantized in the file.
        step: what a result may differ by.
    """

    given: Sequence[np.ndarray]
    held: Sequence[np.ndarray | None] = ()
    order: Sequence[int] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    spare: int = 0
    quantized: bool = False
    step: float = 1e-5


X, IMAGE, TEXT = floats(2, 5, 8), floats(2, 4, 6, 6), whole(0, 20, 2, 5)
IN, OUT = (scale(0.03), np.array(128, np.uint8)), (scale(0.05), np.array(120, np.uint8))
KERNEL, STEPS = whole(-60, 61, 8, 6, dtype="int8"), np.full(6, 0.01, np.float32)
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
LAYER = (floats(8), floats(8))


def integers(given: Sequence[np.ndarray], held: Sequence[np.ndarray | None], order: Sequence[int] = (), **attributes: Any) -> Case:
    return Case(given, held, order, attributes, quantized=True, step=0.06)


def unary(**attributes: Any) -> Case:
    return integers([X], [*IN, *OUT], **attributes)


TABLES = (whole(0, 255, 20, 8, dtype="uint8"), whole(0, 255, 6, 8, dtype="uint8"), whole(0, 255, 2, 8, dtype="uint8"))
FACTORS = (whole(100, 255, 8, dtype="uint8"), whole(0, 255, 8, dtype="uint8"))
FOUR = [whole(0, 256, 6, 3, 8, dtype="uint8"), floats(18) / 8]  # 6 rows of 40 numbers, in blocks of 16 that take 8 bytes each
LSTM = [whole(-60, 61, 1, 8, 20, dtype="int8"), whole(-60, 61, 1, 5, 20, dtype="int8"), floats(1, 40), None, None, None, None]
LSTM += [np.full(1, 0.01, np.float32), np.zeros(1, np.int8), np.full(1, 0.01, np.float32), np.zeros(1, np.int8)]

CASES: dict[str, Sequence[Case]] = {
    "Attention": [
        Case([X], [floats(8, 24), floats(24)], attributes={"num_heads": 2}),
        Case([X], [floats(8, 24), floats(24)], attributes={"num_heads": 2, "unidirectional": 1}),
        Case([X, MASK], [floats(8, 24), floats(24)], (0, 3), {"num_heads": 2}),
    ],
    "BiasAdd": [],
    "BiasDropout": [],
    "BiasGelu": [Case([X], [floats(8)])],
    "BiasSoftmax": [],
    "BiasSplitGelu": [],
    "CDist": [Case([floats(3, 8)], [floats(4, 8)], attributes={"metric": "euclidean"})],
    "DequantizeLinear": [],
    "DynamicQuantizeLSTM": [Case([floats(4, 2, 8)], LSTM, attributes={"hidden_size": 5}, step=0.1)],
    "DynamicQuantizeMatMul": [Case([X], [KERNEL, scale(0.01), np.array(0, np.int8), floats(6)], step=0.1)],
    "EmbedLayerNormalization": [
        Case([TEXT, whole(0, 2, 2, 5), MASK], [floats(20, 8), floats(6, 8), floats(2, 8), *LAYER], (0, 1, 7), spare=1),
        Case([TEXT], [None, floats(20, 8), floats(6, 8), None, *LAYER], spare=1),
    ],
    "ExpandDims": [Case([X], [np.array(1, np.int32)])],
    "FastGelu": [Case([X]), Case([X], [floats(8)])],
    "FusedConv": [Case([IMAGE], [floats(3, 4, 3, 3), floats(3)], attributes={"activation": "Relu", "pads": [1, 1, 1, 1]})],
    "FusedGemm": [Case([floats(3, 8)], [floats(8, 4), floats(4)], attributes={"activation": "LeakyRelu", "activation_alpha": 0.2})],
    "FusedMatMul": [
        Case([X], [floats(6, 8)], attributes={"transB": 1, "alpha": 0.5}),
        Case([X, floats(2, 5, 6)], attributes={"transA": 1}),
    ],
    "Gelu": [Case([X])],
    "GridSample": [Case([IMAGE, floats(2, 3, 3, 2) / 2], attributes={"mode": "bilinear", "padding_mode": "border"})],
    "GroupNorm": [],
    "MatMulIntegerToFloat": [integers([X], [KERNEL, IN[0], STEPS, IN[1], np.zeros(6, np.int8), floats(6)])],
    "MatMulNBits": [
        Case([floats(2, 40)], FOUR, attributes={"K": 40, "N": 6, "bits": 4, "block_size": 16}, step=1e-4),
        Case([floats(2, 40)], [*FOUR, whole(0, 256, 12, dtype="uint8")], attributes={"K": 40, "N": 6, "bits": 4, "block_size": 16}, step=1e-4),
    ],
    "MultiHeadAttention": [
        Case([X, X + 1, X - 1], attributes={"num_heads": 2}),
        Case([X, X + 1, X - 1, MASK], [floats(24)], (0, 1, 2, 4), {"num_heads": 2}),
    ],
    "NhwcConv": [],
    "NhwcFusedConv": [],
    "Pad": [Case([IMAGE], [np.array([0, 0, 1, 1, 0, 0, 1, 0]), scale(2.0)])],
    "QAttention": [
        integers([X], [whole(-60, 61, 8, 24, dtype="int8"), floats(24), IN[0], scale(0.01), None, IN[1], np.array(0, np.int8)], num_heads=2),
    ],
    "QEmbedLayerNormalization": [
        Case(
            [TEXT, whole(0, 2, 2, 5)],
            [*TABLES, *FACTORS, None, *(scale(0.01) for _ in range(5)), *(np.array(120, np.uint8) for _ in range(5))],
            spare=1,
            step=1e-4,
        )
    ],
    "QGemm": [
        integers([floats(3, 8)], [*IN, KERNEL, STEPS, np.zeros(6, np.int8), None, *OUT]),
        Case([floats(3, 8)], [*IN, KERNEL, STEPS, np.zeros(6, np.int8), whole(-50, 50, 6)], quantized=True, step=0.06),
    ],
    "QLinearAdd": [integers([X], [*IN, whole(0, 255, 8, dtype="uint8"), scale(0.02), np.array(100, np.uint8), *OUT])],
    "QLinearAveragePool": [integers([IMAGE], [*IN, *OUT], kernel_shape=[2, 2], strides=[2, 2])],
    "QLinearConcat": [integers([X], [*OUT, *IN, whole(0, 255, 2, 1, 8, dtype="uint8"), scale(0.02), np.array(100, np.uint8)], (2,), axis=1)],
    "QLinearConv": [],
    "QLinearGlobalAveragePool": [integers([IMAGE], [*IN, *OUT])],
    "QLinearLeakyRelu": [unary(alpha=0.1)],
    "QLinearMul": [integers([X], [*IN, whole(0, 255, 8, dtype="uint8"), scale(0.02), np.array(100, np.uint8), *OUT])],
    "QLinearReduceMean": [],
    "QLinearSigmoid": [integers([X], [*IN, scale(1 / 256), np.array(0, np.uint8)])],
    "QLinearSoftmax": [integers([X], [*IN, scale(1 / 256), np.array(0, np.uint8)], axis=-1, opset=13)],
    "QLinearWhere": [
        integers([X], [RANDOM.random((5, 8)) > 0.5, *IN, whole(0, 255, 8, dtype="uint8"), scale(0.02), np.array(100, np.uint8), *OUT], (1,))
    ],
    "QuantizeLinear": [],  # and DequantizeLinear: those of ONNX itself, for more types
    "QuickGelu": [Case([X])],
    "RotaryEmbedding": [Case([X, np.zeros((2, 5), np.int64) + np.arange(5)], [floats(6, 4), floats(6, 4)])],
    "SkipGroupNorm": [],
    "SkipLayerNormalization": [Case([X, X + 1], [*LAYER, floats(8)]), Case([X, X + 1], [*LAYER])],
    "SkipSimplifiedLayerNormalization": [Case([X, X + 1], [LAYER[0]])],
    "TransposeMatMul": [Case([X, floats(2, 6, 8)], attributes={"transB": 1})],
    "Trilu": [Case([X], [np.array(1)], attributes={"upper": 0})],
}
# No file can be run with them here by themselves: other rules than theirs alone do not read them.
WITHOUT_KERNELS = {"DequantizeLinear", "QLinearConv", "QLinearReduceMean", "QuantizeLinear"}


def saved(path: Path, name: str, case: Case) -> Path:
    """The operator in a file; what comes in has an open batch."""
    order = tuple(case.order) or tuple(range(len(case.given)))
    held = iter([*case.held, *[None] * 20])
    count = len(case.given) + len(case.held)
    inputs, constants, nodes, ports = [], {}, [], []
    for place in range(count):
        if place in order:
            array, label = case.given[order.index(place)], f"x{order.index(place)}"
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            ports.append(helper.make_tensor_value_info(label, kind, array.shape))
            if case.quantized:
                constants |= {"in_scale": IN[0], "in_zero": IN[1]}
                nodes.append(helper.make_node("QuantizeLinear", [label, "in_scale", "in_zero"], [f"{label}_integers"]))
                label = f"{label}_integers"
        else:
            value, label = next(held), f"c{place}"
            label = "" if value is None else label
            if value is not None:
                constants[label] = value
        inputs.append(label)
    while inputs and not inputs[-1]:
        inputs.pop()
    made = ["made", *(f"spare{place}" for place in range(case.spare))]
    nodes.append(helper.make_node(name, inputs, made, domain=DOMAIN, **case.attributes))
    if (case.quantized and name.startswith("QLinear")) or (name == "QGemm" and len(inputs) > 7):
        at = {"QLinearConcat": 0, "QGemm": 7, "QLinearAdd": 6, "QLinearMul": 6, "QLinearWhere": 7}.get(name, 3)
        nodes.append(helper.make_node("DequantizeLinear", [made[0], inputs[at], inputs[at + 1]], ["y"]))
        made = ["y"]
    outputs = [helper.make_tensor_value_info(made[0], TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(array, label) for label, array in constants.items()])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(DOMAIN, 1)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())
    return path


@pytest.mark.parametrize(("name", "place"), [(name, place) for name, cases in CASES.items() for place in range(len(cases))])
def test_an_operator_of_onnxruntime(name: str, place: int, tmp_path: Path) -> None:
    case = CASES[name][place]
    path = saved(tmp_path / "case.onnx", name, case)
    wanted, found = reference(path)(*case.given), tersenet.load(path)(*case.given)
    for got, there in zip(found if isinstance(found, tuple) else (found,), wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
        assert got.shape == there.shape
        np.testing.assert_allclose(got, there, rtol=1e-4, atol=case.step)


LAST = IMAGE.transpose(0, 2, 3, 1).copy()
GROUPED = {"groups": 2, "epsilon": 1e-5}


def group_norm(data: torch.Tensor, gamma: np.ndarray, beta: np.ndarray) -> torch.Tensor:
    """Channels last, as SiLU gives it."""
    normalized = torch.nn.functional.group_norm(data.permute(0, 3, 1, 2), 2, torch.from_numpy(gamma), torch.from_numpy(beta), 1e-5)
    return torch.nn.functional.silu(normalized).permute(0, 2, 3, 1)


NORM, FILTER = (floats(4), floats(4)), floats(3, 4, 3, 3)
TWICE = floats(16)
ON_GPUS: dict[str, tuple[Case, Callable[[torch.Tensor], torch.Tensor]]] = {
    "BiasAdd": (Case([X, X + 1], [floats(8)], (0, 2)), lambda x: 2 * x + 1 + held("BiasAdd", 0)),
    "BiasDropout": (Case([X], [floats(8)]), lambda x: x + held("BiasDropout", 0)),
    "BiasSoftmax": (
        Case([X], [floats(5, 8)], attributes={"axis": 2, "is_inner_broadcast": 0}),
        lambda x: torch.softmax(x + held("BiasSoftmax", 0), 2),
    ),
    "BiasSplitGelu": (
        Case([floats(2, 5, 16)], [TWICE]),
        lambda x: (x + torch.from_numpy(TWICE))[..., :8] * torch.nn.functional.gelu((x + torch.from_numpy(TWICE))[..., 8:]),
    ),
    "GroupNorm": (Case([LAST], NORM, attributes={**GROUPED, "activation": 1}), lambda x: group_norm(x, *NORM)),
    "NhwcConv": (
        Case([LAST], [FILTER], attributes={"pads": [1, 1, 1, 1]}),
        lambda x: torch.conv2d(x.permute(0, 3, 1, 2), torch.from_numpy(FILTER), padding=1).permute(0, 2, 3, 1),
    ),
    "NhwcFusedConv": (
        Case([LAST], [FILTER], attributes={"activation": "Relu"}),
        lambda x: torch.relu(torch.conv2d(x.permute(0, 3, 1, 2), torch.from_numpy(FILTER))).permute(0, 2, 3, 1),
    ),
    "SkipGroupNorm": (Case([LAST, LAST + 1], NORM, (0, 3), {**GROUPED, "activation": 1}), lambda x: group_norm(2 * x + 1, *NORM)),
}


def held(name: str, place: int) -> torch.Tensor:
    constant = ON_GPUS[name][0].held[place]
    assert constant is not None
    return torch.from_numpy(constant)


@pytest.mark.parametrize("name", ON_GPUS)
def test_an_operator_that_onnxruntime_has_on_gpus_alone(name: str, tmp_path: Path) -> None:
    """What its documentation says that it computes."""
    case, wanted = ON_GPUS[name]
    found = tersenet.load(saved(tmp_path / "case.onnx", name, case))(*case.given)
    np.testing.assert_allclose(found, wanted(torch.from_numpy(case.given[0])).numpy(), rtol=1e-4, atol=1e-5)


def test_a_bert_that_onnxruntime_optimized(tmp_path: Path) -> None:
    """Its fusions leave attention, layer norms with skips and GELU of its own domain; the quantized file has QAttention too."""
    transformers = pytest.importorskip("transformers")
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, attn_implementation="eager"
    )
    network = transformers.BertForSequenceClassification(config).eval()
    tokens, mask = torch.randint(0, 60, (2, 7)), torch.tensor([[1] * 7, [1] * 4 + [0] * 3])
    axes = {name: {0: "batch", 1: "length"} for name in ("input_ids", "attention_mask")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (tokens, mask), str(tmp_path / "bert.onnx"), input_names=list(axes), output_names=["logits"], dynamic_axes=axes, dynamo=False
        )
        fused = optimizer.optimize_model(str(tmp_path / "bert.onnx"), "bert", num_heads=2, hidden_size=16, opt_level=0)
    fused.save_model_to_file(str(tmp_path / "fused.onnx"))
    kinds = {node.op_type for node in fused.model.graph.node if node.domain == DOMAIN}
    assert kinds & {"SkipLayerNormalization", "BiasGelu", "Gelu", "Attention"}, kinds
    arrays = {"input_ids": tokens.numpy(), "attention_mask": mask.numpy()}
    found = tersenet.load(tmp_path / "fused.onnx", arrays)(*arrays.values())
    np.testing.assert_allclose(found, reference(tmp_path / "fused.onnx")(*arrays.values()), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(found, network(tokens, mask).logits.numpy(), rtol=1e-3, atol=1e-4)


def test_every_operator_of_onnxruntime_is_converted_or_refused() -> None:
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    there = {f"{DOMAIN}.{schema.name}" for schema in state.get_all_operator_schema() if schema.domain == DOMAIN}
    rows = {name for name in {*OPERATORS, *REFUSED} if name.startswith(f"{DOMAIN}.")}
    assert there - rows == set(), "a new operator of onnxruntime needs a row: a function, or the reason why there is none"
    assert rows - there == set()
    assert {name.removeprefix(f"{DOMAIN}.") for name in OPERATORS if name.startswith(f"{DOMAIN}.")} == set(CASES)
    assert {name for name, cases in CASES.items() if not cases} == {*ON_GPUS, *WITHOUT_KERNELS}
