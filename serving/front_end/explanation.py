"""Answers ``:explain``: what each group of inputs, and each word of a text, adds to a prediction, and in words.

Of each row the version of its cohort is explained; all coalitions of all rows of a cohort are one call of the model
server. Rows that the baseline answers are explained by the baseline. An explanation is no prediction: it is not kept,
and has no id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import orjson

from ninefold.errors import TooLarge, Unavailable
from ninefold.signature import PackageManifest
from ninefold.usecase import UseCase
from serving.front_end.answer import Answers
from serving.front_end.asking import Caller, header_lines
from serving.front_end.columns import ColumnMaker
from serving.front_end.directions import Route, ServedVersion
from serving.front_end.fallback import baseline_predictions
from serving.front_end.metrics import Metrics
from serving.front_end.model_client import Bounded, ModelFailure
from serving.front_end.prepared import Prepared, Preparer
from serving.front_end.reasons import reasons
from serving.front_end.recording import Recorder
from serving.front_end.shapley import Plan, plan
from serving.front_end.validation import RequestParser, Row
from serving.front_end.versions import Versions
from serving.front_end.words import Player, WordPlan, by_word, sentence


class Explanations:
    """Explains predictions.

    Args:
        use_case: The use case.
        parser: Reads bodies.
        versions: Knows who answers.
        preparer: Reads features and derives inputs.
        recorder: Clips.
        answers: Decides.
        metrics: What is counted.
        max_instances: Most instances that one call of the model server may hold.
    """

    def __init__(
        self,
        use_case: UseCase,
        *,
        parser: RequestParser,
        versions: Versions,
        preparer: Preparer,
        recorder: Recorder,
        answers: Answers,
        metrics: Metrics,
        max_instances: int,
    ) -> None:
        self._use_case = use_case
        self._parser = parser
        self._versions = versions
        self._preparer = preparer
        self._recorder = recorder
        self._answers = answers
        self._metrics = metrics
        self._max_instances = max_instances

    async def explain(self, body: bytes | bytearray, caller: Caller) -> bytes:
        """Answers a request.

        Raises:
            InvalidInput, TooLarge: The request is wrong, or asks for too many coalitions at once.
            Unavailable: There is no version, and so nothing to compare with.
        """
        batch = self._parser.parse(body)
        routes = self._versions.directions.of(batch.rows)
        predictions: list[Any] = [None] * len(batch.rows)
        explanations: list[Any] = [None] * len(batch.rows)
        for route, places in routes:
            explained = await self._explain([batch.rows[place] for place in places], route, caller)
            for place, (prediction, explanation) in zip(places, explained, strict=True):
                predictions[place], explanations[place] = prediction, explanation
        return orjson.dumps(
            {"predictions": predictions, "explanations": explanations}, option=orjson.OPT_SERIALIZE_NUMPY
        )

    async def _explain(
        self, rows: list[Row], route: Route, caller: Caller
    ) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Prediction and explanation of each of some rows, by the version of their cohort."""
        prepared = self._preparer.prepare(rows, route)
        served = prepared.served
        if served is None:
            raise Unavailable(
                f"{self._use_case.name} has no version yet, and so no reference to explain against.",
                remedy=f"Train one: ninefold run training {self._use_case.name}",
            )
        plans = _plans(served.manifest, prepared.model_rows)
        most = max(1, self._max_instances // max(len(chosen.masks) for chosen in plans))
        if len(rows) > most:
            raise TooLarge(
                f"instances: {len(rows):,} to explain are over the bound of {most:,}.",
                remedy="Send smaller batches.",
            )
        reference = _reference(served)
        asked = [chosen.rows(row, reference) for chosen, row in zip(plans, prepared.model_rows, strict=True)]
        values = await self._ask(prepared, served, asked, caller)
        return [
            (
                self._prediction(prepared, served, place, of_row[-1]),
                self._explanation(chosen, of_row, _named(served.manifest, prepared.model_rows[place])),
            )
            for place, (chosen, of_row) in enumerate(zip(plans, values, strict=True))
        ]

    async def _ask(
        self, prepared: Prepared, served: ServedVersion, asked: Sequence[list[list[Any]]], caller: Caller
    ) -> list[list[float]]:
        """The coalitions' predictions, row by row."""
        by_model = [place for place, reason in enumerate(prepared.fallbacks) if reason is None]
        values: dict[int, list[float]] = {}
        if by_model:
            try:
                answers = await served.client.predict(
                    [row for place in by_model for row in asked[place]], header_lines([caller])
                )
            except ModelFailure as failure:
                self._metrics.model_failed(failure.reason, failure.detail)
                prepared.fall_back(by_model, failure.reason)
            else:
                given = iter(answers)
                for place in by_model:
                    answered = list(islice(given, len(asked[place])))
                    of_row = [_value(answer) for answer in answered if answer is not None]
                    if len(of_row) == len(asked[place]):
                        values[place] = of_row
                        if isinstance(whole := answered[-1], Bounded):
                            prepared.intervals[place] = (whole.lower, whole.upper)
                    else:
                        self._metrics.model_failed("model_error", "a prediction is no finite number")
                        prepared.fall_back([place], "model_error")
        inputs = ColumnMaker([(item.name, item.kind) for item in served.manifest.signature.inputs])
        for place, rows in enumerate(asked):
            if place not in values:
                values[place] = baseline_predictions(self._use_case, inputs.make(rows))
        return [values[place] for place in range(len(asked))]

    def _prediction(self, prepared: Prepared, served: ServedVersion, place: int, value: float) -> dict[str, Any]:
        flags = prepared.flags[place]
        fallback = prepared.fallbacks[place]
        clipped = self._recorder.clip(value, flags)
        interval = self._recorder.clip_interval(prepared.intervals.get(place))
        return {
            "prediction_id": None,
            "prediction": clipped,
            "decision": self._answers.decide(prepared.rows[place], clipped, interval),
            "version": served.version if fallback is None else 0,
            "cohort": prepared.route.cohort,
            "fallback": fallback,
            "flags": flags,
            **({"interval": interval} if self._use_case.interval is not None else {}),
        }

    def _explanation(
        self, chosen: Plan | WordPlan, values: Sequence[float], inputs: Mapping[str, Any]
    ) -> dict[str, Any]:
        amounts = chosen.contributions(values)
        players = chosen.players if isinstance(chosen, WordPlan) else [Player(group) for group in chosen.groups]
        sums = dict.fromkeys(chosen.groups, 0.0)
        for player, amount in zip(players, amounts, strict=True):
            sums[player.group] += amount
        regression = self._use_case.problem == "regression"
        unit = (self._use_case.target.unit or "") if regression else "probability"
        why = reasons(self._use_case.reasons, inputs, sums, unit)
        told = sentence(players, amounts, f"the {self._use_case.target.name if regression else 'probability'}")
        return {
            "reference": values[0],
            "unclipped": values[-1],
            "unit": self._use_case.target.unit if regression else "probability",
            "contributions": [
                {
                    "group": group,
                    "words": self._use_case.explain.get(group, group),
                    "contribution": amount,
                    **({"reason": why[group]} if group in why else {}),
                    **by_word(group, players, amounts),
                }
                for group, amount in sorted(sums.items(), key=lambda pair: -abs(pair[1]))
            ],
            **({} if told is None else {"sentence": told}),
        }


def _named(manifest: PackageManifest, row: Sequence[Any]) -> dict[str, Any]:
    """Input name → value; what is not a number is missing."""
    names = (item.name for item in manifest.signature.inputs)
    return {name: None if value != value else value for name, value in zip(names, row, strict=True)}


def _plans(manifest: PackageManifest, rows: Sequence[Sequence[Any]]) -> Sequence[Plan | WordPlan]:
    """What to ask of each row; one plan for all where no input is a text."""
    inputs = manifest.signature.inputs
    if all(item.kind != "text" for item in inputs):
        return [plan(inputs)] * len(rows)
    known = [
        (manifest.statistics[item.name].categories or {} if item.name in manifest.statistics else {})
        if item.kind == "text"
        else None
        for item in inputs
    ]
    return [WordPlan(inputs, row, known) for row in rows]


def _value(answer: float | Bounded) -> float:
    return answer.prediction if isinstance(answer, Bounded) else answer


def _reference(served: ServedVersion) -> list[Any]:
    statistics = served.manifest.statistics
    return [
        statistics[item.name].reference if item.name in statistics else None
        for item in served.manifest.signature.inputs
    ]
