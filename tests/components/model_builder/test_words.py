"""ONNX Runtime reads the words of any text as the training did."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.model_builder.families.words import WordCounts, words_of
from components.model_builder.onnx_export import Graph
from components.model_builder.table import Task
from ninefold.fields import Input, Metric
from ninefold.signature import Signature

TRAINED = [
    "Good food",
    "not good",
    "good good bad",
    "café ÀÉ àé",
    "日本 food",
    "ÀÉ it's a1_b2 x-y",
    "not bad not good",
    "",
]
WORDS = [
    "good",
    "GOOD",
    "not",
    "bad",
    "food",
    "café",
    "CAFÉ",
    "ÀÉ",
    "àé",
    "日本",
    "a1",
    "b2",
    "it's",
    "🙂",
    "\n",
    "İ",
    "ß",
]


def counts_of(*, pairs: bool) -> WordCounts:
    return WordCounts.of(np.array(TRAINED, dtype=object), min_count=1, pairs=pairs)


def session(words: WordCounts, coefficients: np.ndarray) -> ort.InferenceSession:
    signature = Signature(
        use_case="x",
        problem="regression",
        inputs=(Input(name="t", kind="text"),),
        views=(),
        derive_digest="",
        target="y",
    )
    task = Task(signature=signature, metric=Metric(name="mae", direction="minimize"), offset=None)
    graph = Graph(task)
    return ort.InferenceSession(graph.finish(words.draw(graph, graph.column("text", 0), coefficients)))


def test_a_word_is_a_run_of_letters_and_digits_in_lower_case() -> None:
    assert words_of("The “Food” wasn't BAD: 10/10!") == ["the", "food", "wasn", "t", "bad", "10", "10"]
    assert words_of("CAFÉ 日本🙂 x_y") == ["cafÉ", "日本🙂", "x", "y"]
    assert words_of("… — ·") == []


@pytest.mark.parametrize("pairs", [False, True])
def test_rows_have_unit_length_and_pairs_are_neighbours(pairs: bool) -> None:
    words = counts_of(pairs=pairs)
    assert (("not", "good") in words.places) == pairs
    matrix = words.matrix(np.array(["not good", "unknown words only", ""], dtype=object)).toarray()
    np.testing.assert_allclose(np.linalg.norm(matrix, axis=1), [1, 0, 0])
    assert np.count_nonzero(matrix[0]) == 2 + pairs


_words = counts_of(pairs=True)
_coefficients = np.random.default_rng(0).normal(size=len(_words.places))
_session = session(_words, _coefficients)
_texts = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(st.lists(_texts, min_size=1, max_size=4))
def test_the_graph_reads_any_text_as_training_did(texts: list[str]) -> None:
    column = np.array(texts, dtype=object)
    expected = np.asarray(_words.matrix(column) @ _coefficients)
    found = _session.run(None, {"texts": column[:, None]})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_without_any_known_word_the_graph_answers_zero() -> None:
    nothing = WordCounts.of(np.array(["a", "b"], dtype=object), min_count=5, pairs=True)
    assert not nothing.places
    found = session(nothing, np.empty(0)).run(None, {"texts": np.array([["a"], [""]], dtype=object)})[0]
    assert found.tolist() == [0.0, 0.0]
