"""Every error that Ninefold raises on purpose.

NinefoldError                  exit 1
├── UsageError                 exit 2   what was asked for can't be asked for
│   └── UnknownUseCase                  no use case of that name
├── ConfigurationError         exit 2   settings, environment or installation are wrong
├── InvalidInput               HTTP 400 one field of a request is wrong
├── NotAuthenticated           HTTP 401 no key, or a wrong one
│   └── NotAllowed             HTTP 403 a key that is for something else
├── NotFound                   HTTP 404
├── TooLarge                   HTTP 413 a body or a batch over its bound
├── LimitReached               HTTP 429 a caller has used up what it may ask
├── Unavailable                HTTP 503 a part that is needed does not answer
├── DataError                  exit 1   data at rest breaks its contract
├── PackageError               exit 1   a model package is damaged, foreign or can't be made
│   └── ParityError                     the exported model does not predict what the trained one does
├── StoreError                 exit 1   the production database refuses or is out of reach
│   └── Outdated           HTTP 409     what a writer went by has changed since: a revision, or its lease
├── ClusterError               exit 1   Kubernetes refuses, or what runs on it is not as it has to be
│   ├── FieldConflict      HTTP 409     a field belongs to somebody else
│   └── ObjectChanged      HTTP 409     an object is there already, or is another than it was when it was read
└── StepFailed                 exit 1   a pipeline step ended in failure

A message says what is wrong and the value; ``remedy`` says what to do next.
"""

from __future__ import annotations

from collections.abc import Mapping


class NinefoldError(Exception):
    """Base of all errors that Ninefold raises on purpose.

    Args:
        message: What is wrong, with the value.
        remedy: The next step, as a sentence; empty where the message already says it.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UsageError(NinefoldError):
    """The command, option or argument asks for something that does not exist."""

    exit_code = 2
    http_status = 400


class UnknownUseCase(UsageError):
    """No use case of that name, or an import path that leads to none."""

    http_status = 404


class ConfigurationError(NinefoldError):
    """Settings, environment or installation are wrong."""

    exit_code = 2


class InvalidInput(NinefoldError):
    """One field of a request is wrong.

    Args:
        field: The field's name, with its place in a batch (``instances[3].carrier``).
        message: What is wrong with its value; the value itself is quoted, shortened.
        remedy: What would be accepted.
    """

    http_status = 400

    def __init__(self, field: str, message: str, *, remedy: str = "") -> None:
        super().__init__(f"{field}: {message}", remedy=remedy)
        self.field = field


class NotAuthenticated(NinefoldError):
    """No API key was sent, or one that is not known."""

    http_status = 401


class NotAllowed(NotAuthenticated):
    """The key is known, and is for something else."""

    http_status = 403


class NotFound(NinefoldError):
    """What the address names does not exist."""

    http_status = 404


class TooLarge(NinefoldError):
    """A body or a batch is over its bound."""

    http_status = 413


class LimitReached(NinefoldError):
    """A caller has used up what it may ask.

    Args:
        message: What is used up.
        remedy: What to do.
        after_seconds: When it may ask again; None where it may not.
    """

    http_status = 429

    def __init__(self, message: str, *, remedy: str = "", after_seconds: float | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.after_seconds = after_seconds


class Unavailable(NinefoldError):
    """A part that the answer needs does not answer, or not in time."""

    http_status = 503


class DataError(NinefoldError):
    """Data at rest breaks its contract: a column is missing, a type is wrong, a key repeats."""


class PackageError(NinefoldError):
    """A model package is damaged, foreign, or can't be made."""


class ParityError(PackageError):
    """The exported model does not predict what the trained model predicts."""


class StoreError(NinefoldError):
    """The production database refuses, is locked, or is out of reach."""

    http_status = 503


class Outdated(StoreError):
    """What a writer went by has changed since it looked: a revision, or the lease that it held."""

    http_status = 409


class ClusterError(NinefoldError):
    """Kubernetes refuses what was asked of it, or what runs on it is not as it has to be."""

    http_status = 502


class FieldConflict(ClusterError):
    """A field that was to be set belongs to somebody else, who edited the object by hand or by another program.

    Args:
        message: What is wrong: the object, who owns which fields.
        remedy: What to do.
        managers: Field manager → the paths that it owns and that were to be set.
    """

    http_status = 409

    def __init__(self, message: str, *, remedy: str = "", managers: Mapping[str, tuple[str, ...]]) -> None:
        super().__init__(message, remedy=remedy)
        self.managers = managers


class ObjectChanged(ClusterError):
    """An object that was to be made is there, or one that was to be replaced has changed since it was read."""

    http_status = 409


class StepFailed(NinefoldError):
    """A pipeline step ended in failure; the message names the step and its cause."""
