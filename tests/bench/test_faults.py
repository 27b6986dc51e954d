"""The table of faults tells what was caught and what was not, and its quick faults are planted and caught."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from bench.faults import candidates, source
from bench.faults.__main__ import BEGIN, END, written
from bench.faults.row import Fault, table
from ninefold.loading import load_use_case

ROOT = Path(__file__).parents[2]
CAUGHT = Fault(
    name="a `leak`", kind="rollout", check="harm", caught=True, words="It is worse | by far.", twin_passes=True,
    twin="Fine.", offline=11.784, online=18.051,
)  # fmt: skip


def test_a_row_says_what_was_caught_and_in_which_words() -> None:
    (row,) = table([CAUGHT]).splitlines()[2:]
    assert row == "| a `leak` | 11.78 | 18.05 | rollout: harm | It is worse \\| by far. | Fine. |"
    assert CAUGHT.figure()["ok"] is True


def test_what_is_not_caught_and_a_false_alarm_are_told_and_fail() -> None:
    missed = dataclasses.replace(CAUGHT, caught=False)
    alarm = dataclasses.replace(CAUGHT, twin_passes=False)
    assert "**NOT caught** by rollout: harm" in table([missed])
    assert "**FALSE ALARM** Fine." in table([alarm])
    assert [fault.figure()["ok"] for fault in (missed, alarm)] == [False, False]


def test_rows_stand_in_the_order_in_which_a_fault_meets_the_checks() -> None:
    kinds = ("rollout", "schema", "monitor", "gate")
    rows = table([dataclasses.replace(CAUGHT, kind=kind) for kind in kinds]).splitlines()[2:]
    assert [row.split(" | ")[3].split(":")[0] for row in rows] == ["schema", "gate", "monitor", "rollout"]


def test_long_words_are_cut_at_a_word_and_digests_are_short() -> None:
    words = "one " * 200 + "|"
    assert len(table([dataclasses.replace(CAUGHT, words=words)])) < 700
    digest = "0123456789ab" + "c" * 52
    assert "is 0123456789ab…." in table([dataclasses.replace(CAUGHT, words=f"It is {digest}.")])


def test_the_table_goes_between_its_marks_and_a_page_without_them_is_named() -> None:
    page = f"before\n{BEGIN}\n{END}\nafter\n"
    assert written(page, [CAUGHT]) == f"before\n{BEGIN}\n{table([CAUGHT])}\n{END}\nafter\n"
    assert written(written(page, []), [CAUGHT]) == written(page, [CAUGHT])
    with pytest.raises(ValueError, match="no place for the table"):
        written("nothing", [])


def test_the_page_in_docs_tells_of_faults_that_were_all_caught() -> None:
    page = (ROOT / "docs" / "faults.md").read_text()
    rows = page.partition(BEGIN)[2].partition(END)[0].strip().splitlines()[2:]
    assert len(rows) >= 20
    assert "NOT caught" not in page
    assert "FALSE ALARM" not in page
    assert {row.split(" | ")[3].split(":")[0] for row in rows} == {"schema", "gate", "parity", "monitor", "rollout"}


def test_each_fault_of_the_source_is_refused_and_the_flights_as_they_are_are_not() -> None:
    found = list(source.faults(load_use_case("arrivals")))
    assert len(found) >= 6
    assert [fault.name for fault in found if not fault.ok] == []
    # Each by its own words: a source that is refused for another reason shows nothing.
    assert len({fault.words for fault in found}) == len(found)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("well", None), ("nan", "model_error"), ("shape", "model_error"), ("silent", "model_slow"), ("slow", None)],
)
def test_a_server_of_each_behaviour_is_told_by_the_front_ends_client(
    behaviour: candidates.Behaviour, reason: str | None
) -> None:
    came = asyncio.run(candidates._asked(np.arange(2.0 * candidates.ONE_IN), behaviour))
    bad = [n for n, one in enumerate(came) if one.reason is not None]
    assert bad == ([0, candidates.ONE_IN] if reason else [])
    assert {one.reason for one in came} == {None, reason}
    assert [one.value for n, one in enumerate(came) if n not in bad] == [float(n) for n in range(40) if n not in bad]
