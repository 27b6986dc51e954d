"""The supervisor: brings what runs to what the store wants, once a second, until it is told to stop."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import structlog

from ninefold.errors import NinefoldError, Unavailable, UsageError
from ninefold.keys import local_key
from ninefold.loading import load_use_case
from ninefold.service import bound_socket
from ninefold.settings import Settings
from ninefold.store import Store, open_store
from serving.supervisor.front_end import follows
from serving.supervisor.gateway import KeptGateway, wanted_gateway
from serving.supervisor.model_servers import ModelServers
from serving.supervisor.processes import Child, started_at
from serving.supervisor.publisher import Publisher
from serving.supervisor.specs import Specs
from serving.supervisor.state import (
    SupervisorState,
    end_leftovers,
    only_one,
    process_state,
    served_rollout,
    write_state,
)
from serving.traffic.wanted import Wanted, read_wanted

TICK_SECONDS = 0.1
POLL_SECONDS = 1.0
DRAIN_SECONDS = 30.0
"""How long one layer may take to drain before it is killed."""

log = structlog.get_logger()


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
        self.specs = Specs(settings, use_case, self.name, environment or {})
        """What its children are started with."""
        self.without_gateway = ""
        """Why there is no gateway, so that the front end asks the model servers directly; empty where there is one."""
        self._gateway: KeptGateway | None = None
        self._publisher = Publisher(self.name, self.routes)
        self._services: list[Child] = []
        self._models = ModelServers(self.specs, self._publisher)
        self._wanted = Wanted()
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
        return local_key(self.settings.home, self.settings.keys_path)

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
            services = [] if self.model_only else self.specs.services()
            for spec in services:
                if spec.port is not None:
                    bound_socket(spec.host, spec.port, name=spec.name).close()
            if not self.model_only:
                self._gateway, self.without_gateway = wanted_gateway(self.settings)
            store = opening.enter_context(contextlib.closing(open_store(self.settings.store_url)))
            self._look(store)
            if self.model_only and not self._wanted.desired.models:
                raise UsageError(
                    f"No version of {self.name} is registered.", remedy=f"Train one: ninefold run training {self.name}"
                )
            self._publisher.begin(self._gateway)
            self._services = [Child(spec) for spec in services]
            self._closing = opening.pop_all()
        self._thread = threading.Thread(target=self._run, args=(store,), name="supervisor", daemon=True)
        self._thread.start()

    def wait_ready(self, seconds: float = 90.0, progress: Callable[[str], None] | None = None) -> None:
        """Waits until every process is ready but a rollout's candidate, which must not keep the rest from serving.

        Args:
            seconds: How long at most.
            progress: Told of every process that got ready.

        Raises:
            Unavailable: One ended again and again, or was not ready in time; the message names it and its last words.
        """
        deadline = time.monotonic() + seconds
        told: set[str] = set()
        while not self._all_ready.wait(0.1):
            children = self._needed()
            for child in children:
                port = child.spec.port
                if child.was_ready and child.spec.name not in told:
                    told.add(child.spec.name)
                    if progress is not None:
                        progress(f"{child.spec.name} is ready" + (f" on port {port}" if port is not None else ""))
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
        return [*self._services, *gateway, *self._models.children.values()]

    def _needed(self) -> list[Child]:
        tried = self._wanted.desired.candidate
        candidate = None if tried is None or tried == self._wanted.desired.live else self._models.children.get(tried)
        return [child for child in self._children() if child is not candidate]

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
                changed |= self._models.advance(self._wanted.desired, self._wanted.rollout, now)
                became_ready = not self._all_ready.is_set() and self._is_all_ready()
                if changed or became_ready:
                    self._write_state(became_ready=became_ready)
                if became_ready:
                    # Who waits for it reads the state next.
                    self._all_ready.set()
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
        before = self._problem
        try:
            self._look(store)
        except (NinefoldError, ValueError) as error:
            self._problem = str(error)
            if self._problem != before:
                log.warning("the store can't be read; what runs goes on", error=str(error))

    def _look(self, store: Store) -> None:
        """Reads what the store wants.

        Raises:
            StoreError: It can't be read; what was wanted before stands.
        """
        self._wanted = read_wanted(store, self.name, self._wanted)
        self._problem = self._wanted.problem

    def _is_all_ready(self) -> bool:
        """Whether everything is served but for a rollout's candidate, which may come later."""
        table = self._publisher.table
        wanted, tried = self._wanted.desired.live, self._wanted.desired.candidate
        return (
            set(self._models.children) - {tried} == self._wanted.desired.models - {tried}
            and all(child.ready for child in self._needed())
            and table.live == (None if wanted is None else wanted.version)
            and (self.model_only or follows(self.front_end, self.key, table))
        )

    def _drain(self) -> None:
        self._end(self._services)
        if self._gateway is not None:
            self._gateway.gateway.drain()
            self._end([self._gateway.child])
        self._end(self._models.all())
        self._write_state()

    def _end(self, layer: Sequence[Child]) -> None:
        for child in layer:
            child.terminate()
        deadline = time.monotonic() + DRAIN_SECONDS
        for child in layer:
            if not child.wait(max(0.0, deadline - time.monotonic())):
                log.warning("killed what did not drain", name=child.spec.name)

    def _write_state(self, *, became_ready: bool = False) -> None:
        digests = {child: model.digest for model, child in self._models.children.items()}
        gateway = "" if self._gateway is None else self._gateway.gateway.problem
        problems = [self._problem, self._publisher.problem, gateway]
        state = SupervisorState(
            use_case=self.use_case,
            pid=os.getpid(),
            born=started_at(os.getpid()),
            ready=became_ready or self._all_ready.is_set(),
            model_only=self.model_only,
            live=self._models.live.version if self._models.live else None,
            problem=" ".join(filter(None, problems)),
            without_gateway=self.without_gateway,
            shares=tuple(self._gateway.shares) if self._gateway is not None else (),
            rollout=None
            if self._wanted.rollout is None
            else served_rollout(self._wanted.rollout, self._publisher.table),
            processes=tuple(process_state(child, digests.get(child)) for child in self._children()),
        )
        try:
            write_state(self.settings.home, state)
        except OSError as error:
            # A full disk must not end what still serves.
            log.warning("the supervisor's state can't be written", error=str(error))
