"""Reviews: 5,000 texts, a lexicon, and what a model of words makes of them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest

from ninefold.fields import digest
from ninefold.metrics import compute
from ninefold.package import load_predictor
from ninefold.usecase import History
from usecases.reviews.contract import USE_CASE, baseline, classes, decide, derive
from usecases.reviews.etl import REPEATED, UNKNOWN, extract, reviews


@pytest.fixture(scope="module")
def past(history: Callable[[str], History]) -> History:
    return history("reviews")


def inputs(texts: pl.Series) -> dict[str, Any]:
    return derive({"input": np.array(texts.to_list(), dtype=object)})


def test_all_reviews_are_there_and_texts_that_were_posted_twice_count_once(past: History) -> None:
    rows = reviews()
    assert rows["source"].value_counts(sort=True).rows() == [("training_data", 4_000), ("testing_data", 1_000)]
    assert rows["truth"].sum() == 3_258
    assert past.requests.height == past.truths.height == rows["input"].n_unique() == 4_973
    assert past.dropped == {REPEATED: 27, UNKNOWN: 0}
    assert past.requests["review_id"].to_list() == [digest(text) for text in past.requests["input"]]


def test_a_class_that_nobody_declared_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"review": ["good", "bad", "so so"], "score": ["great", "other", "mixed"]}
    frame = {name: np.array(values, dtype=object) for name, values in rows.items()}
    monkeypatch.setattr("usecases.reviews.etl.packaged", lambda collection, item: frame)
    past = extract()
    assert past.dropped == {REPEATED: 2, UNKNOWN: 2}
    assert past.requests["input"].to_list() == ["good", "bad"]
    assert past.truths["truth"].to_list() == [1.0, 0.0]


def test_few_labels_are_a_sample_that_grows(past: History) -> None:
    few, more = extract(labelled=100), extract(labelled=200)
    assert (few.truths.height, more.truths.height) == (100, 200)
    assert set(few.truths["review_id"]) < set(more.truths["review_id"])
    assert few.requests.equals(past.requests)
    assert more.truths["truth"].mean() == pytest.approx(past.truths["truth"].mean(), abs=0.1)


def test_the_lexicon_ranks_as_nine_words_can() -> None:
    given = reviews().filter(pl.col("source") == "training_data")
    answers = baseline(inputs(given["input"]))
    assert compute("auc", given["truth"].to_numpy(), answers) == pytest.approx(0.7406, abs=0.0005)
    assert abs(answers.mean() - given["truth"].mean()) < 0.1
    assert baseline({"input": np.array(["", None, "茶"], dtype=object)}).tolist() == pytest.approx(
        [0.6457] * 3, abs=1e-4
    )


def test_line_breaks_of_the_page_are_no_words() -> None:
    assert derive({"input": np.array(["good<br /><br />tea", None], dtype=object)})["input"].tolist() == [
        "good  tea",
        None,
    ]


def test_a_class_follows_from_the_probability_and_is_counted() -> None:
    assert [decide({}, value)["class"] for value in (0.49, 0.5)] == ["other", "great"]
    gains = classes({}, np.array([1.0, 1.0, 0.0, 0.0]), np.array([0.9, 0.2, 0.8, 0.1]))
    assert gains == {"class_right": 0.5, "great_of_those_called_great": 0.5, "great_that_are_found": 0.5}


def test_the_key_is_the_review_and_experts_choose_between_its_classes() -> None:
    assert USE_CASE.key == ("review_id",)
    assert USE_CASE.labelling is not None
    assert set(USE_CASE.labelling.choices.values()) == {0.0, 1.0}


@pytest.mark.long
@pytest.mark.parametrize(("pairs", "least"), [(False, 0.860), (True, 0.875)])
def test_a_model_of_words_reaches_what_words_can_on_the_sources_own_test_set(
    reviews_trained: Any, pairs: bool, least: float
) -> None:
    trained = reviews_trained(rows=4_000, pairs=pairs)
    answers = load_predictor(trained.folder, trained.digest).predict_columns(inputs(trained.test["input"]))
    assert compute("auc", trained.test["truth"].to_numpy(), answers.astype(np.float64)) >= least
