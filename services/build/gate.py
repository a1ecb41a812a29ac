"""Gates: thresholds against figures. They fail closed: no readable figure is never a pass. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import Field

from shared.manifest import Gates
from shared.models import View

AT_LEAST = frozenset({"coverage"})
# `test_failures` counts once there is a test report; the other three need no report and are always on.
DEFAULTS = Gates(test_failures=0, complexity=15, function_length=80, secrets=0)
OFFENDERS_KEPT = 5


class GateResult(View):
    """`threshold` and `figure` are null where a gate is not a number (`steps`, `manifest`) or has none to read."""

    name: str
    passed: bool
    threshold: float | None = None
    figure: float | None = None
    reason: str = ""
    offenders: list[str] = Field([], description="The first places that the figure is made of.")


@dataclass(frozen=True)
class Measure:
    """What a report or tool found. `figure` None: it could not be read, `reason` says why. `offenders` name the
    places that the figure is made of, worst first."""

    figure: float | None
    reason: str = ""
    offenders: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fault:
    """What is wrong with a manifest: where, what and what to do."""

    field: str
    detail: str
    line: int | None = None

    def __str__(self) -> str:
        at = f" (line {self.line})" if self.line else ""
        return f"{self.field}{at}: {self.detail}"


def minimum(app: Gates) -> Gates:
    """What holds if the manifest is silent: the app's own minimum, else the platform's default."""
    own = {name: value for name, value in app.model_dump().items() if value is not None}
    return DEFAULTS.model_copy(update=own)


def loosened(app: Gates, asked: Gates) -> list[Fault]:
    """The manifest's gates that demand less than the app's minimum."""
    floor = minimum(app)
    faults = []
    for name, least in floor:
        value = getattr(asked, name)
        if least is None or value is None:
            continue
        if value < least if name in AT_LEAST else value > least:
            whose = "the app's minimum" if getattr(app, name) is not None else "the platform's default"
            faults.append(
                Fault(
                    f"gates.{name}",
                    f"{_number(value)} loosens {whose} of {_number(least)}; a manifest may only tighten a gate. "
                    f"Set the app's own minimum by PUT /apps/{{app}}",
                )
            )
    return faults


def effective(app: Gates, asked: Gates, *, tested: bool) -> Gates:
    """The thresholds of one build: the manifest's where it names one, else the minimum. Without a test report
    (`tested` False) `test_failures` is judged only if the app or the manifest asks for it."""
    own = {name: value for name, value in asked.model_dump().items() if value is not None}
    gates = minimum(app).model_copy(update=own)
    if not tested and app.test_failures is None and asked.test_failures is None:
        gates = gates.model_copy(update={"test_failures": None})
    return gates


def evaluate(gates: Gates, measures: Mapping[str, Measure]) -> list[GateResult]:
    """One result for each gate that is asked for, in the order of `Gates`."""
    return [
        judge(name, threshold, measures.get(name, Measure(None, "no step reports it")))
        for name, threshold in gates
        if threshold is not None
    ]


def judge(name: str, threshold: float, measure: Measure) -> GateResult:
    """Passes only on a figure within the threshold; NaN is within nothing."""
    figure = measure.figure
    if figure is None or figure != figure:
        reason = f"no readable figure: {measure.reason or 'not a number'}"
        return GateResult(name=name, passed=False, threshold=threshold, reason=reason)
    passed = figure >= threshold if name in AT_LEAST else figure <= threshold
    bound = "at least" if name in AT_LEAST else "at most"
    offenders = [] if passed else list(measure.offenders[:OFFENDERS_KEPT])
    reason = f"{_number(figure)}, {bound} {_number(threshold)}"
    return GateResult(name=name, passed=passed, threshold=threshold, figure=figure, reason=reason, offenders=offenders)


def refusal(results: list[GateResult]) -> str:
    """Why the build failed, naming each gate that said no; empty if none did."""
    said_no = [result for result in results if not result.passed]
    return "; ".join(
        f"gate {result.name}: {result.reason}" + (f" ({', '.join(result.offenders[:2])})" if result.offenders else "")
        for result in said_no
    )


def _number(value: float) -> str:
    """At most two decimals, rounded down: 69.999 must not be shown as the 70 that it misses."""
    return f"{int(value * 100) / 100:g}"
