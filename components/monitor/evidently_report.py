"""Evidently's report of each window: columns, answers, losses, and tests with the monitor's own limits.

Evidently shows; the monitor decides. A test whose name or argument Evidently does not know vanishes without a word, so
every test that was asked for has to be in the result, and a report that lacks one, or fails, makes the monitor blind.
"""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import structlog

from components.monitor.alerts import Finding
from components.monitor.reference import OUTPUT, SAMPLE, Limits, Reference
from components.monitor.windows import Window
from ninefold.dataset import INPUT
from ninefold.errors import ConfigurationError, DataError
from ninefold.metrics import losses
from ninefold.settings import Settings
from ninefold.usecase import UseCase

log = structlog.get_logger()

TESTS_ARE = {"MissingValueCount": "share_tests"}
"""Metric → the argument that takes its tests, where it is not ``tests``."""
DRIFT_ROWS = 5_000
"""Rows of the reference that a window is shown against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One metric that Evidently is asked for.

    Args:
        metric: Name of its class in ``evidently.metrics``.
        column: Column that it is of; None for the whole data set.
        test: Bound that its value, or its share, may not exceed; None for no test.
        arguments: What else the class takes.
    """

    metric: str
    column: str | None
    test: float | None
    arguments: dict[str, Any]


def asked(inputs: Sequence[str], bounds: Limits, *, with_reference: bool, judged: bool) -> list[Asked]:
    """Every metric of a window's report; explicitly, because presets draw much more than is looked at.

    Args:
        inputs: Names of the watched columns, without prefix.
        bounds: The monitor's limits.
        with_reference: Whether there is something to drift from.
        judged: Whether truths are known.
    """
    metrics = [Asked(metric="RowCount", column=None, test=None, arguments={})]
    for name in (*(["loss", "baseline_loss"] if judged else []), "truth_known", "fell_back"):
        metrics.append(Asked(metric="MeanValue", column=name, test=None, arguments={}))
    for column, quantile in (("latency_ms", 0.99), (OUTPUT, 0.1), (OUTPUT, 0.5), (OUTPUT, 0.9)):
        metrics.append(Asked(metric="QuantileValue", column=column, test=None, arguments={"quantile": quantile}))
    for name in inputs:
        full = name if name == OUTPUT else INPUT + name
        metrics.append(Asked(metric="MissingValueCount", column=name, test=bounds.nulls.get(full), arguments={}))
        if with_reference:
            limit = bounds.psi.get(full)
            drift = {"method": "psi", **({} if limit is None else {"threshold": limit})}
            metrics.append(Asked(metric="ValueDrift", column=name, test=limit, arguments=drift))
    return metrics


def run_report(metrics: Sequence[Asked], current: pl.DataFrame, usual: pl.DataFrame | None, window: Window) -> Any:
    """Runs Evidently, and makes sure that it made every test that was asked for.

    Returns:
        Evidently's snapshot.

    Raises:
        DataError: A metric or a test is missing from the result.
        ConfigurationError: Evidently is not installed.
    """
    os.environ.setdefault("DO_NOT_TRACK", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import evidently
            from evidently import metrics as classes
            from evidently.tests import lte
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"Evidently can't be loaded: {error}.", remedy="Install ninefold[monitoring]."
            ) from error
        made = []
        for one in metrics:
            arguments = dict(one.arguments) if one.column is None else {"column": one.column, **one.arguments}
            if one.test is not None:
                arguments[TESTS_ARE.get(one.metric, "tests")] = [lte(one.test)]
            made.append(getattr(classes, one.metric)(**arguments))
        numbers = [c for c in current.columns if current[c].dtype.is_numeric()]
        definition = evidently.DataDefinition(
            numerical_columns=numbers, categorical_columns=[c for c in current.columns if c not in numbers]
        )
        snapshot = evidently.Report(made).run(
            evidently.Dataset.from_pandas(current.to_pandas(), data_definition=definition),
            None
            if usual is None
            else evidently.Dataset.from_pandas(_same_columns(usual, current).to_pandas(), data_definition=definition),
            timestamp=window.start.replace(tzinfo=None),
            metadata={"window": window.label},
            name=window.label,
        )
    check_complete(metrics, snapshot.dict())
    return snapshot


def check_complete(metrics: Sequence[Asked], result: dict[str, Any]) -> None:
    """Refuses a result that lacks a metric or a test that was asked for.

    Raises:
        DataError: One is missing; the message names it.
    """

    def key(config: dict[str, Any]) -> tuple[str, str | None]:
        return config["type"].rpartition(":")[2], config.get("column")

    have = Counter(key(metric["config"]) for metric in result["metrics"] if metric)
    tested = Counter(key(test["metric_config"]["params"]) for test in result["tests"])
    want = Counter((one.metric, one.column) for one in metrics)
    want_tested = Counter((one.metric, one.column) for one in metrics if one.test is not None)
    for what, missing in (("metric", want - have), ("test", want_tested - tested)):
        if missing:
            names = ", ".join(f"{m} of {c}" if c else m for m, c in list(missing)[:3])
            raise DataError(f"Evidently made no {what} for {names}, which was asked for.")


