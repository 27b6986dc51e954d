"""The report of an evaluation, for people: what was decided and why, metrics, errors, slices, the data behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluator import pictures
from components.evaluator.blocks import Interval
from components.evaluator.distribution import ErrorDistribution, ScoreDistribution
from components.evaluator.evaluation import Evaluation
from components.evaluator.evidence import Evidence
from components.evaluator.gate import GateDecision
from components.evaluator.intervals import IntervalQuality
from components.evaluator.render import Section, Table, render_html, render_markdown
from components.evaluator.slices import SMALL_SLICE_ROWS
from ninefold.metrics import definition
from ninefold.usecase import UseCase

SHOWN_SLICES = 60


def to_html(use_case: UseCase, evidence: Evidence, decision: GateDecision | None = None) -> str:
    """The report as one HTML page with its pictures; nothing is loaded from elsewhere.

    Args:
        use_case: What was evaluated.
        evidence: Evaluations and comparisons.
        decision: The gate's; None where nothing was to be decided.
    """
    return render_html(use_case.title, decision, compose(use_case, evidence, decision))


def to_markdown(use_case: UseCase, evidence: Evidence, decision: GateDecision | None = None) -> str:
    """The report as Markdown, without pictures."""
    return render_markdown(use_case.title, decision, compose(use_case, evidence, decision, pictured=False))


def write_report(folder: Path, use_case: UseCase, evidence: Evidence, decision: GateDecision | None = None) -> Path:
    """Writes ``report.html``, ``report.md`` and its pictures into a folder, and returns the page's path."""
    sections = compose(use_case, evidence, decision)
    folder.mkdir(parents=True, exist_ok=True)
    for section in sections:
        if section.picture:
            (folder / f"{section.picture[0]}.svg").write_text(section.picture[1], encoding="utf-8")
    (folder / "report.md").write_text(render_markdown(use_case.title, decision, sections), encoding="utf-8")
    page = folder / "report.html"
    page.write_text(render_html(use_case.title, decision, sections), encoding="utf-8")
    return page


def compose(
    use_case: UseCase, evidence: Evidence, decision: GateDecision | None, *, pictured: bool = True
) -> list[Section]:
    """What the report says, without a format."""
    models = _models(evidence)
    sections = []
    if decision is not None:
        checks = tuple((check.outcome, check.words) for check in decision.reasons)
        sections.append(Section(title="Why", checks=checks))
    if not models:
        return [*sections, Section(title="Metrics", words="Nothing was evaluated.")]
    sections.append(Section(title="Metrics", words=_about(models[-1][1]), table=_metrics(models, use_case)))
    if use_case.problem == "regression":
        sections.append(
            Section(
                title="Errors", table=_errors(models),
                picture=("errors", pictures.errors(models, use_case.target.unit or "")) if pictured else None,
                caption="Errors of all rows but the outermost 1 % on either side. Left of zero: predicted too low.",
            )
        )  # fmt: skip
    else:
        sections.append(
            Section(
                title="Probabilities", table=_confusion(models),
                picture=("calibration", pictures.calibration(models)) if pictured else None,
                caption="Left: on the dashed line, what was predicted came true as often as predicted; a larger dot is "
                "more rows. Right: how well the classes are told apart.",
            )
        )  # fmt: skip
    if bounded := [(role, e.interval) for role, e in models if e.interval is not None]:
        sections.append(_intervals(bounded, use_case))
    if evidence.sources:
        sections.append(_sources(evidence))
    if use_case.problem == "binary":
        sections.append(
            Section(
                title="Reliability", table=_reliability(models),
                words="Mean probability → share that came true, and rows. Summed up above: by the Brier score, and by "
                "the calibration error, the mean distance of the two.",
            )
        )  # fmt: skip
    if pictured and (line := pictures.by_block(models, use_case.metric.unit)):
        sections.append(
            Section(
                title="Block by block", picture=("blocks", line),
                caption="Blocks are what is independent: rows of one block rise and fall together.",
            )
        )  # fmt: skip
    improved = pictures.improvements(evidence, use_case.gates) if pictured else None
    sections.append(_slices(use_case, evidence, models, ("slices", improved) if improved else None))
    if evidence.notes:
        sections.append(Section(title="The data", table=_notes(evidence.notes)))
    return sections


def _models(evidence: Evidence) -> list[tuple[str, Evaluation]]:
    roles = (("baseline", evidence.baseline), ("incumbent", evidence.incumbent), ("candidate", evidence.candidate))
    # Where the live version is the baseline, showing it twice says nothing.
    return [(r, e) for r, e in roles if e is not None and not (r == "incumbent" and e.version == 0)]


