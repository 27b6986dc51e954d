"""A scikit-learn object in memory, read without pickle: of types that our code names, never of what a file names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ninefold.errors import ConfigurationError, PackageError
from ninefold.fields import Columns
from ninefold.package.environment import require_installed
from ninefold.package.rows import columns_of, tensors
from ninefold.package.trusted import TRUSTED, check_types
from ninefold.signature import PackageManifest

Array = np.ndarray[Any, Any]


class SkopsPredictor:
    """A scikit-learn pipeline that takes an object array [N, inputs], and knows numbers, categories and texts apart.

    A null number is NaN there, a null string ``""``. A pipeline of a binary problem answers by ``predict_proba``; to
    another one's answer the offset is added, which the manifest's ``training`` names.

    Args:
        manifest: The package's manifest.
        model: The object, as skops writes it.
        environment: The locked environment that it needs.

    Raises:
        ConfigurationError: What it needs is not installed here, or in another version.
        PackageError: It holds a type that is not trusted, or is no model of the signature's problem.
    """

    def __init__(self, manifest: PackageManifest, model: bytes, environment: bytes) -> None:
        check_types(model)
        try:
            import sklearn
            import skops.io
            from threadpoolctl import ThreadpoolController
        except ImportError as error:
            raise ConfigurationError(
                f"This package is a scikit-learn object, and {error.name} is not installed.",
                remedy="Install Ninefold's extra: pip install '.[formats]'",
            ) from error
        require_installed(environment)
        try:
            estimator = skops.io.loads(model, trusted=sorted(TRUSTED))
        except Exception as error:  # a file that is not whole makes it fail in any way
            raise PackageError(f"skops can't load the model: {type(error).__name__}: {error!s:.300}.") from error
        self.manifest = manifest
        self._inputs = manifest.signature.inputs
        self._binary = manifest.signature.problem == "binary"
        self._offset = manifest.training.get("offset")
        ask = getattr(estimator, "predict_proba" if self._binary else "predict", None)
        if ask is None:
            raise PackageError(f"The package's object is a {type(estimator).__name__}, no model of its problem.")
        self._ask = ask
        self._quick = sklearn.config_context
        # One row is too little work to share: threads that wait for it take ten times as long.
        self._threads = ThreadpoolController()

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> Array:
        """See ``Predictor.predict_rows``."""
        return self.predict_columns(columns_of(rows, self._inputs))

    def predict_columns(self, columns: Columns) -> Array:
        """See ``Predictor.predict_columns``."""
        feeds = tensors(self._inputs, columns)
        rows = len(next(iter(feeds.values())))
        if rows == 0:
            return np.empty(0)
        given = np.empty((rows, len(self._inputs)), dtype=object)
        seen = dict.fromkeys(feeds, 0)
        tensor_of = {"number": "numbers", "category": "categories", "text": "texts"}
        offset: Array | float = 0.0
        for place, declared in enumerate(self._inputs):
            tensor = tensor_of[declared.kind]
            given[:, place] = feeds[tensor][:, seen[tensor]]
            seen[tensor] += 1
            if declared.name == self._offset:
                offset = feeds[tensor][:, seen[tensor] - 1].astype(np.float64)
        with (
            self._threads.limit(limits=1, user_api="openmp"),
            self._quick(assume_finite=True, skip_parameter_validation=True),
        ):
            answer = self._ask(given)
        return np.asarray((answer[:, 1] if self._binary else answer) + offset, dtype=np.float64)
