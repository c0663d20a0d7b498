"""The trees of a file (``ai.onnx.ml``), checked and laid out as one list of nodes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node

# In the order of TreeEnsemble's numbers; it has one more, for membership.
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
EQUAL, MEMBER = 4, 6
AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
DEEPEST = 1000
LARGEST = 1 << 26  # numbers in the table of what each node gives to each target


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one list.

    Args:
        feature, mode, threshold, missing: what a node compares, how, with what, and whether it is true of what is missing.
        yes, no: where to go from a node; a leaf leads to itself.
        roots: where each tree begins.
        votes: (nodes, targets): what a leaf gives to each target.
    """

    feature: np.ndarray
    mode: np.ndarray
    threshold: np.ndarray
    missing: np.ndarray
    yes: np.ndarray
    no: np.ndarray
    roots: np.ndarray
    votes: np.ndarray

    @property
    def depth(self) -> int:
        """Steps from a root to the furthest leaf.

        Raises:
            ModelError: a tree leads back into itself, or is deeper than any that was grown.
        """
        front, steps = np.unique(self.roots), 0
        while True:
            inner = front[(self.yes[front] != front) | (self.no[front] != front)]
            if not inner.size:
                return steps
            front, steps = np.unique(np.concatenate([self.yes[inner], self.no[inner]])), steps + 1
            if steps > min(DEEPEST, len(self.yes)):
                raise ModelError(f"a tree of the file leads back into itself, or is deeper than {DEEPEST} levels.")


def forest(node: Node, of: str, targets: int, how: str) -> Forest:
    """The older form: a node is named by its tree and a number, and leaves are among them."""
    tree = _column(node, "nodes_treeids", np.int64)
    count = len(tree)
    number = _column(node, "nodes_nodeids", np.int64, count)
    place = {pair: at for at, pair in enumerate(zip(tree.tolist(), number.tolist(), strict=True))}
    modes = [mode if isinstance(mode, str) else str(mode) for mode in node.get("nodes_modes", ())]
    if len(modes) != count or not set(modes) <= {*MODES, "LEAF"}:
        raise ModelError(f"the attribute nodes_modes of {node.kind} must say one of {', '.join(MODES)} or LEAF for each of {count} nodes.")
    leaf = np.array([mode == "LEAF" for mode in modes], bool)
    yes, no = (
        np.array([at if leaf[at] else _found(place, tree[at], to) for at, to in enumerate(_column(node, name, np.int64, count))], np.int64)
        for name in ("nodes_truenodeids", "nodes_falsenodeids")
    )
    votes = _votes(count, targets, how)
    ids = _column(node, f"{of}_ids", np.int64)
    voters = zip(_column(node, f"{of}_treeids", np.int64, len(ids)), _column(node, f"{of}_nodeids", np.int64, len(ids)), strict=True)
    _vote(votes, np.array([_found(place, *voter) for voter in voters], np.int64), ids, _column(node, f"{of}_weights", np.float32, len(ids)), how)
    return Forest(
        feature=np.where(leaf, 0, _column(node, "nodes_featureids", np.int64, count)),
        mode=np.array([0 if mode == "LEAF" else MODES.index(mode) for mode in modes], np.int64),
        threshold=_column(node, "nodes_values", np.float32, count),
        missing=_column(node, "nodes_missing_value_tracks_true", bool, count),
        yes=yes,
        no=no,
        roots=_roots(tree, yes, no),
        votes=votes,
    )


def forest_of_ensemble(node: Node, how: str) -> Forest:
    """The newer form: inner nodes and leaves are numbered apart. Here leaves come after the inner nodes."""
    feature = _column(node, "nodes_featureids", np.int64).tolist()
    inner, leaves = len(feature), _column(node, "leaf_targetids", np.int64)
    mode, missing = (_column(node, name, np.int64, inner).tolist() for name in ("nodes_modes", "nodes_missing_value_tracks_true"))
    threshold = _column(node, "nodes_splits", np.float32, inner).tolist()
    yes, no = (_led_to(node, side, inner, len(leaves)) for side in ("true", "false"))
    nothing = [0] * len(leaves)
    columns = [feature + nothing, mode + nothing, threshold + nothing, missing + nothing, yes, no]
    _replace_membership(columns, _column(node, "membership_values", np.float32).tolist())
    targets = node.get("n_targets", 1)
    votes = _votes(len(columns[0]), targets, how)
    _vote(votes, np.arange(inner, inner + len(leaves)), leaves, _column(node, "leaf_weights", np.float32, len(leaves)), how)
    roots = _column(node, "tree_roots", np.int64)
    if not roots.size or roots.min() < 0 or roots.max() >= inner:
        raise ModelError(f"the attribute tree_roots of {node.kind} must name some of its {inner} nodes.")
    if not set(columns[1]) <= set(range(len(MODES))):
        raise ModelError(f"the attribute nodes_modes of {node.kind} must hold numbers from 0 to {MEMBER}.")
    types = (np.int64, np.int64, np.float32, bool, np.int64, np.int64)
    return Forest(*[np.array(column, dtype) for column, dtype in zip(columns, types, strict=True)] + [roots, votes])


