"""Every operator that the table claims passes ONNX's own node tests; the table has every operator that ONNX has."""

from __future__ import annotations

import importlib
import inspect
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from onnx import defs

import tersenet
from onnx_cases import Case, cases, check, check_alone, types
from tersenet.errors import ModelError
from tersenet.frontends.onnx.table import OPERATORS, REFUSED

# onnxruntime's own operators, which have no schema here; and what the frontend calls its own forms of several operators.
ELSEWHERE = ("com.microsoft.", "tersenet.", "SimplifiedLayerNormalization")
# Types that no network computes with. A case that has one of them is refused, with a message that says so.
TYPES_OUTSIDE = {
    "float4e2m1",
    "float8e4m3fn",
    "float8e4m3fnuz",
    "float8e5m2",
    "float8e5m2fnuz",
    "float8e8m0",
    "int2",
    "int4",
    "optional",
    "sequence",
    "string",
    "uint2",
    "uint4",
}
# Reason -> cases of claimed operators that are left out for it.
EXCLUDED: Mapping[str, tuple[str, ...]] = {
    "a type that is another one here has another number of bits": (
        "test_bitcast_float64_to_int64",
        "test_bitcast_int64_to_float64",
        "test_bitcast_uint16_to_int16",
        "test_bitcast_uint32_to_int32",
    ),
    "the bits of uint16 are those of int32 here": ("test_bitwise_not_3d",),
    "sizes are int64 here": ("test_range_int32_type_negative_delta",),
    "dropout that is told to drop draws other numbers": (
        "test_training_dropout",
        "test_training_dropout_default",
        "test_training_dropout_default_mask",
        "test_training_dropout_mask",
    ),
}
# Reason -> cases whose operators are right, and that cannot be files of networks.
NO_NETWORK: Mapping[str, tuple[str, ...]] = {
    "a result whose shape depends on the data": (
        "test_nonzero_example",
        "test_unique_bfloat16_sorted_without_axis",
        "test_unique_length_1",
        "test_unique_not_sorted_without_axis",
        "test_unique_sorted_with_axis",
        "test_unique_sorted_with_axis_3d",
        "test_unique_sorted_with_negative_axis",
        "test_unique_sorted_without_axis",
    ),
    "an opset before 7": ("test_not_2d", "test_not_3d", "test_not_4d"),
    "an input without elements": (
        "test_reduce_l1_empty_set",
        "test_reduce_l1_empty_set_expanded",
        "test_reduce_l2_empty_set",
        "test_reduce_l2_empty_set_expanded",
        "test_reduce_log_sum_empty_set",
        "test_reduce_log_sum_empty_set_expanded",
        "test_reduce_log_sum_exp_empty_set",
        "test_reduce_log_sum_exp_empty_set_expanded",
        "test_reduce_max_empty_set",
        "test_reduce_max_empty_set_bool",
        "test_reduce_min_empty_set",
        "test_reduce_prod_empty_set",
        "test_reduce_sum_empty_set",
        "test_reduce_sum_empty_set_non_reduced_axis_zero",
        "test_reduce_sum_square_empty_set",
        "test_reduce_sum_square_empty_set_expanded",
        "test_reshape_allowzero_reordered",
        "test_split_zero_size_splits_opset13",
        "test_split_zero_size_splits_opset18",
        "test_tril_zero",
    ),
}
# Cases of a refused operator that are read all the same: the file states how many turns they have.
WRITTEN_OUT = ("test_scan9_sum", "test_scan9_multi_state", "test_scan9_scalar")
# Operator -> how many of its cases have a type from outside.
OUTSIDE: Mapping[str, int] = {
    "Cast": 100,
    "CastLike": 48,
    "DequantizeLinear": 9,
    "Equal": 2,
    "Identity": 2,
    "QuantizeLinear": 7,
    "ai.onnx.ml.LabelEncoder": 4,
}
# Claimed, and ONNX has no case of them alone: compared with onnxruntime in test_onnx_classical, test_onnx_networks.
WITHOUT_NODE_TESTS: frozenset[str] = frozenset(
    {
        "GlobalLpPool",
        "ai.onnx.ml.FeatureVectorizer",
        "ai.onnx.ml.Imputer",
        "ai.onnx.ml.LabelEncoder",
        "ai.onnx.ml.LinearClassifier",
        "ai.onnx.ml.LinearRegressor",
        "ai.onnx.ml.Normalizer",
        "ai.onnx.ml.OneHotEncoder",
        "ai.onnx.ml.SVMRegressor",
        "ai.onnx.ml.Scaler",
        "ai.onnx.ml.TreeEnsembleClassifier",
        "ai.onnx.ml.TreeEnsembleRegressor",
    }
)
# Opened into other operators when a file is read, before anything is computed.
OPENED = frozenset({"ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul"})
EXPANDED_PARTS = 16