def _about(evaluation: Evaluation) -> str:
    missing = evaluation.expected_rows - evaluation.rows
    words = f"On {evaluation.rows:,} test rows in {evaluation.blocks:,} independent blocks."
    if evaluation.effective_rows is not None:
        words = (
            f"On {evaluation.rows:,} test rows that were picked with unequal chances and count by the inverse of them: "
            f"as good as {evaluation.effective_rows:,.0f} rows, and {evaluation.blocks:,} blocks, of equal weight."
        )
    if missing:
        words += f" For {missing:,} more ({1 - evaluation.coverage:.1%}) there is no prediction."
    return words + " Beneath the metric that decides stands its 95 % interval over blocks. Best values are bold."


def _metrics(models: list[tuple[str, Evaluation]], use_case: UseCase) -> Table:
    first = models[-1][1]
    rows = []
    for name in first.metrics:
        metric = definition(name)
        unit = (use_case.target.unit or "") if metric.in_unit else ""
        values = [e.metrics.get(name, math.nan) for _, e in models]
        cells = _mark_best([_number(v, unit) for v in values], values, metric.direction)
        if name == first.metric.name:
            cells = [f"{cell} [{_range(e.value)}]" for cell, (_, e) in zip(cells, models, strict=True)]
        rows.append((metric.label, *cells))
    for name in first.application:
        rows.append((name.replace("_", " ").capitalize(), *(_gain(e, name) for _, e in models)))
    if any(e.latency for _, e in models):
        for label, attribute, unit in (
            ("Latency of one row, median", "p50_ms", "ms"),
            ("Latency of one row, 99 %", "p99_ms", "ms"),
            ("Throughput", "rows_per_second", "rows/s"),
        ):
            rows.append(
                (label, *(_number(getattr(e.latency, attribute), unit) if e.latency else "–" for _, e in models))
            )
    return Table(header=("", *(_role(role, e) for role, e in models)), rows=tuple(rows))


def _role(role: str, evaluation: Evaluation) -> str:
    return role.capitalize() + (f" (version {evaluation.version})" if evaluation.version else "")


def _errors(models: list[tuple[str, Evaluation]]) -> Table:
    spreads = [(role, e.distribution) for role, e in models if isinstance(e.distribution, ErrorDistribution)]
    shown = (0.5, 0.75, 0.9, 0.95, 0.99)
    rows = tuple(
        (f"{level:.0%} of rows are off by at most", *(_number(d.absolute_quantiles[level]) for _, d in spreads))
        for level in shown
    )
    return Table(header=("", *(role.capitalize() for role, _ in spreads)), rows=rows)


def _gain(evaluation: Evaluation, name: str) -> str:
    value = _number(evaluation.application.get(name, math.nan))
    found = evaluation.gains.get(name)
    return value if found is None or not math.isfinite(found.low) else f"{value} [{_range(found)}]"


def _reliability(models: list[tuple[str, Evaluation]]) -> Table:
    """What was predicted beside what came true, in ten bins."""
    spreads = [(role, e.distribution) for role, e in models if isinstance(e.distribution, ScoreDistribution)]
    bins = len(spreads[0][1].calibration)
    rows = []
    for place in range(bins):
        cells = []
        for _, spread in spreads:
            count, predicted, came_true = spread.calibration[place]
            cells.append(f"{predicted:.3f} → {came_true:.3f} ({count:,.0f})" if count else "–")
        rows.append((f"{place / bins:.1f} to {(place + 1) / bins:.1f}", *cells))
    return Table(header=("Probability", *(role.capitalize() for role, _ in spreads)), rows=tuple(rows))


def _confusion(models: list[tuple[str, Evaluation]]) -> Table:
    names = {
        "true_positive": "Predicted 1, is 1", "false_positive": "Predicted 1, is 0",
        "false_negative": "Predicted 0, is 1", "true_negative": "Predicted 0, is 0",
    }  # fmt: skip
    spreads = [(role, e.distribution) for role, e in models if not isinstance(e.distribution, ErrorDistribution)]
    rows = tuple((label, *(f"{d.confusion[name]:,.0f}" for _, d in spreads)) for name, label in names.items())
    return Table(header=("At 0.5", *(role.capitalize() for role, _ in spreads)), rows=rows)


