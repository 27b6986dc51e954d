"""The five answers that a scaffold needs, and what the data suggest for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from ninefold.errors import UsageError
from ninefold.scaffold.facts import Column, Facts
from ninefold.usecase import Problem

NO_TIME = "none"
"""Answer to "which column is the time" where there is none."""
_KEY = re.compile(r"(^|_)(id|key|number|no|nr|code|uuid|rownames?)$|^id")
_TIME = re.compile(r"(_at|_on|_date|_time|_ts)$|^(date|time|timestamp|day|when)")
_TARGET = ("target", "label", "truth", "outcome", "y", "class", "churn", "churned", "response", "result", "default")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What only a person knows.

    Args:
        key: Columns that together name one row: a prediction's truth is found by them.
        time: Column with the moment at which the question is asked; None where there is none.
        target: Column with what is to be predicted.
        problem: ``regression`` or ``binary``.
        truth_delay: How long after that moment the truth is known at the latest.
    """

    key: tuple[str, ...]
    time: str | None
    target: str
    problem: Problem
    truth_delay: timedelta


def guess_key(facts: Facts) -> str:
    """A column that has another value in every row, preferably one that is called like a key; empty for none."""
    able = [c for c in facts.columns.values() if c.names_rows and c.kind in ("integer", "category")]
    named = [c for c in able if _KEY.search(c.name)]
    texts = [c for c in able if c.kind == "category"]
    found = named or texts
    return found[0].source if found else ""


def guess_time(facts: Facts) -> str:
    """A column of times, preferably one that is called like a moment; ``none`` where there is none."""
    able = [c for c in facts.columns.values() if c.kind == "time" and c.nulls == 0]
    named = [c for c in able if _TIME.search(c.name)]
    return (named or able)[0].source if able else NO_TIME


def guess_target(facts: Facts, taken: Sequence[str]) -> str:
    """A column that is called like a target, else the last that is free."""
    able = [
        c
        for c in facts.columns.values()
        if c.source not in taken and c.kind in ("number", "integer", "boolean", "category") and c.distinct > 1
    ]
    named = [c for name in _TARGET for c in able if c.name == name]
    found = named or able[-1:]
    return found[0].source if found else ""


def guess_problem(target: Column) -> Problem:
    """Two values are two classes, and numbers are numbers."""
    return "regression" if target.kind in ("number", "integer") and target.distinct > 2 else "binary"


def check_key(facts: Facts, text: str) -> tuple[str, ...]:
    """Reads the key's columns, with commas between them; the contract's names.

    Raises:
        UsageError: A column is not there, or can't be part of a key.
    """
    columns = [facts.column(part.strip(), "--key") for part in text.split(",") if part.strip()]
    if not columns:
        raise UsageError("--key: no column is named.", remedy="Name the columns that tell rows apart: --key a,b")
    for column in columns:
        if column.kind in ("number", "text", "other", "ignore"):
            raise UsageError(
                f"--key: {column.source!r} is a {column.kind}, which can't be part of a key.",
                remedy=f"Take whole numbers or texts as they are: --column {column.source}=category",
            )
        if column.nulls:
            raise UsageError(
                f"--key: {column.source!r} is empty in {column.nulls:,} of {column.rows:,} rows, so it names none of "
                "them.",
                remedy="Take columns that are filled in everywhere.",
            )
    return tuple(dict.fromkeys(column.name for column in columns))


def check_time(facts: Facts, text: str) -> str | None:
    """Reads the time's column; None for ``none``.

    Raises:
        UsageError: The column is not there, is no time, or is empty somewhere.
    """
    if text.strip().lower() == NO_TIME:
        return None
    column = facts.column(text.strip(), "--time")
    if column.kind != "time":
        raise UsageError(
            f"--time: {column.source!r} is a {column.kind} and no time.",
            remedy="Times are written as 2025-03-03T10:00:00Z or 2025-03-03; say what others look like, as in "
            '--time-format "%d.%m.%Y %H:%M"; or answer: --time none',
        )
    if column.nulls:
        raise UsageError(
            f"--time: {column.source!r} is empty in {column.nulls:,} of {column.rows:,} rows.",
            remedy="Every row needs the moment at which the question is asked; leave the others out of the table.",
        )
    return column.name


def check_target(facts: Facts, text: str, taken: Sequence[str]) -> str:
    """Reads the target's column.

    Raises:
        UsageError: It is not there, is part of the key or the time, or nothing can be learned from it.
    """
    column = facts.column(text.strip(), "--target")
    if column.name in taken:
        raise UsageError(f"--target: {column.source!r} is the key or the time.", remedy="Name another column.")
    if column.kind in ("empty", "ignore", "other", "time"):
        what = "has no value" if column.kind == "empty" else f"is {column.kind}"
        raise UsageError(f"--target: {column.source!r} {what}.", remedy="Name a column of numbers or of two classes.")
    if column.distinct < 2:
        raise UsageError(
            f"--target: {column.source!r} has the same value in all rows, so there is nothing to learn.",
            remedy="Name another column, or give rows of both kinds.",
        )
    return column.name


def check_problem(text: str, target: Column) -> Problem:
    """Reads the kind of problem.

    Raises:
        UsageError: It is none, or the target is no number.
    """
    match text.strip().lower():
        case "binary":
            return "binary"
        case "regression":
            if target.kind not in ("number", "integer", "boolean"):
                raise UsageError(
                    f"--kind regression: {target.source!r} is a {target.kind} and no number.", remedy="Use binary."
                )
            return "regression"
        case other:
            raise UsageError(
                f"--kind: {other!r} is none.",
                remedy="Use regression (a number) or binary (one of two classes); there are no others.",
            )
