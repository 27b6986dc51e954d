"""Commands of what everything stands on: ``ninefold key`` and ``ninefold store``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from ninefold.errors import NotFound, StoreError, UsageError
from ninefold.settings import settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ninefold.records import ModelVersion
    from ninefold.store.erasure import EntityKey
    from ninefold.store.pruning import Pruning
    from ninefold.usecase import UseCase

UseCaseName = Annotated[str, typer.Argument(help="Name of the use case, or an import path.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go, and change nothing.")]
By = Annotated[
    str | None, typer.Option("--by", metavar="NAME", help="Who does it, for the record; by default the machine's user.")
]

key = typer.Typer(no_args_is_help=True, add_completion=False, help="Make, list and revoke API keys.")
store = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Migrate, look at, prune and erase from the production database."
)


def _keys_file() -> Path:
    return settings().keys_path


@key.command("create")
def create_key(
    name: Annotated[str, typer.Argument(help="Who uses it; a name that exists gets a new key.")],
    only: Annotated[
        list[str] | None, typer.Option("--only", help="What it is for, and nothing else: feedback, truths or events.")
    ] = None,
) -> None:
    """Make a key and print it; it is shown this once."""
    from ninefold.keys import create_key

    typer.echo(create_key(_keys_file(), name, only or ()))


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


@store.command("set-live")
def set_live(
    use_case: UseCaseName,
    version: Annotated[int, typer.Argument(help="The version that is to answer; 0 is the baseline.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")] = "",
    by: By = None,
) -> None:
    """Make a version the live one, a retired one too. What serves follows within seconds."""
    from ninefold.features import with_lengths
    from ninefold.loading import load_use_case
    from ninefold.package import verify_package
    from ninefold.store import open_store

    declared = load_use_case(use_case)
    other_derive = False

    def check(wanted: ModelVersion) -> None:
        nonlocal other_derive
        manifest = verify_package(wanted.uri, wanted.digest)
        with_lengths(declared.windows, dict(wanted.lengths))
        other_derive = manifest.signature.derive_digest != declared.derive_digest

    with open_store(settings().store_url) as opened:
        known = opened.versions(declared.name)
        if version not in {one.version for one in known}:
            there = ", ".join(f"{one.version} ({one.state})" for one in known) or "none"
            raise NotFound(f"{declared.name} has no version {version}.", remedy=f"There are {there}.")
        if (rollout := opened.rollout(declared.name)) is not None:
            raise UsageError(
                f"A rollout of {declared.name} is {rollout.state}: version {rollout.candidate} against "
                f"{rollout.incumbent}.",
                remedy=f'End it first: ninefold rollout abort {use_case} --reason "…"',
            )
        before = opened.live_version(declared.name)
        opened.set_state(declared.name, version, "live", actor=by or _user(), reason=reason, checking=check)
    was = "" if before is None or before.version == version else f"; version {before.version} was"
    typer.echo(f"Version {version} of {declared.name} is live{was}.")
    if other_derive:
        typer.echo("It was trained with another derive than this code has: the front end will refuse it.", err=True)


@store.command("prune")
def prune_store(
    dry_run: DryRun = False,
    use_case: Annotated[
        list[str] | None,
        typer.Option(
            "--use-case", metavar="PATH", help="Import path of a use case that is not in usecases/; repeatable."
        ),
    ] = None,
    as_of: Annotated[
        str | None,
        typer.Option("--as-of", metavar="TIME", help="Instant that records' ages are counted to; by default now."),
    ] = None,
    vacuum: Annotated[
        bool, typer.Option("--vacuum", help="Give the space back to the disk; it locks the store meanwhile.")
    ] = False,
    by: By = None,
) -> None:
    """Remove what is older than the settings' retention says. Services may run meanwhile."""
    from ninefold.clock import WallClock, parse_instant
    from ninefold.store import open_store
    from ninefold.store.prune import prune

    with open_store(settings().store_url) as opened:
        done = prune(
            opened, settings(), WallClock(), use_cases=use_case or [], actor=by or _user(), dry_run=dry_run,
            as_of=None if as_of is None else parse_instant(as_of, field="--as-of"), vouched=as_of is not None,
        )  # fmt: skip
        if vacuum and not dry_run:
            opened.tidy(compact=True)
    _show_prunings(done, dry_run)


