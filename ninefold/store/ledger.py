"""What was measured of a version, and which pipelines ran."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from ninefold.store.database import Database
from ninefold.store.rows import Measurement, Run, RunState, from_micros, to_micros
from ninefold.store.tables import metrics, runs
from ninefold.store.writing import insert_new


class Ledger(Database):
    """Measurements and runs."""

    def write_metrics(self, measurements: Iterable[Measurement]) -> int:
        """Keeps the measurements that are not kept yet; how many those were."""
        rows = [
            {
                "use_case": m.use_case,
                "version": m.version,
                "name": m.name,
                "cohort": m.cohort,
                "slice": m.slice,
                "window": m.window,
                "at_us": to_micros(m.at),
                "value": m.value,
            }
            for m in measurements
        ]
        with self.writing() as connection:
            return insert_new(connection, metrics, rows)

    def metrics(
        self,
        use_case: str,
        name: str | None = None,
        *,
        prefix: str | None = None,
        version: int | None = None,
        window: str | None = None,
        windows_from: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Measurement]:
        """Measurements, oldest first.

        Args:
            use_case: Name of the use case.
            name: Only this metric.
            prefix: Only metrics whose names begin so.
            version: Only this version.
            window: Only this window.
            windows_from: Only windows whose names are this or sort behind it: names that begin with a date.
            since: Least instant of measuring.
            until: Instant that lies just past the last one.
        """
        where = [metrics.c.use_case == use_case]
        for column, value in ((metrics.c.name, name), (metrics.c.version, version), (metrics.c.window, window)):
            if value is not None:
                where.append(column == value)
        if prefix is not None:
            where.append(metrics.c.name.startswith(prefix, autoescape=True))
        if windows_from is not None:
            where.append(metrics.c.window >= windows_from)
        if since is not None:
            where.append(metrics.c.at_us >= to_micros(since))
        if until is not None:
            where.append(metrics.c.at_us < to_micros(until))
        order = (
            metrics.c.at_us,
            metrics.c.name,
            metrics.c.version,
            metrics.c.window,
            metrics.c.cohort,
            metrics.c.slice,
        )
        with self.reading() as connection:
            return [_measurement(row) for row in connection.execute(sa.select(metrics).where(*where).order_by(*order))]

    def write_run(self, run: Run) -> bool:
        """Keeps a run that is not kept yet; whether it was new."""
        row = {
            "run_id": run.run_id,
            "pipeline": run.pipeline,
            "use_case": run.use_case,
            "state": run.state,
            "parameters": dict(run.parameters),
            "started_at_us": to_micros(run.started_at),
            "ended_at_us": None if run.ended_at is None else to_micros(run.ended_at),
            "step": run.step,
            "error": run.error,
        }
        with self.writing() as connection:
            return insert_new(connection, runs, [row]) == 1

    def update_run(
        self,
        run_id: str,
        *,
        state: RunState,
        step: str | None = None,
        error: str | None = None,
        expected: RunState | None = None,
    ) -> bool:
        """Moves a run on; one that ends gets the clock's time.

        Args:
            run_id: The run.
            state: Its new state.
            step: The step that it is in; None keeps the one before.
            error: Why it failed.
            expected: Only when this is its state: of several who take a requested run, one gets True.

        Returns:
            Whether it was changed.
        """
        values: dict[str, Any] = {"state": state, "error": error}
        if step is not None:
            values["step"] = step
        if state in ("succeeded", "failed"):
            values["ended_at_us"] = to_micros(self.clock.now())
        where = [runs.c.run_id == run_id]
        if expected is not None:
            where.append(runs.c.state == expected)
        with self.writing() as connection:
            return connection.execute(runs.update().where(*where).values(values)).rowcount == 1

    def run(self, run_id: str) -> Run | None:
        """One run; None when there is none of that id."""
        with self.reading() as connection:
            row = connection.execute(sa.select(runs).where(runs.c.run_id == run_id)).one_or_none()
        return None if row is None else _run(row)

    def runs(
        self,
        use_case: str | None = None,
        *,
        pipeline: str | None = None,
        state: RunState | None = None,
        limit: int = 100,
    ) -> list[Run]:
        """Runs, newest first; each argument narrows them."""
        where = []
        for column, value in ((runs.c.use_case, use_case), (runs.c.pipeline, pipeline), (runs.c.state, state)):
            if value is not None:
                where.append(column == value)
        query = sa.select(runs).where(*where).order_by(runs.c.started_at_us.desc(), runs.c.run_id).limit(limit)
        with self.reading() as connection:
            return [_run(row) for row in connection.execute(query)]


def _measurement(row: Any) -> Measurement:
    return Measurement(
        use_case=row.use_case,
        version=row.version,
        name=row.name,
        value=row.value,
        at=from_micros(row.at_us),
        window=row.window,
        cohort=row.cohort,
        slice=row.slice,
    )


def _run(row: Any) -> Run:
    return Run(
        run_id=row.run_id,
        pipeline=row.pipeline,
        use_case=row.use_case,
        state=row.state,
        started_at=from_micros(row.started_at_us),
        parameters=row.parameters,
        ended_at=None if row.ended_at_us is None else from_micros(row.ended_at_us),
        step=row.step,
        error=row.error,
    )