def _led_to(node: Node, side: str, inner: int, leaves: int) -> list[int]:
    """Where each inner node leads, and each leaf to itself."""
    targets = _column(node, f"nodes_{side}nodeids", np.int64, inner)
    is_leaf = _column(node, f"nodes_{side}leafs", bool, inner)
    if targets.size and (targets.min() < 0 or (targets >= np.where(is_leaf, leaves, inner)).any()):
        raise ModelError(f"the attribute nodes_{side}nodeids of {node.kind} leads to nodes that are not there.")
    return [*np.where(is_leaf, targets + inner, targets).tolist(), *range(inner, inner + leaves)]


def _replace_membership(columns: list[list], members: list[float]) -> None:
    """A test for membership becomes a chain of tests for equality; sets are divided by NaN."""
    feature, mode, threshold, missing, yes, no = columns
    waiting = iter(members)
    for at in [place for place, kind in enumerate(mode) if kind == MEMBER]:
        values = list(itertools.takewhile(lambda value: not math.isnan(value), waiting))
        mode[at], threshold[at] = EQUAL, values[0] if values else math.nan
        for value in values[1:]:
            at, before = len(mode), at
            for column, new in zip(columns, (feature[before], EQUAL, value, missing[before], yes[before], no[before]), strict=True):
                column.append(new)
            no[before] = at


def _found(place: Mapping[tuple[int, int], int], tree: int, number: int) -> int:
    if (int(tree), int(number)) not in place:
        raise ModelError(f"a tree of the file leads to node {number} of tree {tree}, which is not there.")
    return place[int(tree), int(number)]


def _roots(tree: np.ndarray, yes: np.ndarray, no: np.ndarray) -> np.ndarray:
    """The one node of each tree that no other leads to; all others are below one."""
    everything = np.arange(len(tree))
    inner = (yes != everything) | (no != everything)
    roots = np.setdiff1d(everything, np.union1d(yes[inner], no[inner]))
    below, front = np.zeros(len(tree), bool), roots
    while front.size:
        below[front] = True
        led_to = np.union1d(yes[front], no[front])
        front = led_to[~below[led_to]]
    if len(roots) != len(np.unique(tree)) or not below.all():
        raise ModelError("each tree of the file must have one root that leads to all of its nodes, and some have none or several.")
    return roots


def _votes(nodes: int, targets: int, how: str) -> np.ndarray:
    """What a node gives to a target that it has no vote for: nothing that changes the aggregate."""
    if how not in AGGREGATES:
        raise ModelError(f"the attribute aggregate_function must be one of {', '.join(AGGREGATES)}, got {how!r}.")
    if not 0 < targets * max(nodes, 1) <= LARGEST:
        raise ModelError(f"{nodes} nodes of trees with {targets} targets are more than the {LARGEST} numbers that are read.")
    nothing = {"MIN": np.finfo(np.float32).max, "MAX": np.finfo(np.float32).min}.get(how, 0.0)
    return np.full((nodes, targets), nothing, np.float32)


def _vote(votes: np.ndarray, places: np.ndarray, targets: np.ndarray, weights: np.ndarray, how: str) -> None:
    if targets.size and not 0 <= targets.min() <= targets.max() < votes.shape[1]:
        raise ModelError(f"a tree votes for the targets {targets.min()} to {targets.max()}, and there are {votes.shape[1]}.")
    put = {"MIN": np.minimum, "MAX": np.maximum}.get(how, np.add)
    put.at(votes, (places, targets), weights)


def _column(node: Node, name: str, dtype: type, count: int | None = None) -> np.ndarray:
    """An attribute with one number for each node; `count` where it must have as many."""
    values = np.asarray(node.get(f"{name}_as_tensor", node.get(name, ())))
    if not values.size and count is not None and name == "nodes_missing_value_tracks_true":
        return np.zeros(count, dtype)
    if values.ndim != 1 or values.dtype.kind not in "iufb" or (count is not None and len(values) != count):
        raise ModelError(
            f"the attribute {name} of {node.kind} must be a list of numbers" + (f", one for each of {count}." if count is not None else ".")
        )
    return values.astype(dtype)
