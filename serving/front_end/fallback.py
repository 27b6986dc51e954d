"""The baseline, in process: what answers when no model can, or when a request is outside of what models are for."""

from __future__ import annotations

import math

from ninefold.errors import Unavailable
from ninefold.fields import Columns
from ninefold.usecase import UseCase


def baseline_predictions(use_case: UseCase, inputs: Columns) -> list[float]:
    """The baseline's predictions of derived inputs, [N].

    Raises:
        Unavailable: It answers no finite number: the use case breaks its contract, and nothing else is left to answer.
    """
    values: list[float] = [float(value) for value in use_case.baseline(inputs).tolist()]
    for value in values:
        if not math.isfinite(value):
            raise Unavailable(
                f"The baseline of {use_case.name} answers {value}, and no model answers.",
                remedy="A baseline has to answer when every feature is missing.",
            )
    return values
