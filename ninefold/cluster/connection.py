"""One request to the Kubernetes API server, repeated while it may yet succeed.

The ``kubernetes`` package says where the server is and who asks (KUBECONFIG with its plugins, or a pod's service
account, whose token it reads again as it changes). Requests go through its connection pool as plain JSON.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from ninefold.errors import ConfigurationError, Unavailable

PATIENCE = 30.0
"""Seconds within which a request is repeated."""

TIMEOUT = (5.0, 15.0)
"""Seconds to connect, and to wait for the answer of one attempt."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
_AGAIN = frozenset({408, 429, 500, 502, 503, 504})

UNTYPED = "failed to create typed patch object"
"""What the server says, with HTTP 500, of an apply that its schema refuses; another attempt changes nothing."""

_IN_POD = "KUBERNETES_SERVICE_HOST"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server answered.

    Args:
        status: HTTP's code.
        document: The object, list or ``Status``; empty when the body was no JSON object.
    """

    status: int
    document: dict[str, Any]


class Connection:
    """The API server that KUBECONFIG names, or that this pod runs under.

    Args:
        patience: Seconds within which a request is repeated on 429, 5xx, a time-out or a broken connection.
        timeout: Seconds to connect, and to wait for one answer.
        pause: Waits between attempts.

    Raises:
        ConfigurationError: No cluster is named, or its configuration can't be read.
    """

    def __init__(
        self,
        *,
        patience: float = PATIENCE,
        timeout: tuple[float, float] = TIMEOUT,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        import urllib3

        self._patience, self._pause = patience, pause
        self._timeout = urllib3.Timeout(connect=timeout[0], read=timeout[1])
        self._client = _client()
        self.host: str = self._client.configuration.host

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Answer:
        """Sends a request that can be repeated without harm, and returns what came back, refusals included.

        Raises:
            Unavailable: The server gave no final answer within the patience.
        """
        import urllib3

        url = self.host + path + (f"?{urlencode(query)}" if query else "")
        content = None if body is None else json.dumps(body).encode()
        ends, wait, last = time.monotonic() + self._patience, _FIRST_PAUSE, ""
        while True:
            asked_to_wait = 0.0
            try:
                found = self._client.rest_client.pool_manager.request(
                    method, url, body=content, headers=self._headers(content_type), timeout=self._timeout,
                    retries=False, redirect=False,
                )  # fmt: skip
            except urllib3.exceptions.HTTPError as error:
                last = _words(error)
            else:
                answer = Answer(found.status, _document(found.data))
                if found.status not in _AGAIN or UNTYPED in str(answer.document.get("message", "")):
                    return answer
                last = f"HTTP {found.status} {answer.document.get('message', '')}".strip()
                asked_to_wait = _seconds(found.headers.get("Retry-After"))
            # Spread, so that what was refused together doesn't come back together.
            pause = max(asked_to_wait, wait * random.uniform(0.5, 1.0))  # noqa: S311
            if time.monotonic() + pause > ends:
                raise Unavailable(
                    f"The Kubernetes API server {self.host} gave no answer to {method} {path} within "
                    f"{self._patience:g} seconds: {last}.",
                    remedy="Look whether it runs (kubectl get --raw /readyz), and repeat this: that does no harm.",
                )
            self._pause(pause)
            wait = min(2 * wait, _LONGEST_PAUSE)

    def close(self) -> None:
        """Gives connections back."""
        self._client.rest_client.pool_manager.clear()

    def _headers(self, content_type: str) -> dict[str, str]:
        headers = {"Accept": "application/json", "Content-Type": content_type, "User-Agent": "ninefold"}
        # Reads a service account's token again when it is due.
        self._client.update_params_for_auth(headers, [], ["BearerToken"])
        return headers


def _client() -> Any:
    try:
        import yaml
        from kubernetes import client, config
    except ImportError as error:
        raise ConfigurationError(
            "The package kubernetes is not installed.",
            remedy="Install Ninefold with the extra: pip install '.[cluster]'",
        ) from error
    configuration = client.Configuration()
    try:
        named = os.environ.get("KUBECONFIG") or None
        if named or not os.environ.get(_IN_POD):
            config.load_kube_config(config_file=named, client_configuration=configuration)
        else:
            config.load_incluster_config(client_configuration=configuration)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise ConfigurationError(
            f"No Kubernetes cluster can be asked: {' '.join(str(error).split())}",
            remedy="Set KUBECONFIG to a file that kubectl can use, or run this in a pod with a service account.",
        ) from error
    return client.ApiClient(configuration)


def _document(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except ValueError:
        # A proxy in between may answer in HTML.
        return {"message": data[:200].decode("utf-8", "replace")} if data else {}
    return found if isinstance(found, dict) else {}


def _seconds(text: str | None) -> float:
    try:
        return min(max(0.0, float(text or 0)), _LONGEST_PAUSE)
    except ValueError:
        return 0.0


def _words(error: Exception) -> str:
    # urllib3 puts the address of the connection's object before the reason.
    return str(error).partition(">: ")[2] or str(error) or type(error).__name__
