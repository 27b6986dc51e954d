"""The trap: a field that history holds and no request does; all else is arrivals, so one front end serves both."""

from collections.abc import Callable

import polars as pl

from ninefold.loading import load_use_case
from ninefold.usecase import History
from usecases.arrivals import etl

ARRIVALS = load_use_case("arrivals")
VARIANT = load_use_case("usecases.arrivals.with_air_time:USE_CASE")


def test_it_is_arrivals_in_all_but_one_input() -> None:
    assert (VARIANT.name, VARIANT.derive_digest, VARIANT.key) == (ARRIVALS.name, ARRIVALS.derive_digest, ARRIVALS.key)
    assert VARIANT.feature_views() == ARRIVALS.feature_views()
    assert VARIANT.inputs[:-1] == ARRIVALS.inputs
    assert VARIANT.request[:-1] == ARRIVALS.request
    assert VARIANT.inputs[-1].column == VARIANT.request[-1].name == "air_time"
    assert VARIANT.request[-1].nullable


def test_history_holds_the_time_in_the_air_of_every_flight_that_landed(history: Callable[[str], History]) -> None:
    usual, past = history("arrivals"), etl.extract_with_air_time()
    assert past.requests.drop("air_time").equals(usual.requests)
    landed = past.requests.join(past.truths, on=etl.KEY, how="semi")["air_time"]
    assert len(landed) == 327_346
    assert landed.null_count() == 0
    assert landed.dtype == pl.Float64
    assert (landed.min(), landed.max()) == (20.0, 695.0)
