"""How sure the application metrics are: an interval over blocks for each, whatever function they are.

A metric of a team is a black box of rows, so it is computed again without one group of blocks at a time: the
delete-a-group jackknife (Kott, 2001). With at most a hundred blocks each is a group of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from components.evaluator.blocks import Interval, jackknife

if TYPE_CHECKING:
    from ninefold.fields import Columns
    from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

GROUPS = 100


def gain_intervals(
    use_case: UseCase, request: Columns, truth: Array, prediction: Array, interval: Array | None, places: Array
) -> dict[str, Interval]:
    """The application metrics with their intervals; empty where none are declared.

    Args:
        use_case: Declares them.
        request: Request columns [rows].
        truth: [rows].
        prediction: [rows].
        interval: [rows, 2]; None where no row has one.
        places: [rows], each row's block, from 0.
    """
    whole = use_case.gains(request, truth, prediction, interval)
    count = int(places.max()) + 1
    if not whole or count < 2:
        return {name: Interval(value=value, low=float("nan"), high=float("nan")) for name, value in whole.items()}
    groups = min(count, GROUPS)
    # Blocks come in the order of their labels; dealt in turns, so that no group is one stretch of them.
    group = places % groups
    without: dict[str, list[float]] = {name: [] for name in whole}
    for left_out in range(groups):
        kept = group != left_out
        found = use_case.gains(
            {name: column[kept] for name, column in request.items()},
            truth[kept], prediction[kept], None if interval is None else interval[kept],
        )  # fmt: skip
        for name, values in without.items():
            values.append(found.get(name, float("nan")))
    return {name: jackknife(value, np.array(without[name])) for name, value in whole.items()}
