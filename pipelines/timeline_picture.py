"""The timeline as a picture, and as a page that holds the picture and every reason in full."""

from __future__ import annotations

import base64
import html
import io
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pipelines.timeline import Stretch, Timeline

GREY = "#8c929b"
COLOURS = ("#8c929b", "#1f6fb4", "#1a7f4b", "#b3261e", "#7b4fa3", "#d1590a")
"""Of versions, by their number."""
_LEVELS = 4
"""Lines on which the words of neighbours stand."""
_LINEAR = 4.0
"""Up to here the strip of differences is linear, beyond it logarithmic."""
SMOOTHED = 7
"""Days that a line is the mean of."""


def write_page(timeline: Timeline, stem: Path) -> tuple[Path, Path]:
    """Writes ``<stem>.html`` and ``<stem>.png``, and returns their paths."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    picture, page = stem.with_suffix(".png"), stem.with_suffix(".html")
    picture.write_bytes(draw(timeline, kind="png"))
    page.write_text(_page(timeline, picture.read_bytes()))
    return page, picture


def draw(timeline: Timeline, *, kind: str = "png") -> bytes:
    """Three strips over the same days: what clients got, each version against the baseline, and who answered.

    Args:
        timeline: What happened.
        kind: ``png`` or ``svg``.
    """
    from matplotlib import rc_context
    from matplotlib.dates import DateFormatter
    from matplotlib.figure import Figure

    with rc_context({"svg.hashsalt": "ninefold", "font.family": "DejaVu Sans", "font.size": 9}):
        figure = Figure(figsize=(11.5, 8.4), layout="constrained")
        got, against, lanes = figure.subplots(3, 1, sharex=True, height_ratios=(2.2, 3.0, 2.6))
        days = [datetime.fromisoformat(day) + timedelta(hours=12) for day in timeline.days["day"]]
        _draw_answers(got, timeline, days)
        _draw_differences(against, timeline, days)
        _draw_lanes(lanes, timeline)
        for axes in (got, against, lanes):
            axes.spines[["top", "right"]].set_visible(False)
            for happening in timeline.happenings:
                if _is_turn(happening.what):
                    axes.axvline(_naive(happening.at), color="#b9bec6", linewidth=0.8, linestyle=":", zorder=0)
        for axes in (got, against):
            axes.grid(axis="y", color="#e4e7eb", linewidth=0.7)
            axes.set_axisbelow(True)
        lanes.xaxis.set_major_formatter(DateFormatter("%b %d"))
        shown = [*days, *(_naive(at) for stretch in timeline.stretches for at in (stretch.since, stretch.until))]
        if shown:
            lanes.set_xlim(min(shown) - timedelta(days=1), max(shown) + timedelta(days=1))
        out = io.BytesIO()
        figure.savefig(out, format=kind, dpi=120, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _is_turn(what: str) -> bool:
    return what.startswith("alert") or what.endswith(("promoted", "rolled back", "trained"))


def _draw_answers(axes: Any, timeline: Timeline, days: list[datetime]) -> None:
    axes.plot(days, timeline.days["baseline"], color=GREY, linewidth=1.1, linestyle="--", label="baseline")
    axes.plot(days, timeline.days["answered"], color="#22262b", linewidth=1.6, label="what clients got")
    # Room for the words of what happened.
    axes.set_ylim(0, 1.7 * axes.get_ylim()[1])
    axes.set_ylabel(f"{timeline.metric} ({timeline.unit})")
    turns: dict[date, list[str]] = {}
    for happening in timeline.happenings:
        if _is_turn(happening.what):
            turns.setdefault(happening.at.date(), []).append(happening.what)
    for place, (day, words) in enumerate(turns.items()):
        late = bool(days) and datetime(day.year, day.month, day.day) > days[0] + 0.7 * (days[-1] - days[0])
        axes.annotate(
            ", ".join(words), (datetime(day.year, day.month, day.day, 8), 1.0), xycoords=("data", "axes fraction"),
            xytext=(-3 if late else 3, -2 - 12 * (place % _LEVELS)), textcoords="offset points", va="top",
            ha="right" if late else "left", fontsize=8, color="#22262b", clip_on=True,
        )  # fmt: skip
    axes.set_title("A day's loss", loc="left", fontsize=10, fontweight="bold")
    axes.legend(loc="lower right", frameon=False, ncols=2)


def _draw_differences(axes: Any, timeline: Timeline, days: list[datetime]) -> None:
    from matplotlib.ticker import NullLocator

    axes.axhline(0.0, color=GREY, linewidth=1.1, linestyle="--")
    axes.set_title(
        f"Better than the baseline by, on the same flights: a dot a day, a line for {SMOOTHED} days",
        loc="left", fontsize=10, fontweight="bold",
    )  # fmt: skip
    for version in timeline.versions:
        if version == 0:
            continue
        name, colour = f"v{version}", _colour(version)
        gain = timeline.days[f"baseline_{name}"] - timeline.days[name]
        smooth = gain.rolling_mean(SMOOTHED, min_samples=3, center=True)
        # Where it was not asked there is nothing to draw.
        smooth = pl.select(pl.when(gain.is_not_null()).then(smooth)).to_series()
        axes.plot(days, gain, ".", color=colour, markersize=4.5, alpha=0.55)
        axes.plot(days, smooth.to_numpy(), color=colour, linewidth=2.0, label=f"version {version}")
    axes.set_ylabel(timeline.unit)
    # What a candidate loses by a fault may be a hundred times what a better one gains; both have to be seen.
    low, high = axes.get_ylim()
    axes.set_yscale("symlog", linthresh=_LINEAR)
    ticks = [sign * step for sign in (-1, 1) for step in (0, 2, 4, 10, 30, 100, 300) if low <= sign * step <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_ylim(1.4 * low, high)
    axes.yaxis.set_minor_locator(NullLocator())
    if timeline.versions[1:]:
        axes.legend(loc="lower left", frameon=False, ncols=3)


def _draw_lanes(axes: Any, timeline: Timeline) -> None:
    """A lane a version: pale while it is asked in shadow, the stronger the more it answers."""
    axes.set_title("Who answered, and who was tried", loc="left", fontsize=10, fontweight="bold")
    versions = timeline.versions
    for stretch in timeline.stretches:
        row, begin, end = versions.index(stretch.version), _naive(stretch.since), _naive(stretch.until)
        colour = _colour(stretch.version)
        if stretch.state == "rolled_back":
            axes.plot(begin, row, marker="X", color=colour, markersize=11, zorder=4)
            axes.annotate("rolled back", (begin, row), xytext=(9, 0), textcoords="offset points", va="center",
                          color=colour, fontsize=8.5, clip_on=True)  # fmt: skip
            continue
        width = end - begin
        axes.barh(row, width, left=begin, height=0.62, color=colour, alpha=_strength(stretch), edgecolor=colour,
                  linewidth=0.9, hatch="//" if stretch.state == "shadow" else None)  # fmt: skip
        words = {"live": "live", "shadow": "in shadow", "canary": f"{stretch.share:.0%}"}[stretch.state]
        if width > timedelta(days=1.5):
            axes.text(begin + width / 2, row, words, ha="center", va="center", fontsize=8.5,
                      color="white" if stretch.state == "live" else "#22262b", zorder=5,
                      bbox=None if stretch.state != "shadow" else _PAPER, clip_on=True)  # fmt: skip
    axes.set_yticks(range(len(versions)), ["baseline" if v == 0 else f"version {v}" for v in versions])
    axes.set_ylim(max(len(versions), 1) - 0.45, -0.55)
    axes.tick_params(axis="y", length=0)


_PAPER = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}


def _strength(stretch: Stretch) -> float:
    if stretch.state == "live":
        return 0.95
    return 0.12 if stretch.state == "shadow" else 0.25 + 0.6 * stretch.share


def _colour(version: int) -> str:
    return COLOURS[version % len(COLOURS)]


def _naive(instant: datetime) -> datetime:
    return instant.replace(tzinfo=None)


def _page(timeline: Timeline, picture: bytes) -> str:
    shown = base64.b64encode(picture).decode()
    rows = "".join(
        f"<tr><td>{h.at:%Y-%m-%d %H:%M}<td>{html.escape(h.what)}<td>{html.escape(h.why)}" for h in timeline.happenings
    )
    effects = "".join(
        f"<tr><td>version {e.candidate}<td>version {e.incumbent}<td>{e.days}<td>{_number(e.gain)}"
        f"<td>{_number(e.deviation)}<td>{_number(e.size)}<td>{e.answered:,}<td>{html.escape(e.outcome)}"
        for e in timeline.effects
    )
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Timeline</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 70rem; color: #22262b; }}
img {{ width: 100%; }}
table {{ border-collapse: collapse; margin: 1.5rem 0; }}
th, td {{ text-align: left; vertical-align: top; padding: .35rem .8rem .35rem 0; border-bottom: 1px solid #e4e7eb; }}
</style>
<h1>What happened when, and why</h1>
<img alt="The daily loss, each version against the baseline, and who answered" src="data:image/png;base64,{shown}">
<h2>How far apart the versions were</h2>
<p>Day by day, on the requests that both were asked; above 0 the candidate is better.</p>
<table><tr><th>candidate<th>against<th>days<th>better by ({html.escape(timeline.unit)})<th>standard deviation
<th>mean/sd<th>requests answered<th>end{effects}</table>
<h2>Timeline</h2>
<table><tr><th>when (UTC)<th>what<th>why{rows}</table>
</html>
"""


def _number(value: float) -> str:
    return "unknown" if np.isnan(value) else f"{value:.2f}"
