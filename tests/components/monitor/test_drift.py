"""Drift is measured by the population stability index, and its limits keep quiet windows quiet."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from components.monitor.drift import Bins, calibrate, highest_of, psi, trailing_psi
from components.monitor.reference import Reference
from components.monitor.trail import Trail
from ninefold.monitoring import MonitorPolicy

COUNTS = arrays(np.int64, 8, elements=st.integers(0, 500)).filter(lambda a: a.sum() > 0)


@given(COUNTS, COUNTS)
def test_the_index_is_symmetric_never_negative_and_zero_of_the_same(a: np.ndarray, b: np.ndarray) -> None:
    assert math.isclose(psi(a, b), psi(b, a), rel_tol=1e-9, abs_tol=1e-12)
    assert psi(a, b) >= 0
    assert psi(a, a) == 0


def test_the_index_is_that_of_the_textbook() -> None:
    a, b = np.array([100_000, 300_000, 600_000]), np.array([200_000, 300_000, 500_000])
    expected = 0.1 * math.log(2) + -0.1 * math.log(5 / 6)
    assert math.isclose(psi(a, b), expected, rel_tol=1e-4)
    assert math.isnan(psi(a, np.zeros(3)))


def test_numbers_are_counted_by_deciles_and_null() -> None:
    values = pl.Series([float(i) for i in range(100)] + [None])
    bins = Bins.of(values)
    counts = bins.count(values, np.zeros(101, dtype=np.int64), 1)[0]
    assert counts.tolist() == [10] * 10 + [1]
    assert math.isclose(bins.null_share(counts), 1 / 101)
    assert math.isnan(bins.unseen_share(counts))


@given(
    common=st.sampled_from([-3.0, 0.0, 1.0, 7.5]),
    rare=st.floats(-1e6, 1e6),
    share=st.floats(0.0, 0.09),
    seen=st.booleans(),
)
def test_a_value_that_most_rows_have_is_told_from_every_other(
    common: float, rare: float, share: float, seen: bool
) -> None:
    assume(abs(rare - common) > 1e-6)
    rows = np.full(1_000, common)
    if seen:
        rows[: int(1_000 * share)] = rare
    bins = Bins.of(pl.Series(rows))
    where = np.zeros(1_000, dtype=np.int64)
    usual, turned = (bins.count(pl.Series(v), where, 1)[0] for v in (rows, np.full(1_000, rare)))
    assert psi(usual, turned) > 1


def test_categories_are_frequent_other_unseen_or_null() -> None:
    names = [f"c{i:03d}" for i in range(60) for _ in range(60 - i)]
    bins = Bins.of(pl.Series(names), {"trained": 1})
    values = pl.Series(["c000", "c059", "trained", "new", None, "new"])
    counts = bins.count(values, np.zeros(6, dtype=np.int64), 1)[0]
    assert counts[0] == 1
    assert counts[-3:].tolist() == [2, 2, 1]
    assert math.isclose(bins.unseen_share(counts), 2 / 6)
    assert Bins.from_json(bins.to_json()) == bins


def test_quiet_windows_are_over_a_limit_as_seldom_as_declared() -> None:
    rng = np.random.default_rng(0)
    # Columns that are still, and columns whose days differ by themselves.
    shapes = {f"c{i}": [0.2, 2.0, 20.0, 200.0][i % 4] for i in range(12)}

    def draw(windows: int) -> dict[str, np.ndarray]:
        return {
            column: np.stack([rng.multinomial(300, rng.dirichlet(np.full(8, shape))) for _ in range(windows)])
            for column, shape in shapes.items()
        }

    history = {column: trailing_psi(counts, 20) for column, counts in draw(110).items()}
    limits = calibrate(history, 0.02, 14)
    fresh = {column: trailing_psi(counts, 20)[20:] for column, counts in draw(1020).items()}
    over = np.any([fresh[column] > limits[column] for column in shapes], axis=0)
    assert over.mean() < 0.04


def test_too_little_history_calibrates_nothing() -> None:
    assert calibrate({"a": np.full(5, 0.1)}, 0.01, 14) == {}


def test_the_highest_of_a_gumbel_sample_is_its_quantile() -> None:
    sample = np.random.default_rng(0).gumbel(3.0, 2.0, 200_000)
    assert math.isclose(highest_of(sample, 0.01), 3.0 - 2.0 * math.log(-math.log(0.99)), rel_tol=0.02)


def _trail(production: list[list[int]], limit: float = 0.5) -> list[float]:
    history = np.array([[50, 50]] * 4)
    reference = Reference(
        bins={"input.a": Bins(edges=())}, counts={"input.a": history}, ordered=True, losses=np.array([]),
        sample=pl.DataFrame(), trained={},
    )  # fmt: skip
    policy = MonitorPolicy(reference_windows=4)
    found: list[float] = (
        Trail.of(reference, {"input.a": np.array(production)}, {"input.a": limit}, policy).distances["input.a"].tolist()
    )
    return found


def test_a_bad_window_is_no_measure_for_the_next_quiet_one() -> None:
    assert _trail([[100, 0], [50, 50]])[1] == 0


def test_what_stays_is_the_new_usual() -> None:
    distances = _trail([[100, 0], [100, 0], [100, 0]])
    assert distances[0] > 0.5
    assert distances[1] > 0.5
    assert distances[2] < 0.01
