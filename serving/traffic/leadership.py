"""Who of several controllers steers the gateway: a Lease of the cluster, which ``kubectl get lease`` shows.

A Lease keeps two from acting at most times, and not at all times: a holder may sleep past its end. So what is written
under it is fenced by itself, routes by their revision and the version of the object that was read, steps by the
store's own lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

import structlog

from ninefold.clock import Clock
from ninefold.errors import ObjectChanged

log = structlog.get_logger()

API, KIND = "coordination.k8s.io/v1", "Lease"


class LeaseApi(Protocol):
    """What is asked of the API server (``ninefold.cluster.api.ClusterApi``)."""

    def get(self, api_version: str, kind: str, name: str) -> dict[str, Any] | None: ...  # noqa: D102
    def create(self, document: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102
    def replace(self, document: Mapping[str, Any]) -> dict[str, Any]: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Seen:
    """A Lease as it was when it last changed.

    Args:
        version: Its ``resourceVersion``.
        at: When the change was seen, in this process's own seconds: clocks of two machines are never compared.
    """

    version: str
    at: float


def next_move(
    lease: Mapping[str, Any] | None, holder: str, seen: Seen | None, now: float
) -> Literal["create", "renew", "take", "wait"]:
    """What somebody who wants a Lease does now: pure.

    Args:
        lease: It, as it is; None where there is none.
        holder: Who wants it.
        seen: As it was when it last changed.
        now: This process's own seconds.
    """
    if lease is None:
        return "create"
    spec = lease.get("spec") or {}
    held_by = spec.get("holderIdentity")
    if held_by == holder:
        return "renew"
    if not held_by:
        return "take"
    unchanged = seen is not None and seen.version == lease["metadata"]["resourceVersion"]
    over = unchanged and seen is not None and now - seen.at >= float(spec.get("leaseDurationSeconds") or 0)
    return "take" if over else "wait"


class Leadership:
    """Takes and keeps a Lease.

    Args:
        api: The API server.
        name: The Lease's name.
        namespace: Where it lies.
        holder: Who this is: the pod's name.
        clock: Dates what people read of it.
        lasting: How long a holder that is silent keeps it.
    """

    def __init__(
        self, api: LeaseApi, *, name: str, namespace: str, holder: str, clock: Clock, lasting: timedelta
    ) -> None:
        self._api, self._clock, self._lasting = api, clock, lasting
        self.name, self.namespace, self.holder = name, namespace, holder
        self.leads = False
        """Whether it led when it last asked."""
        self._seen: Seen | None = None

    def ask(self, now: float) -> bool:
        """Takes the Lease, keeps it, or waits; whether this one leads.

        Args:
            now: Monotonic seconds.

        Raises:
            ClusterError: The API server refuses.
            Unavailable: It does not answer; who led leads until the Lease is over, and writes nothing meanwhile.
        """
        led, self.leads = self.leads, False
        found = self._api.get(API, KIND, self.name)
        if found is not None and (self._seen is None or self._seen.version != found["metadata"]["resourceVersion"]):
            self._seen = Seen(found["metadata"]["resourceVersion"], now)
        move = next_move(found, self.holder, self._seen, now)
        try:
            if move == "create":
                self._api.create(self._lease(None))
            elif move != "wait" and found is not None:
                self._api.replace(self._lease(found))
        except ObjectChanged:
            # Somebody was quicker, or this very call timed out and was carried out: the next look tells.
            return False
        self.leads = move != "wait"
        if self.leads != led:
            log.info("leads" if self.leads else "does not lead", lease=self.name, holder=self.holder)
        return self.leads

    def give_back(self) -> None:
        """Lets another one lead at once.

        Raises:
            ClusterError: The API server refuses.
            Unavailable: It does not answer.
        """
        if not self.leads:
            return
        self.leads = False
        found = self._api.get(API, KIND, self.name)
        if found is None or (found.get("spec") or {}).get("holderIdentity") != self.holder:
            return
        spec = {name: value for name, value in found["spec"].items() if name != "holderIdentity"}
        try:
            self._api.replace({**found, "spec": spec})
        except ObjectChanged:
            log.info("the lease has another holder already", lease=self.name)

    def _lease(self, before: Mapping[str, Any] | None) -> dict[str, Any]:
        now = _micro_time(self._clock.now())
        if before is None:
            metadata: dict[str, Any] = {"name": self.name, "namespace": self.namespace}
            earlier: Mapping[str, Any] = {}
        else:
            metadata, earlier = dict(before["metadata"]), before.get("spec") or {}
        mine = earlier.get("holderIdentity") == self.holder
        return {
            "apiVersion": API,
            "kind": KIND,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self.holder,
                "leaseDurationSeconds": max(1, round(self._lasting.total_seconds())),
                "acquireTime": earlier.get("acquireTime", now) if mine else now,
                "renewTime": now,
                "leaseTransitions": int(earlier.get("leaseTransitions") or 0) + (0 if mine or before is None else 1),
            },
        }


def _micro_time(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
