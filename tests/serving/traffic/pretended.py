"""An API server in memory, as far as routes and leases need one, and a gateway that takes what it is given.

It keeps what the real one keeps of these: a version that changes with every write, a generation that changes with the
spec, one owner of the atomic lists of a spec and of each annotation. ``faults`` are raised one by one, before or after
the call was carried out.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Mapping
from typing import Any

from ninefold.errors import FieldConflict, NinefoldError, ObjectChanged

Document = dict[str, Any]
Key = tuple[str, str]


class Pretended:
    def __init__(self, manager: str = "ninefold-rollout", objects: dict[Key, Document] | None = None) -> None:
        self.manager = manager
        self.objects: dict[Key, Document] = {} if objects is None else objects
        self.events: list[tuple[str, str, bool]] = []
        self.writes: list[Document] = []
        self.before: list[NinefoldError | None] = []
        """Raised by the next calls, which are not carried out."""
        self.after: list[NinefoldError | None] = []
        """Raised by the next writes, which are."""
        self.meanwhile: Callable[[], None] = lambda: None
        """Called between what a write rests on and the write."""
        self.takes = True
        self._mutex = threading.Lock()

    def as_manager(self, name: str) -> Pretended:
        return Pretended(name, self.objects)

    def get(self, api_version: str, kind: str, name: str, **_: Any) -> Document | None:
        self._fail(self.before)
        return copy.deepcopy(self.objects.get((kind, name)))

    def list(self, api_version: str, kind: str, labels: Mapping[str, str] | None = None, **_: Any) -> list[Document]:
        self._fail(self.before)
        found = []
        for (of, _name), document in sorted(self.objects.items()):
            has = document["metadata"].get("labels") or {}
            if of == kind and all(has.get(key) == value for key, value in (labels or {}).items()):
                found.append(copy.deepcopy(document))
        return found

    def create(self, document: Mapping[str, Any]) -> Document:
        self._fail(self.before)
        with self._mutex:
            if self._key(document) in self.objects:
                raise ObjectChanged("It is there already.")
            made = self._keep(document, None)
        self._fail(self.after)
        return made

    def replace(self, document: Mapping[str, Any]) -> Document:
        self._fail(self.before)
        self.meanwhile()
        with self._mutex:
            found = self.objects[self._key(document)]
            if found["metadata"]["resourceVersion"] != document["metadata"]["resourceVersion"]:
                raise ObjectChanged("It has changed.")
            made = self._keep(document, found)
        self._fail(self.after)
        return made

    def apply(self, document: Mapping[str, Any], **_: Any) -> Document:
        self._fail(self.before)
        self.meanwhile()
        with self._mutex:
            found = self.objects.get(self._key(document))
            wanted = document["metadata"].get("resourceVersion")
            if wanted is not None and (found is None or found["metadata"]["resourceVersion"] != wanted):
                raise ObjectChanged("The object has been modified.")
            if found is not None:
                self._require_mine(found, document)
            made = self._keep(document, found)
        self.writes.append(copy.deepcopy(dict(document)))
        self._fail(self.after)
        return made

    def delete(self, api_version: str, kind: str, name: str, **_: Any) -> bool:
        return self.objects.pop((kind, name), None) is not None

    def event(self, regarding: Mapping[str, Any], *, reason: str, message: str, warning: bool = False) -> None:
        self.events.append((reason, message, warning))

    def edit(self, name: str, change: Callable[[Document], None], manager: str = "kubectl-edit") -> None:
        """As somebody does by hand: takes the rules, or annotations, for its own."""
        document = self.objects["HTTPRoute", name]
        before = copy.deepcopy(document)
        change(document)
        fields: Document = {}
        if document["spec"] != before["spec"]:
            fields["f:spec"] = {"f:rules": {}}
        changed = {
            f"f:{key}": {}
            for key, value in document["metadata"]["annotations"].items()
            if before["metadata"]["annotations"].get(key) != value
        }
        if changed:
            fields["f:metadata"] = {"f:annotations": changed}
        document["metadata"]["managedFields"].append({"manager": manager, "operation": "Update", "fieldsV1": fields})
        self._number(document)

    def touch(self, name: str) -> None:
        """As a gateway does that writes a route's status."""
        self._number(self.objects["HTTPRoute", name])

    def _keep(self, document: Mapping[str, Any], found: Document | None) -> Document:
        made = copy.deepcopy(dict(document))
        metadata = made["metadata"]
        metadata.setdefault("namespace", "ninefold")
        before = 0 if found is None else found["metadata"].get("generation", 0)
        metadata["generation"] = before + (found is None or found.get("spec") != made.get("spec"))
        managed = [] if found is None else found["metadata"].get("managedFields", [])
        others = [entry for entry in managed if entry["manager"] != self.manager]
        metadata["managedFields"] = [
            *others, {"manager": self.manager, "operation": "Apply", "fieldsV1": {"f:spec": {"f:rules": {}}}},
        ]  # fmt: skip
        if found is not None and "status" in found:
            made["status"] = found["status"]
        if made["kind"] == "HTTPRoute":
            made.setdefault("status", {})
            if self.takes:
                made["status"] = {"parents": [
                    {"parentRef": {"name": parent["name"]}, "conditions": conditions(metadata["generation"])}
                    for parent in made["spec"]["parentRefs"]
                ]}  # fmt: skip
        self._number(made)
        self.objects[self._key(made)] = made
        return copy.deepcopy(made)

    def _require_mine(self, found: Document, document: Mapping[str, Any]) -> None:
        for entry in found["metadata"]["managedFields"]:
            owns = (entry.get("fieldsV1") or {}).get("f:spec") or {}
            if entry["manager"] != self.manager and "f:rules" in owns and found["spec"] != document["spec"]:
                raise FieldConflict(
                    f"HTTPRoute {found['metadata']['name']} was changed by somebody else: {entry['manager']} owns"
                    " .spec.rules.", managers={entry["manager"]: (".spec.rules",)},
                )  # fmt: skip

    def _number(self, document: Document) -> None:
        # As the real one's: opaque, and never given twice.
        self._count = getattr(self, "_count", 0) + 1
        document["metadata"]["resourceVersion"] = f"{id(self)}-{self._count}"

    @staticmethod
    def _key(document: Mapping[str, Any]) -> Key:
        return document["kind"], document["metadata"]["name"]

    @staticmethod
    def _fail(faults: list[NinefoldError | None]) -> None:
        fault = faults.pop(0) if faults else None
        if fault is not None:
            raise fault


def conditions(generation: int, **refused: str) -> list[Document]:
    return [
        {
            "type": kind, "status": "False" if kind in refused else "True", "observedGeneration": generation,
            "reason": refused.get(kind, kind), "message": f"About {kind}.",
        }
        for kind in ("Accepted", "ResolvedRefs")
    ]  # fmt: skip


def inference_service(use_case: str, version: int, digest: str, *, ready: bool = True, why: str = "") -> Document:
    """As the release makes it and KServe looks at it."""
    status = [{"type": "PredictorReady", "status": str(ready), "reason": "MinimumReplicasUnavailable", "message": why}]
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": f"{use_case}-v{version}",
            "namespace": "ninefold",
            "labels": {"ninefold.dev/use-case": use_case, "ninefold.dev/version": str(version)},
            "annotations": {"ninefold.dev/digest": digest, "serving.kserve.io/deploymentMode": "Standard"},
        },
        "status": {"conditions": [*status, {"type": "Ready", "status": str(ready)}]},
    }
