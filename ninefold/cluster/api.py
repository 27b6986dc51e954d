"""The cluster's objects: applied, read, listed, replaced, deleted, and told about in Events.

Objects are plain documents, as in YAML. What is applied belongs to a field manager: a field that somebody else set
since is never taken from them unless the caller says so.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ninefold.clock import Clock, WallClock
from ninefold.cluster.connection import PATIENCE, TIMEOUT, Answer, Connection
from ninefold.cluster.refusals import missing_kind, refusal

APPLY = "application/apply-patch+yaml"
_LONGEST_MESSAGE = 1024

Document = dict[str, Any]
Documents = list[Document]


class ClusterApi:
    """Asks the Kubernetes API server; safe to use from several threads.

    Every request is repeated with back-off on 429, 5xx, a time-out or a broken connection, within ``patience``.

    Args:
        namespace: Of objects that name none.
        field_manager: Who owns what is applied (``ninefold-release``).
        clock: Dates Events.
        patience: Seconds within which a request is repeated.
        timeout: Seconds to connect, and to wait for one answer.
        pause: Waits between attempts.

    Raises:
        ConfigurationError: Neither KUBECONFIG nor a pod's service account says where the API server is.
    """

    def __init__(
        self,
        namespace: str,
        *,
        field_manager: str,
        clock: Clock | None = None,
        patience: float = PATIENCE,
        timeout: tuple[float, float] = TIMEOUT,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.namespace, self.field_manager = namespace, field_manager
        self._clock = clock or WallClock()
        self._connection = Connection(patience=patience, timeout=timeout, pause=pause)
        self._paths: dict[tuple[str, str], tuple[str, bool]] = {}

    def apply(self, document: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Document:
        """Server-side apply: makes the object, or brings the fields that the document names to its values.

        An unknown field is refused.

        Args:
            document: The object; fields that were applied before and are no longer in it go.
            force: Take fields from other managers.
            dry_run: Let the server check it, and change nothing.

        Returns:
            The object as it stands.

        Raises:
            FieldConflict: Another manager set one of the fields since; the error names both.
            ClusterError: The server refuses it: no such kind, forbidden, quota, invalid.
            Unavailable: The server does not answer.
        """
        query = {"fieldManager": self.field_manager, "fieldValidation": "Strict"}
        query |= {"force": "true"} if force else {}
        query |= {"dryRun": "All"} if dry_run else {}
        path, what = self._of(document)
        answer = self._connection.request("PATCH", path, query=query, body=document, content_type=APPLY)
        return _taken(answer, what, "applied")

    def get(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> Document | None:
        """One object; None where there is none of that name.

        Raises:
            ClusterError: The cluster knows no such kind, or it is forbidden.
            Unavailable: The server does not answer.
        """
        path = self._path(api_version, kind, name, namespace)
        answer = self._connection.request("GET", path)
        return None if answer.status == 404 else _taken(answer, self._what(kind, name, namespace), "read")

    def list(
        self, api_version: str, kind: str, labels: Mapping[str, str] | None = None, *, namespace: str | None = None
    ) -> Documents:
        """The objects that carry all of the labels, by name.

        Raises:
            ClusterError: The cluster knows no such kind, or it is forbidden.
            Unavailable: The server does not answer.
        """
        query = {"labelSelector": ",".join(f"{key}={value}" for key, value in (labels or {}).items())}
        answer = self._connection.request("GET", self._path(api_version, kind, "", namespace), query=query)
        found = _taken(answer, self._what(kind, "", namespace), "listed").get("items") or []
        # An item of a list doesn't say what it is.
        items = [{"apiVersion": api_version, "kind": kind, **item} for item in found]
        return sorted(items, key=lambda item: str(item["metadata"]["name"]))

    def create(self, document: Mapping[str, Any]) -> Document:
        """Makes an object that is not there yet.

        Raises:
            ObjectChanged: It is there already. After a time-out it may be this very call that made it.
            ClusterError: The server refuses it.
            Unavailable: The server does not answer.
        """
        path, what = self._of(document)
        return self._written("POST", path.rpartition("/")[0], document, what, "made")

    def replace(self, document: Mapping[str, Any]) -> Document:
        """Replaces an object that nobody has changed since it was read: ``metadata.resourceVersion`` says when.

        Raises:
            ObjectChanged: Somebody has. After a time-out that may be this very call.
            ClusterError: The server refuses it.
            Unavailable: The server does not answer.
        """
        path, what = self._of(document)
        if not document["metadata"].get("resourceVersion"):
            raise ValueError(f"{what} is replaced only by its resourceVersion.")
        return self._written("PUT", path, document, what, "replaced")

    def delete(self, api_version: str, kind: str, name: str, *, namespace: str | None = None) -> bool:
        """Deletes an object with all that it owns, in the background; False where there was none.

        Raises:
            ClusterError: The server refuses it.
            Unavailable: The server does not answer.
        """
        body = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        answer = self._connection.request("DELETE", self._path(api_version, kind, name, namespace), body=body)
        if answer.status == 404:
            return False
        _taken(answer, self._what(kind, name, namespace), "deleted")
        return True

    def event(self, regarding: Mapping[str, Any], *, reason: str, message: str, warning: bool = False) -> None:
        """Tells what happened to an object, for ``kubectl describe``.

        Args:
            regarding: The object.
            reason: In one CamelCase word.
            message: In words; cut at 1,024 characters.
            warning: Whether somebody should look.

        Raises:
            ClusterError: The server refuses it.
            Unavailable: The server does not answer.
        """
        metadata = regarding["metadata"]
        at = self._clock.now().strftime("%Y-%m-%dT%H:%M:%SZ")
        namespace = metadata.get("namespace", self.namespace)
        reference = {"apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "namespace": namespace}
        reference |= {name: metadata[name] for name in ("name", "uid", "resourceVersion") if name in metadata}
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}", "namespace": namespace},
            "involvedObject": reference,
            "reason": reason,
            "message": message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…",
            "type": "Warning" if warning else "Normal",
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": 1,
            "source": {"component": self.field_manager},
            "reportingComponent": self.field_manager,
            "reportingInstance": self.field_manager,
        }
        answer = self._connection.request("POST", f"/api/v1/namespaces/{quote(namespace)}/events", body=document)
        # Its name is this call's own: an attempt that timed out has made it.
        if answer.status != 409:
            _taken(answer, f"An Event of {regarding['kind']} {metadata['name']}", "made")

    def close(self) -> None:
        """Gives connections back."""
        self._connection.close()

    def _written(self, method: str, path: str, document: Mapping[str, Any], what: str, action: str) -> Document:
        query = {"fieldManager": self.field_manager, "fieldValidation": "Strict"}
        return _taken(self._connection.request(method, path, query=query, body=document), what, action)

    def _of(self, document: Mapping[str, Any]) -> tuple[str, str]:
        kind, metadata = document["kind"], document["metadata"]
        namespace = metadata.get("namespace")
        path = self._path(document["apiVersion"], kind, metadata["name"], namespace)
        return path, self._what(kind, metadata["name"], namespace)

    def _what(self, kind: str, name: str, namespace: str | None) -> str:
        return f"{kind} {name}".strip() + f" in namespace {namespace or self.namespace}"

    def _path(self, api_version: str, kind: str, name: str, namespace: str | None) -> str:
        """Where objects of a kind lie; the server is asked once how the kind is called in addresses."""
        base = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
        if (api_version, kind) not in self._paths:
            answer = self._connection.request("GET", base)
            if answer.status not in (200, 404):
                raise refusal(api_version, "looked up", answer)
            resources = answer.document.get("resources") or [] if answer.status == 200 else []
            for resource in resources:
                if "/" not in resource["name"]:
                    self._paths[(api_version, resource["kind"])] = (resource["name"], bool(resource["namespaced"]))
            if (api_version, kind) not in self._paths:
                raise missing_kind(api_version, kind)
        plural, namespaced = self._paths[(api_version, kind)]
        place = f"/namespaces/{quote(namespace or self.namespace)}" if namespaced else ""
        return f"{base}{place}/{plural}" + (f"/{quote(name)}" if name else "")


def _taken(answer: Answer, what: str, action: str) -> Document:
    if 200 <= answer.status < 300:
        return answer.document
    raise refusal(what, action, answer)
