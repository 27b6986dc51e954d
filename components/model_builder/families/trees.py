"""LightGBM's trees as one ONNX ``TreeEnsemble``, comparing as LightGBM compares, to the last bit.

Three things have to agree (LightGBM's ``tree.h``, ``NumericalDecision`` and ``CategoricalDecision``):

- A double threshold t against a float32 x: ``x <= t`` is ``x <= t32`` when t32 is the greatest float32 not above t.
- NaN at a numeric split goes to the split's default side where training saw NaN there, else it counts as 0.
- NaN at a categorical split goes right, as does every category that is not listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from components.model_builder.table import Array
from ninefold.errors import PackageError

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph

_LESS_OR_EQUAL, _MEMBER = 0, 6
"""``BRANCH_LEQ`` and ``BRANCH_MEMBER`` of ``TreeEnsemble``."""


@dataclass(slots=True)
class _Nodes:
    feature: list[int] = field(default_factory=list)
    mode: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    nan_left: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    left_is_leaf: list[int] = field(default_factory=list)
    right: list[int] = field(default_factory=list)
    right_is_leaf: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    target: int = 0
    """Which sum the leaves of the tree at hand belong to."""

    def leaf(self, value: float) -> int:
        self.leaves.append(value)
        self.targets.append(self.target)
        return len(self.leaves) - 1

    def split(self, node: dict[str, Any]) -> int:
        place = len(self.feature)
        self.feature.append(int(node["split_feature"]))
        if node["decision_type"] == "==":
            self.mode.append(_MEMBER)
            self.members += [*map(float, node["threshold"].split("||")), float("nan")]
            self.threshold.append(0.0)
            self.nan_left.append(0)
        elif node["decision_type"] == "<=" and node["missing_type"] in ("NaN", "None"):
            self.mode.append(_LESS_OR_EQUAL)
            self.threshold.append(float(float32_below(node["threshold"])))
            left = node["default_left"] if node["missing_type"] == "NaN" else node["threshold"] >= 0.0
            self.nan_left.append(int(left))
        else:
            raise PackageError(f"A split {node['decision_type']!r} with {node['missing_type']!r} can't be exported.")
        sides = (("left_child", self.left, self.left_is_leaf), ("right_child", self.right, self.right_is_leaf))
        # Both sides have their place before any node below them is added.
        for child, places, leaf in sides:
            places.append(0)
            leaf.append(int("split_feature" not in node[child]))
        for child, places, leaf in sides:
            places[place] = self.leaf(node[child]["leaf_value"]) if leaf[place] else self.split(node[child])
        return place

    def constant(self, value: float) -> int:
        """A tree without a split: both sides of a split that asks nothing lead to its one leaf."""
        leaf = self.leaf(value)
        self.feature.append(0)
        self.mode.append(_LESS_OR_EQUAL)
        self.threshold.append(0.0)
        self.nan_left.append(1)
        for side in (self.left, self.right):
            side.append(leaf)
        for side in (self.left_is_leaf, self.right_is_leaf):
            side.append(1)
        return len(self.feature) - 1


def float32_below(threshold: float) -> Array:
    """The greatest float32 that is not above a double."""
    with np.errstate(over="ignore"):
        nearest = np.float32(threshold)
    return np.asarray(nearest if float(nearest) <= threshold else np.nextafter(nearest, np.float32(-np.inf)))


def draw_trees(graph: Graph, matrix: str, trees: Sequence[dict[str, Any]], targets: Sequence[int] | None = None) -> str:
    """Adds the sum of trees to a graph, or several sums that one operator makes.

    Args:
        graph: The graph.
        matrix: Name of the float32 [N, columns] that the trees look at.
        trees: ``tree_info`` of ``Booster.dump_model``.
        targets: For each tree, the sum that it belongs to, from 0; None for one sum of all.

    Returns:
        The name of the sums, [N, sums].

    Raises:
        PackageError: A tree holds a split that has no equal in ONNX.
    """
    from onnx import numpy_helper

    nodes = _Nodes()
    roots = []
    sums = list(targets) if targets is not None else [0] * len(trees)
    for tree, target in zip(trees, sums, strict=True):
        nodes.target, root = target, tree["tree_structure"]
        roots.append(nodes.split(root) if "split_feature" in root else nodes.constant(root["leaf_value"]))

    def tensor(values: list[Any], kind: type) -> Any:
        return numpy_helper.from_array(np.array(values, dtype=kind))

    members = {"membership_values": tensor(nodes.members, np.float32)} if nodes.members else {}
    return graph.op(
        "TreeEnsemble", [matrix], domain="ai.onnx.ml", n_targets=max(sums) + 1, aggregate_function=1,
        post_transform=0, tree_roots=roots, nodes_featureids=nodes.feature, nodes_modes=tensor(nodes.mode, np.uint8),
        nodes_splits=tensor(nodes.threshold, np.float32), nodes_missing_value_tracks_true=nodes.nan_left,
        nodes_truenodeids=nodes.left, nodes_trueleafs=nodes.left_is_leaf,
        nodes_falsenodeids=nodes.right, nodes_falseleafs=nodes.right_is_leaf,
        leaf_targetids=nodes.targets, leaf_weights=tensor(nodes.leaves, np.float32), **members,
    )  # fmt: skip
