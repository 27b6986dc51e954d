"""A sum of decision trees, walked by all rows and trees at once: as many numpy steps as the deepest tree has levels.

Every split has two sides: a row is on the first when its predicate holds, on the second when it does not, and on the
default side when the field is missing (PMML 4.4, ``missingValueStrategy="defaultChild"``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.errors import PackageError
from ninefold.package.pmml.document import child, items, number, text

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Array = np.ndarray[Any, Any]

_CELLS = 500_000
"""Rows times trees that are walked at once."""
MAX_SET_BYTES = 256 * 2**20


class TreeSum:
    """Trees whose answers are added up.

    Args:
        trees: ``TreeModel`` elements.
        numbers: Names of the fields that are numbers.
        categories: Names of the fields that are strings.

    Raises:
        PackageError: A tree is not one of two-sided splits that say where a missing value goes.
    """

    def __init__(self, trees: Sequence[Element], numbers: Sequence[str], categories: Sequence[str]) -> None:
        self._numbers = tuple(numbers)
        self._categories = tuple(categories)
        self._places = {name: place for place, name in enumerate((*numbers, *categories))}
        nodes = _Nodes(self._places, len(self._numbers))
        self._roots = np.array([nodes.tree(tree) for tree in trees], dtype=np.int32)
        self._feature = np.array(nodes.feature, dtype=np.int32)
        self._threshold = np.array(nodes.threshold, dtype=np.float64)
        self._default = np.array(nodes.default, dtype=bool)
        self._first = np.array(nodes.first, dtype=np.int32)
        self._second = np.array(nodes.second, dtype=np.int32)
        self._score = np.array(nodes.score, dtype=np.float64)
        self._set = np.array(nodes.set_of, dtype=np.int32)
        self._depth = nodes.depth
        self._codes = [dict(vocabulary) for vocabulary in nodes.vocabularies]
        self._members = _bits(nodes.sets, max((len(codes) for codes in self._codes), default=0))

    def evaluate(self, fields: Mapping[str, Array], rows: int) -> Array:
        """float64 [rows]: the sum of what the trees say.

        Args:
            fields: Name → float64 [rows] with NaN where missing, or strings [rows] with ``""``.
            rows: How many.
        """
        seen = np.empty((rows, len(self._places)), dtype=np.float64)
        for place, name in enumerate(self._numbers):
            seen[:, place] = fields[name]
        for place, (name, codes) in enumerate(zip(self._categories, self._codes, strict=True), len(self._numbers)):
            # A value in no set has a code of its own, which is in no set.
            other = float(len(codes))
            seen[:, place] = [codes.get(value, other) if value else np.nan for value in fields[name]]
        total = np.empty(rows, dtype=np.float64)
        step = max(1, _CELLS // max(len(self._roots), 1))
        for start in range(0, rows, step):
            total[start : start + step] = self._walk(seen[start : start + step])
        return total

    def _walk(self, seen: Array) -> Array:
        rows = np.arange(len(seen))[:, None]
        at = np.broadcast_to(self._roots, (len(seen), len(self._roots))).copy()
        for _ in range(self._depth):
            values = seen[rows, self._feature[at]]
            first = values <= self._threshold[at]
            if len(self._members):
                sets = self._set[at]
                by_set = sets >= 0
                codes = np.nan_to_num(values[by_set]).astype(np.int64)
                first[by_set] = (self._members[sets[by_set], codes >> 3] >> (codes & 7)) & 1
            missing = np.isnan(values)
            first[missing] = self._default[at[missing]]
            at = np.where(first, self._first[at], self._second[at])
        return np.asarray(self._score[at].sum(axis=1))


def _bits(sets: Sequence[Sequence[int]], codes: int) -> Array:
    """[sets, bytes], the bit of each member's code set; there is a code beyond the last."""
    width = codes // 8 + 1
    if len(sets) * width > MAX_SET_BYTES:
        raise PackageError(f"The PMML document's {len(sets):,} sets of up to {codes:,} values are too large to hold.")
    members = np.zeros((len(sets), width), dtype=np.uint8)
    for place, codes_in in enumerate(sets):
        for code in codes_in:
            members[place, code >> 3] |= 1 << (code & 7)
    return members


