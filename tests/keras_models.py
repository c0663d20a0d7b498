"""Networks of Keras, one for each way in which they are put together, small and with random weights."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # read by Keras when it is imported, by the tests that use this module

import numpy as np
import torch

from keras_layers import randomized

Made = tuple[Any, list[np.ndarray]]
MODELS: dict[str, Callable[[Any], Made]] = {}


def listed(build: Callable[[Any], Made]) -> Callable[[Any], Made]:
    MODELS[build.__name__] = build
    return build


def made(name: str) -> Made:
    """A network with random weights and what it is called with."""
    import keras

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model, inputs = MODELS[name](keras)
    randomized(model)
    return model, inputs


def reference(model: Any, training: bool = False) -> Callable[..., Any]:
    """Keras's own answer: arrays in the order of its inputs, outputs in the order of its outputs."""
    import keras

    def call(*arrays: np.ndarray) -> Any:
        struct = getattr(model, "_inputs_struct", None)
        given: Any = list(arrays) if isinstance(struct, list) or len(arrays) > 1 else arrays[0]
        given = dict(zip(struct, arrays, strict=True)) if isinstance(struct, dict) else given
        with torch.no_grad():
            found = model(given, training=training)
        parts = keras.tree.flatten(list(found.values()) if isinstance(found, dict) else found)
        results = tuple(np.asarray(part.detach()) for part in parts)
        return results[0] if len(results) == 1 else results

    return call


def learning(model: Any) -> Callable[..., Any]:
    """Keras's own answer in training mode, what drops or adds noise off from now on."""
    for layer in model._flatten_layers():
        for share in ("rate", "dropout", "recurrent_dropout", "stddev"):
            within = isinstance(getattr(type(layer), share, None), property)  # a cell's, which is a layer too
            if not within and isinstance(getattr(layer, share, None), float):
                setattr(layer, share, 0.0)
    return reference(model, training=True)


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((3, *shape)).astype(np.float32)


def words(length: int, most: int = 20, seed: int = 0) -> np.ndarray:
    """Tokens: a row without padding, one with padding behind, one with padding before and inside."""
    tokens = np.random.default_rng(seed).integers(1, most, (3, length)).astype(np.int32)
    tokens[1, length // 2 :] = 0
    tokens[2, :2] = 0
    tokens[2, length - 2] = 0
    return tokens


def parts(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else [found]


@listed
def tutorial(keras: Any) -> Made:
    """The network of every MNIST tutorial."""
    layers = keras.layers
    convolutions = [layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(16, 3, padding="same", activation="relu", strides=2)]
    head = [layers.Flatten(), layers.Dropout(0.5), layers.Dense(10, activation="softmax")]
    return keras.Sequential([keras.Input((14, 14, 1)), *convolutions, *head]), [floats(14, 14, 1)]


@listed
def chain_of_several(keras: Any) -> Made:
    """A chain in which a layer returns several tensors: to the next layer, and at the end."""
    layers = keras.layers
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True), merge_mode=None)
    return keras.Sequential([keras.Input((6, 4)), both, layers.Concatenate(), layers.LSTM(5, return_state=True)]), [floats(6, 4)]


@listed
def residual(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((8, 8, 4), name="image")
    y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same", use_bias=False)(x))
    y = layers.ReLU()(layers.Add()([x, y]))
    y = layers.DepthwiseConv2D(3, strides=2, padding="same")(y)
    y = layers.Concatenate()([y, layers.AveragePooling2D(2)(x)])
    return keras.Model(x, layers.Dense(3)(layers.GlobalAveragePooling2D()(y))), [floats(8, 8, 4)]


@listed
def shared_layers(keras: Any) -> Made:
    layers = keras.layers
    a, b = keras.Input((6,), name="left"), keras.Input((6,), name="right")
    dense, norm = layers.Dense(5, activation="tanh"), layers.BatchNormalization()
    x, y = norm(dense(a)), norm(dense(b))
    return keras.Model([a, b], [layers.Dot(1)([x, y]), layers.Subtract()([x, y])]), [floats(6), floats(6, seed=1)]


@listed
def nested(keras: Any) -> Made:
    layers = keras.layers
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, [layers.Dense(4)(inner_input), layers.Dense(3)(inner_input)], name="inner")
    chain = keras.Sequential([layers.Dense(6), layers.BatchNormalization(), keras.Sequential([layers.Dense(6, activation="relu")])], name="chain")
    x = keras.Input((6,))
    first, second = inner(chain(x))
    again, _ = inner(x)
    return keras.Model(x, layers.Concatenate()([first, second, again])), [floats(6)]


