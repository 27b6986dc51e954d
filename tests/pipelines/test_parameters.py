"""Each pipeline knows its own parameters, and one that it does not know is named."""

from __future__ import annotations

import dataclasses

import pytest

from ninefold.errors import ConfigurationError, InvalidInput, UnknownUseCase, UsageError
from ninefold.loading import load_use_case
from ninefold.splits import TimeSplit
from pipelines import parameters
from pipelines.compile import PIPELINES
from pipelines.parameters import PARAMETERS, check_parameters


def test_every_pipeline_has_its_parameters() -> None:
    assert set(PARAMETERS) == set(PIPELINES)


def test_monitoring_takes_a_period_or_nothing() -> None:
    assert check_parameters("monitoring", "arrivals", {}).to_json() == {"since": "", "until": ""}
    given = {"since": "2013-07-01", "until": "2013-07-08"}
    checked = check_parameters("monitoring", "arrivals", given).to_json()
    assert checked == {"since": "2013-07-01T00:00:00Z", "until": "2013-07-08T00:00:00Z"}
    assert check_parameters("monitoring", "arrivals", checked).to_json() == checked


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"max_training_time": 5}, "max_training_time: is no parameter of monitoring. Use since or until."),
        ({"since": 5}, "since: 5 is not a time"),
        ({"since": "2013-07-08", "until": "2013-07-01"}, "is not before"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words.replace("(", r"\(")):
        check_parameters("monitoring", "arrivals", document)


def test_a_search_is_bounded_by_seconds_and_where_asked_by_models() -> None:
    given = {"until": "2013-07-01"}
    assert check_parameters("training", "arrivals", given).to_json()["max_trials"] == 0
    assert check_parameters("training", "arrivals", {**given, "max_trials": 3}).to_json()["max_trials"] == 3
    for wrong in (-1, 1.5, True, "3"):
        with pytest.raises(InvalidInput, match="max_trials"):
            check_parameters("training", "arrivals", {**given, "max_trials": wrong})


@pytest.mark.parametrize("seed", [-1, 2**31, 2**64, 1.0, True])
def test_a_seed_is_one_that_every_library_takes(seed: object) -> None:
    given = {"until": "2013-07-01"}
    for pipeline in ("training", "tuning"):
        assert check_parameters(pipeline, "arrivals", {**given, "seed": 2**31 - 1}).to_json()["seed"] == 2**31 - 1
        with pytest.raises(InvalidInput, match=r"seed: .* 0 to 2,147,483,647"):
            check_parameters(pipeline, "arrivals", {**given, "seed": seed})


def test_labelling_takes_a_size_and_a_mix_where_experts_have_something_to_see() -> None:
    checked = check_parameters("labelling", "reviews", {}).to_json()
    assert checked == {"count": 100, "mix": "", "since": "", "until": ""}
    given = {"count": 20, "mix": "uncertainty=0.9, random=0.1"}
    read = check_parameters("labelling", "reviews", given).to_json()
    assert read["mix"] == "uncertainty=0.9,sure_but_wrong=0,random=0.1"
    assert check_parameters("labelling", "reviews", read).to_json() == read
    for wrong, words in (
        ({"count": 0}, "count: 0 does not do. Give a whole number, 1 to 10,000"),
        ({"count": 10_001}, "1 to 10,000"),
        ({"mix": "luck=1"}, "'luck=1' is no share of a sampler"),
        ({"mix": 3}, "3 is no mix"),
        ({"seed": 1}, "seed: is no parameter of labelling"),
    ):
        with pytest.raises(InvalidInput, match=words):
            check_parameters("labelling", "reviews", wrong)
    with pytest.raises(UsageError, match="arrivals does not declare what experts see"):
        check_parameters("labelling", "arrivals", {})


def test_an_unknown_pipeline_or_use_case_is_named() -> None:
    with pytest.raises(UsageError, match="no pipeline 'mining'"):
        check_parameters("mining", "arrivals", {})
    with pytest.raises(UnknownUseCase):
        check_parameters("monitoring", "nowhere", {})


@pytest.mark.parametrize(("declared", "until"), [("2013-09-01T00:00:00Z", "2013-09-01T00:00:00Z"), ("now", "")])
def test_a_training_run_that_is_not_told_its_end_takes_the_one_that_the_split_declares(
    declared: str, until: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="until: is missing: arrivals is split by time"):
        check_parameters("training", "arrivals", {})
    ended = dataclasses.replace(load_use_case("arrivals"), split=TimeSplit(until=declared))
    monkeypatch.setattr(parameters, "load_use_case", lambda _: ended)
    assert check_parameters("training", "arrivals", {}).to_json()["until"] == until
    told = check_parameters("training", "arrivals", {"until": "2013-07-01"}).to_json()
    assert told["until"] == "2013-07-01T00:00:00Z"


def test_an_end_that_is_no_instant_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"TimeSplit: .*soon"):
        TimeSplit(until="soon")
