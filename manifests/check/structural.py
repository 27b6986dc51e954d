"""Values against the structural schema of a custom resource, strictly: an unknown field is wrong, too.

Rules in CEL (``x-kubernetes-validations``) are the API server's alone to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Schema = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}


def faults(schema: Schema, value: Any, path: str, *, strict: bool = True) -> Iterator[str]:
    """What is wrong with a value.

    Args:
        schema: An OpenAPI v3 schema, as in a CustomResourceDefinition.
        value: The value, as read from YAML.
        path: Where it stands, for the message.
        strict: Whether a field that the schema does not name is wrong.
    """
    if value is None:
        if not schema.get("nullable"):
            yield f"{path} is null"
        return
    wrong = _wrong_type(schema, value)
    if wrong is not None:
        yield f"{path} is {_shown(value)}; it has to be {wrong}"
        return
    yield from _bounds(schema, value, path)
    yield from _junctions(schema, value, path)
    if isinstance(value, dict):
        yield from _object(schema, value, path, strict=strict)
    elif isinstance(value, list) and "items" in schema:
        for place, item in enumerate(value):
            yield from faults(schema["items"], item, f"{path}[{place}]", strict=strict)


def _wrong_type(schema: Schema, value: Any) -> str | None:
    if schema.get("x-kubernetes-int-or-string"):
        return None if isinstance(value, (int, str)) and not isinstance(value, bool) else "an integer or a string"
    wanted = schema.get("type")
    if wanted is None:
        return None
    if isinstance(value, bool) and wanted != "boolean":
        return str(wanted)
    return None if isinstance(value, _TYPES[wanted]) else str(wanted)


def _object(schema: Schema, value: Mapping[str, Any], path: str, *, strict: bool) -> Iterator[str]:
    known = schema.get("properties") or {}
    for name in schema.get("required") or ():
        if name not in value:
            yield f"{path}.{name} is missing"
    rest = schema.get("additionalProperties")
    free = schema.get("x-kubernetes-preserve-unknown-fields") or rest is True or (not known and rest is None)
    for name, member in value.items():
        if name in known:
            yield from faults(known[name], member, f"{path}.{name}", strict=strict)
        elif isinstance(rest, Mapping):
            yield from faults(rest, member, f"{path}.{name}", strict=strict)
        elif strict and not free and not (schema.get("x-kubernetes-embedded-resource") and name in _EMBEDDED):
            yield f"{path}.{name} is not a field of it; there are {', '.join(sorted(known)[:12])} …"


_EMBEDDED = ("apiVersion", "kind", "metadata")


def _bounds(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path} is {_shown(value)}; it has to be one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str):
        pattern = schema.get("pattern")
        if pattern is not None and re.search(pattern, value) is None:
            yield f"{path} is {_shown(value)}; it has to look like {pattern}"
        yield from _between(len(value), schema, "Length", f"{path} has {len(value)} characters")
    elif isinstance(value, Sequence):
        yield from _between(len(value), schema, "Items", f"{path} has {len(value)} items")
    elif isinstance(value, Mapping):
        yield from _between(len(value), schema, "Properties", f"{path} has {len(value)} members")
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        low, high = schema.get("minimum"), schema.get("maximum")
        if (low is not None and value < low) or (high is not None and value > high):
            yield f"{path} is {value}; it has to be from {low} to {high}"


def _between(count: int, schema: Schema, of: str, what: str) -> Iterator[str]:
    low, high = schema.get(f"min{of}"), schema.get(f"max{of}")
    if (low is not None and count < low) or (high is not None and count > high):
        yield f"{what}; it has to have from {low or 0} to {'any number' if high is None else high}"


def _junctions(schema: Schema, value: Any, path: str) -> Iterator[str]:
    """Structural schemas repeat no fields in their junctions, so there only values are judged."""
    for part in schema.get("allOf") or ():
        yield from faults(part, value, path, strict=False)
    for word, most in (("anyOf", None), ("oneOf", 1)):
        parts = schema.get(word)
        if parts:
            fitting = sum(next(faults(part, value, path, strict=False), None) is None for part in parts)
            if fitting == 0 or (most is not None and fitting > most):
                yield f"{path} fits {fitting} of {len(parts)} forms; it has to fit {'one' if most else 'some'}"
    if "not" in schema and next(faults(schema["not"], value, path, strict=False), None) is None:
        yield f"{path} has a form that it must not have"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
