"""From a table's facts and five answers to what a use case declares; what the data forbid is refused here."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from ninefold.clock import format_instant
from ninefold.dataset import to_numpy
from ninefold.errors import DataError, UsageError
from ninefold.fields import MAX_CATEGORY_LENGTH, Field
from ninefold.leaks import Alone, refuse, tell_alone
from ninefold.scaffold.answers import Answers
from ninefold.scaffold.baseline import Baseline, find_baseline, rounded
from ninefold.scaffold.dividing import AT, KNOWN, TRUTH, Block, Clock, Divided, block_of, clocks_of, divide
from ninefold.scaffold.facts import Column, Facts
from ninefold.sources.history import as_texts
from ninefold.splits import HashSplit, TimeSplit
from ninefold.usecase import Problem

LONGEST_TITLE = 100
LEAST_ROWS = 100
"""Fewer rows than this divide into parts that show nothing."""
ONES = ("1", "yes", "y", "true", "t", "positive", "bad", "default", "churned", "left", "died", "dead", "fraud", "spam")
ZEROS = ("0", "no", "n", "false", "f", "negative", "good", "none", "stayed", "alive", "ham")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What else was said.

    Args:
        positive: The target's value that counts as 1; None to see it from the values.
        known_at: Column that says when a truth became known.
        allow: Columns that may tell the target alone.
        title: One line for people; empty for one made of the target's name.
    """

    positive: str | None = None
    known_at: str | None = None
    allow: Collection[str] = ()
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What a use case's folder will say.

    Args:
        name: Of the use case.
        title: One line for people.
        problem: Its kind.
        request: Fields of a request.
        key: Those that name a row.
        decided_at: The one with the decision moment.
        target: The truth's field; its name is the column's.
        classes: For two classes, the column's values → 1 or 0.
        truth_delay: When a truth is known at the latest.
        split: How history is divided.
        block: What is independent: a stretch of time, or a field of the key.
        numbers: Fields that the model sees as numbers.
        categories: Fields that it sees as categories.
        texts: Fields that it sees as texts.
        clocks: What it sees of the decision moment.
        baseline: What is usual.
        allowed: Inputs that may tell the target alone.
        known_at: Column that says when a truth became known.
        most_telling: The input that tells most alone; None where none could be judged.
        left_out: Column → why no request holds it.
    """

    name: str
    title: str
    problem: Problem
    request: tuple[Field, ...]
    key: tuple[str, ...]
    decided_at: str | None
    target: Field
    classes: Mapping[str, float] | None
    truth_delay: timedelta
    split: TimeSplit | HashSplit
    block: Block | str
    numbers: tuple[str, ...]
    categories: tuple[str, ...]
    texts: tuple[str, ...]
    clocks: tuple[Clock, ...]
    baseline: Baseline
    allowed: tuple[str, ...]
    known_at: str | None
    most_telling: Alone | None
    left_out: Mapping[str, str]

    @property
    def unseen(self) -> tuple[str, ...]:
        """Request fields that the model does not see as they are: key, time and texts."""
        seen = {*self.numbers, *self.categories}
        return tuple(field.name for field in self.request if field.name not in seen)


def draft(name: str, facts: Facts, answers: Answers, wishes: Wishes, now: datetime) -> Draft:
    """Decides what the folder says.

    Args:
        name: Of the use case.
        facts: What the table is.
        answers: The five.
        wishes: What else was said.
        now: The present, which no row may lie behind.

    Raises:
        DataError: The table is too small, its target has other values than two classes, an input leaks it, or a time
            lies in the future: the message says where.
        UsageError: Something named is not there, or no split can be made.
    """
    if not wishes.title.isprintable() or len(wishes.title) > LONGEST_TITLE or re.search(r'["\\]', wishes.title):
        raise UsageError(
            f"--title: {wishes.title[:LONGEST_TITLE]!r} is no plain line of at most {LONGEST_TITLE} characters.",
            remedy="Leave out quotation marks and backslashes.",
        )
    if facts.rows < LEAST_ROWS:
        raise DataError(
            f"The table has {facts.rows} rows; from fewer than {LEAST_ROWS} nothing can be learned and shown.",
            remedy="Give more rows.",
        )
    known_at = facts.column(wishes.known_at, "--known-at").name if wishes.known_at else None
    if known_at is not None and facts.columns[known_at].kind != "time":
        raise UsageError(f"--known-at: {known_at!r} is a {facts.columns[known_at].kind} and no time.")
    classes = _classes(facts, answers, wishes.positive)
    rows = _rows(facts, answers, classes, known_at)
    if rows.height < LEAST_ROWS:
        raise DataError(
            f"{rows.height:,} of the {facts.sample.height:,} rows that were looked at have a truth; from fewer than "
            f"{LEAST_ROWS} nothing can be learned and shown.",
            remedy="Give more rows whose truth is known.",
        )
    special = {*answers.key, answers.target, *filter(None, (answers.time, known_at))}
    used, left_out = _used(facts, special, rows)
    numbers = tuple(c.name for c in used if c.kind in ("number", "integer", "boolean"))
    categories = tuple(c.name for c in used if c.kind == "category")
    texts = tuple(c.name for c in used if c.kind == "text")
    if not used:
        raise DataError(
            "Besides key, time and target no column is left that a model could learn from.",
            remedy="Give a table with more columns, or see which were left out: "
            + "; ".join(f"{column} ({why})" for column, why in left_out.items()),
        )
    parts = divide(rows, answers, now)
    allowed = tuple(facts.column(text, "--allow").name for text in wishes.allow)
    alone = _tell(rows, parts, (*numbers, *categories), answers)
    refuse(
        alone,
        allowed,
        remedy="Leave it out: --column NAME=ignore. Or, where it is truly known when the question is asked, allow it: "
        "--allow NAME",
    )
    request = [c for c in facts.columns.values() if c.name in (*answers.key, answers.time) or c in used]
    first = rows[0]
    return Draft(
        name=name,
        title=wishes.title or _title(answers, classes),
        problem=answers.problem,
        request=tuple(_field(c, rows, first, c.name in (*answers.key, answers.time)) for c in request),
        key=answers.key,
        decided_at=answers.time,
        target=_target(answers, rows),
        classes=classes,
        truth_delay=answers.truth_delay,
        split=parts.split,
        block=block_of(rows, parts.test, answers),
        numbers=numbers,
        categories=categories,
        texts=texts,
        clocks=clocks_of(rows, answers, {c.name for c in request}),
        baseline=find_baseline(rows, parts, categories, answers.problem),
        allowed=tuple(name for name in allowed if name in (*numbers, *categories)),
        known_at=known_at,
        most_telling=next((one for one in alone if not math.isnan(one.value)), None),
        left_out=left_out,
    )


def _classes(facts: Facts, answers: Answers, positive: str | None) -> Mapping[str, float] | None:
    if answers.problem == "regression":
        return None
    column = facts.columns[answers.target]
    values = as_texts(facts.sample[answers.target]).drop_nulls().value_counts(sort=True)
    names = values[answers.target].to_list()
    shown = ", ".join(repr(value) for value in names[:8]) + (", …" if len(names) > 8 else "")
    if positive is not None:
        if positive not in names:
            raise UsageError(f"--positive: {positive!r} is none of the target's values, {shown}.")
        if len(names) > 20:
            raise DataError(
                f"{column.source!r} has {column.distinct:,} values ({shown}): these are no classes.",
                remedy="Use --kind regression, or name another target.",
            )
        return {value: float(value == positive) for value in sorted(names, key=lambda v: v != positive)}
    if len(names) != 2:
        raise DataError(
            f"{column.source!r} has {column.distinct:,} values ({shown}), and binary means two classes. A use case "
            "predicts a number, or whether one of two classes holds; there are no others.",
            remedy="Say which value counts as 1 against all others (--positive VALUE), correct the rows, or use "
            "--kind regression.",
        )
    ones = [v for v in names if v.lower() in ONES] or [v for v in names if v.lower() not in ZEROS]
    if len(ones) != 1:
        raise UsageError(
            f"Which of the target's values, {shown}, counts as 1 can't be seen from them.",
            remedy=f"Say it: --positive {names[-1]}",
        )
    return {ones[0]: 1.0, next(v for v in names if v != ones[0]): 0.0}


def _rows(facts: Facts, answers: Answers, classes: Mapping[str, float] | None, known_at: str | None) -> pl.DataFrame:
    """The sample's rows whose truth is known, in order of time, with ``TRUTH``, ``AT`` and ``KNOWN``."""
    target = facts.sample[answers.target]
    truth = (
        target.cast(pl.Float64)
        if classes is None
        else as_texts(target).replace_strict(dict(classes), default=None, return_dtype=pl.Float64)
    )
    frame = facts.sample.with_columns(truth.alias(TRUTH)).filter(pl.col(TRUTH).is_not_null())
    if answers.time is None:
        return frame
    known = pl.col(known_at) if known_at is not None else pl.col(answers.time) + answers.truth_delay
    return frame.with_columns(pl.col(answers.time).alias(AT), known.alias(KNOWN)).sort(AT, maintain_order=True)


