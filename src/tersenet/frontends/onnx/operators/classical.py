"""Classical models and the preparation of tables (``ai.onnx.ml``): plain arithmetic on numbers that the file has as attributes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

TINY = 1e-30  # what onnxruntime divides by where there is nothing to divide by
Transform = Callable[[torch.Tensor], torch.Tensor]


def _softmax_zero(scores: torch.Tensor) -> torch.Tensor:
    """Softmax, but a score of zero stays zero (times the common factor); equal shares where all are zero."""
    raised = torch.where(scores.abs() > 1e-7, torch.exp(scores - scores.amax(-1, keepdim=True)), 0.0)
    total = raised.sum(-1, keepdim=True)
    return torch.where(total == 0, 0.5, raised / total)


POST_TRANSFORMS: Mapping[str, Transform] = {
    "NONE": lambda scores: scores,
    "SOFTMAX": lambda scores: torch.softmax(scores, -1),
    "LOGISTIC": torch.sigmoid,
    "SOFTMAX_ZERO": _softmax_zero,
    "PROBIT": lambda scores: math.sqrt(2) * torch.erfinv(2 * scores - 1),
}


def post_transform(node: Node) -> Transform:
    """What the scores go through in the end."""
    name = node.get("post_transform", "NONE")
    if name not in POST_TRANSFORMS:
        raise ModelError(f"the attribute post_transform of {node.kind} must be one of {', '.join(POST_TRANSFORMS)}, got {name!r}.")
    return POST_TRANSFORMS[name]


def labels_of(node: Node, attribute: str) -> list[int]:
    """The classes, as whole numbers.

    Raises:
        ModelError: they are strings.
    """
    labels = node.get(attribute)
    if labels is None:
        raise ModelError(f"the classes of {node.kind} are strings, which no runtime here has; fit it on whole numbers, and export it again.")
    return list(labels)


def chosen(scores: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
    """The label of the largest score in each row."""
    places = torch.argmax(scores, -1)
    return places if list(labels) == list(range(len(labels))) else torch.tensor(labels)[places]


def floats(node: Node, name: str) -> torch.Tensor:
    """An attribute that holds a list of numbers."""
    values = node.get(name)
    if values is None:
        raise ModelError(f"{node.kind} needs its attribute {name}.")
    return torch.tensor(np.asarray(values, np.float32))


def linear_classifier(node: Node, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and scores."""
    labels = labels_of(node, "classlabels_ints")
    scores = _linear(node, data)
    if scores.shape[1] == 1 and len(labels) == 2:
        scores = torch.cat([-scores, scores], 1)
    scores = post_transform(node)(scores)
    if scores.shape[1] > 1:
        return chosen(scores, labels), scores
    threshold = 0.0 if node.get("post_transform", "NONE") == "NONE" else 0.5
    return torch.where(scores[:, 0] >= threshold, labels[0], 0).to(torch.int64), scores


def linear_regressor(node: Node, data: torch.Tensor) -> torch.Tensor:
    return post_transform(node)(_linear(node, data))


def _linear(node: Node, data: torch.Tensor) -> torch.Tensor:
    weights = floats(node, "coefficients").reshape(-1, data.shape[1])
    offsets = floats(node, "intercepts") if node.get("intercepts") is not None else None
    return torch.nn.functional.linear(data.float(), weights, offsets)


def support_vector_regressor(node: Node, data: torch.Tensor) -> torch.Tensor:
    coefficients, offset, count = floats(node, "coefficients"), floats(node, "rho"), node.get("n_supports", 0)
    if not count:
        likeness = torch.matmul(data, coefficients.unsqueeze(1))
    else:
        likeness = torch.matmul(_kernel(node, data, floats(node, "support_vectors").reshape(count, -1)), coefficients.unsqueeze(1))
    scores = likeness + offset[0]
    if node.get("one_class", 0):
        return torch.where(scores > 0, 1.0, -1.0)
    return post_transform(node)(scores)


def _kernel(node: Node, data: torch.Tensor, vectors: torch.Tensor) -> torch.Tensor:
    """(samples, support vectors)."""
    gamma, constant, degree = node.get("kernel_params", (0.0, 0.0, 0.0))
    kind = node.get("kernel_type", "LINEAR")
    products = torch.matmul(data, vectors.T)
    if kind == "LINEAR":
        return products
    if kind == "POLY":
        return (products * gamma + constant) ** int(degree)
    if kind == "SIGMOID":
        return torch.tanh(products * gamma + constant)
    if kind == "RBF":
        return torch.exp(-gamma * (data.unsqueeze(1) - vectors).square().sum(-1))
    raise ModelError(f"the attribute kernel_type of {node.kind} must be LINEAR, POLY, SIGMOID or RBF, got {kind!r}.")


