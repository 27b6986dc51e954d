"""Label Studio's webhook: let in by its secret, kept as a collection keeps it, and no harm where it is wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ninefold.keys import KeysFile, create_key
from ninefold.labelling.answers import annotation_from
from ninefold.labelling.keeping import keep_annotations
from ninefold.labelling.webhook import SECRET_HEADER, webhook_secret
from ninefold.labels import LabelTask, label_task_id
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import Store, open_store
from serving.collector.app import Collector

NOW = datetime(2026, 3, 1, tzinfo=UTC)
REVIEWS = load_use_case("reviews")
TASK = LabelTask(
    task_id=label_task_id("reviews", "r1"), use_case="reviews", key="r1", prediction_id="p1", batch="b", sampler="keys",
    reason="why", score=None, inclusion_probability=None, sent_at=NOW,
)  # fmt: skip


@pytest.fixture
def store() -> Iterator[Store]:
    with open_store(settings().store_url) as opened:
        opened.record_label_tasks([TASK])
        opened.record_annotators({7: "jo@example.com"})
        yield opened


@pytest.fixture
async def client(store: Store, tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    create_key(tmp_path / "keys.json", "test")
    app = Collector(REVIEWS, settings(), store, KeysFile(tmp_path / "keys.json")).app()
    secret = webhook_secret(settings())
    assert secret is not None
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://c", headers={SECRET_HEADER: secret}) as opened:
        yield opened


def annotation(label: str | None = "great", **more: Any) -> dict[str, Any]:
    result = [{"from_name": "answer", "type": "choices", "value": {"choices": [label]}}] if label else []
    return {
        "id": 5, "result": result, "completed_by": 7, "was_cancelled": label is None,
        "updated_at": "2026-02-28T11:54:37.676558Z", **more,
    }  # fmt: skip


def call(said: dict[str, Any], action: str = "ANNOTATION_CREATED", task: str = TASK.task_id) -> dict[str, Any]:
    return {"action": action, "annotation": said, "task": {"id": 1, "data": {"ninefold_task": task}}, "project": {}}


async def told(client: httpx.AsyncClient, body: Any, status: int = 200, path: str = "reviews") -> Any:
    answer = await client.post(f"/v1/labels/{path}", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_an_answer_is_a_truth_at_once_and_once(client: httpx.AsyncClient, store: Store) -> None:
    assert await told(client, call(annotation())) == {"annotations": 1, "truths": 1, "later": 0, "unknown": 0}
    assert await told(client, call(annotation())) == {"annotations": 0, "truths": 0, "later": 0, "unknown": 0}
    [truth] = store.truths("reviews")
    assert (truth.key, truth.value, truth.source, truth.annotator) == ("r1", 1.0, "labeller", "jo@example.com")


async def test_a_changed_and_a_skipped_answer_are_kept_as_a_collection_keeps_them(
    client: httpx.AsyncClient, store: Store
) -> None:
    await told(client, call(annotation()))
    changed = annotation("other", updated_at="2026-02-28T12:00:00Z")
    assert (await told(client, call(changed, "ANNOTATION_UPDATED")))["truths"] == 1
    skipped = annotation(None, updated_at="2026-02-28T12:01:00Z")
    assert await told(client, call(skipped)) == {"annotations": 1, "truths": 0, "later": 0, "unknown": 0}
    assert [truth.value for truth in store.truth_history("reviews", "r1")] == [0.0, 1.0]


async def test_what_the_pull_brings_later_is_no_news(client: httpx.AsyncClient, store: Store) -> None:
    await told(client, call(annotation()))
    assert REVIEWS.labelling is not None
    pulled = annotation(created_username="Jo jo@example.com, 7")
    one = annotation_from(REVIEWS.labelling, TASK, pulled, {7: "jo@example.com"}, received_at=NOW)
    kept = keep_annotations(store, REVIEWS.labelling, [TASK], [one], now=NOW)
    assert (kept.new, kept.truths, store.conflicts()) == (0, 0, [])


async def test_what_only_a_collection_can_tell_waits_for_it(client: httpx.AsyncClient, store: Store) -> None:
    assert (await told(client, call(annotation(completed_by=8))))["later"] == 1
    assert (await told(client, call(annotation(), task="nobody's")))["unknown"] == 1
    assert (await told(client, {"action": "ANNOTATION_CREATED", "annotation": annotation()}))["unknown"] == 1
    assert store.counts()["annotations"] == 0


async def test_what_is_no_news_is_let_be(client: httpx.AsyncClient, store: Store) -> None:
    assert set((await told(client, {"action": "TASKS_CREATED"})).values()) == {0}


@pytest.mark.parametrize(
    ("body", "path", "status", "says"),
    [
        ([], "reviews", 400, "body"),
        ({}, "reviews", 400, "action"),
        ({"action": "ANNOTATION_CREATED"}, "reviews", 400, "annotation"),
        (call({"id": None}), "reviews", 400, "annotation.id"),
        (call(annotation()), "churn", 404, "collector of reviews"),
    ],
)
async def test_what_is_wrong_is_named(
    client: httpx.AsyncClient, store: Store, body: Any, path: str, status: int, says: str
) -> None:
    assert says in (await told(client, body, status, path))["error"]
    assert store.counts()["annotations"] == 0


async def test_only_who_has_the_secret_is_let_in(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for headers in ({SECRET_HEADER: "wrong"}, {SECRET_HEADER: ""}, {SECRET_HEADER: "é".encode()}):
        answer = await client.post("/v1/labels/reviews", json=call(annotation()), headers=headers)
        assert answer.status_code == 401
    secret = client.headers.pop(SECRET_HEADER)
    assert (await client.post("/v1/labels/reviews", json=call(annotation()))).status_code == 401
    assert secret not in str((await client.post("/v1/labels/reviews", json={})).json())
    assert store.counts()["annotations"] == 0


def test_elsewhere_than_on_a_laptop_no_secret_lets_nobody_in() -> None:
    assert webhook_secret(settings().model_copy(update={"environment": "cluster"})) is None


async def test_a_body_has_a_bound(store: Store, tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "test")
    small = settings().serving.model_copy(update={"max_body_bytes": 1_000})
    bounded = settings().model_copy(update={"serving": small})
    app = Collector(REVIEWS, bounded, store, KeysFile(tmp_path / "keys.json")).app()
    headers = {SECRET_HEADER: webhook_secret(bounded) or ""}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://c") as client:
        answer = await client.post("/v1/labels/reviews", json=call(annotation("x" * 2_000)), headers=headers)
    assert answer.status_code == 413


def test_a_use_case_without_experts_has_no_such_endpoint(store: Store, tmp_path: Path) -> None:
    create_key(tmp_path / "keys.json", "test")
    app = Collector(replace(REVIEWS, labelling=None), settings(), store, KeysFile(tmp_path / "keys.json")).app()
    assert not [route for route in app.routes if "labels" in getattr(route, "path", "")]
