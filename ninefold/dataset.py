"""A data set on its way from the featurizer to the model builder: one Parquet file that describes itself.

Columns: ``key``, ``decided_at`` (null where the use case has no time), ``block``, ``truth``, ``baseline`` (the
baseline's prediction), ``weight`` (1 unless a sampler changed it), then ``request.<field>``, ``feature.<logical name>``
and ``input.<name>``. The card stands in the file's key-value metadata, so whoever gets a URI needs nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ninefold.atomic import replacing
from ninefold.errors import DataError
from ninefold.fields import Columns, Metric
from ninefold.signature import Signature

if TYPE_CHECKING:
    import polars as pl

    from ninefold.usecase import ModelFormat

PARTS = ("training", "validation", "test")
"""What examples are split into."""

REQUEST, FEATURE, INPUT = "request.", "feature.", "input."
"""Prefixes of a data set's columns."""

_CARD = "ninefold"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetCard:
    """What a data set holds.

    Args:
        signature: Inputs, views and target.
        metric: What a model of it should optimise.
        offset: Input that is added to what a model learns; None to learn the truth itself.
        part: ``training``, ``validation``, ``test`` or ``all``.
        notes: Counts and reasons that steps left (dropped rows, oversampling), for the report.
        model_format: What a model of it is packaged as.
    """

    signature: Signature
    metric: Metric
    offset: str | None
    part: str = "all"
    model_format: ModelFormat = "onnx"
    notes: Mapping[str, Any] = field(default_factory=dict)

    def with_notes(self, **notes: Any) -> DatasetCard:
        """The same card with more notes."""
        return replace(self, notes={**self.notes, **notes})

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return {
            "signature": self.signature.to_json(),
            "metric": {"name": self.metric.name, "direction": self.metric.direction, "unit": self.metric.unit},
            "offset": self.offset,
            "part": self.part,
            "model_format": self.model_format,
            "notes": dict(self.notes),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> DatasetCard:
        """Reads what ``to_json`` wrote."""
        return cls(
            signature=Signature.from_json(document["signature"]),
            metric=Metric(**document["metric"]),
            offset=document["offset"],
            part=document["part"],
            model_format=document.get("model_format", "onnx"),
            notes=document["notes"],
        )


def local_path(uri: str) -> Path:
    """The path behind a ``file://`` URI or a plain path.

    Raises:
        DataError: Another scheme.
    """
    if uri.startswith("file://"):
        return Path(uri.removeprefix("file://"))
    if "://" in uri:
        raise DataError(f"{uri!r} is not a file on this machine.", remedy="Give a path or a file:// URI.")
    return Path(uri)


def write_dataset(uri: str, frame: pl.DataFrame, card: DatasetCard) -> None:
    """Writes a data set, whole or not at all."""
    path = local_path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        frame.write_parquet(temporary, metadata={_CARD: json.dumps(card.to_json())})


def read_card(uri: str) -> DatasetCard:
    """Reads the card alone.

    Raises:
        DataError: The file is missing, is not Parquet, or has no card.
    """
    import polars as pl

    path = local_path(uri)
    try:
        metadata = pl.read_parquet_metadata(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DataError(f"{path} can't be read as Parquet: {error}.") from error
    if _CARD not in metadata:
        raise DataError(
            f"{path} is not a Ninefold data set: it has no card.", remedy="Make it with: ninefold run training"
        )
    return DatasetCard.from_json(json.loads(metadata[_CARD]))


def read_dataset(uri: str) -> tuple[pl.DataFrame, DatasetCard]:
    """Reads rows and card.

    Raises:
        DataError: As ``read_card``; or a column that the card names is missing.
    """
    import polars as pl

    card = read_card(uri)
    frame = pl.read_parquet(local_path(uri))
    missing = [i.name for i in card.signature.inputs if INPUT + i.name not in frame.columns]
    if missing:
        raise DataError(f"{uri}: the inputs {', '.join(missing)} are missing.")
    return frame, card


def columns_of(frame: pl.DataFrame, prefix: str) -> Columns:
    """The columns under a prefix as numpy, of the types that ``ninefold.fields`` names, prefix removed."""
    return {c.removeprefix(prefix): to_numpy(frame[c]) for c in frame.columns if c.startswith(prefix)}


def to_numpy(series: pl.Series) -> Any:
    """One polars column as the numpy column of its kind: numbers float64 (null is NaN), strings object, times us."""
    import numpy as np
    import polars as pl

    if series.dtype == pl.Datetime:
        return series.dt.replace_time_zone(None).dt.cast_time_unit("us").to_numpy()
    if series.dtype.is_numeric() or series.dtype == pl.Boolean or series.dtype == pl.Null:
        return series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.array(series.cast(pl.String).to_list(), dtype=object)
