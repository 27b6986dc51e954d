"""Feedback: kept under a pseudonym, bounded, joined however late its prediction comes, and never more than a user's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ninefold.errors import LimitReached, UsageError
from ninefold.keys import Keys, create_key, revoke_key
from ninefold.loading import load_use_case
from ninefold.records import Prediction
from ninefold.store.erasure import erase_records, key_of
from ninefold.usecase import UseCase
from serving.collector.limits import SECONDS, Buckets, FeedbackLimits

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)


def prediction(prediction_id: str = "p1", ride: int = 1) -> Prediction:
    return Prediction(
        prediction_id=prediction_id, use_case="rides", request_id=None, key=f"{ride}|Rome", decided_at=NOON,
        received_at=NOON, version=0, cohort="live", request={"ride": ride, "city": "Rome"}, features={}, value=15.0,
    )  # fmt: skip


def truth(value: float, **more: Any) -> dict[str, Any]:
    return {"key": {"ride": 1, "city": "Rome"}, "value": value, **more}


def values(running: Any) -> list[float]:
    return [t.value for t in running.store.truth_history("rides", "1|Rome")]


async def until(holds: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits for what the collector does by itself."""
    for _ in range(int(seconds / 0.05)):
        if holds():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not happen")


async def test_feedback_with_a_value_is_a_truth_by_the_user(collector: Any) -> None:
    async with collector(clock="event") as running:
        running.store.write_predictions([prediction()])
        body = {"prediction_id": "p1", "value": 42, "text": "we stood still", "user": "ann"}
        assert (await running.post("/v1/feedback", body))["new"] == 1
        assert (await running.post("/v1/feedback", body))["repeated"] == 1
        (said,) = running.store.truth_history("rides", "1|Rome")
        assert (said.value, said.source, said.note) == (42.0, "user", "we stood still")
        assert said.known_at == NOON


async def test_a_key_that_is_revoked_while_its_request_is_read_is_refused(collector: Any) -> None:
    async with collector() as running:

        async def body() -> AsyncIterator[bytes]:
            revoke_key(running.settings.keys_file, "test")
            yield b'{"prediction_id":"p1","value":42}'

        answer = await running.http.post("/v1/feedback", content=body())
        assert answer.status_code == 401
        assert running.store.counts()["events"] == 0


async def test_a_user_is_kept_under_a_pseudonym_that_hangs_on_the_key(collector: Any) -> None:
    async with collector() as running:
        running.store.write_predictions([prediction(), prediction("p2", ride=2)])
        for identity in ("p1", "p2"):
            await running.post("/v1/feedback", {"prediction_id": identity, "value": 42, "user": "ann@example.org"})
        other = create_key(running.settings.keys_file, "another")
        await running.post(
            "/v1/feedback", {"prediction_id": "p1", "value": 43, "user": "ann@example.org"},
            headers={"X-ApiKey": other},
        )  # fmt: skip
        told = [t.annotator for key in ("1|Rome", "2|Rome") for t in running.store.truth_history("rides", key)]
        assert len(set(told)) == 2
        assert told[1] == told[2] != told[0]
        assert not any("ann" in name for name in told)


async def test_the_last_word_of_a_user_stands_and_going_back_to_an_earlier_one_is_heard(collector: Any) -> None:
    async with collector() as running:
        running.store.write_predictions([prediction()])
        for value in (10, 20, 10):
            body = {"prediction_id": "p1", "value": value, "user": "ann"}
            assert (await running.post("/v1/feedback", body))["new"] == 1
        assert (await running.post("/v1/feedback", body))["repeated"] == 1
        assert values(running) == [10.0, 20.0, 10.0]


