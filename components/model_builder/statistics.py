"""How each input was distributed in training: what unseen, odd and drifted are measured against."""

from __future__ import annotations

from collections import Counter

import numpy as np

from components.model_builder.table import Array, Table, Task
from ninefold.signature import InputStatistics
from ninefold.words import words_of

MAX_CATEGORIES = 20_000
"""A manifest lists at most so many categories, or words, of an input, the most frequent ones."""


def training_statistics(task: Task, table: Table) -> dict[str, InputStatistics]:
    """Statistics of every input, weights left aside."""
    columns = table.columns(task)
    return {
        i.name: _of_number(columns[i.name]) if i.kind == "number" else _of_strings(columns[i.name], i.kind)
        for i in task.inputs
    }


def _of_number(column: Array) -> InputStatistics:
    known = column[np.isfinite(column)].astype(np.float64)
    null_share = float(np.mean(np.isnan(column)))
    if not len(known):
        return InputStatistics(null_share=null_share)
    return InputStatistics(
        null_share=null_share,
        minimum=float(known.min()),
        maximum=float(known.max()),
        mean=float(known.mean()),
        deviation=float(known.std()),
        reference=float(np.median(known)),
        quantiles=tuple(float(q) for q in np.quantile(known, np.linspace(0, 1, 11))),
    )


def _of_strings(column: Array, kind: str) -> InputStatistics:
    null = column == ""
    null_share = float(np.mean(null))
    if kind == "text":
        texts: Counter[str] = Counter()
        for text in column[~null]:
            texts.update(set(words_of(text)))
        known = sorted(texts.items(), key=lambda item: (-item[1], item[0]))[:MAX_CATEGORIES]
        return InputStatistics(null_share=null_share, reference="", categories=dict(known))
    values, counts = np.unique(column[~null].astype(str), return_counts=True)
    order = np.argsort(-counts, kind="stable")[:MAX_CATEGORIES]
    categories = {str(values[i]): int(counts[i]) for i in order}
    return InputStatistics(null_share=null_share, reference=next(iter(categories), None), categories=categories)
