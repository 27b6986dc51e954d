"""Test sets: what the evaluator holds of them, and where they lie.

A registered test set is a data set (``ninefold.dataset``) in ``data/<use case>/test_sets/<name>.parquet`` of the home.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ninefold.atomic import replacing
from ninefold.dataset import INPUT, REQUEST, DatasetCard, columns_of, local_path, read_card, read_dataset, to_numpy
from ninefold.errors import DataError, InvalidInput, NotFound
from ninefold.fields import Columns, Input
from ninefold.records import TruthSource
from ninefold.truths import EVIDENCE, SOURCE

if TYPE_CHECKING:
    from ninefold.settings import Settings

Array = np.ndarray[Any, Any]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """A test set as numpy columns, each [rows].

    Args:
        keys: ``entity_key`` of each row, unique.
        truth: The truths.
        baseline: The baseline's predictions.
        blocks: Label of each row's independent block.
        request: Request columns.
        inputs: The model's input columns, in the order of the signature.
        card: What the data set says of itself.
        sources: Who told each row's truth; empty where nobody noted it.
        weight: The inverse of the chance that each row had of being picked; None where all rows weigh alike.
    """

    __test__ = False  # pytest takes a class with this name for a group of tests.

    keys: tuple[str, ...]
    truth: Array
    baseline: Array
    blocks: Array
    request: Columns
    inputs: Columns
    card: DatasetCard
    sources: tuple[str, ...] = ()
    weight: Array | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def rows(self, inputs: Iterable[Input], limit: int = 1000) -> list[list[Any]]:
        """The first rows as positional values, null as None: what ``Predictor.predict_rows`` takes.

        Args:
            inputs: What the predictor takes, by its own signature: a version may have fewer than today's use case.
            limit: Rows at most.
        """
        columns = [
            [None if value is None or value != value else value for value in self.inputs[given.name][:limit].tolist()]
            for given in inputs
        ]
        return [list(row) for row in zip(*columns, strict=True)]

    def align(self, predictions: Mapping[str, float]) -> tuple[Array, Array]:
        """Places predictions by key.

        Returns:
            Places in the test set [predictions], ascending, and the predictions in that order.

        Raises:
            DataError: Keys that the test set does not have; the message counts them and shows the first.
        """
        place = {key: i for i, key in enumerate(self.keys)}
        unknown = [key for key in predictions if key not in place]
        if unknown:
            raise DataError(
                f"{len(unknown):,} of {len(predictions):,} predictions have a key that is not in the test set: "
                f"{unknown[0]!r}.",
                remedy="A key is its fields' values in the declared order, joined by '|'.",
            )
        found = sorted((place[key], value) for key, value in predictions.items())
        return np.array([i for i, _ in found], dtype=int), np.array([value for _, value in found], dtype=float)


def read_test_set(uri: str, told_by: Collection[TruthSource] = EVIDENCE) -> TestSet:
    """Reads a test set: by default without the rows whose truth a user alone told, which judge nothing.

    Args:
        uri: The data set.
        told_by: Whose truths are wanted; where the data set names nobody, all are the organisation's own.

    Raises:
        DataError: The file is no data set, holds a row without a truth or a block, or repeats a key.
    """
    frame, card = read_dataset(uri)
    missing = [c for c in ("key", "truth", "baseline", "block") if c not in frame.columns]
    if missing:
        raise DataError(f"{uri}: the columns {', '.join(missing)} are missing.")
    for column in ("key", "truth", "block"):
        if nulls := frame[column].null_count():
            raise DataError(f"{uri}: {nulls:,} rows have no {column}.", remedy="Sanitise it: ninefold run training")
    repeated = len(frame) - frame["key"].n_unique()
    if repeated:
        raise DataError(f"{uri}: {repeated:,} rows repeat a key.", remedy="Sanitise it: ninefold run training")
    if SOURCE in frame.columns:
        frame = frame.filter(frame[SOURCE].fill_null("system").is_in(list(told_by)))
    inputs = columns_of(frame, INPUT)
    return TestSet(
        keys=tuple(frame["key"].to_list()),
        truth=to_numpy(frame["truth"]),
        baseline=to_numpy(frame["baseline"]),
        blocks=to_numpy(frame["block"]),
        request=columns_of(frame, REQUEST),
        inputs={i.name: inputs[i.name] for i in card.signature.inputs},
        card=card,
        sources=tuple(frame[SOURCE].fill_null("system").to_list()) if SOURCE in frame.columns else (),
        weight=_weight(to_numpy(frame["weight"])) if "weight" in frame.columns else None,
    )


def _weight(weight: Array) -> Array | None:
    """The weights; None where they are all alike, which is having none."""
    return None if len(weight) == 0 or (weight == weight[0]).all() else weight


def test_sets_folder(settings: Settings, use_case: str) -> Path:
    """Where a use case's registered test sets lie."""
    return settings.folder("data") / use_case / "test_sets"


def register_test_set(settings: Settings, use_case: str, name: str, uri: str) -> Path:
    """Keeps a data set as a test set under a name, and returns where.

    Raises:
        InvalidInput: The name is no plain file name.
        DataError: The file is no data set.
    """
    path = test_sets_folder(settings, use_case) / f"{_checked(name)}.parquet"
    read_card(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        shutil.copyfile(local_path(uri), temporary)
    return path


def find_test_set(settings: Settings, use_case: str, name: str | None = None) -> Path:
    """Where a registered test set lies; without a name, the one registered last.

    Raises:
        InvalidInput: The name is no plain file name.
        NotFound: There is none; the message lists those there are.
    """
    folder = test_sets_folder(settings, use_case)
    known = sorted(folder.glob("[!.]*.parquet"), key=lambda path: (path.stat().st_mtime_ns, path.name))
    if name is None and known:
        return known[-1]
    if name is not None and (path := folder / f"{_checked(name)}.parquet") in known:
        return path
    raise NotFound(
        f"{use_case} has no test set{'' if name is None else f' {name!r}'}.",
        remedy=f"There are {', '.join(p.stem for p in known)}." if known else f"Run: ninefold run training {use_case}",
    )


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidInput("test_set", f"{name[:60]!r} is not a name.", remedy="Use letters, digits, '_', '-' and '.'.")
    return name