def _used(facts: Facts, special: Collection[str], rows: pl.DataFrame) -> tuple[list[Column], dict[str, str]]:
    used, left_out = [], {}
    for column in facts.columns.values():
        if column.name in special:
            continue
        why = _why_not(column, facts)
        if not why and rows[column.name].null_count() == rows.height:
            why = "no row that was looked at has both it and a truth"
        if why:
            left_out[column.source] = why
        else:
            used.append(column)
    return used, left_out


def _why_not(column: Column, facts: Facts) -> str:
    match column.kind:
        case "ignore":
            return "as you said"
        case "empty":
            return "it has no value"
        case "other":
            return "no field can hold it"
        case "time":
            return "a time: make numbers of it in derive"
    if column.distinct < 2 and not column.nulls:
        return "it has the same value in all rows"
    if column.kind == "category":
        if column.distinct > max(50, 0.5 * column.known):
            return "it has another value in nearly every row"
        if (facts.sample[column.name].str.len_chars().max() or 0) > MAX_CATEGORY_LENGTH:  # type: ignore[operator]
            return f"a category has at most {MAX_CATEGORY_LENGTH} characters"
    if column.kind == "integer" and column.names_rows:
        values = facts.sample[column.name]
        if int(values.max()) - int(values.min()) < 1.01 * column.rows:  # type: ignore[arg-type]
            return "it counts the rows"
    return ""


