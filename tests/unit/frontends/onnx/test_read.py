"""Files that are torn, hostile or beyond what is read: one clear error each; what is odd and sound is read."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tersenet
from tersenet.errors import ModelError, TersenetError
from tersenet.frontends.onnx import fold
from tersenet.frontends.onnx.frontend import NEWEST, OLDEST
from tersenet.frontends.onnx.table import CUSTOM
from tersenet.frontends.onnx.wire import without_tensors


def saved(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray] | None = None,
    shape: Sequence[int | str | None] = ("N", 4),
    opset: int = 17,
    **fields: object,
) -> Path:
    """A file of one input ``x`` and one output ``y``."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("my", 1)], ir_version=8, **fields)
    path.write_bytes(model.SerializeToString())
    return path


WEIGHT = np.random.default_rng(0).standard_normal((4, 300)).astype(np.float32)
PRODUCT = helper.make_node("MatMul", ["x", "w"], ["y"], name="/head/MatMul")
X = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)


def test_a_product_and_a_sum_are_a_linear_layer_whose_weight_has_a_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "onnx::MatMul_7"], ["t"], name="/head/MatMul"), helper.make_node("Add", ["t", "head.bias"], ["y"])]
    path = saved(tmp_path / "a.onnx", nodes, {"onnx::MatMul_7": WEIGHT, "head.bias": WEIGHT[0]})
    model = tersenet.load(path)
    assert {name: tuple(value.shape) for name, value in model.graph.named_parameters()} == {"head.weight": (300, 4), "head.bias": (300,)}
    assert [str(node.target) for node in model.graph.graph.nodes if node.op == "call_function"] == ["aten.linear.default"]
    np.testing.assert_allclose(model(X), X @ WEIGHT + WEIGHT[0], atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
def test_a_file_that_is_cut_off(share: float, tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.onnx", [PRODUCT], {"w": WEIGHT}).read_bytes()
    torn = tmp_path / "torn.onnx"
    torn.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ModelError, match=r"torn\.onnx"):
        tersenet.load(torn)


def test_two_hundred_mutated_files_are_read_or_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "s"], ["r"]),
        helper.make_node("Conv", ["r", "k"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["a"]),
        helper.make_node("Flatten", ["a"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    small = {"s": np.array([-1, 1, 2, 2]), "k": WEIGHT[0, :9].reshape(1, 1, 3, 3), "w": WEIGHT[:, :3]}
    whole = bytearray(saved(tmp_path / "a.onnx", nodes, small).read_bytes())
    random, path, refused = np.random.default_rng(0), tmp_path / "mutated.onnx", 0
    for _ in range(200):
        mutated = bytearray(whole)
        for place in random.integers(0, len(whole), random.integers(1, 6)):
            mutated[place] = random.integers(0, 256)
        path.write_bytes(mutated)
        try:
            tersenet.load(path)
        except TersenetError as error:
            refused += 1
            assert "mutated.onnx" in str(error)
    assert refused > 50


def external(path: Path, location: str, **more: str) -> Path:
    """A file whose weight lies elsewhere."""
    saved(path, [PRODUCT], {"w": WEIGHT})
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_file_are_read(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"12345678" + WEIGHT.tobytes())
    path = external(tmp_path / "a.onnx", "data.bin", offset="8", length=str(WEIGHT.nbytes))
    np.testing.assert_allclose(tersenet.load(path)(X), X @ WEIGHT, atol=1e-5)


@pytest.mark.parametrize(
    ("location", "more", "why"),
    [
        ("absent.bin", {}, "missing"),
        ("../outside.bin", {}, "outside"),
        ("/etc/passwd", {}, "outside"),
        ("link.bin", {}, "outside"),
        ("short.bin", {}, "needs 4800 bytes"),
        ("short.bin", {"offset": "-8"}, "said to have 4800 from -8 on in 'short.bin', which has 4"),
        ("short.bin", {"offset": "abc"}, "said to have 4800 from abc on"),
        ("short.bin", {"length": "99999999999"}, "needs 4800 bytes"),
    ],
)
def test_data_that_are_not_there_or_not_inside(location: str, more: dict[str, str], why: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    (tmp_path / "outside.bin").write_bytes(WEIGHT.tobytes())
    (folder / "short.bin").write_bytes(b"1234")
    (folder / "link.bin").symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match=why):
        tersenet.load(external(folder / "a.onnx", location, **more))


@pytest.mark.parametrize("opset", [OLDEST - 1, NEWEST + 1])
def test_an_opset_that_is_not_known(opset: int, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"written for opset {opset}; {OLDEST} to {NEWEST} are read"):
        tersenet.load(saved(tmp_path / "a.onnx", [PRODUCT], {"w": WEIGHT}, opset=opset))


def test_the_newest_opset_is_that_of_the_package() -> None:
    assert onnx.defs.onnx_opset_version() <= NEWEST


def test_all_unknown_operators_are_named_at_once(tmp_path: Path) -> None:
    nodes = [helper.make_node("Twice", ["x"], ["t"], domain="my"), helper.make_node("Bernoulli", ["t"], ["u"]), helper.make_node("Go", ["u"], ["y"])]
    with pytest.raises(ModelError, match=r"3 operators.*my\.Twice.*Bernoulli.*draws.*Go .*CUSTOM"):
        tersenet.load(saved(tmp_path / "a.onnx", nodes))


def test_a_user_adds_a_converter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CUSTOM, "my.Twice", lambda node, data: data * node.get("times", 2.0))
    path = saved(tmp_path / "a.onnx", [helper.make_node("Twice", ["x"], ["y"], domain="my", times=3.0)])
    np.testing.assert_allclose(tersenet.load(path)(X), 3 * X, rtol=1e-6)


def test_an_image_size_that_the_file_leaves_open_is_given_by_an_example(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.onnx", [helper.make_node("Relu", ["x"], ["y"])], shape=("N", 3, "height", "width"))
    with pytest.raises(ModelError, match=r"axis 2 of the input x open \(height\).*example"):
        tersenet.load(path)
    assert tersenet.load(path, {"x": np.zeros((1, 3, 8, 9))}).inputs[0].shape == (None, 3, 8, 9)
    assert tersenet.load(path, {"x": np.zeros((1, 3, 8, 9))}, dynamic={"x": {2: "height"}}).inputs[0].shape == (None, 3, None, 9)


def test_a_batch_that_samples_share_stays_as_it_is_and_the_reason_is_given(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1), helper.make_node("Sub", ["x", "m"], ["y"])]
    model = tersenet.load(saved(tmp_path / "a.onnx", nodes, shape=(2, 4), opset=13))
    assert model.inputs[0].shape == (2, 4) and "depends on the others" in model.fixed_batch
    np.testing.assert_allclose(model(X[:2]), X[:2] - X[:2].mean(0), atol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_statistics_of_batch_norm_are_those_of_the_file_where_a_batch_is_written_into_it(batch: int, tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).uniform(0.5, 2, (4, 4)).astype(np.float32)
    held = dict(zip(("scale", "shift", "mean", "spread"), drawn, strict=True))
    node = helper.make_node("BatchNormalization", ["x", *held], ["y"], name="norm")
    model = tersenet.load(saved(tmp_path / "a.onnx", [node], held, shape=(batch, 4)))
    assert not model.fixed_batch and model.inputs[0].shape == (None, 4)
    wanted = (X - held["mean"]) / np.sqrt(held["spread"] + 1e-5) * held["scale"] + held["shift"]
    np.testing.assert_allclose(model(X), wanted, atol=1e-5)


def test_a_constant_of_a_node_is_left_where_it_lies_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHT)), PRODUCT]
    path = saved(tmp_path / "a.onnx", nodes)
    left, cut = without_tensors(memoryview(path.read_bytes()))
    assert len(left) < 300 and cut.constants["w"] == WEIGHT.tobytes() and list(cut.views()) == [WEIGHT.tobytes()]
    np.testing.assert_allclose(tersenet.load(path)(X), X @ WEIGHT, atol=1e-5)


