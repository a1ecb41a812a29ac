"""The document declares each problem that a call may answer."""

from typing import Any

from shared.web.openapi import PROBLEM_JSON, declare_problems

JSON: dict[str, Any] = {"application/json": {}}


def declared(path: str, method: str, *, responses: dict[str, Any] | None = None, **operation: Any) -> dict[str, Any]:
    """Returns the answers that a call has in the document, apart from its good one."""
    own = {"responses": {"200": {"content": JSON}, **(responses or {})}}
    document: dict[str, Any] = {"paths": {path: {method: {**operation, **own}}}}
    declare_problems(document, lambda path: path.startswith("/public"))
    answers: dict[str, Any] = document["paths"][path][method]["responses"]
    assert list(answers) == sorted(answers)
    assert answers.pop("200") == {"content": JSON}
    return answers


def test_what_a_call_may_answer_follows_from_its_shape() -> None:
    header = {"in": "header", "name": "if-match"}
    cases: dict[str, tuple[Any, ...]] = {
        "": ("/public", "get"),
        "422": ("/public", "get", {"parameters": [{"in": "query", "name": "q"}]}),
        "404 422 503": ("/public/{id}", "get", {"parameters": [{"in": "path", "name": "id"}]}),
        "401 422 503": ("/things", "get"),
        "401 403 422 503": ("/things", "post"),
        "400 401 403 404 422 503": ("/things/{id}", "put", {"requestBody": {}}),
        "401 403 404 412 422 503": ("/things/{id}", "delete", {"parameters": [header]}),
    }
    for expected, (path, method, *operation) in cases.items():
        answers = declared(path, method, **(operation[0] if operation else {}))
        assert " ".join(answers) == expected
        for status, answer in answers.items():
            name = "InvalidRequest" if status == "422" else "Problem"
            assert answer["content"] == {PROBLEM_JSON: {"schema": {"$ref": f"#/components/schemas/{name}"}}}
            assert answer["description"].endswith((".", "it."))


def test_a_route_names_further_problems_and_keeps_its_own_shapes() -> None:
    answers = declared("/things", "get", responses={"409": {"description": "Conflict"}, "503": {"content": JSON}})
    assert " ".join(answers) == "401 409 422 503"
    assert answers["409"]["description"] == "Its state does not allow this; `detail` says why."
    assert answers["503"] == {"content": JSON}
    own = declared("/things", "get", responses={"400": {"content": JSON}, "422": {"content": JSON}})
    assert " ".join(own) == "400 401 503", "its faults are 400"


def test_a_form_shows_its_problem_as_a_page() -> None:
    answers = declared("/things", "post", tags=["pages"], responses={"409": {}})
    pages = {status for status, answer in answers.items() if "text/html" in answer["content"]}
    assert pages == {"409", "422", "503"}


def test_fastapis_own_shape_of_422_is_gone() -> None:
    document: dict[str, Any] = {"paths": {}, "components": {"schemas": {"ValidationError": {}, "Kept": {}}}}
    declare_problems(document, lambda path: True)
    assert set(document["components"]["schemas"]) == {"Kept", "Problem", "InvalidRequest"}
