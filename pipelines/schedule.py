"""Recurring runs on one machine: a six-field cron expression, seconds first and in UTC, as in Kubeflow Pipelines."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from croniter import CroniterBadDateError, croniter

from ninefold.clock import Clock
from ninefold.errors import InvalidInput

log = structlog.get_logger()

_LEAP_YEAR = datetime(2000, 1, 1, tzinfo=UTC)


class Schedule:
    """When a run is due.

    Args:
        expression: Six fields: second, minute, hour, day of month, month, day of week.

    Raises:
        InvalidInput: It is not a six-field cron expression, or no instant is ever due.
    """

    def __init__(self, expression: str) -> None:
        if len(expression.split()) != 6 or not croniter.is_valid(expression, second_at_beginning=True):
            raise InvalidInput(
                "cron",
                f"{expression!r} is not a six-field cron expression.",
                remedy="Second, minute, hour, day of month, month, day of week: '0 0 3 * * 1' is Mondays at 03:00 UTC.",
            )
        self.expression = expression
        try:
            self.after(_LEAP_YEAR)
        except CroniterBadDateError as error:
            raise InvalidInput("cron", f"{expression!r} is never due.", remedy="Name a day that there is.") from error

    def after(self, instant: datetime) -> datetime:
        """The first due instant strictly after another."""
        due: datetime = croniter(self.expression, instant.astimezone(UTC), second_at_beginning=True).get_next(datetime)
        return due

    def due_between(self, start: datetime, end: datetime) -> int:
        """How many instants were due in (start, end]."""
        count, due = 0, self.after(start)
        while due <= end:
            count, due = count + 1, self.after(due)
        return count


def keep_running(
    schedule: Schedule,
    job: Callable[[datetime], None],
    *,
    clock: Clock,
    stop: threading.Event,
    wait: Callable[[float], bool] | None = None,
) -> dict[str, int]:
    """Runs a job at every due instant, one at a time, until it is told to stop.

    An instant that passes while the job before still runs is missed, counted and logged, never caught up. A job that
    fails is counted and logged, and the schedule goes on.

    Args:
        schedule: When.
        job: What; it is told the due instant.
        clock: Tells the time.
        stop: Ends it.
        wait: Waits for some seconds and returns whether to stop; by default on ``stop``.

    Returns:
        Counts: ``ran``, ``failed``, ``missed``.
    """
    counts = {"ran": 0, "failed": 0, "missed": 0}
    wait = wait or stop.wait
    due = schedule.after(clock.now())
    while not stop.is_set():
        seconds = (due - clock.now()).total_seconds()
        if seconds > 0:
            # A clock can be set back or forward: look again at least once a minute.
            if wait(min(seconds, 60.0)):
                break
            continue
        try:
            job(due)
            counts["ran"] += 1
        except Exception as error:
            # The use case's own code may raise anything, and the next instant comes all the same.
            counts["failed"] += 1
            log.error("scheduled run failed", due=due.isoformat(), error=str(error), kind=type(error).__name__)
        missed = schedule.due_between(due, clock.now())
        if missed:
            counts["missed"] += missed
            log.warning("scheduled runs missed while one was running", missed=missed)
        due = schedule.after(max(due, clock.now()))
    return counts
