"""Says what to do about a failed gate: what to change in the code, or with which request a person allows more. Pure."""

import json
import math
from collections.abc import Sequence

from services.build.gates.gate import AT_LEAST, GateResult, minimum, number
from services.build.gates.known_findings import KNOWN_GATES
from services.build.gates.report_collection import GATE_OF_REPORT
from shared.manifest import Gates

IN_THE_CODE = {
    "test_failures": "repair the tests, or quarantine one by PUT /apps/{app}/tests/flaky/<test>",
    "coverage": "test the lines named here",
    "changed_coverage": "test the changed lines named here",
    "findings": "repair what the tool found, or suppress it as the tool's documentation says",
    "new_findings": "repair what is new, or suppress it as the tool's documentation says",
    "complexity": "split the function",
    "function_length": "split the function",
    "comment_ratio": "say in comments why the code is as it is",
    "secrets": "take the value out of the commit, and replace it where it was valid; the app gets the new one by PATCH "
    '/apps/{app}/environments/production {{"secrets": {{"NAME": "…"}}}} of the deployer, a step by PUT '
    '/apps/{app}/secrets/NAME {{"value": "…"}}',
}
OF_CODE = ("complexity", "function_length", "comment_ratio")
_REPORTED = {gate: kind for kind, gate in GATE_OF_REPORT.items()} | {"changed_coverage": "coverage"}


def with_remedies(
    results: Sequence[GateResult], app: str, own: Gates, asked: Gates, *, first: bool = False
) -> list[GateResult]:
    """Returns the results, with a remedy for each failed gate that has a threshold. `own` holds the minimum gates of
    the app, `asked` the gates of the manifest. `first` is True if no build has passed yet and no finding is known.
    """
    return [
        result
        if result.passed or result.threshold is None
        else result.model_copy(update={"remedy": _remedy(result, app, own, asked, first)})
        for result in results
    ]


def _remedy(result: GateResult, app: str, own: Gates, asked: Gates, first: bool) -> str:
    name = result.name
    if result.figure is None:
        kind = _REPORTED.get(name)
        return (
            f"let a step write that report, and name its file in the manifest: `reports: {{{kind}: …}}`" if kind else ""
        )
    needed = float(number(result.figure)) if name in AT_LEAST else math.ceil(result.figure)
    least = getattr(minimum(own), name)
    calls = []
    if least is not None and (needed < least if name in AT_LEAST else needed > least):
        gates = own.model_dump(exclude_none=True) | {name: _plain(needed)}
        calls.append(f"PUT /apps/{app} {json.dumps({'gates': gates})}")
    if getattr(asked, name) is not None:
        calls.append(f"`{name}: {number(needed)}` under `gates` in slipway.yml")
    allow = {"secrets": "where it is no secret, allow it", "test_failures": "or allow that many"}
    how = allow.get(name, f"or allow {'less' if name in AT_LEAST else 'more'}")
    advice = IN_THE_CODE[name].format(app=app)
    if name in OF_CODE:
        advice += f'; leave out what is vendored or generated: PUT /apps/{app} {{"exclude": ["<folder>/"]}}'
    if first and name in KNOWN_GATES:
        advice += f'; let what a first commit has not count: PUT /apps/{app} {{"baseline": true}}'
    return f"{advice}; {how}: {' and '.join(calls)}" if calls else advice


def _plain(value: float) -> float:
    return int(value) if value == int(value) else value
