"""The demo: the whole loop on two months of real flights, told as it happens, in a home of its own.

The store and the online rows of the demo are made anew each time, so that a second run tells the same story; what
pipelines cached stays, so that it is quicker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ninefold.errors import StepFailed
from ninefold.loading import load_use_case
from ninefold.settings import Settings, settings
from ninefold.store import Run
from pipelines.demo_home import own_log, say_what_it_took, shown_home, start_over, stopped_when_interrupted
from pipelines.demo_words import (
    decision_words,
    effects_table,
    happenings_table,
    loss_report,
    training_words,
    worth_table,
)
from pipelines.live_check import LiveCheck, check_live
from pipelines.progress import step_lines, working
from pipelines.replay import next_request
from pipelines.story import DAY, WEEK, Look, Story, open_story
from pipelines.timeline import NOTED, Happening, read_timeline
from pipelines.timeline_picture import write_page
from serving.supervisor.addresses import curl_line
from serving.supervisor.supervisor import Supervisor

ARRIVALS = "arrivals"
WITH_AIR_TIME = "usecases.arrivals.with_air_time:USE_CASE"

TRAINED = datetime(2013, 3, 21, 8, tzinfo=UTC)
"""Eleven weeks are known: three of winter to learn from, a month to choose on, and a month to judge on."""
BEGINS = datetime(2013, 4, 14, 8, tzinfo=UTC)
"""A first model is rarely in production the day that it is made."""
RETRAINS = datetime(2013, 6, 1, 8, tzinfo=UTC)
"""At the latest; before, when the monitor asks for it."""
AFTERWARDS = timedelta(days=7)
"""The story goes on for a while after its last decision: what happened since is no accident of a day."""
ONE_MODEL = 1
"""Models that a search fits, so that it is short and ends alike on every machine; with them the story does."""
AT_MOST = 900.0
"""Seconds that fitting it may take."""
LATEST = BEGINS + timedelta(days=110)
"""The story ends by itself long before; a candidate that nothing decides about must not hold it up for ever."""


def run_demo(console: Console, *, max_training_time: float | None, short: bool) -> None:
    """Runs the demo and leaves its services running.

    Args:
        console: Where it is told.
        max_training_time: Seconds of each search for a model; None for ``ONE_MODEL``.
        short: Ends with the first promotion.

    Raises:
        StepFailed: A step failed, or a candidate did not pass its gate.
    """
    started = time.monotonic()
    here = _settings(max_training_time)
    start_over(console, here)
    with own_log(here), stopped_when_interrupted(console, here), open_story(ARRIVALS, here, BEGINS) as story:
        told = _Telling(console, story)
        told.first_model()
        if not short:
            told.better_model()
            told.trap()
        told.afterwards()
        told.end()
    say_what_it_took(console, started)
    _next_steps(console, here, story)


class _Telling:
    """Tells the story's acts.

    Args:
        console: Where to.
        story: The story.
    """

    def __init__(self, console: Console, story: Story) -> None:
        self._console = console
        self._story = story
        self._notes: list[Happening] = []
        self._suspected: set[str] = set()

    def first_model(self) -> None:
        """The baseline serves; version 1 is tried beside it."""
        title = self._story.use_case.title
        self._chapter("1  Learn", f"{title} Version 1, by what was known on {_date(TRAINED)}")
        self._train(ARRIVALS, TRAINED)
        self._chapter("2  Serve", "the baseline answers as version 0; version 1 is asked in its shadow")
        with working(self._console, "starting gateway, model servers, front end and collector"):
            self._story.serve(ARRIVALS)
            self._story.begin(LATEST)
        self._say(self._story.look())
        self._until_decided()

    def better_model(self) -> None:
        """A month later there is more to learn from."""
        story = self._story
        if story.clock.now() < RETRAINS and story.asked_run() is None:
            # Who waits for an alert looks each day.
            with self._days(watched_after=DAY) as live:
                while story.clock.now() < RETRAINS and story.asked_run() is None:
                    live()
        self._chapter("3  Watch", "what each version's answers were worth, by the truths that came")
        self._console.print(loss_report(story.use_case, story.watched))
        for alert in story.store.alerts(story.use_case.name, standing=True):
            if alert.severity == "critical":
                self._console.print(f"[red]Alert[/red]: {alert.check}. {alert.message}", highlight=False)
        if story.asked_run() is not None:
            self._console.print("The monitor asked for a training run.", highlight=False)
        self._chapter("4  Retrain", f"version 2, by what is known on {_date(story.clock.now())}")
        self._train(ARRIVALS, story.clock.now(), story.asked_run())
        self._say(story.look())
        self._until_decided()

    def trap(self) -> None:
        """A candidate that looks best of all offline, by a field that no request can hold."""
        story = self._story
        self._chapter("5  A trap", "version 3 also takes air_time, which history holds and no request can")
        story.call_off_asked_run("The demo trains its variant instead.")
        self._train(WITH_AIR_TIME, story.clock.now())
        with working(self._console, "starting the services anew, with a front end that knows the field"):
            story.serve(WITH_AIR_TIME)
        self._note("services start anew", "A front end that knows air_time serves from now on, and both versions.")
        self._say(story.look())
        self._until_decided()

    def afterwards(self) -> None:
        """Days on which nothing is decided any more."""
        story = self._story
        end = story.clock.now() + AFTERWARDS
        with self._days() as live:
            while story.clock.now() < end:
                live()
            story.watch()

    def end(self) -> None:
        """What it was worth, and what happened when, and why."""
        story, console = self._story, self._console
        now = story.clock.now()
        self._chapter("6  Look back", f"{_date(BEGINS)} to {_date(now)}, {story.replayed.requests:,} flights")
        with working(console, "comparing live features and answers with offline ones"):
            check = self._check()
        with working(console, "drawing the timeline"):
            timeline = read_timeline(story.use_case, story.store, story.settings, BEGINS, now, self._notes)
            page, picture = write_page(timeline, story.settings.folder("reports") / story.use_case.name / "timeline")
        console.print()
        console.print(worth_table(story.use_case, check, story.replayed))
        console.print(effects_table(timeline))
        console.print(happenings_table(timeline))
        console.print(f"The same as a picture: {picture}\nwith every reason in full: {page}", highlight=False)

    def _check(self) -> LiveCheck:
        """Of the version that is live: its answers since it went live, and the features behind them."""
        story = self._story
        name = story.use_case.name
        live = story.store.live_version(name)
        since = max(
            (c.at for c in story.store.version_changes(name) if live is not None and c.version == live.version),
            default=BEGINS,
        )
        # What is served takes every field that a version may need; the baseline may be one that was made with them all.
        served = load_use_case(story.served)
        return check_live(served, story.store, story.settings, max(since, BEGINS), story.clock.now())

    def _train(self, name: str, until: datetime, run: Run | None = None) -> None:
        with step_lines(self._console) as lines:
            result = self._story.learn(name, until=until, run=run, on_step=lines)
        training_words(self._console, result)
        if result["version"] is None:
            raise StepFailed(f"The candidate was not released: {result['summary']}", remedy=f"See {result['report']}")

    def _until_decided(self) -> None:
        with self._days() as live:
            while self._story.is_open() and self._story.clock.now() < LATEST - DAY:
                live()

    @contextmanager
    def _days(self, *, watched_after: timedelta = WEEK) -> Iterator[Any]:
        """Replays day by day, with a line that moves."""
        story = self._story
        began, asked = story.clock.now(), story.replayed.requests
        started = time.monotonic()
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(),
            console=self._console, disable=not self._console.is_terminal, transient=True,
        ) as progress:  # fmt: skip
            task = progress.add_task("", total=None)

            def live() -> None:
                before = story.replayed.requests - asked

                def show(answered: int, instant: datetime) -> None:
                    rollout = f"{before + answered:,} requests"
                    progress.update(task, description=f"  {_date(instant)}, {instant:%H:%M}: {rollout}")

                self._say(story.live_a_day(show, watched_after=watched_after))

            yield live
        days, requests = (story.clock.now() - began).days, story.replayed.requests - asked
        self._console.print(
            f"  [green]✓[/green] {days} days of traffic, {requests:,} requests, truths as they landed "
            f"[dim]({time.monotonic() - started:.1f} s)[/dim]",
            highlight=False,
        )

    def _say(self, look: Look) -> None:
        words = decision_words(look)
        if look.rollout is not None and not look.moved and words:
            # What is suspected every day is told once.
            if look.rollout.rollout_id in self._suspected:
                return
            self._suspected.add(look.rollout.rollout_id)
        if words:
            self._console.print(words, highlight=False, soft_wrap=True)

    def _note(self, what: str, why: str) -> None:
        self._notes.append(Happening(at=self._story.clock.now(), version=None, what=what, why=why, place=NOTED))

    def _chapter(self, title: str, words: str) -> None:
        self._console.print()
        self._console.rule(f"[bold]{title}[/bold]: {words}", align="left")


def _settings(max_training_time: float | None) -> Settings:
    given = settings()
    bounds = {"max_training_time": max_training_time, "max_trials": 0}
    if max_training_time is None:
        bounds = {"max_training_time": AT_MOST, "max_trials": ONE_MODEL}
    monitoring = given.monitoring.model_copy(update=bounds)
    return Settings(home=given.home / "demo", clock="event", monitoring=monitoring)


def _date(instant: datetime) -> str:
    return f"{instant:%B} {instant.day}"


def _next_steps(console: Console, here: Settings, story: Story) -> None:
    served = story.served
    request = next_request(story.use_case, here.folder("data") / story.use_case.name, story.clock.now())
    console.print()
    console.print("It still serves. Ask it about the next flight (explain: the same with :explain):", highlight=False)
    console.print(curl_line(Supervisor(here, served), request), highlight=False, soft_wrap=True, markup=False)
    console.print(
        f"\nThen, with [bold]export NINEFOLD_HOME={shown_home(here)} NINEFOLD_CLOCK=event[/bold]:\n"
        "  ninefold rollout history arrivals   every decision, with its reasons\n"
        f"  ninefold monitor run arrivals --from {BEGINS:%Y-%m-%d} --to {story.clock.now():%Y-%m-%d}\n"
        "                                      judge every day anew, with Evidently's reports; then:\n"
        "  ninefold monitor ui                 how quality and drift developed\n"
        "  ninefold status                     what runs\n"
        "  ninefold down                       stop it\n"
        "  ninefold --help                     everything else; [bold].venv/bin/ninefold[/bold] where .venv is off",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
