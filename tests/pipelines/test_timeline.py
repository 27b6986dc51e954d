"""What is told of a story is what production holds: who stood where and when, why, and how far apart versions were."""

import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from ninefold.clock import EventClock
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.timeline import Happening, Timeline, read_timeline
from pipelines.timeline_picture import draw, write_page
from serving.rollout.controller import Controller

sys.path.append(str(Path(__file__).parents[1] / "serving" / "rollout"))
from rollout_house import DAY, POLICY, START, USE_CASE, Production, register


@pytest.fixture(scope="module")
def timeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Timeline]:
    """Version 2 is better and gets promoted; version 3 needs a toll that nobody knows, and is worse for it."""
    folder, clock = tmp_path_factory.mktemp("house"), EventClock(START)
    with open_store(f"sqlite:///{folder}/store.db", clock=clock) as store:
        for number in (1, 2):
            register(store, folder, number)
        store.set_state("parcels", 1, "live")
        production = Production(store, clock, {1: 2.0, 2: 1.6, 3: 2.6}, toll=None)
        controller = Controller(USE_CASE, store, clock=clock)
        for candidate, incumbent in ((2, 1), (3, 2)):
            if candidate == 3:
                register(store, folder, 3, inputs=("weight", "depot_size", "toll"))
            store.open_rollout(
                "parcels", incumbent=incumbent, candidate=candidate, policy=POLICY.to_json(), actor="release",
                reason="gate",
            )  # fmt: skip
            controller.look()
            while store.rollout("parcels") is not None:
                production.day()
                controller.look()
        note = Happening(at=START + 2 * DAY, version=None, what="the depot moves", why="It was small.")
        yield read_timeline(USE_CASE, store, settings(), START, clock.now(), [note])


def test_happenings_are_in_order_and_say_why(timeline: Timeline) -> None:
    told = [happening.what for happening in timeline.happenings]
    assert [happening.at for happening in timeline.happenings] == sorted(h.at for h in timeline.happenings)
    assert [what for what in told if what.startswith("version 2")] == [
        "version 2 waits, against version 1", "version 2 in shadow", "version 2 answers 20%", "version 2 answers 50%",
        "version 2 promoted",
    ]  # fmt: skip
    assert told[-1] == "version 3 rolled back"
    assert "version 3 is suspected" in told
    assert "the depot moves" in told
    why = timeline.happenings[-1].why
    assert "toll (100.0%, in training 0.0%)" in why
    assert "worse by more than the margin" in why


def test_stretches_follow_each_other_without_a_gap(timeline: Timeline) -> None:
    of_two = [(s.state, s.share) for s in timeline.stretches if s.version == 2]
    assert sorted(of_two) == sorted([("shadow", 0.0), ("canary", 0.2), ("canary", 0.5), ("live", 1.0)])
    tried = sorted((s for s in timeline.stretches if s.version == 2), key=lambda s: s.since)
    assert all(before.until == after.since for before, after in pairwise(tried))
    assert [s.state for s in timeline.stretches if s.version == 3] == ["shadow", "rolled_back"]
    assert timeline.versions == (1, 2, 3)


def test_versions_are_as_far_apart_as_their_losses_on_the_same_requests(timeline: Timeline) -> None:
    better, worse = timeline.effects
    assert (better.incumbent, better.candidate, better.outcome) == (1, 2, "promoted")
    assert (worse.incumbent, worse.candidate, worse.outcome) == (2, 3, "rolled back")
    assert better.gain == pytest.approx(0.4, abs=0.05)
    assert worse.gain == pytest.approx(-1.0, abs=0.1)
    assert better.size == pytest.approx(better.gain / better.deviation)
    assert better.days >= POLICY.minimum_blocks


def test_a_day_s_losses_are_of_what_clients_got_and_of_every_version_that_was_asked(timeline: Timeline) -> None:
    first = timeline.days.row(0, named=True)
    assert first["answered"] == pytest.approx(first["v1"])
    assert first["v2"] == pytest.approx(1.6, abs=0.2)
    assert first["v3"] is None
    last = timeline.days.row(-2, named=True)
    assert last["v1"] is None
    assert last["answered"] == pytest.approx(last["v2"])
    assert last["v3"] > last["v2"]


def test_the_picture_is_drawn_also_of_a_story_that_has_hardly_begun(timeline: Timeline, tmp_path: Path) -> None:
    page, picture = write_page(timeline, tmp_path / "made" / "timeline")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "version 3 rolled back" in page.read_text()
    empty = replace(timeline, days=timeline.days.head(0), happenings=(), stretches=(), effects=())
    assert draw(empty).startswith(b"\x89PNG")
    one = replace(timeline, days=timeline.days.head(1), stretches=timeline.stretches[:1])
    assert draw(one, kind="svg").lstrip().startswith(b"<?xml")
    assert timeline.stretches[0].until - timeline.stretches[0].since > timedelta(0)
