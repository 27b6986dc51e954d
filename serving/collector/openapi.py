"""The OpenAPI document of a use case's collector, made from its declaration."""

from __future__ import annotations

from typing import Any, Literal

from ninefold import __version__
from ninefold.fields import Field
from ninefold.usecase import UseCase
from serving.collector import labels
from serving.collector.intake import MAX_TEXT
from serving.front_end.openapi import field_schema

_TIME = {"type": "string", "format": "date-time"}
_ID = {"type": "string", "maxLength": 256, "description": "Minted by the sender; else made from the content."}
Clocked = Literal["wall", "event"]


def document(use_case: UseCase, *, clock: Clocked, max_items: int) -> dict[str, Any]:
    """The OpenAPI 3.1 document.

    Args:
        use_case: The use case.
        clock: Where time comes from, which decides who says when something was known.
        max_items: Most items of a batch.
    """
    paths: dict[str, Any] = {
        "/v1/truths": _post(
            "truths",
            "Report what turned out to be so. Late, corrected, repeated and out-of-order truths are accepted: all are"
            " kept, and the newest known of a key counts. A truth of a key that was never asked for is kept and counted"
            " as unmatched.",
            "Truth",
            max_items,
        ),
        "/v1/feedback": _post(
            "feedback",
            "Report what a user says of a prediction. With a value it is a truth whose source is the user; without one"
            " it is kept for labelling. Feedback on a prediction that is not known yet waits for it. One user of a key,"
            " and a key, can send so much in a minute.",
            "Feedback",
            max_items,
            more={"429": "Too much feedback of this key or of one user; Retry-After says when to send it again."},
            waits=True,
        ),
    }
    if use_case.streams:
        paths["/v1/events"] = _post(
            "events",
            "Report what happened, for windows to count. An event that comes after the watermark passed it is"
            " lifted just past it, and counted as late.",
            "Event",
            max_items,
            beside={} if clock == "wall" else {"advance_to": {**_TIME, "description": "Where the watermark moves to."}},
            parameters=[
                {
                    "name": "wait",
                    "in": "query",
                    "description": "Answer when the windows are written too.",
                    "schema": {"type": "string", "enum": ["windows"]},
                }
            ],
        )
    if use_case.labelling is not None:
        paths[labels.PATH] = labels.described(use_case)
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Ninefold collector: {use_case.title}", "version": __version__},
        "security": [{"key": []}, {"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-ApiKey"},
                "bearer": {"type": "http", "scheme": "bearer"},
                **labels.SECURITY,
            },
            "schemas": {
                "Truth": _truth(use_case, clock),
                "Feedback": _feedback(use_case.target),
                **({"Event": _event(use_case, clock)} if use_case.streams else {}),
                "Outcome": _outcome(),
                "Error": _error(),
            },
        },
    }


def _post(
    kind: str,
    summary: str,
    item: str,
    max_items: int,
    *,
    beside: dict[str, Any] | None = None,
    parameters: list[dict[str, Any]] | None = None,
    more: dict[str, str] | None = None,
    waits: bool = False,
) -> dict[str, Any]:
    one = {"$ref": f"#/components/schemas/{item}"}
    batch = _object({kind: {"type": "array", "items": one, "maxItems": max_items}, **(beside or {})}, required=[kind])
    kept = {"content": _json({"$ref": "#/components/schemas/Outcome"})}
    failures = {
        "400": "A field is wrong; nothing was kept.",
        "401": "No key, or a wrong one.",
        "403": "The key is for something else.",
        **(more or {}),
        "413": "The body or the batch is too large.",
        "503": "Nothing can be kept now, or too much waits; Retry-After says when to send it again.",
    }
    return {
        "post": {
            "operationId": kind,
            "summary": summary,
            "parameters": parameters or [],
            "requestBody": {"required": True, "content": _json({"oneOf": [one, batch]})},
            "responses": {
                "200": {**kept, "description": "Everything is kept."},
                **(
                    {"202": {**kept, "description": "Everything is kept; some waits for its prediction."}}
                    if waits
                    else {}
                ),
                **{
                    status: {"description": words, "content": _json({"$ref": "#/components/schemas/Error"})}
                    for status, words in failures.items()
                },
            },
        }
    }


