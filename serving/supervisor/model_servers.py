"""The model servers: one a version, started before it is routed and stopped after it left the routes."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from ninefold.rollout.stored import Routing
from serving.supervisor.processes import Child
from serving.supervisor.publisher import Publisher
from serving.supervisor.specs import Specs
from serving.traffic.desired import Desired, Model, Running, plan
from serving.traffic.open_rollout import OpenRollout
from serving.traffic.tables import variants_of

log = structlog.get_logger()


class ModelServers:
    """The model servers of one use case, and the routes to them.

    Args:
        specs: What they are started with.
        publisher: Writes the routes.
    """

    def __init__(self, specs: Specs, publisher: Publisher) -> None:
        self._specs = specs
        self._publisher = publisher
        self._children: dict[Model, Child] = {}
        self._unrouted: dict[Model, float] = {}
        self._ending: list[Child] = []
        self.live: Model | None = None
        """The one that answers; None where none does."""

    @property
    def children(self) -> dict[Model, Child]:
        """Those that serve, or are about to."""
        return self._children

    def all(self) -> list[Child]:
        """These, and those that are ending."""
        return [*self._children.values(), *self._ending]

    def advance(self, desired: Desired, rollout: OpenRollout | None, now: float) -> bool:
        """Goes the next steps towards what is wanted; returns whether anything changed.

        Args:
            desired: What the store wants.
            rollout: The open rollout; None where none is.
            now: Monotonic seconds.

        Raises:
            ConfigurationError: No port is free for a model server.
        """
        running = {m: Running(child.was_ready, self._unrouted.get(m)) for m, child in self._children.items()}
        steps = plan(desired, running, self.live, now)
        for model in steps.start:
            self._children[model] = Child(self._specs.model(model, {child.spec.port for child in self.all()}))
            log.info("starting", version=model.version, digest=model.digest)
        self.live = steps.live
        changed = self._publish(steps.routed, rollout)
        for model in self._children:
            # It is in the routes for as long as the table that stands names it, whatever is wanted.
            if model in steps.routed or self._publisher.names(model):
                self._unrouted.pop(model, None)
            else:
                self._unrouted.setdefault(model, now)
        for model in steps.stop:
            log.info("retiring", version=model.version, digest=model.digest)
            child = self._children.pop(model)
            self._unrouted.pop(model, None)
            child.terminate()
            self._ending.append(child)
        self._ending = [child for child in self._ending if not child.has_ended]
        return changed or bool(steps.start or steps.stop)

    def _publish(self, routed: Collection[Model], rollout: OpenRollout | None) -> bool:
        live = None if self.live is None else self.live.version
        variants = variants_of((model, self._children[model].address) for model in routed)
        # The front end may have chosen one of these before it read that they left.
        leaving = variants_of(
            (model, child.address)
            for model, child in self._children.items()
            if child.was_ready and model.version not in variants
        )
        routing = Routing() if rollout is None else rollout.routing(live)
        return self._publisher.publish(variants, leaving, live=live, routing=routing)