@cache
def reasons() -> Mapping[str, str]:
    """Name of a case that is left out -> the reason."""
    return {name: reason for reason, names in EXCLUDED.items() for name in names}


def is_outside(case: Case) -> bool:
    return bool(types(case) & TYPES_OUTSIDE)


@cache
def claimed() -> tuple[Case, ...]:
    """Cases all of whose operators the table claims."""
    return tuple(case for case in cases() if set(case.operators) <= set(OPERATORS))


def refused_in_files() -> set[str]:
    """Cases that only the function alone is tried on."""
    return {name for names in NO_NETWORK.values() for name in names}


def of(name: str) -> list[Case]:
    """The cases of one operator alone that must pass."""
    return [case for case in claimed() if case.operators == (name,) and not is_outside(case) and case.name not in reasons()]


# Operators that ONNX has a case of.
TESTED = sorted(name for name in OPERATORS if name not in WITHOUT_NODE_TESTS and not name.startswith(ELSEWHERE))


def names() -> set[str]:
    return {f"{schema.domain}.{schema.name}" if schema.domain else schema.name for schema in defs.get_all_schemas()}


def test_the_table_has_every_operator_that_onnx_has_and_no_other() -> None:
    listed = {name for name in {*OPERATORS, *REFUSED} if not name.startswith(ELSEWHERE)}
    assert listed == names()
    assert not set(OPERATORS) & set(REFUSED)


def test_every_row_names_a_function_that_takes_a_node() -> None:
    for name, row in OPERATORS.items():
        function = getattr(importlib.import_module(f"tersenet.frontends.onnx.operators.{row.module}"), row.function)
        first, *given = inspect.signature(function).parameters.values()
        assert first.name == "node", name
        many = any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in given)
        assert many or all(place < len(given) for place in (*row.sizes, *row.numbers, *row.scalars, *row.statistics)), name


def test_every_reason_is_a_sentence_of_its_own() -> None:
    for name, reason in REFUSED.items():
        assert len(reason.split()) > 3 and not reason.endswith("."), name


@pytest.mark.parametrize("name", sorted(set(TESTED) - OPENED))
def test_an_operator_gives_what_its_node_tests_want(name: str) -> None:
    for case in of(name):
        check_alone(case)


@pytest.mark.slow
@pytest.mark.parametrize("name", TESTED)
def test_an_operator_does_so_when_read_from_a_file_and_traced(name: str, tmp_path: Path) -> None:
    for case in of(name):
        if case.name not in refused_in_files():
            check(case, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(EXPANDED_PARTS))
def test_operators_that_are_spelled_out_as_others_give_the_same(part: int, tmp_path: Path) -> None:
    """Cases of several nodes: ONNX's own definitions of operators as functions of simpler ones."""
    for case in [case for case in claimed() if len(case.operators) > 1][part::EXPANDED_PARTS]:
        if not is_outside(case) and case.name not in {*reasons(), *refused_in_files()}:
            check(case, tmp_path)


def test_what_is_left_out_is_counted() -> None:
    known = {case.name: case for case in claimed()}
    assert {*reasons(), *refused_in_files()} <= set(known), "a case that is left out is not there any more"
    assert not [name for name in reasons() if is_outside(known[name])], "left out twice"
    outside = Counter("expanded" if len(case.operators) > 1 else case.operators[0] for case in claimed() if is_outside(case))
    assert outside == OUTSIDE


def test_operators_without_a_node_test_are_few_and_tested_elsewhere() -> None:
    assert {name for name in OPERATORS if not of(name) and not name.startswith(ELSEWHERE)} == WITHOUT_NODE_TESTS


@pytest.mark.slow
def test_what_cannot_be_a_network_is_refused(tmp_path: Path) -> None:
    for case in claimed():
        if (is_outside(case) and len(case.operators) == 1) or case.name in refused_in_files():
            path = tmp_path / "case.onnx"
            path.write_bytes(case.model.SerializeToString())
            with pytest.raises(ModelError, match=r"case\.onnx"):
                tersenet.load(path)


def test_what_is_refused_is_refused_by_name_with_the_reason(tmp_path: Path) -> None:
    tried = set()
    for case in cases():
        lacking = set(case.operators) & set(REFUSED)
        if case.name in WRITTEN_OUT:
            check(case, tmp_path)
            continue
        if len(case.operators) > 1 or not lacking or lacking <= tried or types(case) & TYPES_OUTSIDE:
            continue
        tried |= lacking
        path = tmp_path / "case.onnx"
        path.write_bytes(case.model.SerializeToString())
        with pytest.raises(ModelError) as caught:
            tersenet.load(path)
        (name,) = lacking
        reason = "branches on numbers in the data" if name == "If" else REFUSED[name]  # branches that sizes choose are taken
        assert name in str(caught.value) and reason in str(caught.value)
    assert {"Loop", "Bernoulli", "NonMaxSuppression"} <= tried