def scaler(node: Node, data: torch.Tensor) -> torch.Tensor:
    return (data.float() - floats(node, "offset")) * floats(node, "scale")


def normalizer(node: Node, data: torch.Tensor) -> torch.Tensor:
    data, kind = data.float(), node.get("norm", "MAX")
    if kind == "MAX":  # the largest value, not the largest magnitude: by the specification, and by onnxruntime; rows without one stay
        divisor = data.amax(-1, keepdim=True)
        return data / torch.where(divisor == 0, torch.ones_like(divisor), divisor)
    if kind == "L1":
        divisor = data.abs().sum(-1, keepdim=True)
    elif kind == "L2":
        divisor = data.square().sum(-1, keepdim=True).sqrt()
    else:
        raise ModelError(f"the attribute norm of Normalizer must be MAX, L1 or L2, got {kind!r}.")
    return data / torch.clamp(divisor, min=TINY)


def binarizer(node: Node, data: torch.Tensor) -> torch.Tensor:
    return (data > node.get("threshold", 0.0)).to(data.dtype)


def imputer(node: Node, data: torch.Tensor) -> torch.Tensor:
    kind = "float" if data.is_floating_point() else "int64"
    missing, values = node.get(f"replaced_value_{kind}", 0), node.get(f"imputed_value_{kind}s")
    if values is None:
        raise ModelError(f"Imputer needs its attribute imputed_value_{kind}s.")
    absent = torch.isnan(data) if math.isnan(missing) else data == missing
    return torch.where(absent, torch.tensor(values, dtype=data.dtype), data)


def one_hot_encoder(node: Node, data: torch.Tensor) -> torch.Tensor:
    return (data.to(torch.int64).unsqueeze(-1) == torch.tensor(labels_of(node, "cats_int64s"))).float()


def feature_vectorizer(node: Node, *inputs: torch.Tensor) -> torch.Tensor:
    """Columns side by side, each part cut or filled with zeros to the width that the node says."""
    parts = []
    for data, width in zip(inputs, node.get("inputdimensions", ()), strict=True):
        data = data.float().reshape(-1, 1) if data.dim() == 1 else data.float()
        parts.append(torch.nn.functional.pad(data[:, :width], (0, max(0, width - data.shape[1]))))
    return torch.cat(parts, 1)


def array_feature_extractor(node: Node, data: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    taken = torch.index_select(data, -1, places.reshape(-1))
    return taken.unsqueeze(0) if data.dim() == 1 else taken


def label_encoder(node: Node, data: torch.Tensor) -> torch.Tensor:
    """Numbers to numbers, by a list of pairs; of equal keys the last one counts."""
    keys, values = (_column(node, side) for side in ("keys", "values"))
    if len(keys) != len(values):
        raise ModelError(f"LabelEncoder must have as many values as keys, got {len(values)} and {len(keys)}.")
    default = node.get("default_tensor", node.get("default_float", -0.0) if values.is_floating_point() else node.get("default_int64", -1))
    result = torch.full(data.shape, np.asarray(default).reshape(-1)[0].item(), dtype=values.dtype)
    if not len(keys):
        return result
    found = data.unsqueeze(-1) == keys
    if keys.is_floating_point():
        found = found | (torch.isnan(data).unsqueeze(-1) & torch.isnan(keys))
    last = torch.argmax(found.to(torch.int64) * torch.arange(1, len(keys) + 1), -1)
    return torch.where(found.any(-1), values[last], result)


def _column(node: Node, side: str) -> torch.Tensor:
    for name, dtype in ((f"{side}_int64s", torch.int64), (f"{side}_floats", torch.float32), (f"{side}_tensor", None)):
        values = np.asarray(node.get(name, ()))
        if values.size and values.dtype.kind in "iuf":
            return torch.tensor(values.astype(np.float32) if values.dtype.kind == "f" else values, dtype=dtype)
    raise ModelError(f"LabelEncoder must map numbers to numbers, and its {side} are strings; encode them before the network.")
