"""Takes a key out of what lies beside the store: Parquet files, online rows; and names what still holds it.

A Parquet file under ``data/<use case>`` tells of the key when it is a data set (column ``key``) or has all of the key's
fields as columns; views and windows whose entity is a part of the key tell of more than the key, and stay.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ninefold.atomic import replacing
from ninefold.dataset import REQUEST
from ninefold.errors import DataError
from ninefold.features import with_lengths
from ninefold.fields import NUMERIC
from ninefold.loading import load_object
from ninefold.online import OnlineStore
from ninefold.records import entity_key
from ninefold.store.erasure import EntityKey
from ninefold.store.journal import DAMAGED
from ninefold.usecase import History, UseCase

if TYPE_CHECKING:
    import polars as pl


def erase_from_parquet(use_case: UseCase, key: EntityKey, folder: Path, *, dry_run: bool = False) -> dict[Path, int]:
    """Rewrites the Parquet files below a folder without the key's rows, each in one step.

    A test set keeps its card and its time, by which the newest one is found.

    Args:
        use_case: Declares the key.
        key: What is forgotten.
        folder: ``data/<use case>``.
        dry_run: Count, and rewrite nothing.

    Returns:
        File → rows of the key that it held; files without any are left out.

    Raises:
        DataError: A file is no Parquet file.
    """
    import polars as pl

    found = {}
    for path in sorted(folder.rglob("[!.]*.parquet")):
        try:
            frame = pl.read_parquet(path)
            metadata = pl.read_parquet_metadata(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise DataError(
                f"{path} can't be read as Parquet, so nobody knows what it holds: {error}.", remedy="Remove it."
            ) from error
        rows = _rows_of(frame, use_case, key)
        count = 0 if rows is None else int(rows.sum())
        if rows is None or not count:
            continue
        found[path] = count
        if not dry_run:
            own = {name: value for name, value in metadata.items() if name != "ARROW:schema"}
            _replace(path, frame.filter(~rows), own)
    return found


def drop_references(use_case: UseCase, reports: Path, *, dry_run: bool = False) -> list[Path]:
    """Removes the monitor's references, which hold rows of history without their keys; it makes them anew.

    Args:
        use_case: Whose.
        reports: The folder ``reports``.
        dry_run: List, and remove nothing.
    """
    found = sorted((reports / use_case.name / "monitor").glob("reference-*"))
    for path in [] if dry_run else found:
        path.unlink(missing_ok=True)
    return found


def erase_online(
    use_case: UseCase,
    key: EntityKey,
    online: OnlineStore,
    lengths: Iterable[Mapping[str, str]],
    *,
    dry_run: bool = False,
) -> dict[str, int]:
    """Removes the online rows of views whose entity is the key: view → how many.

    Args:
        use_case: Declares the views.
        key: What is forgotten.
        online: Where the rows lie.
        lengths: Of each version, window name → length.
        dry_run: Count, and remove nothing.
    """
    pairs = {}
    for view, fields in _views(use_case, lengths).items():
        if set(fields) == set(use_case.key):
            pairs[view] = (view, entity_key([key.values[name] for name in fields]))
    rows = online.read_many(list(pairs.values()))
    there = [pair for pair, row in zip(pairs.values(), rows, strict=True) if row is not None]
    if there and not dry_run:
        online.remove(there)
    return {view: 1 for view, _ in there}


def rows_in_source(use_case: UseCase, key: EntityKey) -> dict[str, int]:
    """What the organisation's own source holds of the key, by the frames that ``extract`` makes of it: name → rows."""
    history: History = load_object(use_case.extract, what="extract")()
    frames = {"requests": history.requests, "truths": history.truths, **history.streams, **history.views}
    found = {}
    for name, frame in frames.items():
        rows = _rows_of(frame, use_case, key)
        if rows is not None and (count := int(rows.sum())):
            found[name] = count
    return found


def damaged_with(key: EntityKey, journal: Path) -> list[Path]:
    """Pieces that a journal set aside, and that hold the key's text."""
    text = json.dumps(key.text, ensure_ascii=False)[1:-1].encode()
    return [path for path in sorted(journal.rglob(f"{DAMAGED}/*.bin")) if text in path.read_bytes()]


def _views(use_case: UseCase, lengths: Iterable[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    """Every view that can have rows online, with its key's fields."""
    views = {view.view: view.key for view in use_case.batch_views}
    for window in use_case.windows:
        for length in (window.length, *window.lengths):
            views[window.of(length).view] = window.key
    declared = {window.name for window in use_case.windows}
    for chosen in lengths:
        known = {name: length for name, length in chosen.items() if name in declared}
        views |= {window.view: window.key for window in with_lengths(use_case.windows, known)}
    return views


def _rows_of(frame: pl.DataFrame, use_case: UseCase, key: EntityKey) -> pl.Series | None:
    """Which rows are the key's; None for a frame that doesn't tell of keys."""
    import polars as pl

    if "key" in frame.columns and any(name.startswith(REQUEST) for name in frame.columns):
        return frame["key"] == key.text
    if not set(use_case.key) <= set(frame.columns):
        return None
    conditions = [_equal(pl.col(name), use_case.fields[name].kind, value) for name, value in key.values.items()]
    return frame.select(pl.all_horizontal(conditions).fill_null(value=False).alias("mine"))["mine"]


def _equal(column: pl.Expr, kind: str, value: Any) -> pl.Expr:
    import polars as pl

    if kind in NUMERIC:
        return column.cast(pl.Float64, strict=False).eq(value)
    if kind == "time":
        return column.eq(pl.lit(value, dtype=pl.Datetime("us", "UTC")))
    return column.cast(pl.String).eq(value)


def _replace(path: Path, frame: pl.DataFrame, metadata: dict[str, str]) -> None:
    status = path.stat()
    with replacing(path) as temporary:
        frame.write_parquet(temporary, metadata=metadata or None)
        if path.parent.name == "test_sets":
            # The newest one by time is the one that is used; of all else, a new time says that the content is new.
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        temporary.chmod(status.st_mode)
