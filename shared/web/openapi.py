"""Declares in an OpenAPI document every problem that a call may answer, derived from the shape of the call. Pure.

| status | declared for |
|---|---|
| 400 | a call with a body |
| 401 | a call that needs the token |
| 403 | a call that needs the token and changes state |
| 404 | a call with a part in its path |
| 412 | a call with the header `If-Match` |
| 422 | a call that needs the token, or has parameters or a body |
| 503 | a call that needs the token, or has a part in its path |

A route declares further ones in its `responses`: `CONFLICT`, `GONE`, `TOO_LARGE`, `NOT_IN_TIME`. A route that declares
the shape of its answer 400, as those of OFREP do, answers every wrong request with 400; no 422 is declared for it.
"""

from collections.abc import Callable
from typing import Any

Responses = dict[int | str, dict[str, Any]]

SAFE = ("get", "head", "options")
PROBLEM_JSON = "application/problem+json"
CONFLICT: Responses = {409: {}}
GONE: Responses = {410: {}}
SEE_OTHER: Responses = {303: {"description": "A browser is sent to the page that shows the result."}}
TOO_LARGE: Responses = {413: {}}
NOT_IN_TIME: Responses = {504: {}}
HTML = {"text/html": {"schema": {"type": "string"}}}
AS_PAGE: Responses = {200: {"content": HTML}}
"""For a call that answers a client whose `Accept` begins with `text/html` with a page."""
UNCHANGED_PAGE: Responses = {**AS_PAGE, 204: {"description": "The page is the one that the browser shows."}}

MEANING = {
    400: "The body cannot be read.",
    401: "The token is missing or wrong.",
    403: "A browser sent it from a page of another site.",
    404: "It does not exist; `detail` says what does.",
    409: "Its state does not allow this; `detail` says why.",
    410: "Retention has deleted it.",
    412: "It is not as `If-Match` or `If-None-Match` asks for.",
    413: "The body is too large.",
    422: "Parts of the request are wrong; `errors` names each.",
    503: "A part of the platform does not answer; try again.",
    504: "It has begun, but is not confirmed in time; repeat the call.",
}
PROBLEM_SCHEMA: dict[str, Any] = {
    "title": "Problem",
    "description": "An error, as RFC 9457 defines it. Some have further members.",
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string", "description": "Name of the status."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What is wrong, and what to do."},
    },
    "required": ["type", "title", "status", "detail"],
}
FAULT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "field": {"type": "string", "description": "Path in the body, `gates.coverage`, or `query.` and a name."},
        "detail": {"type": "string", "description": "The fault, and what to do."},
    },
    "required": ["field", "detail"],
}
INVALID_SCHEMA: dict[str, Any] = {
    "title": "InvalidRequest",
    "description": "A problem that names each wrong part of the request.",
    "allOf": [{"$ref": "#/components/schemas/Problem"}],
    "type": "object",
    "properties": {"errors": {"type": "array", "items": FAULT, "minItems": 1}},
    "required": ["errors"],
}


def declare_problems(document: dict[str, Any], is_public: Callable[[str], bool]) -> None:
    """Adds to FastAPI's document, in place, the problems that each call may answer, and removes FastAPI's own shape of
    422. `is_public` returns True for a path that needs no token.
    """
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= {"Problem": PROBLEM_SCHEMA, "InvalidRequest": INVALID_SCHEMA}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _declare(operation, path, method, is_public(path))


def _declare(operation: dict[str, Any], path: str, method: str, is_public: bool) -> None:
    responses = operation["responses"]
    own_shape = "content" in responses.get("400", {})
    is_form = method not in SAFE and "pages" in operation.get("tags", [])
    responses.pop("422", None)
    for status in sorted({*_derived(operation, path, method, is_public), *map(int, responses)}):
        declared = responses.setdefault(str(status), {})
        if status < 400 or "content" in declared or (own_shape and status == 422):
            continue
        name = "InvalidRequest" if status == 422 else "Problem"
        declared["description"] = MEANING[status]
        declared["content"] = {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
        if is_form and status not in (401, 403):
            declared["content"] |= HTML
    if own_shape:
        responses.pop("422")
    operation["responses"] = dict(sorted(responses.items()))


def _derived(operation: dict[str, Any], path: str, method: str, is_public: bool) -> set[int]:
    parameters = operation.get("parameters", [])
    statuses = set()
    if not is_public:
        statuses |= {401, 422, 503} if method in SAFE else {401, 403, 422, 503}
    if "{" in path:
        statuses |= {404, 503}
    if parameters:
        statuses.add(422)
    if "requestBody" in operation:
        statuses |= {400, 422}
    if any(each["in"] == "header" and each["name"].lower() == "if-match" for each in parameters):
        statuses.add(412)
    return statuses
