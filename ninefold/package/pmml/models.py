"""The models of a document: sums of trees, regressions, and chains in which one reads what another has said."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ninefold.errors import PackageError
from ninefold.package.pmml.document import child, finite, number, text
from ninefold.package.pmml.trees import TreeSum

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Array = np.ndarray[Any, Any]
Fields = dict[str, Array]
"""Name → float64 [rows] with NaN where missing, or strings [rows] with ``""`` where missing."""


@dataclass(frozen=True, slots=True)
class Known:
    """The fields that a model may read."""

    numbers: tuple[str, ...]
    categories: tuple[str, ...]

    def require(self, name: str, kind: str) -> str:
        """A field's name, when it is there and of that kind.

        Raises:
            PackageError: It is not.
        """
        if name not in (self.numbers if kind == "number" else self.categories):
            raise PackageError(f"The PMML document reads the {kind} {name!r:.60}, which is not there.")
        return name

    def further(self, name: str) -> Known:
        """The same, and a number that a model or a transformation has made.

        Raises:
            PackageError: There is a field of that name already.
        """
        if name in self.numbers or name in self.categories:
            raise PackageError(f"The PMML document makes the field {name!r:.60} twice.")
        return Known((*self.numbers, name), self.categories)


class Model(Protocol):
    """What answers a number for each row."""

    def evaluate(self, fields: Mapping[str, Array], rows: int) -> Array:
        """float64 [rows]; NaN where a missing field leaves no answer."""
        ...


def read_model(element: Element, known: Known) -> Model:
    """A model from its element.

    Raises:
        PackageError: It is of a kind that is not read, or is not whole.
    """
    text(element, "functionName", "regression")
    if element.tag == "RegressionModel":
        return Regression(element, known)
    if element.tag == "TreeModel":
        return TreeSum([element], known.numbers, known.categories)
    segments = child(element, "Segmentation").findall("Segment")
    method = text(child(element, "Segmentation"), "multipleModelMethod", "sum", "modelChain")
    for segment in segments:
        child(segment, "True")
    models = [_model_of(segment) for segment in segments]
    if not models:
        raise PackageError("The PMML document has a Segmentation without a Segment.")
    if method == "sum":
        for model in models:
            if model.tag != "TreeModel":
                raise PackageError(f"The PMML document sums up a {model.tag}; only trees are.")
        return TreeSum(models, known.numbers, known.categories)
    return Chain(models, known)


def _model_of(element: Element) -> Element:
    found = [one for one in element if one.tag in ("MiningModel", "TreeModel", "RegressionModel")]
    if len(found) != 1:
        raise PackageError(f"The PMML document's {element.tag} has {len(found)} models, not one.")
    return found[0]


def model_of(root: Element, known: Known) -> Model:
    """The model of a whole document.

    Raises:
        PackageError: There is none, or it can't be read.
    """
    return read_model(_model_of(root), known)


class Chain:
    """Models one after another; each says its answer under a name, and the last one's is the answer."""

    def __init__(self, elements: list[Element], known: Known) -> None:
        self._links: list[tuple[Model, str]] = []
        for place, element in enumerate(elements):
            model, name = read_model(element, known), ""
            if place < len(elements) - 1:
                said = child(child(element, "Output"), "OutputField")
                text(said, "feature", "predictedValue")
                name = text(said, "name")
                known = known.further(name)
            self._links.append((model, name))

    def evaluate(self, fields: Mapping[str, Array], rows: int) -> Array:
        """See ``Model.evaluate``."""
        seen = dict(fields)
        for model, name in self._links:
            seen[name] = model.evaluate(seen, rows)
        return seen[self._links[-1][1]]


class Regression:
    """A sum of coefficients times fields, some of which are made from others first; maybe the logistic curve of it."""

    def __init__(self, element: Element, known: Known) -> None:
        method = element.get("normalizationMethod", "none")
        if method not in ("none", "logit"):
            raise PackageError(f"The PMML document normalises a regression by {method!r:.60}, not none or logit.")
        self._logit = method == "logit"
        self._made: list[tuple[str, Callable[[Mapping[str, Array]], Array]]] = []
        given = known
        for derived in element.iterfind("LocalTransformations/DerivedField"):
            name = text(derived, "name")
            # Each is made of what the model is given, not of one another.
            self._made.append((name, _transformation(derived, given)))
            known = known.further(name)
        table = child(element, "RegressionTable")
        self._intercept = number(table, "intercept")
        self._terms = [
            (known.require(text(one, "name"), "number"), number(one, "coefficient"))
            for one in table.findall("NumericPredictor")
        ]

    def evaluate(self, fields: Mapping[str, Array], rows: int) -> Array:
        """See ``Model.evaluate``."""
        seen = dict(fields)
        for name, make in self._made:
            seen[name] = make(fields)
        total = np.full(rows, self._intercept)
        for name, coefficient in self._terms:
            total += coefficient * seen[name]
        if self._logit:
            # Never overflows: exp is of nothing above zero.
            small = np.exp(-np.abs(total))
            total = np.where(total >= 0, 1.0, small) / (1.0 + small)
        return total


def _transformation(derived: Element, known: Known) -> Callable[[Mapping[str, Array]], Array]:
    if len(derived) != 1 or derived[0].tag not in ("NormContinuous", "MapValues"):
        raise PackageError(f"The PMML document makes {derived.get('name')!r:.60} in a way that is not read here.")
    return _curve(derived[0], known) if derived[0].tag == "NormContinuous" else _look_up(derived[0], known)


def _curve(element: Element, known: Known) -> Callable[[Mapping[str, Array]], Array]:
    """Straight lines through points, level beyond the first and the last."""
    field = known.require(text(element, "field"), "number")
    text(element, "outliers", "asExtremeValues")
    points = np.array([number(one, "orig") for one in element.findall("LinearNorm")])
    values = np.array([number(one, "norm") for one in element.findall("LinearNorm")])
    if len(points) < 2 or not (np.diff(points) > 0).all():
        raise PackageError(f"The PMML document's curve over {field!r:.60} has no two points, or they do not rise.")
    missing = number(element, "mapMissingTo") if "mapMissingTo" in element.attrib else np.nan

    def make(fields: Mapping[str, Array]) -> Array:
        column = fields[field]
        return np.where(np.isnan(column), missing, np.interp(column, points, values))

    return make


def _look_up(element: Element, known: Known) -> Callable[[Mapping[str, Array]], Array]:
    """A number for each string of a table, one for all others, and one for what is missing."""
    pair = child(element, "FieldColumnPair")
    field = known.require(text(pair, "field"), "category")
    text(pair, "column", "key")
    text(element, "outputColumn", "number")
    other, missing = number(element, "defaultValue"), number(element, "mapMissingTo")
    table = {
        child(row, "key").text or "": finite(child(row, "number").text or "", "InlineTable's number")
        for row in child(element, "InlineTable").findall("row")
    }
    table[""] = missing

    def make(fields: Mapping[str, Array]) -> Array:
        return np.array([table.get(value, other) for value in fields[field]], dtype=np.float64)

    return make
