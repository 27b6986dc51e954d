"""The demo's words and tables: what people read of a training, a decision, and the whole."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from components.monitor.alerts import QUALITY, Finding
from components.monitor.run import Watched
from ninefold.rollout.guardrails import FEATURES_NULL
from ninefold.usecase import UseCase
from pipelines.live_check import LiveCheck
from pipelines.progress import result_table
from pipelines.replay import Replayed
from pipelines.story import WEEK, Look
from pipelines.timeline import OPENED, Timeline

_COLOURS = {"promote": "green", "advance": "green", "start_shadow": "cyan", "rollback": "red"}


def training_words(console: Console, result: Mapping[str, Any]) -> None:
    """A run's table, the checks that tell it from another, and what became of its candidate."""
    console.print()
    console.print(result_table(result))
    colour = {"release": "green", "hold": "yellow", "reject": "red"}[result["action"]]
    console.print(f"Gate: [{colour}]{escape(result['summary'])}[/{colour}]", highlight=False, soft_wrap=True)
    for reason in result["reasons"]:
        if reason["outcome"] != "passed" or reason["name"] in ("beats_baseline", "no_worse_than_incumbent"):
            console.print(f"  {escape(reason['words'])}", highlight=False, soft_wrap=True)
    for sentence in result.get("then", ())[:1]:
        console.print(escape(sentence), highlight=False, soft_wrap=True)
    console.print(f"Report: {result['report']}", highlight=False, soft_wrap=True)


def decision_words(look: Look) -> str:
    """What a look decided, in a line or two; empty where nothing worth telling was found."""
    decision, rollout = look.decision, look.rollout
    if decision is None or rollout is None:
        return ""
    suspected = decision.action == "hold" and decision.reasons and decision.reasons[0].name == FEATURES_NULL
    if not look.moved and not suspected:
        return ""
    name = f"version {rollout.candidate}"
    what = {
        "start_shadow": f"{name} is asked in the shadow of version {rollout.incumbent}",
        "start_ab": f"{name} answers {decision.share:.0%}",
        "advance": f"{name} answers {decision.share:.0%}",
        "promote": f"{name} is promoted: it answers everybody",
        "rollback": f"{name} is rolled back",
        "hold": f"{name} is suspected",
    }[decision.action]
    colour = _COLOURS.get(decision.action, "yellow")
    words = escape(decision.words)
    return f"  [dim]{look.at:%b %d}[/dim]  [bold {colour}]{what}[/bold {colour}]. {words}"


def loss_report(use_case: UseCase, watched: Sequence[Watched]) -> Table:
    """What each version's answers were worth, run by run of the monitor, those of one week together."""
    unit = f" ({use_case.target.unit})" if use_case.target.unit else ""
    table = Table(title="Loss report", title_justify="left")
    table.add_column("days")
    table.add_column("version")
    for column in ("asked", "truths", f"{use_case.metric.name}{unit}", "baseline"):
        table.add_column(column, justify="right")
    table.add_column("over its limit")
    for week in _weeks(watched):
        found = [j for run in week for j in run.judged if not j.cohort]
        over = Counter((f.check, f.subject) for run in week for f in run.findings if _is_loss_over(f))
        for version in sorted({j.version for j in found}):
            mine = [j for j in found if j.version == version]
            asked, known = sum(j.requests for j in mine), sum(j.known for j in mine)
            value = sum(j.value * j.known for j in mine if j.known) / known if known else math.nan
            baseline = sum(j.baseline * j.known for j in mine if j.known) / known if known else math.nan
            days = [
                f"{check.replace('_', ' ')}: {n} d" for (check, who), n in over.items() if who == f"version {version}"
            ]
            table.add_row(
                f"{week[0].windows[0].start:%b %d} to {week[-1].windows[-1].start:%b %d}",
                str(version), f"{asked:,}", f"{known / max(asked, 1):.1%}", f"{value:.2f}", f"{baseline:.2f}",
                ", ".join(days),
            )  # fmt: skip
    return table


def _is_loss_over(finding: Finding) -> bool:
    return finding.outcome == "over" and finding.check in QUALITY


def _weeks(watched: Sequence[Watched]) -> list[list[Watched]]:
    """Runs that follow each other, together as long as they judge no more than a week."""
    weeks: list[list[Watched]] = []
    for run in watched:
        if weeks and run.windows[-1].end - weeks[-1][0].windows[0].start <= WEEK:
            weeks[-1].append(run)
        else:
            weeks.append([run])
    return weeks


def worth_table(use_case: UseCase, check: LiveCheck, replayed: Replayed) -> Table:
    """The live version against itself offline and the baseline, and what the traffic was like."""
    unit = use_case.target.unit or ""
    table = Table(title=f"Version {check.version}, since it is live", title_justify="left")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_column("", style="dim")
    live, parity = check.live, check.parity

    def value(number: float) -> str:
        return f"{number:.2f} {unit}"

    metric = use_case.metric.name
    table.add_row("baseline", value(check.baseline.value.value), f"{metric} on {live.rows:,} with truth")
    table.add_row("model offline", value(check.offline.value.value), "features by the point-in-time join")
    table.add_row("model live", value(live.value.value), "features read online, answers as they were given")
    equal = parity.values - sum(parity.different.values())
    mark = "[green]equal[/green]" if parity.equal else "[red]different[/red]"
    table.add_row("feature parity", mark, f"{equal:,} of {parity.values:,} values in {parity.rows:,} rows")
    table.add_row("truths known", f"{live.coverage:.1%}", "the others are in the air, or were diverted")
    table.add_section()
    fallbacks = sum(replayed.fallbacks.values())
    by_version = ", ".join(f"version {v}: {n:,}" for v, n in sorted(replayed.versions.items()))
    table.add_row("answers", f"{replayed.requests:,}", by_version)
    table.add_row(
        "answered by the fallback", f"{fallbacks:,}", ", ".join(replayed.fallbacks) or "the versions answered all"
    )
    table.add_row(
        "latency, one call", f"{replayed.latency(0.5):.1f} ms",
        f"p99 {replayed.latency(0.99):.1f} ms; all flights of a minute in one call",
    )  # fmt: skip
    table.add_row(
        "replay", f"{replayed.requests / replayed.seconds:,.0f} /s",
        f"{replayed.requests:,} requests, {replayed.events:,} events, {replayed.truths:,} truths",
    )  # fmt: skip
    return table


def effects_table(timeline: Timeline) -> Table:
    """How far apart the versions of each rollout were."""
    table = Table(title="Rollouts: daily differences of the loss, on the same requests", title_justify="left")
    for column in ("candidate", "against"):
        table.add_column(column)
    for column in ("days", f"better by ({timeline.unit})", "sd", "mean/sd", "answered"):
        table.add_column(column, justify="right")
    table.add_column("end")
    for effect in timeline.effects:
        table.add_row(
            f"version {effect.candidate}", f"version {effect.incumbent}", str(effect.days), f"{effect.gain:.2f}",
            f"{effect.deviation:.2f}", f"{effect.size:.2f}", f"{effect.answered:,}", effect.outcome,
        )  # fmt: skip
    return table


def happenings_table(timeline: Timeline) -> Table:
    """What happened when, and why; that a trained version waits for its rollout is left to the page."""
    table = Table(title="Timeline", title_justify="left")
    table.add_column("day", no_wrap=True)
    table.add_column("what")
    table.add_column("why")
    for happening in timeline.happenings:
        if happening.place == OPENED:
            continue
        table.add_row(f"{happening.at:%b %d}", escape(happening.what), escape(happening.why))
    return table
