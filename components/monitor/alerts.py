"""From what was found to what is said: alerts with hysteresis, and where they go.

A check is over, within, or blind. Only being within clears an alert: blindness neither raises by itself nor clears.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog

from ninefold.clock import format_instant
from ninefold.records import derived_id
from ninefold.store import Alert, Store
from ninefold.store.rows import Severity

log = structlog.get_logger()

Outcome = Literal["over", "within", "blind"]

AT_ONCE = frozenset({"no_predictions", "no_truths", "report", "requests", "fallback_share", "error_share",
                     "latency_p99_ms", "stale"})  # fmt: skip
"""Checks that one window raises: what they find is gone, or broken, and not a matter of degree."""
QUALITY = frozenset({"loss", "behind_baseline"})
"""Checks whose alert asks for a training run."""
CRITICAL = QUALITY | frozenset({"no_predictions", "no_truths", "report", "error_share"})

_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a check found in a window.

    Args:
        check: What was looked at.
        subject: Of what; empty for the whole use case.
        window: Label of the window.
        outcome: Over its limit, within it, or blind.
        value: What was measured; None where nothing could be.
        limit: What it is held against; None where there is none.
        message: One sentence for people.
    """

    check: str
    subject: str
    window: str
    outcome: Outcome
    value: float | None
    limit: float | None
    message: str

    @property
    def severity(self) -> Severity:
        """``critical`` where answers are worse or missing, else ``warning``."""
        return "critical" if self.check in CRITICAL else "warning"


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of trouble: the place in the row of outcomes where it was raised, and where it cleared, if it did."""

    raised: int
    cleared: int | None


def episodes(outcomes: Sequence[Outcome], raise_after: int, clear_after: int) -> list[Episode]:
    """Where a row of outcomes, oldest first, raises an alert and where it clears.

    Args:
        outcomes: One a window.
        raise_after: Over so many times in a row, blind ones left out, raises.
        clear_after: Within so many times in a row, blind ones left out, clears.
    """
    found: list[Episode] = []
    over = within = 0
    for place, outcome in enumerate(outcomes):
        if outcome == "blind":
            continue
        over, within = (over + 1, 0) if outcome == "over" else (0, within + 1)
        standing = bool(found) and found[-1].cleared is None
        if not standing and over >= raise_after:
            found.append(Episode(place, None))
        elif standing and within >= clear_after:
            found[-1] = Episode(found[-1].raised, place)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What a run changed: alerts that it raised, and alerts that it cleared."""

    raised: tuple[Alert, ...]
    cleared: tuple[Alert, ...]


def apply_findings(
    store: Store, use_case: str, history: Iterable[Finding], *, raise_after: int, clear_after: int, now: datetime
) -> Changes:
    """Raises and clears alerts by the outcomes of all windows that are known. Repeating it changes nothing.

    Args:
        store: Keeps the alerts.
        use_case: Name of the use case.
        history: Findings, the newest of each check, subject and window; in any order.
        raise_after: See ``episodes``; checks in ``AT_ONCE`` need one window.
        clear_after: See ``episodes``.
        now: When they are raised and cleared.
    """
    rows: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(history, key=lambda f: f.window):
        rows.setdefault((finding.check, finding.subject), []).append(finding)
    raised: list[Alert] = []
    cleared: list[Alert] = []
    standing = store.alerts(use_case, standing=True)
    for (check, subject), findings in rows.items():
        soon = 1 if check in AT_ONCE else raise_after
        mine = [a for a in standing if (a.check, a.subject) == (check, subject)]
        for episode in episodes([f.outcome for f in findings], soon, clear_after):
            alert = _alert(use_case, findings[episode.raised], now, over=episode.cleared is not None)
            # An alert that stands from a window before those that are known is the same trouble.
            if not (mine and episode.cleared is None) and store.raise_alert(alert):
                raised.append(alert)
        if not _stands(findings, soon, clear_after):
            cleared += [a for a in mine if store.clear_alert(a.alert_id, now)]
    for alert in raised:
        log.error("alert raised", check=alert.check, subject=alert.subject, window=alert.window, message=alert.message)
    for alert in cleared:
        log.info("alert cleared", check=alert.check, subject=alert.subject)
    return Changes(raised=tuple(raised), cleared=tuple(cleared))


def _stands(findings: Sequence[Finding], raise_after: int, clear_after: int) -> bool:
    """Whether an alert of these outcomes stands, or would still stand if it had been raised before them."""
    outcomes = [f.outcome for f in findings if f.outcome != "blind"]
    known = episodes(outcomes, raise_after, clear_after)
    if known and known[-1].cleared is None:
        return True
    return outcomes[-clear_after:] != ["within"] * clear_after


def _alert(use_case: str, finding: Finding, now: datetime, *, over: bool) -> Alert:
    return Alert(
        alert_id=derived_id(use_case, finding.check, finding.subject, finding.window),
        use_case=use_case,
        check=finding.check,
        subject=finding.subject,
        severity=finding.severity,
        window=finding.window,
        value=finding.value,
        limit=finding.limit,
        message=finding.message,
        raised_at=now,
        # A run over windows that are long past finds trouble that has ended: it is kept, as ended.
        cleared_at=now if over else None,
    )


def tell_webhook(store: Store, use_case: str, url: str, *, seconds: float) -> int:
    """Posts every alert whose newest state no webhook took; how many it took.

    The run never fails by it: what could not be told is told by the next run.
    """
    import httpx

    told = 0
    with httpx.Client(timeout=seconds) as client:
        for alert in reversed(store.alerts(use_case, untold=True)):
            state: Literal["raised", "cleared"] = "raised" if alert.cleared_at is None else "cleared"
            if not _post(client, url, {**_document(alert), "state": state}):
                break
            store.mark_told(alert.alert_id, state)
            told += 1
    return told


def _post(client: Any, url: str, document: dict[str, Any]) -> bool:
    import httpx

    reason = ""
    for _ in range(_TRIES):
        try:
            response = client.post(url, json=document)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = type(error).__name__
            continue
        if response.is_success:
            return True
        reason = f"HTTP {response.status_code}"
        if response.is_client_error:
            break
    # The address may hold a token, so it is not logged.
    log.warning("the webhook took no alert; the next run tries again", reason=reason, alert=document["alert_id"])
    return False


def _document(alert: Alert) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "use_case": alert.use_case,
        "check": alert.check,
        "subject": alert.subject,
        "severity": alert.severity,
        "window": alert.window,
        "value": alert.value,
        "limit": alert.limit,
        "message": alert.message,
        "raised_at": format_instant(alert.raised_at),
        "cleared_at": format_instant(alert.cleared_at) if alert.cleared_at else None,
    }
