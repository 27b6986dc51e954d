"""The supervisor: brings what runs to what the store wants, once a second, until it is told to stop."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ninefold.errors import ConfigurationError, DataError, NinefoldError, Unavailable, UsageError
from ninefold.keys import local_key
from ninefold.routes import RouteTable, Variant, read_routes, write_routes
from ninefold.service import bound_socket
from ninefold.settings import Settings
from ninefold.store import Store, open_store
from ninefold.usecase import load_use_case
from serving.supervisor.desired import Desired, Model, Running, desired_models, plan
from serving.supervisor.gateway import KeptGateway, wanted_gateway
from serving.supervisor.processes import Child, ChildSpec, started_at
from serving.supervisor.state import ProcessState, SupervisorState, end_leftovers, only_one, write_state

TICK_SECONDS = 0.1
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0
"""How long one layer may take to drain before it is killed."""

log = structlog.get_logger()


def settings_environment(settings: Settings) -> dict[str, str]:
    """The environment in which a child reads the very same settings, and imports the same, wherever it works."""
    flat: dict[str, str] = {}
    paths = os.environ.get("PYTHONPATH", "")
    if paths:
        # A use case of another folder is found by it, and its parts may be relative to where this process works.
        flat["PYTHONPATH"] = os.pathsep.join(str(Path(part).absolute()) for part in paths.split(os.pathsep) if part)

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if isinstance(value, dict):
                add(f"{prefix}{name.upper()}__", value)
            elif value is not None:
                flat[prefix + name.upper()] = value if isinstance(value, str) else json.dumps(value)

    add("NINEFOLD_", settings.model_dump(mode="json"))
    return flat


class Supervisor:
    """Serves one use case from this process.

    Args:
        settings: Where everything lies and listens.
        use_case: Name or import path.
        model_only: Model servers alone, without front end and collector.
        environment: Added to every child's environment.

    Raises:
        UnknownUseCase: There is no such use case.
    """

    def __init__(
        self,
        settings: Settings,
        use_case: str,
        *,
        model_only: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.settings = settings
        self.use_case = use_case
        self.name = load_use_case(use_case).name
        self.model_only = model_only
        self._environment = {**settings_environment(settings), **(environment or {})}
        self.without_gateway = ""
        """Why there is no gateway, so that the front end asks the model servers directly; empty where there is one."""
        self._gateway: KeptGateway | None = None
        self._services: list[Child] = []
        self._models: dict[Model, Child] = {}
        self._unrouted: dict[Model, float] = {}
        self._ending: list[Child] = []
        self._live: Model | None = None
        self._table = RouteTable(use_case=self.name, revision=0, live=None)
        self._also: dict[int, Variant] = {}
        self._written = False
        self._desired = Desired(live=None, models=frozenset())
        self._problem = ""
        self._all_ready = threading.Event()
        self._stop = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = contextlib.ExitStack()
        self._failure: NinefoldError | None = None

    @property
    def front_end(self) -> str:
        """Address of the front end."""
        return f"http://{self.settings.host}:{self.settings.ports.front_end}"

    @property
    def collector(self) -> str:
        """Address of the collector."""
        return f"http://{self.settings.host}:{self.settings.ports.collector}"

    @property
    def gateway(self) -> str:
        """Address of the gateway, for direct clients of the models."""
        return f"http://{self.settings.host}:{self.settings.ports.gateway}"

    @property
    def routes(self) -> Path:
        """The route table that it writes."""
        return self.settings.folder("gateway") / f"{self.name}.json"

    @property
    def key(self) -> str:
        """The API key of this machine's own tools."""
        return local_key(self.settings.home, self._keys_file)

    @property
    def _keys_file(self) -> Path:
        return self.settings.keys_path

    def start(self) -> None:
        """Starts everything, and a thread that keeps it so; returns at once.

        Raises:
            ConfigurationError: Another supervisor runs in this home, or a port is taken.
            StoreError: The store is out of reach.
            UsageError: Model servers alone are asked for and no version is registered.
        """
        with contextlib.ExitStack() as opening:
            opening.enter_context(only_one(self.settings.home))
            left = end_leftovers(self.settings.home)
            if left:
                log.warning("ended what a dead supervisor left", processes=left)
            if self.settings.environment == "local":
                _ = self.key
            services = [] if self.model_only else self._service_specs()
            for spec in services:
                bound_socket(spec.host, spec.port, name=spec.name).close()
            if not self.model_only:
                self._gateway, self.without_gateway = wanted_gateway(self.settings)
            store = opening.enter_context(contextlib.closing(open_store(self.settings.store_url)))
            self._desired = desired_models(store.versions(self.name))
            if self.model_only and not self._desired.models:
                raise UsageError(
                    f"No version of {self.name} is registered.", remedy=f"Train one: ninefold run training {self.name}"
                )
            # What an earlier run left points at servers that are gone.
            self._table = RouteTable(use_case=self.name, revision=self._last_revision(), live=None)
            if self._gateway is not None:
                self._gateway.begin(self._table)
            self._write_routes(frozenset(), None)
            self._services = [Child(spec) for spec in services]
            self._closing = opening.pop_all()
        self._thread = threading.Thread(target=self._run, args=(store,), name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, seconds: float = 90.0, progress: Callable[[str], None] | None = None) -> None:
        """Waits until every process is ready.

        Args:
            seconds: How long at most.
            progress: Told of every process that got ready.

        Raises:
            Unavailable: One ended again and again, or was not ready in time; the message names it and its last words.
        """
        deadline = time.monotonic() + seconds
        told: set[str] = set()
        while not self._all_ready.wait(0.1):
            children = self._children()
            for child in children:
                if child.was_ready and child.spec.name not in told:
                    told.add(child.spec.name)
                    if progress is not None:
                        progress(f"{child.spec.name} is ready on port {child.spec.port}")
            if self._failure is not None:
                raise self._failure
            for child in children:
                if child.state == "crash loop" and not child.was_ready:
                    raise Unavailable(
                        f"The {child.spec.name} does not start: {child.last_line() or f'exit code {child.exit_code}'}",
                        remedy=f"Its log is {child.spec.log}.",
                    )
            if time.monotonic() > deadline:
                missing = ", ".join(c.spec.name for c in children if not c.ready)
                raise Unavailable(
                    f"Not ready after {seconds:.0f} s: {missing or 'the routes'}.",
                    remedy=f"The logs are in {self.settings.folder('logs')}.",
                )

    def stop(self) -> None:
        """Drains in order: front end and collector answer what is open and ship what they keep, then the models end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._closing.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Waits until it has stopped; returns whether it has.

        Raises:
            NinefoldError: It stopped because it failed.
        """
        stopped = self._stopped.wait(seconds)
        if stopped and self._failure is not None:
            raise self._failure
        return stopped

    def request_stop(self) -> None:
        """Lets it stop by itself; safe in a signal handler."""
        self._stop.set()

    def __enter__(self) -> Supervisor:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _children(self) -> list[Child]:
        gateway = [] if self._gateway is None else [self._gateway.child]
        return [*self._services, *gateway, *self._models.values()]

    def _run(self, store: Store) -> None:
        next_poll = 0.0
        try:
            while not self._stop.is_set():
                now = time.monotonic()
                changed = False
                if now >= next_poll:
                    next_poll = now + POLL_SECONDS
                    self._poll(store)
                    changed = True
                if self._gateway is not None:
                    self._gateway.tend(look=changed)
                for child in self._children():
                    changed |= child.tick(now)
                changed |= self._advance(now)
                if not self._all_ready.is_set() and self._is_all_ready():
                    self._all_ready.set()
                    changed = True
                if changed:
                    self._write_state()
                self._stop.wait(TICK_SECONDS)
        except Exception as error:
            self._failure = (
                error if isinstance(error, NinefoldError) else Unavailable(f"The supervisor failed: {error!r}.")
            )
            log.exception("supervisor failed", error=str(error))
        finally:
            try:
                self._drain()
            finally:
                self._stopped.set()

    def _poll(self, store: Store) -> None:
        try:
            self._desired = desired_models(store.versions(self.name))
            self._problem = ""
        except NinefoldError as error:
            if self._problem != str(error):
                log.warning("the store can't be read; what runs goes on", error=str(error))
            self._problem = str(error)

    def _advance(self, now: float) -> bool:
        running = {model: Running(child.was_ready, self._unrouted.get(model)) for model, child in self._models.items()}
        steps = plan(self._desired, running, self._live, now)
        for model in steps.start:
            self._models[model] = Child(self._model_spec(model))
            log.info("starting", version=model.version, digest=model.digest)
        self._route(steps.routed, steps.live, now)
        for model in steps.stop:
            log.info("retiring", version=model.version, digest=model.digest)
            child = self._models.pop(model)
            child.terminate()
            self._ending.append(child)
        self._ending = [child for child in self._ending if not _has_ended(child)]
        return bool(steps.start or steps.stop)

    def _route(self, routed: frozenset[Model], live: Model | None, now: float) -> None:
        self._live = live
        for model in self._models:
            if model in routed:
                self._unrouted.pop(model, None)
            else:
                self._unrouted.setdefault(model, now)
        self._write_routes(routed, live)

    def _write_routes(self, routed: frozenset[Model], live: Model | None) -> None:
        variants = self._variants(routed)
        version = None if live is None else live.version
        # The front end may have chosen one of these before it read that they left.
        leaving = self._variants({m for m, child in self._models.items() if child.was_ready and m not in routed})
        also = {v: variant for v, variant in leaving.items() if v not in variants}
        written = self._written and (self._table.live, dict(self._table.variants)) == (version, variants)
        if written and also == self._also:
            return
        table = self._table
        if not written:
            table = RouteTable(
                use_case=self.name,
                revision=self._table.revision + 1,
                live=version,
                variants=variants,
                gateway=None if self._gateway is None else self._gateway.gateway.inner,
            )
        try:
            # The gateway first: the front end asks for what it reads.
            if self._gateway is not None and not self._gateway.gateway.publish(table, also):
                return
            if not written:
                write_routes(self.routes, table)
        except OSError as error:
            # A full disk must not end what still serves; the next turn tries again.
            self._problem = f"The routes can't be written: {error}."
            log.warning("the routes can't be written", error=str(error))
            return
        self._also = also
        if not written:
            self._table, self._written = table, True
            log.info("routes changed", revision=table.revision, live=version, versions=sorted(variants))

    def _variants(self, models: Collection[Model]) -> dict[int, Variant]:
        return {
            model.version: Variant(
                version=model.version,
                url=f"http://{self._models[model].spec.host}:{self._models[model].spec.port}",
                package=model.package,
                digest=model.digest,
            )
            for model in sorted(models)
        }

    def _last_revision(self) -> int:
        try:
            before = read_routes(self.routes)
        except DataError:
            # It is replaced at once.
            return 0
        return 0 if before is None else before.revision

    def _is_all_ready(self) -> bool:
        return (
            set(self._models) == self._desired.models
            and all(child.ready for child in self._children())
            and self._table.live == (None if self._desired.live is None else self._desired.live.version)
            and (self.model_only or self._front_end_follows())
        )

    def _front_end_follows(self) -> bool:
        """Whether the front end goes by the routes that stand: it reads them a moment after they are written.

        One that can't serve the live version follows, too, and names its problem; the baseline answers then.
        """
        request = urllib.request.Request(  # noqa: S310 - the address is this supervisor's own, http
            f"{self.front_end}/v1/models/{self.name}", headers={"X-ApiKey": self.key}
        )
        try:
            with urllib.request.urlopen(request, timeout=1.0) as response:  # noqa: S310
                shown = json.load(response)
        except (urllib.error.HTTPError, ValueError):
            # One that answers and does not tell is not waited for.
            return True
        except OSError:
            return False
        follows = (shown["revision"] or 0) >= self._table.revision
        return follows and (shown["version"] == self._table.live or bool(shown["problem"]))

    def _drain(self) -> None:
        self._end(self._services)
        if self._gateway is not None:
            self._gateway.gateway.drain()
            self._end([self._gateway.child])
        self._end([*self._models.values(), *self._ending])
        self._write_state()

    def _end(self, layer: Sequence[Child]) -> None:
        for child in layer:
            child.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        for child in layer:
            if not child.wait(max(0.0, deadline - time.monotonic())):
                log.warning("killed what did not drain", name=child.spec.name)

    def _write_state(self) -> None:
        digests = {child: model.digest for model, child in self._models.items()}
        processes = tuple(
            ProcessState(
                name=child.spec.name,
                pid=child.process.pid if child.process else None,
                born=child.born,
                host=child.spec.host,
                port=child.spec.port,
                state=child.state,
                restarts=child.restarts,
                version=child.spec.version,
                digest=digests.get(child),
                last_line="" if child.ready or not child.failures else child.last_line(),
            )
            for child in self._children()
        )
        problems = [self._problem, self._gateway.gateway.problem if self._gateway is not None else ""]
        state = SupervisorState(
            use_case=self.use_case,
            pid=os.getpid(),
            born=started_at(os.getpid()),
            ready=self._all_ready.is_set(),
            model_only=self.model_only,
            live=self._live.version if self._live else None,
            problem=" ".join(filter(None, problems)),
            without_gateway=self.without_gateway,
            shares=tuple(self._gateway.shares) if self._gateway is not None else (),
            processes=processes,
        )
        try:
            write_state(self.settings.home, state)
        except OSError as error:
            # A full disk must not end what still serves.
            log.warning("the supervisor's state can't be written", error=str(error))

    def _service_specs(self) -> list[ChildSpec]:
        ports = self.settings.ports
        return [
            self._spec(name, ("-m", f"serving.{module}", "--use-case", self.use_case), port)
            for name, module, port in (
                ("front end", "front_end", ports.front_end),
                ("collector", "collector", ports.collector),
            )
        ]

    def _model_spec(self, model: Model) -> ChildSpec:
        taken = {child.spec.port for child in (*self._models.values(), *self._ending)}
        port = _free_port(self.settings.host, self.settings.ports.models_from + model.version, taken)
        arguments = (
            "-m", "serving.model_server", "--package", model.package, "--digest", model.digest, "--name", self.name,
            "--host", self.settings.host, "--port", str(port), "--keys", str(self._keys_file),
        )  # fmt: skip
        return self._spec(f"model {model.version}", arguments, port, version=model.version)

    def _spec(self, name: str, arguments: tuple[str, ...], port: int, version: int | None = None) -> ChildSpec:
        return ChildSpec(
            name=name,
            command=(sys.executable, *arguments),
            log=self.settings.folder("logs") / f"{name.replace(' ', '-')}.log",
            folder=self.settings.home,
            port=port,
            host=self.settings.host,
            environment=self._environment,
            version=version,
        )


def _has_ended(child: Child) -> bool:
    return child.process is None or child.process.poll() is not None


def _free_port(host: str, wanted: int, taken: set[int]) -> int:
    for port in (wanted, 0):
        if port in taken:
            continue
        try:
            with bound_socket(host, port, name="model server") as listener:
                found: int = listener.getsockname()[1]
                return found
        except (ConfigurationError, OverflowError):
            continue
    raise ConfigurationError(f"No port is free on {host} for a model server.")
