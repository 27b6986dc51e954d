"""LightGBM's trees as PMML: a node's first side is where its test holds, and it says where a missing value goes.

The three agreements are those of ``families.trees``: thresholds as the greatest float32 that is not above them, nulls
at numeric splits, and categories that no split lists. A null category is missing in PMML, and goes where the category
``""`` went in training.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from components.model_builder.families.trees import float32_below
from components.model_builder.formats.xml import element, escaped
from ninefold.errors import PackageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """The inputs of a document.

    Args:
        numbers: Names of the numbers, in order.
        categories: Names of the categories, in order.
    """

    numbers: Sequence[str]
    categories: Sequence[str]

    def schema(self, names: Sequence[str] | None = None) -> str:
        """A ``MiningSchema`` of some fields; of all inputs where none are named."""
        every = (*self.numbers, *self.categories) if names is None else names
        return element("MiningSchema", *(element("MiningField", name=name) for name in every))


def write_trees(trees: Sequence[dict[str, Any]], codes: Sequence[Mapping[str, float]], fields: Fields) -> str:
    """The sum of trees as a ``MiningModel``, without its closing ``Output``.

    Args:
        trees: ``tree_info`` of ``Booster.dump_model``.
        codes: For each category column, category → code.
        fields: Names of the columns.

    Raises:
        PackageError: A tree holds a split, or a category a character, that has no equal in PMML.
    """
    names = [{code: name for name, code in known.items()} for known in codes]
    segments = [
        element("Segment", element("True"), _Tree(names, fields).write(tree["tree_structure"]), id=place)
        for place, tree in enumerate(trees, start=1)
    ]
    return element("Segmentation", *segments, multipleModelMethod="sum")


class _Tree:
    def __init__(self, names: Sequence[Mapping[float, str]], fields: Fields) -> None:
        self._names = names
        self._fields = fields
        self._columns = (*fields.numbers, *fields.categories)
        self._used: set[str] = set()
        self._count = 0

    def write(self, root: dict[str, Any]) -> str:
        node = self._node(root, element("True"), self._place())
        used = [name for name in self._columns if name in self._used]
        return element(
            "TreeModel", self._fields.schema(used), node,
            functionName="regression", missingValueStrategy="defaultChild", splitCharacteristic="binarySplit",
        )  # fmt: skip

    def _place(self) -> str:
        self._count += 1
        return str(self._count)

    def _node(self, node: dict[str, Any], predicate: str, place: str) -> str:
        if "split_feature" not in node:
            return element("Node", predicate, id=place, score=float(node["leaf_value"]))
        name, test, opposite, missing_left = self._tests(node)
        self._used.add(name)
        # Evaluators differ: some take the default side at once, some go on to a side that holds for everything. So the
        # side that holds for everything is the default one.
        sides = (node["right_child"], node["left_child"]) if missing_left else (node["left_child"], node["right_child"])
        first, second = self._place(), self._place()
        return element(
            "Node", predicate,
            self._node(sides[0], opposite if missing_left else test, first),
            self._node(sides[1], element("True"), second),
            id=place, defaultChild=second,
        )  # fmt: skip

    def _tests(self, node: dict[str, Any]) -> tuple[str, str, str, bool]:
        """The field, the tests of the left and of the right side, and whether a missing value goes left."""
        feature, kind, missing = int(node["split_feature"]), node["decision_type"], node["missing_type"]
        name = self._columns[feature]
        if kind == "<=" and missing in ("NaN", "None"):
            single = float(float32_below(node["threshold"]))
            threshold = single if math.isfinite(single) else float(node["threshold"])
            below, above = (
                element("SimplePredicate", field=name, operator=operator, value=threshold)
                for operator in ("lessOrEqual", "greaterThan")
            )
            missing_below = bool(node["default_left"]) if missing == "NaN" else bool(node["threshold"] >= 0.0)
            return name, below, above, missing_below
        if kind != "==":
            raise PackageError(f"A split {kind!r} with {missing!r} can't be exported.")
        known = self._names[feature - len(self._fields.numbers)]
        members = [known[float(code)] for code in node["threshold"].split("||")]
        listed = [member for member in members if member]
        if not listed:
            return name, "", element("SimplePredicate", field=name, operator="isNotMissing"), True
        array = element("Array", " ".join(map(_quoted, listed)), type="string", n=len(listed))
        inside, outside = (
            element("SimpleSetPredicate", array, field=name, booleanOperator=operator)
            for operator in ("isIn", "isNotIn")
        )
        return name, inside, outside, len(listed) < len(members)


def _quoted(value: str) -> str:
    slashed = value.replace("\\", "\\\\").replace('"', '\\"')
    return escaped(f'"{slashed}"')
