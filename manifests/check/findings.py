"""What is wrong with an object, and the few questions that every check asks of one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Finding:
    """Something wrong.

    Args:
        thing: The object: ``Kind/name``.
        rule: Name of the rule that it breaks; ``schema`` for a field that its kind does not know.
        message: What is wrong, where, and the value.
    """

    thing: str
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.thing}: {self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    """Pods that an object makes.

    Args:
        owner: The object.
        labels: Labels of the pods.
        spec: Their specification.
        lasting: Whether they are meant to go on: probes are for those.
        served: Whether KServe makes the pod from it, and adds what is not the container's.
    """

    owner: Document
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    lasting: bool = True
    served: bool = False

    @property
    def containers(self) -> list[Mapping[str, Any]]:
        """All containers, those before the start included."""
        return [*self.spec.get("initContainers", ()), *self.spec["containers"]]


def thing(document: Document) -> str:
    """An object's name for people."""
    return f"{document['kind']}/{name(document)}"


def name(document: Document) -> str:
    """An object's name."""
    return str(document["metadata"]["name"])


def namespace(document: Document) -> str | None:
    """An object's namespace; None where it has or states none."""
    found = document["metadata"].get("namespace")
    return None if found is None else str(found)


def labels(document: Document) -> Mapping[str, str]:
    """An object's labels."""
    return document["metadata"].get("labels") or {}


def of_kind(documents: Iterable[Document], *kinds: str) -> list[Document]:
    """The objects of some kinds."""
    return [document for document in documents if document["kind"] in kinds]


def pods(documents: Iterable[Document]) -> Iterator[Pods]:
    """The pods that objects make."""
    for document in documents:
        spec = document.get("spec") or {}
        match document["kind"]:
            case "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet":
                yield _of_template(document, spec["template"])
            case "Job":
                yield _of_template(document, spec["template"], lasting=False)
            case "CronJob":
                yield _of_template(document, spec["jobTemplate"]["spec"]["template"], lasting=False)
            case "Pod":
                yield Pods(owner=document, labels=labels(document), spec=spec)
            case "ServingRuntime" | "ClusterServingRuntime":
                yield Pods(owner=document, labels=spec.get("labels") or {}, spec=spec, served=True)


def _of_template(document: Document, template: Mapping[str, Any], *, lasting: bool = True) -> Pods:
    return Pods(
        owner=document,
        labels=(template.get("metadata") or {}).get("labels") or {},
        spec=template["spec"],
        lasting=lasting,
    )


def selects(selector: Mapping[str, Any], of: Mapping[str, str]) -> bool:
    """Whether a label selector selects labels; an empty one selects everything."""
    if any(of.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    return all(_matches(expression, of) for expression in selector.get("matchExpressions") or ())


def _matches(expression: Mapping[str, Any], of: Mapping[str, str]) -> bool:
    value = of.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:
            return value is None
