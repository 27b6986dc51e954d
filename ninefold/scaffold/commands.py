"""``ninefold new``: asks what it was not told, writes a folder, and tries it."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from ninefold.errors import UsageError
from ninefold.settings import settings

if TYPE_CHECKING:
    from ninefold.scaffold.draft import Draft
    from ninefold.scaffold.facts import Facts, Seen
    from ninefold.sources import Database, File


def new(
    name: Annotated[str, typer.Argument(help="The use case's name, and its folder's; lower case.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="PATH", help="A CSV or Parquet file with one row a request.")
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option(
            "--sql", metavar="URL", help="SQLAlchemy URL of a database, without a password: the environment holds it."
        ),
    ] = None,
    query: Annotated[
        Path | None, typer.Option("--query", metavar="FILE", help="A file with one SELECT; with --sql.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", metavar="COLUMNS", help="The columns that name a row, with commas between.")
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="COLUMN", help="When the question is asked; `none` where there is no time."),
    ] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="COLUMN", help="What is to be predicted.")] = None,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="`regression` (a number) or `binary` (two classes).")
    ] = None,
    truth_delay: Annotated[
        str | None,
        typer.Option("--truth-delay", metavar="TIME", help="When the truth is known at the latest: 90s, 15m, 6h, 28d."),
    ] = None,
    positive: Annotated[
        str | None, typer.Option("--positive", metavar="VALUE", help="The target's value that counts as 1.")
    ] = None,
    known_at: Annotated[
        str | None,
        typer.Option(
            "--known-at", metavar="COLUMN",
            help="When a row, with its truth, became known; of a query it has to say so, by default in known_at.",
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            "--column", metavar="NAME=KIND",
            help="What a column is: number, integer, boolean, category, text, time; or ignore. Repeatable.",
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", metavar="COLUMN", help="A column that may predict the target alone. Repeatable."),
    ] = None,
    separator: Annotated[
        str, typer.Option("--separator", metavar="TEXT", help="What separates a CSV file's fields; `tab` for a tab.")
    ] = ",",
    zone: Annotated[
        str | None,
        typer.Option("--zone", metavar="NAME", help="Zone of times without one: Europe/Berlin; by default UTC."),
    ] = None,
    time_format: Annotated[
        str | None,
        typer.Option("--time-format", metavar="FORMAT", help='Of times that are not ISO 8601: "%d.%m.%Y %H:%M".'),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", metavar="NAME=VALUE", help="Value of a :name in the query. Repeatable."),
    ] = None,
    password_variable: Annotated[
        str | None,
        typer.Option(
            "--password-variable", metavar="NAME",
            help="Environment variable with the database's password; <USE CASE>_DATABASE_PASSWORD if not given.",
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", metavar="TEXT", help="The use case in one line, for people.")] = "",
) -> None:  # fmt: skip
    """Write a use case's folder from a file or a database. What is not given is asked, with guesses from the data."""
    from ninefold.clock import WallClock
    from ninefold.scaffold.asking import Given, collect
    from ninefold.scaffold.draft import Wishes, draft
    from ninefold.scaffold.facts import field_names, look, refuse_future
    from ninefold.scaffold.folder import check_free, write_folder
    from ninefold.scaffold.render import render
    from ninefold.sources.values import Reading

    console = Console(highlight=False, soft_wrap=True, markup=False)
    folder = check_free(name, settings())
    reading = Reading(zone=_zone(zone or "UTC"), time_format=time_format)
    source: File | Database
    if file is not None and sql is None and query is None:
        source = _file(file, separator)
    elif file is None and sql is not None and query is not None:
        variable = password_variable or f"{name.upper()}_DATABASE_PASSWORD"
        source = _database(name, sql, query, variable, known_at or "known_at", parameter or [])
    else:
        raise UsageError(
            "Rows come from a file or from a database.", remedy="Give --file PATH, or --sql URL and --query FILE."
        )
    names = field_names(source.names())
    source = replace(source, columns={old: new for old, new in names.items() if old != new})
    facts = look(source, names, _kinds(column or [], names, time if time_format else None), reading)
    console.print(f"{source.where}: {facts.rows:,} rows, {len(facts.columns)} columns.")
    given = Given(key=key, time=time, target=target, kind=kind, truth_delay=truth_delay)
    answers = collect(facts, given, console, interactive=sys.stdin.isatty() and sys.stdout.isatty())
    known = known_at if file is not None else known_at or "known_at"
    now = WallClock().now()
    for moment in (answers.time, names.get(known, known) if known else None):
        if moment is not None and facts.column(moment, "--known-at").kind == "time":
            refuse_future(source, moment, reading, now)
    wishes = Wishes(positive=positive, known_at=known, allow=allow or (), title=title)
    made = draft(name, facts, answers, wishes, now)
    files = render(made, source, project=folder.parent.parent, zone=reading.zone, time_format=time_format)
    write_folder(folder, files, name)
    _show(console, made, facts, folder, in_utc=zone is None)


