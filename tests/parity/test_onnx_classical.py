"""Classical models of scikit-learn, written as their converters write them, give what onnxruntime gives."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from sklearn.datasets import load_iris
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier, RandomForestRegressor
from sklearn.svm import SVR

import tersenet
from tersenet.target import ExportOptions
from tersenet.targets import table

ML = "ai.onnx.ml"
SAMPLES, CLASSES = load_iris(return_X_y=True)
SAMPLES = SAMPLES.astype(np.float32)


def same(folder: Path, kind: str, inputs: Sequence[np.ndarray], outputs: Sequence[int], **attributes: Any) -> tuple[np.ndarray, ...]:
    """Write a file of one operator, and compare ours with onnxruntime's; `outputs` are their types."""
    names = [f"x{place}" for place in range(len(inputs))]
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), ["N", *array.shape[1:]])
        for name, array in zip(names, inputs, strict=True)
    ]
    made = [helper.make_tensor_value_info(f"y{place}", kind_of, None) for place, kind_of in enumerate(outputs)]
    node = helper.make_node(kind, names, [value.name for value in made], domain=ML, **attributes)
    version = 4 if kind == "LabelEncoder" else 3
    model = helper.make_model(
        helper.make_graph([node], "g", given, made), opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(ML, version)], ir_version=8
    )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    wanted = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, dict(zip(names, inputs, strict=True)))
    loaded = tersenet.load(path)
    assert not loaded.fixed_batch
    got = loaded(*inputs)
    got = got if isinstance(got, tuple) else (got,)
    for here, there in zip(got, wanted, strict=True):
        assert here.shape == there.shape
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5)
    return got


def rounded_down(threshold: float) -> float:
    """The next float32 that is not larger: which samples are below it does not change."""
    near = np.float32(threshold)
    return float(near if near <= threshold else np.nextafter(near, np.float32(-np.inf)))


def nodes_of(trees: Sequence[Any]) -> dict[str, list]:
    """The nodes of scikit-learn's trees, as attributes."""
    columns: dict[str, list] = {
        name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids", "missing_value_tracks_true")
    }
    for number, tree in enumerate(trees):
        for place, left in enumerate(tree.children_left):
            leaf = left < 0
            row = (
                number,
                place,
                0 if leaf else int(tree.feature[place]),
                "LEAF" if leaf else "BRANCH_LEQ",
                0.0 if leaf else rounded_down(tree.threshold[place]),
                0 if leaf else int(left),
                0 if leaf else int(tree.children_right[place]),
                0,
            )
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
    return {f"nodes_{name}": column for name, column in columns.items()}


