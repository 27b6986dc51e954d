"""Parameters of the pipelines: checked in one place, whoever starts a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, Self

from components.labeller.sampling.mix import Mix
from components.model_builder import GREATEST_SEED
from components.tuner.budget import SHORTEST
from components.tuner.lengths import combinations
from ninefold.clock import format_instant, parse_instant
from ninefold.errors import InvalidInput, UsageError
from ninefold.features import with_lengths
from ninefold.loading import load_use_case
from ninefold.splits import NOW, TimeSplit
from ninefold.usecase import UseCase

LONGEST_TRAINING = 24 * 3600.0


class Parameters(Protocol):
    """What a pipeline is told."""

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> Self:
        """Checks and reads parameters."""
        ...

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        ...


def _known(pipeline: str, document: Mapping[str, Any], names: tuple[str, ...]) -> None:
    unknown = sorted(set(document) - set(names))
    if unknown:
        listed = " or ".join(part for part in (", ".join(names[:-1]), names[-1]) if part)
        raise InvalidInput(unknown[0], f"is no parameter of {pipeline}.", remedy=f"Use {listed}.")


def _instant(document: Mapping[str, Any], name: str) -> datetime | None:
    text = document.get(name) or None
    if text is not None and not isinstance(text, str):
        raise InvalidInput(name, f"{text!r} is not a time.", remedy="Write it as 2013-07-01.")
    return parse_instant(text, field=name) if text is not None else None


def _text(instant: datetime | None) -> str:
    return "" if instant is None else format_instant(instant)


def _period(pipeline: str, document: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    _known(pipeline, document, ("since", "until"))
    since, until = _instant(document, "since"), _instant(document, "until")
    if since is not None and until is not None and since >= until:
        raise InvalidInput("since", f"{format_instant(since)} is not before {format_instant(until)}.")
    return since, until


def _until(document: Mapping[str, Any], declared: UseCase) -> datetime | None:
    until = _instant(document, "until")
    if until is not None or not isinstance(declared.split, TimeSplit):
        return until
    if declared.split.until is None:
        raise InvalidInput(
            "until", f"is missing: {declared.name} is split by time.", remedy="Give --until, such as 2013-07-01."
        )
    # Of a run up to now its first step says when that was.
    return None if declared.split.until == NOW else parse_instant(declared.split.until, field="until")


def _seconds(document: Mapping[str, Any], *, default: float, least: float) -> float:
    seconds = document.get("max_training_time", default)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not least <= seconds <= LONGEST_TRAINING:
        raise InvalidInput(
            "max_training_time",
            f"{seconds!r} is not a time.",
            remedy=f"Give {least:.0f} to {LONGEST_TRAINING:.0f} seconds.",
        )
    return float(seconds)


def _whole(document: Mapping[str, Any], name: str, *, default: int, least: int, most: int | None = None) -> int:
    number = document.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int) or number < least or (most and number > most):
        bounds = f"at least {least}" if most is None else f"{least} to {most:,}"
        raise InvalidInput(name, f"{number!r} does not do.", remedy=f"Give a whole number, {bounds}.")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingParameters:
    """What a training run is told.

    Args:
        use_case: Name or import path.
        until: Only what was known before this is used; None for everything known.
        max_training_time: Seconds that the search may take.
        max_trials: Models that it may fit; 0 for as many as time allows. So bounded, it ends alike on every machine.
        windows: Window name → length, for windows that shall have another than the declared one.
        seed: Seed of the search.
    """

    use_case: str
    until: datetime | None = None
    max_training_time: float = 120.0
    max_trials: int = 0
    windows: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> TrainingParameters:
        """Checks and reads parameters.

        Raises:
            UnknownUseCase: There is no such use case.
            InvalidInput: A parameter is unknown, or its value is wrong; the message names it.
            ConfigurationError: ``windows`` names none of the use case's.
        """
        declared = load_use_case(use_case)
        _known("training", document, ("until", "max_training_time", "max_trials", "windows", "seed"))
        until = _until(document, declared)
        seconds = _seconds(document, default=120.0, least=1.0)
        windows = document.get("windows") or {}
        if not isinstance(windows, Mapping) or not all(isinstance(v, str) for v in windows.values()):
            raise InvalidInput("windows", f"{windows!r} is no object of lengths.", remedy='Write {"name": "6h"}.')
        with_lengths(declared.windows, dict(windows))
        return cls(
            use_case=use_case,
            until=until,
            max_training_time=seconds,
            max_trials=_whole(document, "max_trials", default=0, least=0),
            windows=dict(windows),
            seed=_whole(document, "seed", default=0, least=0, most=GREATEST_SEED),
        )

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        return {
            "until": _text(self.until),
            "max_training_time": self.max_training_time,
            "max_trials": self.max_trials,
            "windows": dict(self.windows),
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningParameters:
    """What a tuning run is told.

    Args:
        use_case: Name or import path.
        until: Only what was known before this is used; None for everything known.
        max_training_time: Seconds that all searches together may take.
        branches: Choices of window lengths to try, at most.
        seed: Seed of every search, and of the choices.
    """

    use_case: str
    until: datetime | None = None
    max_training_time: float = 240.0
    branches: int = 4
    seed: int = 0

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> TuningParameters:
        """Checks and reads parameters.

        Raises:
            UnknownUseCase: There is no such use case.
            UsageError: It has no window with a choice of lengths.
            InvalidInput: A parameter is unknown, or its value is wrong; the message names it.
        """
        declared = load_use_case(use_case)
        _known("tuning", document, ("until", "max_training_time", "branches", "seed"))
        if declared.decided_at is None or combinations(declared.windows) < 2:
            raise UsageError(
                f"{declared.name} has no window with a choice of lengths: there is nothing to tune jointly.",
                remedy=f"Search for a model alone: ninefold run training {use_case}",
            )
        return cls(
            use_case=use_case,
            until=_until(document, declared),
            max_training_time=_seconds(document, default=240.0, least=SHORTEST),
            branches=_whole(document, "branches", default=4, least=2),
            seed=_whole(document, "seed", default=0, least=0, most=GREATEST_SEED),
        )

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        return {
            "until": _text(self.until),
            "max_training_time": self.max_training_time,
            "branches": self.branches,
            "seed": self.seed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _PeriodParameters:
    """What a run over a stretch of time is told.

    Args:
        use_case: Name or import path.
        since: Where it begins; None for where the run before ended.
        until: Where it ends; None for now.
    """

    _pipeline: ClassVar[str]

    use_case: str
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> Self:
        """Checks and reads parameters.

        Raises:
            UnknownUseCase: There is no such use case.
            InvalidInput: A parameter is unknown, or its value is wrong; the message names it.
        """
        load_use_case(use_case)
        since, until = _period(cls._pipeline, document)
        return cls(use_case=use_case, since=since, until=until)

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        return {"since": _text(self.since), "until": _text(self.until)}


class MonitoringParameters(_PeriodParameters):
    """What a monitoring run is told: the first decision moment, and the instant just past the last one.

    Without a first one it takes every window whose truths may have come since the run before.
    """

    __slots__ = ()
    _pipeline = "monitoring"


class MaterializationParameters(_PeriodParameters):
    """What a materialization run is told: it brings the rows that became known in between online."""

    __slots__ = ()
    _pipeline = "materialization"


@dataclass(frozen=True, slots=True, kw_only=True)
class LabellingParameters:
    """What a labelling run is told.

    Args:
        use_case: Name or import path.
        count: Tasks that experts get.
        mix: Share of each sampler, as ``Mix`` writes it; empty for the default.
        since: First decision moment that is picked from; None for the first there is.
        until: Just past the last one; None for now.
    """

    use_case: str
    count: int = 100
    mix: str = ""
    since: datetime | None = None
    until: datetime | None = None

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> LabellingParameters:
        """Checks and reads parameters.

        Raises:
            UnknownUseCase: There is no such use case.
            UsageError: It does not declare what experts see.
            InvalidInput: A parameter is unknown, or its value is wrong; the message names it.
        """
        from components.labeller.selection import MOST

        declared = load_use_case(use_case)
        _known("labelling", document, ("since", "until", "count", "mix"))
        if declared.labelling is None:
            raise UsageError(
                f"{declared.name} does not declare what experts see and may answer.",
                remedy="Declare labelling in its contract: docs/usecases.md",
            )
        mix = document.get("mix") or ""
        if not isinstance(mix, str):
            raise InvalidInput("mix", f"{mix!r} is no mix.", remedy="Write it as uncertainty=0.9,random=0.1.")
        since, until = _period("labelling", {k: v for k, v in document.items() if k in ("since", "until")})
        return cls(
            use_case=use_case, since=since, until=until, mix=Mix.parse(mix).text() if mix else "",
            count=_whole(document, "count", default=100, least=1, most=MOST),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        return {"count": self.count, "mix": self.mix, "since": _text(self.since), "until": _text(self.until)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionParameters:
    """What a retention run is told.

    Args:
        use_case: Name or import path of the use case that the report is kept with.
        until: Ages are counted to it; None for now.
    """

    use_case: str
    until: datetime | None = None

    @classmethod
    def from_json(cls, use_case: str, document: Mapping[str, Any]) -> RetentionParameters:
        """Checks and reads parameters.

        Raises:
            UnknownUseCase: There is no such use case.
            InvalidInput: A parameter is unknown, or its value is wrong; the message names it.
        """
        load_use_case(use_case)
        _known("retention", document, ("until",))
        return cls(use_case=use_case, until=_instant(document, "until"))

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads back, without the use case."""
        return {"until": _text(self.until)}


PARAMETERS: Mapping[str, type[Parameters]] = {
    "training": TrainingParameters,
    "tuning": TuningParameters,
    "monitoring": MonitoringParameters,
    "labelling": LabellingParameters,
    "materialization": MaterializationParameters,
    "retention": RetentionParameters,
}
"""Pipeline name → what it is told."""


def check_parameters(pipeline: str, use_case: str, document: Mapping[str, Any]) -> Parameters:
    """Checks and reads the parameters of a pipeline.

    Raises:
        UsageError: There is no such pipeline.
        UnknownUseCase, InvalidInput, ConfigurationError: As the pipeline's ``from_json``.
    """
    if pipeline not in PARAMETERS:
        raise UsageError(f"There is no pipeline {pipeline!r}.", remedy=f"There are {', '.join(PARAMETERS)}.")
    return PARAMETERS[pipeline].from_json(use_case, document)
