"""The contract that a team fills in for its problem.

A use case declares; it contains no plumbing. Heavy work (ETL, in polars) is named by import path and loaded by the
component that runs it, so that a front end can hold the whole contract with numpy alone.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

from ninefold.errors import ConfigurationError
from ninefold.features import BatchView, FeatureView, Stream, batch_feature_view, window_feature_view, with_lengths
from ninefold.fields import NUMERIC, STRINGS, Columns, Field, Input, Metric
from ninefold.interval import Bounds, check_interval
from ninefold.labels import LabellingInterface
from ninefold.monitoring import MonitorPolicy
from ninefold.rollout.policy import RolloutPolicy
from ninefold.splits import HashSplit, TimeSplit
from ninefold.truths import FeedbackPolicy
from ninefold.windows.declaration import Window

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    Array = np.ndarray[Any, Any]

Problem = Literal["regression", "binary"]
OF_TRUTHS = ("truth", "known_at", "source")
"""Columns of truths that stand beside their key."""
ModelFormat = Literal["onnx", "pmml", "skops"]
"""What a model is packaged as (docs/usecases.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What the past knows: the result of a use case's ``extract``, as polars frames with UTC microsecond times.

    Args:
        requests: One row a request: the request's fields. The decision moment is the use case's ``decided_at`` field.
        truths: The key's fields, ``truth`` (float) and ``known_at``. A request without truth has no row.
        streams: Stream name → events: the stream's fields, ``known_at``, ``happened_at``, ``event_id`` (str).
        views: Batch view name → rows: the view's key and columns, and ``known_at``.
        dropped: Reason → number of source rows that were left out.
    """

    requests: pl.DataFrame
    truths: pl.DataFrame
    streams: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    views: Mapping[str, pl.DataFrame] = field(default_factory=dict)
    dropped: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Gates:
    """What a candidate has to show before it may be released.

    Args:
        beat_baseline_by: How much better than the baseline the metric must be, as a share of the baseline's value; the
            interval over blocks has to lie beyond it.
        incumbent_margin: How much worse than the incumbent it may be, as a share of the incumbent's value
            (non-inferiority).
        slice_margin: How much worse than the baseline any slice may be, as a share of the baseline's value there.
        interval_margin: How far below its nominal share an interval may cover truths; it is refused where its coverage
            is surely less. Calibration alone moves coverage by a point, with 2,000 rows.
        max_null_share: Greatest share of nulls in a model input beyond that of the training set.
        max_latency_ms: Greatest 99th percentile of predicting one row.
        minimum_blocks: Fewer blocks than this decide nothing: the answer is hold.
        max_calibration_error: Greatest calibration error of probabilities, beyond what as few rows show by chance; None
            where nothing rests on them.
    """

    beat_baseline_by: float = 0.0
    incumbent_margin: float = 0.01
    slice_margin: float = 0.05
    interval_margin: float = 0.02
    max_null_share: float = 0.05
    max_latency_ms: float = 10.0
    minimum_blocks: int = 14
    max_calibration_error: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UseCase:
    """One supervised-learning problem: asked by clients, answered by a server.

    Args:
        name: Identifier; also the model's name on the wire.
        title: One line for people.
        problem: ``regression`` or ``binary`` (target 0 or 1, prediction the probability of 1).
        request: Fields of a request. Their order is the order of the columns.
        key: Request fields that join a prediction to its truth.
        decided_at: Request field (kind time) with the decision moment; None where a request is decided when it arrives.
        target: The truth: its name, unit and possible range.
        truth_delay: How long after the decision moment a truth is expected at the latest.
        metric: What search, gate and rollout optimise.
        extract: Import path (``package.module:function``) of ``() -> History``.
        source_state: Import path of ``() -> str``: a text that changes whenever ``extract`` would return something
            else, so that a run reads it anew; None where sources change with the code alone.
        split: How history is divided.
        inputs: What ``derive`` returns and the model sees, in order.
        derive: Request and feature columns → input columns. Numpy in, numpy out: the same code for 300,000 rows and
            for one. Looks at nothing but its argument; a missing feature is NaN or None.
        offset: Input whose value is added to what the model learns; None to learn the target itself.
        may_tell_alone: Inputs that may predict the target (nearly) perfectly by themselves. Any other that does is
            refused as a leak before anything learns from it.
        baseline: Input columns → predictions. A heuristic; has to answer when every feature is missing.
        decide: Request and prediction → the decision, JSON. Where the use case declares an ``interval`` it gets a third
            argument: (lower, upper), or None where there is none, as for the baseline's answers.
        block: Request columns → the independent unit of a test, one label a row (a day, a customer).
        batch_views: Slow features.
        streams: Events that the collector takes.
        windows: Hot features over the streams.
        slices: Request fields by which errors are shown and gated.
        gates: What a candidate has to show.
        application_metrics: (request columns, truths, predictions) → name → value: what the applications gain. Where
            the use case declares an ``interval`` it gets a fourth argument: [rows, 2], NaN where there is none.
        application_spans: Application metric → by how much one row's truth can move its sum over all rows, as an amount
            of money does; 1 where it is not named: a share of the rows. The evaluator's service rounds by it.
        oversample: Share that the rarer class is brought to in the training part by oversampling; None for none.
        augment: Import path of ``(pl.DataFrame) -> pl.DataFrame`` with rows to add to the training part; None for none.
        explain: Group → words for it, in an explanation.
        reasons: Input name → value of one row, None where it is missing → group → what is so of it, as the end of a
            sentence (``pays month to month``): an explanation adds what that does to the prediction.
        feedback: With what weight users' truths enter training.
        monitor: How production is watched.
        rollout: How a new version replaces the live one.
        minimum_prediction: Least value that an answer can have; the front end clips to it and flags.
        maximum_prediction: Greatest value, likewise.
        interval: Share of the truths that an answer's interval is to hold (0.8), 0–1; None for no interval.
        labelling: What experts see and may answer where a truth is made by hand; None where none is.
        model_format: What its models are packaged as: ``onnx``, a graph; ``pmml``, an XML document, of numbers and
            categories only; ``skops``, a scikit-learn object. The latter two need the extra ``formats``.
    """

    name: str
    title: str
    problem: Problem
    request: tuple[Field, ...]
    key: tuple[str, ...]
    target: Field
    metric: Metric
    extract: str
    split: TimeSplit | HashSplit
    inputs: tuple[Input, ...]
    derive: Callable[[Columns], dict[str, Array]]
    baseline: Callable[[Columns], Array]
    decide: Callable[..., Any]
    block: Callable[[Columns], Array]
    decided_at: str | None = None
    source_state: str | None = None
    may_tell_alone: tuple[str, ...] = ()
    truth_delay: timedelta = timedelta(days=2)
    offset: str | None = None
    batch_views: tuple[BatchView, ...] = ()
    streams: tuple[Stream, ...] = ()
    windows: tuple[Window, ...] = ()
    slices: tuple[str, ...] = ()
    gates: Gates = field(default_factory=Gates)
    application_metrics: Callable[..., dict[str, float]] | None = None
    application_spans: Mapping[str, float] = field(default_factory=dict)
    oversample: float | None = None
    augment: str | None = None
    explain: Mapping[str, str] = field(default_factory=dict)
    reasons: Callable[[Mapping[str, Any]], Mapping[str, str]] | None = None
    feedback: FeedbackPolicy = field(default_factory=FeedbackPolicy)
    monitor: MonitorPolicy = field(default_factory=MonitorPolicy)
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)
    minimum_prediction: float | None = None
    maximum_prediction: float | None = None
    interval: float | None = None
    labelling: LabellingInterface | None = None
    model_format: ModelFormat = "onnx"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,40}", self.name):
            raise ConfigurationError(f"Use case name {self.name!r} is not a short lower-case identifier.")
        fields = {f.name: f for f in self.request}
        if len(fields) != len(self.request):
            raise ConfigurationError(f"Use case {self.name!r} declares a request field twice.")
        self._check_names("key", self.key, set(fields))
        self._check_names("slices", self.slices, set(fields))
        for name in self.key:
            if fields[name].nullable or fields[name].kind in ("number", "text"):
                raise ConfigurationError(f"{self.name}: key field {name!r} can be null, or is a number or a text.")
            if name in OF_TRUTHS:
                raise ConfigurationError(
                    f"{self.name}: key field {name!r} is called like a column that truths have of their own.",
                    remedy=f"Give it another name than {', '.join(OF_TRUTHS)}.",
                )
        for f in self.request:
            if f.digest_of is not None:
                strings = {n for n, o in fields.items() if o.kind in STRINGS and not o.nullable and o.digest_of is None}
                self._check_names(f"digest_of of {f.name}", (f.digest_of,), strings)
        if self.decided_at is not None:
            self._check_names("decided_at", (self.decided_at,), {n for n, f in fields.items() if f.kind == "time"})
        if isinstance(self.split, TimeSplit) and self.decided_at is None:
            raise ConfigurationError(f"{self.name}: a split by time needs decided_at.", remedy="Use HashSplit.")
        if isinstance(self.split, HashSplit) and self.decided_at is not None:
            raise ConfigurationError(
                f"{self.name} has a decision moment, {self.decided_at}, and a split by hash: a model would be tested "
                "on days that it has learned from, and look better than it is.",
                remedy="Use TimeSplit.",
            )
        views: tuple[BatchView | Window, ...] = (*self.batch_views, *self.windows)
        for view in views:
            self._check_names(f"key of {view.name}", view.key, set(fields))
        streams = {s.name: {f.name: f for f in s.fields} for s in self.streams}
        for window in self.windows:
            self._check_names(f"stream of {window.name}", (window.stream,), set(streams))
            values = streams[window.stream]
            self._check_names(f"columns of {window.name}", (*window.key, window.value), set(values))
            if values[window.value].kind not in NUMERIC:
                raise ConfigurationError(f"{self.name}: window {window.name!r} aggregates {window.value!r}, no number.")
        names = [view.name for view in views]
        if len(set(names)) != len(names):
            raise ConfigurationError(f"{self.name}: two views or windows share a name.")
        self._check_names("audience of the rollout", tuple(sorted(self.rollout.audience.fields)), set(fields))
        if self.rollout.loss is not None:
            self.rollout.loss_of(self.metric, self.problem)
        self._check_names("may_tell_alone", self.may_tell_alone, {i.name for i in self.inputs})
        self._check_format()
        if self.offset is not None:
            self._check_names("offset", (self.offset,), {i.name for i in self.inputs if i.kind == "number"})
        if self.interval is not None:
            check_interval(self.name, self.problem, self.interval, self.decide, self.application_metrics)
        if self.labelling is not None:
            features = {name for view in self.feature_views() for name in view.features}
            self._check_names("labelling interface", self.labelling.show, set(fields) | features)
            wrong = [label for label, value in self.labelling.choices.items() if not self.target.in_range(value)]
            if self.problem == "binary":
                wrong += [label for label, value in self.labelling.choices.items() if value not in (0, 1)]
            if wrong or (self.problem == "binary" and not self.labelling.choices):
                raise ConfigurationError(
                    f"{self.name}: the labelling interface offers {', '.join(wrong) or 'numbers'}, and the target "
                    f"{self.target.name} can't be that.",
                    remedy="Give each label a value that the target can have; 0 or 1 for a class.",
                )

    def _check_format(self) -> None:
        if self.model_format not in get_args(ModelFormat):
            raise ConfigurationError(
                f"{self.name}: there is no model format {self.model_format!r}.",
                remedy=f"There are {', '.join(get_args(ModelFormat))}.",
            )
        if self.model_format != "onnx" and self.interval is not None:
            raise ConfigurationError(
                f"{self.name} declares an interval, which a {self.model_format} package can't hold.",
                remedy='Take the model format "onnx".',
            )
        texts = [given.name for given in self.inputs if given.kind == "text"]
        if self.model_format == "pmml" and texts:
            raise ConfigurationError(
                f"{self.name}: its models read the text {texts[0]!r}, and a PMML package has numbers and categories.",
                remedy='Take the model format "onnx" or "skops".',
            )

    def _check_names(self, what: str, names: tuple[str, ...], known: set[str]) -> None:
        missing = [name for name in names if name not in known]
        if missing:
            raise ConfigurationError(
                f"{self.name}: {what} names {', '.join(missing)}, which is not declared.",
                remedy=f"Declared are {', '.join(sorted(known)) or 'none'}.",
            )

    def inputs_of(self, columns: Columns) -> dict[str, Array]:
        """Input columns of request and feature columns: what ``derive`` makes of them, and what passes unchanged.

        Args:
            columns: Request fields and features by name.
        """
        made = self.derive(columns)
        for given in self.inputs:
            if given.column is not None:
                made[given.name] = columns[given.column]
        return made

    def decision(self, request: Mapping[str, Any], value: float, interval: Bounds | None = None) -> Any:
        """What follows from an answer: ``decide``, told the interval where the use case declares one.

        Args:
            request: The request's fields.
            value: The prediction.
            interval: (lower, upper) around it; None where there is none.
        """
        if self.interval is None:
            return self.decide(request, value)
        return self.decide(request, value, interval)

    def gains(self, request: Columns, truth: Array, prediction: Array, interval: Array | None) -> dict[str, float]:
        """The application metrics; empty where none are declared.

        Args:
            request: Request columns [rows].
            truth: [rows].
            prediction: [rows].
            interval: [rows, 2], NaN where a row has none; None where no row has one.
        """
        import numpy as np

        if self.application_metrics is None:
            return {}
        if self.interval is None:
            return self.application_metrics(request, truth, prediction)
        known = np.full((len(truth), 2), np.nan) if interval is None else interval
        return self.application_metrics(request, truth, prediction, known)

    def feature_views(self, lengths: Mapping[str, str] | None = None) -> tuple[FeatureView, ...]:
        """The exact views behind its features, batch first, windows at the chosen lengths."""
        windows = with_lengths(self.windows, dict(lengths or {}))
        return tuple(batch_feature_view(v) for v in self.batch_views) + tuple(window_feature_view(w) for w in windows)

    @property
    def fields(self) -> dict[str, Field]:
        """Request fields by name."""
        return {f.name: f for f in self.request}

    @property
    def derive_digest(self) -> str:
        """SHA-256 of the source of the module that holds ``derive``: training and serving have to run the same."""
        return module_digest(self.derive)

    @property
    def baseline_path(self) -> str:
        """Import path of the baseline."""
        return f"{self.baseline.__module__}:{self.baseline.__qualname__}"

    @property
    def baseline_digest(self) -> str:
        """SHA-256 of the source of the module that holds ``baseline``."""
        return module_digest(self.baseline)


def module_digest(function: Callable[..., Any]) -> str:
    """SHA-256 of the source of the module that holds a function."""
    module = inspect.getmodule(function)
    if module is None:
        raise ConfigurationError(f"{function!r} lives in no module.", remedy="Define it in the use case's folder.")
    return hashlib.sha256(inspect.getsource(module).encode()).hexdigest()
