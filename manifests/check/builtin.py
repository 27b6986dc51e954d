"""Kubernetes' own kinds against the models of its Python client, which are made from Kubernetes' OpenAPI.

They know every field, its type, and which are required, with no cluster and no network.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from typing import Any

GROUPS = frozenset(
    {
        "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apps", "autoscaling", "batch",
        "coordination.k8s.io", "discovery.k8s.io", "networking.k8s.io", "node.k8s.io", "policy",
        "rbac.authorization.k8s.io", "scheduling.k8s.io", "storage.k8s.io",
    }
)  # fmt: skip
"""Groups that are Kubernetes' own."""

_SIMPLE: dict[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
_LIST, _DICT = re.compile(r"list\[(.+)\]"), re.compile(r"dict\(str, (.+)\)")


def model_of(api_version: str, kind: str) -> Any | None:
    """The client's model of a kind; None when it is none of Kubernetes' own."""
    group, _, version = api_version.rpartition("/")
    if group not in GROUPS:
        return None
    return getattr(_models(), version[0].upper() + version[1:] + kind, None)


def faults(model: Any, value: Any, path: str) -> Iterator[str]:
    """What is wrong with an object.

    Args:
        model: Its model.
        value: The object, as read from YAML.
        path: Where it stands, for the message; empty for a whole object.
    """
    found: list[str] = []
    _read(model, value, path, found)
    yield from found


@functools.cache
def _models() -> Any:
    # Half a second and more, for those who need it.
    import kubernetes.client.models

    return kubernetes.client.models


def _read(model: Any, value: Any, path: str, found: list[str]) -> Any:
    """The value as a model, so that the model's own constructor says what is missing."""
    if not isinstance(value, Mapping):
        found.append(f"{path} is {value!r}; it has to be an object")
        return value
    attributes = {json: attribute for attribute, json in model.attribute_map.items()}
    members = {}
    for name, member in value.items():
        at = f"{path}.{name}" if path else name
        if name not in attributes:
            found.append(f"{at} is not a field of it; there are {', '.join(sorted(attributes)[:12])} …")
        else:
            attribute = attributes[name]
            members[attribute] = _member(model.openapi_types[attribute], member, at, found)
    try:
        return model(**members)
    except ValueError as error:
        found.append(f"{path or 'it'}: {error}")
        return value


def _member(kind: str, value: Any, path: str, found: list[str]) -> Any:
    if value is None or kind in ("object", "datetime", "file"):
        return value
    if kind in _SIMPLE:
        if not isinstance(value, _SIMPLE[kind]) or (isinstance(value, bool) and kind != "bool"):
            found.append(f"{path} is {value!r}; it has to be {kind}")
        return value
    if of := _LIST.fullmatch(kind):
        if not isinstance(value, list):
            found.append(f"{path} is {value!r}; it has to be a list")
            return value
        return [_member(of[1], item, f"{path}[{place}]", found) for place, item in enumerate(value)]
    if of := _DICT.fullmatch(kind):
        if not isinstance(value, Mapping):
            found.append(f"{path} is {value!r}; it has to be a mapping")
            return value
        return {name: _member(of[1], item, f"{path}.{name}", found) for name, item in value.items()}
    return _read(getattr(_models(), kind), value, path, found)
