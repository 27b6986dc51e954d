"""Evaluations that were told, one file each: for asking again, and for counting how often a caller has asked."""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.evaluator.disclosure import MOST_EVALUATIONS
from ninefold.atomic import replacing
from ninefold.errors import LimitReached, NotFound
from ninefold.records import derived_id

_ID = re.compile(r"[0-9a-f]{32}")


class Told:
    """What was told to whom, in ``<folder>/<use case>/<test set>/<caller>/<id>.json``. One process writes it.

    Args:
        folder: Where the files lie.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @functools.cached_property
    def secret(self) -> bytes:
        """What rounding draws from; made when it is missing, and kept, so that restarts draw nothing new."""
        path = self._folder / ".secret"
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            return path.read_bytes()
        made = secrets.token_bytes(32)
        with os.fdopen(handle, "wb") as file:
            file.write(made)
        return made

    def find(self, caller: str, evaluation_id: str) -> dict[str, Any]:
        """An evaluation that was told to this caller.

        Raises:
            NotFound: It was told to somebody else, or never.
        """
        if _ID.fullmatch(evaluation_id):
            for path in self._folder.glob(f"*/*/{_name(caller)}/{evaluation_id}.json"):
                found: dict[str, Any] = json.loads(path.read_bytes())
                return found
        raise NotFound(f"You have no evaluation {evaluation_id[:40]!r}.")

    def known(self, caller: str, use_case: str, test_set: str, evaluation_id: str) -> dict[str, Any] | None:
        """The answer to predictions that this caller has sent before; None where they are new."""
        path = self._folder / use_case / test_set / _name(caller) / f"{evaluation_id}.json"
        return json.loads(path.read_bytes()) if path.exists() else None

    def require_left(self, caller: str, use_case: str, test_set: str) -> int:
        """How many evaluations the caller has left on a test set.

        Raises:
            LimitReached: None.
        """
        folder = self._folder / use_case / test_set / _name(caller)
        left = MOST_EVALUATIONS - sum(1 for _ in folder.glob("*.json"))
        if left <= 0:
            raise LimitReached(
                f"You have had all {MOST_EVALUATIONS} evaluations on the test set {test_set!r} of {use_case}.",
                remedy="More would give its truths away. Use another test set.",
            )
        return left

    def keep(self, caller: str, use_case: str, test_set: str, evaluation_id: str, answer: Mapping[str, Any]) -> None:
        """Keeps what is about to be told."""
        path = self._folder / use_case / test_set / _name(caller) / f"{evaluation_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(answer))


def _name(caller: str) -> str:
    # A key's name may be anything, a file's may not.
    return derived_id(caller)
