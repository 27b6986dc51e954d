"""Recurring runs on Kubeflow Pipelines: one table, brought about by creating, recreating and deleting.

KFP can't change a recurring run, so one whose definition changed is deleted and created anew. It is known by its name,
and what it was made of by a digest in its description. Who disabled one finds it disabled afterwards, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ninefold.loading import load_use_case
from pipelines.kfp_server import KfpServer
from pipelines.schedule import Schedule
from pipelines.submit import Where, arguments, experiment_of, specification


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A recurring run.

    Args:
        pipeline: Which pipeline.
        cron: When: second, minute, hour, day of month, month, day of week; in UTC.
        why: What it is for.
        parameters: What it is told beside the use case. An end is never among them: a run takes the time it begins.
    """

    pipeline: str
    cron: str
    why: str
    parameters: Mapping[str, Any] = field(default_factory=dict)


TABLE = (
    Row(pipeline="materialization", cron="0 5 * * * *", why="Every hour: features follow their sources."),
    Row(pipeline="retention", cron="0 30 1 * * *", why="Every day: what is past its age goes."),
    Row(pipeline="monitoring", cron="0 0 4 * * *", why="Every day: production is judged."),
    Row(
        pipeline="labelling",
        cron="0 0 6 * * *",
        why="Every day: experts' labels come home, and they get the next batch.",
    ),
    Row(pipeline="training", cron="0 0 3 * * 1", why="Every Monday: a model learns from what is known by then."),
)
"""What runs again and again for a use case; labelling for one that experts label."""

_MARK = re.compile(r"\[ninefold ([0-9a-f]{12})\]")

Action = Literal["created", "recreated", "kept", "removed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A recurring run as it has to be.

    Args:
        name: Its name at KFP.
        row: The table's row.
        digest: Of everything that it is made of.
        fields: What KFP is told.
    """

    name: str
    row: Row
    digest: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A recurring run as it is.

    Args:
        run_id: Its id at KFP.
        name: Its name.
        digest: Of what it was made of.
        enabled: Whether it runs.
        cron: When.
        status: What KFP says of it.
    """

    run_id: str
    name: str
    digest: str
    enabled: bool
    cron: str
    status: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What has to be done about a name.

    Args:
        name: The recurring run's name.
        action: What becomes of it.
        delete: Those that go.
        create: What is created; None for nothing.
        enabled: Whether it runs afterwards.
    """

    name: str
    action: Action
    delete: tuple[Found, ...] = ()
    create: Wanted | None = None
    enabled: bool = True


def wanted(use_case: str, place: Where, table: Sequence[Row] = TABLE) -> list[Wanted]:
    """The table's rows for a use case.

    Args:
        use_case: Name or import path.
        place: Where their steps run.
        table: The rows.
    """
    name, rows = load_use_case(use_case).name, []
    for row in rows_of(use_case, table):
        fields = {
            "pipeline_spec": specification(row.pipeline),
            "runtime_config": {"parameters": arguments(row.pipeline, use_case, row.parameters, place)},
            "service_account": place.service_account,
            # One at a time, and what was missed while it ran or was disabled is not made up for.
            "max_concurrency": "1",
            "no_catchup": True,
        }
        cron = Schedule(row.cron).expression
        text = json.dumps([row.pipeline, cron, row.why, fields], sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        rows.append(Wanted(name=f"{prefix(name)}{row.pipeline}", row=row, digest=digest, fields=fields))
    return rows


def rows_of(use_case: str, table: Sequence[Row] = TABLE) -> list[Row]:
    """The rows that a use case can have: labelling needs that it declares what experts see."""
    asks = load_use_case(use_case).labelling is not None
    return [row for row in table if row.pipeline != "labelling" or asks]


def prefix(use_case: str) -> str:
    """How the names of a use case's recurring runs begin."""
    return f"{experiment_of(use_case)}-"


def found(runs: Iterable[Any], use_case: str) -> list[Found]:
    """Those of KFP's recurring runs that are ours and the use case's: by their names and the digests in them."""
    mine = []
    names = {f"{prefix(use_case)}{pipeline}" for pipeline in _pipelines()}
    for run in runs:
        mark = _MARK.search(run.description or "")
        if mark is None or run.display_name not in names:
            continue
        schedule = getattr(run.trigger, "cron_schedule", None)
        mine.append(
            Found(
                run_id=str(run.recurring_run_id), name=str(run.display_name), digest=mark[1],
                enabled=run.status == "ENABLED" if run.status else run.mode == "ENABLE",
                cron=str(getattr(schedule, "cron", "")), status=str(run.status or ""),
            )
        )  # fmt: skip
    return sorted(mine, key=lambda one: (one.name, one.run_id))


def _pipelines() -> Iterable[str]:
    from pipelines.compile import PIPELINES

    return PIPELINES


def plan(rows: Sequence[Wanted], there: Sequence[Found]) -> list[Step]:
    """What makes what is there what is wanted; nothing where it is.

    A run that is wanted as it is stays; of several of its name one stays. What the table has no longer goes.
    """
    steps = []
    for row in rows:
        same = [one for one in there if one.name == row.name]
        right = next((one for one in same if one.digest == row.digest), None)
        others = tuple(one for one in same if one is not right)
        enabled = right.enabled if right is not None else any(one.enabled for one in same) or not same
        if right is None:
            action: Action = "recreated" if same else "created"
            steps.append(Step(name=row.name, action=action, delete=others, create=row, enabled=enabled))
        else:
            steps.append(Step(name=row.name, action="kept", delete=others, enabled=enabled))
    names = {row.name for row in rows}
    gone = sorted({one.name for one in there} - names)
    return steps + [
        Step(name=name, action="removed", delete=tuple(one for one in there if one.name == name), enabled=False)
        for name in gone
    ]


def apply(server: KfpServer, use_case: str, place: Where, table: Sequence[Row] = TABLE) -> list[Step]:
    """Brings the table's recurring runs of a use case about, and says what it did. It can be repeated."""
    name = load_use_case(use_case).name
    rows = wanted(use_case, place, table)
    steps = plan(rows, found(server.recurring_runs(), name))
    experiment_id = server.experiment(experiment_of(name), create=True) if any(step.create for step in steps) else ""
    for step in steps:
        # First the old one goes: for a moment there is none, and never two.
        for old in step.delete:
            server.delete_recurring_run(old.run_id)
        if step.create is not None:
            server.create_recurring_run(
                experiment_id=experiment_id,
                display_name=step.create.name,
                description=f"{step.create.row.why} [ninefold {step.create.digest}]",
                cron=step.create.row.cron,
                enabled=step.enabled,
                **step.create.fields,
            )
    return steps


def remove(server: KfpServer, use_case: str) -> list[Found]:
    """Deletes the recurring runs of a use case that are ours, and returns them."""
    there = found(server.recurring_runs(), load_use_case(use_case).name)
    for one in there:
        server.delete_recurring_run(one.run_id)
    return there
