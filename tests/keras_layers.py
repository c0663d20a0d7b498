"""Configurations of Keras layers, several for each that the frontend converts, and what its converters are given for one."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # read by Keras when it is imported, by the tests that use this module

import numpy as np
import torch

from tersenet.frontends.keras.layer import Layer, Weights
from tersenet.frontends.keras.table import LAYERS


@dataclass(frozen=True)
class Case:
    """One configuration.

    Args:
        shapes: of each input, without the batch.
        options: what the layer is made with.
        whole: the inputs are whole numbers below this; 0 for any numbers.
        positive: the inputs are between 0 and this; 0 for any numbers.
    """

    shapes: Sequence[tuple[int, ...]]
    options: Mapping[str, Any] = field(default_factory=dict)
    whole: int = 0
    positive: float = 0.0


def one(*shape: int, **options: Any) -> Case:
    return Case((shape,), options)


def two(first: tuple[int, ...], second: tuple[int, ...], **options: Any) -> Case:
    return Case((first, second), options)


FIRST = {"data_format": "channels_first"}
IMAGE, SOUND, VOLUME = (9, 8, 4), (11, 4), (5, 6, 7, 4)
_FUNCTIONS = [
    "celu",
    "elu",
    "exponential",
    "gelu",
    "glu",
    "hard_shrink",
    "hard_sigmoid",
    "hard_silu",
    "hard_swish",
    "hard_tanh",
    "leaky_relu",
    "linear",
]
_FUNCTIONS += ["log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign"]
_FUNCTIONS += ["sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink"]


def _windows(*options: Mapping[str, Any], rank: int) -> list[Case]:
    shape = {1: SOUND, 2: IMAGE, 3: VOLUME}[rank]
    return [one(*shape, **each) for each in options]


def _convolutions(rank: int) -> list[Case]:
    plain: list[dict[str, Any]] = [
        {"filters": 6, "kernel_size": 3},
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 6, "kernel_size": 2, "padding": "same", "use_bias": False},
        {"filters": 6, "kernel_size": 3, "dilation_rate": 2, "padding": "same", "groups": 2},
        {"filters": 4, "kernel_size": 2, "strides": 3, "padding": "valid", "groups": 4, "activation": "softmax"},
        {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", **FIRST},
    ]
    if rank == 1:
        plain += [
            {"filters": 5, "kernel_size": 3, "padding": "causal", "dilation_rate": 2},
            {"filters": 5, "kernel_size": 4, "padding": "causal", **FIRST},
        ]
    return _windows(*plain, rank=rank)


def _depthwise(rank: int) -> list[Case]:
    options: list[dict[str, Any]] = [
        {"kernel_size": 3},
        {"kernel_size": 3, "depth_multiplier": 2, "padding": "same", "activation": "relu6"},
        {"kernel_size": 4, "depth_multiplier": 3, "strides": 2, "padding": "same", "use_bias": False},
        {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        {"kernel_size": 3, "strides": 2, "depth_multiplier": 2, **FIRST},
    ]
    return _windows(*options, rank=rank)


def _transposed(rank: int) -> list[Case]:
    options: list[dict[str, Any]] = [
        {"filters": 3, "kernel_size": 3},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"},
        {"filters": 3, "kernel_size": 4, "strides": 2, "padding": "same", "use_bias": False},
        {"filters": 3, "kernel_size": 2, "strides": 3, "padding": "same"},
        {"filters": 3, "kernel_size": 2, "strides": 3, "padding": "valid"},
        {"filters": 3, "kernel_size": 5, "strides": 3, "padding": "same", "output_padding": 1},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "valid", "output_padding": 1},
        {"filters": 3, "kernel_size": 3, "dilation_rate": 2, "padding": "same"},
        {"filters": 3, "kernel_size": 3, "strides": 2, "padding": "same", **FIRST},
    ]
    return _windows(*options, rank=rank)


def _pools(rank: int, mean: bool) -> list[Case]:
    options: list[dict[str, Any]] = [
        {"pool_size": 2},
        {"pool_size": 3, "strides": 2},
        {"pool_size": 3, "strides": 1, "padding": "same"},
        {"pool_size": 2, **FIRST},
    ]
    if not mean:  # where the padding differs on two sides, Keras on torch counts what is padded: see test_keras_windows
        options += [
            {"pool_size": 2, "strides": 1, "padding": "same"},
            {"pool_size": 3, "strides": 2, "padding": "same"},
            {"pool_size": 2, "padding": "same"},
        ]
    return _windows(*options, rank=rank)


def _globals(rank: int) -> list[Case]:
    return _windows({}, {"keepdims": True}, {**FIRST}, {"keepdims": True, **FIRST}, rank=rank)


def _adaptive(rank: int) -> list[Case]:
    whole = one(*[6, 4, 2][:rank], 3, output_size=[3, 2, 2][:rank])
    return [*_windows({"output_size": 3}, {"output_size": [2, 3, 1][:rank]}, {"output_size": 2, **FIRST}, rank=rank), whole]


_MERGED = [two((5, 4), (5, 4)), two((5, 4), (1, 4)), two((4,), (5, 4))]
_THREE = [*_MERGED, Case(((3,), (3,), (3,)))]
_AUGMENTED = {
    "AugMix": {},
    "CutMix": {},
    "Equalization": {},
    "MixUp": {},
    "RandAugment": {},
    "RandomBrightness": {"factor": 0.2},
    "RandomColorDegeneration": {"factor": 0.5},
    "RandomColorJitter": {"brightness_factor": 0.2},
    "RandomContrast": {"factor": 0.3},
    "RandomElasticTransform": {},
    "RandomErasing": {},
    "RandomFlip": {"mode": "horizontal"},
    "RandomGaussianBlur": {},
    "RandomGrayscale": {"factor": 0.5},
    "RandomHue": {"factor": 0.2},
    "RandomInvert": {},
    "RandomPerspective": {},
    "RandomPosterization": {"factor": 4},
    "RandomRotation": {"factor": 0.1},
    "RandomSaturation": {"factor": 0.4},
    "RandomSharpness": {"factor": 0.4},
    "RandomShear": {"x_factor": 0.2},
    "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
    "RandomZoom": {"height_factor": 0.2},
    "Solarization": {},
}
# Not among the axes that Keras on torch fails for: one that is not the last, and rows of these. See test_norms_over_other_axes.
_NORMS = [one(6, 4), one(5, 6, 4, axis=[2, 3], epsilon=1e-5), one(5, 6, 4, axis=[1, 2, 3])]

CASES: Mapping[str, Sequence[Case]] = {
    "Dense": [one(5, units=3), one(4, 5, units=3, activation="relu"), one(2, 4, 5, units=3, use_bias=False, activation="gelu")],
    "EinsumDense": [
        one(5, equation="ab,bc->ac", output_shape=6, bias_axes="c"),
        one(4, 5, equation="abc,cd->abd", output_shape=[None, 6], activation="relu"),
        one(4, 5, equation="abc,cde->abde", output_shape=[None, 2, 3], bias_axes="de"),
        one(4, 5, equation="abc,cde->abde", output_shape=[None, 2, 3], bias_axes="d"),
        one(4, 2, 3, equation="abcd,cde->abe", output_shape=[None, 6], bias_axes="e"),
        one(4, 5, equation="...x,xy->...y", output_shape=6, bias_axes="y"),
        one(4, 5, equation="abc,bd->adc", output_shape=[6, 5]),
        one(4, 5, equation="abc,bcd->abd", output_shape=[4, 6], bias_axes="bd"),
    ],
    "Embedding": [
        Case(((6,),), {"input_dim": 9, "output_dim": 4}, whole=9),
        Case(((2, 3),), {"input_dim": 5, "output_dim": 3, "mask_zero": True}, whole=5),
    ],
    "ReversibleEmbedding": [
        Case(((6,),), {"input_dim": 9, "output_dim": 4}, whole=9),
        Case(((6,),), {"input_dim": 9, "output_dim": 4, "tie_weights": False}, whole=9),
    ],
    **{f"Conv{rank}D": _convolutions(rank) for rank in (1, 2, 3)},
    **{f"DepthwiseConv{rank}D": _depthwise(rank) for rank in (1, 2)},
    **{f"SeparableConv{rank}D": [Case(case.shapes, {"filters": 5, **case.options}) for case in _depthwise(rank)] for rank in (1, 2)},
    **{f"Conv{rank}DTranspose": _transposed(rank) for rank in (1, 2, 3)},
    "Activation": [one(6, activation=name) for name in _FUNCTIONS] + [one(3, 4, activation="softmax"), one(3, 4, activation="sparsemax")],
    "ELU": [one(6), one(6, alpha=0.4)],
    "LeakyReLU": [one(6), one(6, negative_slope=0.1)],
    "PReLU": [
        one(6),
        one(5, 4, shared_axes=[1]),
        one(5, 6, 4, shared_axes=[1, 2]),
        one(4, 5, 6, shared_axes=[2, 3]),
        one(5, 4),
        one(5, 4, shared_axes=[1, 2]),
    ],
    "ReLU": [
        one(6),
        one(6, max_value=6.0),
        one(6, max_value=1.0),
        one(6, negative_slope=0.2),
        one(6, negative_slope=0.2, max_value=1.0),
        one(6, threshold=0.5),
        one(6, threshold=0.5, negative_slope=0.1, max_value=1.0),
        one(6, threshold=0.2, max_value=6.0),
    ],
    "Softmax": [one(6), one(4, 5, axis=1), one(4, 5, 3, axis=[1, 3])],
    "BatchNormalization": [
        one(5),
        one(6, 4),
        one(5, 6, 4, momentum=0.9, epsilon=1e-5),
        one(4, 5, 6, axis=1),
        one(5, 6, 4, scale=False),
        one(5, 6, 4, center=False),
        one(3, 4, center=False, scale=False, axis=1),
        one(2, 3, 4, 5),
        one(2, 2, 3, 4, 5, axis=2),
    ],
    "GroupNormalization": [one(6, 4, groups=2), one(5, 6, 4, groups=-1), one(4, 5, 6, groups=2, axis=1, scale=False), one(8, groups=4, center=False)],
    "LayerNormalization": [
        *_NORMS,
        one(5, 6, 4, axis=[1, 3]),
        one(6, 4, center=False, scale=False),
        one(6, 4, rms_scaling=True),
        one(5, 6, 4, axis=[1, 3], rms_scaling=True),
    ],
    "RMSNormalization": _NORMS,
    "UnitNormalization": [one(6), one(5, 4, axis=1), one(5, 6, 4, axis=[1, 2])],
    **{f"Adaptive{name}Pooling{rank}D": _adaptive(rank) for rank in (1, 2, 3) for name in ("Average", "Max")},
    **{f"AveragePooling{rank}D": _pools(rank, True) for rank in (1, 2, 3)},
    **{f"MaxPooling{rank}D": _pools(rank, False) for rank in (1, 2, 3)},
    **{f"Global{name}Pooling{rank}D": _globals(rank) for rank in (1, 2, 3) for name in ("Average", "Max")},
    **dict.fromkeys(("Add", "Average", "Maximum", "Minimum", "Multiply"), _THREE),
    "Subtract": _MERGED,
    "Concatenate": [two((5, 4), (5, 3)), two((2, 4), (5, 4), axis=1), Case(((3,), (2,), (1,)))],
    "Dot": [
        two((5,), (5,), axes=1),
        two((5,), (5,), axes=-1, normalize=True),
        two((3, 5), (4, 5), axes=2),
        two((3, 5), (5, 4), axes=[2, 1], normalize=True),
        two((3, 5), (5,), axes=[2, 1]),
        two((2, 3, 5), (4, 5), axes=[3, 2]),
        two((3, 4), (3, 2, 5), axes=[1, 1]),
    ],
    "Cropping1D": [one(8, 3), one(8, 3, cropping=[0, 2])],
    "Cropping2D": [one(6, 7, 3, cropping=1), one(6, 7, 3, cropping=[[1, 2], [0, 3]]), one(3, 6, 7, cropping=[2, 1], **FIRST)],
    "Cropping3D": [one(5, 6, 7, 2), one(5, 6, 7, 2, cropping=[[1, 2], [0, 3], [1, 0]]), one(2, 5, 6, 7, cropping=[1, 2, 0], **FIRST)],
    "Flatten": [one(5), one(3, 4, 5), one(3, 4, 5, **FIRST), Case(((),))],
    "Identity": [one(5)],
    "InputLayer": [],
    "Masking": [Case(((4, 2),), {"mask_value": 1.0}, whole=2), one(4, 2)],
    "Permute": [one(3, 4, dims=[2, 1]), one(3, 4, 5, dims=[3, 1, 2])],
    "RepeatVector": [one(5, n=3)],
    "Reshape": [one(12, target_shape=[3, 4]), one(3, 4, target_shape=[-1, 2]), one(3, 4, target_shape=[12]), one(1, target_shape=[])],
    "UpSampling1D": [one(4, 3), one(4, 3, size=3)],
    "UpSampling2D": [
        one(4, 5, 3),
        one(4, 5, 3, size=[3, 2]),
        one(4, 5, 3, interpolation="bilinear"),
        one(3, 4, 5, size=[2, 3], interpolation="bilinear", **FIRST),
    ],
    "UpSampling3D": [one(3, 2, 4, 2), one(3, 2, 4, 2, size=[1, 3, 2]), one(2, 3, 2, 4, **FIRST)],
    "ZeroPadding1D": [one(4, 3), one(4, 3, padding=[0, 2]), one(3, 4, padding=[1, 2], **FIRST)],
    "ZeroPadding2D": [one(4, 5, 3), one(4, 5, 3, padding=[[0, 1], [2, 3]]), one(3, 4, 5, padding=[2, 0], **FIRST)],
    "ZeroPadding3D": [one(3, 2, 4, 2), one(3, 2, 4, 2, padding=[[0, 1], [2, 3], [1, 0]]), one(2, 3, 2, 4, padding=[1, 0, 2], **FIRST)],
    "ActivityRegularization": [one(5, l1=0.1)],
    "AlphaDropout": [one(5, rate=0.3)],
    "Dropout": [one(5, rate=0.3), one(4, 3, rate=0.3, noise_shape=[None, 1, None])],
    "GaussianDropout": [one(5, rate=0.3)],
    "GaussianNoise": [one(5, stddev=0.3)],
    "SpatialDropout1D": [one(5, 3, rate=0.3)],
    "SpatialDropout2D": [one(5, 4, 3, rate=0.3), one(3, 5, 4, rate=0.3, **FIRST)],
    "SpatialDropout3D": [one(2, 5, 4, 3, rate=0.3)],
    "AutoContrast": [Case(((6, 5, 3),), positive=255.0), Case(((6, 5, 3),), {"value_range": [0, 1]}, positive=1.0)],
    "CategoryEncoding": [
        Case(((4,),), {"num_tokens": 6, "output_mode": "multi_hot"}, whole=6),
        Case(((4,),), {"num_tokens": 6, "output_mode": "count"}, whole=6),
        Case(((1,),), {"num_tokens": 6, "output_mode": "one_hot"}, whole=6),
        Case(((4,),), {"num_tokens": 6, "output_mode": "one_hot"}, whole=6),
    ],
    "CenterCrop": [one(8, 9, 3, height=4, width=4), one(3, 8, 9, height=5, width=6, **FIRST), one(6, 9, 3, height=8, width=4)],
    "Discretization": [
        one(5, bin_boundaries=[-1.0, 0.0, 0.5]),
        one(5, bin_boundaries=[-1.0, 0.0, 0.5], output_mode="multi_hot"),
        one(1, bin_boundaries=[-1.0, 0.0, 0.5], output_mode="one_hot"),
        Case(((4,),), {"bin_boundaries": [1.0, 2.0], "output_mode": "count"}, whole=4),
    ],
    "MelSpectrogram": [
        one(600, fft_length=128, sequence_stride=64, num_mel_bins=16, max_freq=4000, sampling_rate=8000),
        one(600, fft_length=128, sequence_length=100, sequence_stride=50, num_mel_bins=8, window="hamming", power_to_db=False, mag_exp=1.0),
        one(600, fft_length=64, sequence_stride=32, num_mel_bins=8, window=None, top_db=10.0),
    ],
    "Normalization": [
        one(5, 3, mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0]),
        one(5, 3, axis=None, mean=2.0, variance=4.0),
        one(5, 3, mean=[1.0, 2.0, 3.0], variance=[1.0, 4.0, 9.0], invert=True),
        one(5, 3, axis=[1, 2]),
        one(5, 3),
    ],
    "Rescaling": [one(5, 3, scale=1 / 255), one(5, 3, scale=2.0, offset=-1.0), one(5, 3, scale=[1.0, 2.0, 3.0], offset=[0.5, 0.0, 1.0])],
    "Resizing": [
        one(6, 7, 3, height=9, width=4),
        one(6, 7, 3, height=12, width=14, interpolation="nearest"),
        one(6, 7, 3, height=4, width=10, interpolation="nearest"),
        one(6, 9, 3, height=8, width=4, crop_to_aspect_ratio=True),
        one(6, 9, 3, height=8, width=4, pad_to_aspect_ratio=True, fill_value=2.0),
        one(9, 6, 3, height=4, width=8, pad_to_aspect_ratio=True),
        one(12, 15, 3, height=4, width=5, antialias=True),
        one(3, 6, 7, height=3, width=9, **FIRST),
    ],
    "STFTSpectrogram": [
        one(60, 2, frame_length=16, mode=mode, padding=padding)
        for mode, padding in (("log", "valid"), ("magnitude", "same"), ("psd", "valid"), ("real", "valid"), ("imag", "same"), ("stft", "valid"))
    ]
    + [one(60, 2, frame_length=16, mode="angle", expand_dims=True), one(2, 60, frame_length=16, frame_step=4, mode="log", expand_dims=True, **FIRST)],
    **{kind: [Case(((6, 5, 3),), options, positive=255.0)] for kind, options in _AUGMENTED.items()},
    "RandomCrop": [one(6, 5, 3, height=6, width=5)],
}


def inputs_of(case: Case, batch: int = 3, seed: int = 0) -> list[np.ndarray]:
    """Random inputs of a case."""
    generator = np.random.default_rng(seed)
    shapes = [(batch, *shape) for shape in case.shapes]
    if case.whole:
        return [generator.integers(0, case.whole, shape).astype(np.int32) for shape in shapes]
    if case.positive:
        return [generator.uniform(0, case.positive, shape).astype(np.float32) for shape in shapes]
    return [(2 * generator.normal(size=shape)).astype(np.float32) for shape in shapes]


def randomized(layer: Any, seed: int = 0) -> None:
    """Every variable of a layer gets random numbers; those that are to be positive positive ones."""
    generator = np.random.default_rng(seed)
    for variable in layer.weights:
        if variable.dtype.startswith(("int", "uint")):
            continue
        value = 0.5 * generator.normal(size=variable.shape)
        variable.assign(np.abs(value) + 0.5 if "variance" in variable.path else value)


def layer_of(layer: Any, shapes: Sequence[Sequence[int | None]]) -> Layer:
    """What a converter is given for a layer of Keras, whose configuration has been through JSON as in a file."""
    from keras.saving import serialize_keras_object

    serialized = json.loads(json.dumps(serialize_keras_object(layer)))
    return Layer(type(layer).__name__, layer.name, serialized["config"], weights_of(layer), tuple(tuple(shape) for shape in shapes), convert)


def weights_of(layer: Any) -> Weights:
    """The tree of a layer's variables."""
    own = tuple(array_of(variable) for variable in (*layer._trainable_variables, *layer._non_trainable_variables))
    inside = {name: getattr(layer, name, None) for name in ("layer", "activation")}
    children = {name: weights_of(inner) for name, inner in inside.items() if hasattr(inner, "_trainable_variables")}
    return Weights(own, children)


def array_of(variable: Any) -> np.ndarray:
    """A variable of Keras, on its torch backend, as an array of our own."""
    return np.array(variable.value.detach().numpy())


def convert(layer: Layer) -> torch.nn.Module:
    """By the table."""
    module, function = LAYERS[layer.kind]
    made: torch.nn.Module = getattr(importlib.import_module(module), function)(layer)
    return made.eval()
