"""Labels that a model of reviews needs, picked by active learning and at random: simulated on all 5,000 reviews.

Each seed cuts the reviews into five stratified folds. A fold is tested once; in the other four nobody knows a label at
first. 200 labels are drawn at random; then round after round a model is trained on what is labelled, and the next batch
is picked: by the product's own ``pick`` with its default mix, by its uncertainty sampler alone, or at random. The curve
of a seed is the mean AUC over its folds, and what it needs are the labels where the curve first comes within 0.01 of
the model that knows all labels of the four folds. All ways of picking start from the same 200 labels.

The ratio is that of the medians over seeds; its interval a bootstrap of seeds, both ways of picking together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console

from bench.words_fast import FastWords
from components.labeller.sampling.diversity import traits_of_text
from components.labeller.sampling.mix import Mix
from components.labeller.sampling.pick import pick
from components.labeller.sampling.pool import Pool
from ninefold.metrics import auc
from usecases.reviews.etl import reviews

SEEDS, FOLDS = 20, 5
FIRST, BATCH = 200, 100
GRID = np.arange(FIRST, 4_001, BATCH)
FAR_ENOUGH = 2_600
"""Labels at which the curves of what is picked end; chance's goes on to all."""
WITHIN = 0.01
"""AUC below that of the model that knows all labels."""
BOOTSTRAPS = 10_000
MOST_RATIO = 0.75
MIXES = {"the default mix": Mix(), "uncertainty alone": Mix.parse("uncertainty=1"), "at random": Mix.parse("random=1")}
RANDOM = "at random"
SHOWN = (200, 400, 600, 1_000, 1_400, 1_800, 2_400, 4_000)

Array = np.ndarray[Any, Any]


def stratified(truth: Array, seed: int) -> Array:
    """Fold of each row, with the same share of ones in every fold."""
    dice = np.random.default_rng(seed)
    fold = np.empty(len(truth), dtype=int)
    for value in (0.0, 1.0):
        rows = dice.permutation(np.flatnonzero(truth == value))
        fold[rows] = np.arange(len(rows)) % FOLDS
    return fold


def curve(words: FastWords, truth: Array, traits: Any, train: Array, test: Array, mix: Mix, seed: Any) -> list[float]:
    """AUC on the test rows after 200, 300, … labels of the training rows: of chance up to all of them."""
    dice = np.random.default_rng(seed)
    labelled = dice.choice(train, FIRST, replace=False)
    counts, found = [], []
    while True:
        model = words.fit(labelled, truth[labelled])
        counts.append(len(labelled))
        found.append(auc(truth[test], words.predict(model, test), np.ones(len(test))))
        rest = np.setdiff1d(train, labelled)
        if not len(rest) or (mix.random < 1 and len(labelled) > FAR_ENOUGH):
            # Folds differ by a row, and where only copies are left a batch may be smaller.
            return np.interp(GRID, counts, found, right=np.nan if len(rest) else None).tolist()
        pool = Pool(
            problem="binary", keys=rest.tolist(), prediction_ids=[None] * len(rest),
            prediction=words.predict(model, rest), traits=[traits[row] for row in rest],
        )  # fmt: skip
        picks = pick(pool, BATCH, mix, int(dice.integers(2**31)))
        labelled = np.concatenate([labelled, np.array([one.key for one in picks], dtype=int)])


def needed(values: Sequence[float], enough: float) -> float:
    """Labels at which a curve first has enough; infinite where it ends before."""
    return next((float(count) for count, value in zip(GRID, values, strict=True) if value >= enough), np.inf)


def simulate(seeds: Sequence[int], console: Console) -> tuple[dict[str, Array], dict[str, Array], float]:
    """Runs the seeds.

    Returns:
        Way of picking → labels needed [seeds]; way of picking → mean curve; mean AUC with all labels.
    """
    frame = reviews()
    texts, truth = frame["input"].to_list(), frame["truth"].to_numpy()
    words, traits = FastWords(texts), [traits_of_text(text) for text in texts]
    labels: dict[str, list[float]] = {name: [] for name in MIXES}
    curves: dict[str, list[Array]] = {name: [] for name in MIXES}
    whole = []
    for seed in seeds:
        fold = stratified(truth, seed)
        parts = [(np.flatnonzero(fold != number), np.flatnonzero(fold == number)) for number in range(FOLDS)]
        for name, mix in MIXES.items():
            of_folds = [curve(words, truth, traits, *part, mix, [seed, i]) for i, part in enumerate(parts)]
            curves[name].append(np.mean(of_folds, axis=0))
        # The end of every curve is the model that knows all labels.
        whole.append(float(curves[RANDOM][-1][-1]))
        for name, of_seeds in curves.items():
            labels[name].append(needed(of_seeds[-1], whole[-1] - WITHIN))
        counts = ", ".join(f"{name} {of_name[-1]:,.0f}" for name, of_name in labels.items())
        words = f"  seed {seed}: AUC {whole[-1]:.4f} with all labels; {WITHIN} less with {counts}"
        console.print(words, markup=False, soft_wrap=True)
    return (
        {name: np.array(of_name) for name, of_name in labels.items()},
        {name: np.mean(of_name, axis=0) for name, of_name in curves.items()},
        float(np.mean(whole)),
    )


def ratio(mine: Array, random: Array) -> tuple[float, float, float]:
    """Ratio of the medians, and its 95 % interval."""
    dice = np.random.default_rng(0)
    draws = dice.integers(0, len(mine), (BOOTSTRAPS, len(mine)))
    ratios = np.median(mine[draws], axis=1) / np.median(random[draws], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(np.median(mine) / np.median(random)), float(low), float(high)


def main() -> list[dict[str, Any]]:
    """The figures."""
    # Of scikit-learn, for the solver that is named here by its name.
    warnings.simplefilter("ignore", FutureWarning)
    console = Console(highlight=False)
    labels, curves, whole = simulate(range(SEEDS), console)
    console.print("  labels " + "".join(f"{name:>20}" for name in MIXES), markup=False)
    for count in SHOWN:
        cells = "".join(f"{curves[name][(count - FIRST) // BATCH]:>20.4f}" for name in MIXES)
        console.print(f"  {count:>6}{cells}", markup=False)
    figures = [
        {
            "name": f"reviews, labels to {WITHIN} below the AUC of all ({whole:.3f}), {name}, median of {SEEDS} seeds",
            "value": float(np.median(found)), "bound": None, "unit": "labels", "ok": None,
        }
        for name, found in labels.items()
    ]  # fmt: skip
    for name, found in labels.items():
        if name != RANDOM:
            value, low, high = ratio(found, labels[RANDOM])
            figures.append(
                {
                    "name": f"reviews, labels of {name} / of random [{low:.2f}, {high:.2f}]",
                    "value": value, "bound": f"≤ {MOST_RATIO}, upper end < 1", "unit": "",
                    "ok": value <= MOST_RATIO and high < 1,
                }
            )  # fmt: skip
    return figures


if __name__ == "__main__":
    for figure in main():
        print(figure)
