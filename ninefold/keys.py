"""API keys: random, shown once, stored as hashes, compared in constant time.

The keys file maps a name to the SHA-256 of its key, or to ``{"sha256": …, "only": ["feedback"]}`` for a key that is
admitted to these things and to nothing else: the one that lies in every user's application may give feedback, and may
not say what the organisation's systems say. A key is 256 random bits, so a plain hash needs no salt or stretching
(OWASP Password Storage Cheat Sheet: those are for guessable secrets).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from ninefold.atomic import alone, replace_file
from ninefold.errors import ConfigurationError, NotAllowed, NotAuthenticated, NotFound, UsageError

log = structlog.get_logger()

if TYPE_CHECKING:
    from ninefold.settings import Settings

_PREFIX = "nf_"

PURPOSES = ("feedback", "truths", "events")
"""What a key can be for alone: what the collector takes."""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


class Keys:
    """The keys that a service admits.

    Args:
        hashes: Name → SHA-256 of the key, hexadecimal.
        only: Name → what the key is for; one that is not named is for everything.
    """

    def __init__(self, hashes: Mapping[str, str], only: Mapping[str, Collection[str]] | None = None) -> None:
        self._hashes = {name: bytes.fromhex(digest) for name, digest in hashes.items()}
        self._only = {name: frozenset(purposes) for name, purposes in (only or {}).items()}

    @classmethod
    def from_file(cls, path: Path) -> Keys:
        """Reads a keys file.

        Raises:
            ConfigurationError: It is missing or broken.
        """
        try:
            entries = json.loads(path.read_text()).items()
            return cls(
                {str(name): str(e["sha256"] if isinstance(e, dict) else e) for name, e in entries},
                {str(name): list(e["only"]) for name, e in entries if isinstance(e, dict)},
            )
        except FileNotFoundError as error:
            raise ConfigurationError(
                f"There is no keys file {path}.", remedy="Make a key with: ninefold key create NAME"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"The keys file {path} can't be read: {error.strerror}.") from error
        except (ValueError, AttributeError, KeyError, TypeError) as error:
            raise ConfigurationError(f"The keys file {path} is broken: {error}.") from error

    def __len__(self) -> int:
        return len(self._hashes)

    def authenticate(self, headers: list[tuple[bytes, bytes]], *, what: str = "") -> str:
        """The name behind ``X-ApiKey`` or ``Authorization: Bearer`` of raw ASGI headers (lower-case names).

        Args:
            headers: The request's.
            what: What is asked: one of ``PURPOSES``, or nothing that a key could be for alone.

        Raises:
            NotAuthenticated: No key, or one that is not known.
            NotAllowed: One that is for something else.
        """
        for name, value in headers:
            if name == b"x-apikey":
                return self.name_of(value, what=what)
            if name == b"authorization" and value[:7].lower() == b"bearer ":
                return self.name_of(value[7:].strip(), what=what)
        raise NotAuthenticated("No API key.", remedy="Send it as X-ApiKey, or as Authorization: Bearer.")

    def name_of(self, key: bytes, *, what: str = "") -> str:
        """The name of a key.

        Raises:
            NotAuthenticated: The key is not known.
            NotAllowed: It is for something else.
        """
        digest = hashlib.sha256(key).digest()
        found: str | None = None
        # Every hash is compared, so that time tells nothing about which one matched.
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        if found is None:
            raise NotAuthenticated("The API key is not known.", remedy="Make one with: ninefold key create NAME")
        if found in self._only and what not in self._only[found]:
            purposes = ", ".join(sorted(self._only[found]))
            raise NotAllowed(f"The API key {found!r} is for {purposes} alone.", remedy="Use another key for this.")
        return found

    def secret_of(self, name: str) -> bytes:
        """32 bytes that only who holds the key or the keys file knows; they change when the name gets a new key.

        Raises:
            NotAuthenticated: The name has no key any more.
        """
        secret = self._hashes.get(name)
        if secret is None:
            raise NotAuthenticated(f"The API key {name!r} was revoked.", remedy="Use another key.")
        return secret


class KeysFile:
    """The keys in a file, read again when it changed: a new key works at once, and so does the end of an old one.

    A file that became unreadable leaves the last good keys in force.

    Args:
        path: The file.

    Raises:
        ConfigurationError: It is missing or broken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._stamp()
        self._keys = Keys.from_file(path)

    @property
    def keys(self) -> Keys:
        """The keys in force."""
        stamp = self._stamp()
        if stamp != self._seen:
            try:
                self._keys = Keys.from_file(self._path)
            except ConfigurationError as error:
                log.warning("keys not read", error=str(error))
                if stamp is not None and isinstance(error.__cause__, OSError):
                    # It is there, and may be read in a moment: a process can have too many files open.
                    return self._keys
            self._seen = stamp
        return self._keys

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        # The file is replaced, never rewritten, so two versions differ in their inode at least.
        return status.st_ino, status.st_mtime_ns, status.st_size


