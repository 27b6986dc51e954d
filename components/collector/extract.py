"""Extract, transform, load: what the organisation's sources and the production database know, as one snapshot.

A snapshot is a folder of Parquet files: ``requests``, ``truths`` (with history), ``streams/<stream>``,
``views/<view>``, and ``summary.json``. Nothing in it is cut at a date: who reads it joins by ``known_at``.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from components.collector.source import check
from components.featurizer.entity_keys import entity_keys
from components.labeller.label_weights import label_weights
from ninefold.dataset import REQUEST
from ninefold.fields import Field
from ninefold.loading import load_object
from ninefold.truths import SOURCE, standing_rows
from ninefold.usecase import History, UseCase
from ninefold.windows.declaration import KNOWN_AT

if TYPE_CHECKING:
    import polars as pl

    from ninefold.settings import Settings
    from ninefold.store import Store

STANDS_FOR = "stands_for"
"""Column of examples with what a labelled row stands for, where experts were asked: ``sampling.weights``."""
_LABEL_WEIGHTS = "label_weights.parquet"
BATCH = 5_000
"""Events read from the store at a time."""


def extract(use_case: UseCase, store: Store, folder: Path) -> dict[str, Any]:
    """Writes a snapshot of everything known, and returns its summary.

    A key that the source and production both hold is the source's; a truth is kept with its history whoever told it.

    Args:
        use_case: Whose data.
        store: The production database.
        folder: Where the snapshot goes; what lies there is replaced.

    Raises:
        DataError: The source's frames break the contract.
    """
    history: History = load_object(use_case.extract, what="extract")()
    check(use_case, history)
    asked = _asked(use_case, store)
    requests, from_production = _with_production(use_case, history.requests, asked)
    truths = _with_production_truths(use_case, history.truths, asked, store)
    stands_for = label_weights(store, use_case.name)
    streams = {
        s.name: _with_production_events(use_case, s.name, history.streams[s.name], store) for s in use_case.streams
    }
    if folder.exists():
        shutil.rmtree(folder)
    for part in ("streams", "views"):
        (folder / part).mkdir(parents=True)
    requests.write_parquet(folder / "requests.parquet")
    truths.write_parquet(folder / "truths.parquet")
    if stands_for:
        _weights_frame(stands_for).write_parquet(folder / _LABEL_WEIGHTS)
    for name, events in streams.items():
        events.sort(KNOWN_AT).write_parquet(folder / "streams" / f"{name}.parquet")
    for name, rows in history.views.items():
        rows.sort(KNOWN_AT).write_parquet(folder / "views" / f"{name}.parquet")
    summary = {
        "requests": requests.height,
        "requests_from_production": from_production,
        "truths": truths.height,
        "events": {name: events.height for name, events in streams.items()},
        "views": {name: rows.height for name, rows in history.views.items()},
        "dropped": dict(history.dropped),
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=1))
    return summary


def _weights_frame(weights: Mapping[str, float]) -> pl.DataFrame:
    import polars as pl

    return pl.DataFrame(
        {"key": list(weights), STANDS_FOR: list(weights.values())}, schema={"key": pl.String, STANDS_FOR: pl.Float64}
    )


def frame_of(fields: Iterable[Field], rows: Iterable[Mapping[str, Any]]) -> pl.DataFrame:
    """Records in JSON as a frame with the columns and types of their fields."""
    import polars as pl

    rows = list(rows)
    columns = {}
    for field in fields:
        values = [field.check(row.get(field.name)) if row.get(field.name) is not None else None for row in rows]
        columns[field.name] = pl.Series(field.name, values, dtype=_dtype(field))
    return pl.DataFrame(columns)


def _dtype(field: Field) -> Any:
    import polars as pl

    if field.kind == "time":
        return pl.Datetime("us", "UTC")
    return pl.String if field.kind in ("category", "text") else pl.Float64


def _with_production(use_case: UseCase, requests: pl.DataFrame, asked: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    import polars as pl

    source = requests.select(pl.col(f.name).cast(_dtype(f)) for f in use_case.request)
    # What the source holds need not be read from JSON, and that is nearly all.
    new = asked.join(entity_keys(source, use_case.key).to_frame(), on="key", how="anti", maintain_order="left")
    produced = frame_of(use_case.request, map(orjson.loads, new["request"]))
    return pl.concat([source, produced]), produced.height


def _asked(use_case: UseCase, store: Store) -> pl.DataFrame:
    """What production was asked: ``key``, and ``request`` as JSON text, one row a key, in order of decision moments.

    The last prediction before the decision moment is the one that counts for a key.
    """
    import polars as pl

    frame = pl.DataFrame(pl.from_arrow(store.arrow("predictions", use_case.name)))
    return frame.select("key", "request").unique("key", keep="last", maintain_order=True)


def _with_production_truths(use_case: UseCase, truths: pl.DataFrame, asked: pl.DataFrame, store: Store) -> pl.DataFrame:
    import polars as pl

    fields = [use_case.fields[name] for name in use_case.key]
    source = truths.select(
        *(pl.col(f.name).cast(_dtype(f)) for f in fields),
        pl.col("truth").cast(pl.Float64),
        pl.col(KNOWN_AT),
        # What the organisation keeps is its own word.
        source=pl.lit("system"),
    )
    told = pl.DataFrame(pl.from_arrow(store.arrow("truths", use_case.name))).select(
        "key", "received_at", "truth_id", "source", KNOWN_AT, truth="value"
    )
    # The whole history: what counted of a key at an earlier moment may have been another's word.
    told = told.sort(KNOWN_AT, "received_at", "truth_id")
    same = source.select(entity_keys(source, use_case.key), "truth", KNOWN_AT, "source")
    new = asked.join(
        told.join(same, on=["key", "truth", KNOWN_AT, "source"], how="anti", maintain_order="left"),
        on="key", how="inner", maintain_order="left_right",
    )  # fmt: skip
    produced = frame_of(fields, map(orjson.loads, new["request"])).hstack(new.select("truth", KNOWN_AT, "source"))
    return pl.concat([source, produced.select(source.columns)]).unique(keep="last", maintain_order=True)


def _with_production_events(use_case: UseCase, stream: str, events: pl.DataFrame, store: Store) -> pl.DataFrame:
    import polars as pl

    fields = next(s.fields for s in use_case.streams if s.name == stream)
    extra = [
        Field(name="event_id", kind="text"),
        Field(name="happened_at", kind="time"),
        Field(name=KNOWN_AT, kind="time"),
    ]
    source = events.select(pl.col(f.name).cast(_dtype(f)) for f in [*fields, *extra])
    known = set(source["event_id"].to_list())
    rows: list[dict[str, Any]] = []
    cursor = 0
    while True:
        batch, cursor = store.events(use_case.name, stream, after_cursor=cursor, limit=BATCH)
        if not batch:
            break
        rows += [
            {**e.values, "event_id": e.event_id, "happened_at": e.happened_at, KNOWN_AT: e.known_at}
            for e in batch
            if e.event_id not in known
        ]
    return pl.concat([source, frame_of([*fields, *extra], rows)])


def publish(snapshot: Path, data: Path) -> None:
    """Makes a snapshot the one that materialization and replay read: each of its files replaces the one in ``data``."""
    for source in sorted(path for path in snapshot.rglob("*") if path.is_file()):
        target = data / source.relative_to(snapshot)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.publishing")
        shutil.copyfile(source, temporary)
        temporary.replace(target)


def bring_history(use_case: UseCase, settings: Settings) -> dict[str, Any]:
    """Reads sources and production anew, makes that the history in ``data``, and returns its summary."""
    from ninefold.store import open_store

    with tempfile.TemporaryDirectory() as scratch, open_store(settings.store_url) as store:
        snapshot = Path(scratch) / "snapshot"
        summary = extract(use_case, store, snapshot)
        publish(snapshot, settings.folder("data") / use_case.name)
    return summary


def read_examples(use_case: UseCase, snapshot: Path, until: Any) -> pl.DataFrame:
    """Requests decided before ``until`` with the truth that counted by then: what a split divides.

    Columns: ``key``, ``decided_at``, ``truth``, ``truth_known_at``, ``truth_source``, ``request.<field>``; and where
    experts were asked ``stands_for``, null for a row whose truth they did not tell.
    A request whose truth is not known yet has a null truth, and is for others to count and drop.
    """
    import polars as pl

    key = list(use_case.key)
    requests = pl.read_parquet(snapshot / "requests.parquet")
    truths = pl.read_parquet(snapshot / "truths.parquet")
    if until is not None:
        truths = truths.filter(pl.col(KNOWN_AT) < until)
        if use_case.decided_at is not None:
            requests = requests.filter(pl.col(use_case.decided_at) < until)
    newest = standing_rows(truths, key).rename({KNOWN_AT: "truth_known_at", "source": SOURCE})
    joined = requests.join(newest, on=key, how="left", maintain_order="left")
    decided = (
        pl.col(use_case.decided_at) if use_case.decided_at is not None else pl.lit(None, dtype=pl.Datetime("us", "UTC"))
    )
    examples = joined.select(
        entity_keys(joined, key),
        decided.alias("decided_at"),
        "truth",
        "truth_known_at",
        SOURCE,
        *(pl.col(f.name).alias(REQUEST + f.name) for f in use_case.request),
    )
    if not (snapshot / _LABEL_WEIGHTS).exists():
        return examples
    weights = pl.read_parquet(snapshot / _LABEL_WEIGHTS)
    by_labeller = pl.when(pl.col(SOURCE) == "labeller").then(STANDS_FOR)
    return examples.join(weights, on="key", how="left", maintain_order="left").with_columns(
        by_labeller.alias(STANDS_FOR)
    )
