"""From a training set, a validation set, a metric and a maximum training time to the best model, packaged."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from time import monotonic
from typing import Any

from components.model_builder.families import families
from components.model_builder.finish import Chosen, finished, single
from components.model_builder.formats import other_format
from components.model_builder.interval import SHARE, FittedInterval, fit_interval
from components.model_builder.onnx_export import to_onnx
from components.model_builder.parity import check_parity
from components.model_builder.search import Budget, Row, search
from components.model_builder.statistics import training_statistics
from components.model_builder.table import Table, Task, read_tables
from ninefold.dataset import DatasetCard
from ninefold.errors import DataError, UsageError
from ninefold.loading import load_use_case
from ninefold.metrics import compute
from ninefold.package import MODEL, predictor_of, write_package
from ninefold.signature import PackageManifest

SHORTEST = 1.0
"""Seconds; with less no family fits anything."""

SEARCH_SHARE = 0.6
"""Of the time, what the search may take where an ensemble follows: its members are trained again after it."""
SPREAD = 0.2
"""Of the search's time, the least that each family gets that is not far behind, where an ensemble follows."""

_LIBRARIES = ("lightgbm", "numpy", "onnx", "onnxruntime", "optuna", "polars", "scipy", "ninefold")


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a build stands.

    Args:
        stage: ``reading``, ``bounding`` where an interval is declared, ``searching``, ``averaging`` where several
            models may be, ``packaging``, ``done``.
        elapsed: Seconds since it began.
        budget: Maximum training time in seconds.
        row: The trial that just ended; None at the start of a stage.
    """

    stage: str
    elapsed: float
    budget: float
    row: Row | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What a build ends with.

    Args:
        digest: The package's digest.
        uri: Where the package lies.
        metric: Name of the metric of the leaderboard.
        direction: Whether lower or higher is better.
        leaderboard: Every trial and the baseline, best first; pruned ones last.
        chosen: The row that was packaged.
        baseline_metric: The baseline's value.
        beats_baseline: Whether the chosen model is better than the baseline; else the package is the baseline.
        parity_error: Greatest difference between graph and trained model; None for the baseline.
        seconds: What everything took.
    """

    digest: str
    uri: str
    metric: str
    direction: str
    leaderboard: tuple[Row, ...]
    chosen: Row
    baseline_metric: float
    beats_baseline: bool
    parity_error: float | None
    seconds: float

    @property
    def trials(self) -> int:
        """How many models were fitted, or begun, in the search."""
        return sum(row.family not in ("baseline", "ensemble") for row in self.leaderboard)

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def build(
    train_uri: str,
    validation_uri: str,
    *,
    metric: str | None = None,
    max_training_time: float,
    models_url: str,
    seed: int = 0,
    threads: int = 2,
    trials: int | None = None,
    ensemble: bool | None = None,
    known: Sequence[Row] = (),
    progress: Callable[[Progress], None] = lambda _: None,
) -> BuildResult:
    """Searches for the best model and packages it; the baseline competes and may win.

    Args:
        train_uri: Training set, as ``ninefold.dataset`` writes it.
        validation_uri: Validation set of the same run.
        metric: Name of the metric; None takes the data set's own.
        max_training_time: Seconds for everything: reading, search, export, parity check and writing.
        models_url: Where packages lie.
        seed: Of every random choice.
        threads: Of training.
        trials: Ends the search after so many trials; the same number gives the same package, when time suffices.
        ensemble: Whether every family is tried, several models may be averaged, and what is chosen is trained again on
            both sets. None for yes, unless ``trials`` bounds the search: then it is one model, as it was trained.
        known: Trials of an earlier search on the same sets: where to go on. Their models are not made again.
        progress: Called at each stage and after each trial.

    Raises:
        UsageError: The time is too short to be meant.
        DataError: A set can't be read, or the two do not belong together.
        ParityError: The exported graph does not answer what the trained model answers. Nothing is packaged then, also
            not the next best model: an export that is wrong once is a fault to be mended, not to be stepped around.
    """
    started = monotonic()
    # NaN fails the comparison, too.
    if not max_training_time >= SHORTEST:
        raise UsageError(
            f"A maximum training time of {max_training_time:g} s is too short.", remedy="Give at least 1 s."
        )
    budget = Budget(max_training_time, started=started)

    def tell(stage: str, row: Row | None = None) -> None:
        progress(Progress(stage=stage, elapsed=budget.elapsed, budget=max_training_time, row=row))

    tell("reading")
    task, card, train, validation = read_tables(train_uri, validation_uri, metric)
    baseline = _baseline_row(task, validation)
    if task.signature.interval is not None:
        tell("bounding")
    interval = fit_interval(task, train, validation, seed=seed, threads=threads, out_of_time=budget.part(SHARE))
    tell("searching", baseline)
    other = other_format(card.model_format)
    averaged = other is None and (trials is None if ensemble is None else ensemble)
    found = search(
        task,
        families(task, train, validation, seed=seed, threads=threads, every=averaged)
        if other is None
        else other.families(task, train, validation, seed=seed, threads=threads),
        validation,
        budget.first(SEARCH_SHARE) if averaged else budget,
        seed=seed, trials=trials, on_trial=lambda row: tell("searching", row), known=known,
        spread=SPREAD if averaged else 0.0,
    )  # fmt: skip
    if averaged:
        tell("averaging")
        chosen = finished(task, found, train, validation, budget, seed=seed)
    elif other is None or other.calibrates:
        chosen = single(task, found, validation, seed=seed)
    else:
        chosen = Chosen(row=found.best, fitted=found.fitted, notes={})
    tell("packaging")
    rows = _ranked(task, (baseline, *found.rows, *(() if chosen.row in found.rows else (chosen.row,))))
    values = (chosen.row.value, baseline.value)
    beats = values[0] is not None and values[1] is not None and task.metric.better(values[0], values[1])
    manifest = _manifest(task, card, train, validation, seed, chosen.row if beats else baseline, baseline)
    files: dict[str, bytes] = {}
    error: float | None = None
    if beats:
        if other is None:
            files[MODEL] = to_onnx(task, chosen.fitted, interval)
            parity = check_parity(task, chosen.fitted, manifest, files[MODEL], validation, interval)
        else:
            files = other.files(task, chosen.fitted)
            environment = {**manifest.environment, **other.versions()}
            manifest = replace(manifest, format=other.name, environment=environment)
            parity = check_parity(task, chosen.fitted, manifest, predictor_of(manifest, files), validation)
        error = parity.error
        told = {**chosen.notes, "parity": asdict(parity), **_said(interval)}
        manifest = replace(manifest, training={**manifest.training, **told})
    else:
        manifest = _as_baseline(manifest)
    digest, uri = write_package(models_url, manifest, files)
    tell("done")
    return BuildResult(
        digest=digest, uri=uri, metric=task.metric.name, direction=task.metric.direction, leaderboard=rows,
        chosen=chosen.row if beats else baseline, baseline_metric=baseline.value or 0.0, beats_baseline=beats,
        parity_error=error, seconds=budget.elapsed,
    )  # fmt: skip


