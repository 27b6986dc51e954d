"""The common ground of all faults: real flights up to July, featurized, and quick models of them, packaged and judged.

History is January to May for training, June for validation, July for the test, by the house's own split and preparer.
A quick model is the model builder's boosting family, stopped after a fixed number of rounds, exported and held to its
parity gate; the gate that judges it is the evaluator's.
"""

from __future__ import annotations

import dataclasses
import functools
import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from components.collector.extract import extract
from components.evaluator.evidence import Answers, gather
from components.evaluator.gate import GateDecision, gate
from components.evaluator.latency import measure_latency
from components.evaluator.testset import TestSet, read_test_set
from components.featurizer.entity_keys import entity_keys
from components.featurizer.historical import featurize
from components.model_builder.families import Control
from components.model_builder.families.boosting import Boosting
from components.model_builder.onnx_export import to_onnx
from components.model_builder.parity import check_parity
from components.model_builder.statistics import training_statistics
from components.model_builder.table import read_tables
from components.preparer.prepare import Prepared, prepare
from components.preparer.split import split
from ninefold.dataset import INPUT, DatasetCard, columns_of, write_dataset
from ninefold.loading import load_use_case
from ninefold.package import MODEL, Predictor, load_predictor, write_package
from ninefold.settings import Settings
from ninefold.signature import PackageManifest
from ninefold.store import open_store
from ninefold.usecase import UseCase

Array = np.ndarray[Any, Any]

ROUNDS = 60
THREADS = 1
"""One: two that wait for each other take longer wherever something else wants a core."""
VALIDATION_FROM, TEST_FROM, UNTIL = (datetime(2013, month, 1, tzinfo=UTC) for month in (6, 7, 8))


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model in its package.

    Args:
        predictor: The package, verified and loaded.
        digest: Its digest.
        uri: Where it lies.
    """

    predictor: Predictor
    digest: str
    uri: str

    @property
    def manifest(self) -> PackageManifest:
        """What the package says of itself."""
        return self.predictor.manifest

    def predict(self, frame: pl.DataFrame, **instead: Array) -> Array:
        """Its answers to a data set's rows; ``instead`` replaces inputs by name."""
        columns = {**columns_of(frame, INPUT), **instead}
        return np.asarray(self.predictor.predict_columns(columns), dtype=np.float64)


class Flights:
    """Flights up to the end of July, in a home of their own.

    Args:
        home: An empty folder.
        like: Flights whose history this is; None takes the source's.
        instead: File of the history (``views/weather``) → other rows for it.
    """

    def __init__(
        self, home: Path, *, like: Flights | None = None, instead: Mapping[str, pl.DataFrame] | None = None
    ) -> None:
        self.settings = Settings(home=home)
        self.use_case: UseCase = load_use_case("arrivals")
        if like is None:
            with closing(open_store(self.settings.store_url)) as store:
                extract(self.use_case, store, self.data)
        else:
            shutil.copytree(like.data, self.data)
        for name, rows in (instead or {}).items():
            rows.write_parquet(self.data / f"{name}.parquet")
        self.requests = pl.read_parquet(self.data / "requests.parquet").filter(pl.col("departed_at") < UNTIL)
        self.truths = pl.read_parquet(self.data / "truths.parquet")
        self.frame, self.card = self.featurized(self.use_case)
        self.parts = self.divided(self.frame, self.use_case)

    @property
    def data(self) -> Path:
        """Where history lies."""
        return self.settings.folder("data") / self.use_case.name

    def featurized(self, use_case: UseCase) -> tuple[pl.DataFrame, DatasetCard]:
        """All requests with the features that a use case declares, by the point-in-time join."""
        frame, card = featurize(use_case, self.requests, self.truths, None, self.settings)
        key = list(use_case.key)
        known = self.truths.select(entity_keys(self.truths, key), truth_known_at="known_at")
        return frame.join(known.unique("key", keep="last"), on="key", how="left", maintain_order="left"), card

    def divided(self, frame: pl.DataFrame, use_case: UseCase, until: datetime = UNTIL) -> Prepared:
        """Training, validation and test, as the use case declares."""
        return prepare(split(frame, use_case, until), use_case)

    def learn(self, name: str, parts: Prepared, card: DatasetCard, *, seed: int = 0, rounds: int = ROUNDS) -> Model:
        """Trains, exports, holds to parity and packages a quick model."""
        paths = {
            part: str(self.settings.home / "sets" / f"{name}-{part}.parquet") for part in ("training", "validation")
        }
        for part, path in paths.items():
            write_dataset(path, getattr(parts, part), dataclasses.replace(card, part=part))
        task, _, training, validation = read_tables(paths["training"], paths["validation"], None)
        family = Boosting(task, training, validation, seed=seed, threads=THREADS)
        done = iter(range(rounds))
        fitted = family.fit(family.default, Control(lambda: next(done, None) is None, lambda step, value: False))
        graph = to_onnx(task, fitted)
        manifest = PackageManifest(
            format="onnx", signature=card.signature, statistics=training_statistics(task, training),
            training={"family": family.name, "params": dict(family.default), "rounds": fitted.rounds, "seed": seed},
        )  # fmt: skip
        parity = check_parity(task, fitted, manifest, graph, validation)
        noted = {**manifest.training, "parity": dataclasses.asdict(parity)}
        digest, uri = write_package(
            self.settings.models_url, dataclasses.replace(manifest, training=noted), {MODEL: graph}
        )
        return Model(predictor=load_predictor(uri, digest), digest=digest, uri=uri)

    def test_set(self, name: str, test: pl.DataFrame, card: DatasetCard) -> TestSet:
        """A test set, as the evaluator reads it."""
        path = str(self.settings.home / "sets" / f"{name}-test.parquet")
        write_dataset(path, test, dataclasses.replace(card, part="test"))
        return read_test_set(path)

    def gate(self, use_case: UseCase, model: Model, test: TestSet, incumbent: Model | None = None) -> GateDecision:
        """What the gate says of a model."""
        rows = test.rows(model.manifest.signature.inputs)
        evidence = gather(
            use_case, test,
            candidate=Answers(
                version=None, prediction=np.asarray(model.predictor.predict_columns(test.inputs), dtype=np.float64),
                # By CPU time: how busy the machine is says nothing about the model.
                latency=measure_latency(model.predictor.predict_rows, rows, stopwatch=time.process_time),
            ),
            incumbent=None if incumbent is None else Answers(
                version=1, prediction=np.asarray(incumbent.predictor.predict_columns(test.inputs), dtype=np.float64)
            ),
            incumbent_version=None if incumbent is None else 1,
            statistics=model.manifest.statistics,
            parity="parity" in model.manifest.training,
        )  # fmt: skip
        return gate(use_case.gates, evidence)

    @functools.cached_property
    def honest(self) -> Model:
        """The model without a fault."""
        return self.learn("honest", self.parts, self.card)

    @property
    def july(self) -> pl.DataFrame:
        """The test set's rows."""
        return self.parts.test


def mae(truth: pl.Series | Array, prediction: Array) -> float:
    """Mean absolute error, in minutes."""
    return float(np.mean(np.abs(np.asarray(truth) - prediction)))