def votes_of(trees: Sequence[Any], of: str, scale: float = 1.0, only: int | None = None) -> dict[str, list]:
    """What each leaf gives to each target."""
    found: dict[str, list] = {f"{of}_{name}": [] for name in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(trees):
        for place in np.flatnonzero(tree.children_left < 0):
            given = tree.value[place][0] / (tree.value[place][0].sum() if only is None and of == "class" else 1)
            for target, weight in enumerate(given):
                for column, value in zip(found.values(), (number, int(place), target if only is None else only, float(weight * scale)), strict=True):
                    column.append(value)
    return found


def test_a_forest_of_three_classes(tmp_path: Path) -> None:
    forest = RandomForestClassifier(7, max_depth=5, random_state=0).fit(SAMPLES, CLASSES)
    trees = [tree.tree_ for tree in forest.estimators_]
    attributes = nodes_of(trees) | votes_of(trees, "class", 1 / len(trees))
    labels, scores = same(
        tmp_path, "TreeEnsembleClassifier", [SAMPLES], [TensorProto.INT64, TensorProto.FLOAT], **attributes, classlabels_int64s=[0, 1, 2]
    )
    np.testing.assert_array_equal(labels, forest.predict(SAMPLES))
    np.testing.assert_allclose(scores, forest.predict_proba(SAMPLES), atol=1e-5)


def test_boosted_trees_of_two_classes(tmp_path: Path) -> None:
    kept = CLASSES > 0
    boosted = GradientBoostingClassifier(n_estimators=9, max_depth=3, init="zero", random_state=0).fit(SAMPLES[kept], CLASSES[kept])
    trees = [row[0].tree_ for row in boosted.estimators_]
    attributes = nodes_of(trees) | votes_of(trees, "class", boosted.learning_rate, only=0)
    labels, scores = same(
        tmp_path,
        "TreeEnsembleClassifier",
        [SAMPLES[kept]],
        [TensorProto.INT64, TensorProto.FLOAT],
        **attributes,
        classlabels_int64s=[1, 2],
        post_transform="LOGISTIC",
    )
    np.testing.assert_array_equal(labels, boosted.predict(SAMPLES[kept]))
    np.testing.assert_allclose(scores, boosted.predict_proba(SAMPLES[kept]), atol=1e-5)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_a_forest_for_regression(tmp_path: Path, aggregate: str) -> None:
    forest = RandomForestRegressor(5, max_depth=4, random_state=0).fit(SAMPLES[:, 1:], SAMPLES[:, 0])
    trees = [tree.tree_ for tree in forest.estimators_]
    attributes = nodes_of(trees) | votes_of(trees, "target")
    (result,) = same(
        tmp_path, "TreeEnsembleRegressor", [SAMPLES[:, 1:]], [TensorProto.FLOAT], **attributes, n_targets=1, aggregate_function=aggregate
    )
    if aggregate == "AVERAGE":
        np.testing.assert_allclose(result[:, 0], forest.predict(SAMPLES[:, 1:]), rtol=1e-5)


def test_missing_values_go_where_the_node_says(tmp_path: Path) -> None:
    forest = RandomForestRegressor(3, max_depth=4, random_state=0).fit(SAMPLES[:, 1:], SAMPLES[:, 0])
    trees = [tree.tree_ for tree in forest.estimators_]
    nodes = nodes_of(trees)
    nodes["nodes_missing_value_tracks_true"] = [place % 2 for place in range(len(nodes["nodes_modes"]))]
    holed = SAMPLES[:, 1:].copy()
    holed[::3, 1] = np.nan
    same(tmp_path, "TreeEnsembleRegressor", [holed], [TensorProto.FLOAT], **nodes, **votes_of(trees, "target"), n_targets=1)


@pytest.mark.parametrize("runtime", ["onnxruntime", "litert"])
def test_every_runtime_walks_the_trees(tmp_path: Path, runtime: str) -> None:
    forest = RandomForestRegressor(3, max_depth=4, random_state=0).fit(SAMPLES[:, 1:], SAMPLES[:, 0])
    trees = [tree.tree_ for tree in forest.estimators_]
    (wanted,) = same(
        tmp_path, "TreeEnsembleRegressor", [SAMPLES[:, 1:]], [TensorProto.FLOAT], **nodes_of(trees), **votes_of(trees, "target"), n_targets=1
    )
    target = table.find(runtime)
    export = table.exporter(target).export(tersenet.load(tmp_path / "model.onnx"), tmp_path / f"ours{target.extension}", ExportOptions())
    artifact = tersenet.Artifact(export.path, runtime, table.runner(target).load(export.path), export.inputs, export.outputs)
    np.testing.assert_allclose(artifact(SAMPLES[:, 1:]), wanted, rtol=1e-5)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("classes", [2, 3])
def test_linear_classifiers(tmp_path: Path, transform: str, classes: int) -> None:
    numbers = np.random.default_rng(0)
    same(
        tmp_path,
        "LinearClassifier",
        [SAMPLES - SAMPLES.mean(0)],
        [TensorProto.INT64, TensorProto.FLOAT],
        coefficients=numbers.normal(size=classes * 4).tolist(),
        intercepts=numbers.normal(size=classes).tolist(),
        classlabels_ints=[3, 5, 8][:classes],
        post_transform=transform,
        multi_class=1,
    )


def test_a_linear_regressor_of_two_targets(tmp_path: Path) -> None:
    numbers = np.random.default_rng(1)
    same(
        tmp_path,
        "LinearRegressor",
        [SAMPLES],
        [TensorProto.FLOAT],
        coefficients=numbers.normal(size=8).tolist(),
        intercepts=[0.5, -0.25],
        targets=2,
    )


@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
def test_support_vectors(tmp_path: Path, kernel: str) -> None:
    scaled = SAMPLES[:, 1:] / 4
    fitted = SVR(kernel=kernel, gamma=0.5, coef0=0.25, degree=3).fit(scaled, SAMPLES[:, 0])
    (result,) = same(
        tmp_path,
        "SVMRegressor",
        [scaled],
        [TensorProto.FLOAT],
        kernel_type=kernel.upper(),
        kernel_params=[0.5, 0.25, 3.0],
        n_supports=len(fitted.support_),
        support_vectors=fitted.support_vectors_.reshape(-1).tolist(),
        coefficients=fitted.dual_coef_.reshape(-1).tolist(),
        rho=fitted.intercept_.tolist(),
    )
    np.testing.assert_allclose(result[:, 0], fitted.predict(scaled), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_rows_are_normalized(tmp_path: Path, norm: str) -> None:
    rows = np.concatenate([SAMPLES, SAMPLES - 3, -SAMPLES, [[0, 0, 0, 0], [0, -2, 0, -1]]]).astype(np.float32)
    same(tmp_path, "Normalizer", [rows], [TensorProto.FLOAT], norm=norm)


def test_tables_are_prepared(tmp_path: Path) -> None:
    holed = SAMPLES.copy()
    holed[::4, 2] = np.nan
    ages = np.array([[1], [4], [2], [9]], np.int64)
    same(tmp_path, "Scaler", [SAMPLES], [TensorProto.FLOAT], offset=[5.0, 3.0, 1.0, 0.5], scale=[1.0, 0.5, 2.0, 4.0])
    same(tmp_path, "Binarizer", [SAMPLES], [TensorProto.FLOAT], threshold=3.0)
    same(tmp_path, "Imputer", [holed], [TensorProto.FLOAT], imputed_value_floats=[0.0, 1.0, 2.0, 3.0], replaced_value_float=float("nan"))
    same(tmp_path, "OneHotEncoder", [ages], [TensorProto.FLOAT], cats_int64s=[1, 2, 4])
    same(tmp_path, "LabelEncoder", [ages], [TensorProto.FLOAT], keys_int64s=[1, 2, 4], values_floats=[0.5, 1.5, 2.5], default_float=-1.0)
    same(tmp_path, "FeatureVectorizer", [SAMPLES[:, :3], SAMPLES], [TensorProto.FLOAT], inputdimensions=[3, 4])
