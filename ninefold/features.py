"""What can be known of an entity: batch views, streams and windows, and the exact features that a model needs.

Light on purpose: the front end reads these declarations without importing Feast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from ninefold.clock import format_duration, parse_duration
from ninefold.errors import ConfigurationError
from ninefold.fields import Field, Kind
from ninefold.windows.declaration import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """Features that change slowly, computed by a batch job: one row per key and ``known_at``.

    Args:
        name: Its name, also in the feature store; features are called ``{name}__{column}``.
        key: Request fields that name the entity; also columns of the view.
        columns: Its features. Times are not features.
        time_to_live: Age at which a row no longer counts, offline and online; None for never.
        required: Whether a missing or stale row makes the front end answer by its fallback.
        description: One sentence for the feature store's catalogue.
    """

    name: str
    key: tuple[str, ...]
    columns: tuple[Field, ...]
    time_to_live: timedelta | None = None
    required: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not self.name.isidentifier() or "__" in self.name:
            raise ConfigurationError(f"View name {self.name!r} is not an identifier without '__'.")
        if not self.key or not self.columns:
            raise ConfigurationError(f"View {self.name!r} needs a key and at least one column.")
        if any(column.kind in ("time", "text") for column in self.columns):
            raise ConfigurationError(f"View {self.name!r}: a feature is a number, a boolean or a category.")

    @property
    def view(self) -> str:
        """Its name in the feature store."""
        return self.name

    @property
    def features(self) -> tuple[str, ...]:
        """Logical names of its features."""
        return tuple(f"{self.name}__{column.name}" for column in self.columns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Events of one kind, as the collector takes them.

    Args:
        name: Its name on the wire.
        fields: The values that an event carries.
        description: One sentence for the API schema.
    """

    name: str
    fields: tuple[Field, ...]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureView:
    """One view as a model's signature names it: exact, lengths included.

    Args:
        view: Name of the view in the feature store (``destination_gain_6h``).
        key: Request fields that name the entity.
        features: Logical names, as ``derive`` sees them, in the order of ``columns``.
        columns: Columns of the view's row.
        kinds: Kind of each column.
        source: ``batch`` or ``window``.
        window: Logical name of the window, and its length as ``6h``; None for a batch view.
        time_to_live: Seconds after which a batch row no longer counts; None for never.
        required: Whether a missing or stale row makes the front end answer by its fallback.
    """

    view: str
    key: tuple[str, ...]
    features: tuple[str, ...]
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    source: Literal["batch", "window"]
    window: tuple[str, str] | None = None
    time_to_live: float | None = None
    required: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "view": self.view,
            "key": list(self.key),
            "features": list(self.features),
            "columns": list(self.columns),
            "kinds": list(self.kinds),
            "source": self.source,
            "window": list(self.window) if self.window else None,
            "time_to_live": self.time_to_live,
            "required": self.required,
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> FeatureView:
        """Reads what ``to_json`` wrote."""
        window = document["window"]
        return cls(
            view=document["view"],
            key=tuple(document["key"]),
            features=tuple(document["features"]),
            columns=tuple(document["columns"]),
            kinds=tuple(document["kinds"]),
            source=document["source"],
            window=(window[0], window[1]) if window else None,
            time_to_live=document["time_to_live"],
            required=document["required"],
        )


def batch_feature_view(view: BatchView) -> FeatureView:
    """A batch view as a signature names it."""
    return FeatureView(
        view=view.view,
        key=view.key,
        features=view.features,
        columns=tuple(column.name for column in view.columns),
        kinds=tuple(column.kind for column in view.columns),
        source="batch",
        time_to_live=view.time_to_live.total_seconds() if view.time_to_live else None,
        required=view.required,
    )


def window_feature_view(window: Window) -> FeatureView:
    """A window, at its length, as a signature names it."""
    return FeatureView(
        view=window.view,
        key=window.key,
        features=window.features,
        columns=window.aggregates,
        kinds=tuple("number" for _ in window.aggregates),
        source="window",
        window=(window.name, format_duration(window.length)),
    )


def with_lengths(windows: Sequence[Window], lengths: dict[str, str]) -> tuple[Window, ...]:
    """The windows with the lengths that a run or a signature chose.

    Args:
        windows: As declared.
        lengths: Window name → length (``{"destination_gain": "6h"}``); a window that is not named keeps its own.

    Raises:
        ConfigurationError: A name that no window has.
        InvalidInput: A length that is not a duration.
    """
    unknown = sorted(set(lengths) - {window.name for window in windows})
    if unknown:
        raise ConfigurationError(
            f"No window is called {', '.join(unknown)}.",
            remedy=f"The windows are {', '.join(window.name for window in windows) or 'none'}.",
        )
    return tuple(
        window.of(parse_duration(lengths[window.name], field=window.name)) if window.name in lengths else window
        for window in windows
    )
