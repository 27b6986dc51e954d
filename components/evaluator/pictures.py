"""Pictures of an evaluation, as SVG: how errors are spread, how they go block by block, and where they improved."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

from components.evaluator.distribution import ErrorDistribution, ScoreDistribution
from components.evaluator.evaluation import Evaluation
from components.evaluator.evidence import Evidence, SliceComparison
from ninefold.usecase import Gates

COLOURS = {"baseline": "#8c929b", "incumbent": "#1f6fb4", "candidate": "#d1590a"}
"""Told apart by people who see no red or green, too."""
_INK, _GRID, _GOOD, _BAD = "#22262b", "#dfe3e8", "#1a7f4b", "#b3261e"
MOST_SLICES = 30
"""More slices than this do not fit a picture; those that improved least are shown."""

Models = Sequence[tuple[str, Evaluation]]
"""Role (``baseline``, ``incumbent``, ``candidate``) and evaluation, in that order."""


def errors(models: Models, unit: str) -> str:
    """How the models' errors are spread, for a regression."""
    regressions = [(r, e.distribution) for r, e in models if isinstance(e.distribution, ErrorDistribution)]
    figure, axes = _figure(3.1)
    for role, distribution in regressions:
        edges, counts = distribution.edges, distribution.counts
        total = sum(counts) + distribution.below + distribution.above
        density = [100 * n / total / (edges[1] - edges[0]) for n in counts]
        axes.stairs(density, edges, color=COLOURS[role], linewidth=1.8, label=role)
        axes.stairs(density, edges, color=COLOURS[role], alpha=0.08, fill=True)
    axes.axvline(0, color=_INK, linewidth=0.8)
    axes.set_xlabel(f"predicted − true{_in(unit)}")
    axes.set_ylabel(f"% of rows{f' per {unit}' if unit else ''}")
    axes.set_ylim(bottom=0)
    # The tails are long: what lies beyond the widest 98 % of the rows would only make the rest small.
    axes.set_xlim(*_span([(d.quantiles[0.01], d.quantiles[0.99]) for _, d in regressions]))
    _legend(axes)
    return _svg(figure)


def calibration(models: Models) -> str:
    """What was said against what came true, beside the last model's probabilities by class; for a classification."""
    scores = [(r, e.distribution) for r, e in models if isinstance(e.distribution, ScoreDistribution)]
    figure, (left, right) = _figure(3.4, 2)
    left.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    for role, distribution in scores:
        bins = [(p, share, rows) for rows, p, share in distribution.calibration if rows]
        total = sum(rows for *_, rows in bins)
        left.plot(
            [p for p, *_ in bins], [share for _, share, _ in bins], color=COLOURS[role], linewidth=1.4, label=role
        )
        left.scatter(
            [p for p, *_ in bins], [share for _, share, _ in bins],
            s=[14 + 160 * rows / total for *_, rows in bins], color=COLOURS[role], alpha=0.75, linewidths=0,
        )  # fmt: skip
    left.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="predicted probability", ylabel="share that came true")
    _legend(left)
    role, distribution = scores[-1]
    for counts, name, colour in (
        (distribution.zeros, "truth 0", COLOURS["incumbent"]),
        (distribution.ones, "truth 1", COLOURS["candidate"]),
    ):
        shares = [100 * n / max(1, sum(counts)) for n in counts]
        right.stairs(shares, distribution.edges, color=colour, linewidth=1.8, label=name)
        right.stairs(shares, distribution.edges, color=colour, alpha=0.08, fill=True)
    right.set(xlabel=f"probability predicted by the {role}", ylabel="% of the class", xlim=(0, 1), ylim=(0, None))
    _legend(right)
    return _svg(figure)


def by_block(models: Models, unit: str) -> str | None:
    """The metric block by block; None where there are too few or too many blocks to draw."""
    drawn = [(role, e) for role, e in models if len(e.by_block) > 1]
    if not drawn:
        return None
    figure, axes = _figure(2.9)
    labels = list(drawn[0][1].by_block)
    place = {label: i for i, label in enumerate(labels)}
    for role, evaluation in drawn:
        points = [(place[label], value) for label, value in evaluation.by_block.items() if label in place]
        axes.plot(
            [x for x, _ in points], [y for _, y in points],
            color=COLOURS[role], linewidth=1.6, marker="o" if len(labels) <= 60 else None, markersize=3.2, label=role,
        )  # fmt: skip
    step = max(1, math.ceil(len(labels) / 9))
    axes.set_xticks(range(0, len(labels), step), [_short(label) for label in labels[::step]])
    axes.set_ylabel(f"{drawn[0][1].metric.name}{_in(unit)}")
    axes.margins(x=0.01)
    if all(value >= 0 for _, e in drawn for value in e.by_block.values()):
        axes.set_ylim(bottom=0)
    _legend(axes)
    return _svg(figure)


