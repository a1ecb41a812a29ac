"""Judges a build's figures, such as its test coverage, by thresholds. A gate without a readable figure fails. Pure."""

from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_DOWN, Decimal, localcontext
from typing import Any, Literal

from pydantic import Field, computed_field, field_validator

from services.build.reports.metric import Measure, Offender
from shared.manifest import Flaky, Gates
from shared.models import View

AT_LEAST = frozenset({"coverage", "changed_coverage", "comment_ratio"})
# `test_failures` counts only if there is a test report; the other three need no report and are always on.
DEFAULTS = Gates(test_failures=0, complexity=15, function_length=80, secrets=0)
FLAKY_DEFAULTS = Flaky(reruns=1, at_most=5)
UNITS = {
    "test_failures": "tests",
    "coverage": "%",
    "changed_coverage": "%",
    "findings": "findings",
    "new_findings": "findings",
    "function_length": "lines",
    "comment_ratio": "%",
    "secrets": "secrets",
}
NOT_REPORTED = "no step reports it"
OFFENDERS_KEPT = 20
LEFT_OUT_KEPT = 20
OFFENDERS_LISTED = 2
OFFENDERS_LOGGED = 5


class GateResult(View):
    """Records whether one gate passed, with its figure and threshold."""

    name: str
    passed: bool
    threshold: float | None = Field(None, description="Null for a gate without a number: `steps`, `manifest`.")
    figure: float | None = Field(None, description="Null for a gate without a number, and if none could be read.")
    unit: str = Field("", description="Unit of `figure` and `threshold`; empty for a bare number.")
    bound: Literal["at least", "at most"] | None = Field(
        None, description="Side of the threshold on which the figure passes."
    )
    previous: float | None = Field(None, description="Figure of the branch's last build whose gates were evaluated.")
    reason: str = ""
    remedy: str = Field("", description="What to do about a gate that failed, with the call that allows more.")
    offenders: list[Offender] = Field([], description="Places that the figure is made of, worst first, at most 20.")
    left_out: list[str] = Field(
        [], description="Vendored and generated files that do not count: path or pattern, and who says so; at most 20."
    )

    @computed_field(description="Change since `previous`; null if one of the two figures is missing.")  # type: ignore[prop-decorator]
    @property
    def trend(self) -> Literal["better", "worse", "same"] | None:
        if self.figure is None or self.previous is None:
            return None
        if self.figure == self.previous:
            return "same"
        return "better" if (self.figure > self.previous) is (self.bound == "at least") else "worse"

    def masked(self, mask: Callable[[str], str]) -> "GateResult":
        offenders = [
            each.model_copy(update={"file": each.file and mask(each.file), "message": mask(each.message)})
            for each in self.offenders
        ]
        return self.model_copy(update={"reason": mask(self.reason), "offenders": offenders})

    @field_validator("offenders", mode="before")
    @classmethod
    def _were_once_text(cls, offenders: Any) -> Any:
        """Converts offenders that older versions of Slipway stored as strings."""
        return [{"message": each} if isinstance(each, str) else each for each in offenders]


def minimum(app: Gates) -> Gates:
    """Returns the thresholds that apply if the manifest sets none: the app's, else the platform's defaults."""
    return DEFAULTS.model_copy(update=_given(app))


def effective(app: Gates, asked: Gates, *, tested: bool) -> Gates:
    """Returns the thresholds of one build: the manifest's (`asked`), else the app's, else the platform's defaults. If
    no step reports tests (`tested` is False), `test_failures` has a threshold only if the app or the manifest sets it.
    """
    gates = minimum(app).model_copy(update=_given(asked))
    if not tested and app.test_failures is None and asked.test_failures is None:
        gates = gates.model_copy(update={"test_failures": None})
    return gates


def evaluate(
    gates: Gates, measures: Mapping[str, Measure], previous: Mapping[str, float] | None = None
) -> list[GateResult]:
    """Returns a result for each gate that has a threshold. `measures` holds gate → measure; `previous` holds gate →
    figure of the branch's last build whose gates were evaluated.
    """
    return [
        judge(name, threshold, measures.get(name, Measure(None, NOT_REPORTED)), (previous or {}).get(name))
        for name, threshold in gates
        if threshold is not None
    ]


def judge(name: str, threshold: float, measure: Measure, previous: float | None = None) -> GateResult:
    """Compares one gate's figure with its threshold. The gate fails if the figure is missing, NaN or beyond the
    threshold.
    """
    figure = measure.figure if measure.figure == measure.figure else None
    result = GateResult(
        name=name,
        passed=False,
        threshold=threshold,
        figure=figure,
        unit=UNITS.get(name, ""),
        bound="at least" if name in AT_LEAST else "at most",
        previous=previous,
        offenders=list(measure.offenders[:OFFENDERS_KEPT]),
        left_out=list(measure.left_out[:LEFT_OUT_KEPT]),
    )
    if figure is None:
        return result.model_copy(update={"reason": f"no readable figure: {measure.reason or 'not a number'}"})
    passed = figure >= threshold if name in AT_LEAST else figure <= threshold
    remark = f"; {measure.reason}" if measure.reason else ""
    reason = f"{number(figure)}, {result.bound} {number(threshold)}{remark}"
    return result.model_copy(update={"passed": passed, "reason": reason})


def judged_again(results: Sequence[GateResult], gates: Gates) -> list[GateResult]:
    """Returns results for the thresholds in `gates`, with the figures that `results`, from an earlier judgement,
    recorded. A gate that has no figure there fails.
    """
    measures = {name: Measure(None, "the build was not judged by this gate") for name, _ in gates}
    return evaluate(gates, measures | {result.name: Measure(result.figure) for result in results})


def refusal(results: list[GateResult]) -> str:
    """Returns the reasons of all gates that failed, as one text; empty if all passed."""
    failed = [result for result in results if not result.passed]
    return "; ".join(f"gate {result.name}: {result.reason}{_listed(result.offenders)}" for result in failed)


def log_lines(result: GateResult) -> list[str]:
    """Returns the lines about a result for a build's log: the verdict and, if the gate failed, its worst places and the
    remedy.
    """
    was = f"  ({result.trend}, was {number(result.previous)})" if result.trend and result.previous is not None else ""
    verdict = f"    {'passed' if result.passed else 'FAILED'}  {result.name:<16}  {result.reason}{was}"
    places = result.offenders[: 0 if result.passed else OFFENDERS_LOGGED]
    remedy = [f"remedy: {result.remedy}"] if result.remedy else []
    return [verdict, *(f"              {line}" for line in [*places, *remedy])]


def number(value: float) -> str:
    """Formats a number with at most two decimals, rounded down, so that 69.999 does not look like the 70 that it
    misses. Decimal digits are cut off: in binary, 79.99 * 100 is less than 7999.
    """
    with localcontext(rounding=ROUND_DOWN):
        return f"{Decimal(str(value)):.2f}".rstrip("0").rstrip(".")


def _listed(offenders: list[Offender]) -> str:
    return f" ({', '.join(str(each) for each in offenders[:OFFENDERS_LISTED])})" if offenders else ""


def _given(settings: Gates | Flaky) -> dict[str, float]:
    return settings.model_dump(exclude_none=True)
