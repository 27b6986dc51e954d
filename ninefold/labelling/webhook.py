"""The secret that Label Studio's webhook shows the collector, and what a call of it brings."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ninefold.atomic import replace_file
from ninefold.errors import InvalidInput, NotAuthenticated
from ninefold.labelling.answers import task_named
from ninefold.settings import Settings

SECRET_HEADER = "X-Ninefold-Webhook"  # noqa: S105 - the name of a header
"""Header that holds the secret."""

ACTIONS = frozenset({"ANNOTATION_CREATED", "ANNOTATION_UPDATED"})
"""What is told; everything else that Label Studio may send is no news."""


@dataclass(frozen=True, slots=True)
class Told:
    """One call of the webhook.

    Args:
        task_id: The ``LabelTask`` that it names; None where it names none.
        annotation: Label Studio's annotation.
    """

    task_id: str | None
    annotation: Mapping[str, Any]


def webhook_secret(settings: Settings) -> str | None:
    """The secret; on a laptop it is made when missing. None where nobody set one: then no webhook is admitted."""
    if settings.labelling.webhook_secret is not None:
        return settings.labelling.webhook_secret.get_secret_value() or None
    if settings.environment != "local":
        return None
    path = settings.folder("label-studio") / "webhook.key"
    if not path.exists():
        replace_file(path, f"{secrets.token_urlsafe(32)}\n".encode())
    return path.read_text().strip()


def admit(secret: str | None, headers: list[tuple[bytes, bytes]]) -> None:
    """Lets a call of the webhook in, by raw ASGI headers (lower-case names).

    Raises:
        NotAuthenticated: It shows no secret, or another one; or there is none.
    """
    wanted = SECRET_HEADER.lower().encode()
    shown = next((value for name, value in headers if name == wanted), None)
    if secret is None or shown is None:
        raise NotAuthenticated(f"No secret in {SECRET_HEADER}.", remedy="Run again: ninefold label send")
    # Of equal length, so that time tells nothing about either.
    if not hmac.compare_digest(hashlib.sha256(secret.encode()).digest(), hashlib.sha256(shown).digest()):
        raise NotAuthenticated(
            f"The secret in {SECRET_HEADER} is not the one.", remedy="Run again: ninefold label send"
        )


def read_call(body: Any) -> Told | None:
    """What a call brings; None for an action that is no news.

    Raises:
        InvalidInput: It is no call of Label Studio's webhook.
    """
    if not isinstance(body, dict):
        raise InvalidInput("body", f"{type(body).__name__} is no JSON object.", remedy="Let Label Studio send it.")
    action = body.get("action")
    if not isinstance(action, str):
        raise InvalidInput("action", f"{action!r:.60} is no action.", remedy="Let Label Studio send it.")
    if action not in ACTIONS:
        return None
    annotation, task = body.get("annotation"), body.get("task")
    if not isinstance(annotation, dict):
        raise InvalidInput("annotation", "is missing.", remedy="Let the webhook send its payload.")
    return Told(task_named(task) if isinstance(task, dict) else None, annotation)
