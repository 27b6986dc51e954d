"""The best branch is the one with the best validation value; failed ones are named, counted, and never chosen."""

from __future__ import annotations

from typing import Any

import pytest

from components.model_builder.search import Row
from components.tuner.outcome import Outcome, best, failed, summary, to_markdown
from ninefold.errors import DataError


def outcome(branch: int | None, value: float | None, **more: Any) -> Outcome:
    row = Row(family="boosting", params={"x": 1}, value=value, seconds=1.0)
    return Outcome(
        branch=branch, lengths={"wind": f"{branch}h"}, began=0.0, ended=2.0, value=value, baseline=9.0, metric="mae",
        family="boosting", digest=f"d{branch}", **more,
        rows=(Row(family="baseline", params={}, value=9.0, seconds=0.0), row),
    )  # fmt: skip


def test_the_best_value_wins_and_of_equal_ones_the_declared_lengths() -> None:
    assert best([outcome(0, 3.0), outcome(1, 2.0), outcome(2, 2.5)]).branch == 1
    assert best([outcome(0, 2.0), outcome(1, 2.0)]).branch == 0
    assert best([outcome(0, 0.6, direction="maximize"), outcome(1, 0.7, direction="maximize")]).branch == 1


def test_a_failed_branch_is_passed_over_and_all_failed_are_named() -> None:
    broken = failed(0, {"wind": "1h"}, "the well is dry.", began=0.0, ended=1.0)
    assert best([broken, outcome(1, 5.0)]).branch == 1
    with pytest.raises(DataError, match=r"All 2 branches failed\. wind 1h: the well is dry\.; wind 3h: it rained\."):
        best([broken, failed(1, {"wind": "3h"}, "it rained.", began=0.0, ended=1.0)])


def test_what_came_of_it_is_kept_and_shown() -> None:
    outcomes = [outcome(0, 3.0), failed(1, {"wind": "1h"}, "it rained.", began=0.0, ended=1.0), outcome(2, 2.0)]
    again = [Outcome.from_json(one.to_json()) for one in outcomes]
    assert again == outcomes
    document = summary(again, outcome(None, 1.9), outcome(None, 1.9))
    assert (document["failed"], document["declared"], document["winner"]["value"]) == (1, 3.0, 1.9)
    assert document["branches"][2]["trials"] == 1
    page = to_markdown(document)
    assert "| wind 0h | 3.0000 | boosting | 1 | 2.0 |" in page
    assert "| wind 1h | it rained. |" in page
