"""``ninefold rollout``: open a rollout, look at it, and act on it by hand.

A command needs no lease: it names the revision that it saw, and is refused when the controller has moved on since.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ninefold.clock import Clock
    from ninefold.records import ModelVersion
    from ninefold.rollout.state import Kind
    from ninefold.store import Store, StoredRollout
    from ninefold.usecase import UseCase
    from serving.rollout.overview import Overview

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Replace the live version step by step.")

UseCaseArgument = Annotated[str, typer.Argument(help="Name of a use case, or its import path.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record.")]
NeededReason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for the record; needed.")]
Which = Annotated[
    str, typer.Option("--rollout", metavar="ID", help="Id of the rollout, or how it begins; by default the open one.")
]
By = Annotated[
    str, typer.Option("--by", metavar="NAME", help="Who does it, for the record; by default the machine's user.")
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


@app.command("start")
def start(
    use_case: UseCaseArgument,
    version: Annotated[int, typer.Argument(help="The registered version that may replace the live one.")],
    reason: Reason = "",
    mode: Annotated[
        Literal["canary", "ab"] | None,
        typer.Option("--mode", help="canary, or ab for an A/B test; by default as the use case declares."),
    ] = None,
    by: By = "",
) -> None:
    """Open a rollout of a registered version. It waits until the candidate can be asked and no other goes on."""
    from dataclasses import replace

    from ninefold.package import verify_package
    from ninefold.store.versions import BASELINE

    with _opened(use_case) as (declared, store, clock):
        wanted = _startable(store, declared.name, version)
        verify_package(wanted.uri, wanted.digest)
        _require_time(clock)
        policy = declared.rollout if mode is None else replace(declared.rollout, mode=mode)
        live = store.live_version(declared.name)
        before = store.rollout(declared.name)
        opened = store.open_rollout(
            declared.name, incumbent=live.version if live is not None else BASELINE, candidate=version,
            policy=policy.to_json(), actor=by or _user(), reason=reason, at=clock.now(),
        )  # fmt: skip
    if before is not None and before.rollout_id == opened.rollout_id:
        typer.echo(f"Version {version} of {declared.name} is {opened.state} already: rollout {opened.rollout_id}.")
        return
    typer.echo(f"Rollout {opened.rollout_id} of {declared.name} is open: version {version} against {opened.incumbent}.")
    if before is not None and before.state == "pending":
        typer.echo(f"Version {before.candidate}, which waited, is superseded.")
    elif before is not None:
        typer.echo(f"It waits until the rollout of version {before.candidate}, which is {before.state}, has ended.")


@app.command("status")
def status(use_case: UseCaseArgument, as_json: AsJson = False) -> None:
    """Show where the rollout stands, what was found, and what it waits for."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from serving.rollout.overview import rollout_json

    with _opened(use_case) as (declared, store, clock):
        kept = store.rollout(declared.name)
        shown = None if kept is None else _overview(declared, store, clock, kept)
        last = None if kept is not None else next(iter(store.rollouts(declared.name, limit=1)), None)
        live = store.live_version(declared.name)
    if as_json:
        document = {
            "use_case": declared.name,
            "live": None if live is None else live.version,
            "rollout": None if shown is None else shown.to_json(),
            "last": None if last is None else rollout_json(last),
        }
        typer.echo(json.dumps(document, indent=1))
        return
    if shown is None:
        named = "no version is" if live is None else f"version {live.version} is"
        typer.echo(f"No rollout of {declared.name} is open; {named} live.")
        if last is not None:
            typer.echo(f"The last one, of version {last.candidate}, ended {last.state}: {last.reason}")
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in shown.lines():
        table.add_row(name, escape(words))
    console.print(f"{declared.name}: rollout {shown.found.kept.rollout_id}, revision {shown.found.kept.revision}")
    console.print(table)
    reasons = Table("looked at", "finding", "what was found", title_justify="left")
    style = {"passed": "green", "failed": "red", "unknown": "yellow"}
    for reason in shown.decision.reasons:
        reasons.add_row(reason.name, f"[{style[reason.finding]}]{reason.finding}[/]", escape(reason.words))
    console.print(reasons)
    console.print(shown.outlook, markup=False)


@app.command("pause")
def pause(use_case: UseCaseArgument, reason: Reason = "", which: Which = "", by: By = "") -> None:
    """Hold a rollout where it stands. Its guardrails still end it."""
    _act(use_case, "pause", reason, which, by)