class _Nodes:
    """All nodes of all trees, side by side. A leaf leads to itself, so that a walk needs not ask who has arrived."""

    def __init__(self, places: Mapping[str, int], numbers: int) -> None:
        self._places = places
        self._first_category = numbers
        self.feature: list[int] = []
        self.threshold: list[float] = []
        self.default: list[bool] = []
        self.first: list[int] = []
        self.second: list[int] = []
        self.score: list[float] = []
        self.set_of: list[int] = []
        self.sets: list[list[int]] = []
        self.vocabularies: list[dict[str, int]] = [{} for _ in range(len(places) - numbers)]
        self.depth = 0

    def tree(self, model: Element) -> int:
        """Adds a tree, and returns the place of its root."""
        text(model, "functionName", "regression")
        if model.find("Node/Node") is not None:
            text(model, "missingValueStrategy", "defaultChild")
        root = child(model, "Node")
        child(root, "True")
        place = self._place()
        pending = [(root, place, 0)]
        while pending:
            node, at, depth = pending.pop()
            self.depth = max(self.depth, depth)
            branches = node.findall("Node")
            if not branches:
                self.score[at] = number(node, "score")
                continue
            if len(branches) != 2:
                raise PackageError(f"A Node of the PMML document has {len(branches)} Nodes, not two or none.")
            one, other = branches
            child(other, "True")
            sides = [text(branch, "id") for branch in branches]
            missing = text(node, "defaultChild", *sides)
            asks_for_one = one.find("SimplePredicate[@operator='isNotMissing']") is not None
            if self._split(at, one):
                one, other = other, one
            # A predicate that tells missing values apart is never unknown, so no default is asked for.
            self.default[at] = asks_for_one or text(one, "id") == missing
            self.first[at], self.second[at] = self._place(), self._place()
            pending += [(one, self.first[at], depth + 1), (other, self.second[at], depth + 1)]
        return place

    def _place(self) -> int:
        place = len(self.feature)
        self.feature.append(0)
        self.threshold.append(0.0)
        self.default.append(True)
        self.first.append(place)
        self.second.append(place)
        self.score.append(0.0)
        self.set_of.append(-1)
        return place

    def _split(self, at: int, branch: Element) -> bool:
        """Notes a branch's predicate, and says whether it was the opposite of what is noted."""
        predicates = [element for element in branch if element.tag in ("SimplePredicate", "SimpleSetPredicate")]
        if len(predicates) != 1:
            raise PackageError(f"A Node of the PMML document has {len(predicates)} predicates, not one.")
        predicate = predicates[0]
        name = text(predicate, "field")
        if name not in self._places:
            raise PackageError(f"The PMML document splits by {name!r:.60}, which is no input.")
        self.feature[at] = self._places[name]
        is_number = self.feature[at] < self._first_category
        if predicate.tag == "SimplePredicate" and is_number:
            operator = text(predicate, "operator", "lessOrEqual", "greaterThan")
            self.threshold[at] = number(predicate, "value")
            return operator == "greaterThan"
        if is_number:
            raise PackageError(f"The PMML document looks for the number {name!r:.60} in a set.")
        if predicate.tag == "SimplePredicate":
            # Not missing is the opposite of being in the empty set, for whatever is not missing.
            text(predicate, "operator", "isNotMissing")
            self.set_of[at] = self._members(at, [])
            return True
        operator = text(predicate, "booleanOperator", "isIn", "isNotIn")
        self.set_of[at] = self._members(at, list(items(child(predicate, "Array"))))
        return operator == "isNotIn"

    def _members(self, at: int, values: list[str]) -> int:
        vocabulary = self.vocabularies[self.feature[at] - self._first_category]
        self.sets.append([vocabulary.setdefault(value, len(vocabulary)) for value in values])
        return len(self.sets) - 1
