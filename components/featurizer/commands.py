"""``ninefold features``: register, write and look at features. A command imports what is heavy when it runs."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer

from ninefold.clock import WallClock, format_duration, format_instant, parse_instant
from ninefold.errors import ConfigurationError, UsageError
from ninefold.features import FeatureView, window_feature_view
from ninefold.loading import load_use_case
from ninefold.online import OnlineRow, open_online_store
from ninefold.records import entity_key
from ninefold.settings import settings
from ninefold.usecase import UseCase

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Apply, materialize and look at the feature store.")

Name = Annotated[str, typer.Argument(metavar="USE_CASE", help="Name or import path of the use case.")]
Lengths = Annotated[
    list[str] | None, typer.Option("--length", metavar="WINDOW=LENGTH", help="Another length of a window; repeatable.")
]


@app.command()
def apply(use_case: Name, length: Lengths = None) -> None:
    """Registers the use case's views in Feast; windows get their changelogs first."""
    from components.featurizer.historical import write_changelogs
    from feature_repo import definitions

    declared, lengths = load_use_case(use_case), parse_lengths(length)
    write_changelogs(declared, lengths, settings())
    definitions.apply(declared, settings(), lengths)
    for view in declared.feature_views(lengths):
        typer.echo(f"{view.view}: {', '.join(view.columns)} by {', '.join(view.key)}")


@app.command()
def materialize(
    use_case: Name,
    until: Annotated[str | None, typer.Option(help="Rows known by this instant; now when left out.")] = None,
    since: Annotated[str | None, typer.Option(help="Rows known since this instant; all when left out.")] = None,
) -> None:
    """Writes the newest rows of the batch views into the online store."""
    from components.featurizer.materialize import materialize as write

    end = parse_instant(until, field="--until") if until else WallClock().now()
    start = parse_instant(since, field="--since") if since else None
    for view, rows in write(load_use_case(use_case), settings(), end, start).items():
        typer.echo(f"{view}: {rows:,} rows written, known until {format_instant(end)}")


@app.command()
def show(
    use_case: Name,
    key: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE...", help="The fields of the views' keys.")],
    length: Lengths = None,
) -> None:
    """Shows the online features of an entity, with their ages and the watermarks of their views."""
    declared = load_use_case(use_case)
    values = parse_key(declared, key)
    now = WallClock().now()
    store = open_online_store(settings().online_url)
    try:
        views = shown_views(declared, parse_lengths(length))
        asked = [view for view in views if all(name in values for name in view.key)]
        if not asked:
            raise UsageError(
                f"No view goes by {', '.join(values)} alone.",
                remedy="The keys are " + "; ".join(f"{view.view}: {', '.join(view.key)}" for view in views) + ".",
            )
        keys = [entity_key(values[name] for name in view.key) for view in asked]
        rows = store.read_many([(view.view, text) for view, text in zip(asked, keys, strict=True)])
        marks = store.watermarks([view.view for view in asked])
    finally:
        store.close()
    for view, text, row in zip(asked, keys, rows, strict=True):
        typer.echo(f"{view.view} of {text}: {_freshness(view, row, now)}; watermark {_instant(marks[view.view])}")
        for feature, value in zip(view.features, row.values if row else (), strict=row is not None):
            typer.echo(f"  {feature} = {'null' if value is None else value}")


@app.command()
def ui(
    use_case: Name,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8888,
) -> None:
    """Serves Feast's catalogue of the use case's features, until it is interrupted."""
    from feature_repo.definitions import feature_store

    with socket.socket() as probe:
        if probe.connect_ex((host, port)) == 0:
            raise ConfigurationError(f"Port {port} is in use by another process.", remedy="Choose one with --port.")
    store = feature_store(load_use_case(use_case), settings())
    typer.echo(f"http://{host}:{port}")
    try:
        store.serve_ui(host=host, port=port)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Feast's catalogue needs the module {error.name!r}.", remedy="Install feast with its extra: feast[grpcio]."
        ) from error


def parse_lengths(texts: list[str] | None) -> dict[str, str]:
    """Reads ``window=6h`` options.

    Raises:
        UsageError: One has no equals sign.
    """
    return dict(_pairs(texts or [], "--length"))


def parse_key(use_case: UseCase, texts: list[str]) -> dict[str, Any]:
    """Reads ``field=value`` arguments, each value checked by its field.

    Raises:
        UsageError: One has no equals sign, or names no field of a request.
        InvalidInput: A value is not what its field takes.
    """
    values = {}
    for name, text in _pairs(texts, "key"):
        if name not in use_case.fields:
            raise UsageError(f"{name!r} is no field of a request.", remedy=f"Fields are {', '.join(use_case.fields)}.")
        field = use_case.fields[name]
        value: Any = text
        if field.kind == "integer":
            value = int(text) if re.fullmatch("-?[0-9]{1,18}", text) else text
        values[name] = field.check(value)
    return values


def shown_views(use_case: UseCase, lengths: dict[str, str]) -> list[FeatureView]:
    """Batch views, and windows at the chosen lengths, or at all declared ones where none was chosen."""
    views = list(use_case.feature_views(lengths))
    if not lengths:
        more = (window_feature_view(window.of(other)) for window in use_case.windows for other in window.lengths)
        views += [view for view in more if view not in views]
    return views


def _pairs(texts: list[str], what: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"{what} {text!r} has no '='.", remedy="Write it as name=value.")
        yield name, value


def _freshness(view: FeatureView, row: OnlineRow | None, now: datetime) -> str:
    if row is None:
        return "no row"
    age = now - row.known_at
    stale = view.time_to_live is not None and age.total_seconds() > view.time_to_live
    return f"known at {_instant(row.known_at)}, {_age(age)} old" + (", past its time to live" if stale else "")


def _age(age: timedelta) -> str:
    unit = next((unit for unit in (timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)) if age >= unit), None)
    return format_duration(age if unit is None else age // unit * unit)


def _instant(instant: datetime | None) -> str:
    return format_instant(instant) if instant else "never"