@store.command("forget")
def forget_key(
    use_case: UseCaseName,
    fields: Annotated[
        list[str] | None, typer.Argument(metavar="FIELD=VALUE", help="Each field of the use case's key.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key", metavar="TEXT", help="The key as predictions hold it: its values, with bars between them."
        ),
    ] = None,
    dry_run: DryRun = False,
    by: By = None,
) -> None:
    """Erase a key: its predictions, truths, feedback and online rows, and its rows in data/. It can't be undone."""
    from ninefold.clock import WallClock
    from ninefold.loading import load_use_case
    from ninefold.online import open_online_store
    from ninefold.store import open_store
    from ninefold.store.erased_files import drop_references, erase_from_parquet, erase_online
    from ninefold.store.erasure import erase_records, key_of
    from ninefold.store.leftovers import going_run
    from ninefold.store.prune import present
    from ninefold.store.shipper import ship_whole

    here, declared = settings(), load_use_case(use_case)
    entity = key_of(declared, key, fields or [])
    with open_store(here.store_url, durable=True) as opened:
        if (run := going_run(opened, WallClock().now(), declared.name)) is not None:
            raise StoreError(f"The run {run} may bring the key back.", remedy="Try again when it has ended.")
        for folder in [] if dry_run else _journals(declared.name):
            ship_whole(folder, opened)
        now = present(opened, here, WallClock())
        removed = erase_records(opened, declared, entity, now=now, actor=by or _user(), dry_run=dry_run)
        in_log = not dry_run and not opened.tidy()
        lengths = [version.lengths for version in opened.versions(declared.name)]
        online = open_online_store(here.online_url)
        try:
            rows = erase_online(declared, entity, online, lengths, dry_run=dry_run)
        finally:
            online.close()
    files = erase_from_parquet(declared, entity, here.folder("data") / declared.name, dry_run=dry_run)
    for kind, count in {**removed, **{f"online rows of {view}": count for view, count in rows.items()}}.items():
        typer.echo(f"{kind}: {count:,}")
    for path, count in files.items():
        typer.echo(f"{path}: {'would be ' if dry_run else ''}written without {count:,} rows")
    for path in drop_references(declared, here.folder("reports"), dry_run=dry_run) if files else []:
        typer.echo(f"{path}: {'would be ' if dry_run else ''}removed; the monitor makes it anew")
    _name_what_holds_it(declared, entity)
    if in_log:
        typer.echo("- the store's log, as somebody reads from it: run this again when they have finished.")


def _name_what_holds_it(declared: UseCase, entity: EntityKey) -> None:
    """Says where the key still is, or may be, and what to do about it."""
    from ninefold.store.erased_files import damaged_with, rows_in_source

    home = settings().home
    typer.echo("Beyond this command's reach:")
    try:
        source = rows_in_source(declared, entity)
        held = ", ".join(f"{name} {count:,}" for name, count in source.items()) or "nothing"
        after = " The next training run brings it back unless it goes there first." if source else ""
        typer.echo(f"- the source that {declared.extract} reads still holds: {held}.{after}")
    except Exception as error:
        # The use case's own code, and the erasure stands whatever it does.
        typer.echo(f"- the source that {declared.extract} reads can't be looked at ({error}): look there.")
    if any(path.is_dir() for path in (home / "pipelines").glob("*")):
        typer.echo(
            "- artifacts and caches of runs, and rows that models were trained on. The first go with: "
            "NINEFOLD_RETENTION__PIPELINES_DAYS=0 ninefold store prune"
        )
    for folder in _journals(declared.name):
        if any(path.stat().st_size for path in folder.glob("*.journal")):
            typer.echo(f"- {folder}: answers that are in the store already, until the front end is started anew.")
        for path in damaged_with(entity, folder):
            typer.echo(f"- {path}: a damaged piece that holds it; remove it.")
    if any(set(window.key) == set(declared.key) for window in declared.windows):
        typer.echo("- a collector that runs, which counts its events until they leave their windows: start it anew.")
    typer.echo("- copies and backups of the home folder and the store.")


def _show_prunings(done: Sequence[Pruning], dry_run: bool) -> None:
    from ninefold.store.prune import table

    header, rows = table(done, dry_run=dry_run)
    if not rows:
        typer.echo("There is nothing that could be pruned.")
        return
    shown = Table(*header)
    for row in rows:
        shown.add_row(*row)
    Console().print(shown)


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return "unknown"


def _journals(use_case: str | None = None) -> list[Path]:
    """The folders below home/journal, and itself, that hold segments; a use case's are called by its name."""
    root = settings().home / "journal"
    folders = {path.parent for path in root.rglob("*.journal")}
    return sorted(path for path in folders if use_case is None or path in (root, root / use_case))
