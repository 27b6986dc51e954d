"""Kubernetes' own kinds and custom resources are held against their schemas, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from manifests.check.definitions import Definitions
from manifests.check.validate import validate

NONE = Definitions("nowhere")


def _messages(document: dict[str, Any], definitions: Definitions = NONE) -> list[str]:
    return [finding.message for finding in validate([document], definitions).findings]


def _service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "app"}, "spec": spec}


def test_a_sound_object_of_kubernetes_has_no_faults() -> None:
    assert _messages(_service(ports=[{"port": 80, "targetPort": "http"}], selector={"app": "x"})) == []


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"port": 80}, "spec.port is not a field of it"),
        ({"ports": [{"port": "80"}]}, "spec.ports[0].port is '80'; it has to be int"),
        ({"ports": [{"name": "http"}]}, "Invalid value for `port`, must not be `None`"),
        ({"ports": {"port": 80}}, "spec.ports is {'port': 80}; it has to be a list"),
        ({"selector": {"app": 1}}, "spec.selector.app is 1; it has to be str"),
        ({"publishNotReadyAddresses": "yes"}, "spec.publishNotReadyAddresses is 'yes'; it has to be bool"),
    ],
)
def test_what_is_wrong_with_an_object_of_kubernetes_is_named(spec: dict[str, Any], message: str) -> None:
    assert any(message in found for found in _messages(_service(**spec)))


SCHEMA = {
    "type": "object",
    "required": ["spec"],
    "properties": {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": {
            "type": "object",
            "required": ["size"],
            "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 5},
                "mode": {"type": "string", "enum": ["fast", "slow"]},
                "wait": {"type": "string", "pattern": "^[0-9]+s$", "maxLength": 4},
                "port": {"x-kubernetes-int-or-string": True},
                "parts": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"of": {}}}},
                "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "one": {
                    "type": "object",
                    "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
                    "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
                },
            },
        },
    },
}


@pytest.fixture
def definitions(tmp_path: Path) -> Definitions:
    """A folder with one definition, as operators publish them."""
    document = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com",
            "names": {"kind": "Thing", "plural": "things"},
            "versions": [
                {"name": "v1", "served": True, "schema": {"openAPIV3Schema": SCHEMA}},
                {"name": "v0", "served": False, "schema": {"openAPIV3Schema": SCHEMA}},
            ],
        },
    }
    (tmp_path / "things.yaml").write_text(yaml.safe_dump(document))
    return Definitions.of_folder(tmp_path)


def _thing(version: str = "v1", **spec: Any) -> dict[str, Any]:
    spec = {"size": 1, **spec}
    return {"apiVersion": f"example.com/{version}", "kind": "Thing", "metadata": {"name": "x"}, "spec": spec}


def test_a_sound_custom_resource_has_no_faults(definitions: Definitions) -> None:
    sound = _thing(
        mode="fast", wait="10s", port="http", parts=[{"of": 1}], free={"x": [1]}, labels={"a": "b"}, one={"a": ""}
    )
    assert _messages(sound, definitions) == []
    assert not validate([sound], definitions).unvalidated


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"sise": 1}, "spec.sise is not a field of it"),
        ({"size": None}, "spec.size is null"),
        ({"size": 6}, "spec.size is 6; it has to be from 1 to 5"),
        ({"size": True}, "spec.size is True; it has to be integer"),
        ({"mode": "medium"}, "spec.mode is 'medium'; it has to be one of fast, slow"),
        ({"wait": "soon"}, "spec.wait is 'soon'; it has to look like"),
        ({"wait": "10000s"}, "spec.wait has 6 characters"),
        ({"port": 1.5}, "spec.port is 1.5; it has to be an integer or a string"),
        ({"parts": []}, "spec.parts has 0 items"),
        ({"parts": [{"off": 1}]}, "spec.parts[0].off is not a field of it"),
        ({"labels": {"a": 1}}, "spec.labels.a is 1; it has to be string"),
        ({"one": {"a": "", "b": ""}}, "spec.one fits 2 of 2 forms"),
    ],
)
def test_what_is_wrong_with_a_custom_resource_is_named(
    spec: dict[str, Any], message: str, definitions: Definitions
) -> None:
    assert any(message in found for found in _messages(_thing(**spec), definitions))


def test_a_field_that_is_required_and_a_metadata_that_is_wrong_are_named(definitions: Definitions) -> None:
    document = _thing()
    del document["spec"]["size"]
    document["metadata"]["label"] = {}
    found = _messages(document, definitions)
    assert any("spec.size is missing" in message for message in found)
    assert any("metadata.label is not a field of it" in message for message in found)


def test_a_kind_or_a_version_without_a_schema_is_listed_and_no_fault(definitions: Definitions) -> None:
    validation = validate([_thing("v0"), {**_thing(), "kind": "Other"}], definitions)
    assert validation.findings == []
    assert validation.unvalidated == {("example.com/v0", "Thing"), ("example.com/v1", "Other")}