async def test_feedback_without_a_value_is_kept_for_labelling(collector: Any) -> None:
    async with collector(clock="wall") as running:
        running.store.write_predictions([prediction()])
        body = {"feedback": [{"prediction_id": "p1", "wrong": True, "text": "nonsense"}]}
        assert (await running.post("/v1/feedback", body))["new"] == 1
        assert (await running.post("/v1/feedback", body))["repeated"] == 1
        ((event,), _) = running.store.events("rides", "feedback")
        assert event.values == {
            "prediction_id": "p1", "key": "1|Rome", "text": "nonsense", "user": None, "wrong": True
        }  # fmt: skip
        assert running.store.counts()["truths"] == 0


@pytest.mark.parametrize("service", ["in_process", "service"])
async def test_feedback_waits_for_its_prediction_and_is_joined_once_also_after_a_restart(
    collector: Any, service: str
) -> None:
    told = {"id": "f1", "prediction_id": "p1", "value": 42, "user": "ann", "text": "we stood still"}
    remark = {"prediction_id": "p2", "wrong": True, "user": "ann"}
    serving = {"windows": service}
    async with collector(serving=serving) as running:
        answer = await running.post("/v1/feedback", {"feedback": [told, remark]}, status=202)
        assert (answer["accepted"], answer["new"], answer["waiting"]) == (2, 2, 2)
        assert (await running.post("/v1/feedback", told, status=202))["repeated"] == 1
        assert running.store.counts()["truths"] == 0
        running.store.write_predictions([prediction()])
        await until(lambda: running.store.counts()["truths"] == 1)
        answer = await running.post("/v1/feedback", told)
        assert (answer["new"], answer["repeated"], answer["waiting"]) == (0, 1, 0)
    async with collector(serving=serving) as running:
        running.store.write_predictions([prediction("p2", ride=2)])
        await until(lambda: bool(running.store.events("rides", "feedback")[0]))
        (said,) = running.store.truth_history("rides", "1|Rome")
        assert (said.value, said.source, said.note) == (42.0, "user", "we stood still")
        assert said.known_at < said.received_at
        ((event,), _) = running.store.events("rides", "feedback")
        assert (event.values["key"], event.values["wrong"]) == ("2|Rome", True)
        assert event.values["user"] == said.annotator
        assert running.store.counts()["conflicts"] == 0


async def test_a_user_cannot_take_the_id_of_a_truth_that_is_to_come(collector: Any) -> None:
    async with collector(clock="event") as running:
        running.store.write_predictions([prediction()])
        await running.post("/v1/feedback", {"id": "settled-1", "prediction_id": "p1", "value": 1, "user": "eve"})
        answer = await running.post("/v1/truths", truth(20, id="settled-1", known_at="2013-07-01T12:05:00Z"))
        assert (answer["new"], answer["conflicting"]) == (1, 0)
        assert values(running) == [20.0, 1.0]


async def test_a_user_who_says_too_much_is_told_when_to_go_on_and_the_others_are_heard(collector: Any) -> None:
    async with collector(serving={"feedback_of_user": 3, "feedback_of_key": 6}) as running:
        running.store.write_predictions([prediction()])

        def said(user: str, value: int) -> dict[str, Any]:
            return {"prediction_id": "p1", "value": value, "user": user}

        for value in range(3):
            await running.post("/v1/feedback", said("eve", value))
        refused = await running.http.post("/v1/feedback", json=said("eve", 9))
        assert refused.status_code == 429
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        await running.post("/v1/feedback", said("ann", 7))
        both = {"feedback": [said("ann", 8), said("eve", 9)]}
        assert "of one user" in (await running.post("/v1/feedback", both, status=429))["error"]
        assert 8.0 not in values(running)
        await running.post("/v1/feedback", said("bob", 8))
        await running.post("/v1/feedback", said("dan", 8))
        assert "of this key" in (await running.post("/v1/feedback", said("cid", 9), status=429))["error"]