def _file(path: Path, separator: str) -> File:
    from ninefold.sources import File

    found = {"tab": "\t", "\\t": "\t"}.get(separator, separator)
    if len(found) != 1:
        raise UsageError(f"--separator: {separator!r} is not one character.", remedy="Write ; or | or tab.")
    if not path.is_file():
        raise UsageError(f"--file: there is no file {path}.")
    return File(path=path.absolute(), separator=found)


def _database(name: str, url: str, query: Path, variable: str, known_at: str, given: Sequence[str]) -> Database:
    from ninefold.sources import Database
    from ninefold.sources.database import check_url

    parsed = check_url(url, variable)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        # What is written is read by processes that work elsewhere.
        parsed = parsed.set(database=str(Path(parsed.database).absolute()))
    parameters: dict[str, str | float] = {}
    for text in given:
        key, separator, value = text.partition("=")
        if not separator or not key.isidentifier():
            raise UsageError(f"--parameter: {text!r} is no NAME=VALUE.", remedy="Write --parameter country=DE")
        parameters[key] = _value(value)
    return Database(
        name=name, url=parsed.render_as_string(hide_password=False), password=variable, query=query.absolute(),
        known_at=known_at, parameters=parameters,
    )  # fmt: skip


def _value(text: str) -> str | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _zone(name: str) -> str:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UsageError(f"--zone: there is no zone {name!r}.", remedy="Write it as Europe/Berlin.") from error
    return name


def _kinds(given: Sequence[str], names: Mapping[str, str], time: str | None) -> dict[str, Seen]:
    """What columns were said to be, by the contract's names.

    Args:
        given: NAME=KIND.
        names: The source's names → the contract's.
        time: A column of times of a given format; None for none.
    """
    from ninefold.scaffold.facts import KINDS

    found: dict[str, Seen] = {}
    for text in (*given, *([f"{time}=time"] if time else [])):
        name, _, kind = text.rpartition("=")
        field = names.get(name, name)
        if kind not in KINDS or field not in names.values():
            raise UsageError(
                f"--column: {text!r} is no NAME=KIND of this table.",
                remedy=f"Kinds are {', '.join(KINDS)}; columns are {', '.join(names)}.",
            )
        found[field] = cast("Seen", kind)
    return found


def _show(console: Console, made: Draft, facts: Facts, folder: Path, *, in_utc: bool) -> None:
    """What was seen, what was assumed, and what to do next."""
    from rich.markup import escape
    from rich.table import Table

    roles = dict.fromkeys(made.key, "key") | {made.target.name: "target"}
    if made.decided_at is not None:
        roles[made.decided_at] = "time"
    inputs = {*made.numbers, *made.categories, *made.texts}
    table = Table(box=None, pad_edge=False)
    for header in ("column", "is", "values", "empty", ""):
        table.add_column(header, justify="right" if header in ("values", "empty") else "left")
    for column in facts.columns.values():
        role = roles.get(column.name, "input" if column.name in inputs else "")
        role = role or made.left_out.get(column.source, "known at" if column.name == made.known_at else "left out")
        table.add_row(escape(column.source), column.kind, f"{column.distinct:,}", f"{column.nulls:,}", escape(role))
    console.print(table)
    if in_utc and any(c.naive and c.name in (made.decided_at, made.known_at) for c in facts.columns.values()):
        console.print("Times carry no zone and are taken as UTC. If they are local: --zone Europe/Berlin")
    if made.classes is not None:
        console.print("Counts as 1: " + ", ".join(value for value, counts in made.classes.items() if counts == 1.0))
    if made.most_telling is None:
        console.print("Whether a column leaks the target can't be said: too few rows.")
    else:
        console.print(f"The most telling column alone: {made.most_telling.name} ({made.most_telling.words}).")
    console.print(f"Wrote {folder}.")
    console.print(f"Next: ninefold run training {made.name}; then ninefold up {made.name}")
