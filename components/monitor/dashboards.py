"""The dashboard that `ninefold monitor ui` opens on: how the metrics develop over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from components.monitor.reference import OUTPUT
from ninefold.usecase import UseCase

MOST_LINES = 8
"""Lines of one panel; more are more panels."""


def dashboard(use_case: UseCase, inputs: Sequence[str]) -> Any:
    """One tab (Evidently's open edition shows no more): quality, traffic, answers, nulls and drift, by window.

    Args:
        use_case: Whose.
        inputs: Columns whose nulls and drift are drawn.
    """
    from evidently.sdk.models import DashboardModel, DashboardTabModel, PanelMetric
    from evidently.sdk.panels import line_plot_panel

    from components.monitor.evidently_report import loss_name

    def line(metric: str, legend: str, **labels: str) -> Any:
        return PanelMetric(metric=metric, legend=legend, metric_labels=labels)

    unit = f" ({use_case.target.unit})" if use_case.target.unit else ""
    panels = [
        line_plot_panel(
            title=f"{loss_name(use_case)}{unit}, by window",
            description="Of the version that answers, and of the baseline on the same requests; truths known so far.",
            values=[
                line("MeanValue", "answered", column="loss"),
                line("MeanValue", "baseline", column="baseline_loss"),
            ],
        ),
        line_plot_panel(title="Requests", values=[line("RowCount", "requests")], size="half"),
        line_plot_panel(
            title="Shares",
            values=[
                line("MeanValue", "truths known", column="truth_known"),
                line("MeanValue", "fallback", column="fell_back"),
            ],
            size="half",
        ),
        line_plot_panel(
            title=f"Answers{unit}",
            values=[line("QuantileValue", f"p{p}", column=OUTPUT, quantile=f"0.{p // 10}") for p in (10, 50, 90)],
            size="half",
        ),
        line_plot_panel(
            title="Latency (ms)",
            values=[line("QuantileValue", "p99", column="latency_ms", quantile="0.99")],
            size="half",
        ),
    ]
    for start in range(0, len(inputs), MOST_LINES):
        part = inputs[start : start + MOST_LINES]
        named = f"{part[0]} … {part[-1]}" if len(part) > 1 else part[0]
        panels.append(
            line_plot_panel(
                title=f"Drift: {named}", values=[line("ValueDrift", c, column=c) for c in part], size="half"
            )
        )
        panels.append(
            line_plot_panel(
                title=f"Share of nulls: {named}",
                values=[line("MissingValueCount", c, column=c, value_type="share") for c in part],
                size="half",
            )
        )
    tab = DashboardTabModel(title="Over time", panels=[panel.id for panel in panels])
    return DashboardModel(tabs=[tab], panels=panels)
