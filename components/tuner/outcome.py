"""What became of a branch, and which one goes on: by its validation value alone, never by the test set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from components.model_builder.search import Row
from components.tuner.lengths import Lengths
from ninefold.errors import DataError

if TYPE_CHECKING:
    from components.model_builder.build import BuildResult

OUTCOME = "outcome.json"
"""File beside a branch's package."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a search.

    Args:
        branch: Its number; None for the search that follows the best branch.
        lengths: Window name → length.
        began: When it began, in seconds.
        ended: When it ended, by the same clock.
        error: Why it has no package; None where it has.
        digest: The package's digest.
        family: The family that was packaged.
        value: The metric on the validation set.
        baseline: The baseline's.
        metric: Name of the metric.
        direction: ``minimize`` or ``maximize``.
        rows: Every trial.
    """

    branch: int | None
    lengths: Lengths
    began: float
    ended: float
    error: str | None = None
    digest: str | None = None
    family: str | None = None
    value: float | None = None
    baseline: float | None = None
    metric: str = ""
    direction: str = "minimize"
    rows: tuple[Row, ...] = ()

    @property
    def seconds(self) -> float:
        """What it took."""
        return max(0.0, self.ended - self.began)

    @property
    def trials(self) -> int:
        """How many models it fitted, or began to."""
        return sum(row.family not in ("baseline", "ensemble") for row in self.rows)

    @property
    def loss(self) -> float:
        """The value, so that less is better; infinite where there is none."""
        if self.value is None:
            return float("inf")
        return self.value if self.direction == "minimize" else -self.value

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` reads back."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Outcome:
        """Reads what ``to_json`` wrote."""
        return cls(**{**document, "rows": tuple(Row(**row) for row in document["rows"])})


def built(branch: int | None, lengths: Lengths, result: BuildResult, *, began: float, ended: float) -> Outcome:
    """The outcome of a search that ended in a package."""
    return Outcome(
        branch=branch, lengths=dict(lengths), began=began, ended=ended, digest=result.digest,
        family=result.chosen.family, value=result.chosen.value, baseline=result.baseline_metric,
        metric=result.metric, direction=result.direction, rows=result.leaderboard,
    )  # fmt: skip


def failed(branch: int | None, lengths: Lengths, error: str, *, began: float, ended: float) -> Outcome:
    """The outcome of a search that has no package, and why."""
    return Outcome(branch=branch, lengths=dict(lengths), began=began, ended=ended, error=error)


def best(outcomes: Sequence[Outcome]) -> Outcome:
    """The one with the best validation value; of equal ones the first, so that the declared lengths stay.

    Raises:
        DataError: All of them failed; the message says why, each.
    """
    found = min(outcomes, key=lambda one: one.loss, default=None)
    if found is None or found.value is None:
        reasons = "; ".join(f"{named(one.lengths)}: {one.error}" for one in outcomes)
        raise DataError(f"All {len(outcomes)} branches failed. {reasons}")
    return found


def named(lengths: Lengths) -> str:
    """Lengths in a line: ``destination_gain 6h, origin_gain 3h``."""
    return ", ".join(f"{name} {length}" for name, length in lengths.items())


def summary(outcomes: Sequence[Outcome], last: Outcome, chosen: Outcome) -> dict[str, Any]:
    """What tuning came to, for a run's result: every branch, the search that followed, and the winner."""
    declared = next((one for one in outcomes if one.branch == 0), None)
    return {
        "metric": chosen.metric,
        "direction": chosen.direction,
        "branches": [_line(one) for one in outcomes],
        "failed": sum(one.error is not None for one in outcomes),
        "last": _line(last),
        "winner": {**_line(chosen), "baseline": chosen.baseline},
        "declared": declared.value if declared is not None else None,
    }


def _line(one: Outcome) -> dict[str, Any]:
    names = ("branch", "lengths", "value", "family", "trials", "seconds", "error")
    return {name: getattr(one, name) for name in names}


def to_markdown(document: Mapping[str, Any]) -> str:
    """The same as a page: a table of the branches."""
    lines = [f"# Branches by {document['metric']} ({document['direction']}) on the validation set", ""]
    lines += ["| lengths | value | family | trials | seconds |", "|---|---:|---|---:|---:|"]
    shown = [(named(one["lengths"]), one) for one in document["branches"]]
    for name, one in [*shown, ("then, at the best lengths", document["last"])]:
        value = one["error"] or f"{one['value']:.4f}"
        lines.append(f"| {name} | {value} | {one['family'] or ''} | {one['trials']} | {one['seconds']:.1f} |")
    lines += ["", f"Chosen: {named(document['winner']['lengths'])}."]
    return "\n".join(lines) + "\n"
