"""What is usual: history before production began, counted window by window, and the limits that it calibrates.

It is made once for the version that is live, by the featurizer's point-in-time join and the same ``derive``, and kept
in the home folder; production's own windows follow it as they pass.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import structlog

from components.featurizer.historical import featurize
from components.monitor.drift import Bins, against_the_rest, calibrate, trailing_psi
from components.monitor.windows import LENGTHS, badness, floor
from ninefold.atomic import replace_file, replacing
from ninefold.clock import format_instant
from ninefold.dataset import FEATURE, INPUT, columns_of
from ninefold.errors import NinefoldError
from ninefold.loading import load_use_case
from ninefold.metrics import compute
from ninefold.monitoring import MonitorPolicy
from ninefold.package import Predictor, load_predictor
from ninefold.records import ModelVersion
from ninefold.settings import Settings
from ninefold.truths import EVIDENCE
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]
log = structlog.get_logger()

OUTPUT = "prediction"
"""Column of the answers, among the inputs whose distributions are watched."""
CALIBRATION_WINDOWS = {"day": 90, "week": 26}
"""Windows of history that calibrate, beside those that the first of them is held against."""
SAMPLE = 20_000
"""Rows that Evidently is shown."""
_PSEUDO_WINDOWS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """What is usual.

    Args:
        bins: Column (``input.<name>``, ``feature.<name>``, ``prediction``) → how it is counted.
        counts: Column → [windows, bins], oldest first; no windows where there is no history.
        ordered: Whether the windows follow each other in time; else they are random parts of the rows.
        losses: [windows] of the baseline's metric; NaN where no truth was known.
        sample: Rows of the last windows, for Evidently; empty where there is no history.
        trained: Column → share of nulls in training, as the live package has it.
        missing: Why there is no history; empty where there is.
    """

    bins: Mapping[str, Bins]
    counts: Mapping[str, Array]
    ordered: bool
    losses: Array
    sample: pl.DataFrame
    trained: Mapping[str, float]
    missing: str = ""

    def with_production(self, counts: Mapping[str, Array], losses: Array) -> Reference:
        """The same with windows of production behind those of history; random parts are not added to."""
        if not self.ordered:
            return self
        joined = {column: np.vstack([self.counts[column], counts[column]]) for column in self.bins}
        return Reference(
            bins=self.bins, counts=joined, ordered=True, losses=np.r_[self.losses, losses], sample=self.sample,
            trained=self.trained, missing=self.missing,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How far a window may be from what is usual.

    Args:
        psi: Column → population stability index.
        nulls: Column → share of nulls.
        unseen: Column → share of categories never seen.
        loss: The metric, as ``badness``; NaN where too few windows had truths.
    """

    psi: Mapping[str, float]
    nulls: Mapping[str, float]
    unseen: Mapping[str, float]
    loss: float