def _key(use_case: UseCase) -> dict[str, Any]:
    """The key's fields; one that is a digest may be left out where the string that it is made of is sent."""
    key = [use_case.fields[name] for name in use_case.key]
    sources = [use_case.fields[field.digest_of] for field in key if field.digest_of is not None]
    return _object(
        {
            field.name: field_schema(field, nullable=field.digest_of is not None)
            for field in dict.fromkeys([*key, *sources])
        },
        required=[field.name for field in key if field.digest_of is None],
    )


def _truth(use_case: UseCase, clock: Clocked) -> dict[str, Any]:
    known_at = {
        **_TIME,
        "description": "When it became known."
        if clock == "event"
        else "When it became known, at most five minutes ahead; else when it is received.",
    }
    return _object(
        {
            "id": _ID,
            "key": _key(use_case),
            "value": _value(use_case.target),
            "known_at": known_at,
            "source": {"type": "string", "enum": ["system", "user", "labeller"], "default": "system"},
            "annotator": {"type": "string", "maxLength": 256, "description": "The person who says so."},
            "note": {"type": "string", "maxLength": 10_000},
        },
        required=["key", "value", *(["known_at"] if clock == "event" else [])],
    )


def _event(use_case: UseCase, clock: Clocked) -> dict[str, Any]:
    """One of the streams' events; ``values`` depends on the stream."""
    times = {"happened_at": {**_TIME, "description": "When it happened."}}
    if clock == "event":
        times["known_at"] = {**_TIME, "description": "When it became known; by default when it happened."}
    return {
        "oneOf": [
            {
                **_object(
                    {
                        "id": _ID,
                        "stream": {"const": stream.name},
                        **times,
                        "values": _object(
                            {field.name: field_schema(field) for field in stream.fields},
                            required=[field.name for field in stream.fields if not field.nullable],
                        ),
                    },
                    required=["stream", "happened_at", "values"],
                ),
                "title": stream.name,
                "description": stream.description,
            }
            for stream in use_case.streams
        ]
    }


def _feedback(target: Field) -> dict[str, Any]:
    return {
        **_object(
            {
                "id": _ID,
                "prediction_id": {"type": "string", "maxLength": 256},
                "value": {**_value(target), "description": "What would have been right."},
                "wrong": {"type": "boolean", "description": "Whether the user calls the prediction wrong, or right."},
                "text": {"type": "string", "maxLength": MAX_TEXT, "description": "What the user says."},
                "user": {"type": "string", "maxLength": 256, "description": "Who; kept as a pseudonym."},
                "known_at": {**_TIME, "description": "When the user said so."},
            },
            required=["prediction_id"],
        ),
        "anyOf": [{"required": ["value"]}, {"required": ["wrong"]}, {"required": ["text"]}],
    }


def _value(target: Field) -> dict[str, Any]:
    """A truth's value: unlike in a request, what lies outside of its range is refused."""
    schema = field_schema(target)
    words = [f"The {target.name}.", target.description, f"In {target.unit}." if target.unit else ""]
    bounds = {"minimum": target.minimum, "maximum": target.maximum}
    return {
        **schema,
        "description": " ".join(word for word in words if word),
        **{name: bound for name, bound in bounds.items() if bound is not None},
    }


def _outcome() -> dict[str, Any]:
    counts = {
        "accepted": "Records in the request; all are kept.",
        "new": "Those that were not kept yet.",
        "repeated": "Those that were kept already.",
        "conflicting": "Of the repeated ones, those whose id holds another content; that one stands.",
        "late": "New events that came after the watermark had passed them.",
        "unmatched": "Truths of keys that nothing was predicted for, yet.",
        "waiting": "Feedback whose prediction is not known, yet; it is joined when it comes.",
    }
    watermark = {"type": ["string", "null"], "format": "date-time", "description": "How far the windows reach."}
    properties: dict[str, Any] = {
        name: {"type": "integer", "minimum": 0, "description": words} for name, words in counts.items()
    }
    return _object({**properties, "watermark": watermark}, required=[*counts, "watermark"])


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {"type": "string", "description": "What is wrong, and what to do."},
            "field": {"type": "string", "description": "The first field that is wrong."},
            "wrong": {"type": "integer", "description": "Items of the batch that are wrong."},
            "total": {"type": "integer"},
            "errors": {
                "type": "array",
                "description": "The first ones.",
                "items": _object({"field": {"type": "string"}, "error": {"type": "string"}}),
            },
        },
    }


def _object(properties: dict[str, Any], *, required: list[str] | None = None) -> dict[str, Any]:
    """A closed object; every property is required unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
