"""The interval of an answer is kept with it, on both databases, and rows from before there were any have none."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from ninefold.errors import DataError
from ninefold.records import Prediction
from ninefold.store import Store, open_store
from ninefold.store.migrate import revision
from ninefold.store.tables import SCHEMA

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


def prediction(number: int, **changes: Any) -> Prediction:
    given = {"interval": (18.5, 25.25), **changes}
    return Prediction(
        prediction_id=f"p{number}", use_case="deliveries", request_id=None, key=str(number), decided_at=NOW,
        received_at=NOW, version=1, cohort="live", request={}, features={}, value=20.0, **given,
    )  # fmt: skip


def test_an_interval_comes_back_as_it_went_in_and_none_is_none(store: Store) -> None:
    given = [prediction(0), prediction(1, interval=None)]
    assert store.write_predictions(given) == 2
    assert list(store.predictions("deliveries")) == given
    assert [joined.prediction for joined in store.joined("deliveries")] == given
    assert [Prediction.from_json(one.to_json()) for one in given] == given
    table = store.arrow("predictions", "deliveries")
    assert table["lower"].to_pylist() == [18.5, None]
    assert table["upper"].to_pylist() == [25.25, None]
    again = store.write_predictions([prediction(0), prediction(1, interval=(1.0, 2.0))])
    assert (again, again.repeated, again.conflicts) == (0, 2, ("p1",))


@pytest.mark.parametrize("interval", [(math.nan, 1.0), (0.0, math.inf), (1.0, 2.0, 3.0)])
def test_bounds_that_are_none_are_refused(store: Store, interval: Any) -> None:
    with pytest.raises(DataError, match=r"'p0' of predictions can't be kept"):
        store.write_predictions([prediction(0, interval=interval)])


def test_predictions_of_an_older_store_have_none(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from alembic import command

    upgrade = command.upgrade
    with monkeypatch.context() as patch:
        patch.setattr(command, "upgrade", lambda config, _: upgrade(config, "0007"))
        store = open_store(empty_url)
    assert revision(store) == "0007"
    with store.writing() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO predictions (prediction_id, use_case, key, decided_at_us, received_at_us, version, "
                "cohort, request, features, value, flags, latency_ms) "
                "VALUES ('p0', 'deliveries', '0', 1, 1, 1, 'live', '{}', '{}', 20.0, '[]', 1.0)"
            )
        )
    store.close()
    with open_store(empty_url) as store:
        assert revision(store) == SCHEMA
        store.write_predictions([prediction(1)])
        assert [one.interval for one in store.predictions("deliveries")] == [None, (18.5, 25.25)]
