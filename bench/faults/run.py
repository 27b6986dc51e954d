"""Plants all faults, one after the other, each on a line of its own as it ends."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import structlog

from bench.faults.row import Fault


def plant_all() -> list[Fault]:
    """Plants every fault in a home of its own, and removes it."""
    _quiet()
    # Imported where it is quiet: Feast speaks while it is imported.
    from bench.faults import candidates, export, learning, packages, skew, source, watching
    from bench.faults.flights import Flights
    from bench.faults.live import asked_live
    from bench.faults.production import FAULTY_FROM, WATCHED_UNTIL

    began = time.monotonic()

    def tell(words: str) -> None:
        print(f"  {time.monotonic() - began:4.0f} s  {words}", flush=True)

    found: list[Fault] = []
    with tempfile.TemporaryDirectory(prefix="ninefold-faults-") as name:
        folder = Path(name)
        flights = Flights(folder / "flights")
        tell(f"{len(flights.frame):,} flights, featurized")
        flights.learn("honest", flights.parts, flights.card)
        twin = flights.learn("other_seed", flights.parts, flights.card, seed=1)
        asked = asked_live(flights, FAULTY_FROM, WATCHED_UNTIL, name="honest")
        tell(f"the model without a fault, one of another seed, and {len(asked):,} flights asked live")

        def exported() -> Iterator[Fault]:
            yield export.wrong_export(flights)

        for fault in chain(
            source.faults(flights.use_case), learning.faults(flights, twin), exported(),
            skew.faults(flights, folder, asked), watching.faults(flights, folder, asked),
            candidates.faults(flights, twin), packages.faults(flights, folder),
        ):  # fmt: skip
            found.append(fault)
            state = "caught" if fault.ok else "NOT caught" if not fault.caught else "FALSE ALARM"
            tell(f"{state}: {fault.name} ({fault.kind}: {fault.check})".replace("`", ""))
    return found


def _quiet() -> None:
    """Leaves standard output to the bench: what components log of planted faults is what is looked for."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for name in ("feast", "optuna", "skl2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
