"""All rules of the house, in one call."""

from __future__ import annotations

from collections.abc import Sequence

from manifests.check import house, workloads
from manifests.check.findings import Document, Finding

_RULES = (
    workloads.containers,
    workloads.pod_specs,
    workloads.availability,
    workloads.labelled,
    house.routes,
    house.isolation,
    house.rights,
    house.references,
)


def judge(documents: Sequence[Document], generated: frozenset[str] = frozenset()) -> list[Finding]:
    """What the objects of an overlay break.

    Args:
        documents: The objects.
        generated: Names of Secrets that generators make from files outside of the repository.
    """
    found = [finding for rule in _RULES for finding in rule(documents)]
    return sorted([*found, *house.secrets(documents, generated)])
