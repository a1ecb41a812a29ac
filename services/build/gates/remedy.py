"""Says what to do about a failed gate: what to change in the code, or with which request a person allows more. Pure."""

import math
from collections.abc import Sequence

from services.build.gates.gate import AT_LEAST, NOT_REPORTED, GateResult, minimum, number
from services.build.gates.known_findings import KNOWN_GATES
from services.build.gates.report_collection import GATE_OF_REPORT
from services.build.system.api_call import api_call
from shared.manifest import Gates

IN_THE_CODE = {
    "test_failures": "repair the tests, or quarantine one for 14 days: "
    'PUT /apps/{app}/tests/flaky/<test> {{"reason": "…"}}',
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
    results: Sequence[GateResult],
    app: str,
    own: Gates,
    asked: Gates,
    *,
    exclude: Sequence[str] = (),
    first: bool = False,
) -> list[GateResult]:
    """Returns the results, with a remedy for each failed gate that has a threshold. `own` holds the thresholds that are
    set on the app, `asked` those of the manifest, `exclude` the app's patterns of vendored and generated files. `first`
    is True if no earlier build has passed and the app's setting `baseline` is off.
    """
    failed = [result for result in results if not result.passed and result.threshold is not None]
    needed = {result.name: _needed(result) for result in failed if result.figure is not None}
    laxer = {name: value for name, value in needed.items() if _is_laxer(name, value, getattr(minimum(own), name))}
    remedies = {}
    for result in failed:
        name, calls = result.name, []
        if name in laxer:
            calls.append(_call(app, gates=_given(own) | {name: laxer[name]}))
        if name in needed and getattr(asked, name) is not None:
            calls.append(f"`{name}: {number(needed[name])}` under `gates` in slipway.yml")
        if name in needed:
            remedies[name] = _remedy(name, app, exclude, calls, first=first)
        else:
            remedies[name] = _of_no_figure(result, app, exclude)
    if len(laxer) > 1:
        all_of_them = _call(app, gates=_given(own) | laxer)
        remedies[[*laxer][-1]] += f" (for all {len(laxer)} gates that failed: {all_of_them})"
    return [
        result.model_copy(update={"remedy": remedies[result.name]}) if result in failed else result
        for result in results
    ]


def _remedy(name: str, app: str, exclude: Sequence[str], calls: Sequence[str], *, first: bool) -> str:
    advice = IN_THE_CODE[name].format(app=app)
    if name in OF_CODE:
        advice += f"; leave out what is vendored or generated: {_call(app, exclude=[*exclude, '<folder>/'])}"
    if first and name in KNOWN_GATES:
        advice += f"; do not count what the first commit already has: {_call(app, baseline=True)}"
    allow = {"secrets": "where it is no secret, allow it", "test_failures": "or allow that many"}
    how = allow.get(name, f"or allow {'less' if name in AT_LEAST else 'more'}")
    return f"{advice}; {how}: {' and '.join(calls)}" if calls else advice


def _of_no_figure(result: GateResult, app: str, exclude: Sequence[str]) -> str:
    if result.name in OF_CODE:
        left_out = _call(app, exclude=[*exclude, "<file>"])
        return f"repair the file that cannot be read, or leave it out if it is vendored or generated: {left_out}"
    if (kind := _REPORTED.get(result.name)) is None:
        return ""
    if result.reason.endswith(NOT_REPORTED):
        return f"let a step write that report, and name its file in the manifest: `reports: {{{kind}: …}}`"
    return f"let a step of this build write a {kind} report without that fault"


def _needed(result: GateResult) -> float:
    """Returns the threshold with which the gate would have passed."""
    figure = result.figure or 0
    value = float(number(figure)) if result.name in AT_LEAST else math.ceil(figure)
    return int(value) if value == int(value) else value


def _is_laxer(name: str, value: float, least: float | None) -> bool:
    return least is not None and (value < least if name in AT_LEAST else value > least)


def _given(own: Gates) -> dict[str, float]:
    return own.model_dump(exclude_none=True)


def _call(app: str, **settings: object) -> str:
    """Returns the API call that changes these settings of the app. Each value replaces the app's present one."""
    return api_call("PUT", f"/apps/{app}", settings)
