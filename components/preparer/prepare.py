"""From three featurized parts to three that can be learned from: sanitised, and the training part enriched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from components.preparer.balance import augment, oversample
from components.preparer.feedback import share_of_users, told_by_user, weighted
from components.preparer.sanitise import sanitise
from components.preparer.split import Parts
from components.preparer.telling import check_inputs
from ninefold.dataset import PARTS
from ninefold.errors import ConfigurationError, DataError
from ninefold.usecase import UseCase

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Three data sets, ready.

    Args:
        training: Sanitised, with rows added by the use case's choice.
        validation: Sanitised; nothing added.
        test: Likewise.
        notes: ``split`` and each part: rows, ``dropped`` and ``nulled`` by reason, ``augmented``, ``oversampled``.
    """

    training: pl.DataFrame
    validation: pl.DataFrame
    test: pl.DataFrame
    notes: Mapping[str, Any]


def prepare(parts: Parts, use_case: UseCase) -> Prepared:
    """Sanitises all parts; adds rows to the training part alone.

    Raises:
        DataError: A part has no row left: the message says what was dropped and why. Or an input alone predicts the
            target, and the use case does not allow it.
        ConfigurationError: Oversampling was declared for a regression.
    """
    import polars as pl

    if use_case.oversample is not None and use_case.problem != "binary":
        raise ConfigurationError(f"{use_case.name}: oversample is for two classes, and this is a {use_case.problem}.")
    notes: dict[str, Any] = {"split": dict(parts.notes)}
    frames: dict[str, pl.DataFrame] = {}
    for name in PARTS:
        clean = sanitise(getattr(parts, name), use_case)
        frames[name] = clean.frame
        notes[name] = {"rows": len(clean.frame), "dropped": dict(clean.dropped), "nulled": dict(clean.nulled)}
        users = told_by_user(clean.frame)
        if users:
            notes[name]["told by users"] = users
        if len(clean.frame) == users:
            alone = " but what users alone say, which decides nothing" if users else ""
            raise DataError(
                f"The {name} part of {use_case.name} has no rows{alone}. Split: {parts.notes}; dropped: "
                f"{clean.dropped}.",
                remedy="Choose another end (--until) or another split.",
            )
    training = frames["training"]
    notes["one input alone"] = check_inputs(training, frames["validation"], use_case)
    if use_case.augment is not None:
        held_out = pl.concat([parts.validation["key"], parts.test["key"]]).drop_nulls().to_list()
        # Rows that are made from one row may share its key.
        added = sanitise(augment(training, use_case.augment, held_out=held_out), use_case, keys_may_repeat=True)
        notes["training"]["augmented"] = len(added.frame)
        notes["training"]["augmented_dropped"] = dict(added.dropped)
        training = pl.concat([training, added.frame])
    if use_case.oversample is not None:
        before = len(training)
        training = oversample(training, use_case.oversample)
        notes["training"]["oversampled"] = len(training) - before
    if notes["training"].get("told by users"):
        # Last, so that repeated and added rows count for what they weigh.
        training = weighted(training, use_case.feedback)
        notes["training"]["users' share of the weight"] = share_of_users(training)
    return Prepared(training=training, validation=frames["validation"], test=frames["test"], notes=notes)
