"""Everything a release is decided on, gathered in the order that matters: baseline, then incumbent, then candidate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.comparison import Comparison, compare
from components.evaluator.evaluation import Evaluation, evaluate
from components.evaluator.latency import Latency
from components.evaluator.slices import SMALL_SLICE_ROWS, slice_rows
from components.evaluator.sources import SourceValues
from ninefold.fields import Columns
from ninefold.signature import InputStatistics

if TYPE_CHECKING:
    from components.evaluator.testset import TestSet
    from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What one model predicted for a test set.

    Args:
        version: Its version; None for a candidate that has no number yet.
        prediction: [places], its predictions.
        places: [places], the test set's rows that they belong to; None where every row has one, in order.
        latency: How fast it predicts; None where nobody measured.
        interval: [places, 2], the bounds around its predictions; None where it has none.
    """

    version: int | None
    prediction: Array
    places: Array | None = None
    latency: Latency | None = None
    interval: Array | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceComparison:
    """The candidate against the baseline on one slice."""

    field: str
    value: str
    comparison: Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class NullShare:
    """Share of nulls in a model input, in the training set and in the test set."""

    input: str
    training: float
    test: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of a candidate and of those it has to beat; None is unknown.

    Args:
        baseline: The baseline's evaluation.
        incumbent: The evaluation of the version that is live.
        candidate: The candidate's evaluation.
        incumbent_version: The version that is live; None where none is, 0 where it is the baseline.
        unserved_version: The version that is live by the store, where today's code can't serve it: then there is no
            incumbent, and production answers by the baseline.
        against_baseline: The candidate against the baseline, on the rows that both predicted.
        against_incumbent: The candidate against the incumbent.
        slices: The candidate against the baseline, on slices that are not small.
        small_slices: Slices that are too small to judge by.
        nulls: Shares of nulls in the model's inputs.
        parity: Whether the packaged model predicts what the trained one does.
        notes: Of the test set's card: how history was divided, what was dropped and why.
        nominal: Share of truths that a candidate's intervals have to hold; None where none are declared.
        sources: The metric apart by who told the truth; shown, and never decided by.
    """

    baseline: Evaluation | None
    incumbent: Evaluation | None
    candidate: Evaluation | None
    incumbent_version: int | None
    against_baseline: Comparison | None
    against_incumbent: Comparison | None
    slices: tuple[SliceComparison, ...] = ()
    small_slices: int = 0
    nulls: tuple[NullShare, ...] | None = None
    parity: bool | None = None
    unserved_version: int | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)
    nominal: float | None = None
    sources: tuple[SourceValues, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        parts = ("baseline", "incumbent", "candidate", "against_baseline", "against_incumbent")
        return {
            **{name: part.to_json() if (part := getattr(self, name)) else None for name in parts},
            "incumbent_version": self.incumbent_version,
            "slices": [{"field": s.field, "value": s.value, "comparison": s.comparison.to_json()} for s in self.slices],
            "small_slices": self.small_slices,
            "nulls": None
            if self.nulls is None
            else [{"input": n.input, "training": n.training, "test": n.test} for n in self.nulls],
            "parity": self.parity,
            "unserved_version": self.unserved_version,
            "notes": dict(self.notes),
            "nominal": self.nominal,
            "sources": [values.to_json() for values in self.sources],
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Evidence:
        """Reads what ``to_json`` wrote."""

        def evaluation(name: str) -> Evaluation | None:
            return Evaluation.from_json(document[name]) if document[name] else None

        def comparison(name: str) -> Comparison | None:
            return Comparison.from_json(document[name]) if document[name] else None

        return cls(
            baseline=evaluation("baseline"),
            incumbent=evaluation("incumbent"),
            candidate=evaluation("candidate"),
            against_baseline=comparison("against_baseline"),
            against_incumbent=comparison("against_incumbent"),
            incumbent_version=document["incumbent_version"],
            slices=tuple(
                SliceComparison(field=s["field"], value=s["value"], comparison=Comparison.from_json(s["comparison"]))
                for s in document["slices"]
            ),
            small_slices=document["small_slices"],
            nulls=None if document["nulls"] is None else tuple(NullShare(**n) for n in document["nulls"]),
            parity=document["parity"],
            unserved_version=document["unserved_version"],
            notes=document["notes"],
            nominal=document.get("nominal"),
            sources=tuple(SourceValues.from_json(values) for values in document.get("sources", ())),
        )


def gather(
    use_case: UseCase,
    test: TestSet,
    *,
    candidate: Answers | None,
    incumbent: Answers | None = None,
    incumbent_version: int | None = None,
    unserved_version: int | None = None,
    statistics: Mapping[str, InputStatistics] | None = None,
    parity: bool | None = None,
) -> Evidence:
    """Evaluates baseline, incumbent and candidate on a test set, and compares them.

    Args:
        use_case: Says what the metric, the blocks and the slices are.
        test: The test set; its ``baseline`` column is what the baseline predicts.
        candidate: What the candidate predicted; None where nothing was built.
        incumbent: What the live version predicted; may be left out where that is the baseline (0) or none is live.
        incumbent_version: The version that is live; None where none is.
        unserved_version: The version that is live by the store, where today's code can't serve it.
        statistics: The candidate's training statistics, from its manifest.
        parity: Whether the packaged candidate predicts what the trained one does; None where nobody looked.

    Raises:
        DataError: A set of predictions can't be scored.
    """
    everything = np.arange(len(test))
    baseline = Answers(version=0, prediction=test.baseline)
    if incumbent is None and incumbent_version == 0:
        incumbent = baseline
    slices, small = _compare_slices(use_case, test, baseline, candidate) if candidate else ((), 0)
    return Evidence(
        baseline=_evaluate(use_case, test, baseline) if len(everything) else None,
        incumbent=_evaluate(use_case, test, incumbent) if incumbent and len(everything) else None,
        candidate=_evaluate(use_case, test, candidate) if candidate and len(everything) else None,
        incumbent_version=incumbent_version,
        against_baseline=_compare(use_case, test, baseline, candidate),
        against_incumbent=_compare(use_case, test, incumbent, candidate),
        slices=slices,
        small_slices=small,
        nulls=null_shares(test.inputs, statistics) if statistics is not None and len(everything) else None,
        parity=parity,
        unserved_version=unserved_version,
        notes=test.card.notes,
        nominal=use_case.interval,
    )


def null_shares(inputs: Columns, statistics: Mapping[str, InputStatistics]) -> tuple[NullShare, ...]:
    """Shares of nulls in input columns, beside those of the training set; NaN where training has no such input."""
    return tuple(
        NullShare(
            input=name,
            training=statistics[name].null_share if name in statistics else math.nan,
            test=sum(value is None or value != value for value in column.tolist()) / len(column),
        )
        for name, column in inputs.items()
    )


def _evaluate(use_case: UseCase, test: TestSet, answers: Answers) -> Evaluation:
    places = slice(None) if answers.places is None else answers.places
    return evaluate(
        use_case,
        {name: column[places] for name, column in test.request.items()},
        test.truth[places],
        answers.prediction,
        blocks=test.blocks[places],
        version=answers.version,
        expected_rows=len(test),
        weight=_at(test.weight, places),
        latency=answers.latency,
        interval=answers.interval,
        sure_of_gains=True,
    )


def _at(weight: Array | None, rows: Any) -> Array | None:
    return None if weight is None else weight[rows]


def _paired(test: TestSet, a: Answers, b: Answers) -> tuple[Array, Array, Array]:
    """The rows that both predicted, and both's predictions of them."""
    everything = np.arange(len(test))
    of_a = everything if a.places is None else a.places
    of_b = everything if b.places is None else b.places
    common, in_a, in_b = np.intersect1d(of_a, of_b, assume_unique=True, return_indices=True)
    return common, a.prediction[in_a], b.prediction[in_b]


