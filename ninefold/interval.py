"""Intervals: two numbers around a prediction that hold the truth in a declared share of all cases.

Where they come from is ``components.model_builder.interval``; whether they hold what they promise is
``components.evaluator.intervals``. An interval's width says how unsure a model is of one answer: it stands in every
kept prediction (``Prediction.interval``), which is where a sampler for labelling finds it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ninefold.errors import ConfigurationError

Bounds = tuple[float, float]
"""(lower, upper), in the target's unit; the prediction lies between them or on one."""


def check_interval(
    name: str,
    problem: str,
    nominal: float,
    decide: Callable[..., Any],
    application_metrics: Callable[..., Any] | None,
) -> None:
    """Refuses a declaration that can't be meant.

    Args:
        name: The use case's.
        problem: Its kind.
        nominal: The share of truths that an interval is to hold.
        decide: Takes request, prediction, and (lower, upper) or None.
        application_metrics: Takes request, truths, predictions, and [rows, 2].

    Raises:
        ConfigurationError: The share is none, a number isn't what is predicted, or a function takes no interval.
    """
    if problem != "regression" or not 0.0 < nominal < 1.0:
        raise ConfigurationError(
            f"{name}: a {problem} problem has an interval of {nominal!r}.",
            remedy="Give a share between 0 and 1, such as 0.8, and only where a number is predicted.",
        )
    functions = (("decide", decide, 3), ("application_metrics", application_metrics, 4))
    for what, function, arguments in functions:
        if function is None:
            continue
        try:
            inspect.signature(function).bind(*range(arguments))
        except TypeError as error:
            raise ConfigurationError(
                f"{name} declares an interval, and its {what} does not take one: {error}.",
                remedy=f"Give {what} the interval as its last argument.",
            ) from error
