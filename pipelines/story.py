"""The acts of the demo: learning, days of traffic, looks at the rollout, and what the monitor sees. In event time.

A day of the story begins at 8:00 UTC, four in the morning in New York, when nobody departs. All that happens in it is
replayed, then the controller looks, and what it decides is served before the next day begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from components.monitor.run import Watched, watch
from components.monitor.windows import floor
from ninefold.clock import EventClock, format_instant
from ninefold.errors import StepFailed
from ninefold.loading import load_use_case
from ninefold.rollout.decide import RolloutDecision
from ninefold.settings import Settings
from ninefold.store import Run, Store, StoredRollout, open_store
from ninefold.usecase import UseCase
from pipelines.following import wait_until_kept, wait_until_served
from pipelines.http_session import HttpSession
from pipelines.launch import execute_run, request_run
from pipelines.replay import Replayed, Replayer
from pipelines.replay_run import front_end_session, open_replay
from pipelines.run import Step
from serving.rollout.controller import Controller
from serving.rollout.obstacle import OnlineObstacle
from serving.supervisor.foreground import start_detached, stop

DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look at the end of a day.

    Args:
        at: When, in event time.
        rollout: The rollout as it stood before; None where none was open.
        decision: What was decided; None where nothing was.
    """

    at: datetime
    rollout: StoredRollout | None
    decision: RolloutDecision | None

    @property
    def moved(self) -> bool:
        """Whether the rollout went on, or ended."""
        return self.decision is not None and self.decision.action != "hold"


@dataclass(slots=True)
class Story:
    """Where the story stands; its acts are its methods.

    Args:
        name: Name or import path of the use case whose traffic is replayed.
        settings: Where things lie and listen; how long and how far the search of a run may go that the monitor asks
            for, and of every other one of the story.
        clock: Event time.
        store: The production database, on that clock.
        replayed: All traffic so far.
        watched: Runs of the monitor, oldest first.
        served: Name or import path that the services run with; empty before they run.
    """

    name: str
    settings: Settings
    clock: EventClock
    store: Store
    replayed: Replayed = field(default_factory=lambda: Replayed(requests=0, events=0, truths=0, rows=0))
    watched: list[Watched] = field(default_factory=list)
    served: str = ""
    _replayer: Replayer | None = None
    _controller: Controller | None = None
    _monitored: datetime | None = None
    _open: ExitStack = field(default_factory=ExitStack)

    @property
    def use_case(self) -> UseCase:
        """Whose traffic is replayed."""
        return load_use_case(self.name)

    def learn(
        self, name: str, *, until: datetime, run: Run | None = None, on_step: Callable[[Step], None]
    ) -> dict[str, Any]:
        """Trains, and returns the run's result.

        Args:
            name: Name or import path of the use case.
            until: What was known then is used.
            run: A run that the monitor asked for; None to ask for one.
            on_step: Told whenever a step starts or ends.

        Raises:
            StepFailed: A step failed.
        """
        if run is None:
            bounds = self.settings.monitoring
            asked = {
                "until": format_instant(until),
                "max_training_time": bounds.max_training_time,
                "max_trials": bounds.max_trials,
            }
            run = request_run("training", name, asked, store=self.store, clock=EventClock(until))
        ended = execute_run(run, store=self.store, settings=self.settings, on_step=on_step)
        if ended is None:
            raise StepFailed("Another process took the demo's run.", remedy="Run one demo at a time.")
        return ended[1]

    def serve(self, name: str) -> None:
        """Starts the services with a use case; those that run with another one are stopped first."""
        if self.served:
            stop(self.settings)
        start_detached(self.settings, name, model_only=False)
        self.served = name
        if self._controller is not None:
            self._controller.close()
        use_case = load_use_case(name)
        obstacle = OnlineObstacle(self.settings, use_case)
        self._controller = Controller(use_case, self.store, clock=self.clock, obstacle=obstacle, holder="demo")

    def begin(self, until: datetime) -> None:
        """Opens the replay from now on; it can go on until then."""
        self._replayer = self._open.enter_context(
            open_replay(self.use_case, self.clock.now(), until, settings=self.settings)
        )
        self._monitored = floor(self.clock.now(), "day") + DAY

    def look(self) -> Look:
        """The controller looks at the rollout; returns when what it decided is served."""
        with self._front_end() as front_end:
            wait_until_served(front_end, self.store, self.use_case.name)
            wait_until_kept(front_end, self.use_case.name)
            before = self.store.rollout(self.use_case.name)
            decision = self._controller.look() if self._controller is not None else None
            found = Look(at=self.clock.now(), rollout=before, decision=decision)
            if found.moved:
                wait_until_served(front_end, self.store, self.use_case.name)
        return found

    def live_a_day(
        self, on_progress: Callable[[int, datetime], None] = lambda *_: None, *, watched_after: timedelta = WEEK
    ) -> Look:
        """Replays a day, and looks; then the monitor judges, where it has not for a while.

        Args:
            on_progress: Told (requests answered on this day, event time).
            watched_after: How long the monitor waits; it judges each whole day, however many there are.
        """
        until = self.clock.now() + DAY
        if self._replayer is None:
            raise StepFailed("No replay was begun.")
        self.replayed += self._replayer.run(until, on_progress)
        self.clock.advance(until)
        look = self.look()
        if self._monitored is not None and until - self._monitored >= watched_after:
            self.watch()
        return look

    def watch(self) -> Watched | None:
        """The monitor judges the whole days since its last run, by the truths that are known now."""
        since, until = self._monitored, floor(self.clock.now(), "day")
        if since is None or until - since < DAY:
            return None
        found = watch(
            self.served, self.store, self.settings, since, until,
            clock=self.clock, known_until=self.clock.now(), reports=False,
        )  # fmt: skip
        self._monitored = until
        self.watched.append(found)
        return found

    def asked_run(self) -> Run | None:
        """A training run that the monitor asked for and nobody has begun."""
        asked = self.store.runs(pipeline="training", state="requested")
        return asked[0] if asked else None

    def call_off_asked_run(self, why: str) -> None:
        """A run that the monitor asked for while a better version was tried already is not begun."""
        run = self.asked_run()
        if run is not None:
            self.store.update_run(run.run_id, state="failed", expected="requested", error=why)

    def is_open(self) -> bool:
        """Whether a rollout waits or goes on."""
        return self.store.rollout(self.use_case.name) is not None

    def close(self) -> None:
        """Ends the replay's connections; the services go on."""
        if self._controller is not None:
            self._controller.close()
        self._open.close()

    @contextmanager
    def _front_end(self) -> Iterator[HttpSession]:
        with closing(front_end_session(self.settings)) as opened:
            yield opened


@contextmanager
def open_story(name: str, settings: Settings, begins: datetime) -> Iterator[Story]:
    """A story that begins at an instant of event time."""
    clock = EventClock(begins)
    with closing(open_store(settings.store_url, clock=clock)) as store:
        story = Story(name=name, settings=settings, clock=clock, store=store)
        try:
            yield story
        finally:
            story.close()
