"""Puts a front end together from the settings: what it opens, and in which order it is closed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog

from ninefold.clock import EventClock, WallClock
from ninefold.errors import ConfigurationError
from ninefold.keys import KeysFile, service_key
from ninefold.online import open_online_store
from ninefold.package.remote import fetch_package
from ninefold.routes import InnerGateway
from ninefold.settings import Settings
from ninefold.store import open_store
from ninefold.store.journal import Journal
from ninefold.store.shipper import Shipper
from ninefold.usecase import UseCase
from serving.front_end.answer import Answers
from serving.front_end.app import FrontEnd
from serving.front_end.directions import CANDIDATE, LIVE
from serving.front_end.explanation import Explanations
from serving.front_end.feature_answers import FeatureAnswers
from serving.front_end.keeper import Keeper
from serving.front_end.metrics import Metrics
from serving.front_end.openapi import document
from serving.front_end.prepared import Preparer
from serving.front_end.recording import Recorder
from serving.front_end.route_follower import RouteFollower
from serving.front_end.shadow import Shadow
from serving.front_end.together import Together
from serving.front_end.validation import RequestParser
from serving.front_end.versions import Versions

log = structlog.get_logger()

_SHIP_AT_END_SECONDS = 15.0
_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


def assemble(use_case: UseCase, settings: Settings) -> FrontEnd:
    """A front end that is ready to serve; use it from the thread that made it.

    Raises:
        ConfigurationError: Keys are missing or broken.
        StoreError: The journal belongs to another process or can't be written, or online rows can't be opened.
    """
    bounds = settings.serving
    metrics = Metrics(use_case.name)
    keys_file = settings.keys_path
    model_key = service_key(settings)
    keys = KeysFile(keys_file)
    folder = settings.folder("journal") / use_case.name
    journal = Journal(folder, segment_bytes=settings.journal.segment_bytes, fsync=settings.journal.fsync)
    # The store may be out of reach for as long as the journal has room: answers wait for no database.
    shipper = Shipper(
        folder,
        lambda: open_store(settings.store_url, durable=settings.journal.fsync),
        ship_seconds=settings.journal.ship_seconds,
    )
    metrics.journal_lag = lambda: (shipper.lag_bytes, shipper.lag_seconds)
    versions = Versions(
        use_case,
        routes=_routes(use_case, settings),
        online=open_online_store(settings.online_url),
        model_key=model_key,
        model_timeout=bounds.model_timeout_seconds,
        stale_after=timedelta(seconds=bounds.stale_after_seconds),
        metrics=metrics,
    )
    replayed = settings.clock == "event" and use_case.decided_at is not None
    preparer = Preparer(use_case, versions, EventClock(_BEGINNING) if replayed else WallClock())
    parser = RequestParser(use_case.request, name=use_case.name, max_instances=bounds.max_instances)
    recorder = Recorder(use_case)
    keeper = Keeper(journal, fsync=settings.journal.fsync, metrics=metrics)
    together = {cohort: Together(preparer, metrics) for cohort in (LIVE, CANDIDATE)}
    # A request of the candidate's own cohort may hang with it: nobody holds back for that.
    live = together[LIVE]
    shadow = Shadow(preparer, recorder=recorder, keeper=keeper, metrics=metrics, busy=lambda: live.busy)
    metrics.shadow_waiting = lambda: shadow.waiting
    answers = Answers(
        use_case,
        parser=parser,
        versions=versions,
        together=together,
        recorder=recorder,
        keeper=keeper,
        shadow=shadow,
        metrics=metrics,
    )

    follower = _follower(use_case, settings)

    def open_() -> None:
        shipper.start()
        if follower is not None:
            follower.start()

    def close() -> None:
        if follower is not None:
            follower.stop()
        if not shipper.stop(timeout=_SHIP_AT_END_SECONDS):
            log.warning("the journal is not shipped; the next start does it", bytes=shipper.lag_bytes)
        journal.close()

    return FrontEnd(
        use_case,
        keys=keys,
        versions=versions,
        answers=answers,
        shadow=shadow,
        explanations=Explanations(
            use_case,
            parser=parser,
            versions=versions,
            preparer=preparer,
            recorder=recorder,
            answers=answers,
            metrics=metrics,
            max_instances=bounds.max_instances,
        ),
        feature_answers=FeatureAnswers(
            use_case, versions=versions, preparer=preparer, max_instances=bounds.max_instances
        ),
        metrics=metrics,
        openapi=document(use_case, max_instances=bounds.max_instances),
        max_body_bytes=bounds.max_body_bytes,
        open_=open_,
        close=close,
        behind=lambda: None if follower is None else follower.problem,
    )


def _follower(use_case: UseCase, settings: Settings) -> RouteFollower | None:
    """On a cluster, follows the routes of the store; on one machine the supervisor writes the file itself."""
    cluster = settings.cluster
    if cluster.routes == "files":
        return None
    gateway = None
    if cluster.routes == "httproute":
        if cluster.inner_secret is None:
            raise ConfigurationError(
                "The front end has nothing that the gateway's inner listener admits it by.",
                remedy="Set NINEFOLD_CLUSTER__INNER_SECRET.",
            )
        gateway = InnerGateway(url=cluster.inner_url, secret=cluster.inner_secret.get_secret_value())
    return RouteFollower(
        use_case.name,
        path=_routes(use_case, settings),
        models=settings.folder("models"),
        open_store=lambda: open_store(settings.store_url, migrating=False),
        fetch=fetch_package,
        gateway=gateway,
    )


def _routes(use_case: UseCase, settings: Settings) -> Path:
    return settings.home / "gateway" / f"{use_case.name}.json"
