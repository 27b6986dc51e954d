"""A PMML package in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ninefold.errors import PackageError
from ninefold.fields import Columns
from ninefold.package.pmml.document import child, parse, text
from ninefold.package.pmml.models import Known, model_of
from ninefold.package.rows import columns_of, tensors
from ninefold.signature import PackageManifest, Signature

Array = np.ndarray[Any, Any]

_KINDS = {"number": ("continuous", "float"), "category": ("categorical", "string")}


class PmmlPredictor:
    """A PMML document, read into arrays and asked by numpy: no Java, and no code from the document.

    Args:
        manifest: The package's manifest.
        model: The document.

    Raises:
        ConfigurationError: What reads XML safely is not installed.
        PackageError: The document is not one that is read here, or its inputs are not those of the signature.
    """

    def __init__(self, manifest: PackageManifest, model: bytes) -> None:
        root = parse(model)
        self.manifest = manifest
        self._inputs = manifest.signature.inputs
        _check_fields(child(root, "DataDictionary"), manifest.signature)
        names = {kind: tuple(i.name for i in self._inputs if i.kind == kind) for kind in _KINDS}
        self._names = names
        self._model = model_of(root, Known(names["number"], names["category"]))

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> Array:
        """See ``Predictor.predict_rows``."""
        return self.predict_columns(columns_of(rows, self._inputs))

    def predict_columns(self, columns: Columns) -> Array:
        """See ``Predictor.predict_columns``."""
        feeds = tensors(self._inputs, columns)
        rows = len(next(iter(feeds.values())))
        numbers = feeds.get("numbers", np.empty((rows, 0))).astype(np.float64)
        fields: Mapping[str, Array] = {
            **{name: numbers[:, place] for place, name in enumerate(self._names["number"])},
            **{name: feeds["categories"][:, place] for place, name in enumerate(self._names["category"])},
        }
        return self._model.evaluate(fields, rows)


def _check_fields(dictionary: Any, signature: Signature) -> None:
    found = {
        text(field, "name"): (text(field, "optype"), text(field, "dataType"))
        for field in dictionary.findall("DataField")
    }
    wanted = {given.name: _KINDS.get(given.kind, (given.kind, "")) for given in signature.inputs}
    wrong = [name for name, kind in wanted.items() if found.get(name) != kind]
    extra = sorted(set(found) - set(wanted) - {signature.target})
    if wrong or extra:
        raise PackageError(
            f"The PMML document's field {(wrong or extra)[0]!r:.60} is not as the signature says: "
            f"{found.get((wrong or extra)[0])}."
        )
