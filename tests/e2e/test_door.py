"""Every operation of the five OpenAPI documents wants the token, but for the public ones; docs work offline."""

import re
from typing import Any

import httpx
import pytest

from shared.config import SERVICES, ServiceName
from stack.local.local_stack import LocalStack

PUBLIC = re.compile(r"/health|/apps/\{app\}/badge\.svg")


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic d3Jvbmc6d3Jvbmc="}]
)
def test_every_operation_wants_the_token(stack: LocalStack, service: ServiceName, headers: dict[str, str]) -> None:
    with httpx.Client(verify=False, base_url=stack.settings.url(service)) as client:
        document = client.get("/openapi.json").json()
        seen = 0
        for path, operations in document["paths"].items():
            for method in operations:
                # A webhook is public, and asks for its signature instead.
                address = re.sub(r"\{\w+\}", "x-1", path.replace("{forge}", "github"))
                answer = client.request(method, address, headers=headers)
                if PUBLIC.fullmatch(path):
                    assert answer.status_code != 401, f"{method} {path}"
                else:
                    assert answer.status_code == 401, f"{method} {path}"
                    assert answer.headers["content-type"] == "application/problem+json"
                seen += 1
    assert seen >= 5


@pytest.mark.parametrize("service", SERVICES)
def test_the_docs_describe_every_operation_and_need_nothing_from_elsewhere(
    stack: LocalStack, service: ServiceName
) -> None:
    with httpx.Client(verify=False, base_url=stack.settings.url(service)) as client:
        page = client.get("/docs")
        document = client.get("/openapi.json").json()
        linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert all(link.startswith("/") and client.get(link).status_code == 200 for link in linked), linked
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation.get("description"), f"{method} {path} has no description"
            assert operation.get("summary"), f"{method} {path} has no summary"


@pytest.mark.parametrize("service", SERVICES)
def test_every_json_body_shows_an_example(stack: LocalStack, service: ServiceName) -> None:
    with httpx.Client(verify=False, base_url=stack.settings.url(service)) as client:
        document = client.get("/openapi.json").json()
    schemas = document["components"].get("schemas", {})

    def shows_an_example(part: dict[str, Any]) -> bool:
        named = schemas.get(part.get("$ref", "").rpartition("/")[2], {})
        inner = [named, part.get("schema", {}), *part.get("anyOf", []), *part.get("properties", {}).values()]
        return "example" in part or "examples" in part or any(shows_an_example(each) for each in inner if each)

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for media in operation.get("requestBody", {}).get("content", {}).values():
                assert shows_an_example(media), f"{method} {path} shows no example"