def _intervals(models: list[tuple[str, IntervalQuality]], use_case: UseCase) -> Section:
    """What intervals hold and how wide they are, whole and by slice."""
    unit = use_case.target.unit or ""
    rows = [
        ("Truths inside", *(f"{_share(q.coverage.value)} [{_shares(q.coverage)}]" for _, q in models)),
        ("Mean width", *(f"{_number(q.width.value, unit)} [{_range(q.width)}]" for _, q in models)),
        ("Rows with an interval", *(f"{q.rows:,}" for _, q in models)),
    ]
    found = [{(s.field, s.value): s for s in q.slices} for _, q in models]
    for field, value in list(found[-1])[:SHOWN_SLICES]:
        cells = []
        for slices in found:
            one = slices.get((field, value))
            small = " (small)" if one is not None and one.small else ""
            cells.append(f"{_share(one.coverage)}, {_number(one.width, unit)}{small}" if one is not None else "–")
        rows.append((f"{field} = {value}", *cells))
    return Section(
        title="Intervals",
        words=f"{_share(models[-1][1].nominal)} of the truths are promised to lie inside. In brackets stands the 95 % "
        "interval over blocks; by slice: truths inside, mean width.",
        table=Table(header=("", *(role.capitalize() for role, _ in models)), rows=tuple(rows)),
    )


def _share(share: float) -> str:
    return f"{share:.1%}" if math.isfinite(share) else "undefined"


def _shares(interval: Interval) -> str:
    if not math.isfinite(interval.low):
        return "unknown"
    return f"{_share(interval.low)} to {_share(interval.high)}"


def _sources(evidence: Evidence) -> Section:
    """The metric apart by who told the truth."""
    roles = list(evidence.sources[0].values)
    rows = tuple(
        (one.source, f"{one.rows:,}", *(_number(one.values[role]) for role in roles)) for one in evidence.sources
    )
    return Section(
        title="By who told the truth",
        words="What users say is shown beside the rest; it decides nothing.",
        table=Table(header=("", "Rows", *(role.capitalize() for role in roles)), rows=rows),
    )


def _slices(
    use_case: UseCase, evidence: Evidence, models: list[tuple[str, Evaluation]], picture: tuple[str, str] | None
) -> Section:
    compared = {(s.field, s.value): s.comparison for s in evidence.slices}
    by_role = [{(s.field, s.value): s for s in e.slices} for _, e in models]
    all_slices = by_role[-1]
    if not all_slices:
        return Section(title="Slices", words="The use case declares none.")
    rows = []
    for (field, value), one in list(all_slices.items())[:SHOWN_SLICES]:
        values = [found[(field, value)].metric if (field, value) in found else math.nan for found in by_role]
        comparison = compared.get((field, value))
        gain = (
            f"{_percent(comparison.relative.value)} [{_range(comparison.relative, share=True)}]" if comparison else "–"
        )
        cells = _mark_best([_number(v) for v in values], values, use_case.metric.direction)
        size = f"{one.rows:,}{' (small)' if one.small else ''}"
        rows.append((f"{field} = {value}", size, *cells, *([gain] if compared else [])))
    gains = ["Improvement over the baseline"] if compared else []
    header = ("", "Rows", *(role.capitalize() for role, _ in models), *gains)
    small = sum(one.small for one in all_slices.values())
    words = f"{definition(use_case.metric.name).label} on parts of the rows."
    if small:
        words += f" {small} of {len(all_slices)} have fewer than {SMALL_SLICE_ROWS} rows and decide nothing."
    if len(all_slices) > SHOWN_SLICES:
        words += f" The first {SHOWN_SLICES} of {len(all_slices)} are listed; the evaluation's JSON has all."
    return Section(
        title="Slices", words=words, table=Table(header=header, rows=tuple(rows)),
        picture=picture,
        caption="Dot: improvement; bar: its 95 % interval over blocks. Green: surely better, red: surely worse.",
    )  # fmt: skip


def _notes(notes: Mapping[str, Any]) -> Table:
    """Notes are nested counts; each leaf is a row."""
    rows: list[tuple[str, ...]] = []

    def walk(path: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(f"{path} · {name}" if path else str(name), inner)
        else:
            rows.append((path, f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)))

    walk("", notes)
    return Table(header=("", ""), rows=tuple(rows))


def _mark_best(cells: list[str], values: list[float], direction: str | None) -> list[str]:
    known = [v for v in values if math.isfinite(v)]
    if direction is None or len(known) < 2:
        return cells
    best = min(known) if direction == "minimize" else max(known)
    return [f"*{cell}" if value == best else cell for cell, value in zip(cells, values, strict=True)]


def _number(value: float, unit: str = "") -> str:
    if not math.isfinite(value):
        return "undefined"
    text = f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{text} {unit}".strip().replace("-", "−")


def _percent(share: float) -> str:
    return f"{share:+.1%}".replace("-", "−") if math.isfinite(share) else "undefined"


def _range(interval: Interval, *, share: bool = False) -> str:
    if not math.isfinite(interval.low):
        return "unknown"
    low, high = ((_percent(x) if share else _number(x)) for x in (interval.low, interval.high))
    return f"{low} to {high}"