def create_key(path: Path, name: str, only: Collection[str] = ()) -> str:
    """Makes a key, adds its hash to the keys file (mode 0600) under ``name``, and returns it: it is shown this once.

    A name that exists gets a new key; the old one no longer works.

    Args:
        path: The keys file.
        name: Who uses it.
        only: What it is for, of ``PURPOSES``; empty for everything.

    Raises:
        UsageError: A purpose is none.
    """
    if unknown := [purpose for purpose in only if purpose not in PURPOSES]:
        raise UsageError(f"A key can't be for {unknown[0]!r} alone.", remedy=f"It can for {', '.join(PURPOSES)}.")
    with _changing(path):
        return _add_key(path, name, only)


def key_names(path: Path) -> list[str]:
    """Names in the keys file, in order; none when there is no file.

    Raises:
        ConfigurationError: It is broken.
    """
    return sorted(_entries(path))


def revoke_key(path: Path, name: str) -> None:
    """Takes a key out of the keys file.

    Raises:
        NotFound: There is no key of that name.
        ConfigurationError: The file is broken.
    """
    with _changing(path):
        entries = _entries(path)
        if name not in entries:
            raise NotFound(f"There is no key {name!r}.", remedy=f"There are {', '.join(sorted(entries)) or 'none'}.")
        _replace(path, {other: entry for other, entry in entries.items() if other != name})


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Keeps others from changing a keys file meanwhile: what two of them add would not both be kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The folder and no file of its own: nothing is left beside the keys.
    with alone(path.parent):
        yield


def _add_key(path: Path, name: str, only: Collection[str] = ()) -> str:
    key = _PREFIX + secrets.token_urlsafe(32)
    digest = _digest(key).hex()
    _replace(path, _entries(path) | {name: {"sha256": digest, "only": sorted(set(only))} if only else digest})
    return key


def _entries(path: Path) -> dict[str, Any]:
    try:
        return {str(name): entry for name, entry in json.loads(path.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise ConfigurationError(f"The keys file {path} is broken: {error}.") from error


def _replace(path: Path, entries: dict[str, Any]) -> None:
    replace_file(path, json.dumps(entries, indent=1).encode())


def local_key(home: Path, keys_file: Path) -> str:
    """The key that a laptop's own tools use; kept in clear in ``home/local.key``, mode 0600, made when missing."""
    path = home / "local.key"
    if not (path.exists() and keys_file.exists()):
        with _changing(keys_file):
            # Somebody else may have made it while the lock was waited for.
            if not (path.exists() and keys_file.exists()):
                replace_file(path, f"{_add_key(keys_file, 'local')}\n".encode())
    return path.read_text().strip()


def service_key(settings: Settings) -> str:
    """The key that one service shows another: the configured one, or on a laptop that of its own tools.

    Raises:
        ConfigurationError: None is configured, and this is no laptop.
    """
    if settings.serving.model_key is not None:
        return settings.serving.model_key.get_secret_value()
    if settings.environment != "local":
        raise ConfigurationError(
            "There is no key to ask the model servers and the front end with.",
            remedy="Set NINEFOLD_SERVING__MODEL_KEY.",
        )
    return local_key(settings.home, settings.keys_path)


def keys_of(settings: Settings) -> Keys:
    """The keys that a service admits, read once; on a laptop the one of its own tools is made first.

    Raises:
        ConfigurationError: The keys file is missing or broken.
    """
    if settings.environment == "local":
        local_key(settings.home, settings.keys_path)
    return Keys.from_file(settings.keys_path)