def limits(use_case: UseCase, reference: Reference) -> Limits:
    """Calibrates every limit on the reference's windows; a column with too few of them has none.

    A share of nulls may lie above that of training, and above every window of history, by the use case's
    ``gates.max_null_share``; unseen categories above every window of history by as much.
    """
    policy, margin = use_case.monitor, use_case.gates.max_null_share
    span = min(policy.reference_windows, max(1, len(reference.losses) // 3))
    distances = {
        column: trailing_psi(counts, span) if reference.ordered else against_the_rest(counts)
        for column, counts in reference.counts.items()
        if not column.startswith(FEATURE)
    }
    nulls, unseen = {}, {}
    for column, bins in reference.bins.items():
        counts = [row for row in reference.counts[column] if row.sum()]
        shares = [bins.null_share(row) for row in counts]
        if shares or column in reference.trained:
            nulls[column] = max([*shares, reference.trained.get(column, 0.0)]) + margin
        if bins.edges is None and counts:
            unseen[column] = max(bins.unseen_share(row) for row in counts) + margin
    known = reference.losses[np.isfinite(reference.losses)]
    loss = float("nan")
    if len(known) >= policy.minimum_windows:
        # One number a window: the limit of one column, by the same method.
        loss = calibrate_one(badness(use_case.metric, known), policy)
    return Limits(
        psi=calibrate(distances, policy.false_alarm_rate, policy.minimum_windows), nulls=nulls, unseen=unseen, loss=loss
    )


def calibrate_one(values: Array, policy: MonitorPolicy) -> float:
    """The limit of one number a window: a quantile of its logarithms' normal, and no less than their greatest."""
    from statistics import NormalDist

    logs = np.log(values)
    reach = NormalDist().inv_cdf(1.0 - policy.false_alarm_rate)
    return float(np.exp(max(logs.mean() + reach * logs.std(ddof=1), logs.max())))


def live_package(version: ModelVersion | None) -> Predictor | None:
    """The live version's package; None where there is none that can be used here, which the log says."""
    if version is None:
        return None
    try:
        return load_predictor(version.uri, version.digest)
    except NinefoldError as error:
        log.warning("the live package can't be read", version=version.version, error=str(error))
        return None


def read_reference(
    name: str, settings: Settings, version: ModelVersion | None, began: datetime, production: pl.DataFrame
) -> Reference:
    """The reference that is kept for this version and beginning, made when it is not there.

    Args:
        name: Name or import path of the use case.
        settings: Say where history lies and where the reference is kept.
        version: The live version.
        began: First decision moment of production: history before it is the reference.
        production: Rows of production with inputs; says what columns there are where there is no history.
    """
    use_case = load_use_case(name)
    began = floor(began, use_case.monitor.window)
    data = settings.home / "data" / use_case.name
    package = live_package(version)
    if not (data / "requests.parquet").exists():
        return _of_production(use_case, production, package, f"there is no history in {data}")
    folder = settings.folder("reports") / use_case.name / "monitor"
    folder.mkdir(parents=True, exist_ok=True)
    # Whatever changes what is counted changes the name.
    parts = (version.digest if version else "", format_instant(began), use_case.derive_digest, repr(use_case.monitor),
             str((data / "requests.parquet").stat().st_mtime_ns))  # fmt: skip
    stem = hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]
    kept = _read(folder / f"reference-{stem}")
    if kept is not None:
        return kept
    frame, places = _history(use_case, name, settings, version, began)
    if not len(frame):
        return _of_production(use_case, production, package, f"no history lies before {began:%Y-%m-%d}")
    made = _of_history(use_case, frame, places, package)
    _keep(made, folder / f"reference-{stem}")
    return made


def _history(
    use_case: UseCase, name: str, settings: Settings, version: ModelVersion | None, began: datetime
) -> tuple[pl.DataFrame, Any]:
    data, policy = settings.home / "data" / use_case.name, use_case.monitor
    requests = pl.read_parquet(data / "requests.parquet")
    truths = pl.read_parquet(data / "truths.parquet")
    if "source" in truths.columns:
        # What is usual is learned from what decides.
        truths = truths.filter(pl.col("source").is_in(EVIDENCE))
    length = LENGTHS[policy.window]
    if use_case.decided_at is not None:
        windows = policy.reference_windows + CALIBRATION_WINDOWS[policy.window]
        at = pl.col(use_case.decided_at)
        requests = requests.filter((at < began) & (at >= began - windows * length)).sort(use_case.decided_at)
    else:
        # Without time, what is independent may be dealt at random: rows of one key stay together.
        requests = requests.sample(fraction=1.0, shuffle=True, seed=0)
    if not len(requests):
        return requests, []
    lengths = version.lengths if version else None
    frame, _ = featurize(use_case, requests, truths.filter(pl.col("known_at") < began), lengths, settings)
    if use_case.decided_at is None:
        return frame, np.arange(len(frame)) * min(_PSEUDO_WINDOWS, len(frame)) // len(frame)
    start = floor(frame["decided_at"].min(), policy.window)  # type: ignore[arg-type]
    places = ((frame["decided_at"] - start).dt.total_seconds() // int(length.total_seconds())).to_numpy()
    return frame, places.astype(np.int64)


def _trained(package: Predictor | None) -> dict[str, float]:
    if package is None:
        return {}
    return {INPUT + name: s.null_share for name, s in package.manifest.statistics.items()}


def _bins(frame: pl.DataFrame, columns: list[str], package: Predictor | None) -> dict[str, Bins]:
    known = {INPUT + n: s.categories or {} for n, s in package.manifest.statistics.items()} if package else {}
    return {column: Bins.of(frame[column], known.get(column)) for column in columns}


def _of_production(use_case: UseCase, frame: pl.DataFrame, package: Predictor | None, missing: str) -> Reference:
    """Bins alone: the windows are production's own, as they pass."""
    bins = _bins(frame, watched(use_case, frame), package)
    return Reference(
        bins=bins, counts={c: np.zeros((0, b.size), dtype=np.int64) for c, b in bins.items()}, ordered=True,
        losses=np.array([]), sample=frame.clear(), trained=_trained(package), missing=missing,
    )  # fmt: skip


def _of_history(use_case: UseCase, frame: pl.DataFrame, places: Array, package: Predictor | None) -> Reference:
    answers = frame["baseline"]
    if package is not None and package.manifest.format != "baseline":
        answers = pl.Series(package.predict_columns(columns_of(frame, INPUT)).astype(np.float64))
    frame = frame.with_columns(answers.alias(OUTPUT))
    columns = watched(use_case, frame)
    bins = _bins(frame, columns, package)
    windows = int(places.max()) + 1
    recent = frame
    if use_case.decided_at is not None:
        recent = frame.filter(pl.Series(places) >= windows - use_case.monitor.reference_windows)
    return Reference(
        bins=bins,
        counts={column: bins[column].count(frame[column], places, windows) for column in columns},
        ordered=use_case.decided_at is not None,
        losses=baseline_losses(use_case, frame, places, windows),
        sample=recent.sample(min(SAMPLE, len(recent)), seed=0).select("truth", *columns),
        trained=_trained(package),
    )


def baseline_losses(use_case: UseCase, frame: pl.DataFrame, places: Array, windows: int) -> Array:
    """[windows] of the baseline's metric; NaN where fewer truths are known than a window is judged by."""
    losses = np.full(windows, np.nan)
    known = frame.select("truth", "baseline").with_columns(place=pl.Series(places)).drop_nulls()
    for (place,), rows in known.group_by("place"):
        if len(rows) >= use_case.monitor.minimum_rows:
            truth, baseline = rows["truth"].to_numpy(), rows["baseline"].to_numpy()
            losses[place] = compute(use_case.metric.name, truth, baseline)
    return losses


def watched(use_case: UseCase, frame: pl.DataFrame) -> list[str]:
    """Columns whose distributions are watched: inputs, the features behind them, and the answers; never texts."""
    texts = {INPUT + i.name for i in use_case.inputs if i.kind == "text"}
    chosen = [c for c in frame.columns if c.startswith((INPUT, FEATURE)) and c not in texts]
    return [*chosen, OUTPUT] if OUTPUT in frame.columns else chosen


def _keep(reference: Reference, stem: Path) -> None:
    document = {
        "bins": {column: bins.to_json() for column, bins in reference.bins.items()},
        "counts": {column: counts.tolist() for column, counts in reference.counts.items()},
        "ordered": reference.ordered,
        "losses": [None if np.isnan(loss) else loss for loss in reference.losses.tolist()],
        "trained": dict(reference.trained),
        "missing": reference.missing,
    }
    with replacing(stem.with_suffix(".parquet")) as temporary:
        reference.sample.write_parquet(temporary)
    replace_file(stem.with_suffix(".json"), json.dumps(document).encode())


def _read(stem: Path) -> Reference | None:
    try:
        document = json.loads(stem.with_suffix(".json").read_bytes())
        sample = pl.read_parquet(stem.with_suffix(".parquet"))
    except FileNotFoundError:
        return None
    except (ValueError, pl.exceptions.PolarsError) as error:
        log.warning("a damaged reference is made again", file=str(stem), error=str(error))
        return None
    bins = {column: Bins.from_json(b) for column, b in document["bins"].items()}
    return Reference(
        bins=bins,
        counts={c: np.array(rows, dtype=np.int64).reshape(-1, bins[c].size) for c, rows in document["counts"].items()},
        ordered=document["ordered"],
        losses=np.array([np.nan if loss is None else loss for loss in document["losses"]]),
        sample=sample,
        trained=document["trained"],
        missing=document["missing"],
    )
