"""Commands of what everything stands on: ``ninefold key`` and ``ninefold store``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from ninefold.errors import NotFound
from ninefold.settings import settings

key = typer.Typer(no_args_is_help=True, add_completion=False, help="Make, list and revoke API keys.")
store = typer.Typer(no_args_is_help=True, add_completion=False, help="Migrate and look at the production database.")


def _keys_file() -> Path:
    return settings().keys_file or settings().home / "keys.json"


@key.command("create")
def create_key(name: Annotated[str, typer.Argument(help="Who uses it; a name that exists gets a new key.")]) -> None:
    """Make a key and print it; it is shown this once."""
    from ninefold.keys import create_key

    typer.echo(create_key(_keys_file(), name))


@key.command("list")
def list_keys() -> None:
    """List the names of the keys."""
    from ninefold.keys import key_names

    for name in key_names(_keys_file()):
        typer.echo(name)


@key.command("revoke")
def revoke_key(name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """Take a key away. A service that runs sees it when it reads its keys again."""
    from ninefold.keys import revoke_key

    revoke_key(_keys_file(), name)
    typer.echo(f"Revoked {name}.")


@store.command("migrate")
def migrate_store() -> None:
    """Bring the database to the newest schema."""
    from ninefold.store import open_store
    from ninefold.store.tables import SCHEMA

    with open_store(settings().store_url) as opened:
        typer.echo(f"{opened.where} has schema {SCHEMA}.")


@store.command("status")
def show_store() -> None:
    """Show the schema, how many rows each table has, and what waits in the journal."""
    from ninefold.store import open_store
    from ninefold.store.shipper import Shipper
    from ninefold.store.tables import SCHEMA

    with open_store(settings().store_url, migrating=False) as opened:
        table = Table("table", "rows", title=f"{opened.where}, schema {SCHEMA}", title_justify="left")
        for name, count in opened.counts().items():
            table.add_row(name, f"{count:,}")
        waiting = sum(Shipper(folder, opened).lag_bytes for folder in _journals())
    Console().print(table)
    typer.echo(f"In the journal, not yet in the store: {waiting:,} bytes.")


@store.command("replay-journal")
def replay_journal(
    folder: Annotated[
        Path | None, typer.Argument(help="A journal's folder; by default every one in the home folder.")
    ] = None,
) -> None:
    """Ship what a front end that is gone left in its journal. It can be repeated: every record is kept once."""
    from ninefold.store import open_store
    from ninefold.store.journal import Journal
    from ninefold.store.shipper import Shipper

    if folder is not None and not folder.is_dir():
        raise NotFound(f"There is no journal {folder}.")
    with open_store(settings().store_url, durable=True) as opened:
        for found in [folder] if folder is not None else _journals():
            journal = Journal(found)
            try:
                shipper = Shipper(found, opened)
                while shipper.ship():
                    pass
            finally:
                journal.close()
            typer.echo(
                f"{found}: {shipper.shipped:,} predictions shipped, {shipper.repeated:,} were there, "
                f"{shipper.damaged:,} pieces set aside, {journal.torn_bytes:,} bytes unfinished."
            )


def _journals() -> list[Path]:
    """The folders below home/journal, and itself, that hold segments."""
    root = settings().home / "journal"
    return sorted({path.parent for path in root.rglob("*.journal")})
