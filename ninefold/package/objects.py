"""A folder in an object store: listed, read, written and deleted, in bounds of size and time.

``s3://bucket/folder`` with the usual variables: ``AWS_ENDPOINT_URL`` for a store that isn't Amazon's,
``AWS_ACCESS_KEY_ID`` and ``AWS_SECRET_ACCESS_KEY`` (or the role of a pod), ``AWS_REGION``, ``AWS_CA_BUNDLE``. ``gs://``
and ``az://`` go the same way.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ninefold.errors import ConfigurationError, NinefoldError, PackageError, Unavailable

SCHEMES = ("s3", "s3a", "gs", "az", "abfs", "abfss")
"""Schemes of object stores."""

RETRY_FOR = timedelta(seconds=30)
"""How long a request is repeated on 5xx and broken connections."""

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_CODE = re.compile(r"<Code>([^<]*)</Code>")
_SAID = re.compile(r"<Message>([^<]*)</Message>")
_LISTINGS, _BROKEN_OFF = 3, "list response body"
_REFUSED = re.compile(r"status code: 40[13]\b")
_WHO = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "XAdminUserNotFound")
_METADATA_SERVICE = re.compile(r"/latest/(api/token|meta-data)|redential")


@dataclass(frozen=True, slots=True)
class Stored:
    """One object.

    Args:
        size: In bytes.
        modified: When it was written last, by the store's clock.
    """

    size: int
    modified: datetime


def is_remote(uri: str) -> bool:
    """Whether a URI names something in an object store, rather than a path or ``file://`` URI."""
    return "://" in uri and not uri.startswith("file://")


class Objects:
    """A folder in an object store.

    Args:
        url: ``s3://bucket/folder``.

    Raises:
        ConfigurationError: The URL is of no object store, or the client is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        parts = urlsplit(self.url)
        if parts.scheme not in SCHEMES or not parts.netloc:
            raise ConfigurationError(
                f"{url!r} is not the address of a folder in an object store.", remedy="Write it as s3://bucket/folder."
            )
        try:
            from obstore.store import from_url
        except ImportError as error:
            raise ConfigurationError(
                f"{url} can't be reached: the package obstore is not installed.",
                remedy="Install Ninefold's extra: pip install '.[cluster]'",
            ) from error
        self._bucket = parts.netloc
        self._endpoint = next((os.environ[name] for name in _ENDPOINTS if os.environ.get(name)), "")
        client: dict[str, Any] = {
            "allow_http": self._endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "read_timeout": timedelta(seconds=20),
            "timeout": timedelta(minutes=5),
        }
        if bundle := os.environ.get("AWS_CA_BUNDLE"):
            client["root_certificate"] = _read_bundle(bundle)
        backoff = {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=5), "base": 2}
        retries: Any = {"max_retries": 8, "retry_timeout": RETRY_FOR, "backoff": backoff}
        try:
            self._store: Any = from_url(self.url, client_options=client, retry_config=retries)  # type: ignore[call-overload]
        except Exception as error:
            raise self._error(error, "opened") from error

    def where(self, name: str) -> str:
        """The address of an object."""
        return f"{self.url}/{name}" if name else self.url

    def list(self, folder: str = "") -> dict[str, Stored]:
        """Every object below a folder: its name within the folder → what is known of it.

        Raises:
            NinefoldError: The store refuses, or does not answer.
        """
        import obstore

        prefix = f"{folder}/" if folder else ""
        for attempt in range(_LISTINGS):
            try:
                found = [one for chunk in obstore.list(self._store, folder or None) for one in chunk]
                break
            except Exception as error:
                # The client repeats a listing that fails, but not one whose answer breaks off.
                if _BROKEN_OFF not in str(error) or attempt == _LISTINGS - 1:
                    raise self._error(error, "listed", folder) from error
        return {one["path"].removeprefix(prefix): Stored(one["size"], one["last_modified"]) for one in found}

    def read(self, name: str, *, limit: int) -> bytes:
        """An object's content.

        Args:
            name: Which.
            limit: The most bytes that are read.

        Raises:
            PackageError: There is no such object, or it is longer.
            NinefoldError: The store refuses, or does not answer.
        """
        import obstore

        try:
            found = obstore.get(self._store, name)
            size = found.meta["size"]
            content = bytes(found.bytes()) if size <= limit else b""
        except Exception as error:
            raise self._error(error, "read", name) from error
        if size > limit:
            raise PackageError(f"{self.where(name)} has {size:,} bytes; at most {limit:,} are read.")
        return content

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes objects one after the other, in the mapping's order.

        Raises:
            NinefoldError: The store refuses, or does not answer.
        """
        import obstore

        for name, content in files.items():
            try:
                obstore.put(self._store, name, content)
            except Exception as error:
                raise self._error(error, "written", name) from error

    def delete(self, names: Iterable[str]) -> None:
        """Deletes objects; one that isn't there is no error.

        Raises:
            NinefoldError: The store refuses, or does not answer.
        """
        import obstore

        for name in names:
            try:
                obstore.delete(self._store, name)
            except FileNotFoundError:
                continue
            except Exception as error:
                raise self._error(error, "deleted", name) from error

    def _error(self, error: Exception, action: str, name: str = "") -> NinefoldError:
        """One line from an error of the store's client, which holds requests, bodies and its own structures."""
        import obstore.exceptions as refusals

        text = str(error)
        code, said = _CODE.search(text), _SAID.search(text)
        words = f"{code.group(1)}: {said.group(1).rstrip('.')}" if code and said else _first_line(text)
        what, at = f"{self.where(name)} can't be {action}", self._endpoint or "the store's own address"
        if code is not None and code.group(1) == "NoSuchBucket":
            return ConfigurationError(
                f"{what}: there is no bucket {self._bucket!r} at {at}.",
                remedy="Make the bucket, or correct NINEFOLD_MODELS_URL or AWS_ENDPOINT_URL.",
            )
        # Without any, the client asks the service of a cloud's machine that hands them out.
        if code is None and _METADATA_SERVICE.search(text):
            return ConfigurationError(
                f"{what}: no credentials were given ({words}).",
                remedy="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (on a cluster the Secret ninefold-s3), or give "
                "the pod's service account a role.",
            )
        refused = isinstance(error, refusals.PermissionDeniedError | refusals.UnauthenticatedError)
        # A listing's refusal has no type of its own, and some stores answer 404 to a key that they don't know.
        if refused or _REFUSED.search(text) or (code is not None and code.group(1) in _WHO):
            return ConfigurationError(
                f"{what}: {at} refuses: {words}.",
                remedy="Check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they may do with the bucket.",
            )
        if isinstance(error, FileNotFoundError):
            return PackageError(f"{what}: there is no such object.")
        return Unavailable(
            f"{what}: {at} does not answer as it should: {words}.",
            remedy="Check AWS_ENDPOINT_URL and whether the object store runs, then repeat this.",
        )


def _first_line(text: str) -> str:
    # From here on there is the client's own structure.
    line = text.partition("\n\nDebug source:")[0].partition(": <?xml")[0]
    return " ".join(line.split()).rstrip(".")[:400]


def _read_bundle(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"AWS_CA_BUNDLE names {path}, which can't be read: {error.strerror}.", remedy="Correct it, or unset it."
        ) from error