@listed
def nested_at_the_end(keras: Any) -> Made:
    layers = keras.layers
    head = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    inner_input = keras.Input((6,))
    inner = keras.Model(inner_input, layers.Dense(6)(inner_input))
    x = keras.Input((6,))
    return keras.Model(x, [head(inner(x)), inner(inner(x))]), [floats(6)]


@listed
def dictionaries(keras: Any) -> Made:
    layers = keras.layers
    inputs = {"first": keras.Input((4,), name="first"), "second": keras.Input((5,), name="second")}
    x = layers.Concatenate()([layers.Dense(3)(inputs["first"]), layers.Dense(3)(inputs["second"])])
    return keras.Model(inputs, {"scores": layers.Dense(2)(x), "values": layers.Dense(1)(x)}), [floats(4), floats(5, seed=1)]


@listed
def arithmetic(keras: Any) -> Made:
    ops, layers = keras.ops, keras.layers
    x = keras.Input((4, 6))
    y = layers.Dense(6)(x) * 2.0 + x
    halves = ops.split(y, 2, axis=-1)
    z = ops.concatenate([halves[0] / 3.0, 1.0 - halves[1], y[:, :, 1:3]], axis=-1)
    z = ops.where(z > 0, z, 0.1 * z)
    w = ops.matmul(y, ops.transpose(y, (0, 2, 1)))
    wide = ops.expand_dims(ops.squeeze(ops.mean(y, axis=-1, keepdims=True), -1), 1)
    outputs = [z, w, wide, ops.reshape(y, (-1, 24)), ops.clip(y, 0, 6), ops.einsum("btf,bsf->bts", y, y), y**2, -y, ops.max(y, axis=[1, 2])]
    outputs += [ops.softmax(y, axis=1), ops.stack([y, x], axis=1), ops.maximum(x, 0.5), ops.relu(x), ops.cast(x > 0, "float32"), ops.sum(y, axis=1)]
    return keras.Model(x, outputs), [floats(4, 6)]


@listed
def reviews(keras: Any) -> Made:
    layers = keras.layers
    made_of = [layers.Embedding(20, 8), layers.LSTM(6), layers.Dense(1, activation="sigmoid")]
    return keras.Sequential([keras.Input((12,), dtype="int32"), *made_of]), [words(12)]