def failed_tests(snapshot: Any) -> list[str]:
    """Descriptions of Evidently's tests that did not pass."""
    return [t["description"] for t in snapshot.dict()["tests"] if t["status"].value != "SUCCESS"]


def report_windows(
    use_case: UseCase,
    settings: Settings,
    windows: Sequence[Window],
    given: pl.DataFrame,
    reference: Reference,
    bounds: Limits,
    main: int,
) -> list[Finding]:
    """Makes each window's report and keeps it in the workspace; what fails is a finding, never silence.

    Args:
        use_case: Whose.
        settings: Say where the workspace lies.
        windows: Which.
        given: What clients got, the windows before included.
        reference: History, for what production has not answered yet.
        bounds: The monitor's limits.
        main: Version whose answers are shown.
    """
    # Loaded late: SQLAlchemy's ORM and Evidently's service take a second.
    from components.monitor.workspace import Workspace

    inputs = [c.removeprefix(INPUT) for c in reference.bins if c.startswith(INPUT) or c == OUTPUT]
    findings, snapshots = [], []
    shown = _columns(use_case, given.filter(pl.col("version") == main))
    for window in windows:
        try:
            current = window.rows(shown).drop("decided_at")
            if not len(current):
                continue
            usual = _usual(use_case, shown, reference, window)
            judged = bool(current["loss"].is_not_null().any())
            # A column without a value has no statistics.
            columns = [c for c in inputs if current[c].null_count() < len(current)]
            metrics = asked(columns, bounds, with_reference=usual is not None, judged=judged)
            sample = current.sample(min(SAMPLE, len(current)), seed=0)
            snapshots.append(run_report(metrics, sample, usual, window))
            findings.append(_found(window, "within", f"Evidently's {len(metrics)} metrics are there."))
        except Exception as error:  # Whatever breaks in Evidently must be said, and must not end the run.
            log.error("Evidently's report failed", window=window.label, error=str(error))
            findings.append(_found(window, "over", f"Evidently's report failed: {_words(error)}"))
    if not snapshots:
        return findings
    try:
        with Workspace.open(settings) as workspace:
            workspace.keep(use_case, snapshots, inputs, most=settings.monitoring.snapshots)
    except Exception as error:  # As above.
        log.error("Evidently's workspace can't be written", error=str(error))
        findings = [_found(w, "over", f"Evidently's workspace can't be written: {_words(error)}") for w in windows]
    return findings


def _columns(use_case: UseCase, rows: pl.DataFrame) -> pl.DataFrame:
    """What Evidently is shown of rows: inputs, answers, losses, and how they came about."""
    chosen = rows.select(
        "decided_at",
        *(pl.col(INPUT + i.name).alias(i.name) for i in use_case.inputs if i.kind != "text"),
        OUTPUT,
        "latency_ms",
        pl.col("fallback").is_not_null().cast(pl.Float64).alias("fell_back"),
        pl.col("truth").is_not_null().cast(pl.Float64).alias("truth_known"),
    )
    known = rows["truth"].is_not_null()
    made = []
    for name, column in (("loss", "value"), ("baseline_loss", "baseline")):
        values = np.full(len(rows), np.nan)
        if known.any():
            part = rows.filter(known)
            values[known.to_numpy()] = losses(loss_name(use_case), part["truth"].to_numpy(), part[column].to_numpy())
        made.append(pl.Series(name, values).fill_nan(None))
    return chosen.with_columns(made)


def loss_name(use_case: UseCase) -> str:
    """The loss that is shown row by row: the use case's metric, or the usual one where that has no row's loss."""
    try:
        losses(use_case.metric.name, np.array([0.0]), np.array([0.5]))
    except ConfigurationError:
        return "mae" if use_case.problem == "regression" else "brier"
    return use_case.metric.name


def _usual(use_case: UseCase, shown: pl.DataFrame, reference: Reference, window: Window) -> pl.DataFrame | None:
    """Rows of the windows before, filled up with history's."""
    before = shown.filter(pl.col("decided_at") < window.start).tail(SAMPLE)
    before = before.sample(min(DRIFT_ROWS, len(before)), seed=0)
    if len(before) < DRIFT_ROWS and len(reference.sample):
        history = reference.sample.rename({c: c.removeprefix(INPUT) for c in reference.sample.columns})
        more = history.sample(min(DRIFT_ROWS - len(before), len(history)), seed=0)
        before = pl.concat([before, more.select(c for c in more.columns if c in before.columns)], how="diagonal")
    return before if len(before) >= use_case.monitor.minimum_rows else None


def _same_columns(usual: pl.DataFrame, current: pl.DataFrame) -> pl.DataFrame:
    return usual.select(pl.col(c).cast(current.schema[c]) for c in current.columns)


def _found(window: Window, outcome: Any, message: str) -> Finding:
    return Finding(
        check="report", subject="", window=window.label, outcome=outcome, value=None, limit=None, message=message
    )


def _words(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
