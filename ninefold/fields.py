"""Fields, columns and metrics: declared once, used by ETL, front end, model signature and API schema.

A field's kind decides its column's numpy type:

========== ================================= ===========================
kind       JSON value                        numpy column
========== ================================= ===========================
number     number                            float64, null is NaN
integer    whole number                      float64, null is NaN
boolean    true or false                     float64 (0, 1), null is NaN
category   string                            object of str, null is None
text       string                            object of str, null is None
time       RFC 3339 string                   datetime64[us], null is NaT
========== ================================= ===========================
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from ninefold.clock import parse_instant
from ninefold.errors import ConfigurationError, InvalidInput

if TYPE_CHECKING:
    import numpy as np

Kind = Literal["number", "integer", "boolean", "category", "text", "time"]
Columns = Mapping[str, "np.ndarray[Any, Any]"]
"""Equally long numpy columns by name, of the types that the kinds name."""

NUMERIC: frozenset[str] = frozenset({"number", "integer", "boolean"})
STRINGS: frozenset[str] = frozenset({"category", "text"})
MAX_CATEGORY_LENGTH = 256
MAX_TEXT_LENGTH = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One value of a request, an event or a truth.

    Args:
        name: A Python identifier, unique among its siblings.
        kind: See the table above.
        description: One sentence for the API schema.
        unit: Unit of a number (``min``, ``mile``), for readers.
        minimum: Least value that the use case declares possible. Outside of it a request is answered by the fallback.
        maximum: Greatest value, likewise.
        categories: The only values there can be; None leaves them open.
        pattern: Regular expression that a category must match whole.
        nullable: Whether null is a value. A field that is not nullable is required.
        on_unseen: What a value that training never saw does: ``flag`` it, or ``fallback`` to the baseline. A text is
            one that training never saw when it knows none of its words.
        digest_of: Another request field, a string: where a request leaves this one out, it is that string's ``digest``.
            So a key need not be sent, and equal texts have one. None for a field like any other.
        example: A value for documents and the API schema.
    """

    name: str
    kind: Kind
    description: str = ""
    unit: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    pattern: str | None = None
    nullable: bool = False
    on_unseen: Literal["flag", "fallback"] = "flag"
    digest_of: str | None = None
    example: Any = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigurationError(f"Field name {self.name!r} is not an identifier.")
        if "__" in self.name:
            raise ConfigurationError(f"Field name {self.name!r} holds '__', which joins a view to its feature.")
        if (self.minimum is not None or self.maximum is not None) and self.kind not in ("number", "integer"):
            raise ConfigurationError(f"Field {self.name!r} is a {self.kind} and can't have a range.")
        if (self.categories is not None or self.pattern is not None) and self.kind != "category":
            raise ConfigurationError(f"Field {self.name!r} is a {self.kind} and can't have categories or a pattern.")
        if self.digest_of is not None and (self.kind != "category" or self.nullable or self.categories or self.pattern):
            raise ConfigurationError(
                f"Field {self.name!r} is the digest of {self.digest_of!r}, and so a category that is neither null nor "
                "bound to a list or a pattern."
            )

    def check(self, value: Any, *, where: str = "") -> Any:
        """Returns the value as Python keeps it: float, str, aware datetime, or None.

        Ranges are not checked here: a value outside of its declared range is answered, by the fallback (``in_range``).

        Args:
            value: A JSON value.
            where: Prefix of the field's name in messages (``instances[3].``).

        Raises:
            InvalidInput: The value is of another type, not finite, null where it must not be, or not a category.
        """
        name = where + self.name
        if value is None:
            if self.nullable:
                return None
            raise InvalidInput(
                name, "is missing.", remedy=f"Send {'an' if self.kind == 'integer' else 'a'} {self.kind}."
            )
        match self.kind:
            case "number" | "integer":
                # bool is an int in Python, and never a number in JSON.
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise InvalidInput(name, f"{quote(value)} is not a number.", remedy="Send a JSON number.")
                try:
                    number = float(value)
                except OverflowError:
                    number = math.inf
                if not math.isfinite(number):
                    raise InvalidInput(name, f"{quote(value)} is not finite.", remedy="Send a finite number.")
                if self.kind == "integer" and not number.is_integer():
                    raise InvalidInput(name, f"{quote(value)} is not whole.", remedy="Send a whole number.")
                return number
            case "boolean":
                if not isinstance(value, bool):
                    raise InvalidInput(name, f"{quote(value)} is not a boolean.", remedy="Send true or false.")
                return float(value)
            case "time":
                if isinstance(value, datetime):
                    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
                if not isinstance(value, str):
                    raise InvalidInput(
                        name, f"{quote(value)} is not a time.", remedy="Send a string such as 2013-07-01T12:30:00Z."
                    )
                return parse_instant(value, field=name)
            case "category" | "text":
                return self._check_string(value, name)

    def _check_string(self, value: Any, name: str) -> str:
        if not isinstance(value, str):
            raise InvalidInput(name, f"{quote(value)} is not a string.", remedy="Send a JSON string.")
        longest = MAX_TEXT_LENGTH if self.kind == "text" else MAX_CATEGORY_LENGTH
        if len(value) > longest:
            raise InvalidInput(name, f"is {len(value):,} characters long.", remedy=f"Send at most {longest:,}.")
        if "\0" in value:
            # PostgreSQL keeps no text that holds one, and what is answered has to be kept.
            raise InvalidInput(name, "holds the character NUL.", remedy="Leave it out.")
        if self.categories is not None and value not in self.categories:
            raise InvalidInput(
                name, f"{quote(value)} is not one of its values.", remedy=f"Send one of {', '.join(self.categories)}."
            )
        if self.pattern is not None and re.fullmatch(self.pattern, value) is None:
            raise InvalidInput(
                name, f"{quote(value)} does not match {self.pattern}.", remedy=f"Send a value like {self.example!r}."
            )
        return value

    def in_range(self, value: float) -> bool:
        """Whether a number lies in the declared range; without one, always."""
        return not (
            (self.minimum is not None and value < self.minimum) or (self.maximum is not None and value > self.maximum)
        )


def digest(text: str) -> str:
    """What stands for a text where it has no id: the first 32 hexadecimal digits of the SHA-256 of its UTF-8.

    Nothing is made alike before: texts that differ in a blank or in a letter's case have different digests.
    """
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def quote(value: Any) -> str:
    """A value in a message: at most 60 characters of it."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """One column that the model sees, as ``derive`` returns it.

    Args:
        name: Its name in the derived columns and in the package's signature.
        kind: ``number`` (float32 in the model), ``category`` or ``text`` (string in the model).
        group: The group that an explanation adds its contribution to.
        column: Request field or feature that it is without a change, where ``derive`` does not return it.
    """

    name: str
    kind: Literal["number", "category", "text"] = "number"
    group: str = ""
    column: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """The number that search, gate and rollout optimise.

    Args:
        name: A name that ``ninefold.metrics`` computes: ``mae``, ``rmse``, ``auc``, ``log_loss``, ``brier``, …
        direction: Whether a better model has a lower or a higher value.
        unit: For readers; empty where the metric has none.
    """

    name: str
    direction: Literal["minimize", "maximize"]
    unit: str = ""

    def __post_init__(self) -> None:
        if self.direction not in ("minimize", "maximize"):
            raise ConfigurationError(
                f"Metric {self.name!r} has direction {self.direction!r}.", remedy="Use minimize or maximize."
            )

    def better(self, a: float, b: float) -> bool:
        """Whether ``a`` is strictly better than ``b``."""
        return a < b if self.direction == "minimize" else a > b
