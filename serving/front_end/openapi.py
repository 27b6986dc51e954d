"""The OpenAPI document of a use case's front end, made from its declaration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from ninefold import __version__
from ninefold.fields import MAX_CATEGORY_LENGTH, MAX_TEXT_LENGTH, Field
from ninefold.records import Fallback
from ninefold.usecase import UseCase
from serving.front_end.directions import CANDIDATE, LIVE

_TYPES = {
    "number": "number", "integer": "integer", "boolean": "boolean",
    "category": "string", "text": "string", "time": "string",
}  # fmt: skip


def document(use_case: UseCase, *, max_instances: int) -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    name = use_case.name
    model = f"/v1/models/{name}"
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Ninefold front end: {use_case.title}", "version": __version__},
        "security": [{"key": []}, {"bearer": []}],
        "paths": {
            f"{model}:predict": {
                "post": _post("predict", "Predict; every answer is kept.", "Instances", "Predictions", _WAIT)
            },
            f"{model}:explain": {
                "post": _post(
                    "explain", "Explain what would be predicted; nothing is kept.", "Instances", "Explanations"
                )
            },
            "/v1/features": {"post": _post("features", "What is known online of entities.", "Ids", "Features")},
            "/v1/models": {"get": _get("models", "The models served here.")},
            model: {"get": _get("model", "The version that answers, and the rollout that is open.")},
            "/healthz": {"get": {**_get("alive", "Whether the process lives."), "security": []}},
            "/readyz": {"get": {**_get("ready", "Whether it takes requests."), "security": []}},
            "/metrics": {"get": {**_get("metrics", "Prometheus metrics.", media="text/plain"), "security": []}},
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-ApiKey"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "responses": {"Error": {"description": "What is wrong, and what to do.", "content": _json(_ref("Error"))}},
            "schemas": _schemas(use_case, max_instances),
        },
    }


def _schemas(use_case: UseCase, max_instances: int) -> dict[str, Any]:
    def instances(item: str) -> dict[str, Any]:
        return _object(
            {"instances": {"type": "array", "items": _ref(item), "minItems": 1, "maxItems": max_instances}}, closed=True
        )

    def listed(**items: str) -> dict[str, Any]:
        return _object({name: {"type": "array", "items": _ref(item)} for name, item in items.items()})

    prediction: dict[str, Any] = {"type": "number", "description": f"The {use_case.target.name}."}
    if use_case.target.unit:
        prediction["description"] = f"The {use_case.target.name}, in {use_case.target.unit}."
    return {
        "Instance": _instance(use_case.request, required=True),
        "Id": _instance(use_case.request, required=False),
        "Instances": instances("Instance"),
        "Ids": instances("Id"),
        "Prediction": _object(
            {
                "prediction_id": {"type": ["string", "null"], "description": "Its id; null in an explanation."},
                "prediction": prediction,
                "decision": {"description": "What follows from the prediction."},
                "version": {"type": "integer", "description": "Version that answered; 0 is the baseline."},
                "cohort": {
                    "enum": [LIVE, CANDIDATE],
                    "description": "Who answers the request; the candidate's while a rollout gives it a share.",
                },
                "fallback": {
                    "enum": [*get_args(Fallback), None],
                    "description": "Why the baseline answered; null where the model did.",
                },
                "flags": {"type": "array", "items": {"type": "string"}, "description": "What was odd."},
                **_interval(use_case),
            }
        ),
        "Contribution": _object(
            {
                "group": {"type": "string"},
                "words": {"type": "string"},
                "contribution": {"type": "number", "description": "In the prediction's unit."},
            },
            may_be_absent={**_reason(use_case), **_by_word(use_case)},
        ),
        "Explanation": _object(
            {
                "reference": {"type": "number", "description": "The prediction for typical values."},
                "unclipped": {"type": "number", "description": "Reference plus all contributions."},
                "unit": {"type": ["string", "null"]},
                "contributions": {"type": "array", "items": _ref("Contribution")},
            },
            may_be_absent=_sentence(use_case),
        ),
        "Predictions": listed(predictions="Prediction"),
        "Explanations": listed(predictions="Prediction", explanations="Explanation"),
        "Features": _object(
            {
                "version": {"type": ["integer", "null"]},
                "features": {"type": "array", "items": {"type": "object"}},
                "watermarks": {"type": "object", "additionalProperties": {"type": ["string", "null"]}},
            }
        ),
        "Error": {
            "type": "object",
            "required": ["error"],
            "properties": {"error": {"type": "string"}, "field": {"type": "string"}},
        },
    }


def _interval(use_case: UseCase) -> dict[str, Any]:
    if use_case.interval is None:
        return {}
    return {
        "interval": {
            "type": ["array", "null"],
            "items": {"type": "number"},
            "minItems": 2,
            "maxItems": 2,
            "description": f"Lower and upper bound: {use_case.interval:.0%} of the truths are to lie between them. "
            "Null where the baseline answered, which has none.",
        }
    }


def _instance(fields: Sequence[Field], *, required: bool) -> dict[str, Any]:
    optional = {field.name for field in fields if not required or field.nullable or field.digest_of is not None}
    schema = _object({f.name: field_schema(f, nullable=f.name in optional) for f in fields}, closed=True)
    schema["required"] = [field.name for field in fields if field.name not in optional]
    return schema


def field_schema(field: Field, *, nullable: bool = False) -> dict[str, Any]:
    """The JSON schema of one field's values.

    Its declared range is described and not a bound: a value outside of it is answered, by the fallback.
    """
    kind = _TYPES[field.kind]
    null = field.nullable or nullable
    schema: dict[str, Any] = {"type": [kind, "null"] if null else kind}
    words = [field.description] if field.description else []
    if field.unit:
        words.append(f"In {field.unit}.")
    if field.digest_of is not None and null:
        words.append(f"Left out: the first 32 hexadecimal digits of the SHA-256 of {field.digest_of} in UTF-8.")
    if field.minimum is not None or field.maximum is not None:
        words.append(f"Outside of [{field.minimum}, {field.maximum}] the baseline answers.")
    if words:
        schema["description"] = " ".join(words)
    if field.kind == "time":
        schema["format"] = "date-time"
    if field.kind in ("category", "text"):
        schema["maxLength"] = MAX_TEXT_LENGTH if field.kind == "text" else MAX_CATEGORY_LENGTH
    if field.categories is not None:
        schema["enum"] = [*field.categories, None] if null else list(field.categories)
    if field.pattern is not None:
        schema["pattern"] = f"^(?:{field.pattern})$"
    if field.example is not None:
        schema["examples"] = [field.example]
    return schema


_WAIT: dict[str, Any] = {
    "name": "wait",
    "in": "query",
    "description": "Answer when what a candidate says in the answer's shadow is kept too: for replays.",
    "schema": {"enum": ["shadow"]},
}


def _post(operation: str, summary: str, request: str, answer: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    errors = {str(code): {"$ref": "#/components/responses/Error"} for code in (400, 401, 413, 500, 503)}
    return {
        "operationId": operation,
        "summary": summary,
        "parameters": [
            {"name": "X-Request-ID", "in": "header", "schema": {"type": "string", "maxLength": 128}},
            {"name": "traceparent", "in": "header", "schema": {"type": "string", "maxLength": 128}},
            *parameters,
        ],
        "requestBody": {"required": True, "content": _json(_ref(request))},
        "responses": {"200": {"description": "The answer.", "content": _json(_ref(answer))}, **errors},
    }


def _get(operation: str, summary: str, media: str = "application/json") -> dict[str, Any]:
    return {
        "operationId": operation,
        "summary": summary,
        "responses": {"200": {"description": "The answer.", "content": {media: {}}}},
    }


def _reason(use_case: UseCase) -> dict[str, Any]:
    if use_case.reasons is None:
        return {}
    return {"reason": {"type": "string", "description": "What is so of this one, and what that does."}}


def _by_word(use_case: UseCase) -> dict[str, Any]:
    """What a contribution of a group with a text says besides."""
    if all(item.kind != "text" for item in use_case.inputs):
        return {}
    word = _object({"word": {"type": "string"}, "contribution": {"type": "number"}})
    return {
        "by_word": {"type": "array", "items": word, "description": "The words that moved it most, the first the most."},
        "other_words": {"type": "number", "description": "What all other words add up to."},
    }


def _sentence(use_case: UseCase) -> dict[str, Any]:
    if all(item.kind != "text" for item in use_case.inputs):
        return {}
    return {"sentence": {"type": "string", "description": "The words that moved it most, in a sentence."}}


def _object(
    properties: dict[str, Any], *, closed: bool = False, may_be_absent: dict[str, Any] | None = None
) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "required": list(properties),
        "properties": properties | (may_be_absent or {}),
    }
    if closed:
        schema["additionalProperties"] = False
    return schema


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
