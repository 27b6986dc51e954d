"""How a use case's history is divided into what is learned from, what is chosen by, and what is tested on."""

from __future__ import annotations

from dataclasses import dataclass

from ninefold.clock import parse_instant
from ninefold.errors import ConfigurationError, InvalidInput

NOW = "now"
"""An end of history that moves along with time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSplit:
    """Split by decision moment: the last ``test`` before ``until`` is the test set, ``validation`` lies before it.

    Args:
        validation: Length in calendar months (``1mo``) or days (``30d``).
        test: Likewise.
        until: Up to when a run learns that is not told: ``now`` for a source that is added to, or the instant at which
            a history ends, as ``2024-03-01T00:00:00Z``. None where every run has to be told.
    """

    validation: str = "1mo"
    test: str = "1mo"
    until: str | None = None

    def __post_init__(self) -> None:
        if self.until not in (None, NOW):
            try:
                parse_instant(self.until, field="until")
            except InvalidInput as error:
                raise ConfigurationError(
                    f"TimeSplit: {error.message}", remedy="Write now, or an instant as 2024-03-01T00:00:00Z."
                ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class HashSplit:
    """Split by a salted hash of the key, stratified by the truth, where there is no time. The report says so.

    Args:
        validation: Share of the rows, 0–1.
        test: Share of the rows, 0–1.
        salt: Changes which rows fall where.
    """

    validation: float = 0.2
    test: float = 0.2
    salt: str = ""