def _said(interval: FittedInterval | None) -> dict[str, Any]:
    return {} if interval is None else {"interval": interval.to_json()}


def package_baseline(train_uri: str, validation_uri: str, *, models_url: str) -> tuple[str, str]:
    """Packages the baseline alone, version 0 of a use case, and returns digest and URI.

    Raises:
        DataError: A set can't be read, or the two do not belong together.
    """
    task, card, train, validation = read_tables(train_uri, validation_uri, None)
    row = _baseline_row(task, validation)
    return write_package(models_url, _as_baseline(_manifest(task, card, train, validation, 0, row, row)), {})


def _baseline_row(task: Task, validation: Table) -> Row:
    value = compute(task.metric.name, validation.truth, validation.baseline, validation.weight)
    if not math.isfinite(value):
        raise DataError(
            f"The metric {task.metric.name!r} is undefined on the validation set.",
            remedy="It may hold a single class; give more rows, or another metric.",
        )
    return Row(family="baseline", params={}, value=value, seconds=0.0)


def _ranked(task: Task, rows: tuple[Row, ...]) -> tuple[Row, ...]:
    sign = 1.0 if task.metric.direction == "minimize" else -1.0
    return tuple(sorted(rows, key=lambda row: (row.value is None, sign * (row.value or 0.0))))


def _as_baseline(manifest: PackageManifest) -> PackageManifest:
    use_case = load_use_case(manifest.signature.use_case)
    return replace(
        manifest,
        format="baseline",
        # A rule knows no interval around what it says.
        signature=replace(manifest.signature, interval=None),
        baseline={"path": use_case.baseline_path, "digest": use_case.baseline_digest},
    )


def _manifest(
    task: Task, card: DatasetCard, train: Table, validation: Table, seed: int, chosen: Row, baseline: Row
) -> PackageManifest:
    # Wall time stands nowhere in it: the same model is the same package.
    training: Mapping[str, Any] = {
        "family": chosen.family,
        "params": dict(chosen.params),
        "seed": seed,
        "rows": {"training": len(train), "validation": len(validation)},
        "left_out": {"training": dict(train.left_out), "validation": dict(validation.left_out)},
        "lengths": {view.window[0]: view.window[1] for view in card.signature.views if view.window},
        "metric": {
            "name": task.metric.name, "direction": task.metric.direction, "unit": task.metric.unit,
            "validation": chosen.value, "baseline": baseline.value,
        },
        "offset": task.offset,
    }  # fmt: skip
    return PackageManifest(
        format="onnx",
        signature=task.signature,
        statistics=training_statistics(task, train),
        environment={
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in _LIBRARIES},
        },
        training=training,
    )
