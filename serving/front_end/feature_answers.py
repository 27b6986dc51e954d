"""Answers ``POST /v1/features``: ids in, features with their ages out; read as a prediction reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import orjson

from ninefold.clock import format_instant
from ninefold.errors import InvalidInput
from ninefold.usecase import UseCase
from serving.front_end.feature_reader import RowFeatures, ViewState
from serving.front_end.prepared import Preparer
from serving.front_end.validation import RequestParser
from serving.front_end.versions import Versions


class FeatureAnswers:
    """Tells what is known online of entities.

    Args:
        use_case: The use case.
        versions: Which version answers, and so which views are read.
        preparer: Knows the decision moments.
        max_instances: Most instances in one request.
    """

    def __init__(self, use_case: UseCase, *, versions: Versions, preparer: Preparer, max_instances: int) -> None:
        # Ids are enough: every field may be left out, and a view whose key is not named is not read.
        fields = [replace(field, nullable=True, digest_of=None) for field in use_case.request]
        self._parser = RequestParser(fields, name=use_case.name, max_instances=max_instances)
        self._versions = versions
        self._preparer = preparer

    def answer(self, body: bytes | bytearray) -> bytes:
        """Answers a request.

        Raises:
            InvalidInput, TooLarge: The request is wrong, or an instance names no entity of any view.
            StoreError: The online store can't be read.
        """
        rows = self._parser.parse(body).rows
        now, decided = self._preparer.moments(rows)
        served = self._versions.live
        reader = served.features if served is not None else self._versions.declared_features
        states = list(reader.describe(rows, decided, now))
        read = reader.read(rows, decided, now)
        return orjson.dumps(
            {
                "version": served.version if served is not None else None,
                "features": [
                    _described(place, *parts) for place, parts in enumerate(zip(decided, states, read, strict=True))
                ],
                "watermarks": {
                    state.view: format_instant(state.watermark) if state.watermark is not None else None
                    for state in states[0]
                },
            }
        )


def _described(place: int, decided: datetime, states: Sequence[ViewState], read: RowFeatures) -> dict[str, Any]:
    asked = [state for state in states if state.asked]
    if states and not asked:
        raise InvalidInput(
            f"instances[{place}]", "names no entity.", remedy="Send the key fields of at least one view."
        )
    values: dict[str, Any] = {}
    start = 0
    for state in states:
        end = start + len(state.features)
        if state.asked:
            values.update(zip(state.features, read.values[start:end], strict=True))
        start = end
    return {
        "decided_at": format_instant(decided),
        "values": values,
        "views": {state.view: _view(state, decided) for state in asked},
    }


def _view(state: ViewState, decided: datetime) -> dict[str, Any]:
    known_at = state.known_at
    return {
        "key": state.key,
        "state": state.state,
        "known_at": format_instant(known_at) if known_at is not None else None,
        "age_seconds": (decided - known_at).total_seconds() if known_at is not None else None,
        "features": list(state.features),
    }