def improvements(evidence: Evidence, gates: Gates) -> str | None:
    """How much better the candidate is than the baseline, overall and by slice, with intervals; None without any."""
    if evidence.against_baseline is None:
        return None
    judged = [s for s in evidence.slices if math.isfinite(s.comparison.relative.low)]
    least = sorted(judged, key=lambda s: s.comparison.relative.value)[:MOST_SLICES]
    chosen = [s for s in judged if s in least]
    lines: list[tuple[str, Any]] = [("all rows", evidence.against_baseline.relative)]
    lines += [(f"{s.field} = {_short(s.value, 28)}", s.comparison.relative) for s in _ordered(chosen)]
    lines = [(name, interval) for name, interval in lines if math.isfinite(interval.low)]
    if not lines:
        return None
    figure, axes = _figure(0.75 + 0.235 * len(lines))
    margin = -100 * gates.slice_margin
    axes.axvline(0, color=_INK, linewidth=0.9)
    axes.axvline(margin, color=_BAD, linewidth=1, linestyle=(0, (4, 3)))
    for row, (_, interval) in enumerate(lines):
        low, value, high = (100 * x for x in (interval.low, interval.value, interval.high))
        colour = _GOOD if low > 0 else _BAD if high < 0 else COLOURS["baseline"]
        axes.plot([low, high], [row, row], color=colour, linewidth=2.2, alpha=0.55, solid_capstyle="butt")
        axes.plot([value], [row], color=colour, marker="o", markersize=6 if row == 0 else 4.5)
    if len(lines) > 1:
        axes.axhline(0.5, color=_GRID, linewidth=1)
    axes.set_yticks(range(len(lines)), [name for name, _ in lines])
    axes.get_yticklabels()[0].set_fontweight("bold")
    axes.set_ylim(len(lines) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    first, last = _span([(100 * i.low, 100 * i.high) for _, i in lines] + [(margin, 0.0)])
    axes.set_xlim(first - 0.03 * (last - first), last + 0.03 * (last - first))
    axes.set_xlabel(
        f"improvement over the baseline (%); dashed: the margin of a slice ({margin:.0f} %)".replace("-", "−")
    )
    return _svg(figure)


def _ordered(slices: Iterable[SliceComparison]) -> list[SliceComparison]:
    """By field in the declared order, best first within each."""
    groups: dict[str, list[SliceComparison]] = {}
    for one in slices:
        groups.setdefault(one.field, []).append(one)
    return [s for g in groups.values() for s in sorted(g, key=lambda s: -s.comparison.relative.value)]


def _span(ranges: Iterable[tuple[float, float]]) -> tuple[float, float]:
    lows, highs = zip(*ranges, strict=True)
    return (min(lows), max(highs)) if min(lows) < max(highs) else (min(lows) - 1, max(highs) + 1)


def _in(unit: str) -> str:
    return f" ({unit})" if unit else ""


def _short(label: str, length: int = 10) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _figure(height: float, columns: int = 1) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, height), layout="constrained")
    axes = figure.subplots(1, columns)
    for one in [axes] if columns == 1 else list(axes):
        one.spines[["top", "right"]].set_visible(False)
        one.spines[["left", "bottom"]].set_color("#aab0b8")
        one.tick_params(colors=_INK, labelsize=8.5, length=3)
        one.xaxis.label.set_size(9)
        one.yaxis.label.set_size(9)
        one.grid(color=_GRID, linewidth=0.7)
        one.set_axisbelow(True)
    return figure, axes


def _legend(axes: Any) -> None:
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=9, borderaxespad=0.2)


def _svg(figure: Any) -> str:
    import matplotlib as mpl

    out = io.StringIO()
    # The same numbers give the same file, so that reports can be compared.
    with mpl.rc_context({"svg.hashsalt": "ninefold", "axes.unicode_minus": True}):
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    return out.getvalue()
