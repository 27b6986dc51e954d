"""``ninefold release``: versions' model servers on a cluster, written as YAML, applied, looked at and retired."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ninefold.cluster.api import ClusterApi
    from ninefold.records import ModelVersion
    from ninefold.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Versions' model servers on a cluster.")

UseCaseArgument = Annotated[str, typer.Argument(help="Name of a use case, or its import path.")]
Versions = Annotated[
    list[int] | None,
    typer.Argument(help="Versions; by default the live one, the baseline and the candidate of the open rollout."),
]


@app.command("render")
def render_versions(
    use_case: UseCaseArgument,
    versions: Versions = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the files go.")] = Path("."),
) -> None:
    """Write versions' InferenceServices as YAML, one file each, for GitOps. Asks no cluster."""
    from components.releaser.deploy import render
    from ninefold.settings import settings

    with _opened(use_case) as (name, store):
        for version in _chosen(store, name, versions):
            typer.echo(render(name, version, settings(), folder))


@app.command("apply")
def apply_versions(use_case: UseCaseArgument, versions: Versions = None) -> None:
    """Apply versions' InferenceServices, and wait until each is ready. Routes follow by themselves."""
    from components.releaser.deploy import deploy
    from ninefold.settings import settings

    with _opened(use_case) as (name, store):
        chosen, wanted = _chosen(store, name, versions), _wanted(store, name)
    with _cluster() as api:
        for version in chosen:
            deploy(name, version, api, settings())
            typer.echo(f"Version {version.version} of {name} is ready.")
            if version.state == "registered" and version not in wanted:
                typer.echo(f"Nobody asks it yet; open its rollout: ninefold rollout start {use_case} {version.version}")


@app.command("status")
def show_versions(use_case: UseCaseArgument) -> None:
    """Show every version and how its model server does."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from components.releaser.deploy import look
    from ninefold.cluster.inference_service import server_name
    from ninefold.cluster.retirement import served_versions

    with _opened(use_case) as (name, store):
        known, going = store.versions(name), set(_unneeded(store, name))
    table = Table("version", "state", "model server", "what is wrong", title=name, title_justify="left")
    with _cluster() as api:
        served = served_versions(api, name)
        for version in known:
            if version.version not in served:
                table.add_row(str(version.version), version.state, "none", "")
                continue
            found = look(server_name(name, version.version), version.digest, api)
            does = "ready" if found.ready else "not ready"
            does += ", goes" if version.version in going else ""
            table.add_row(
                str(version.version), version.state, does, escape(f"{found.condition} {found.remedy}".strip())
            )
        for number in sorted(set(served) - {version.version for version in known}):
            table.add_row(str(number), "unknown", "there", "The store knows no such version.")
    Console().print(table)


@app.command("retire")
def retire_versions(
    use_case: UseCaseArgument,
    versions: Annotated[list[int] | None, typer.Argument(help="Versions; by default those that nobody needs.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and delete nothing.")] = False,
) -> None:
    """Delete versions' InferenceServices. The rollout's controller does so by itself with those that nobody needs."""
    from ninefold.cluster.retirement import retire, served_versions
    from ninefold.errors import UsageError

    with _opened(use_case) as (name, store):
        numbers = sorted(versions) if versions else _unneeded(store, name)
        needed = {version.version for version in _wanted(store, name)}
        if kept := [number for number in numbers if number in needed]:
            raise UsageError(
                f"Version {kept[0]} of {name} is live, the baseline, or in an open rollout: its server stays.",
                remedy=f"Make another one live first (ninefold store set-live {use_case} …), or end the rollout: "
                f'ninefold rollout abort {use_case} --reason "…"',
            )
    with _cluster() as api:
        there = [number for number in numbers if number in served_versions(api, name)]
        gone = there if dry_run else retire(api, name, there)
    for number in gone:
        typer.echo(f"Version {number} of {name}: its model server {'would go' if dry_run else 'goes'}.")
    if not gone:
        typer.echo(f"No model server of {name} {'would go' if dry_run else 'goes'}.")


@contextmanager
def _opened(use_case: str) -> Iterator[tuple[str, Store]]:
    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store
    from ninefold.store.present import records_clock

    name = load_use_case(use_case).name
    with open_store(settings().store_url) as opened:
        clock = records_clock(opened, settings().clock)
    with open_store(settings().store_url, clock=clock) as store:
        yield name, store


@contextmanager
def _cluster() -> Iterator[ClusterApi]:
    from components.releaser.deploy import cluster_api
    from ninefold.settings import settings

    api = cluster_api(settings())
    try:
        yield api
    finally:
        api.close()


def _chosen(store: Store, use_case: str, numbers: Sequence[int] | None) -> list[ModelVersion]:
    """The versions of the numbers; without any, those that have to be askable."""
    from ninefold.errors import NotFound

    if not numbers:
        found = _wanted(store, use_case)
        if not found:
            raise NotFound(f"{use_case} has no version yet.", remedy=f"Make one: ninefold run training {use_case}")
        return found
    known = {version.version: version for version in store.versions(use_case)}
    for number in numbers:
        if number not in known:
            there = ", ".join(map(str, known)) or "none"
            raise NotFound(f"{use_case} has no version {number}.", remedy=f"There are {there}.")
    return [known[number] for number in numbers]


def _wanted(store: Store, use_case: str) -> list[ModelVersion]:
    """The baseline, the live version, and both sides of open rollouts, lowest first."""
    from ninefold.store.rollout_rows import ENDED
    from ninefold.store.versions import BASELINE

    going = (one for one in store.rollouts(use_case, limit=10_000) if one.state not in ENDED)
    sides = {number for one in going for number in (one.incumbent, one.candidate)}
    return [
        version
        for version in store.versions(use_case)
        if version.version == BASELINE or version.state == "live" or version.version in sides
    ]


def _unneeded(store: Store, use_case: str) -> list[int]:
    from ninefold.cluster.retirement import to_retire
    from ninefold.settings import settings

    return to_retire(
        store.versions(use_case), store.rollouts(use_case, limit=10_000), store.version_changes(use_case),
        now=store.clock.now(), warm=settings().cluster.keep_warm,
    )  # fmt: skip
