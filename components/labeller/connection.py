"""Where Label Studio is and by which secrets it and Ninefold know each other.

On one machine they are made: the administrator's password and API token, and the webhook's secret, in files that their
owner alone can read. The token is a legacy one: it is set when Label Studio starts, without anybody who logs in and
clicks, and it does not end. A personal access token (a JWT), the default of newer versions, is made by a person in the
browser; one of those is taken for a Label Studio elsewhere.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from components.labeller.label_studio import LabelStudio
from ninefold.atomic import replace_file
from ninefold.errors import ConfigurationError
from ninefold.labelling.webhook import ACTIONS, SECRET_HEADER, webhook_secret
from ninefold.settings import Settings

ADMINISTRATOR = "admin@localhost"
"""Who can do everything in the Label Studio of this machine, and invites the others."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """The administrator of this machine's Label Studio.

    Args:
        username: An e-mail address, which is how Label Studio names people.
        password: For the browser.
        token: For the API.
    """

    username: str
    password: str
    token: str


def folder(settings: Settings) -> Path:
    """Where this machine's Label Studio and all of its data lie; made when missing, open to its owner alone."""
    path = settings.folder("label-studio")
    path.chmod(0o700)
    return path


def address(settings: Settings) -> str:
    """Where Label Studio is."""
    return settings.labelling.url or f"http://127.0.0.1:{settings.ports.label_studio}"


def credentials(settings: Settings) -> Credentials:
    """This machine's, made when there are none.

    Raises:
        ConfigurationError: The file is broken.
    """
    path = folder(settings) / "credentials.json"
    if not path.exists():
        made = Credentials(ADMINISTRATOR, secrets.token_urlsafe(12), secrets.token_hex(20))
        replace_file(path, json.dumps(asdict(made), indent=1).encode())
    try:
        return Credentials(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is broken: {error}.", remedy="Delete it; a new administrator is made at the next start."
        ) from error


def connect(settings: Settings) -> LabelStudio:
    """The Label Studio that the settings name.

    Raises:
        ConfigurationError: It is elsewhere, and there is no token for it; or none was ever started on this machine.
    """
    here = settings.labelling
    token = here.token.get_secret_value() if here.token is not None else ""
    if not token and here.url:
        raise ConfigurationError(
            f"There is no token for the Label Studio at {here.url}.",
            remedy="Set NINEFOLD_LABELLING__TOKEN to one of its legacy or personal access tokens.",
        )
    return LabelStudio(address(settings), token or credentials(settings).token, patience=here.patience_seconds)


def webhook(settings: Settings, use_case: str, project: int) -> dict[str, object] | None:
    """The webhook that tells the collector of new annotations; None where nobody said how the collector is reached.

    Args:
        settings: Where the collector is, and the secret.
        use_case: Name of the use case.
        project: Number of the project.
    """
    base = settings.labelling.webhook_url
    if not base and settings.environment == "local" and not settings.labelling.url:
        base = f"http://127.0.0.1:{settings.ports.collector}"
    secret = webhook_secret(settings)
    if not base or secret is None:
        return None
    return {
        "project": project,
        "url": f"{base.rstrip('/')}/v1/labels/{use_case}",
        "send_payload": True,
        "send_for_all_actions": False,
        "headers": {SECRET_HEADER: secret},
        "is_active": True,
        "actions": sorted(ACTIONS),
    }
