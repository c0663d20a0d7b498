"""Random Keras networks out of the layers that the frontend converts: chains and graphs, over images, sequences and vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from keras_layers import randomized  # and with it the backend of Keras

LARGEST = 4000  # numbers of one sample that a layer may give

Draw = Callable[[st.SearchStrategy[Any]], Any]
Make = Callable[[Any, Draw, tuple[int, ...]], Any]  # Keras, what draws, the shape without the batch -> a layer


def _pick(draw: Draw, *values: Any) -> Any:
    return draw(st.sampled_from(values))


def _activation(draw: Draw) -> Any:
    return _pick(draw, None, "relu", "relu6", "tanh", "sigmoid", "gelu", "silu", "elu", "selu", "softplus", "hard_sigmoid", "mish")


def _window(draw: Draw) -> dict[str, Any]:
    strides = _pick(draw, 1, 1, 2)
    dilation = _pick(draw, 1, 2) if strides == 1 else 1
    return {
        "kernel_size": _pick(draw, 1, 2, 3),
        "strides": strides,
        "dilation_rate": dilation,
        "padding": "same",
        "use_bias": _pick(draw, True, False),
    }


def _convolution(kind: str) -> Make:
    def make(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
        options = {**_window(draw), "activation": _activation(draw)}
        if kind.startswith("Depthwise"):
            return getattr(keras.layers, kind)(depth_multiplier=_pick(draw, 1, 2), **options)
        if kind.endswith("Transpose"):
            options["padding"] = _pick(draw, "same", "valid")
        if kind.startswith("Conv") and not kind.endswith("Transpose") and shape[-1] % 2 == 0:
            options["groups"] = _pick(draw, 1, 2)
        return getattr(keras.layers, kind)(filters=_pick(draw, 2, 4, 6), **options)

    return make


def _pooling(kind: str) -> Make:
    def make(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
        maximum = kind.startswith("Max")
        # Keras on torch counts padding into means where the two sides differ.
        size, strides, padding = _pick(draw, (3, 1, "same"), (1, 2, "valid"), *([(2, 2, "same"), (3, 2, "same"), (2, 1, "same")] if maximum else []))
        return getattr(keras.layers, kind)(pool_size=size, strides=strides, padding=padding)

    return make


def _plain(kind: str, *options: Mapping[str, Any]) -> Make:
    def make(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
        return getattr(keras.layers, kind)(**_pick(draw, *(options or ({},))))

    return make


def _named_activation(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    return keras.layers.Activation(_activation(draw) or "log_softmax")


def _group_norm(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    return keras.layers.GroupNormalization(groups=_pick(draw, *(groups for groups in (1, 2, 3) if shape[-1] % groups == 0)))


def _flat(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    return keras.layers.Reshape((-1, shape[-1]))


def _parametric(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    return keras.layers.PReLU(shared_axes=_pick(draw, None, list(range(1, len(shape)))) if len(shape) > 1 else None)


def _recurrent(kind: str) -> Make:
    def make(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
        layer = getattr(keras.layers, kind)(_pick(draw, 3, 4), return_sequences=_pick(draw, True, False))
        return keras.layers.Bidirectional(layer, merge_mode=_pick(draw, "concat", "sum")) if _pick(draw, False, True) else layer

    return make


def _each_step(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    return keras.layers.TimeDistributed(keras.layers.Dense(_pick(draw, 3, 5), activation=_activation(draw)))


_ANYWHERE: Sequence[Make] = (
    _named_activation,
    _parametric,
    _group_norm,
    _plain("BatchNormalization", {}, {"scale": False}, {"center": False, "epsilon": 1e-2}),
    _plain("LayerNormalization"),
    _plain("RMSNormalization"),
    _plain("UnitNormalization"),
    _plain("ReLU", {}, {"max_value": 6.0}, {"negative_slope": 0.1, "threshold": 0.2}),
    _plain("LeakyReLU"),
    _plain("ELU", {"alpha": 0.5}),
    _plain("Softmax"),
    _plain("Dropout", {"rate": 0.3}),
    _plain("GaussianNoise", {"stddev": 0.1}),
    _plain("Rescaling", {"scale": 0.5, "offset": -0.25}),
    _plain("Dense", {"units": 4}, {"units": 6, "activation": "relu"}),
    _plain("EinsumDense", {"equation": "...x,xy->...y", "output_shape": 5, "bias_axes": "y"}),
)
_OF: Mapping[int, Sequence[Make]] = {
    1: (_plain("RepeatVector", {"n": 3}), _plain("Flatten"), *_ANYWHERE),
    2: (
        _convolution("Conv1D"),
        _convolution("DepthwiseConv1D"),
        _convolution("SeparableConv1D"),
        _convolution("Conv1DTranspose"),
        _pooling("MaxPooling1D"),
        _pooling("AveragePooling1D"),
        _recurrent("LSTM"),
        _recurrent("GRU"),
        _recurrent("SimpleRNN"),
        _each_step,
        _plain("GlobalAveragePooling1D", {}, {"keepdims": True}),
        _plain("GlobalMaxPooling1D"),
        _plain("Permute", {"dims": (2, 1)}),
        _plain("UpSampling1D"),
        _plain("ZeroPadding1D", {"padding": (1, 0)}),
        _plain("Cropping1D", {"cropping": (1, 0)}),
        _plain("SpatialDropout1D", {"rate": 0.2}),
        _plain("AdaptiveAveragePooling1D", {"output_size": 2}),
        *_ANYWHERE,
    ),
    3: (
        _convolution("Conv2D"),
        _convolution("Conv2D"),
        _convolution("DepthwiseConv2D"),
        _convolution("SeparableConv2D"),
        _convolution("Conv2DTranspose"),
        _pooling("MaxPooling2D"),
        _pooling("AveragePooling2D"),
        _plain("GlobalAveragePooling2D", {}, {"keepdims": True}),
        _plain("GlobalMaxPooling2D"),
        _plain("UpSampling2D", {}, {"interpolation": "bilinear"}),
        _plain("ZeroPadding2D", {"padding": ((0, 1), (1, 2))}),
        _plain("Cropping2D", {"cropping": ((0, 1), (1, 0))}),
        _plain("SpatialDropout2D", {"rate": 0.2}),
        _plain("Resizing", {"height": 5, "width": 6}, {"height": 4, "width": 4, "interpolation": "nearest"}),
        _plain("RandomFlip"),
        _plain("AdaptiveMaxPooling2D", {"output_size": (2, 1)}),
        _plain("Permute", {"dims": (3, 1, 2)}),
        _plain("Flatten"),
        _flat,
        *_ANYWHERE,
    ),
}
_MERGES = ("Add", "Average", "Maximum", "Minimum", "Multiply", "Subtract", "Concatenate")


def network(draw: Draw, chain: bool) -> Any:
    """A network of Keras with random weights: a chain (``Sequential``), or a graph with branches, a network inside, and a layer used twice.

    Args:
        draw: of ``st.data()``, for Keras draws numbers of its own when it makes layers, which strategies must not.
    """
    import keras

    keras.utils.clear_session(free_memory=False)
    shape = draw(st.sampled_from([(6,), (7, 4), (9, 8, 3), (8, 8, 2)]))
    made = _chain(keras, draw, shape) if chain else _graph(keras, draw, shape)
    randomized(made, draw(st.integers(0, 1000)))
    return made


def _layer(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    """A layer that gives something of a moderate size for this shape, and what shape."""
    for _ in range(4):
        layer = draw(st.sampled_from(_OF[len(shape)]))(keras, draw, shape)
        try:
            result = tuple(layer.compute_output_shape((None, *shape)))[1:]
        except ValueError:  # nothing would be left of the input
            continue
        if all(size is not None and size > 0 for size in result) and np.prod(result) <= LARGEST and len(result) in _OF:
            return layer
    return keras.layers.Activation("relu")


def _chain(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    model = keras.Sequential([keras.Input(shape)])
    for _ in range(draw(st.integers(1, 6))):
        model.add(_layer(keras, draw, shape))
        shape = tuple(model.outputs[0].shape[1:])
    return model


def _graph(keras: Any, draw: Draw, shape: tuple[int, ...]) -> Any:
    inputs = [keras.Input(shape) for _ in range(_pick(draw, 1, 1, 2))]
    known = list(inputs)
    for _ in range(draw(st.integers(2, 7))):
        x = draw(st.sampled_from(known[-3:]))
        alike = [y for y in known if tuple(y.shape) == tuple(x.shape) and y is not x]
        what = draw(st.sampled_from(["layer", "layer", "layer", "merge", "twice", "inside"]))
        if what == "merge" and alike:
            known.append(getattr(keras.layers, draw(st.sampled_from(_MERGES)))()([x, draw(st.sampled_from(alike))]))
        elif what == "twice" and alike:
            layer = _layer(keras, draw, tuple(x.shape[1:]))
            known += [layer(x), layer(draw(st.sampled_from(alike)))]
        elif what == "inside":
            known.append(_chain(keras, draw, tuple(x.shape[1:]))(x))
        else:
            known.append(_layer(keras, draw, tuple(x.shape[1:]))(x))
    outputs = known[-1:] if draw(st.booleans()) else known[-2:]
    used = [x for x in inputs if any(_reaches(x, y) for y in outputs)]
    return keras.Model(used or inputs[:1], [y for y in outputs if used and any(_reaches(x, y) for x in used)] or outputs)


def _reaches(x: Any, y: Any) -> bool:
    """Whether y is computed from x."""
    if x is y:
        return True
    history = y._keras_history
    node = history.operation._inbound_nodes[history.node_index]
    return any(_reaches(x, before) for before in node.input_tensors)


def inputs_of(model: Any, seed: int = 0) -> list[np.ndarray]:
    """Random inputs of a network, three samples."""
    generator = np.random.default_rng(seed)
    return [generator.normal(size=(3, *x.shape[1:])).astype(np.float32) for x in model.inputs]