def test_a_large_weight_that_is_stored_in_integers_is_a_weight_on_its_grid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "LARGEST_RESULT", 1000)  # bytes: of 64 MB on, the table of a language model's words stayed integers and no weight
    held = {"w8": np.round(WEIGHT * 20).astype(np.int8), "s": np.array(0.05, np.float32), "z": np.array(0, np.int8)}
    path = saved(tmp_path / "a.onnx", [helper.make_node("DequantizeLinear", ["w8", "s", "z"], ["w"]), PRODUCT], held)
    model = tersenet.load(path)
    (name,) = dict(model.graph.named_parameters())
    assert model.annotations.weights[name].scheme.dtype == "int8"
    np.testing.assert_allclose(model(X), X @ (held["w8"] * np.float32(0.05)), atol=1e-5)


def test_a_chain_that_doubles_a_constant_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fold, "MOST_RESULTS", 1 << 20)
    nodes = [helper.make_node("Concat", [f"c{place}"] * 2, [f"c{place + 1}"], axis=0) for place in range(26)]  # 4 kB become 300 GB
    nodes += [helper.make_node("ReduceMax", ["c26"], ["most"], axes=[0], keepdims=0), helper.make_node("Add", ["x", "most"], ["y"])]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = tersenet.load(saved(tmp_path / "a.onnx", nodes, {"c0": np.ones((300, 4), np.float32)}))
    assert model.inputs[0].shape == (None, 4)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # kB


