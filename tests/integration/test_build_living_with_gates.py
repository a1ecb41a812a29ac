"""Builds of apps that the default gates would refuse, and the ways out that the verdicts name."""

from typing import Any

import pytest

from services.build.builds.build import Build
from services.build.gates.gate import GateResult
from tests.support.build.platform import Platform

pytestmark = [pytest.mark.anyio, pytest.mark.slow]
APP = {"slipway.yml": "app: notes\nrun: {command: cat app.py}\n", "app.py": "x = 1\n"}


def function(name: str, branches: int = 20) -> str:
    return f"def {name}(x):\n" + "".join(f"    if x == {n}: return\n" for n in range(branches))


def gate(build: Build, name: str) -> GateResult:
    return next(gate for gate in build.gates if gate.name == name)


async def change(platform: Platform, **changes: Any) -> None:
    app = await platform.store.app("notes")
    await platform.store.put_app(app.model_copy(update=changes))


async def test_a_gate_that_failed_says_its_remedy_in_the_log_and_the_verdict(platform: Platform) -> None:
    build = await platform.build(APP | {"app.py": function("load")})
    remedy = 'split the function; or allow more: PUT /apps/notes {"gates": {"complexity": 21}}'
    assert gate(build, "complexity").remedy == remedy
    assert f"              remedy: {remedy}\n" in platform.log(build)
    assert gate(build, "function_length").remedy == ""
