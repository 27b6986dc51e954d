"""What a run saw, for people: tables, words, and a picture of how the metric developed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from components.monitor.run import Watched
from ninefold.store import Alert, Store
from ninefold.usecase import UseCase

STATES = {
    "alerts": "alerts stand",
    "blind": "no alert stands, but not everything could be seen",
    "well": "all that is watched was seen, and is within its limits or not over for long enough",
}
SHOWN = 14
"""Windows of a summary; the older ones are in the store."""


def state_words(watched: Watched) -> str:
    """One line: how it stands, and what could not be seen."""
    blind = f" Blind: {', '.join(watched.blind)}." if watched.blind else ""
    return f"{watched.use_case}: {STATES[watched.state]}.{blind}"


def asked_words(run_id: str) -> str:
    """What becomes of a training run that was asked for."""
    return f"Asked for the training run {run_id}: ninefold orchestrator takes it in its turn."


def rows(use_case: UseCase, watched: Watched) -> Iterator[tuple[str, ...]]:
    """A line a window and version: first day, version, answered, truths, their delay, metric, baseline, over."""
    over: dict[str, list[str]] = {}
    for finding in watched.findings:
        if finding.outcome == "over":
            over.setdefault(finding.window, []).append(f"{finding.check} {finding.subject}".strip())
    for window in watched.windows[-SHOWN:]:
        lines = [j for j in watched.judged if j.window == window]
        found = over.get(window.label, [])
        words = ", ".join(found[:2]) + (f" and {len(found) - 2} more" if len(found) > 2 else "")
        if not lines:
            yield window.label[:10], "", "0", "", "", "", "", words
        for judged in lines:
            yield (
                window.label[:10],
                f"{judged.version}{f' {judged.cohort}' if judged.cohort else ''}",
                f"{judged.requests:,}",
                f"{judged.coverage:.1%}",
                _number(judged.delay_hours[0], " h"),
                _number(judged.value, ""),
                _number(judged.baseline, ""),
                words,
            )


def header(use_case: UseCase) -> tuple[str, ...]:
    """Names of the columns of ``rows``."""
    unit = f" ({use_case.metric.unit})" if use_case.metric.unit else ""
    return (
        use_case.monitor.window, "version", "requests", "truths", "after",
        f"{use_case.metric.name}{unit}", "baseline", "over its limit",
    )  # fmt: skip


def _number(value: float, unit: str) -> str:
    return "unknown" if math.isnan(value) else f"{value:,.3g}{unit}" if value < 1000 else f"{value:,.0f}{unit}"


def to_markdown(use_case: UseCase, watched: Watched) -> str:
    """The summary as Markdown, for the pipeline's page."""
    lines = [f"**{state_words(watched)}**", ""]
    if watched.missing:
        lines += [f"Limits rest on production alone: {watched.missing}.", ""]
    names = header(use_case)
    lines += [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows(use_case, watched)]
    lines += ["", "Alerts that stand:" if watched.standing else "No alert stands.", ""]
    lines += [f"- **{a.severity}** since {a.window}: {a.message}" for a in watched.standing]
    if watched.requested_run:
        lines += ["", asked_words(watched.requested_run)]
    return "\n".join(lines) + "\n"


def to_json(use_case: UseCase, watched: Watched) -> dict[str, Any]:
    """What a run's result file holds."""
    return {
        "use_case": watched.use_case,
        "state": watched.state,
        "summary": state_words(watched),
        "blind": list(watched.blind),
        "windows": [window.label for window in watched.windows],
        "header": list(header(use_case)),
        "rows": [list(row) for row in rows(use_case, watched)],
        "raised": [_alert(a) for a in watched.changes.raised],
        "cleared": [_alert(a) for a in watched.changes.cleared],
        "standing": [_alert(a) for a in watched.standing],
        "requested_run": watched.requested_run,
        "then": [asked_words(watched.requested_run)] if watched.requested_run else [],
    }


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id, "check": alert.check, "subject": alert.subject, "severity": alert.severity,
        "window": alert.window, "value": alert.value, "limit": alert.limit, "message": alert.message,
    }  # fmt: skip


