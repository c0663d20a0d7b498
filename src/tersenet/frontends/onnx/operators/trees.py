"""Ensembles of trees (``ai.onnx.ml``): all trees go down one level at a time, by gathers, as far as the deepest one."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.classical import chosen, labels_of, post_transform
from tersenet.frontends.onnx.operators.forest import AGGREGATES, MODES, Forest, forest, forest_of_ensemble

COMPARISONS: Mapping[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "BRANCH_LEQ": torch.le,
    "BRANCH_LT": torch.lt,
    "BRANCH_GTE": torch.ge,
    "BRANCH_GT": torch.gt,
    "BRANCH_EQ": torch.eq,
    "BRANCH_NEQ": torch.ne,
}
TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def ensemble(node: Node, data: torch.Tensor) -> torch.Tensor:
    """TreeEnsemble: inner nodes and leaves are numbered apart."""
    how, transform = AGGREGATES[node.get("aggregate_function", 1)], TRANSFORMS[node.get("post_transform", 0)]
    scores = _aggregate(forest_of_ensemble(node, how), data.float(), how)
    return post_transform(Node(node.kind, attributes={"post_transform": transform}))(scores)


def regressor(node: Node, data: torch.Tensor) -> torch.Tensor:
    how = node.get("aggregate_function", "SUM")
    trees = forest(node, "target", node.get("n_targets", 1), how)
    return post_transform(node)(_aggregate(trees, data.float(), how) + _base(node))


def classifier(node: Node, data: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels and scores; where all votes are for one of two classes, the other gets what is left."""
    labels = labels_of(node, "classlabels_int64s")
    count, voted = max(len(labels), 2), sorted(set(node.get("class_ids", ())))
    scores = _aggregate(forest(node, "class", count, "SUM"), data.float(), "SUM")
    transform = node.get("post_transform", "NONE")
    if len(voted) != 1 or len(labels) > 2:
        scores = post_transform(node)(scores + _base(node))
    else:
        second = scores[:, voted[0]].unsqueeze(1) + _base(node)[-1:]
        first = 1 - second if transform in {"NONE", "PROBIT"} else -second
        scores = post_transform(node)(torch.cat([first, second], 1))
    return chosen(scores, labels if len(labels) > 1 else [0, labels[0]]), scores


def _base(node: Node) -> torch.Tensor:
    values = np.asarray(node.get("base_values", node.get("base_values_as_tensor", [0.0])), np.float32)
    return torch.tensor(values if values.size else np.zeros(1, np.float32))


def _aggregate(trees: Forest, data: torch.Tensor, how: str) -> torch.Tensor:
    """(samples, targets)."""
    votes = torch.tensor(trees.votes)[_leaves(trees, data)]
    if how in {"SUM", "AVERAGE"}:
        return votes.sum(1) / (len(trees.roots) if how == "AVERAGE" else 1)
    return votes.amin(1) if how == "MIN" else votes.amax(1)


def _leaves(trees: Forest, data: torch.Tensor) -> torch.Tensor:
    """(samples, trees): the leaf that a sample ends in."""
    if trees.feature.min(initial=0) < 0 or trees.feature.max(initial=0) >= data.shape[1]:
        raise ModelError(f"a tree of the file asks for feature {trees.feature.max()}, and there are {data.shape[1]}.")
    feature, threshold, missing = torch.tensor(trees.feature), torch.tensor(trees.threshold), torch.tensor(trees.missing)
    yes, no, mode = torch.tensor(trees.yes), torch.tensor(trees.no), torch.tensor(trees.mode)
    place = torch.tensor(trees.roots).expand(data.shape[0], -1)
    used = np.unique(trees.mode[trees.yes != trees.no])
    for _ in range(trees.depth):
        value = torch.gather(data, 1, feature[place])
        holds = missing[place] & (value != value)  # NaN alone; every runtime has this comparison
        for kind in used:
            compared = COMPARISONS[MODES[kind]](value, threshold[place])
            holds = holds | (compared if len(used) == 1 else compared & (mode[place] == kind))
        place = torch.where(holds, yes[place], no[place])
    return place
