"""Alerts that the monitor raised: each is raised once and cleared once, whoever runs at the same time."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ninefold.store.database import Database
from ninefold.store.rows import Alert, Told, from_micros, to_micros
from ninefold.store.tables import alerts
from ninefold.store.writing import insert_new


class Alerts(Database):
    """What is wrong, and what was."""

    def raise_alert(self, alert: Alert) -> bool:
        """Keeps an alert that is not kept yet; whether it was new."""
        row = {
            "alert_id": alert.alert_id,
            "use_case": alert.use_case,
            "check": alert.check,
            "subject": alert.subject,
            "severity": alert.severity,
            "window": alert.window,
            "value": alert.value,
            "limit": alert.limit,
            "message": alert.message,
            "raised_at_us": to_micros(alert.raised_at),
            "cleared_at_us": None if alert.cleared_at is None else to_micros(alert.cleared_at),
            "told": alert.told,
        }
        with self.writing() as connection:
            return insert_new(connection, alerts, [row]) == 1

    def clear_alert(self, alert_id: str, at: datetime) -> bool:
        """Marks an alert that stands as cleared; whether it stood."""
        where = (alerts.c.alert_id == alert_id, alerts.c.cleared_at_us.is_(None))
        with self.writing() as connection:
            return connection.execute(alerts.update().where(*where).values(cleared_at_us=to_micros(at))).rowcount == 1

    def mark_told(self, alert_id: str, told: Told) -> None:
        """Notes that a webhook took an alert's newest state."""
        with self.writing() as connection:
            connection.execute(alerts.update().where(alerts.c.alert_id == alert_id).values(told=told))

    def alerts(self, use_case: str, *, standing: bool = False, untold: bool = False, limit: int = 1_000) -> list[Alert]:
        """Alerts, newest first.

        Args:
            use_case: Name of the use case.
            standing: Only those that have not cleared.
            untold: Only those whose newest state no webhook took.
            limit: At most so many.
        """
        where: list[sa.ColumnElement[bool]] = [alerts.c.use_case == use_case]
        if standing:
            where.append(alerts.c.cleared_at_us.is_(None))
        if untold:
            state = sa.case((alerts.c.cleared_at_us.is_(None), "raised"), else_="cleared")
            where.append(sa.or_(alerts.c.told.is_(None), alerts.c.told != state))
        query = sa.select(alerts).where(*where).order_by(alerts.c.raised_at_us.desc(), alerts.c.alert_id).limit(limit)
        with self.reading() as connection:
            return [_alert(row) for row in connection.execute(query)]


def _alert(row: Any) -> Alert:
    return Alert(
        alert_id=row.alert_id,
        use_case=row.use_case,
        check=row.check,
        subject=row.subject,
        severity=row.severity,
        window=row.window,
        value=row.value,
        limit=row.limit,
        message=row.message,
        raised_at=from_micros(row.raised_at_us),
        cleared_at=None if row.cleared_at_us is None else from_micros(row.cleared_at_us),
        told=row.told,
    )
