"""The releaser's work from files to files: every run leaves its report, whatever was decided."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from components import run_result
from components.collector.extract import publish
from components.collector.production import NO_VERSION
from components.evaluator.evidence import Evidence
from components.evaluator.gate import GateDecision
from components.evaluator.testset import register_test_set
from components.releaser.deploy import deployment, is_rendered
from components.releaser.features import bring_online
from components.releaser.outcome import Released, words
from components.releaser.release import read_made, release_baseline, release_candidate
from ninefold.clock import parse_instant
from ninefold.loading import load_use_case
from ninefold.settings import settings
from ninefold.store import Measurement, open_store
from ninefold.store.present import records_clock


def record_and_release(
    *,
    use_case: str,
    run_id: str,
    until: str,
    action: str,
    baseline: tuple[str, str],
    candidate: tuple[str, str],
    test: str,
    evidence: str,
    decision: str,
    report: str,
    summary: str,
) -> int:
    """Keeps a run's report and result, registers the baseline and, when it passed, the candidate with its rollout.

    Args:
        use_case: Name or import path.
        run_id: Names the folder of the report.
        until: What the run used was known before it; a released version's rows are brought online up to there. Empty
            for now.
        action: What the gate decided.
        baseline: Folder that holds the baseline's package, and its digest.
        candidate: The same of the candidate.
        test: The test set, which ``ninefold evaluate`` and the evaluations API hold from now on.
        evidence: File with what is known of the candidate.
        decision: File with the gate's decision.
        report: The HTML report.
        summary: The Markdown summary.

    Returns:
        The candidate's version, or -1 where it was not released.
    """
    here, declared = settings(), load_use_case(use_case)
    found = Evidence.from_json(json.loads(Path(evidence).read_text()))
    decided = GateDecision.from_json(json.loads(Path(decision).read_text()))
    folder = result_path(use_case, run_id).parent
    folder.mkdir(parents=True, exist_ok=True)
    for source, name in ((report, "report.html"), (summary, "report.md"), (decision, "decision.json")):
        shutil.copyfile(source, folder / name)
    shutil.copyfile(evidence, folder / "evidence.json")
    register_test_set(here, declared.name, run_id, test)
    asked_until = parse_instant(until, field="until") if until else None
    with open_store(here.store_url) as opened:
        clock = records_clock(opened, here.clock, empty=asked_until)
    store, deploy = open_store(here.store_url, clock=clock), deployment(declared.name, here, folder)
    try:
        known_by = asked_until or clock.now()
        standing = read_made(*baseline)
        bring_online(declared, standing.lengths, settings=here, until=known_by)
        release_baseline(declared.name, standing, store=store, models_url=here.models_url, deploy=deploy)
        released = None
        if action == "release" and found.candidate is not None:
            made = read_made(*candidate)
            # Rows first: a version that is asked before its features are online would answer by its fallback.
            if made.lengths != standing.lengths:
                bring_online(declared, made.lengths, settings=here, until=known_by)
            released = release_candidate(
                declared.name,
                made,
                metrics={name: value for name, value in found.candidate.metrics.items() if value == value},
                policy=declared.rollout,
                compared_with=found.incumbent_version,
                unserved=found.unserved_version,
                reason=decided.summary,
                store=store,
                models_url=here.models_url,
                deploy=deploy,
            )
        version = None if released is None else released.version
        store.write_metrics(_measurements(declared.name, found, version, clock.now()))
    finally:
        store.close()
    result = _result(declared.name, run_id, found, decided, released, folder)
    result["then"] = [] if released is None else words(released, use_case)
    if is_rendered(here):
        result["then"].append(f"What its model servers need is in {folder}: apply it as your cluster takes its files.")
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    return NO_VERSION if version is None else version


def result_path(use_case: str, run_id: str) -> Path:
    """Where a run's result goes."""
    return run_result.result_path(settings(), load_use_case(use_case).name, run_id)


def bring_snapshot(use_case: str, snapshot: Path) -> None:
    """Makes the run's snapshot the history that rows are brought online from, where a step has a home of its own."""
    here = settings()
    if here.environment == "cluster":
        publish(snapshot, here.folder("data") / load_use_case(use_case).name)


def _measurements(use_case: str, evidence: Evidence, version: int | None, now: datetime) -> Iterator[Measurement]:
    for evaluation, number in ((evidence.baseline, 0), (evidence.candidate, version)):
        if evaluation is None or number is None:
            continue
        for name, value in evaluation.metrics.items():
            known = value if value == value else None
            yield Measurement(use_case=use_case, version=number, name=name, value=known, at=now, window="offline")


def _result(
    use_case: str, run_id: str, evidence: Evidence, decision: GateDecision, released: Released | None, folder: Path
) -> dict[str, Any]:
    rows = []
    for name in ("baseline", "incumbent", "candidate"):
        evaluation = getattr(evidence, name)
        if evaluation is None:
            continue
        comparison = evidence.against_baseline if name == "candidate" else None
        rows.append(
            {
                "name": name if name != "incumbent" else f"incumbent (version {evaluation.version})",
                "count": evaluation.rows,
                "value": evaluation.value.value,
                "improvement": comparison.improvement.to_json() if comparison is not None else None,
                "application": dict(evaluation.application),
                "p99_ms": evaluation.latency.p99_ms if evaluation.latency is not None else None,
            }
        )
    metric = next(e for e in (evidence.baseline, evidence.candidate) if e is not None).metric
    return {
        "use_case": use_case,
        "run_id": run_id,
        "metric": metric.name,
        "unit": metric.unit,
        "rows": rows,
        "action": decision.action,
        "summary": decision.summary,
        "reasons": [check.to_json() for check in decision.reasons],
        "version": None if released is None else released.version,
        "rollout": None if released is None else released.to_json(),
        "report": str(folder / "report.html"),
    }
