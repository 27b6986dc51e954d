"""Loading a package and asking it: an ONNX graph, the baseline's own code, or a format that needs an extra."""

from __future__ import annotations

import functools
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ninefold.errors import ConfigurationError, PackageError
from ninefold.fields import Columns, Input
from ninefold.loading import load_object
from ninefold.package.files import ENVIRONMENT, MODELS, read_package
from ninefold.package.rows import TENSORS, check_columns, columns_of, tensors, wrong_value, wrong_width
from ninefold.signature import PackageManifest, Signature
from ninefold.usecase import module_digest

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

OUTPUT = "prediction"
"""The graph's output: [N], in the target's unit, or the probability of 1."""

BOUNDED = (OUTPUT, "lower", "upper")
"""The outputs of a graph whose signature names an interval, [N] each; lower <= prediction <= upper, row by row."""

MOST_TEXTS = 256
"""Rows with texts that a graph is given at once: it holds a count of every known word for each, some 100 kB a row."""

_NAN = math.nan


class Predictor(Protocol):
    """A package in memory, ready to answer."""

    @property
    def manifest(self) -> PackageManifest:
        """What the package says of itself."""
        ...

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> Array:
        """Predicts instances.

        Args:
            rows: One list a row: the values in the order of the signature's inputs, null as None.

        Returns:
            [N] predictions, in the target's unit, or the probability of 1.

        Raises:
            InvalidInput: A row is too short or too long, or a value is of the wrong type; the message names it as
                ``instances[3].carrier``.
        """
        ...

    def predict_columns(self, columns: Columns) -> Array:
        """Predicts whole columns, as ``derive`` returns them; more than the inputs may be there.

        Returns:
            [N] predictions.

        Raises:
            InvalidInput: An input is missing.
        """
        ...


_FILES = {"baseline": (), **{name: (file,) for name, file in MODELS.items()}, "skops": (MODELS["skops"], ENVIRONMENT)}
"""Format → the files without which there is nothing to ask."""


def load_predictor(folder: str | Path, digest: str) -> Predictor:
    """Verifies a package and loads the bytes that were verified.

    Args:
        folder: The package's folder.
        digest: Its digest, from outside of the package.

    Raises:
        PackageError: The package is damaged or foreign, or its model does not fit its signature, or its baseline's code
            is not the code that it names.
        ConfigurationError: What reads the package's format is not installed here, or in another version.
    """
    manifest, files = read_package(folder, digest)
    missing = [name for name in _FILES.get(manifest.format, ("file of that format",)) if name not in files]
    if missing:
        raise PackageError(f"{folder} has format {manifest.format!r} and no {missing[0]}; it can't be loaded.")
    return predictor_of(manifest, files)


def predictor_of(manifest: PackageManifest, files: Mapping[str, bytes]) -> Predictor:
    """What answers for a package's files, by the format that its manifest names.

    Args:
        manifest: The manifest, of a format that there is.
        files: File name → content, verified; those of the format are there.

    Raises:
        ConfigurationError: What reads the format is not installed here.
        PackageError: The files are not what the signature says, or hold what is not read.
    """
    if manifest.format == "baseline":
        return BaselinePredictor(manifest)
    model = files[MODELS[manifest.format]]
    if manifest.format == "pmml":
        from ninefold.package.pmml import PmmlPredictor

        return PmmlPredictor(manifest, model)
    if manifest.format == "skops":
        from ninefold.package.skops_object import SkopsPredictor

        return SkopsPredictor(manifest, model, files[ENVIRONMENT])
    return OnnxPredictor(manifest, model)


class OnnxPredictor:
    """An ONNX graph on one thread: a model server scales by processes, and one row is too little work to share.

    Args:
        manifest: The package's manifest.
        model: The graph.

    Raises:
        PackageError: ONNX Runtime refuses the graph, or the graph's inputs and output are not those of the signature.
    """

    def __init__(self, manifest: PackageManifest, model: bytes) -> None:
        import onnxruntime as ort

        self.manifest = manifest
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        try:
            session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors share no other base
            raise PackageError(f"ONNX Runtime can't load the model: {error}.") from error
        _check_graph(session, manifest.signature)
        self._run = session.run
        self._inputs = manifest.signature.inputs
        self._numbers = _places(self._inputs, "number")
        self._categories = _places(self._inputs, "category")
        self._texts = _places(self._inputs, "text")
        if self._texts:
            self._run = functools.partial(_in_pieces, session.run)

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> Array:
        """See ``Predictor.predict_rows``."""
        feeds = self._feeds(rows)
        if not rows:
            return _nothing()
        prediction: Array = self._run([OUTPUT], feeds)[0]
        return prediction

    def bounded_rows(self, rows: Sequence[Sequence[Any]]) -> list[Array]:
        """Prediction, lower and upper bound of instances, [N] each; as ``predict_rows`` otherwise.

        Only where the signature names an interval.
        """
        feeds = self._feeds(rows)
        if not rows:
            return [_nothing() for _ in BOUNDED]
        bounded: list[Array] = self._run(BOUNDED, feeds)
        return bounded

    def _feeds(self, rows: Sequence[Sequence[Any]]) -> dict[str, Array]:
        import numpy as np

        width = len(self._inputs)
        for row in rows:
            if len(row) != width:
                raise wrong_width(rows, width)
        feeds: dict[str, Array] = {}
        if self._numbers:
            places = self._numbers
            try:
                # array refuses strings, which numpy would parse, and takes None only as NaN.
                flat = array("f", [_NAN if (value := row[i]) is None else value for row in rows for i in places])
            except (TypeError, OverflowError):
                raise wrong_value(rows, self._inputs) from None
            feeds["numbers"] = np.frombuffer(flat, dtype=np.float32).reshape(len(rows), len(places))
        for name, places in (("categories", self._categories), ("texts", self._texts)):
            if places:
                strings = ["" if (value := row[i]) is None else value for row in rows for i in places]
                for value in strings:
                    if type(value) is not str:
                        raise wrong_value(rows, self._inputs)
                tensor = np.empty(len(strings), dtype=object)
                tensor[:] = strings
                feeds[name] = tensor.reshape(len(rows), len(places))
        return feeds

    def predict_columns(self, columns: Columns) -> Array:
        """See ``Predictor.predict_columns``."""
        feeds = tensors(self._inputs, columns)
        if len(next(iter(feeds.values()))) == 0:
            return _nothing()
        prediction: Array = self._run([OUTPUT], feeds)[0]
        return prediction

    def bounded_columns(self, columns: Columns) -> list[Array]:
        """As ``bounded_rows``, of whole columns."""
        feeds = tensors(self._inputs, columns)
        if len(next(iter(feeds.values()))) == 0:
            return [_nothing() for _ in BOUNDED]
        bounded: list[Array] = self._run(BOUNDED, feeds)
        return bounded


