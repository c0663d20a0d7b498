"""What Keras 2 alone writes, in files put together by hand, against the same computed by numpy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tersenet
from keras_2 import cut, entry, functional, given, on, operator, saved_archive, saved_h5, sliced

pytest.importorskip("h5py")
pytest.importorskip("pyfive")

GENERATOR = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return GENERATOR.standard_normal(shape).astype(np.float32)


X = random(3, 4, 6)
MEAN = [-103.939, -116.779, -123.68]
ELLIPSIS = {"class_name": "__ellipsis__"}


def pixels(x: np.ndarray, block: int) -> np.ndarray:
    batch, height, width, depth = x.shape
    parts = x.reshape(batch, height, width, block, block, depth // block**2).transpose(0, 1, 3, 2, 4, 5)
    return parts.reshape(batch, height * block, width * block, depth // block**2)


def softmax(x: np.ndarray) -> np.ndarray:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


# What the user wrote -> the layers that Keras 2 makes of it (the last one's output counts), and the same in numpy.
EXPRESSIONS: dict[str, tuple[list[dict[str, Any]], Callable[[np.ndarray], np.ndarray]]] = {
    "tf.nn.relu(x)": ([operator("nn.relu", "o", "x")], lambda x: np.maximum(x, 0)),
    "x * 2": ([operator("math.multiply", "o", "x", y=2.0)], lambda x: x * 2),
    "2 - x": ([operator("math.subtract", "o", 2.0, y=["x", 0, 0])], lambda x: 2 - x),
    "x / 127.5 - 1": (
        [operator("math.truediv", "a", "x", y=127.5), operator("math.subtract", "o", "a", y=1.0)],
        lambda x: x / 127.5 - 1,
    ),
    "x + x": ([operator("__operators__.add", "o", "x", y=["x", 0, 0])], lambda x: x + x),
    "x ** 2": ([operator("math.pow", "o", "x", y=2.0)], lambda x: x**2),
    "-x": ([operator("math.negative", "o", "x")], lambda x: -x),
    "x @ tf.transpose(x, [0, 2, 1])": (
        [operator("transpose", "a", "x", perm=[0, 2, 1], conjugate=False), operator("linalg.matmul", "o", "x", b=["a", 0, 0])],
        lambda x: x @ x.transpose(0, 2, 1),
    ),
    "tf.matmul(x, x, transpose_b=True)": (
        [operator("linalg.matmul", "o", "x", b=["x", 0, 0], transpose_b=True)],
        lambda x: x @ x.transpose(0, 2, 1),
    ),
    "x[:, 0]": ([sliced("o", "x", [cut(), 0])], lambda x: x[:, 0]),
    "x[:, 1:-1, ::2]": ([sliced("o", "x", [cut(), cut(1, -1), cut(None, None, 2)])], lambda x: x[:, 1:-1, ::2]),
    "x[..., tf.newaxis]": ([sliced("o", "x", [ELLIPSIS, None])], lambda x: x[..., None]),
    "x[..., ::-1]": ([sliced("o", "x", [ELLIPSIS, cut(None, None, -1)])], lambda x: x[..., ::-1]),
    "x[:, 3:0:-2]": ([sliced("o", "x", [cut(), cut(3, 0, -2)])], lambda x: x[:, 3:0:-2]),
    "tf.reshape(x, [-1, 24])": ([operator("reshape", "o", "x", shape=[-1, 24])], lambda x: x.reshape(-1, 24)),
    "tf.reshape(x, [tf.shape(x)[0], 24])": (
        [operator("compat.v1.shape", "a", "x", out_type="int32"), sliced("b", "a", 0), operator("reshape", "o", "x", shape=[["b", 0, 0], 24])],
        lambda x: x.reshape(len(x), 24),
    ),
    "tf.reshape(x, tf.stack([tf.shape(x)[0], tf.shape(x)[1] * 2, 3]))": (
        [
            operator("compat.v1.shape", "a", "x", out_type="int32"),
            sliced("b", "a", 0),
            sliced("c", "a", 1),
            operator("math.multiply", "d", "c", y=2),
            operator("stack", "e", ["b", "d", 3], axis=0),
            operator("reshape", "o", "x", shape=["e", 0, 0]),
        ],
        lambda x: x.reshape(len(x), 8, 3),
    ),
    "tf.concat([x, x * x], axis=-1)": (
        [operator("math.multiply", "a", "x", y=["x", 0, 0]), operator("concat", "o", ["x", "a"], axis=-1)],
        lambda x: np.concatenate([x, x * x], -1),
    ),
    "tf.stack([x, x], axis=1)": ([operator("stack", "o", ["x", "x"], axis=1)], lambda x: np.stack([x, x], 1)),
    "tf.split(x, 2, axis=2)[0]": ([operator("split", "o", "x", num_or_size_splits=2, axis=2, num=None)], lambda x: x[:, :, :3]),
    "tf.unstack(x, axis=1)[0]": ([operator("unstack", "o", "x", num=None, axis=1)], lambda x: x[:, 0]),
    "tf.reduce_mean(x, axis=1, keepdims=True)": (
        [operator("math.reduce_mean", "o", "x", axis=1, keepdims=True)],
        lambda x: x.mean(1, keepdims=True),
    ),
    "tf.reduce_max(x, axis=[1, 2])": ([operator("math.reduce_max", "o", "x", axis=[1, 2], keepdims=False)], lambda x: x.max((1, 2))),
    "tf.clip_by_value(x, 0, 6)": ([operator("clip_by_value", "o", "x", clip_value_min=0.0, clip_value_max=6.0)], lambda x: np.clip(x, 0, 6)),
    "tf.nn.softmax(x)": ([operator("compat.v1.nn.softmax", "o", "x", axis=-1)], softmax),
    "tf.nn.leaky_relu(x, 0.1)": ([operator("nn.leaky_relu", "o", "x", alpha=0.1)], lambda x: np.where(x > 0, x, 0.1 * x)),
    "tf.cast(x > 0, tf.float32)": (
        [operator("math.greater", "a", "x", y=0.0), operator("cast", "o", "a", dtype="float32")],
        lambda x: (x > 0).astype(np.float32),
    ),
    "tf.where(x > 0, x, 0.5)": (
        [operator("math.greater", "a", "x", y=0.0), operator("where", "o", "a", x=["x", 0, 0], y=0.5)],
        lambda x: np.where(x > 0, x, 0.5),
    ),
    "tf.math.l2_normalize(x, axis=1)": (
        [operator("math.l2_normalize", "o", "x", axis=1, epsilon=1e-12)],
        lambda x: x / np.sqrt((x * x).sum(1, keepdims=True)),
    ),
    "tf.pad(x, [[0, 0], [1, 2], [0, 0]])": (
        [operator("pad", "o", "x", paddings=[[0, 0], [1, 2], [0, 0]], mode="CONSTANT", constant_values=0)],
        lambda x: np.pad(x, [(0, 0), (1, 2), (0, 0)]),
    ),
    "tf.gather(x, [2, 0], axis=1)": (
        [operator("compat.v1.gather", "o", "x", indices=[2, 0], validate_indices=None, axis=1, batch_dims=0)],
        lambda x: x[:, [2, 0]],
    ),
    "tf.tile(x, [1, 2, 1])": ([operator("tile", "o", "x", multiples=[1, 2, 1])], lambda x: np.tile(x, (1, 2, 1))),
    "tf.slice(x, [0, 1, 2], [-1, 2, 3])": ([operator("slice", "o", "x", begin=[0, 1, 2], size=[-1, 2, 3])], lambda x: x[:, 1:3, 2:5]),
    "tf.expand_dims(x, 1)": ([operator("expand_dims", "o", "x", axis=1)], lambda x: x[:, None]),
    "tf.math.squared_difference(x, 1)": ([operator("math.squared_difference", "o", "x", y=1.0)], lambda x: (x - 1) ** 2),
    "tf.math.divide_no_nan(x, tf.nn.relu(x))": (
        [operator("nn.relu", "a", "x"), operator("math.divide_no_nan", "o", "x", y=["a", 0, 0])],
        lambda x: (x > 0).astype(np.float32),
    ),
    "tf.add_n([x, x, x])": ([operator("math.add_n", "o", ["x", "x", "x"])], lambda x: 3 * x),
    "tf.maximum(0.5, x)": ([operator("math.maximum", "o", 0.5, y=["x", 0, 0])], lambda x: np.maximum(x, 0.5)),
}


@pytest.mark.parametrize("text", EXPRESSIONS)
def test_operators_between_layers(text: str, tmp_path: Path) -> None:
    layers, wanted = EXPRESSIONS[text]
    model = tersenet.load(saved_h5(tmp_path / "net.h5", functional([given("x", 4, 6), *layers], ("x",), ("o",)), {}))
    assert not model.fixed_batch, model.fixed_batch
    np.testing.assert_allclose(model(X), wanted(X), rtol=1e-5, atol=1e-6)


def test_images_as_keras_applications_prepare_them(tmp_path: Path) -> None:
    """`preprocess_input` of VGG and ResNet inside a network: channels the other way round, less their means."""
    layers = [given("x", 4, 4, 3), sliced("a", "x", [ELLIPSIS, cut(None, None, -1)])]
    layers += [operator("nn.bias_add", "o", "a", bias=MEAN, data_format="NHWC")]
    model = tersenet.load(saved_h5(tmp_path / "net.h5", functional(layers, ("x",), ("o",)), {}))
    image = 255 * np.abs(random(2, 4, 4, 3))
    np.testing.assert_allclose(model(image), image[..., ::-1] + np.asarray(MEAN, np.float32), rtol=1e-5)


def test_images_of_other_sizes(tmp_path: Path) -> None:
    settings = {"preserve_aspect_ratio": False, "antialias": False}
    layers = [given("x", 4, 4, 8), operator("nn.depth_to_space", "a", "x", block_size=2, data_format="NHWC")]
    layers += [operator("image.resize", "o", "a", size=[16, 16], method="nearest", **settings)]
    model = tersenet.load(saved_h5(tmp_path / "net.h5", functional(layers, ("x",), ("o",)), {}))
    image = random(2, 4, 4, 8)
    np.testing.assert_allclose(model(image), pixels(image, 2).repeat(2, 1).repeat(2, 2))


NODES: dict[str, tuple[dict[str, Any], dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "mul": ({"op": "Mul", "attr": {"T": {"type": "DT_FLOAT"}}}, {"1": 2.0}, lambda x: 2 * x),
    "rsub": ({"op": "Sub", "attr": {}}, {"0": 1.0}, lambda x: 1 - x),
    "mean": ({"op": "Mean", "attr": {"keep_dims": {"b": True}}}, {"1": [1, 2]}, lambda x: x.mean((1, 2), keepdims=True)),
    "strided_slice": (
        {"op": "StridedSlice", "attr": {"begin_mask": {"i": "1"}, "end_mask": {"i": "1"}, "shrink_axis_mask": {"i": "2"}}},
        {"1": [0, 2], "2": [0, 3], "3": [1, 1]},
        lambda x: x[:, 2],
    ),
    "BiasAdd": ({"op": "BiasAdd", "attr": {"data_format": {"s": "TkhXQw=="}}}, {"1": [1, 2, 3, 4, 5, 6]}, lambda x: x + np.arange(1, 7)),
    "Reshape": ({"op": "Reshape", "attr": {}}, {"1": [-1, 24]}, lambda x: x.reshape(-1, 24)),
    "LeakyRelu": ({"op": "LeakyRelu", "attr": {"alpha": {"f": 0.25}}}, {}, lambda x: np.where(x > 0, x, x / 4)),
}


@pytest.mark.parametrize("name", NODES)
def test_nodes_of_tensorflows_graph(name: str, tmp_path: Path) -> None:
    """TensorFlow 2.0 to 2.3: TensorFlowOpLayer."""
    node, constants, wanted = NODES[name]
    layer = entry("TensorFlowOpLayer", f"tf_op_layer_{name}", [on("x")], node_def={"name": name, **node}, constants=constants)
    config = functional([given("x", 4, 6), layer], ("x",), (f"tf_op_layer_{name}",))
    model = tersenet.load(saved_h5(tmp_path / "net.h5", config, {}, "2.3.0-tf"))
    np.testing.assert_allclose(model(X), wanted(X), rtol=1e-5, atol=1e-6)


def dense(x: np.ndarray, held: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return x @ held[0] + held[1]


def numbers(inputs: int, units: int) -> tuple[np.ndarray, np.ndarray]:
    return random(inputs, units), random(units)


def variables(name: str, held: tuple[np.ndarray, np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}/kernel:0": held[0], f"{name}/bias:0": held[1]}


def layer(name: str, units: int, *calls: Any, activation: str = "linear") -> dict[str, Any]:
    return entry("Dense", name, calls, units=units, activation=activation, use_bias=True)


A, B, C, D = numbers(6, 6), numbers(6, 4), numbers(4, 6), numbers(12, 2)
Y = random(3, 6)


def inside(kind: str, config: dict[str, Any], name: str, *calls: Any) -> dict[str, Any]:
    """A network as a layer of another."""
    return {**config, "class_name": kind, "name": name, "config": {**config["config"], "name": name}, "inbound_nodes": list(calls)}


def nested() -> dict[str, Any]:
    """A network used twice and a Sequential used twice, each once for the output: the first call of a network is its own, and is counted."""
    inner = functional([given("z", 6), layer("b", 4, on("z"), activation="relu"), layer("c", 6, on("b"))], ("z",), ("c",))
    chain = {"config": {"name": "chain", "layers": [given("s", 6), layer("a", 6)]}}
    layers = [
        given("x", 6),
        inside("Functional", inner, "inner", on("x"), on("chain", call=1)),
        inside("Sequential", chain, "chain", on("x"), on("inner", call=2)),
        entry("Concatenate", "both", [[["inner", 1, 0, {}], ["inner", 2, 0, {}]]], axis=-1),
        layer("d", 2, on("both")),
    ]
    return functional(layers, ("x",), [["d", 0, 0], ["chain", 2, 0]])


def check_nested(model: tersenet.Model) -> None:
    def inner(x: np.ndarray) -> np.ndarray:
        return dense(np.maximum(dense(x, B), 0), C)

    merged, chained = model(Y)
    second = inner(dense(Y, A))
    np.testing.assert_allclose(merged, dense(np.concatenate([inner(Y), second], -1), D), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(chained, dense(second, A), rtol=1e-4, atol=1e-5)


def test_networks_within_networks(tmp_path: Path) -> None:
    held = {"inner": {**variables("b", B), **variables("c", C)}, "chain": variables("a", A), "d": variables("d", D)}
    check_nested(tersenet.load(saved_h5(tmp_path / "net.h5", nested(), held)))


def test_weights_in_a_file_of_their_own(tmp_path: Path) -> None:
    """`model.to_json()` and `model.save_weights("net.h5")`."""
    import h5py

    held = {"inner": {**variables("b", B), **variables("c", C)}, "chain": variables("a", A), "d": variables("d", D)}
    (tmp_path / "net.json").write_text(json.dumps({**nested(), "keras_version": "2.10.0", "backend": "tensorflow"}))
    whole = saved_h5(tmp_path / "whole.h5", nested(), held)
    with h5py.File(whole) as source, h5py.File(tmp_path / "net.h5", "w") as file:
        for name in source["model_weights"]:
            source.copy(f"model_weights/{name}", file)
        file.attrs["layer_names"] = source["model_weights"].attrs["layer_names"]
    check_nested(tersenet.load(tmp_path / "net.json", weights=tmp_path / "net.h5"))


PATHS = {
    # tf-keras from 2.15: the property `layers`, each layer once
    "layers": ("layers/functional/layers/dense", "layers/functional/layers/dense_1", "layers/sequential/layers/dense", "layers/dense"),
    # Keras 2.12 to 2.14: a layer with weights stands there twice, and both take a number
    "_layer_checkpoint_dependencies": (
        "_layer_checkpoint_dependencies/functional/_layer_checkpoint_dependencies/dense",
        "_layer_checkpoint_dependencies/functional/_layer_checkpoint_dependencies/dense_2",
        "_layer_checkpoint_dependencies/sequential/_layer_checkpoint_dependencies/dense",
        "_layer_checkpoint_dependencies/dense",
    ),
}


@pytest.mark.parametrize("way", PATHS)
def test_networks_within_networks_in_archives(way: str, tmp_path: Path) -> None:
    def modern(config: Any) -> Any:
        """The module and the registered name of each layer, which .keras files have; the calls stay as they were."""
        if isinstance(config, list):
            return [modern(part) for part in config]
        if not isinstance(config, dict) or "class_name" not in config:
            return {key: modern(part) for key, part in config.items()} if isinstance(config, dict) else config
        return {"module": "keras.layers", "registered_name": None} | {key: modern(part) if key == "config" else part for key, part in config.items()}

    held = dict(zip(PATHS[way], (B, C, A, D), strict=True))
    check_nested(tersenet.load(saved_archive(tmp_path / "net.keras", modern(nested()), held)))


def test_a_sequential_of_a_network(tmp_path: Path) -> None:
    """Transfer learning: a base under a new head, the base given first."""
    base = functional([given("z", 6), layer("b", 4, on("z"))], ("z",), ("b",))
    config = {"class_name": "Sequential", "config": {"name": "net", "layers": [inside("Functional", base, "base"), layer("c", 6)]}}
    model = tersenet.load(saved_h5(tmp_path / "net.h5", config, {"base": variables("b", B), "c": variables("c", C)}))
    np.testing.assert_allclose(model(Y), dense(dense(Y, B), C), rtol=1e-4, atol=1e-5)


def test_networks_called_on_dicts(tmp_path: Path) -> None:
    """The order of the dict is that of the call, not of the network's own inputs."""
    layers = [given("left", 6), given("right", 6), entry("Subtract", "less", [on("left", "right")])]
    inner = functional(layers, {"left": ["left", 0, 0], "right": ["right", 0, 0]}, ("less",))
    call = {"right": ["x", 0, 0, {}], "left": ["y", 0, 0, {}]}
    config = functional([given("x", 6), given("y", 6), inside("Functional", inner, "inner", call)], ("x", "y"), [["inner", 1, 0]])
    model = tersenet.load(saved_h5(tmp_path / "net.h5", config, {}))
    np.testing.assert_allclose(model({"x": Y, "y": 3 * Y}), 2 * Y, rtol=1e-6)


