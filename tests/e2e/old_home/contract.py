"""Asks a stack about the held home, and compares two sets of answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared.config import ServiceName
from shared.models import Environment
from stack.local.local_stack import LocalStack

ARCHIVE, ANSWERS = (Path(__file__).parent / name for name in ("home.tar.xz", "answers.json"))
HOME = "/tmp/slipway-old-00000000"  # as long as the folder that a test unpacks to: the home's files name it
APPS = ("fetched", "keeper", "kept")
BUILDS = ("keeper-1", "keeper-2", "keeper-3", "kept-1", "kept-2", "kept-3", "kept-4", "kept-5")
JUDGED = ("keeper-1", "kept-1", "kept-2", "kept-3")
RELEASES = ("keeper-r1", "keeper-r2", "kept-r1", "kept-r2", "kept-r3", "kept-r4")
FLAGS = ("colour", "limit", "new-page", "removed", "retired")
CONTEXTS: tuple[dict[str, str], ...] = (
    {},
    {"targetingKey": "ann", "email": "ann@example.com"},
    {"targetingKey": "bob", "email": "bob@elsewhere.example"},
)
_IDENTITY = ("id", "name", "key", "release", "test")
# What goes on while the stack runs: instances are others after each start, and figures are read again.
_LIVE = {"instances", "instances_made", "evaluated_at"}


def answers(stack: LocalStack) -> dict[str, Any]:
    """Returns what the five services say, by service and path."""
    return {f"{service} {path}": _settled(_get(stack, service, path)) for service, path in _questions()} | {
        f"flags {environment} {context}": _evaluated(stack, environment, context)
        for environment in Environment
        for context in CONTEXTS
    }


def lost(before: Any, after: Any, where: str = "") -> Iterator[str]:
    """Yields what of `before` is missing in `after`, or another value there. Added fields and items do not count."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key in after:
                yield from lost(value, after[key], f"{where}.{key}")
            else:
                yield f"{where}.{key} is missing, was {value!r}"
    elif isinstance(before, list) and isinstance(after, list) and (name := _identity(before)):
        found = {item[name]: item for item in after}
        for item in before:
            if item[name] in found:
                yield from lost(item, found[item[name]], f"{where}[{item[name]}]")
            else:
                yield f"{where}[{item[name]}] is missing"
        order = [item[name] for item in before]
        now = [item[name] for item in after if item[name] in order]
        if now != [each for each in order if each in found]:
            yield f"{where} has another order: {now}, was {order}"
    elif before != after:
        yield f"{where} is {after!r}, was {before!r}"


def _questions() -> Iterator[tuple[ServiceName, str]]:
    yield "build", "/apps"
    for app in APPS:
        yield from (("build", f"/apps/{app}{path}") for path in ("", "/builds", "/secrets", "/deliveries"))
    yield from (("build", f"/builds/{build}{path}") for build in BUILDS for path in ("", "/log"))
    yield from (("build", f"/builds/{build}/{part}") for build in JUDGED for part in ("tests", "coverage", "findings"))
    yield "build", "/builds/kept-3/source?file=app.py"
    yield from (("build", f"/builds/{build}/comparison") for build in ("kept-2", "kept-3"))
    yield from (("deployer", f"/releases/{release}") for release in RELEASES)
    for app in ("keeper", "kept"):
        yield from (("proxy", f"/apps/{app}{path}") for path in ("/rollout", "/rollouts"))
        for environment in Environment:
            yield from (("deployer", f"/apps/{app}/environments/{environment}{path}") for path in ("", "/releases"))
            yield from (("monitor", f"/policies/{app}/{environment}{path}") for path in ("", "/decisions"))
    yield from (("monitor", path) for path in ("/rules", "/alerts", "/notifiers", "/silences", "/deliveries"))
    yield from (("flags", f"/flags?environment={environment}") for environment in Environment)
    yield from (("flags", f"/flags/{key}/history") for key in FLAGS)
    yield "flags", "/export"


def _get(stack: LocalStack, service: ServiceName, path: str) -> Any:
    with stack.api(service) as client:
        answer = client.get(path).raise_for_status()
    return answer.json() if answer.headers["content-type"].startswith("application/json") else answer.text


def _evaluated(stack: LocalStack, environment: Environment, context: dict[str, str]) -> Any:
    with stack.api("flags") as client:
        path = f"/ofrep/v1/evaluate/flags?environment={environment}"
        return client.post(path, json={"context": context}).raise_for_status().json()["flags"]


def _settled(answer: Any) -> Any:
    """Leaves out what a running stack changes by itself."""
    if isinstance(answer, dict):
        return {key: _settled(value) for key, value in answer.items() if key not in _LIVE}
    if isinstance(answer, list):
        return [_settled(item) for item in answer if not _is_look(item)]
    return answer


def _is_look(item: Any) -> bool:
    """Returns whether it is a decision to leave the memory as it is: each look counts it up."""
    return isinstance(item, dict) and "cause" in item and item.get("action") == "none"


def _identity(items: list[Any]) -> str:
    """Returns the name of the field by which the items differ, or empty."""
    for name in _IDENTITY:
        if items and len({item.get(name) for item in items if isinstance(item, dict)} - {None}) == len(items):
            return name
    return ""
