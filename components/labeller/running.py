"""Running this machine's Label Studio as a child: on the loopback, its data in the home, silent to all outside."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import IO

import httpx

from components.labeller.connection import ADMINISTRATOR, Credentials, credentials, folder
from components.labeller.installation import program
from ninefold.children import launched
from ninefold.errors import ConfigurationError, Unavailable
from ninefold.service import bound_socket
from ninefold.settings import Settings

Tell = Callable[[str], None]

READY_SECONDS = 900.0
"""The first start makes the database: a minute, and many on a machine whose disk is busy."""

_DRAIN_SECONDS = 10.0
_LOG_BYTES = 16 * 2**20
_POLL_SECONDS = 0.2
_TELL_SECONDS = 15.0


def serve(settings: Settings, tell: Tell, *, ready: Callable[[str], None]) -> int:
    """Runs it until SIGTERM, SIGINT or SIGHUP, or until it ends by itself.

    Args:
        settings: Where it listens and keeps its data.
        tell: Told what happens, in lines.
        ready: Called with its address once it answers.

    Returns:
        Its exit code; 0 where it was asked to end.

    Raises:
        ConfigurationError: The port is taken, another one runs in this home, or it doesn't admit its administrator.
        Unavailable: It ends before it answers, or doesn't answer in time.
    """
    asked = False

    def on_signal(_: int, __: FrameType | None) -> None:
        nonlocal asked
        asked = True

    place = folder(settings)
    with (place / "lock").open("wb") as lock:
        _lock(lock, settings)
        bound_socket("127.0.0.1", settings.ports.label_studio, name="label_studio").close()
        before = {n: signal.signal(n, on_signal) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        log = place / "label-studio.log"
        who = credentials(settings)
        process = _start(settings, who, log)
        try:
            url = f"http://127.0.0.1:{settings.ports.label_studio}"
            began = told = time.monotonic()
            while not asked and not _answers(url):
                if process.poll() is not None:
                    raise Unavailable(
                        f"Label Studio ended with {process.returncode} before it answered. {_last_line(log)}",
                        remedy=f"Its log is {log}.",
                    )
                if time.monotonic() - began > READY_SECONDS:
                    raise Unavailable(
                        f"Label Studio does not answer after {READY_SECONDS:.0f} s.", remedy=f"See {log}."
                    )
                if time.monotonic() - told >= _TELL_SECONDS:
                    told = time.monotonic()
                    tell(f"  still starting, {told - began:.0f} s ...")
                time.sleep(_POLL_SECONDS)
            if not asked:
                _check_token(url, who, place)
                ready(url)
            while not asked and process.poll() is None:
                time.sleep(_POLL_SECONDS)
            return 0 if asked else process.returncode
        finally:
            _end(process)
            for number, handler in before.items():
                signal.signal(number, handler)


def silent_environment(place: Path, who: Credentials) -> dict[str, str]:
    """What Label Studio is told: who its administrator is, and to ask and tell nobody outside of this machine.

    Some of what it asks has no switch (the tips on its first page come from GitHub): a proxy that isn't there ends it.
    """
    everywhere, here = ipaddress.IPv4Network("0.0.0.0/0"), ipaddress.IPv4Network("127.0.0.0/8")
    elsewhere = [*everywhere.address_exclude(here), ipaddress.IPv6Network("::/0")]
    return {
        "LABEL_STUDIO_BASE_DATA_DIR": str(place / "data"),
        "LABEL_STUDIO_USERNAME": who.username,
        "LABEL_STUDIO_PASSWORD": who.password,
        "LABEL_STUDIO_USER_TOKEN": who.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        # Strangers who reach the port can't make themselves accounts; who has an invitation can.
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        # Its webhook and its imports reach this machine alone: by default they reach all but this machine.
        "LABEL_STUDIO_USE_DEFAULT_BANNED_SUBNETS": "false",
        "LABEL_STUDIO_USER_ADDITIONAL_BANNED_SUBNETS": ",".join(map(str, elsewhere)),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:1"),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
    }


def _start(settings: Settings, who: Credentials, log: Path) -> subprocess.Popen[bytes]:
    command = [
        str(program(settings)), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port",
        str(settings.ports.label_studio), "--log-level", "WARNING",
    ]  # fmt: skip
    place = folder(settings)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("NINEFOLD_", "PYTHON"))}
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    with log.open("ab") as output:
        return subprocess.Popen(
            [*launched(), *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=place,
            env={**inherited, **silent_environment(place, who), "PYTHONUNBUFFERED": "1"},
            process_group=0,
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks it to end, then ends its whole group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_DRAIN_SECONDS)
    # macOS says the latter of a group whose processes have all ended.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2.0, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def _check_token(url: str, who: Credentials, place: Path) -> None:
    """Raises ConfigurationError where its database knows another administrator."""
    headers = {"Authorization": f"Token {who.token}"}
    answer = httpx.get(f"{url}/api/current-user/whoami", headers=headers, timeout=30.0, trust_env=False)
    if answer.status_code != 200:
        raise ConfigurationError(
            f"The Label Studio in {place} does not admit the token of {ADMINISTRATOR}.",
            remedy=f"Bring back the credentials.json that {place / 'data'} was made with, or delete both.",
        )


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"It last wrote: {lines[-1].strip()[:300]}." if lines else ""


def _lock(file: IO[bytes], settings: Settings) -> None:
    """Takes a file's lock for as long as it is open; where there are no such locks, the port alone tells two apart."""
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigurationError(
            f"Label Studio runs already in {settings.home}.", remedy="Stop the other `ninefold label up` first."
        ) from error