class BaselinePredictor:
    """The baseline of a use case, run from the code that is installed here, when it is the code that the package names.

    Args:
        manifest: The package's manifest.

    Raises:
        PackageError: The code is missing, or another version of it is installed.
    """

    def __init__(self, manifest: PackageManifest) -> None:
        named = manifest.baseline or {}
        if not {"path", "digest"} <= set(named):
            raise PackageError("The package has format 'baseline' and names no baseline.")
        path = named["path"]
        try:
            self._function = load_object(path, what="baseline")
        except ConfigurationError as error:
            raise PackageError(f"The package's baseline can't be loaded: {error}") from error
        found = module_digest(self._function)
        if found != named["digest"]:
            raise PackageError(
                f"The code of the baseline {path!r} changed: its module's SHA-256 is {found}, the package needs "
                f"{named['digest']}.",
                remedy="Install the version that the package was made with, or package the baseline again.",
            )
        self.manifest = manifest
        self._inputs = manifest.signature.inputs

    def predict_rows(self, rows: Sequence[Sequence[Any]]) -> Array:
        """See ``Predictor.predict_rows``."""
        return self.predict_columns(columns_of(rows, self._inputs))

    def predict_columns(self, columns: Columns) -> Array:
        """See ``Predictor.predict_columns``."""
        import numpy as np

        check_columns(self._inputs, columns)
        return np.asarray(self._function(columns), dtype=np.float64)


def predict_bounded(predictor: Predictor, columns: Columns) -> tuple[Array, Array | None]:
    """Predictions of whole columns [N], and their intervals [N, 2]; None where the package has none.

    Raises:
        InvalidInput: An input is missing.
    """
    import numpy as np

    if isinstance(predictor, OnnxPredictor) and predictor.manifest.signature.interval is not None:
        prediction, lower, upper = predictor.bounded_columns(columns)
        return prediction, np.stack([lower, upper], axis=1).astype(np.float64)
    return predictor.predict_columns(columns), None


def _in_pieces(run: Callable[..., list[Array]], outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
    """What a graph answers to a few rows at a time, so that a large batch takes no more memory than a small one."""
    import numpy as np

    rows = len(next(iter(feeds.values())))
    if rows <= MOST_TEXTS:
        return run(outputs, feeds)
    pieces = [
        run(outputs, {name: values[start : start + MOST_TEXTS] for name, values in feeds.items()})
        for start in range(0, rows, MOST_TEXTS)
    ]
    return [np.concatenate(parts) for parts in zip(*pieces, strict=True)]


def _nothing() -> Array:
    import numpy as np

    return np.empty(0, dtype=np.float32)


def _places(inputs: Sequence[Input], kind: str) -> tuple[int, ...]:
    return tuple(place for place, declared in enumerate(inputs) if declared.kind == kind)


def _check_graph(session: Any, signature: Signature) -> None:
    wanted = {
        name: (type_, len(places))
        for kind, (name, type_) in TENSORS.items()
        if (places := _places(signature.inputs, kind))
    }
    found = {i.name: (i.type, i.shape[1] if len(i.shape) == 2 else None) for i in session.get_inputs()}
    if found != wanted:
        raise PackageError(f"The graph takes {found}; its signature says {wanted}.")
    outputs = {o.name: (o.type, len(o.shape)) for o in session.get_outputs()}
    names = (OUTPUT,) if signature.interval is None else BOUNDED
    if outputs != dict.fromkeys(names, ("tensor(float)", 1)):
        raise PackageError(f"The graph returns {outputs}, not one float vector for each of {', '.join(names)}.")
