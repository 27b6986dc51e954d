"""``ninefold label``: run Label Studio, send tasks to experts, and collect what they said."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from components.labeller.collect import Collected
    from components.labeller.selection import Picked, Selection
    from ninefold.store import Store
    from ninefold.usecase import UseCase

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Have experts label what models are unsure of.")

UseCaseArgument = Annotated[str, typer.Argument(help="Name of a use case, or its import path.")]

_LISTED = 5


@app.command("up")
def up() -> None:
    """Run Label Studio on this machine, installed at first use. Ends with Ctrl-C or SIGTERM."""
    from components.labeller.connection import credentials, folder
    from components.labeller.installation import ensure_installed
    from components.labeller.running import serve
    from ninefold.settings import settings

    here = settings()
    ensure_installed(here, typer.echo)
    typer.echo("Starting Label Studio; the first start makes its database, which takes about a minute ...")

    def ready(url: str) -> None:
        who = credentials(here)
        typer.echo(f"Label Studio: {url}")
        typer.echo(f"Log in as {who.username}; the password is in {folder(here) / 'credentials.json'}.")
        typer.echo(f"Invite experts: {url}/organization, Add People.")

    raise typer.Exit(serve(here, typer.echo, ready=ready))


@app.command("send")
def send(
    use_case: UseCaseArgument,
    count: Annotated[int, typer.Option(help="How many tasks, at most; not with --keys.")] = 100,
    sampler: Annotated[
        str,
        typer.Option(help="What picks: `uncertainty`, `sure_but_wrong`, `random`, or `uncertainty=0.9,random=0.1`."),
    ] = "",
    keys: Annotated[
        str, typer.Option(metavar="FILE", help="Pick by hand: a file with a key a line; - for input.")
    ] = "",
    where: Annotated[
        str, typer.Option(metavar="EXPR", help="Pick by hand: such as `prediction between 0.4 and 0.6`.")
    ] = "",
    since: Annotated[str, typer.Option("--from", help="First decision moment; by default the first there is.")] = "",
    until: Annotated[str, typer.Option("--to", help="Decision moments end before it; by default now.")] = "",
    batch: Annotated[str, typer.Option(help="Name of the batch; by default the time.")] = "",
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of a sampler's dice; by default made of the batch's name.")
    ] = None,
) -> None:
    """Send tasks to experts, each key once; without a choice of what, a mix of samplers picks."""
    import zlib

    from components.labeller.connection import connect
    from components.labeller.projects import interface_of
    from components.labeller.selection import MOST, label_tasks
    from components.labeller.send import batch_name
    from components.labeller.send import send as send_tasks
    from ninefold.clock import WallClock, parse_instant
    from ninefold.errors import UsageError
    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store

    declared = load_use_case(use_case)
    interface_of(declared)
    if sum(map(bool, (sampler, keys, where))) > 1:
        raise UsageError("Two ways of picking are named.", remedy="Give one of --sampler, --keys and --where.")
    if not 1 <= count <= MOST:
        raise UsageError(f"--count is {count:,}.", remedy=f"Give 1 to {MOST:,}.")
    here, now = settings(), WallClock().now()
    first = parse_instant(since, field="--from") if since else None
    last = parse_instant(until, field="--to") if until else None
    name = batch or batch_name(now)
    with connect(here) as studio, open_store(here.store_url) as store:
        # Before anything is picked: who has no Label Studio learns it at once.
        studio.version()
        picks: Sequence[Picked]
        if keys or where:
            found = _by_hand(store, declared, keys, where, count, first, last)
            _say_left_out(found)
            picks = found.picks
        else:
            picks = _sampled(
                store, declared, sampler, count, zlib.crc32(name.encode()) if seed is None else seed, first, last
            )
        sent = send_tasks(store, declared, studio, label_tasks(declared.name, picks, name, now), here, typer.echo)
    typer.echo(
        f"{sent.new:,} new tasks in batch {name}; {sent.imported:,} sent to Label Studio, {sent.waiting:,} there."
    )
    if sent.repeated:
        typer.echo(f"{sent.repeated:,} were asked before.")
    if sent.lost:
        typer.echo(f"{sent.lost:,} can't be shown any more: their predictions are not kept.")
    typer.echo(f"Experts label at {sent.url}/data, or collect what they said with: ninefold label collect {use_case}")


@app.command("collect")
def collect(use_case: UseCaseArgument) -> None:
    """Bring annotations and the truths that they settle into the store, and show how the tasks stand."""
    from components.labeller.collect import collect as collect_all
    from components.labeller.connection import connect
    from ninefold.clock import WallClock
    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store

    declared, here = load_use_case(use_case), settings()
    with connect(here) as studio, open_store(here.store_url) as store:
        collected = collect_all(store, declared, studio, now=WallClock().now())
    _show(declared, collected)


def _by_hand(
    store: Store, use_case: UseCase, keys: str, where: str, count: int, since: datetime | None, until: datetime | None
) -> Selection:
    from components.labeller.selection import by_condition, by_keys
    from components.labeller.where import where as read_where

    if where:
        condition = read_where(where, use_case)
        return by_condition(store, use_case, condition, where, count, since=since, until=until)
    return by_keys(store, use_case, _lines(keys))


def _lines(name: str) -> list[str]:
    import sys
    from pathlib import Path

    from ninefold.errors import UsageError

    try:
        return (sys.stdin.read() if name == "-" else Path(name).read_text()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The list of keys {name} can't be read: {error}.", remedy="Write one key a line.") from error


def _sampled(
    store: Store,
    use_case: UseCase,
    sampler: str,
    count: int,
    seed: int,
    since: datetime | None,
    until: datetime | None,
) -> Sequence[Picked]:
    from components.labeller.sampling.pick import pick
    from components.labeller.selection import mix_of, pool_of

    mix = mix_of(use_case, sampler if "=" in sampler or not sampler else f"{sampler}=1")
    pool = pool_of(store, use_case, since=since, until=until)
    if not len(pool):
        typer.echo("There is nothing to pick from: no prediction without a truth that nobody was asked about.")
        return ()
    return pick(pool, count, mix, seed)


def _say_left_out(found: Selection) -> None:
    if found.asked:
        typer.echo(f"{len(found.asked):,} were asked before.")
    if found.unknown:
        some = ", ".join(found.unknown[:_LISTED])
        more = ", …" if len(found.unknown) > _LISTED else ""
        typer.echo(f"Nothing was predicted for {len(found.unknown):,} keys: {some}{more}")


def _show(use_case: UseCase, collected: Collected) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from components.labeller.collect import STATES

    console = Console()
    table = Table("tasks", "that", title=f"{use_case.title}", title_justify="left")
    for state, words in STATES.items():
        table.add_row(f"{collected.states[state]:,}", words)
    console.print(table)
    people = Table("annotator", "answered", "skipped", "outside", "agreed with what was settled", title_justify="left")
    for one in collected.annotators:
        agreed = f"{one.agreed:,} of {one.compared:,}" if one.compared else "–"
        people.add_row(escape(one.name), f"{one.labelled:,}", f"{one.skipped:,}", f"{one.outside:,}", agreed)
    if collected.annotators:
        console.print(people)
    alpha = collected.agreement.alpha
    of = f"{collected.agreement.tasks:,} tasks that several answered"
    typer.echo(f"Agreement (Krippendorff's alpha): {'not known' if alpha is None else f'{alpha:.2f}'}, over {of}.")
    typer.echo(f"New: {collected.annotations:,} annotations, {collected.truths:,} truths.")
    if collected.unknown:
        typer.echo(f"{collected.unknown:,} annotations are of tasks that Ninefold did not send, and were left there.")
    if collected.unreadable:
        typer.echo(f"{collected.unreadable:,} annotations have no author, number or time, and were left there.")
    if collected.erased:
        typer.echo(f"{collected.erased:,} tasks of erased keys were removed from Label Studio.")
