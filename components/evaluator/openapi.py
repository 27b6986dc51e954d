"""The OpenAPI document of the evaluator."""

from __future__ import annotations

from typing import Any

from components.evaluator.disclosure import MINIMUM_COVERAGE, MINIMUM_ROWS, MOST_EVALUATIONS
from ninefold import __version__

_ERROR = {
    "description": "What is wrong, and what to do.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["error"],
                "properties": {"error": {"type": "string"}, "field": {"type": "string"}},
            }
        }
    },
}
_NUMBER = {"type": ["number", "null"]}
_ANSWER = {
    "description": "The evaluation.",
    "content": {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": {
                    "evaluation_id": {"type": "string"},
                    "use_case": {"type": "string"},
                    "test_set": {"type": "string"},
                    "version": {"type": ["integer", "null"]},
                    "evaluated_at": {"type": "string", "format": "date-time"},
                    "metric": {"type": "string"},
                    "direction": {"enum": ["minimize", "maximize"]},
                    "unit": {"type": "string"},
                    "value": _NUMBER,
                    "interval": {"type": "array", "items": _NUMBER, "description": "95 %, over blocks."},
                    "rows": {"type": "integer"},
                    "coverage": {"type": "number"},
                    "blocks": {"type": "integer"},
                    "metrics": {"type": "object", "additionalProperties": _NUMBER},
                    "application": {"type": "object", "additionalProperties": _NUMBER},
                    "slices": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "properties": {
                                "field": {"type": "string"},
                                "value": {"type": "string"},
                                "rows": {"type": ["integer", "null"]},
                                "metric": _NUMBER,
                            },
                        },
                    },
                    "evaluations_left": {"type": "integer"},
                },
            }
        }
    },
}

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {
        "title": "Ninefold evaluator",
        "version": __version__,
        "description": "Judges predictions by truths that it keeps to itself.",
    },
    "components": {
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-ApiKey"},
            "bearer": {"type": "http", "scheme": "bearer"},
        }
    },
    "security": [{"key": []}, {"bearer": []}],
    "paths": {
        "/v1/evaluations": {
            "post": {
                "summary": "Judge predictions of a registered test set.",
                "description": f"At least {MINIMUM_ROWS} predictions, covering {MINIMUM_COVERAGE:.0%} of the test set; "
                f"{MOST_EVALUATIONS} evaluations for a caller on a test set. Numbers are rounded; the same predictions "
                "again get the same answer and do not count.",
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {
                                "type": "object",
                                "additionalProperties": False,
                                "required": ["use_case", "predictions"],
                                "properties": {
                                    "use_case": {"type": "string", "examples": ["arrivals"]},
                                    "test_set": {
                                        "type": "string",
                                        "description": "Name of a registered test set; by default the newest.",
                                    },
                                    "version": {"type": "integer", "minimum": 0},
                                    "predictions": {
                                        "type": "array",
                                        "items": {
                                            "type": "object",
                                            "additionalProperties": False,
                                            "required": ["key", "prediction"],
                                            "properties": {"key": {"type": "string"}, "prediction": {"type": "number"}},
                                        },
                                    },
                                },
                            }
                        }
                    },
                },
                "responses": {
                    "201": _ANSWER,
                    "200": {**_ANSWER, "description": "These predictions were judged before."},
                    "400": _ERROR,
                    "401": _ERROR,
                    "404": _ERROR,
                    "413": _ERROR,
                    "429": _ERROR,
                },
            }
        },
        "/v1/evaluations/{evaluation_id}": {
            "get": {
                "summary": "An evaluation that you had before.",
                "parameters": [{"name": "evaluation_id", "in": "path", "required": True, "schema": {"type": "string"}}],
                "responses": {"200": _ANSWER, "401": _ERROR, "404": _ERROR},
            }
        },
    },
}
