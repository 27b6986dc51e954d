"""A project of one's own: a folder with a table, in which `ninefold new` is called as a person calls it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import usecases
from ninefold.loading import load_use_case
from ninefold.scaffold.commands import new
from ninefold.settings import settings
from ninefold.usecase import UseCase

ANSWERS = {"key": "parcel", "time": "handed_in_at", "target": "hours", "kind": "regression", "truth_delay": "3d"}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory whose folder ``usecases`` is found, as in a process that was started there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NINEFOLD_USECASES", str(tmp_path / "usecases"))
    settings.cache_clear()
    monkeypatch.setattr(usecases, "__path__", [*usecases.__path__, str(tmp_path / "usecases")])
    before = set(sys.modules)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("usecases.") and name not in before]:
        del sys.modules[name]
    load_use_case.cache_clear()


@pytest.fixture
def parcels() -> pl.DataFrame:
    """The table."""
    return _parcels(600)


def _parcels(rows: int) -> pl.DataFrame:
    """Parcels, five a day: how long they take depends on the depot and the weight, and on luck."""
    random = np.random.default_rng(4)
    depot = random.choice(["north", "south", "west"], rows)
    weight = random.gamma(2.0, 3.0, rows).round(2)
    hours = 10 + 8 * (depot == "west") + 2 * weight + random.normal(0, 4, rows)
    day = pl.date_range(pl.date(2024, 1, 1), pl.date(2024, 12, 31), eager=True)
    at = [f"{day[i // 5]}T{8 + i % 5:02}:30:00Z" for i in range(rows)]
    return pl.DataFrame(
        {
            "parcel": [f"{i:06}" for i in range(rows)],
            "handed_in_at": at,
            "Depot Name": depot,
            "weight": weight,
            "express": random.random(rows) < 0.3,
            "insured": ["" if i % 7 else "yes" for i in range(rows)],
            "hours": np.maximum(hours, 1).round(1),
        }
    )


@pytest.fixture
def make(project: Path) -> Callable[..., UseCase]:
    """Writes a table, makes a use case of it, and loads it."""

    def made(table: pl.DataFrame | str | bytes | None = None, name: str = "parcels", **options: Any) -> UseCase:
        if "file" not in options and "sql" not in options:
            options["file"] = project / "parcels.csv"
            if isinstance(table, bytes):
                options["file"].write_bytes(table)
            elif isinstance(table, str):
                options["file"].write_text(table)
            else:
                (_parcels(600) if table is None else table).write_csv(options["file"])
        new(name, **(ANSWERS | options))
        return load_use_case(name)

    return made
