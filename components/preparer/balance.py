"""More rows to train on: the rarer class repeated, and rows that a use case makes up. Of the training part alone."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from components.preparer.split import stable_hash
from ninefold.errors import ConfigurationError, DataError
from ninefold.loading import load_object

if TYPE_CHECKING:
    import polars as pl


def oversample(training: pl.DataFrame, share: float) -> pl.DataFrame:
    """Repeats rows of the rarer class until it has the given share of the rows.

    Which rows are repeated once more than others is decided by a hash of their keys: the same rows every time, in
    whatever order they come. A model of the result overstates the rarer class; what it predicts ranks, but is no longer
    a calibrated probability.

    Args:
        training: With ``key`` and ``truth`` (0 or 1).
        share: 0–1, of the rows afterwards; a class that already has it is left alone.

    Returns:
        The rows, followed by the repeated ones.

    Raises:
        ConfigurationError: The share is not above 0 and below 1.
        DataError: One class has no rows, so that nothing can be repeated.
    """
    import polars as pl

    if not 0 < share < 1:
        raise ConfigurationError(f"oversample={share:g} is no share between 0 and 1.")
    ones = int((training["truth"] == 1.0).sum())
    rare, rows = (1.0, ones) if ones * 2 <= len(training) else (0.0, len(training) - ones)
    if rows == 0:
        raise DataError(f"No training row has truth {rare:g}, so the rarer class can't be oversampled.")
    wanted = round(share * (len(training) - rows) / (1 - share))
    if wanted <= rows:
        return training
    rarer = training.filter(pl.col("truth") == rare)
    order = sorted(range(rows), key=lambda i: stable_hash("oversample", rarer["key"][i]))
    copies = [order[i % rows] for i in range(wanted - rows)]
    return pl.concat([training, rarer[copies]])


def augment(training: pl.DataFrame, path: str, *, held_out: Collection[str]) -> pl.DataFrame:
    """Rows that the use case adds to the training part.

    Args:
        training: What its function is given: the training part, nothing else.
        path: Import path of ``(pl.DataFrame) -> pl.DataFrame``, which returns the rows to add.
        held_out: Keys of the validation and test rows.

    Returns:
        The rows to add, with the training part's columns in their order.

    Raises:
        DataError: Its columns or types are others, or a row bears the key of a validation or test row.
    """
    added: pl.DataFrame = load_object(path, what="augment")(training)
    if dict(added.schema) != dict(training.schema):
        wrong = sorted(
            name for name in {*added.columns, *training.columns} if added.schema.get(name) != training.schema.get(name)
        )
        raise DataError(f"{path} returned other columns than the training part's: {', '.join(wrong)} differ.")
    held = set(held_out)
    crossing = [key for key in added["key"].to_list() if key in held]
    if crossing:
        raise DataError(
            f"{path} returned {len(crossing):,} rows with keys of validation or test rows, such as {crossing[0]!r}.",
            remedy="Make rows of the given ones only.",
        )
    return added.select(training.columns)