def _tell(rows: pl.DataFrame, divided: Divided, names: Sequence[str], answers: Answers) -> tuple[Alone, ...]:
    parts = [rows.filter(part) for part in (divided.training, divided.validation)]
    columns = [{name: to_numpy(part[name]) for name in names} for part in parts]
    truths = [to_numpy(part[TRUTH]) for part in parts]
    return tell_alone(columns[0], truths[0], columns[1], truths[1], answers.problem)


def _title(answers: Answers, classes: Mapping[str, float] | None) -> str:
    words = answers.target.replace("_", " ")
    if classes is None:
        return f"What will {words} be?"
    one = next(value for value, counts in classes.items() if counts == 1.0)
    plain = re.sub(r"[^\w .,:+-]", "_", one)[:40]
    return f"Will {words} be {plain}?"


def _field(column: Column, rows: pl.DataFrame, first: pl.DataFrame, required: bool) -> Field:
    """Examples are usual values, each of its own column: no row of the table is shown."""
    values = rows[column.name].drop_nulls()
    example: Any
    match column.kind:
        case "time":
            example = format_instant(rows[column.name][-1])
        case "number":
            example = float(f"{float(values.median()):.6g}")  # type: ignore[arg-type]
        case "integer":
            example = int(first[column.name][0] if required else values.median())  # type: ignore[arg-type]
        case "boolean":
            example = bool(values.mean() >= 0.5)  # type: ignore[operator]
        case _:
            example = first[column.name][0] if required else values.mode().sort()[0]
            example = example[:60] if column.kind == "text" else example
    return Field(name=column.name, kind=column.kind, nullable=not required and column.nulls > 0, example=example)  # type: ignore[arg-type]


def _target(answers: Answers, rows: pl.DataFrame) -> Field:
    if answers.problem == "binary":
        return Field(name=answers.target, kind="number", minimum=0, maximum=1, example=0)
    truth = rows[TRUTH]
    least = 0 if float(truth.min()) >= 0 else None  # type: ignore[arg-type]
    return Field(name=answers.target, kind="number", minimum=least, example=rounded(truth.median()))