def branch(name: str, kind: str) -> onnx.GraphProto:
    """A branch of one operator on what lies outside."""
    return helper.make_graph([helper.make_node(kind, ["x"], [name])], name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])


def test_a_branch_that_sizes_choose_is_taken_and_one_that_data_choose_is_named(tmp_path: Path) -> None:
    both = {"then_branch": branch("a", "Relu"), "else_branch": branch("b", "Neg")}
    sizes = [helper.make_node("Shape", ["x"], ["s"]), helper.make_node("Size", ["s"], ["n"]), helper.make_node("Equal", ["n", "two"], ["c"])]
    path = saved(tmp_path / "a.onnx", [*sizes, helper.make_node("If", ["c"], ["y"], **both)], {"two": np.array(2)})
    np.testing.assert_array_equal(tersenet.load(path)(X), np.maximum(X, 0))
    data = [helper.make_node("ReduceSum", ["x"], ["n"], keepdims=0), helper.make_node("Greater", ["n", "zero"], ["c"])]
    path = saved(tmp_path / "b.onnx", [*data, helper.make_node("If", ["c"], ["y"], name="choice", **both)], {"zero": np.array(0, np.float32)})
    with pytest.raises(ModelError, match=r"choice \(If\) branches on numbers in the data"):
        tersenet.load(path)


def test_a_large_tensor_that_is_handed_to_a_function_of_the_file(tmp_path: Path) -> None:
    inside = helper.make_node("Constant", [], ["w"])
    inside.attribute.add(name="value", ref_attr_name="held", type=onnx.AttributeProto.TENSOR)
    product = helper.make_node("MatMul", ["a", "w"], ["b"])
    made = helper.make_function("my", "Product", ["a"], ["b"], [inside, product], [helper.make_opsetid("", 17)], attributes=["held"])
    call = helper.make_node("Product", ["x"], ["y"], domain="my", held=numpy_helper.from_array(WEIGHT))
    np.testing.assert_allclose(tersenet.load(saved(tmp_path / "a.onnx", [call], functions=[made]))(X), X @ WEIGHT, atol=1e-5)


def test_functions_that_call_one_another_twice_and_twice_again_are_refused_in_seconds(tmp_path: Path) -> None:
    made = [helper.make_function("my", "F0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 17)])]
    for number in range(1, 39):
        calls = [helper.make_node(f"F{number - 1}", [one], [other], domain="my") for one, other in (("a", "t"), ("t", "b"))]
        made.append(helper.make_function("my", f"F{number}", ["a"], ["b"], calls, [helper.make_opsetid("my", 1)]))
    path = saved(tmp_path / "a.onnx", [helper.make_node("F38", ["x"], ["y"], domain="my")], functions=made)
    start = time.process_time()
    with pytest.raises(ModelError, match="more than 200000 operators"):
        tersenet.load(path)
    assert time.process_time() - start < 30  # names were numbered from 1 each time: minutes


def test_functions_of_the_file_are_opened(tmp_path: Path) -> None:
    inner = helper.make_function(
        "my", "Shifted", ["a"], ["b"], [helper.make_node("Constant", [], ["c"], value_float=2.0), helper.make_node("Add", ["a", "c"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [helper.make_node("Shifted", ["x"], ["t"], domain="my"), helper.make_node("Shifted", ["t"], ["y"], domain="my")]
    path = saved(tmp_path / "a.onnx", nodes, functions=[inner])
    np.testing.assert_allclose(tersenet.load(path)(X), X + 4, rtol=1e-6)


def test_a_constant_that_would_fill_the_memory_is_not_made(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["n"]),
        helper.make_node("Add", ["x", "n"], ["y"]),
    ]
    path = saved(tmp_path / "a.onnx", nodes, {"s": np.array([1 << 40])})
    with pytest.raises(ModelError, match="would make 1099511627776 numbers out of a few"):
        tersenet.load(path)