@app.command("resume")
def resume(use_case: UseCaseArgument, reason: Reason = "", which: Which = "", by: By = "") -> None:
    """Let a paused rollout go on where it stood."""
    _act(use_case, "resume", reason, which, by)


@app.command("abort")
def abort(use_case: UseCaseArgument, reason: NeededReason, which: Which = "", by: By = "") -> None:
    """End a rollout: the incumbent stays, and the candidate is retired."""
    _act(use_case, "abort", reason, which, by)


@app.command("promote")
def promote(use_case: UseCaseArgument, reason: NeededReason, which: Which = "", by: By = "") -> None:
    """Make the candidate live now, whatever is known of it."""
    _act(use_case, "promote", reason, which, by)


@app.command("history")
def history(use_case: UseCaseArgument, which: Which = "", as_json: AsJson = False) -> None:
    """List all rollouts; or, of one that --rollout names, every entry of its history."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from serving.rollout.overview import rollout_json, step_cells, step_json

    with _opened(use_case) as (declared, store, _):
        found = [_named(store, declared.name, which)] if which else store.rollouts(declared.name)
        entries = store.steps(found[0].rollout_id) if which else []
    if as_json:
        listed: object = [rollout_json(kept) for kept in found]
        if which:
            listed = {**rollout_json(found[0]), "history": [step_json(step) for step in entries]}
        typer.echo(json.dumps(listed, indent=1))
        return
    if not found:
        typer.echo(f"{declared.name} has had no rollout.")
        return
    console = Console(highlight=False)
    if which:
        kept = found[0]
        table = Table("when", "who", "what", "state", "share", "why", title_justify="left")
        for step in entries:
            table.add_row(*(escape(cell) for cell in step_cells(step)))
        console.print(f"{kept.use_case}: rollout {kept.rollout_id}, version {kept.candidate} against {kept.incumbent}")
    else:
        table = Table("rollout", "version", "against", "state", "opened", "ended", "why")
        for kept in found:
            ended = "" if kept.ended_at is None else f"{kept.ended_at:%Y-%m-%d %H:%M}"
            table.add_row(
                kept.rollout_id[:8], str(kept.candidate), str(kept.incumbent), kept.state,
                f"{kept.opened_at:%Y-%m-%d %H:%M}", ended, escape(kept.reason),
            )  # fmt: skip
    console.print(table)


@contextmanager
def _opened(use_case: str) -> Iterator[tuple[UseCase, Store, Clock]]:
    """The use case, the store, and the clock that requests go by."""
    from ninefold.loading import load_use_case
    from ninefold.settings import settings
    from ninefold.store import open_store
    from ninefold.store.present import records_clock

    declared = load_use_case(use_case)
    with open_store(settings().store_url) as store:
        yield declared, store, records_clock(store, settings().clock)


def _require_time(clock: Clock) -> None:
    """Refuses to open a rollout at an instant that no record will ever reach."""
    from ninefold.clock import WallClock
    from ninefold.errors import UsageError
    from ninefold.settings import settings

    if settings().clock == "event" and isinstance(clock, WallClock):
        raise UsageError(
            "In event time the newest record says what time it is, and there is none.", remedy="Replay something first."
        )


def _startable(store: Store, use_case: str, version: int) -> ModelVersion:
    from ninefold.errors import NotFound, UsageError
    from ninefold.store.versions import BASELINE

    wanted = store.version(use_case, version)
    registered = [str(v.version) for v in store.versions(use_case) if v.state == "registered" and v.version != BASELINE]
    instead = f"Registered are {', '.join(registered) or 'none'}"
    if wanted is None:
        raise NotFound(f"{use_case} has no version {version}.", remedy=f"{instead}; ninefold run training makes one.")
    by_hand = f"ninefold store set-live {use_case} {version}"
    if wanted.state == "live":
        raise UsageError(f"Version {version} of {use_case} is live: it can't replace itself.", remedy=f"{instead}.")
    if wanted.state == "retired":
        why = [c.reason for c in store.version_changes(use_case) if c.version == version and c.to_state == "retired"]
        because = f": {why[-1]}" if why and why[-1] else ""
        raise UsageError(
            f"Version {version} of {use_case} is retired{because.rstrip('.')}.",
            remedy=f"{instead}. To bring it back without a rollout: {by_hand}",
        )
    if version == BASELINE:
        raise UsageError(f"Version 0 of {use_case} is the baseline.", remedy=f"Make it live by hand: {by_hand}")
    return wanted


def _named(store: Store, use_case: str, which: str) -> StoredRollout:
    """The rollout that an id, or its beginning, names; without one, the open one."""
    from ninefold.errors import NotFound, UsageError

    if not which:
        kept = store.rollout(use_case)
        if kept is None:
            raise UsageError(
                f"No rollout of {use_case} is open.", remedy=f"Open one with: ninefold rollout start {use_case} VERSION"
            )
        return kept
    found = [kept for kept in store.rollouts(use_case, limit=10_000) if kept.rollout_id.startswith(which)]
    if not found:
        raise NotFound(
            f"{use_case} has no rollout {which!r}.", remedy=f"List them with: ninefold rollout history {use_case}"
        )
    if len(found) > 1:
        raise UsageError(f"{len(found)} rollouts of {use_case} begin with {which!r}.", remedy="Give more of the id.")
    return found[0]


def _act(use_case: str, kind: Kind, reason: str, which: str, by: str) -> None:
    """Does by hand what the rules allow where the rollout stands."""
    from ninefold.errors import UsageError
    from ninefold.package import verify_package
    from ninefold.rollout.state import Event, apply
    from serving.rollout.controller import standing

    if kind in ("abort", "promote") and not reason.strip():
        raise UsageError(f"Who reads the history has to know why: {kind} needs a reason.", remedy='Give --reason "…".')
    with _opened(use_case) as (declared, store, clock):
        found = standing(store, _named(store, declared.name, which))
        kept, actor = found.kept, by or _user()
        event = Event(kind=kind, at=clock.now(), revision=kept.revision, by=actor, words=reason)
        moved = apply(found.rollout, event)
        promoted = moved.state == "promoted"
        if promoted and found.candidate is not None:
            verify_package(found.candidate.uri, found.candidate.digest)
        after = store.record_step(
            kept.rollout_id, revision=kept.revision, actor=actor, action=kind, state=moved.state, step=moved.step,
            reasons=(reason,) if reason else (), live=kept.candidate if promoted else None,
            incumbent=found.live if promoted and found.live != kept.candidate else None, at=event.at,
        )  # fmt: skip
    ends = {"promoted": f"version {kept.candidate} is live", "rolled_back": f"version {kept.incumbent} stays"}
    told = f": {ends[after.state]}" if after.state in ends else ""
    typer.echo(f"Rollout {kept.rollout_id} of {declared.name} is {after.state}{told}.")


def _overview(declared: UseCase, store: Store, clock: Clock, kept: StoredRollout) -> Overview:
    from ninefold.rollout.decide import RolloutDecision
    from ninefold.rollout.evidence import Evidence
    from ninefold.settings import settings
    from serving.rollout.controller import decided, evidence_reader, misfit, standing
    from serving.rollout.obstacle import OnlineObstacle
    from serving.rollout.overview import Overview
    from serving.traffic.mirror import mirror_of

    found, at, front_end = standing(store, kept), clock.now(), OnlineObstacle(settings(), declared)
    if kept.state == "pending":
        obstacle = front_end(found.candidate) if found.candidate is not None else ""
        evidence, newest, observed = Evidence(at=at, obstacle=obstacle), None, {"live": 0, "candidate": 0}
    else:
        reader = evidence_reader(declared, store, found)
        evidence = reader.read(found.rollout, found.steps, at)
        newest, observed = reader.newest_answer(), reader.observed(found.rollout)
    routes = store.published_routes(declared.name)
    decision = decided(found, evidence, newest, "" if routes is None else routes.problem)
    action: str = decision.action
    if (wrong := misfit(found)) is not None:
        action = wrong[0]
        decision = RolloutDecision(
            action="hold", at=at, revision=kept.revision, step=None, share=decision.share, reasons=(wrong[1],),
            numbers=decision.numbers,
        )  # fmt: skip
    return Overview(
        found=found, decision=decision, action=action, blocks=tuple(evidence.blocks), observed=observed,
        loss=found.policy.loss_of(declared.metric, declared.problem), unit=declared.metric.unit,
        front_end=front_end.rollout(), mirror=mirror_of(kept, found.steps), routes=routes,
    )  # fmt: skip


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A container's user may have no name.
        return "unknown"
