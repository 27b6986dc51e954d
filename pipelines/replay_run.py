"""Replaying against the services of this machine: sessions, rows and progress around ``pipelines.replay``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from components.featurizer.materialize import BatchRowFeed, materialize_windows
from ninefold.clock import format_instant
from ninefold.errors import DataError, UsageError
from ninefold.keys import local_key
from ninefold.online import OnlineStore, open_online_store
from ninefold.settings import Settings
from ninefold.store import open_store
from ninefold.usecase import UseCase
from pipelines.http_session import HttpSession
from pipelines.replay import Replayed, Replayer, read_traffic


@contextmanager
def open_replay(use_case: UseCase, since: datetime, until: datetime, *, settings: Settings) -> Iterator[Replayer]:
    """A replay of [since, until) through the services that run on this machine, seeded and ready to run.

    Raises:
        UsageError: The services do not run in event time, or were told of later events already.
        Unavailable: They do not run.
        DataError: There is no history on this machine.
    """
    if settings.clock != "event":
        raise UsageError(
            "A replay needs services in event time.", remedy="Start them with: NINEFOLD_CLOCK=event ninefold up"
        )
    data = settings.folder("data") / use_case.name
    if not (data / "requests.parquet").exists():
        raise DataError(
            f"There is no history of {use_case.name} in {data}.",
            remedy=f"Make it with: ninefold run training {use_case.name}",
        )
    traffic = read_traffic(use_case, data, since, until)
    with ExitStack() as opened:
        online = opened.enter_context(closing(open_online_store(settings.online_url)))
        front_end = opened.enter_context(closing(front_end_session(settings)))
        collector = opened.enter_context(closing(_session(settings, settings.ports.collector)))
        _refuse_the_past(use_case, since, online)
        _rewind(use_case, since, online, settings)
        replayer = Replayer(
            use_case,
            traffic,
            front_end=front_end,
            collector=collector,
            rows=BatchRowFeed(use_case, settings),
            online=online,
        )
        replayer.seed(since)
        yield replayer


def front_end_session(settings: Settings) -> HttpSession:
    """A session to this machine's front end, with the local key."""
    return _session(settings, settings.ports.front_end)


def _session(settings: Settings, port: int) -> HttpSession:
    return HttpSession(f"http://{settings.host}:{port}", local_key(settings.home, settings.keys_path))


def replay_here(
    use_case: UseCase, since: datetime, until: datetime, *, settings: Settings, console: Console
) -> Replayed:
    """Replays a stretch of history, with the truths that came after it, through the services of this machine.

    Raises:
        UsageError: The services do not run in event time, or were told of later events already.
        Unavailable: They do not run.
        DataError: There is no history on this machine.
    """
    with open_replay(use_case, since, until, settings=settings) as replayer:
        total = replayer.requests
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[at]}"),
            TimeElapsedColumn(), console=console, disable=not console.is_terminal,
        ) as progress:  # fmt: skip
            task = progress.add_task(f"  {total:,} requests", total=total, at=format_instant(since))

            def show(answered: int, instant: datetime) -> None:
                progress.update(task, completed=answered, at=format_instant(instant))

            return replayer.run(on_progress=show)


def _rewind(use_case: UseCase, since: datetime, online: OnlineStore, settings: Settings) -> None:
    """Brings the online rows to where they stood when the stretch began.

    A release brings rows online up to the end of what it learned from, which may lie after the stretch; a request would
    find rows from its future. The windows of keys that fell silent before are written, too: the stream starts with the
    events that are still in its windows.
    """
    with closing(open_store(settings.store_url)) as store:
        wanted = [version.lengths for version in store.versions(use_case.name) if version.state != "retired"]
    for view in {view.view for lengths in wanted for view in use_case.feature_views(lengths)}:
        online.forget(view)
    for lengths in wanted:
        materialize_windows(use_case, settings, lengths, since)


def _refuse_the_past(use_case: UseCase, since: datetime, online: OnlineStore) -> None:
    """Windows only go forward: what was replayed can't be replayed into the same online rows."""
    known = online.watermarks([view.view for view in use_case.feature_views() if view.source == "window"])
    latest = max((instant for instant in known.values() if instant is not None), default=None)
    if latest is not None and latest > since:
        raise UsageError(
            f"The windows have come to {format_instant(latest)}; they can't go back to {format_instant(since)}.",
            remedy="Replay from there on, or start over with another NINEFOLD_HOME.",
        )
