"""Words of a text as numbers: log counts, weighted by rarity, of unit length (Manning et al., 2008, chapter 6).

What a word is stands in ``ninefold.words``; the graph finds the same ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from components.model_builder.table import Array
from ninefold.words import WORD_RE2, words_of

if TYPE_CHECKING:
    from components.model_builder.onnx_export import Graph

MAX_WORDS = 30_000


def _grams(words: list[str], pairs: bool) -> Iterable[tuple[str, ...]]:
    yield from ((word,) for word in words)
    if pairs:
        yield from pairwise(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class WordCounts:
    """The words that a model knows.

    Args:
        places: Word, or pair of words, → column; single words first.
        rarity: float64 [columns], 1 + log((1 + texts) / (1 + texts that hold it)).
        pairs: Whether pairs are among them.
    """

    places: Mapping[tuple[str, ...], int]
    rarity: Array
    pairs: bool

    @classmethod
    def of(cls, texts: Array, *, min_count: int, pairs: bool) -> WordCounts:
        """Learns the words that at least ``min_count`` training texts hold, at most the 30,000 most frequent."""
        counts: Counter[tuple[str, ...]] = Counter()
        for text in texts:
            counts.update(set(_grams(words_of(text), pairs)))
        kept = [gram for gram, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
        kept = [gram for gram in kept[:MAX_WORDS] if counts[gram] >= min_count]
        kept.sort(key=lambda gram: (len(gram), gram))
        documents = np.array([counts[gram] for gram in kept], dtype=np.float64)
        return cls(
            places={gram: place for place, gram in enumerate(kept)},
            rarity=1.0 + np.log((1.0 + len(texts)) / (1.0 + documents)),
            pairs=pairs and any(len(gram) == 2 for gram in kept),
        )

    def matrix(self, texts: Array) -> Any:
        """CSR [rows, columns], each row of unit length, or zero where no word is known."""
        rows: list[int] = []
        columns: list[int] = []
        values: list[int] = []
        for row, text in enumerate(texts):
            known = (self.places.get(gram) for gram in _grams(words_of(text), self.pairs))
            found = Counter(place for place in known if place is not None)
            rows += [row] * len(found)
            columns += found.keys()
            values += found.values()
        weighted = np.log1p(np.array(values, dtype=np.float64)) * self.rarity[np.array(columns, dtype=np.int64)]
        matrix = sparse.csr_matrix((weighted, (rows, columns)), shape=(len(texts), len(self.places)))
        length = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return sparse.diags(1.0 / np.where(length > 0, length, 1.0)) @ matrix

    def draw(self, graph: Graph, column: str, coefficients: Array) -> str:
        """Adds the sum of coefficients over a text's words to a graph: [N].

        Args:
            graph: The graph.
            column: Name of the text column, string [N].
            coefficients: float64 [columns].
        """
        if not self.places:
            # No operator counts words of an empty list; this one answers 0 for every text.
            return graph.op(
                "LabelEncoder", [column], domain="ai.onnx.ml", keys_strings=[""], values_floats=[0.0], default_float=0.0
            )
        # With the locale C, only A to Z change, as in ``words_of``.
        lower = graph.op("StringNormalizer", [column], case_change_action="LOWER", is_case_sensitive=1, locale="C")
        tokens = graph.op(
            "Tokenizer", [lower], domain="com.microsoft", mark=0, mincharnum=1, pad_value="", tokenexp=WORD_RE2
        )
        singles = sum(len(gram) == 1 for gram in self.places)
        counts = graph.op(
            "TfIdfVectorizer", [tokens], mode="TF", min_gram_length=1, max_gram_length=2 if self.pairs else 1,
            max_skip_count=0, ngram_counts=[0, singles] if self.pairs else [0],
            ngram_indexes=list(range(len(self.places))), pool_strings=[word for gram in self.places for word in gram],
        )  # fmt: skip
        # Of tens of thousands of counts a text has some dozens: all that follows looks at those alone.
        found = graph.op("NonZero", [counts])
        row = graph.op("Gather", [found, graph.constant(np.array(0))], axis=0)
        place = graph.op("Gather", [found, graph.constant(np.array(1))], axis=0)
        count = graph.op("GatherND", [counts, graph.op("Transpose", [found], perm=[1, 0])])
        one = graph.constant(np.array(1, dtype=np.float32))
        rarity = graph.op("Gather", [graph.constant(self.rarity.astype(np.float32)), place])
        weighted = graph.op("Mul", [graph.op("Log", [graph.op("Add", [count, one])]), rarity])
        coefficient = graph.op("Gather", [graph.constant(coefficients.astype(np.float32)), place])
        texts = graph.op("Shape", [column], start=0, end=1)
        none = graph.op("ConstantOfShape", [texts])

        def summed(values: str) -> str:
            return graph.op("ScatterElements", [none, row, values], axis=0, reduction="add")

        length = graph.op("Sqrt", [summed(graph.op("Mul", [weighted, weighted]))])
        total = summed(graph.op("Mul", [weighted, coefficient]))
        # A text without known words has length 0 and sum 0.
        safe = graph.op(
            "Where", [graph.op("Equal", [length, graph.constant(np.array(0, dtype=np.float32))]), one, length]
        )
        return graph.op("Div", [total, safe])
