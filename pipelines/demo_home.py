"""What demos share: a home of their own, made anew, a log of its own, and nothing left running when one breaks."""

from __future__ import annotations

import logging
import resource
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog
import typer
from rich.console import Console

from ninefold.errors import NinefoldError
from ninefold.settings import Settings
from serving.supervisor.foreground import stop


@contextmanager
def own_log(here: Settings) -> Iterator[None]:
    """What services' parts log in this process goes to a file: the story tells it in words."""
    with (here.folder("logs") / "demo.log").open("w") as file:
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
            logger_factory=structlog.WriteLoggerFactory(file=file),
        )
        try:
            yield
        finally:
            structlog.reset_defaults()


@contextmanager
def stopped_when_interrupted(console: Console, here: Settings) -> Iterator[None]:
    """A demo that did not come to its end leaves nothing running."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        stop(here)
        console.print("Interrupted; its services are stopped. Run it again to start over: what is done is cached.")
        raise typer.Exit(130) from None
    except NinefoldError:
        stop(here)
        raise


def start_over(console: Console, here: Settings) -> None:
    """Stops the demo before, and forgets its production; what pipelines cached stays."""
    if stop(here):
        console.print("Stopped the services of the demo before.")
    for path in (here.home / "feast", here.home / "journal", here.home / "gateway"):
        shutil.rmtree(path, ignore_errors=True)
    for path in here.home.glob("store.db*"):
        path.unlink()


def say_what_it_took(console: Console, started: float) -> None:
    """Time and memory.

    Args:
        console: Where to.
        started: When the demo began, by ``time.monotonic``.
    """
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 2**20
    console.print(
        f"{time.monotonic() - started:.0f} s; the largest process had {peak:.1f} GB.", highlight=False, soft_wrap=True
    )


def shown_home(here: Settings) -> Path:
    """The home as a person at this prompt would write it."""
    return here.home.relative_to(Path.cwd()) if here.home.is_relative_to(Path.cwd()) else here.home
