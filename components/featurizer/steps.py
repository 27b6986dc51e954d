"""The featurizer's work from files to files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from components.collector.extract import STANDS_FOR
from components.featurizer.historical import featurize
from ninefold.dataset import PARTS, REQUEST, DatasetCard, write_dataset
from ninefold.features import with_lengths
from ninefold.loading import load_use_case
from ninefold.settings import Settings
from ninefold.truths import SOURCE
from ninefold.usecase import UseCase
from ninefold.windows.declaration import KNOWN_AT


def featurize_parts(
    use_case: str,
    windows: Mapping[str, str],
    live_lengths: Mapping[str, str],
    snapshot: str,
    parts: Mapping[str, str],
    outputs: Mapping[str, str],
) -> None:
    """Joins the features of all parts at once, and of the test set again where the live version's lengths differ.

    Args:
        use_case: Name or import path.
        windows: Window name → length that the candidate shall have.
        live_lengths: Window name → length that the live version has; a window that is no longer declared is left out.
        snapshot: Folder of the snapshot; changelogs are kept in it.
        parts: ``training``, ``validation``, ``test`` → examples.
        outputs: The same names, and ``live_test`` → data set.
    """
    declared = load_use_case(use_case)
    frames = [pl.read_parquet(parts[name]) for name in PARTS]
    with tempfile.TemporaryDirectory() as scratch:
        settings = settings_on(declared, Path(snapshot), Path(scratch))
        frame, card = _featurize(declared, use_case, pl.concat(frames), windows, settings)
        start = 0
        for name, examples in zip(PARTS, frames, strict=True):
            rows = frame.slice(start, examples.height)
            write_dataset(outputs[name], _weighted(rows, examples) if name == "test" else rows, card)
            start += examples.height
        names = {window.name for window in declared.windows}
        lengths = {name: length for name, length in live_lengths.items() if name in names}
        if with_lengths(declared.windows, lengths) == with_lengths(declared.windows, dict(windows)):
            live, live_card = frame.tail(frames[-1].height), card
        else:
            live, live_card = _featurize(declared, use_case, frames[-1], lengths, settings)
        write_dataset(outputs["live_test"], live, live_card)


def _weighted(rows: pl.DataFrame, examples: pl.DataFrame) -> pl.DataFrame:
    """The test set, with labels that count for what they stand for.

    Training and the choice of a model go by the labels as they are: that they are the hard ones is why they were made.
    Where no label stands for anything, all rows count once.
    """
    if STANDS_FOR not in examples.columns:
        return rows
    weight = examples[STANDS_FOR].fill_null(1.0)
    return rows.with_columns(weight=weight) if weight.sum() > 0 else rows


def settings_on(use_case: UseCase, snapshot: Path, scratch: Path) -> Settings:
    """Settings under which history is the snapshot, and what the join registers is gone when the step ends."""
    data = scratch / "data"
    data.mkdir()
    (data / use_case.name).symlink_to(snapshot.absolute(), target_is_directory=True)
    return Settings(home=scratch)


def requests_and_truths(use_case: UseCase, examples: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The request's fields of examples, and the truths of those that have one, as ``featurize`` takes them."""
    requests = examples.select(pl.col(REQUEST + f.name).alias(f.name) for f in use_case.request)
    truths = examples.select(
        *(pl.col(REQUEST + name).alias(name) for name in use_case.key),
        "truth",
        pl.col("truth_known_at").alias(KNOWN_AT),
        pl.col(SOURCE).alias("source"),
    ).filter(pl.col("truth").is_not_null())
    return requests, truths


def _featurize(
    use_case: UseCase, reference: str, examples: pl.DataFrame, lengths: Mapping[str, str], settings: Settings
) -> tuple[pl.DataFrame, DatasetCard]:
    requests, truths = requests_and_truths(use_case, examples)
    return featurize(use_case, requests, truths, lengths, settings, reference=reference)
