"""A package as a KServe model: what v1 through KServe's own path, v2 and gRPC call."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import kserve.errors
from kserve import InferRequest, InferResponse, Model

from ninefold.errors import InvalidInput, NinefoldError, TooLarge
from ninefold.fields import Columns
from ninefold.package import BOUNDED, OUTPUT, OnnxPredictor, Predictor
from serving.model_server import tensors
from serving.model_server.instances import InstanceReader

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

INLINE_ROWS = 64
"""Up to so many rows are predicted on the event loop, in about 0.2 ms; more go to a thread, so that others go on.

Of a format that takes as long for one row, one row.
"""

FLOAT32_MAX = 3.4028234663852886e38

_batches = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch")


class NotFinite(NinefoldError):
    """The model answered NaN or infinity: an error, never a null in an answer."""


class PackagedModel(Model):
    """One loaded package under a name.

    Args:
        name: The model's name on the wire.
        digest: The package's digest.
        predictor: The loaded package.
        max_instances: Rows that one request may hold.
    """

    def __init__(self, name: str, digest: str, predictor: Predictor, *, max_instances: int) -> None:
        super().__init__(name)
        self.digest = digest
        self.predictor = predictor
        self.inputs = predictor.manifest.signature.inputs
        self._outputs: tuple[str, ...] = (OUTPUT,)
        self._predict: Callable[[Sequence[Sequence[Any]]], Any] = predictor.predict_rows
        self._listed: Callable[[Any], list[Any]] = _numbers
        if isinstance(predictor, OnnxPredictor) and predictor.manifest.signature.interval is not None:
            self._outputs, self._predict, self._listed = BOUNDED, predictor.bounded_rows, _objects
        self.reader = InstanceReader(self.inputs, max_instances)
        self.ready = True
        self._max_instances = max_instances
        self.inline_rows = INLINE_ROWS if predictor.manifest.format in ("onnx", "baseline") else 1

    def warm(self) -> None:
        """Asks one row of nulls, so that the first request finds everything allocated."""
        self._predict([[None] * len(self.inputs)])

    async def answer(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """The answers to positional rows: numbers; of a package with an interval, objects of three numbers.

        Raises:
            InvalidInput: A row has a wrong length, a value of a wrong type, or a number that float32 can't hold.
            NotFinite: The model answered NaN or infinity.
        """
        if len(rows) <= self.inline_rows:
            return self.answer_now(rows)
        return self._checked(rows, await asyncio.get_running_loop().run_in_executor(_batches, self._predict, rows))

    def answer_now(self, rows: Sequence[Sequence[Any]]) -> list[Any]:
        """As ``answer``, at once: for few rows."""
        return self._checked(rows, self._predict(rows))

    def _checked(self, rows: Sequence[Sequence[Any]], predictions: Any) -> list[Any]:
        try:
            return self._listed(predictions)
        except NotFinite:
            self._refuse_beyond_float32(rows)
            raise

    def _refuse_beyond_float32(self, rows: Sequence[Sequence[Any]]) -> None:
        # Looked for only when the answer is no number: nearly every model stands it, and nearly no request holds one.
        for place, row in enumerate(rows):
            for declared, value in zip(self.inputs, row, strict=True):
                if declared.kind == "number" and value is not None and abs(value) > FLOAT32_MAX:
                    raise InvalidInput(
                        f"instances[{place}].{declared.name}", f"{value!r} is beyond ±{FLOAT32_MAX:.3g}."
                    )

    def _predict_columns(self, columns: Columns) -> dict[str, Array]:
        predictor = self.predictor
        if len(self._outputs) > 1 and isinstance(predictor, OnnxPredictor):
            return dict(zip(self._outputs, predictor.bounded_columns(columns), strict=True))
        return {OUTPUT: predictor.predict_columns(columns)}

    def get_input_types(self) -> list[dict[str, Any]]:
        """The inputs as v2 metadata."""
        return tensors.input_types(self.inputs)

    def get_output_types(self) -> list[dict[str, Any]]:
        """The outputs as v2 metadata."""
        return tensors.output_types(self._outputs)

    async def explain(self, payload: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Explains nothing: that needs the request's features, which the front end has.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("A model server does not explain; ask the front end's :explain.")

    async def predict(self, payload: Any, headers: dict[str, str] | None = None) -> dict[str, Any] | InferResponse:
        """Answers KServe's own path: v2 tensors, and v1 documents that came as CloudEvents.

        Raises:
            kserve.errors.InvalidInput: The payload is wrong; the message names the input.
            kserve.errors.InferenceError: The model answered NaN or infinity.
        """
        try:
            if not isinstance(payload, InferRequest):
                return {"predictions": await self.answer(self.reader.rows(payload))}
            columns = tensors.columns(self.inputs, payload, self._max_instances)
            answers = await asyncio.get_running_loop().run_in_executor(_batches, self._predict_columns, columns)
            for answer in answers.values():
                _finite(answer.tolist())
            return tensors.response(payload, self.name, payload.id or str(uuid.uuid4()), answers)
        except (InvalidInput, TooLarge) as error:
            raise kserve.errors.InvalidInput(str(error)) from error
        except NotFinite as error:
            raise kserve.errors.InferenceError(str(error)) from error


def _numbers(predictions: Array) -> list[float]:
    return _finite(predictions.tolist())


def _objects(outputs: list[Array]) -> list[dict[str, float]]:
    """A v1 answer with several outputs is an object by their names, as TensorFlow Serving defined it."""
    columns = [_finite(output.tolist()) for output in outputs]
    return [dict(zip(BOUNDED, row, strict=True)) for row in zip(*columns, strict=True)]


def _finite(predictions: list[float]) -> list[float]:
    # One NaN or infinity makes the sum one.
    if not math.isfinite(math.fsum(predictions) if len(predictions) > 1 else predictions[0]):
        place = next((i for i, value in enumerate(predictions) if not math.isfinite(value)), 0)
        raise NotFinite(f"instances[{place}]: the model answered {predictions[place]}.")
    return predictions
