"""Routes that front ends on a cluster go by: revisions only grow, on both databases."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ninefold.errors import DataError, Outdated
from ninefold.routes import RouteTable, Variant
from ninefold.store import Store
from ninefold.store.tables import route_tables


def table(revision: int, live: int = 1, use_case: str = "parcels") -> RouteTable:
    variants = {n: Variant(version=n, url=f"http://v{n}:80", package=f"s3://m/d{n}", digest=f"d{n}") for n in (0, live)}
    return RouteTable(use_case=use_case, revision=revision, live=live, variants=variants)


def test_what_is_published_is_read_back_and_writing_it_again_changes_nothing(store: Store) -> None:
    assert store.published_routes("parcels") is None
    store.publish_routes(table(4))
    first = store.published_routes("parcels")
    assert first is not None
    assert (first.revision, first.table, first.problem) == (4, table(4), "")
    assert store.publish_routes(table(4)) == first
    assert store.published_routes("churn") is None
    store.publish_routes(table(1, use_case="churn"))
    assert store.published_routes("parcels") == first


def test_an_older_table_or_another_of_the_same_revision_comes_too_late(store: Store) -> None:
    store.publish_routes(table(4))
    for late in (table(3), table(4, live=2)):
        with pytest.raises(Outdated, match="parcels are at revision 4: revision"):
            store.publish_routes(late)
    found = store.published_routes("parcels")
    assert found is not None
    assert found.table == table(4)


def test_a_problem_is_told_before_and_after_the_first_table(store: Store) -> None:
    store.note_routes("parcels", "There is no Gateway.")
    found = store.published_routes("parcels")
    assert found is not None
    assert (found.table, found.revision, found.problem) == (None, 0, "There is no Gateway.")
    store.publish_routes(table(1))
    found = store.published_routes("parcels")
    assert found is not None
    # It stands until it is said to be over.
    assert (found.table, found.problem) == (table(1), "There is no Gateway.")
    store.note_routes("parcels", "")
    found = store.published_routes("parcels")
    assert found is not None
    assert (found.table, found.problem) == (table(1), "")


def test_damaged_routes_are_named(store: Store) -> None:
    store.publish_routes(table(1))
    with store.writing() as connection:
        connection.execute(sa.update(route_tables).values(document={"live": 1}))
    found = store.published_routes("parcels")
    assert found is not None
    with pytest.raises(DataError, match="published routes of parcels are damaged"):
        _ = found.table


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(revisions=st.lists(st.integers(1, 9), min_size=1, max_size=12), data=st.data())
def test_revisions_only_grow_whoever_writes(store: Store, revisions: list[int], data: st.DataObject) -> None:
    with store.writing() as connection:
        connection.execute(sa.delete(route_tables))
    newest = 0
    for revision in revisions:
        live = data.draw(st.integers(1, 3))
        try:
            store.publish_routes(table(revision, live))
        except Outdated:
            assert revision <= newest
        found = store.published_routes("parcels")
        assert found is not None
        assert found.revision >= newest
        newest = found.revision
    assert newest == max(revisions)


def test_of_two_who_publish_a_revision_at_once_one_does(store: Store) -> None:
    store.publish_routes(table(1))
    begin, outcomes = threading.Barrier(2), []

    def publish(live: int) -> None:
        begin.wait()
        try:
            store.publish_routes(table(2, live))
            outcomes.append(live)
        except Outdated:
            outcomes.append(0)

    threads = [threading.Thread(target=publish, args=(live,)) for live in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[0] == 0
    found = store.published_routes("parcels")
    assert found is not None
    assert found.table == table(2, max(outcomes))
