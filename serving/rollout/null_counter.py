"""How often an input of a version is missing when it is asked, counted as training counted it.

What was logged of a request goes through the same ``derive`` as the training set did, so that the two shares are of
one thing: a request field that nobody sends and a feature that nobody fills look alike, and bear the names that the
use case declares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ninefold.errors import PackageError
from ninefold.fields import Input
from ninefold.rollout.evidence import NullShare
from ninefold.signature import PackageManifest
from ninefold.usecase import UseCase
from serving.front_end.columns import ColumnMaker

Array = np.ndarray[Any, Any]


class NullCounter:
    """Counts the nulls of a version's inputs.

    Args:
        use_case: Whose ``derive`` runs.
        manifest: What its package says of itself.

    Raises:
        PackageError: It was trained with another ``derive``: what this one makes says nothing about it.
    """

    def __init__(self, use_case: UseCase, manifest: PackageManifest) -> None:
        signature = manifest.signature
        if signature.derive_digest != use_case.derive_digest:
            raise PackageError(
                f"The version was trained with another derive ({signature.derive_digest[:12]}) than this code has "
                f"({use_case.derive_digest[:12]}).",
                remedy="Run the controller from the code that trained it.",
            )
        self._use_case = use_case
        self._names = [name for view in signature.views for name in view.features]
        kinds = [kind for view in signature.views for kind in view.kinds]
        fields = [(field.name, field.kind) for field in use_case.request]
        self._columns = ColumnMaker([*fields, *zip(self._names, kinds, strict=True)])
        self._statistics = manifest.statistics
        # A baseline has no training set, and answers whatever is missing.
        judged = manifest.format != "baseline" or bool(manifest.statistics)
        self._inputs: Sequence[Input] = signature.inputs if judged else ()

    def count(self, requests: Sequence[Sequence[Any]], features: Sequence[Mapping[str, Any]]) -> Array:
        """Nulls of each input in some rows, in the order of the signature.

        Args:
            requests: Checked values of the requests, in the order of the fields.
            features: What was logged of their features; one that was not logged is missing.
        """
        if not requests:
            return np.zeros(len(self._inputs))
        rows = [[*row, *map(logged.get, self._names)] for row, logged in zip(requests, features, strict=True)]
        inputs = self._use_case.inputs_of(self._columns.make(rows))
        counts = [_nulls(inputs[given.name], given) if given.name in inputs else len(rows) for given in self._inputs]
        return np.array(counts, dtype=float)

    def shares(self, counts: Array, requests: int) -> tuple[NullShare, ...]:
        """Each input's share, beside that of its training set; NaN where nobody knows it."""
        shares = []
        for given, count in zip(self._inputs, counts.tolist(), strict=True):
            known = self._statistics.get(given.name)
            shares.append(
                NullShare(
                    feature=given.name,
                    training=known.null_share if known is not None else math.nan,
                    serving=count / requests if requests else math.nan,
                    requests=requests,
                )
            )
        return tuple(shares)


def _nulls(column: Array, given: Input) -> int:
    if given.kind == "number":
        return int(np.count_nonzero(np.isnan(column.astype(float))))
    return sum(value is None or value == "" for value in column.tolist())
