"""Faults of what is served: a package that was damaged, and code that is not the code that a model was trained with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from bench.faults.flights import Array, Flights, Model, mae
from bench.faults.row import Fault
from ninefold.dataset import FEATURE, REQUEST, columns_of
from ninefold.errors import PackageError
from ninefold.fields import Columns
from ninefold.online import open_online_store
from ninefold.package import MODEL, load_predictor
from ninefold.routes import RouteTable, Variant, write_routes
from ninefold.usecase import UseCase
from serving.front_end.metrics import Metrics
from serving.front_end.versions import Versions
from usecases.arrivals.inputs import derive


def faults(flights: Flights, folder: Path) -> Iterator[Fault]:
    """Both."""
    yield _damaged(flights.honest, folder)
    yield _other_derive(flights, folder)


def _damaged(model: Model, folder: Path) -> Fault:
    """One bit of the graph is another one."""
    copy = folder / "damaged"
    shutil.copytree(model.uri, copy)
    graph = bytearray((copy / MODEL).read_bytes())
    graph[len(graph) // 2] ^= 1
    (copy / MODEL).write_bytes(graph)
    try:
        load_predictor(copy, model.digest)
    except PackageError as error:
        caught, words = (
            True,
            error.message.replace(str(copy), "…").replace(model.manifest.files[MODEL], "the listed one"),
        )
    else:
        caught, words = False, "It is served."
    shutil.copyfile(Path(model.uri) / MODEL, copy / MODEL)
    whole = load_predictor(copy, model.digest)
    return Fault(
        name="one bit of a package is damaged", kind="schema", check="the package's digest", caught=caught, words=words,
        twin_passes=whole.manifest == model.manifest, twin="The same folder with the bit as it was is loaded.",
    )  # fmt: skip


def clocks_of_utc(columns: Columns) -> dict[str, Array]:
    """What somebody made of ``derive``: the clock of departures is that of UTC."""
    made = derive(columns)
    for name in ("departure_clock", "actual_departure_clock"):
        made[name] = (made[name] + 240.0) % 1440.0
    return made


def _other_derive(flights: Flights, folder: Path) -> Fault:
    """The front end runs another ``derive`` than the model was trained with."""
    other = replace(flights.use_case, derive=clocks_of_utc)
    july, model = flights.july, flights.honest
    columns = {**columns_of(july, REQUEST), **columns_of(july, FEATURE)}
    skewed: dict[str, Any] = dict(other.inputs_of(columns))
    problem = _served(flights, other, folder / "other.json")
    honest = _served(flights, flights.use_case, folder / "routes.json")
    return Fault(
        name="the front end runs another `derive` than the model learned by (clocks of UTC)", kind="schema",
        check="the signature's digest of derive", caught=problem is not None, words=problem or "It is served.",
        twin_passes=honest is None, twin=honest or "The front end serves it.",
        offline=mae(july["truth"], model.predict(july)), online=mae(july["truth"], model.predict(july, **skewed)),
    )  # fmt: skip


def _served(flights: Flights, use_case: UseCase, routes: Path) -> str | None:
    """Why a front end of this code does not take the model's routes; None where it does."""
    model = flights.honest
    variant = Variant(version=1, url="http://127.0.0.1:9", package=model.uri, digest=model.digest)
    write_routes(routes, RouteTable(use_case=use_case.name, revision=1, live=1, variants={1: variant}))
    with closing(open_online_store(f"sqlite:///{routes.with_suffix('.db')}")) as online:
        versions = Versions(
            use_case, routes=routes, online=online, model_key="", model_timeout=1.0, stale_after=timedelta(minutes=5),
            metrics=Metrics(use_case.name),
        )  # fmt: skip
        problem = versions.problem
        versions.close()
    return problem
