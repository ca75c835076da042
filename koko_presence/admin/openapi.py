"""The OpenAPI 3.1 document, made from the table of routes and the Structs of requests and responses [M10]."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from koko_presence import __version__

from .api import ErrorAnswer, Route

_REF = "#/components/schemas/{name}"
_WHAT = {
    400: "A parameter or the body is wrong; the message says which.",
    401: "The key is missing or wrong.",
    403: "No key is configured, so the server API is off.",
    404: "The room is not open.",
    408: "The body has not arrived within 10 s.",
    409: "Presence is switched off for as many users as are kept.",
    413: "The body is above 64 KiB, or sets more than is allowed; the message says which.",
    415: "The body's Content-Type is not application/json, or it has a Content-Encoding.",
    429: "Too many calls; Retry-After has the seconds to wait.",
    503: "A worker that may own the room does not answer, or rooms move between workers; try again.",
}
_HEADERS = {
    401: {"WWW-Authenticate": "How to send the key."},
    429: {"Retry-After": "Seconds to wait."},
    503: {"Retry-After": "Seconds to wait."},
}


def document(routes: Sequence[Route], extra: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The document as JSON-compatible values. `extra` is merged into the schemas of these names: rules that a Struct
    cannot express."""
    bodies = [kind for route in routes for kind in (route.answer, route.body_type) if kind is not None]
    _, schemas = msgspec.json.schema_components((*bodies, ErrorAnswer), ref_template=_REF)
    for name, more in extra.items():
        schemas[name] |= more
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "koko-presence server API",
            "version": __version__,
            "description": "For operators and back ends, on the operator port. docs/server-api.md has examples.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The operator port."}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "operator.api_key"}},
            "schemas": schemas,
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": route.name, "summary": route.summary}
    if route.description:
        operation["description"] = route.description
    parameters = _parameters(route.path_type, "path") + _parameters(route.query_type, "query")
    if parameters:
        operation["parameters"] = parameters
    errors = {400, 401, 403, 429, *route.errors}
    if route.method != "GET":
        errors |= {408, 413, 415}
    if route.body_type is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body_type)}
    answers: dict[str, Any] = {str(route.status): {"description": "Done.", "content": _content(route.answer)}}
    for status in sorted(errors):
        answers[str(status)] = {"description": _WHAT[status], "content": _content(ErrorAnswer)}
        if status in _HEADERS:
            answers[str(status)]["headers"] = {
                name: {"description": text, "schema": {"type": "string"}} for name, text in _HEADERS[status].items()
            }
    operation["responses"] = answers
    return operation


def _content(kind: type) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(name=re.sub(r"[^A-Za-z0-9.-]", "_", kind.__name__))}}}


def _parameters(kind: type | None, location: str) -> list[dict[str, Any]]:
    if kind is None:
        return []
    (_,), schemas = msgspec.json.schema_components((kind,))
    schema = schemas[kind.__name__]
    return [
        {
            "name": name,
            "in": location,
            "required": location == "path" or name in schema.get("required", ()),
            "description": one.pop("description", name),
            "schema": one,
        }
        for name, one in schema["properties"].items()
    ]
