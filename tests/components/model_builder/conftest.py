"""Small data sets in which the truth is known, and a use case that they belong to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from ninefold.dataset import DatasetCard, write_dataset
from ninefold.features import window_feature_view
from ninefold.fields import Input, Metric
from ninefold.signature import Signature
from ninefold.windows.declaration import Window

CODE = '''
"""A use case for tests of the model builder."""
import numpy as np
from ninefold.fields import Field, Input, Metric
from ninefold.splits import HashSplit
from ninefold.usecase import UseCase

def baseline(columns):
    return columns["delay"]

USE_CASE = UseCase(
    name="toy", title="Toy", problem="regression", request=(Field(name="id", kind="category"),), key=("id",),
    target=Field(name="y", kind="number"), metric=Metric(name="mae", direction="minimize"), extract="x:y",
    split=HashSplit(), inputs=(Input(name="delay"),), derive=lambda columns: {}, baseline=baseline,
    decide=lambda request, value: None, block=lambda columns: columns["id"],
)
'''
MODULE = "ninefold_toy_use_case"

CITIES = [f"city {i}" for i in range(60)]
REGRESSION = (
    Input(name="delay"),
    Input(name="city", kind="category"),
    Input(name="wind"),
    Input(name="carrier", kind="category"),
    Input(name="noise"),
)
BINARY = (Input(name="age"), Input(name="plan", kind="category"), Input(name="calls"))
TEXT = (Input(name="review", kind="text"), Input(name="stars"))


def nulled(rng: np.random.Generator, column: Any, share: float) -> list[Any]:
    return [None if rng.random() < share else value for value in column.tolist()]


def regression(rows: int, seed: int) -> pl.DataFrame:
    """truth = delay + city's effect + |wind|, with nulls in wind and carrier."""
    rng = np.random.default_rng(seed)
    delay, wind = rng.normal(20, 30, rows).round(), rng.normal(0, 8, rows)
    city, carrier = rng.integers(0, 60, rows), rng.integers(0, 5, rows)
    effect = np.random.default_rng(99).normal(0, 10, 60)
    truth = delay + effect[city] + np.abs(wind) * (1 + (carrier == 2)) + rng.normal(0, 2, rows)
    return pl.DataFrame(
        {
            "input.delay": delay,
            "input.city": np.array(CITIES)[city],
            "input.wind": pl.Series(nulled(rng, wind, 0.1), dtype=pl.Float64),
            "input.carrier": nulled(rng, np.array(["AA", "B6", "DL", "UA", "ü"])[carrier], 0.1),
            "input.noise": rng.normal(size=rows),
            "truth": truth,
            "baseline": delay,
        }
    )


def binary(rows: int, seed: int) -> pl.DataFrame:
    """The chance of 1 rises with calls and falls with age, more so in one plan."""
    rng = np.random.default_rng(seed)
    age, calls, plan = rng.uniform(18, 80, rows), rng.poisson(3, rows), rng.integers(0, 3, rows)
    logit = 0.6 * calls - 0.05 * age * (1 + (plan == 1)) + 1.5
    return pl.DataFrame(
        {
            "input.age": pl.Series(nulled(rng, age, 0.05), dtype=pl.Float64),
            "input.plan": nulled(rng, np.array(["basic", "gold", "none"])[plan], 0.05),
            "input.calls": calls.astype(float),
            "truth": (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float),
            "baseline": np.clip(calls / 10, 0, 1),
        }
    )


def text(rows: int, seed: int) -> pl.DataFrame:
    """Good words, bad words, and a pair ("not good") that turns a good word bad."""
    rng = np.random.default_rng(seed)
    filler = [
        "the",
        "Food",
        "was",
        "it",
        "and",
        "café",
        "naïve",
        "日本",
        "don't",
        "a1",
        "ÜBER",
        "“quoted”",
        "x-y",
        "🙂",
    ]
    texts, truths = [], []
    for _ in range(rows):
        truth = int(rng.random() < 0.6)
        words = list(rng.choice(filler, int(rng.integers(0, 12))))
        if rng.random() < 0.9:
            mark = rng.choice(["GOOD", "great"]) if truth else rng.choice(["bad", "not good", "Awful!"])
            words.insert(int(rng.integers(0, len(words) + 1)), str(mark))
        texts.append(" ".join(words) if rng.random() < 0.97 else None)
        truths.append(float(truth))
    return pl.DataFrame(
        {
            "input.review": pl.Series(texts, dtype=pl.String),
            "input.stars": rng.normal(size=rows),
            "truth": truths,
            "baseline": np.full(rows, 0.6),
        }
    )


KINDS: dict[str, tuple[Callable[[int, int], pl.DataFrame], tuple[Input, ...], str, Metric, str | None]] = {
    "regression": (regression, REGRESSION, "regression", Metric(name="mae", direction="minimize", unit="min"), "delay"),
    "binary": (binary, BINARY, "binary", Metric(name="auc", direction="maximize"), None),
    "text": (text, TEXT, "binary", Metric(name="log_loss", direction="minimize"), None),
}


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Writes a training and a validation set of a kind and returns their URIs, and where packages go."""
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / f"{MODULE}.py").write_text(CODE)
    monkeypatch.syspath_prepend(folder)

    def write(
        kind: str,
        *,
        rows: int = 1500,
        validation_rows: int = 600,
        change: Callable[[pl.DataFrame], pl.DataFrame] | None = None,
        model_format: Any = "onnx",
    ) -> SimpleNamespace:
        create, inputs, problem, metric, offset = KINDS[kind]
        window = Window(name="gain", stream="s", key=("id",), value="v", length=timedelta(hours=6))
        signature = Signature(
            use_case=f"{MODULE}:USE_CASE", problem=problem, inputs=inputs, views=(window_feature_view(window),),
            derive_digest="digest", target="y", unit="min" if problem == "regression" else None,
        )  # fmt: skip
        uris = []
        for part, count, seed in (("training", rows, 1), ("validation", validation_rows, 2)):
            frame = create(count, seed).with_columns(
                pl.int_range(count).cast(pl.String).alias("key"),
                pl.lit("b").alias("block"),
                pl.lit(1.0).alias("weight"),
            )
            uri = str(tmp_path / f"{kind}-{part}.parquet")
            card = DatasetCard(signature=signature, metric=metric, offset=offset, part=part, model_format=model_format)
            write_dataset(uri, change(frame) if change else frame, card)
            uris.append(uri)
        return SimpleNamespace(train=uris[0], validation=uris[1], models=str(tmp_path / "models"))

    return write
