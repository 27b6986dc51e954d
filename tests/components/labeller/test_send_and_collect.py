"""Sending and collecting, and what goes wrong in between, over real HTTP and a real store."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from components.labeller.collect import Collected
from components.labeller.collect import collect as collect_all
from components.labeller.commands import app
from components.labeller.connection import connect
from components.labeller.label_studio import Interrupted, LabelStudio
from components.labeller.selection import by_condition, by_keys, label_tasks, pool_of
from components.labeller.send import Sent
from components.labeller.send import send as send_tasks
from ninefold.errors import ConfigurationError, NotFound, Unavailable, UsageError
from ninefold.loading import load_use_case
from ninefold.records import Prediction, Truth
from ninefold.settings import settings
from ninefold.store import Store
from ninefold.store.erasure import erase_records, key_of
from ninefold.usecase import UseCase

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
REVIEWS = load_use_case("reviews")


def keys(count: int) -> list[str]:
    return [f"r{i:03}" for i in range(count)]


def send(store: Store, names: Sequence[str], use_case: UseCase = REVIEWS, tell: Callable[[str], None] = print) -> Sent:
    picks = by_keys(store, REVIEWS, names).picks if names else []
    with connect(settings()) as studio:
        return send_tasks(store, use_case, studio, label_tasks("reviews", picks, "b1", NOW), settings(), tell)


def collect(store: Store, use_case: UseCase = REVIEWS) -> Collected:
    with connect(settings()) as studio:
        return collect_all(store, use_case, studio, now=NOW)


def asked(studio: Any) -> list[str]:
    return sorted(task["data"]["key"] for task in studio.tasks)


def test_two_hundred_tasks_sent_and_collected_twice_are_two_hundred_truths(store: Store, studio: Any) -> None:
    first = send(store, keys(200))
    assert (first.new, first.imported, first.waiting, first.repeated) == (200, 200, 200, 0)
    assert (send(store, keys(200)).imported, len(studio.tasks), len(studio.projects)) == (0, 200, 1)
    for number, task in enumerate(studio.tasks):
        studio.say(task, "great" if number % 3 else "other")
    assert (collect(store).truths, collect(store).truths) == (200, 0)
    truths = list(store.truths("reviews"))
    assert len(truths) == store.counts()["truths"] == store.counts()["annotations"] == 200
    assert {(t.source, t.annotator) for t in truths} == {("labeller", "admin@localhost")}
    assert sum(t.value for t in truths) == 133


def test_what_was_sent_before_is_not_picked_again(store: Store, studio: Any) -> None:
    send(store, keys(3))
    found = by_keys(store, REVIEWS, ["r001", "r003", "r003", " ", "nobody"])
    assert ([p.key for p in found.picks], found.asked, found.unknown) == (["r003"], ["r001"], ["nobody"])
    assert set(keys(3)).isdisjoint(pool_of(store, REVIEWS).keys)


def test_samplers_pick_from_what_has_no_truth_and_see_what_users_said(store: Store) -> None:
    def told(key: str, source: Any) -> Truth:
        return Truth(truth_id=key, use_case="reviews", key=key, value=0.0, known_at=NOW, received_at=NOW, source=source)

    store.write_truths([told("r000", "system"), told("r001", "labeller"), told("r002", "user")])
    pool = pool_of(store, REVIEWS)
    assert len(pool) == 248
    assert pool.known is not None
    assert {key: value for key, value in zip(pool.keys, pool.known, strict=True) if value == value} == {"r002": 0.0}
    assert pool.traits is not None
    assert all(pool.traits)
    assert len(pool_of(store, REVIEWS, since=NOW - timedelta(hours=12) + timedelta(minutes=240))) == 10


def test_the_newest_answer_of_a_key_is_what_counts_and_shadows_do_not(store: Store) -> None:
    [old] = store.predictions("reviews", key="r005")
    newer = replace(old, prediction_id="newer", decided_at=NOW, value=0.1)
    store.write_predictions([newer, replace(newer, prediction_id="shadow", cohort="shadow", value=0.9)])
    assert by_keys(store, REVIEWS, ["r005"]).picks[0].prediction_id == "newer"
    found = by_condition(store, REVIEWS, lambda p: p.value > 0.505 and p.key == "r005", "…", 10)
    assert found.picks == []
    [one] = by_condition(store, REVIEWS, lambda p: p.value < 0.2, "prediction < 0.2", 10).picks
    assert (one.prediction_id, one.reason) == ("newer", "Somebody asked for: prediction < 0.2")
    newest = by_condition(store, REVIEWS, lambda p: p.key < "r010", "…", 3)
    assert [p.key for p in newest.picks] == ["r005", "r009", "r008"]


@pytest.mark.parametrize("faults", [["cut"], ["lost"], ["ok", "cut", "lost"], ["lost", "lost", "cut", "cut"]])
def test_an_import_that_breaks_off_brings_each_task_once(store: Store, studio: Any, faults: list[str]) -> None:
    studio.faults = list(faults)
    told: list[str] = []
    sent = send(store, keys(250), tell=told.append)
    assert asked(studio) == keys(250)
    assert (sent.imported, sent.waiting) == (250, 250)
    assert sum("broke off" in line for line in told) == len(faults) - faults.count("ok")


def test_an_import_that_breaks_off_for_ever_ends_and_the_next_send_goes_on(store: Store, studio: Any) -> None:
    studio.faults = ["ok", *["lost"] * 20]
    with pytest.raises(Interrupted, match="broke off in POST"):
        send(store, keys(250))
    assert (len(studio.tasks), store.counts()["label_tasks"]) == (100, 250)
    studio.faults = []
    assert (send(store, []).imported, asked(studio)) == (150, keys(250))


def test_one_that_came_in_twice_goes_unless_somebody_answered_it(store: Store, studio: Any) -> None:
    send(store, keys(3))
    copies = [{**task, "id": studio.number(), "annotations": []} for task in studio.tasks]
    studio.say(copies[0], "great")
    studio.tasks += copies
    send(store, [])
    assert asked(studio) == ["r000", "r000", "r001", "r002"]
    assert collect(store).truths == 1


def test_without_label_studio_nothing_is_half_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NINEFOLD_LABELLING__URL", "http://127.0.0.1:1")
    monkeypatch.setenv("NINEFOLD_LABELLING__TOKEN", "x" * 40)
    settings.cache_clear()
    for act in (lambda: send(store, keys(3)), lambda: collect(store)):
        with pytest.raises(Unavailable, match=r"does not answer at http://127.0.0.1:1 .*ninefold label up"):
            act()
    assert store.counts()["label_tasks"] == 0
    assert store.lease("label-send/reviews") is None


def test_one_that_restarts_is_waited_for_and_one_that_was_never_there_is_not() -> None:
    times = itertools.count()
    waited: list[float] = []
    gone = LabelStudio("http://127.0.0.1:1", "x", sleep=waited.append, monotonic=lambda: float(next(times)))
    with gone, pytest.raises(Unavailable, match="Start it with"):
        gone.version()
    assert waited == []
    gone = LabelStudio("http://127.0.0.1:1", "x", sleep=waited.append, monotonic=lambda: float(next(times)))
    gone._answered = True
    with gone, pytest.raises(Unavailable, match="the same command goes on"):
        gone.version()
    assert waited[:5] == [0.5, 1.0, 2.0, 4.0, 5.0]
    assert 20 < len(waited) < 61


def test_a_wrong_token_and_something_else_at_the_address_are_named(studio: Any) -> None:
    with LabelStudio(studio.url, "wrong") as other, pytest.raises(ConfigurationError, match="does not admit"):
        other.version()


def test_a_project_edited_by_hand_is_found_and_brought_back(store: Store, studio: Any) -> None:
    send(store, keys(2))
    declared = dict(studio.projects[0])
    studio.projects[0] |= {"title": "Mine", "label_config": "<View/>", "maximum_annotations": 3}
    send(store, [])
    assert studio.projects == [declared]
    studio.projects[0] |= {"description": "Ours"}
    send(store, [])
    assert studio.projects == [declared]
    told: list[str] = []
    studio.refuses_config = True
    studio.projects[0] |= {"label_config": "<View/>"}
    assert send(store, keys(3), tell=told.append).imported == 1
    assert "keeps its label config, which somebody edited" in told[0]


def test_a_project_deleted_by_hand_is_made_again_with_what_is_open(store: Store, studio: Any) -> None:
    send(store, keys(4))
    studio.say(studio.tasks[0], "great")
    studio.say(studio.tasks[1], None)
    collect(store)
    studio.projects, studio.tasks = [], []
    with pytest.raises(NotFound, match="has no project of reviews"):
        collect(store)
    assert (send(store, []).imported, asked(studio)) == (2, ["r002", "r003"])
    assert store.counts()["truths"] == 1


def test_answers_that_are_not_offered_are_kept_counted_and_never_a_truth(store: Store, studio: Any) -> None:
    send(store, keys(5))
    for task, label in zip(studio.tasks, ["superb", None, "great", "other", None], strict=True):
        studio.say(task, label)
    studio.tasks.append(
        {"id": 999, "project": studio.projects[0]["id"], "data": {"text": "by hand"}, "annotations": []}
    )
    studio.say(studio.tasks[-1], "great")
    studio.tasks[3]["annotations"][0]["completed_by"] = None
    collected = collect(store)
    assert collected.states == {
        "settled": 1, "waiting": 0, "conflicting": 0, "skipped": 2, "outside": 1, "unanswered": 1,
    }  # fmt: skip
    assert (collected.unknown, collected.unreadable, collected.truths) == (1, 1, 1)
    assert {a.outcome: a.label for a in store.annotations("reviews")}["outside"] == "superb"


def test_a_changed_annotation_supersedes_and_back_again(store: Store, studio: Any) -> None:
    send(store, keys(1))
    [task] = studio.tasks
    for minute, label in enumerate(["great", "other", "great"]):
        studio.say(task, label, at=f"2026-03-01T10:0{minute}:00Z")
        collect(store)
    assert [truth.value for truth in store.truth_history("reviews", "r000")] == [1.0, 0.0, 1.0]
    assert (store.counts()["annotations"], next(iter(store.truths("reviews"))).value) == (3, 1.0)
    # Somebody who says the same later is no news.
    studio.say(task, "great", by=2, at="2026-03-01T10:04:00Z")
    assert (collect(store).truths, store.counts()["annotations"]) == (0, 4)
    studio.say(task, None, by=2, at="2026-03-01T10:05:00Z")
    studio.say(task, None, at="2026-03-01T10:05:00Z")
    assert (collect(store).states["skipped"], store.counts()["truths"]) == (1, 3)


def test_several_annotators_agree_or_not(store: Store, studio: Any) -> None:
    assert REVIEWS.labelling is not None
    twice = replace(REVIEWS, labelling=replace(REVIEWS.labelling, annotators=2))
    send(store, keys(5), twice)
    assert studio.projects[0]["maximum_annotations"] == 2
    said = [("great", "great"), ("other", "other"), ("great", "other"), ("great", "great")]
    for task, (one, two) in zip(studio.tasks, said, strict=False):
        studio.say(task, one, by=1)
        studio.say(task, two, by=2)
    studio.say(studio.tasks[4], "great")
    collected = collect(store, twice)
    assert (collected.states["settled"], collected.states["conflicting"], collected.states["waiting"]) == (3, 1, 1)
    assert collected.agreement.alpha == pytest.approx(1 - (2 / 8) / (2 * 5 * 3 / 56))
    assert [(a.name, a.labelled, a.agreed, a.compared) for a in collected.annotators] == [
        ("admin@localhost", 5, 3, 3), ("jo@localhost", 4, 3, 3),
    ]  # fmt: skip
    assert {truth.annotator for truth in store.truths("reviews")} == {"admin@localhost, jo@localhost"}


def test_what_is_erased_is_erased_in_label_studio_too(store: Store, studio: Any) -> None:
    send(store, keys(3))
    for task in studio.tasks:
        studio.say(task, "great")
    collect(store)
    removed = erase_records(store, REVIEWS, key_of(REVIEWS, "r001", []), now=datetime.now(UTC), actor="me")
    assert (removed["label_tasks"], removed["annotations"], removed["truths"]) == (1, 1, 1)
    assert collect(store).erased == 1
    assert asked(studio) == ["r000", "r002"]
    assert store.counts()["annotations"] == store.counts()["truths"] == 2


def test_a_task_whose_prediction_is_gone_is_counted(store: Store, studio: Any) -> None:
    tasks = label_tasks("reviews", by_keys(store, REVIEWS, keys(2)).picks, "b1", NOW)
    store.record_label_tasks([replace(tasks[0], prediction_id="pruned"), tasks[1]])
    sent = send(store, [])
    assert (sent.imported, sent.lost, asked(studio)) == (1, 1, ["r001"])


def test_two_sends_at_once_are_refused(store: Store, studio: Any) -> None:
    store.take_lease("label-send/reviews", "somebody", timedelta(minutes=1))
    with pytest.raises(Unavailable, match="Another send"):
        send(store, keys(1))


def test_a_use_case_that_declares_nothing_is_told_so(store: Store, studio: Any) -> None:
    with pytest.raises(UsageError, match=r"labelling=LabellingInterface"):
        send(store, [], replace(REVIEWS, labelling=None))


def test_the_webhook_is_made_once_and_follows_its_secret(
    store: Store, studio: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(store, keys(1))
    assert studio.webhooks == []
    monkeypatch.setenv("NINEFOLD_LABELLING__WEBHOOK_URL", "http://collector:8081/")
    for secret in ("one", "one", "two"):
        monkeypatch.setenv("NINEFOLD_LABELLING__WEBHOOK_SECRET", secret)
        settings.cache_clear()
        send(store, [])
    [hook] = studio.webhooks
    assert (hook["url"], hook["headers"]) == ("http://collector:8081/v1/labels/reviews", {"X-Ninefold-Webhook": "two"})
    assert studio.calls.count(f"PATCH /api/webhooks/{hook['id']}") == 1


class TestCommands:
    def run(self, *arguments: str, code: int = 0, text: str | None = None) -> str:
        result = CliRunner().invoke(app, list(arguments), input=text)
        assert result.exit_code == code, result.output + repr(result.exception)
        return result.output if code == 0 else f"{result.output}{result.exception}"

    def test_a_mix_of_samplers_picks_and_experts_are_told_where(self, store: Store, studio: Any) -> None:
        said = self.run("send", "reviews", "--count", "20", "--batch", "first")
        assert "20 new tasks in batch first; 20 sent to Label Studio, 20 there." in said
        by = {task.sampler for task in store.label_tasks("reviews", "first")}
        assert by == {"uncertainty", "random"}
        assert all(task.inclusion_probability is not None for task in store.label_tasks("reviews"))
        for task in studio.tasks:
            studio.say(task, "great")
        said = self.run("collect", "reviews")
        assert "20 annotations, 20 truths" in said

    def test_by_hand(self, store: Store, studio: Any, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text("r001\nr002\n\nnobody\n")
        said = self.run("send", "reviews", "--keys", str(tmp_path / "keys"))
        assert "2 new tasks" in said
        assert "Nothing was predicted for 1 keys: nobody" in said
        assert "1 new tasks" in self.run("send", "reviews", "--keys", "-", text="r002\nr003\n")
        assert "5 new tasks" in self.run("send", "reviews", "--where", "prediction > 0.8", "--count", "5")
        assert [t.sampler for t in store.label_tasks("reviews")].count("where") == 5

    @pytest.mark.parametrize(
        ("arguments", "says"),
        [
            (["--keys", "x", "--where", "version = 1"], "Two ways of picking"),
            (["--count", "0"], "--count is 0"),
            (["--keys", "/nowhere"], "can't be read"),
            (["--where", "price = 1"], "there is no 'price'"),
            (["--sampler", "clever"], "clever"),
        ],
    )
    def test_what_can_t_be_asked_for(self, store: Store, studio: Any, arguments: list[str], says: str) -> None:
        assert says in self.run("send", "reviews", *arguments, code=1)
        assert store.counts()["label_tasks"] == 0


def test_predictions_of_other_use_cases_are_not_asked_about(store: Store, studio: Any) -> None:
    [one] = store.predictions("reviews", key="r000")
    other: Prediction = replace(one, prediction_id="x", use_case="churn", key="c1")
    store.write_predictions([other])
    assert by_keys(store, REVIEWS, ["c1"]).unknown == ["c1"]
