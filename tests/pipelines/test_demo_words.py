"""The demo says what was decided and why, and nothing where a look found nothing new."""

import io
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from ninefold.clock import EventClock
from ninefold.settings import settings
from ninefold.store import open_store
from pipelines.demo_words import decision_words, effects_table, happenings_table
from pipelines.story import Look
from pipelines.timeline import Happening, read_timeline
from serving.rollout.controller import Controller

sys.path.append(str(Path(__file__).parents[1] / "serving" / "rollout"))
from rollout_house import POLICY, START, USE_CASE, Production, register


def _text(table: Table) -> str:
    written = io.StringIO()
    Console(width=160, file=written).print(table)
    return written.getvalue()


@pytest.fixture
def production(tmp_path: Path) -> Iterator[Production]:
    clock = EventClock(START)
    with open_store(f"sqlite:///{tmp_path}/store.db", clock=clock) as store:
        register(store, tmp_path, 1)
        register(store, tmp_path, 2, inputs=("weight", "depot_size", "toll"))
        store.set_state("parcels", 1, "live")
        store.open_rollout("parcels", incumbent=1, candidate=2, policy=POLICY.to_json(), actor="release", reason="gate")
        yield Production(store, clock, {1: 2.0, 2: 2.6}, toll=None)


def test_every_turn_is_told_with_its_reasons(production: Production) -> None:
    store, clock = production.store, production.clock
    controller = Controller(USE_CASE, store, clock=clock)
    told = []
    while (rollout := store.rollout("parcels")) is not None:
        told.append(decision_words(Look(at=clock.now(), rollout=rollout, decision=controller.look())))
        production.day()
    assert "is asked in the shadow of version 1" in told[0]
    assert any("version 2 is suspected" in words and "toll (100.0%" in words for words in told)
    assert "version 2 is rolled back" in told[-1]
    assert "worse by more than the margin" in told[-1]
    assert decision_words(Look(at=clock.now(), rollout=None, decision=controller.look())) == ""
    note = Happening(at=clock.now(), version=None, what="a note", why="[odd] words")
    timeline = read_timeline(USE_CASE, store, settings(), START, clock.now() + timedelta(days=1))
    shown = _text(happenings_table(replace(timeline, happenings=(*timeline.happenings, note))))
    assert "version 2 rolled back" in shown
    assert "version 2 waits" not in shown
    assert "[odd] words" in shown
    assert "rolled back" in _text(effects_table(timeline))


def test_a_look_that_found_nothing_new_is_not_told(production: Production) -> None:
    production.toll = 1.0
    controller = Controller(USE_CASE, production.store, clock=production.clock)
    controller.look()
    production.day()
    rollout = production.store.rollout("parcels")
    assert decision_words(Look(at=production.clock.now(), rollout=rollout, decision=controller.look())) == ""
