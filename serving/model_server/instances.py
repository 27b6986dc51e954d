"""The v1 protocol's body as rows of values: what is refused here never reaches a model.

The shape of the document is checked here; the number and the types of an instance's values are the package's own
matter (``Predictor.predict_rows``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ninefold.errors import InvalidInput, TooLarge
from ninefold.fields import Input


class InstanceReader:
    """Turns a v1 document into positional rows.

    Args:
        inputs: The signature's inputs; their order is the order of an instance's values.
        max_instances: Rows that one request may hold.
    """

    def __init__(self, inputs: Sequence[Input], max_instances: int) -> None:
        self._names = tuple(i.name for i in inputs)
        self._known = frozenset(self._names)
        self._max_instances = max_instances

    def rows(self, document: Any) -> list[list[Any]]:
        """The instances, each as values in signature order.

        An instance is a list of values, or an object with a value for every input.

        Raises:
            InvalidInput: No ``instances``, not a list, empty; an instance that is neither, or names other inputs. The
                message names the place.
            TooLarge: More instances than one request may hold.
        """
        if type(document) is not dict:
            raise InvalidInput("body", "is not a JSON object.", remedy='Send {"instances": [...]}.')
        instances = document.get("instances")
        if type(instances) is not list:
            what = "is missing." if "instances" not in document else "is not a list."
            raise InvalidInput("instances", what, remedy='Send {"instances": [...]}.')
        if not instances:
            raise InvalidInput("instances", "is empty.", remedy="Send at least one instance.")
        if len(instances) > self._max_instances:
            raise TooLarge(
                f"instances: {len(instances):,} rows are over the bound of {self._max_instances:,}.",
                remedy="Send smaller batches.",
            )
        return [
            instance if type(instance) is list else self._by_name(instance, place)
            for place, instance in enumerate(instances)
        ]

    def _by_name(self, instance: Any, place: int) -> list[Any]:
        if type(instance) is not dict:
            raise InvalidInput(f"instances[{place}]", "is neither a list nor an object.", remedy=self._remedy)
        if len(instance) != len(self._names) or not self._known.issuperset(instance):
            unknown = sorted(set(instance) - self._known)
            if unknown:
                raise InvalidInput(f"instances[{place}].{unknown[0]}", "is not an input.", remedy=self._remedy)
            missing = next(name for name in self._names if name not in instance)
            raise InvalidInput(f"instances[{place}].{missing}", "is missing.", remedy="Send null where it is unknown.")
        return [instance[name] for name in self._names]

    @property
    def _remedy(self) -> str:
        return f"The inputs are {', '.join(self._names)}."