def test_attention_in_archives(tmp_path: Path) -> None:
    """Keras 2 stores the parts of MultiHeadAttention under names with an underscore in front."""
    parts = {"query": random(6, 2, 3), "key": random(6, 2, 3), "value": random(6, 2, 3), "output": random(2, 3, 6)}
    call = [["x", 0, 0, {"value": ["x", 0, 0]}]]
    options = {"num_heads": 2, "key_dim": 3, "value_dim": 3, "dropout": 0.0, "use_bias": False, "output_shape": None, "attention_axes": None}
    config = functional([given("x", 4, 6), entry("MultiHeadAttention", "o", [call], **options)], ("x",), ("o",))
    held = {f"layers/multi_head_attention/_{name}_dense": [array] for name, array in parts.items()}
    model = tersenet.load(saved_archive(tmp_path / "net.keras", config, held))
    q, k, v = (np.einsum("btf,fhd->bhtd", X, parts[name]) for name in ("query", "key", "value"))
    heads = softmax(q @ k.transpose(0, 1, 3, 2) / np.sqrt(3.0)) @ v
    np.testing.assert_allclose(model(X), np.einsum("bhtd,hdf->btf", heads, parts["output"]), rtol=1e-4, atol=1e-5)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def cudnn(gates: int, inputs: int, units: int) -> tuple[dict[str, np.ndarray], list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]]:
    """Variables as CuDNN layers save them, and (input matrix, hidden matrix, input bias, hidden bias) of each gate, to be multiplied from the left.

    A gate's input matrix (units, inputs) lies in the file row after row, in the columns of an array (inputs, units).
    """
    parts = [(random(units, inputs), random(units, units), random(units), random(units)) for _ in range(gates)]
    kernel = np.concatenate([x.reshape(inputs, units) for x, *_ in parts], 1)
    kernel_h = np.concatenate([h for _, h, *_ in parts], 1)
    bias = np.concatenate([*(part[2] for part in parts), *(part[3] for part in parts)])
    return {"r/kernel:0": kernel, "r/recurrent_kernel:0": kernel_h, "r/bias:0": bias}, parts