@listed
def masked_reviews(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((6,), dtype="int32")
    y = layers.Dropout(0.2)(layers.Embedding(20, 8, mask_zero=True)(x))
    sequence = layers.LSTM(6, return_sequences=True)(y)
    outputs = [layers.GRU(5)(sequence), layers.SimpleRNN(4)(sequence), layers.GlobalAveragePooling1D()(sequence), sequence]
    both = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(y)
    outputs += [layers.Bidirectional(layers.GRU(3))(both), both, layers.LSTM(4, go_backwards=True)(y)]
    outputs += [*layers.LSTM(4, return_state=True)(y), *layers.GRU(4, return_state=True)(y)]
    outputs += [layers.LSTM(4, return_sequences=True, activation="relu")(y), *layers.Bidirectional(layers.LSTM(3, return_state=True))(y)]
    return keras.Model(x, outputs), [words(6)]


@listed
def masked_floats(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((7, 3))
    y = layers.Dense(4)(layers.Masking()(x))
    sequence = floats(7, 3)
    sequence[0, 4:], sequence[1, :] = 0, 0
    return keras.Model(x, [layers.LSTM(4)(y), layers.TimeDistributed(layers.Dense(2))(y)]), [sequence]


@listed
def recurrent(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((5, 3))
    ways: list[dict[str, Any]] = [{}, {"return_sequences": True}, {"return_state": True}, {"go_backwards": True, "return_sequences": True}]
    outputs: list[Any] = []
    for kind in (layers.LSTM, layers.GRU, layers.SimpleRNN):
        for options in [*ways, {"use_bias": False}]:
            outputs += parts(kind(4, **options)(x))
    outputs += [layers.GRU(4, reset_after=False)(x), layers.GRU(4, reset_after=False, use_bias=False)(x), layers.SimpleRNN(4, activation="relu")(x)]
    outputs += [layers.LSTM(4, activation="elu", recurrent_activation="hard_sigmoid")(x), layers.GRU(4, activation="relu")(x)]
    outputs += [layers.LSTM(4, unroll=True, dropout=0.2, recurrent_dropout=0.2)(x)]
    return keras.Model(x, outputs), [floats(5, 3)]


@listed
def cells(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((5, 3))
    stacked = layers.RNN([layers.LSTMCell(4), layers.GRUCell(5), layers.SimpleRNNCell(3, activation="relu")], return_state=True)
    outputs = [*stacked(x), layers.RNN(layers.GRUCell(4), return_sequences=True)(x)]
    outputs += [layers.Bidirectional(layers.RNN(layers.LSTMCell(4), return_sequences=True))(x)]
    return keras.Model(x, outputs), [floats(5, 3)]


@listed
def both_directions(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((5, 3))
    outputs: list[Any] = []
    for mode in ("concat", "sum", "mul", "ave", None):
        for kind in (layers.LSTM, layers.GRU):
            sequences = (mode == "mul") == (kind is layers.LSTM)
            outputs += parts(layers.Bidirectional(kind(4, return_sequences=sequences, return_state=mode == "sum"), merge_mode=mode)(x))
    outputs += [layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True))(x)]
    outputs += [layers.Bidirectional(layers.LSTM(4), backward_layer=layers.LSTM(4, go_backwards=True, activation="relu"))(x)]
    return keras.Model(x, outputs), [floats(5, 3)]


@listed
def translation(keras: Any) -> Made:
    """An encoder whose states a decoder begins with."""
    layers = keras.layers
    x, y = keras.Input((7, 3)), keras.Input((5, 2))
    _, h, c = layers.LSTM(4, return_state=True)(x)
    decoded = layers.LSTM(4, return_sequences=True)(y, initial_state=[h, c])
    _, state = layers.GRU(3, return_state=True)(x)
    return keras.Model([x, y], [decoded, layers.GRU(3)(y, initial_state=state)]), [floats(7, 3), floats(5, 2, seed=1)]


@listed
def masked_states(keras: Any) -> Made:
    """Beside an initial state Keras 3 gives a layer no mask but one that it is called with; the mask travels on all the same."""
    layers, ops = keras.layers, keras.ops
    x = keras.Input((6, 3))
    steps, *states = layers.LSTM(4, return_sequences=True, return_state=True)(layers.Masking()(x))
    decoded = layers.LSTM(4, return_sequences=True)(steps, initial_state=states)
    both = layers.Bidirectional(layers.GRU(4))(decoded, initial_state=states)
    told = layers.LSTM(4)(steps, initial_state=states, mask=ops.any(ops.not_equal(x, 0.0), axis=-1))
    sequence = floats(6, 3)
    sequence[0, 3:], sequence[1, :2] = 0, 0
    return keras.Model(x, [decoded, both, told, layers.GRU(3)(decoded)]), [sequence]


@listed
def frames(keras: Any) -> Made:
    layers = keras.layers
    x, line = keras.Input((3, 6, 6, 2)), keras.Input((3, 9, 2))
    y = layers.ConvLSTM2D(3, 3, padding="same", return_sequences=True)(x)
    outputs = [layers.ConvLSTM2D(2, 3, strides=2)(y), layers.TimeDistributed(layers.Conv2D(2, 3))(x)]
    outputs += [layers.ConvLSTM1D(3, 3, go_backwards=True, use_bias=False)(line), layers.Bidirectional(layers.ConvLSTM1D(2, 3, padding="same"))(line)]
    inner = keras.Sequential([layers.Conv2D(2, 3), layers.Flatten(), layers.Dense(3)])
    return keras.Model([x, line], [*outputs, layers.TimeDistributed(inner)(x)]), [floats(3, 6, 6, 2), floats(3, 9, 2, seed=1)]


@listed
def volumes(keras: Any) -> Made:
    x = keras.Input((2, 4, 4, 4, 2))
    return keras.Model(x, keras.layers.ConvLSTM3D(2, 3, padding="same")(x)), [floats(2, 4, 4, 4, 2)]


@listed
def attention(keras: Any) -> Made:
    layers = keras.layers
    x, y = keras.Input((7, 6)), keras.Input((5, 6))
    outputs = [layers.MultiHeadAttention(2, 4)(x, y), layers.MultiHeadAttention(2, 4, sliding_window=2)(x, x)]
    outputs += [layers.MultiHeadAttention(3, 4, value_dim=5, use_bias=False, output_shape=8)(x, y, use_causal_mask=True)]
    outputs += [
        *layers.MultiHeadAttention(2, 4, dropout=0.1)(x, x, return_attention_scores=True),
        layers.MultiHeadAttention(2, 4, use_gate=True)(x, x),
    ]
    outputs += [layers.MultiHeadAttention(2, 3)(query=x, key=y, value=y), layers.GroupQueryAttention(4, 4, 2)(x, y)]
    outputs += [layers.Attention()([x, y]), layers.Attention(use_scale=True, score_mode="concat")([x, y]), layers.AdditiveAttention()([x, y, y])]
    outputs += [*layers.Attention()([x, x], return_attention_scores=True, use_causal_mask=True)]
    return keras.Model([x, y], outputs), [floats(7, 6), floats(5, 6, seed=1)]


@listed
def masked_attention(keras: Any) -> Made:
    layers = keras.layers
    x = keras.Input((9,), dtype="int32")
    y, z, v, w = (layers.Embedding(20, 6, mask_zero=True)(x) for _ in range(4))
    outputs = [layers.Attention()([y, y]), layers.AdditiveAttention()([y, y], use_causal_mask=True), layers.GroupQueryAttention(4, 4, 2)(y, y)]
    outputs += [layers.MultiHeadAttention(2, 4)(z, z), layers.MultiHeadAttention(2, 4, dropout=0.1)(v, v, use_causal_mask=True)]
    outputs += [layers.GlobalAveragePooling1D()(layers.MultiHeadAttention(2, 4)(w, w))]
    return keras.Model(x, outputs), [words(9)]


@listed
def masked_behind_attention(keras: Any) -> Made:
    """The mask that attention passes on goes through a ConvertToTensor to whatever uses it."""
    layers = keras.layers
    x = keras.Input((9,), dtype="int32")
    y, z = (layers.Embedding(20, 6, mask_zero=True)(x) for _ in range(2))
    outputs = [layers.GlobalAveragePooling1D()(layers.Dense(3)(layers.Attention()([y, y])))]
    outputs += [layers.GlobalAveragePooling1D()(layers.AdditiveAttention()([z, z]))]
    outputs += [keras.ops.convert_to_tensor(x, "float32") / 3.0]
    return keras.Model(x, outputs), [words(9)]


@listed
def masked_transformer(keras: Any) -> Made:
    """Attention of Keras 3 takes the mask off what it attends to, so that the sum after it has none."""
    layers = keras.layers
    x = keras.Input((9,), dtype="int32")
    y = layers.Embedding(20, 6, mask_zero=True)(x)
    for _ in range(2):
        y = layers.LayerNormalization()(layers.Add()([y, layers.MultiHeadAttention(2, 4)(y, y)]))
    return keras.Model(x, [layers.GlobalAveragePooling1D()(y), layers.LSTM(3)(y)]), [words(9)]


@listed
def preprocessing(keras: Any) -> Made:
    layers = keras.layers
    scale = layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])
    made_of = [layers.Rescaling(1 / 255.0), scale, layers.RandomFlip(), layers.ZeroPadding2D(), layers.Conv2D(2, 3), layers.UpSampling2D()]
    return keras.Sequential([keras.Input((8, 8, 3)), *made_of]), [floats(8, 8, 3)]


@listed
def frozen(keras: Any) -> Made:
    """Transfer learning: a network, frozen in part, under a new head; the older form lists its weights after those that train."""
    layers = keras.layers
    base_input = keras.Input((8, 8, 3))
    y = layers.BatchNormalization()(layers.Conv2D(4, 3)(base_input))
    base = keras.Model(base_input, layers.BatchNormalization()(layers.SeparableConv2D(5, 3)(y)), name="base")
    base.layers[1].trainable = False
    x = keras.Input((8, 8, 3))
    return keras.Model(x, layers.Dense(2)(layers.Flatten()(base(x, training=False)))), [floats(8, 8, 3)]


@listed
def any_length(keras: Any) -> Made:
    layers = keras.layers
    made_of = [layers.Embedding(20, 8), layers.Conv1D(6, 3, padding="same", activation="relu"), layers.LSTM(6), layers.Dense(2)]
    return keras.Sequential([keras.Input((None,), dtype="int32"), *made_of]), [words(12)]
