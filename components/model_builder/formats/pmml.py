"""A trained model as a PMML 4.4 document: any evaluator of the standard can read it, ours does without Java.

A document is a chain of models. The first says what was learnt before any curve; then come the logistic curve, a curve
of calibration, or the offset. Numbers are of type ``float``, as in training. A linear model's clipping, scaling, bends
and null flag of a number are one curve of straight lines, so a number is one ``NormContinuous``, and a category one
``MapValues``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.model_builder.calibration import Calibrated, Isotonic, Platt
from components.model_builder.families.boosting import BoostedTrees
from components.model_builder.families.design import Design
from components.model_builder.families.linear import LinearModel
from components.model_builder.formats.pmml_trees import Fields, write_trees
from components.model_builder.formats.xml import element, escaped
from components.model_builder.table import Array, Task
from ninefold import __version__
from ninefold.errors import PackageError
from ninefold.package import OUTPUT

_RAW, _PROBABILITY, _CURVE = "model(raw)", "model(probability)", "curve(probability)"


def to_pmml(task: Task, fitted: object) -> bytes:
    """Exports a model.

    Raises:
        PackageError: The model, or a category, has no equal in PMML.
    """
    fields = Fields(numbers=task.names("number"), categories=task.names("category"))
    curve: Any = None
    if isinstance(fitted, Calibrated):
        fitted, curve = fitted.parts
    if isinstance(fitted, BoostedTrees):
        trees, codes = fitted.parts
        content = (fields.schema(), _said(_RAW), write_trees(trees, codes, fields))
        links = [element("MiningModel", *content, functionName="regression")]
    elif isinstance(fitted, LinearModel):
        links = [_linear(*fitted.parts, fields)]
    else:
        raise PackageError(f"A {type(fitted).__name__} can't be written as PMML.")
    links += _logistic(curve) if task.objective == "logistic" else [_plus_offset(task.offset)]
    segments = [element("Segment", element("True"), link, id=place) for place, link in enumerate(links, start=1)]
    target = task.signature.target if task.signature.target not in (*fields.numbers, *fields.categories) else None
    return _document(fields, target, element("Segmentation", *segments, multipleModelMethod="modelChain")).encode()


def _document(fields: Fields, target: str | None, segmentation: str) -> str:
    kinds = [(name, "continuous", "float") for name in fields.numbers]
    kinds += [(name, "categorical", "string") for name in fields.categories]
    kinds += [(target, "continuous", "double")] if target is not None else []
    declared = [element("DataField", name=name, optype=optype, dataType=type_) for name, optype, type_ in kinds]
    asked = [element("MiningField", name=name) for name in (*fields.numbers, *fields.categories)]
    asked += [element("MiningField", name=target, usageType="target")] if target is not None else []
    model = element(
        "MiningModel", element("MiningSchema", *asked), _said(OUTPUT), segmentation, functionName="regression"
    )
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + element(
        "PMML",
        element("Header", element("Application", name="Ninefold", version=__version__)),
        element("DataDictionary", *declared, numberOfFields=len(declared)),
        model,
        xmlns="http://www.dmg.org/PMML-4_4", version="4.4",
    )  # fmt: skip


def _said(name: str) -> str:
    field = element("OutputField", name=name, optype="continuous", dataType="double", feature="predictedValue")
    return element("Output", field)


def _regression(
    reads: list[str], coefficients: Mapping[str, float], intercept: float = 0.0, *,
    made: tuple[str, ...] = (), says: str | None = None, method: str = "none",
) -> str:  # fmt: skip
    schema = element("MiningSchema", *(element("MiningField", name=name) for name in reads))
    terms = [element("NumericPredictor", name=name, coefficient=float(c)) for name, c in coefficients.items()]
    content = [schema, *([_said(says)] if says else []), *([element("LocalTransformations", *made)] if made else [])]
    return element(
        "RegressionModel", *content, element("RegressionTable", *terms, intercept=float(intercept)),
        functionName="regression", normalizationMethod=method,
    )  # fmt: skip


def _derived(name: str, how: str) -> str:
    return element("DerivedField", how, name=name, optype="continuous", dataType="double")


def _plus_offset(offset: str | None) -> str:
    reads = [_RAW] if offset is None else [_RAW, offset]
    return _regression(reads, dict.fromkeys(reads, 1.0))


def _logistic(curve: Any) -> list[str]:
    if isinstance(curve, Platt):
        return [_regression([_RAW], {_RAW: curve.slope}, curve.shift, method="logit")]
    if curve is None:
        return [_regression([_RAW], {_RAW: 1.0}, method="logit")]
    if not isinstance(curve, Isotonic):
        raise PackageError(f"A calibration by {type(curve).__name__} can't be written as PMML.")
    points = list(zip(curve.points, curve.values, strict=True))
    made = _derived(_CURVE, _lines(_PROBABILITY, points))
    return [
        _regression([_RAW], {_RAW: 1.0}, method="logit", says=_PROBABILITY),
        _regression([_PROBABILITY], {_CURVE: 1.0}, made=(made,)),
    ]


def _lines(field: str, points: list[tuple[float, float]], missing: float | None = None) -> str:
    """Straight lines through points, level beyond them; a curve of one point is level everywhere."""
    if len(points) == 1:
        points = [*points, (points[0][0] + 1.0, points[0][1])]
    norms = [element("LinearNorm", orig=float(x), norm=float(y)) for x, y in points]
    return element("NormContinuous", *norms, field=field, mapMissingTo=missing, outliers="asExtremeValues")


def _linear(design: Design, intercept: float, dense: Array, sparse: Array, fields: Fields) -> str:
    if design.words:
        raise PackageError("A linear model of words can't be written as PMML.", remedy='Take the format "onnx".')
    made = {
        f"line({name})": _lines(name, *_curve_of(design, dense, place)) for place, name in enumerate(fields.numbers)
    }
    made |= {
        f"look-up({name})": _look_up(name, {value: float(sparse[i]) for value, i in known.items()})
        for name, known in zip(fields.categories, design.categories, strict=True)
    }
    return _regression(
        [*fields.numbers, *fields.categories], dict.fromkeys(made, 1.0), intercept,
        made=tuple(_derived(name, how) for name, how in made.items()), says=_RAW,
    )  # fmt: skip


def _curve_of(design: Design, dense: Array, place: int) -> tuple[list[tuple[float, float]], float]:
    """What a number adds to a linear model: the points between which it is straight, and what null adds."""
    numbers = design.numbers
    width, knots = numbers.knots.shape
    low, high, mean, scale = (
        float(column[place]) for column in (numbers.low, numbers.high, numbers.mean, numbers.scale)
    )
    bends = dense[width + place * knots : width + (place + 1) * knots]

    def adds(x: float) -> float:
        z = (min(max(x, low), high) - mean) / scale
        return float(dense[place] * z + bends @ np.maximum(z - numbers.knots[place], 0.0))

    inner = {mean + float(knot) * scale for knot in numbers.knots[place]}
    points = [(x, adds(x)) for x in sorted({low, high} | {x for x in inner if low < x < high})]
    flagged = np.flatnonzero(numbers.flagged == place)
    flag = float(dense[width * (1 + knots) + flagged[0]]) if len(flagged) else 0.0
    return points, adds(mean) + flag


def _look_up(field: str, table: Mapping[str, float]) -> str:
    rows = [
        element("row", element("key", escaped(key)), element("number", repr(number)))
        for key, number in table.items()
        if key
    ]
    pair = element("FieldColumnPair", field=field, column="key")
    missing = table.get("", 0.0)
    if not math.isfinite(missing):
        raise PackageError(f"The coefficient of a null {field} is {missing}.")
    return element(
        "MapValues", pair, element("InlineTable", *rows),
        outputColumn="number", dataType="double", mapMissingTo=missing, defaultValue=0.0,
    )  # fmt: skip
