"""Calls a service by its own OpenAPI document, with schemathesis, and collects answers that the document excludes."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import hypothesis
import schemathesis
from fastapi import FastAPI
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema
from schemathesis.python.asgi import shutdown_lifespans

SEED = int(os.environ.get("E2E_SEED", "1"))
CASES = int(os.environ.get("E2E_CASES", "2000"))  # 20 000 in `make soak`
MOST_TOLD = 1500  # characters of an answer
MOST_PASSES = 4
AT_ONE_REQUEST = 5  # cases of a call that takes nothing, as `GET /metrics`: all of them ask the same
ONLY_FUZZING = {name: {"enabled": False} for name in ("examples", "coverage", "stateful")}


# With any other backend than the one named `hypothesis`, it draws each case anew. By that name it makes most cases from
# those before, by mutation and by a climb to what succeeds, which repeats itself: of 2 112 requests of the deployer's
# document 875 were different, of 2 281 that were drawn anew 1 326.
AVAILABLE_PROVIDERS["anew"] = AVAILABLE_PROVIDERS["hypothesis"]
hypothesis.settings.register_profile("anew", hypothesis.settings.get_profile("default"), backend="anew")


@dataclass
class Outcome:
    cases: int = 0
    passes: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    broken: dict[str, str] = field(default_factory=dict)
    """By check and call: what was wrong the first time, and a command that shows it."""


def fuzzed(
    app: FastAPI,
    token: str,
    *,
    examples: int,
    known: Mapping[str, list[str]],
    excused: Mapping[str, Mapping[str, Any]],
    with_loops: bool = True,
) -> Outcome:
    """Sends the cases of all phases of schemathesis, in that of `fuzzing` at most `examples` for each call. All of its
    checks are on. `known`: values of parameters (`path.app`), used in half of the cases, so that many calls find what
    they ask for. `excused`: for each call (`GET /ready`; empty: all calls) settings of its checks. While there are
    fewer than `CASES`, passes with further seeds follow, which only fuzz. Blocks.
    """

    async def served(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan" and not with_loops:
            raise RuntimeError("this app runs without its lifespan")
        await app(scope, receive, send)

    config: dict[str, Any] = {
        "headers": {"Authorization": f"Bearer {token}"},
        "continue-on-failure": True,
        "max-stream-events": 1,
        "request-timeout": 10,
        "suppress-health-check": ["all"],
        "checks": excused.get("", {}),
        "operations": [
            *({"include-name": call, "checks": checks} for call, checks in excused.items() if call),
            *(
                {"include-name": call, "generation": {"max-examples": AT_ONE_REQUEST}}
                for call in _that_take_nothing(app)
            ),
        ],
        "generation": {"max-examples": examples, "no-shrink": True, "database": "none"},
        "dictionaries": {name: {"values": values} for name, values in known.items()},
        "parameters": {name: {"dictionary": name, "probability": 0.5} for name in known},
    }
    outcome = Outcome()
    previous = hypothesis.settings.get_current_profile_name()
    hypothesis.settings.load_profile("anew")
    try:
        while outcome.cases < CASES and outcome.passes < MOST_PASSES:
            config["seed"] = SEED + outcome.passes
            config["phases"] = ONLY_FUZZING if outcome.passes else {}
            _pass(served, SchemathesisConfig.from_dict(config), outcome)
            outcome.passes += 1
    finally:
        hypothesis.settings.load_profile(previous)
        shutdown_lifespans()
    return outcome


def _that_take_nothing(app: FastAPI) -> list[str]:
    return [
        f"{method.upper()} {path}"
        for path, methods in app.openapi()["paths"].items()
        for method, call in methods.items()
        if not call.get("parameters") and "requestBody" not in call
    ]


def _pass(app: Any, config: Any, outcome: Outcome) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=config)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _collect(event, outcome)
        elif isinstance(event, events.NonFatalError):
            outcome.broken.setdefault(f"error {event.label}", str(event.value)[:MOST_TOLD])
        elif isinstance(event, events.FatalError):
            raise event.exception


def _collect(event: events.ScenarioFinished, outcome: Outcome) -> None:
    recorded = event.recorder
    statuses = {id: each.response.status_code for id, each in recorded.interactions.items() if each.response}
    outcome.cases += len(statuses)
    outcome.statuses.update(statuses.values())
    for id, checks in recorded.checks.items():
        for check in checks:
            if check.status is not Status.FAILURE or check.failure_info is None:
                continue
            failure = check.failure_info.failure
            response = recorded.interactions[id].response if id in recorded.interactions else None
            answer = response.text[:MOST_TOLD] if response else ""
            told = f"{failure.message}\n{check.failure_info.code_sample}\n{statuses.get(id)} {answer}"
            outcome.broken.setdefault(f"{check.name} {failure.operation}", told)
