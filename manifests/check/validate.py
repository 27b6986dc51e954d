"""Every object against the schema of its kind."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from manifests.check import builtin, structural
from manifests.check.definitions import Definitions, Kind
from manifests.check.findings import Document, Finding, thing


@dataclass(slots=True)
class Validation:
    """What came of it.

    Args:
        findings: What is wrong.
        unvalidated: Kinds that no schema was at hand for.
    """

    findings: list[Finding] = field(default_factory=list)
    unvalidated: set[Kind] = field(default_factory=set)


def validate(documents: Iterable[Document], definitions: Definitions) -> Validation:
    """Holds objects against their schemas; an unknown field is wrong, and a kind without a schema is named."""
    result = Validation()
    for document in documents:
        api_version, kind = str(document["apiVersion"]), str(document["kind"])
        model = builtin.model_of(api_version, kind)
        if model is not None:
            wrong = list(builtin.faults(model, document, ""))
        else:
            schema = definitions.schema(api_version, kind)
            if schema is None:
                result.unvalidated.add((api_version, kind))
                continue
            own = {name: value for name, value in document.items() if name not in ("apiVersion", "kind", "metadata")}
            wrong = [text.removeprefix(".") for text in structural.faults(_without_metadata(schema), own, "")]
            wrong += builtin.faults(builtin.model_of("v1", "ObjectMeta"), document["metadata"], "metadata")
        result.findings += (Finding(thing=thing(document), rule="schema", message=text) for text in wrong)
    return result


def _without_metadata(schema: Document) -> Document:
    return {**schema, "required": [name for name in schema.get("required") or () if name not in _COMMON]}


_COMMON = ("apiVersion", "kind", "metadata")
