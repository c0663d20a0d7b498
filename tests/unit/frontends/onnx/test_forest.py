"""Trees of a file are checked before they are walked: a damaged one is an error that says what is wrong, never a hang."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tersenet.errors import ModelError
from tersenet.frontends.onnx.node import Node
from tersenet.frontends.onnx.operators.forest import forest, forest_of_ensemble
from tersenet.frontends.onnx.operators.trees import ensemble, regressor

# x0 <= 0.5 ? 1 : (x1 <= 2 ? 2 : 3)
STUMP: dict[str, Any] = {
    "nodes_treeids": [0, 0, 0, 0, 0],
    "nodes_nodeids": [0, 1, 2, 3, 4],
    "nodes_featureids": [0, 0, 1, 0, 0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_values": [0.5, 0.0, 2.0, 0.0, 0.0],
    "nodes_truenodeids": [1, 0, 3, 0, 0],
    "nodes_falsenodeids": [2, 0, 4, 0, 0],
    "target_treeids": [0, 0, 0],
    "target_nodeids": [1, 3, 4],
    "target_ids": [0, 0, 0],
    "target_weights": [1.0, 2.0, 3.0],
    "n_targets": 1,
}
DATA = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 9.0]])


def node(**changes: Any) -> Node:
    return Node("TreeEnsembleRegressor", attributes=STUMP | changes)


def test_a_tree_is_walked() -> None:
    assert regressor(node(), DATA)[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert forest(node(), "target", 1, "SUM").depth == 2


def test_the_numbering_of_nodes_does_not_matter() -> None:
    renamed = {0: 7, 1: 3, 2: 9, 3: 1, 4: 0}
    changed = {
        name: [renamed[number] for number in STUMP[name]] for name in ("nodes_nodeids", "nodes_truenodeids", "nodes_falsenodeids", "target_nodeids")
    }
    assert regressor(node(**changed), DATA)[:, 0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"nodes_falsenodeids": [2, 0, 0, 0, 0]}, "must have one root"),
        ({"nodes_truenodeids": [1, 0, 2, 0, 0]}, "must have one root"),
        ({"nodes_truenodeids": [99, 0, 3, 0, 0]}, "leads to node 99 of tree 0, which is not there"),
        ({"nodes_modes": ["LEAF"] * 4}, "nodes_modes"),
        ({"nodes_modes": ["BRANCH_IS", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"]}, "BRANCH_LEQ"),
        ({"nodes_values": [0.5]}, "nodes_values of TreeEnsembleRegressor must be a list of numbers, one for each of 5"),
        ({"nodes_featureids": [0, 0, 2, 0, 0]}, "asks for feature 2, and there are 2"),
        ({"nodes_featureids": [-1, 0, 1, 0, 0]}, "feature"),
        ({"target_ids": [0, 0, 1]}, "votes for the targets 0 to 1, and there are 1"),
        ({"target_nodeids": [1, 3, 40]}, "leads to node 40"),
        ({"n_targets": 1 << 40}, "more than the 67108864 numbers"),
        ({"n_targets": 0, "target_ids": [], "target_nodeids": [], "target_treeids": [], "target_weights": []}, "0 targets"),
        ({"aggregate_function": "MEDIAN"}, "AVERAGE, SUM, MIN, MAX"),
        ({"post_transform": "SQUARE"}, "post_transform"),
    ],
)
def test_a_damaged_tree_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(ModelError, match=what):
        regressor(node(**changes), DATA)


CHAIN: dict[str, Any] = {
    "nodes_featureids": [0, 1],
    "nodes_modes": [0, 6],
    "nodes_splits": [0.5, 0.0],
    "nodes_truenodeids": [0, 1],
    "nodes_falsenodeids": [1, 2],
    "nodes_trueleafs": [1, 1],
    "nodes_falseleafs": [0, 1],
    "membership_values": [2.0, 4.0, 9.0, float("nan")],
    "leaf_targetids": [0, 0, 0],
    "leaf_weights": [1.0, 2.0, 3.0],
    "tree_roots": [0],
    "n_targets": 1,
}


def test_membership_is_a_chain_of_equalities() -> None:
    made = Node("TreeEnsemble", attributes=CHAIN)
    assert ensemble(made, torch.tensor([[0.0, 0.0], [1.0, 2.0], [1.0, 9.0], [1.0, 3.0]]))[:, 0].tolist() == [1.0, 2.0, 2.0, 3.0]
    assert forest_of_ensemble(made, "SUM").depth == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"tree_roots": [5]},
        {"tree_roots": []},
        {"nodes_modes": [0, 7]},
        {"nodes_falsenodeids": [1, 3]},
        {"nodes_trueleafs": [1]},
        {"leaf_targetids": [0, 0, -1]},
    ],
    ids=str,
)
def test_a_damaged_ensemble_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ModelError):
        ensemble(Node("TreeEnsemble", attributes=CHAIN | changes), DATA)


def test_a_tree_that_leads_back_into_itself_ends() -> None:
    with pytest.raises(ModelError, match="leads back into itself"):
        ensemble(Node("TreeEnsemble", attributes=CHAIN | {"nodes_modes": [0, 0], "nodes_falseleafs": [0, 0], "nodes_falsenodeids": [1, 0]}), DATA)