async def test_a_key_for_feedback_alone_says_nothing_that_counts_as_the_systems(collector: Any) -> None:
    async with collector() as running:
        running.store.write_predictions([prediction()])
        shown = {"X-ApiKey": create_key(running.settings.keys_file, "app", ["feedback"])}
        await running.post("/v1/feedback", {"prediction_id": "p1", "value": 1}, headers=shown)
        answer = await running.post("/v1/truths", truth(1), status=403, headers=shown)
        assert "is for feedback alone" in answer["error"]
        event = {"stream": "arrived", "happened_at": "2013-07-01T12:00:00Z", "values": {"city": "Rome", "late": 1}}
        await running.post("/v1/events", event, status=403, headers=shown)
        everything = Keys.from_file(running.settings.keys_file)
        with pytest.raises(Exception, match="is for feedback alone"):
            everything.name_of(shown["X-ApiKey"].encode())
        with pytest.raises(UsageError, match="nonsense"):
            create_key(running.settings.keys_file, "app", ["nonsense"])


async def test_what_is_no_feedback_is_refused_with_its_field(collector: Any) -> None:
    async with collector() as running:
        for field, body in (
            ("value", {"prediction_id": "p1"}),
            ("prediction_id", {"value": 3}),
            ("wrong", {"prediction_id": "p1", "wrong": "very"}),
            ("text", {"prediction_id": "p1", "text": "x" * 2_001}),
            ("value", {"prediction_id": "p1", "value": 601}),
        ):
            assert (await running.post("/v1/feedback", body, status=400))["field"] == field
        await running.post("/v1/feedback", b'{"text": "' + b"x" * 2**20 + b'"}', status=413)
        assert running.store.counts()["events"] == 0


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 4), st.floats(0, 30)), max_size=60))
def test_nobody_says_more_than_a_minutes_share_and_no_bucket_is_forgotten_before_it_is_full(
    said: list[tuple[int, int, float]],
) -> None:
    of_key, of_user, now = 6, 3, 0.0
    limits = FeedbackLimits(of_key=of_key, of_user=of_user, most_keys=1)
    admitted: list[tuple[float, int, int]] = []
    for user, count, pause in said:
        now += pause
        for _ in range(3):
            try:
                limits.take("app", {str(user): count}, now)
            except LimitReached as error:
                if error.after_seconds is None:
                    assert count > of_user
                    break
                # The key's bucket and the user's may both have to fill.
                now += error.after_seconds + 1e-6
            else:
                admitted.append((now, user, count))
                break
        else:
            raise AssertionError("who waits as long as was asked for is admitted")
    for start, _, _ in admitted:
        # A full bucket and what runs in meanwhile.
        within = [(user, count) for at, user, count in admitted if start <= at < start + SECONDS]
        assert sum(count for _, count in within) <= 2 * of_key
        for user in range(6):
            assert sum(count for who, count in within if who == user) <= 2 * of_user


def test_buckets_are_bounded() -> None:
    buckets = Buckets(3, most=10)
    for name in range(1_000):
        buckets.take(str(name), 1, 0.0)
    assert len(buckets) == 10


def test_no_use_case_gives_users_a_voice_that_could_decide() -> None:
    for name in ("arrivals", "churn"):
        policy = load_use_case(name).feedback
        assert policy.weight <= 0.5
        assert policy.most <= 0.2


async def test_who_is_forgotten_is_forgotten_also_in_what_waited(collector: Any, rides: UseCase) -> None:
    async with collector() as running:
        await running.post("/v1/feedback", {"prediction_id": "p1", "value": 42, "text": "I, Ann"}, status=202)
        await running.post("/v1/feedback", {"prediction_id": "p9", "wrong": True}, status=202)
        running.store.write_predictions([prediction()])
        await until(lambda: running.store.counts()["truths"] == 1)
        key = key_of(rides, "1|Rome", [])
        removed = erase_records(running.store, rides, key, now=datetime.now(UTC), actor="test")
        assert (removed["truths"], removed["events"], removed["predictions"]) == (1, 1, 1)
        (left, _) = running.store.events("rides", "feedback_waiting")
        assert [event.values["prediction_id"] for event in left] == ["p9"]
