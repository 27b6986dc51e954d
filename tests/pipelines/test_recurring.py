"""Recurring runs become what the table says, whatever is there, and then stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.loading import load_use_case
from pipelines.compile import PIPELINES
from pipelines.recurring import TABLE, Found, Row, Step, Wanted, found, plan, prefix, rows_of, wanted
from pipelines.schedule import Schedule
from pipelines.submit import Where

NAMES = [f"{prefix('arrivals')}{name}" for name in PIPELINES]


def _wanted(name: str, digest: str) -> Wanted:
    return Wanted(name=name, row=Row(pipeline="training", cron="0 0 3 * * 1", why=""), digest=digest, fields={})


def _there(name: str, digest: str, *, enabled: bool = True, run_id: str = "1") -> Found:
    return Found(run_id=run_id, name=name, digest=digest, enabled=enabled, cron="")


def _done(there: Sequence[Found], steps: Sequence[Step]) -> list[Found]:
    """What is there after the steps were taken."""
    gone = {one.run_id for step in steps for one in step.delete}
    made = [
        Found(run_id=f"new {step.name}", name=step.name, digest=step.create.digest, enabled=step.enabled, cron="")
        for step in steps
        if step.create is not None
    ]
    return [one for one in there if one.run_id not in gone] + made


DIGESTS = st.sampled_from(["a", "b"])
ROWS = st.dictionaries(st.sampled_from(NAMES), DIGESTS).map(
    lambda rows: [_wanted(name, digest) for name, digest in rows.items()]
)
THERE = st.lists(st.tuples(st.sampled_from(NAMES), DIGESTS, st.booleans()), max_size=8).map(
    lambda many: [_there(n, d, enabled=e, run_id=str(i)) for i, (n, d, e) in enumerate(many)]
)


@given(ROWS, THERE)
def test_whatever_is_there_the_table_is_brought_about_and_then_nothing_is_done(
    rows: list[Wanted], there: list[Found]
) -> None:
    after = _done(there, plan(rows, there))
    assert sorted((one.name, one.digest) for one in after) == sorted((row.name, row.digest) for row in rows)
    again = plan(rows, after)
    assert all(step.action == "kept" and not step.delete and step.create is None for step in again)


def test_one_that_is_right_stays_as_it_is() -> None:
    (step,) = plan([_wanted(NAMES[0], "a")], [_there(NAMES[0], "a")])
    assert (step.action, step.delete, step.create) == ("kept", (), None)


def test_who_disabled_one_finds_its_successor_disabled() -> None:
    (step,) = plan([_wanted(NAMES[0], "b")], [_there(NAMES[0], "a", enabled=False)])
    assert (step.action, step.enabled, len(step.delete)) == ("recreated", False, 1)
    (new,) = plan([_wanted(NAMES[0], "b")], [])
    assert (new.action, new.enabled) == ("created", True)


def _kfp(name: str, description: str, **more: Any) -> Any:
    fields = {"recurring_run_id": "1", "status": "ENABLED", "mode": None, "trigger": None, **more}
    return SimpleNamespace(display_name=name, description=description, **fields)


def test_what_somebody_else_made_is_left_alone() -> None:
    mine = _kfp(NAMES[0], "Every day. [ninefold 0123456789ab]")
    others = [
        _kfp(NAMES[0], "made by hand"),
        _kfp("training", "[ninefold 0123456789ab]"),
        _kfp(f"{prefix('arrivals')}of-my-own", "[ninefold 0123456789ab]"),
        _kfp(f"{prefix('churn')}training", "[ninefold 0123456789ab]"),
        _kfp(NAMES[0], None),  # type: ignore[arg-type]
    ]
    assert [one.digest for one in found([mine, *others], "arrivals")] == ["0123456789ab"]


def test_the_table_is_of_pipelines_that_there_are_at_times_in_utc_once_each() -> None:
    assert len({row.pipeline for row in TABLE}) == len(TABLE)
    for row in TABLE:
        assert row.pipeline in PIPELINES
        assert Schedule(row.cron).expression == row.cron
        # The time that a run is due is not known when it is declared.
        assert not {"until", "since", "run_id"} & set(row.parameters)


def test_experts_are_asked_again_and_again_where_a_use_case_says_what_they_see() -> None:
    assert rows_of("reviews") == list(TABLE)
    assert {row.pipeline for row in TABLE} - {row.pipeline for row in rows_of("arrivals")} == {"labelling"}


@pytest.mark.parametrize("use_case", ["arrivals", "reviews"])
def test_a_definition_is_the_same_until_something_of_it_changes(use_case: str) -> None:
    """Neither names nor times of runs are in it, or it would never be the same."""
    first, again = wanted(use_case, Where()), wanted(use_case, Where())
    assert [row.digest for row in first] == [row.digest for row in again]
    assert {row.name for row in first} == {f"{prefix(use_case)}{row.pipeline}" for row in rows_of(use_case)}
    other = wanted(use_case, Where(image="other:1"))
    assert not {row.digest for row in first} & {row.digest for row in other}
    later = wanted(use_case, Where(), [Row(pipeline=row.pipeline, cron="0 1 1 * * *", why=row.why) for row in TABLE])
    assert not {row.digest for row in first} & {row.digest for row in later}
    for row in first:
        assert row.fields["no_catchup"] is True
        assert row.fields["max_concurrency"] == "1"
        parameters = row.fields["runtime_config"]["parameters"]
        assert parameters["run_id"] == ""
        assert parameters["until"] == ""
        assert parameters["use_case"] == load_use_case(use_case).name
