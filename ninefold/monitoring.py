"""What a use case lets its monitor call wrong, and how soon."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ninefold.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorPolicy:
    """How production is watched.

    Args:
        window: What is judged as one: a ``day`` or a ``week`` (from Monday), in UTC.
        raise_after: Windows in a row over a limit that raise an alert.
        clear_after: Windows in a row within it that clear the alert.
        false_alarm_rate: Share of quiet windows in which a calibrated check may be over its limit, 0–1.
        reference_windows: Windows before the judged one that distributions are held against.
        minimum_windows: Fewer windows of history than this calibrate nothing: the check is blind.
        minimum_rows: Fewer rows than this in a window are not judged.
        minimum_coverage: Share of judged requests whose truth has to be known before a window's loss is judged, 0–1;
            past the deadline (the use case's ``truth_delay``) less than this is blindness, never a pass.
        robust_z: Distance from the same hour of the days before, in robust standard deviations, that is an anomaly.
        anomalous_hours: Hours of a window that have to be anomalous.
        retrain: Whether an alert about the loss asks for a training run.
    """

    window: Literal["day", "week"] = "day"
    raise_after: int = 2
    clear_after: int = 2
    false_alarm_rate: float = 0.01
    reference_windows: int = 28
    minimum_windows: int = 14
    minimum_rows: int = 100
    minimum_coverage: float = 0.8
    robust_z: float = 8.0
    anomalous_hours: int = 3
    retrain: bool = True

    def __post_init__(self) -> None:
        for name in ("raise_after", "clear_after", "reference_windows", "minimum_windows", "anomalous_hours"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"The monitor's {name} is {getattr(self, name)}.", remedy="Give at least 1.")
        if not 0 < self.false_alarm_rate < 1 or not 0 < self.minimum_coverage <= 1:
            raise ConfigurationError("The monitor's false_alarm_rate and minimum_coverage are shares.")
        if self.window not in ("day", "week"):
            raise ConfigurationError(f"The monitor's window is {self.window!r}.", remedy="Use day or week.")