def _compare(use_case: UseCase, test: TestSet, a: Answers | None, b: Answers | None) -> Comparison | None:
    if a is None or b is None:
        return None
    rows, of_a, of_b = _paired(test, a, b)
    if not len(rows):
        return None
    weight = _at(test.weight, rows)
    return compare(use_case.metric, test.truth[rows], of_a, of_b, test.blocks[rows], weight=weight)


def _compare_slices(
    use_case: UseCase, test: TestSet, a: Answers, b: Answers
) -> tuple[tuple[SliceComparison, ...], int]:
    rows, of_a, of_b = _paired(test, a, b)
    found: list[SliceComparison] = []
    small = 0
    for name, value, mask in slice_rows(use_case, {n: column[rows] for n, column in test.request.items()}):
        chosen = rows[mask]
        weight = _at(test.weight, chosen)
        # Rows that stand for nothing tell nothing, however many they are.
        if np.count_nonzero(mask) < SMALL_SLICE_ROWS or (weight is not None and not weight.any()):
            small += 1
            continue
        comparison = compare(
            use_case.metric, test.truth[chosen], of_a[mask], of_b[mask], test.blocks[chosen],
            weight=weight,
        )  # fmt: skip
        found.append(SliceComparison(field=name, value=value, comparison=comparison))
    return tuple(found), small