def picture(use_case: UseCase, store: Store, *, windows_from: str, kind: str = "svg") -> bytes:
    """How the metric, the truths, the drift and the traffic developed, from the store's measurements.

    Args:
        use_case: Whose.
        store: Holds the measurements and the alerts.
        windows_from: First window that is drawn (``2013-07-01``).
        kind: ``svg`` or ``png``.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    metric, name = use_case.metric, use_case.name
    series: dict[tuple[str, int, str], dict[str, float]] = {}
    for m in store.metrics(name, windows_from=windows_from):
        # What was measured of no period (``offline``) sorts behind every date.
        if not m.cohort and m.value is not None and m.window[:1].isdigit():
            series.setdefault((m.name, m.version, m.slice), {})[m.window] = m.value
    labels = sorted({window for values in series.values() for window in values})
    figure = Figure(figsize=(9.2, 6.4), layout="constrained")
    axes = figure.subplots(3, 1, sharex=True, height_ratios=(3, 2, 2))
    at = [datetime.fromisoformat(label[:10]) for label in labels]
    colours = {0: "#8c929b"}

    def draw(ax: Any, values: Mapping[str, float], label: str, colour: str, **style: Any) -> None:
        ax.plot(at, [values.get(w, math.nan) for w in labels], label=label, color=colour, linewidth=1.6, **style)

    palette = iter(["#d1590a", "#1f6fb4", "#1a7f4b", "#7b4fa3"] * 20)
    for (what, version, of), values in sorted(series.items()):
        if of:
            continue
        if what == metric.name:
            colour = colours.setdefault(version, next(palette))
            draw(axes[0], values, f"version {version}", colour, marker="o", markersize=2.6)
        elif what == f"baseline.{metric.name}":
            draw(axes[0], values, "baseline, same requests", "#3f454d", linestyle="--", zorder=1)
    psi = {of: values for (what, _, of), values in series.items() if what == "psi" and of.startswith("input.")}
    over = [w for w in sorted(psi, key=lambda c: -max(psi[c].values())) if _was_over(series, w)][:4]
    for column, colour in zip(over, ("#b3261e", "#7b4fa3", "#1f6fb4", "#1a7f4b"), strict=False):
        draw(axes[1], psi[column], column.removeprefix("input."), colour)
    coverage = {k: v for k, v in series.items() if k[0] == "coverage"}
    for (_, version, _), values in sorted(coverage.items()):
        draw(axes[2], values, f"truths known, version {version}", colours.get(version, "#1f6fb4"))
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel(f"{metric.name}{f' ({metric.unit})' if metric.unit else ''}")
    axes[1].set_ylabel("PSI")
    axes[2].set_ylabel("share")
    axes[2].set_ylim(-0.02, 1.05)
    if over:
        axes[1].set_yscale("symlog", linthresh=0.1)
        axes[1].set_ylim(bottom=0)
    marked: dict[datetime, list[str]] = {}
    for alert in store.alerts(name):
        if labels and labels[0] <= alert.window <= labels[-1]:
            marked.setdefault(datetime.fromisoformat(alert.window[:10]), []).append(alert.check)
    for day, checks in sorted(marked.items()):
        for ax in axes:
            ax.axvline(day, color="#b3261e", linewidth=0.9, linestyle=":", zorder=0)
        named = ", ".join(dict.fromkeys(check.replace("_", " ") for check in checks))
        axes[0].annotate(
            named, (day, 1.0), xycoords=("data", "axes fraction"), xytext=(-2, -2), textcoords="offset points",
            fontsize=7, color="#b3261e", va="top", ha="right", rotation=90,
        )  # fmt: skip
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="#dfe3e8", linewidth=0.7)
        ax.tick_params(labelsize=8.5)
        if ax.get_legend_handles_labels()[1]:
            ax.legend(
                loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, frameon=False, fontsize=8, borderaxespad=0.1
            )
    out = io.BytesIO()
    with rc_context({"svg.hashsalt": "ninefold"}):
        figure.savefig(out, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else None)
    return out.getvalue()


def _was_over(series: Mapping[tuple[str, int, str], Mapping[str, float]], column: str) -> bool:
    subject = column.replace(".", " ", 1)
    return any(
        what == "check.drift" and of == subject and any(values.values()) for (what, _, of), values in series.items()
    )
