"""The labeller's work as steps of a pipeline: bring home what experts said, then send them what to look at next."""

from __future__ import annotations

import json
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

from components.labeller.collect import STATES, collect
from components.labeller.connection import connect
from components.labeller.estimate import estimate
from components.labeller.projects import interface_of
from components.labeller.sampling.pick import pick
from components.labeller.selection import label_tasks, mix_of, pool_of
from components.labeller.send import batch_name, send
from components.run_result import RunResult
from ninefold.clock import WallClock, parse_instant
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import open_store
from ninefold.usecase import UseCase

MOST_WAITING = 5
"""With so many batches' tasks unanswered no more are sent: nobody labels, or not as fast."""


def collect_step(name: str, output: str) -> dict[str, float]:
    """Brings home what experts said since the run before.

    Args:
        name: Name or import path of the use case.
        output: JSON file of the counts, for the report.

    Returns:
        The counts, for the run's metrics.
    """
    here, use_case = settings(), load_use_case(name)
    interface_of(use_case)
    counts: dict[str, float] = {}
    with connect(here) as studio, open_store(here.store_url) as store:
        if store.label_tasks(use_case.name):
            found = collect(store, use_case, studio, now=WallClock().now())
            counts = {"annotations": found.annotations, "truths": found.truths}
            counts |= {f"tasks that {STATES[state]}": count for state, count in found.states.items()}
            if found.agreement.alpha is not None:
                counts["agreement (alpha)"] = found.agreement.alpha
        judged = estimate(store, use_case)
    Path(output).write_text(
        json.dumps({"counts": counts, "estimate": None if judged is None else _words(use_case, judged)})
    )
    return {key: float(value) for key, value in counts.items()}


def send_step(
    name: str, count: int, mix: str, since: str, until: str, run_id: str, collected: str, summary: str
) -> dict[str, float]:
    """Picks from what production answered, sends it to experts, and reports.

    Args:
        name: Name or import path of the use case.
        count: Tasks of the batch.
        mix: Shares of the samplers; empty for the default.
        since: First decision moment; empty for the first there is.
        until: Just past the last one; empty for now.
        run_id: Names the batch, the report and the result.
        collected: What ``collect_step`` wrote.
        summary: Markdown file.

    Returns:
        The counts, for the run's metrics.
    """
    here, use_case, now = settings(), load_use_case(name), WallClock().now()
    before = json.loads(Path(collected).read_text())
    batch = run_id or batch_name(now)
    with connect(here) as studio, open_store(here.store_url) as store:
        pool = pool_of(
            store, use_case,
            since=parse_instant(since, field="since") if since else None,
            until=parse_instant(until, field="until") if until else None,
        )  # fmt: skip
        unanswered = int(before["counts"].get(f"tasks that {STATES['unanswered']}", 0))
        room = max(0, min(count, MOST_WAITING * count - unanswered))
        # The seed comes of the batch's name, so a step that is tried again picks the same.
        seed = zlib.crc32(batch.encode())
        picks = pick(pool, room, mix_of(use_case, mix), seed) if room and len(pool) else []
        sent = send(store, use_case, studio, label_tasks(use_case.name, picks, batch, now), here)
    rows = [(what, _number(value)) for what, value in before["counts"].items()]
    rows.append(("answers that could be picked", f"{len(pool):,}"))
    rows += [(f"picked: {sampler}", f"{n:,}") for sampler, n in Counter(one.sampler for one in picks).most_common()]
    rows += [("sent to Label Studio", f"{sent.imported:,}"), ("tasks there", f"{sent.waiting:,}")]
    if sent.lost:
        rows.append(("can't be shown: their predictions are not kept", f"{sent.lost:,}"))
    words = f"{len(picks):,} tasks in batch {batch}; experts label at {sent.url}/data."
    if not room:
        words = f"{unanswered:,} tasks wait for an expert: no more were sent."
    if before["estimate"]:
        words += f" {before['estimate']}"
    result = RunResult(
        use_case=use_case.name, title=f"Labelling: {use_case.title}", header=("what", "number"), rows=tuple(rows),
        summary=words,
    )  # fmt: skip
    Path(summary).write_text(result.markdown())
    result.keep(here, run_id)
    return {"pool": float(len(pool)), "picked": float(len(picks)), "sent": float(sent.imported)}


def _words(use_case: UseCase, judged: Any) -> str:
    value, metric = judged.value, use_case.metric
    within = f" [{value.low:.3g}, {value.high:.3g}]" if value.low == value.low else ", with no interval yet"
    return (
        f"By {judged.rows:,} labels, as good as {judged.effective_rows:,.0f} of equal weight, {judged.label} has "
        f"{metric.name} {value.value:.3g} {metric.unit}".rstrip()
        + f"{within} on all that it answered."
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:.2f}"
