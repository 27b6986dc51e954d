"""Whether an input alone tells the target: asked in every training run, so that a leak that comes in later is met."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ninefold.dataset import INPUT, to_numpy
from ninefold.leaks import notes, refuse, tell_alone
from ninefold.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl


def check_inputs(training: pl.DataFrame, validation: pl.DataFrame, use_case: UseCase) -> Mapping[str, Any]:
    """Fits a curve of each input on the training part and judges it on the validation part.

    Args:
        training: Sanitised, featurized.
        validation: Likewise.
        use_case: Declares the inputs, and those that may tell the target alone.

    Returns:
        Notes for the report: the most telling input, and how much it tells.

    Raises:
        DataError: An input predicts the target (nearly) perfectly, and the use case does not allow it to.
    """
    names = [i.name for i in use_case.inputs if i.kind != "text" and INPUT + i.name in training.columns]
    parts = [{name: to_numpy(part[INPUT + name]) for name in names} for part in (training, validation)]
    truths = [to_numpy(part["truth"]) for part in (training, validation)]
    found = tell_alone(parts[0], truths[0], parts[1], truths[1], use_case.problem)
    refuse(
        found,
        use_case.may_tell_alone,
        remedy="Take {names} out of the inputs; or, where it is truly known when the question is asked, name it in the "
        "contract's may_tell_alone.",
    )
    return notes(found, use_case.may_tell_alone)