def test_lstm_of_cudnn(tmp_path: Path) -> None:
    held, parts = cudnn(4, 6, 5)
    config = functional([given("x", 4, 6), entry("CuDNNLSTM", "r", [on("x")], units=5, return_sequences=True)], ("x",), ("r",))
    model = tersenet.load(saved_h5(tmp_path / "net.h5", config, {"r": held}))
    hidden = cell = np.zeros((3, 5), np.float32)
    for time in range(4):
        i, f, c, o = (X[:, time] @ x.T + hidden @ h.T + b_x + b_h for x, h, b_x, b_h in parts)
        cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
        hidden = sigmoid(o) * np.tanh(cell)
        np.testing.assert_allclose(model(X)[:, time], hidden, rtol=1e-4, atol=1e-5)
    assert any(str(node.target).startswith("aten.lstm") for node in model.graph.graph.nodes)


def test_gru_of_cudnn_in_both_directions(tmp_path: Path) -> None:
    (ahead, parts), (behind, _) = cudnn(3, 6, 5), cudnn(3, 6, 5)
    inner = entry("CuDNNGRU", "g", units=5, return_sequences=False)
    layers = [given("x", 4, 6), entry("Bidirectional", "r", [on("x")], layer=inner, merge_mode="concat")]
    held = {f"r/{way}_{name}": array for way, part in (("forward", ahead), ("backward", behind)) for name, array in part.items()}
    model = tersenet.load(saved_h5(tmp_path / "net.h5", functional(layers, ("x",), ("r",)), {"r": held}))
    hidden = np.zeros((3, 5), np.float32)
    for time in range(4):
        (z, z_h), (r, r_h), (n, n_h) = ((X[:, time] @ x.T + b_x, hidden @ h.T + b_h) for x, h, b_x, b_h in parts)
        update, reset = sigmoid(z + z_h), sigmoid(r + r_h)
        hidden = update * hidden + (1 - update) * np.tanh(n + reset * n_h)
    np.testing.assert_allclose(model(X)[:, :5], hidden, rtol=1e-4, atol=1e-5)
