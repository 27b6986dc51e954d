"""Our own search in a process of its own: ``python -m bench.search.ours FOLDER``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import monotonic

import numpy as np
import polars as pl


def main(folder: Path) -> None:
    """Builds, and predicts what is asked."""
    began = monotonic()
    from components.model_builder.build import build
    from ninefold.dataset import INPUT, columns_of
    from ninefold.package import load_predictor

    job = json.loads((folder / "job.json").read_text())
    result = build(
        str(folder / "training.parquet"), str(folder / "validation.parquet"), max_training_time=job["seconds"],
        models_url=str(folder / "models"), seed=job["seed"], threads=job["threads"],
    )  # fmt: skip
    took = monotonic() - began
    predictor = load_predictor(result.uri, result.digest)
    asked = columns_of(pl.read_parquet(folder / "asked.parquet"), INPUT)
    np.save(folder / "predictions.npy", predictor.predict_columns(asked))
    best: dict[str, float] = {}
    # Best first: what comes later of a family is no better.
    for row in result.leaderboard:
        if row.value is not None:
            best.setdefault(row.family, row.value)
    told = {
        "took": took, "model": result.chosen.family, "validation": best, "uri": result.uri, "digest": result.digest,
        "trials": result.trials,
        "shares": dict(result.chosen.params) if result.chosen.family == "ensemble" else {},
    }  # fmt: skip
    (folder / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
