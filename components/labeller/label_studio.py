"""Label Studio's HTTP API, as far as it is needed: one project with its tasks, annotations and webhook.

By httpx, which Ninefold has anyway: a dozen calls don't need ``label-studio-sdk``, which brings sixty packages (pandas
and opencv among them) and retries a POST that may have gone through. Here a call is sent again where that is safe; an
import that broke off is not, its caller looks at what came in and sends the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from ninefold.errors import ConfigurationError, DataError, Unavailable

_PAGE = 500
_CONNECT_SECONDS, _ANSWER_SECONDS = 5.0, 60.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 5.0
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Interrupted(Unavailable):
    """Label Studio stopped answering in a call that is not safe to send again: it may have done it, or not.

    Args:
        call: Method and path.
        url: Where it is.
        problem: What broke.
    """

    def __init__(self, call: str, url: str, problem: str) -> None:
        super().__init__(
            f"Label Studio at {url} broke off in {call} ({problem}).",
            remedy="The same command looks what came in, and goes on.",
        )


class LabelStudio:
    """One Label Studio.

    Args:
        url: Where it is.
        token: A legacy token, or a personal access token (a JWT, which is exchanged for one that lasts minutes).
        patience: Seconds that it is waited for when it stops answering after it answered once.
        sleep: Waits.
        monotonic: Seconds from anywhere.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience: float = 60.0,
        sleep: Callable[[float], None] = time.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self._token, self._patience = token, patience
        self._sleep, self._monotonic = sleep, monotonic
        self._answered = False
        local = httpx.URL(url).host in _LOOPBACK
        timeout = httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS)
        # A proxy of this machine's environment does not lead to this machine.
        self._client = httpx.Client(base_url=self.url, timeout=timeout, trust_env=not local)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def version(self) -> str:
        """Its version.

        Raises:
            Unavailable: It does not answer.
            ConfigurationError: What answers is no Label Studio.
        """
        found = self.call("GET", "/api/version")
        release = found.get("release") if isinstance(found, dict) else None
        if not isinstance(release, str):
            raise ConfigurationError(f"What answers at {self.url} is no Label Studio.")
        return release

    def projects(self) -> list[dict[str, Any]]:
        """Its projects, oldest first."""
        found = list(self._pages("/api/projects", {"ordering": "id"}, "results"))
        return sorted(found, key=lambda project: int(project["id"]))

    def create_project(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Makes a project.

        Raises:
            Interrupted: The connection broke; whether there is one now has to be looked at.
        """
        return dict(self.call("POST", "/api/projects", json=settings, again=False))

    def update_project(self, number: int, settings: Mapping[str, Any]) -> None:
        """Changes a project's settings.

        Raises:
            DataError: It refuses, as of a labelling interface that doesn't fit the annotations that there are.
        """
        self.call("PATCH", f"/api/projects/{number}", json=settings)

    def tasks(self, project: int) -> Iterator[dict[str, Any]]:
        """A project's tasks with their annotations, by number."""
        yield from self._pages("/api/tasks", {"project": project, "fields": "all"}, "tasks")

    def import_tasks(self, project: int, tasks: Sequence[Mapping[str, Any]]) -> None:
        """Adds tasks, all or none.

        Raises:
            Interrupted: The connection broke; whether they came in has to be looked at.
        """
        self.call("POST", f"/api/projects/{project}/import", json=list(tasks), again=False)

    def delete_task(self, number: int) -> None:
        """Removes a task and what was said of it; one that is gone already is fine."""
        self.call("DELETE", f"/api/tasks/{number}", missing_is_fine=True)

    def people(self) -> dict[int, str]:
        """Those who have an account: number → e-mail address."""
        found = self.call("GET", "/api/users")
        return {int(one["id"]): str(one["email"]) for one in found if one.get("email")}

    def webhooks(self, project: int) -> list[dict[str, Any]]:
        """A project's webhooks."""
        return list(self.call("GET", "/api/webhooks", params={"project": project}))

    def save_webhook(self, number: int | None, settings: Mapping[str, Any]) -> None:
        """Makes a webhook, or changes one."""
        if number is None:
            self.call("POST", "/api/webhooks", json=settings)
        else:
            self.call("PATCH", f"/api/webhooks/{number}", json=settings)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        again: bool = True,
        missing_is_fine: bool = False,
    ) -> Any:
        """One call's JSON.

        Args:
            method: The HTTP method.
            path: The path.
            params: The query.
            json: The body.
            again: Whether it may be sent again when it is not known whether it went through.
            missing_is_fine: Whether 404 is None and no error.

        Raises:
            Unavailable: It does not answer, or not for as long as it is waited for.
            ConfigurationError: It does not admit the token.
            DataError: It refuses what was sent.
        """
        # Who was never there is not waited for; who was restarts in seconds.
        deadline = self._monotonic() + (self._patience if self._answered else 0.0)
        pause, renewed = _FIRST_PAUSE, False
        while True:
            problem = ""
            try:
                response = self._client.request(method, path, params=params, json=json, headers=self._authorization())
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
                if not again and not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout)):
                    raise Interrupted(f"{method} {path}", self.url, problem) from error
            else:
                if response.status_code == 401 and _is_personal(self._token) and not renewed:
                    self._client.headers.pop("Authorization", None)
                    renewed = True
                    continue
                if response.status_code not in (429, 502, 503, 504):
                    self._answered = True
                    return self._content(method, path, response, missing_is_fine=missing_is_fine)
                problem = f"it answers {response.status_code}"
                if not again and response.status_code != 429:
                    raise Interrupted(f"{method} {path}", self.url, problem)
            if self._monotonic() + pause > deadline:
                raise self._away(problem)
            self._sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _authorization(self) -> dict[str, str]:
        if not _is_personal(self._token):
            return {"Authorization": f"Token {self._token}"}
        if "Authorization" not in self._client.headers:
            answer = self._client.post("/api/token/refresh", json={"refresh": self._token})
            if answer.status_code in (400, 401):
                raise self._refused_token()
            access = answer.json().get("access") if answer.is_success else None
            self._client.headers["Authorization"] = f"Bearer {access}"
        return {}

    def _content(self, method: str, path: str, response: httpx.Response, *, missing_is_fine: bool) -> Any:
        if response.status_code == 404 and missing_is_fine:
            return None
        if response.status_code in (401, 403):
            raise self._refused_token()
        if not response.is_success:
            raise DataError(
                f"Label Studio at {self.url} refuses {method} {path} with {response.status_code}: {_words(response)}"
            )
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError as error:
            raise ConfigurationError(
                f"What answers at {self.url} is no Label Studio: {method} {path} is no JSON."
            ) from error

    def _pages(self, path: str, params: Mapping[str, Any], key: str) -> Iterator[dict[str, Any]]:
        seen: set[int] = set()
        page = 1
        while True:
            found = self.call("GET", path, params={**params, "page": page, "page_size": _PAGE}, missing_is_fine=True)
            rows = found.get(key, []) if isinstance(found, dict) else found or []
            # Pages shift when somebody adds or removes rows meanwhile, and may be shorter than what was asked for.
            new = [row for row in rows if row["id"] not in seen]
            seen.update(row["id"] for row in new)
            yield from new
            if not new:
                return
            page += 1

    def _away(self, problem: str) -> Unavailable:
        remedy = (
            "Start it again; what was sent stays sent, and the same command goes on."
            if self._answered
            else "Start it with: ninefold label up. Or say where it is with NINEFOLD_LABELLING__URL."
        )
        return Unavailable(f"Label Studio does not answer at {self.url} ({problem}).", remedy=remedy)

    def _refused_token(self) -> ConfigurationError:
        return ConfigurationError(
            f"Label Studio at {self.url} does not admit the API token.",
            remedy="Set NINEFOLD_LABELLING__TOKEN to one of its legacy or personal access tokens.",
        )


def _is_personal(token: str) -> bool:
    """Whether a token is a JWT; a legacy one has no full stops."""
    return token.count(".") == 2


def _words(response: httpx.Response) -> str:
    """What a refusal says, shortened."""
    try:
        said = response.json()
    except ValueError:
        return response.text.strip()[:300]
    detail = said.get("detail") if isinstance(said, dict) else said
    more = said.get("validation_errors") if isinstance(said, dict) else None
    return f"{detail or said}{f' {more}' if more else ''}"[:500]
