"""Arrivals tuned jointly against the declared window lengths, each with the same seconds of search.

``python -m bench.joint_tuning --seconds 120 240 --seeds 0 1 2``: trained January to May, chosen on June, tested on
July. It takes longer than all other benches, so it is no part of ``make bench``.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

from components.collector.extract import extract
from components.featurizer.steps import featurize_parts
from components.model_builder.build import build
from components.preparer.steps import prepare_parts, split_snapshot
from components.tuner.data import write_features
from components.tuner.outcome import named
from components.tuner.steps import choose_lengths, plan, read_outcomes, search_branch, search_further
from components.tuner.task import Features
from ninefold.dataset import INPUT, PARTS, columns_of, read_dataset, to_numpy
from ninefold.loading import load_use_case
from ninefold.metrics import compute
from ninefold.package import load_predictor
from ninefold.store import open_store

NAME, UNTIL = "arrivals", "2013-08-01"
AT_ONCE = 2
"""Branches that run at the same time, as Kubeflow Pipelines' local runner does."""


class Months:
    """The snapshot, divided, and data sets of it at any lengths, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.snapshot = folder / "snapshot"
        with open_store(f"sqlite:///{folder / 'store.db'}") as store:
            extract(load_use_case(NAME), store, self.snapshot)
        self.parts = {name: str(folder / f"{name}.parquet") for name in PARTS}
        self.notes = str(folder / "notes")
        split_snapshot(NAME, UNTIL, str(self.snapshot), {**self.parts, "notes": self.notes})
        self._made: dict[str, dict[str, str]] = {}

    def sets(self, lengths: dict[str, str]) -> dict[str, str]:
        """``training``, ``validation`` and ``test`` at these lengths, as the training pipeline makes them."""
        name = named(lengths)
        if name not in self._made:
            folder = Path(tempfile.mkdtemp(dir=self.folder))
            raw = {part: str(folder / f"raw-{part}") for part in (*PARTS, "live_test")}
            featurize_parts(NAME, lengths, {}, str(self.snapshot), self.parts, raw)
            self._made[name] = {part: str(folder / part) for part in (*PARTS, "report")}
            prepare_parts(NAME, raw, self.notes, self._made[name])
        return self._made[name]

    def tested(self, package: Path, digest: str, lengths: dict[str, str]) -> float:
        """The metric on the test set."""
        frame, card = read_dataset(self.sets(lengths)["test"])
        predicted = load_predictor(package / digest, digest).predict_columns(columns_of(frame, INPUT))
        return float(compute(card.metric.name, to_numpy(frame["truth"]), predicted))


def declared(months: Months, seconds: float, seed: int) -> dict[str, Any]:
    """A search at the declared lengths."""
    sets = months.sets({})
    folder = Path(tempfile.mkdtemp(dir=months.folder))
    result = build(
        sets["training"], sets["validation"], max_training_time=seconds, models_url=str(folder), seed=seed, threads=2
    )
    test = months.tested(folder, result.digest, {})
    return {"how": "declared", "validation": result.chosen.value, "test": test, "lengths": "as declared"}


def tuned(months: Months, seconds: float, seed: int, branches: int) -> dict[str, Any]:
    """Branches, then the search that follows the best."""
    items = plan(NAME, branches, seconds, seed)
    folder = Path(tempfile.mkdtemp(dir=months.folder))
    features = Features(use_case=NAME, parts=months.parts, features=str(folder / "features"), notes=months.notes)
    write_features(NAME, [item["lengths"] for item in items], str(months.snapshot), months.parts, features.features)
    folders = [str(folder / f"branch-{item['number']}") for item in items]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda item, where: search_branch(item, seed, features, where), items, folders))
    chosen = choose_lengths(folders, seconds)
    sets = months.sets(chosen["lengths"])
    files = {name: str(folder / name) for name in ("package", "tuning", "table")}
    digest, _ = search_further(
        folders=folders, seconds=chosen["seconds"], seed=seed, training=sets["training"],
        validation=sets["validation"], **files,
    )  # fmt: skip
    document = json.loads(Path(files["tuning"]).read_text())
    return {
        "how": "tuned",
        "validation": document["winner"]["value"],
        "test": months.tested(Path(files["package"]), digest, chosen["lengths"]),
        "lengths": named(chosen["lengths"]),
        "left": chosen["seconds"],
        "branches": [(named(one.lengths), one.value, one.trials) for one in read_outcomes(folders).values()],
    }


def _spent() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


def main() -> None:
    """Measures in turns, and prints a line of JSON each."""
    parser = argparse.ArgumentParser(prog="python -m bench.joint_tuning")
    parser.add_argument("--seconds", nargs="+", type=float, default=[120.0, 240.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--branches", type=int, default=4)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        months = Months(Path(folder))
        for seconds in asked.seconds:
            for seed in asked.seeds:
                for measure in (declared, lambda *given: tuned(*given, asked.branches)):
                    began, spent = monotonic(), _spent()
                    line = measure(months, seconds, seed)
                    took = {"seconds": seconds, "seed": seed, "took": monotonic() - began, "cpu": _spent() - spent}
                    print(json.dumps({**took, **line}), flush=True)


if __name__ == "__main__":
    main()
