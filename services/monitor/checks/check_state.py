"""Defines the state of one check, which is an app's own metric or hook, within one rollout. Pure."""

from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from services.monitor.checks.analysis_settings import AnalysisSettings, HookTime, OwnMetric
from shared.models import View

METRIC_S, HOOK_S, DURING_S = 10.0, 10.0, 60.0
FRESH = 3  # intervals; an older result says nothing about now
TOLD_AFTER = 4  # tries in a row without an answer


class CheckResult(StrEnum):
    UNKNOWN = "unknown"
    """The metric or hook was not called yet."""
    PASS = "pass"
    BEYOND = "beyond"
    """The value breaks its bound, but not yet for enough checks in a row."""
    FAIL = "fail"
    ERROR = "error"
    """The last call gave no answer that can be judged; that says nothing about the canary."""


class CheckKind(StrEnum):
    METRIC = "metric"
    BEFORE = HookTime.BEFORE.value
    DURING = HookTime.DURING.value
    AFTER = HookTime.AFTER.value


class CheckState(View):
    """Describes the last result of one of an app's own metrics or hooks in a rollout. `value` is that of a metric;
    `in_a_row` counts the checks in a row whose value was beyond its bound, and `errors` the calls in a row without an
    answer that can be judged.
    """

    name: str
    kind: CheckKind
    result: CheckResult = CheckResult.UNKNOWN
    reason: str = "it was not called yet"
    value: float | None = None
    at: datetime | None = Field(None, description="Time of the last call.")
    in_a_row: int = 0
    errors: int = 0

    @property
    def title(self) -> str:
        """Returns the name for people: `own metric checkout-rate`, or `hook smoke`."""
        return f"own metric {self.name}" if self.kind is CheckKind.METRIC else f"hook {self.name}"

    @property
    def every_s(self) -> float:
        """Returns the seconds between two calls."""
        if self.kind is CheckKind.METRIC:
            return METRIC_S
        return DURING_S if self.kind is CheckKind.DURING and self.result is CheckResult.PASS else HOOK_S

    def is_due(self, now: datetime) -> bool:
        """Returns True if it is time for the next call. A hook is not called again once it has failed the canary, nor a
        hook with `when: before` once it passed.
        """
        is_metric = self.kind is CheckKind.METRIC
        if self.result is CheckResult.FAIL and not is_metric:
            return False
        if self.kind is CheckKind.BEFORE and self.result is CheckResult.PASS:
            return False
        return self.at is None or abs(now - self.at) >= timedelta(seconds=self.every_s)

    def hold(self, now: datetime) -> str | None:
        """Returns why this check keeps the rollout's step from ending; None if it has passed. The last answer of a
        check that is repeated must also be recent.
        """
        if self.result is not CheckResult.PASS:
            return self.reason
        is_old = self.at is None or abs(now - self.at) > timedelta(seconds=FRESH * self.every_s)
        return "its last answer is too old" if is_old and self.kind is not CheckKind.BEFORE else None


def new_states(settings: AnalysisSettings) -> dict[str, CheckState]:
    """Returns key → state of each of the app's metrics and hooks that is called while a rollout goes on; all are
    unknown.
    """
    states = [CheckState(name=each.name, kind=CheckKind.METRIC) for each in settings.metrics]
    hooks = [each for each in settings.hooks if each.when is not HookTime.AFTER]
    states += [CheckState(name=each.name, kind=CheckKind(each.when)) for each in hooks]
    return {key_of(state.kind, state.name): state for state in states}


def key_of(kind: CheckKind, name: str) -> str:
    return f"{kind}:{name}"


def measured(state: CheckState, metric: OwnMetric, value: float, now: datetime) -> CheckState:
    """Returns the state after the metric has answered `value`. A check that failed stays failed."""
    breach = metric.breach(value)
    in_a_row = state.in_a_row + 1 if breach else 0
    reason, result = f"{value:g}", CheckResult.PASS
    if breach:
        result = CheckResult.BEYOND
        reason = f"{value:g} is {breach}, {_times(in_a_row)} in a row of {metric.threshold}"
        if in_a_row >= metric.threshold:
            result, reason = CheckResult.FAIL, f"{value:g} is {breach}, {_times(in_a_row)} in a row"
    if state.result is CheckResult.FAIL:
        result, reason = state.result, state.reason
    update = {"result": result, "reason": reason, "value": value, "at": now, "in_a_row": in_a_row, "errors": 0}
    return state.model_copy(update=update)


def answered(state: CheckState, refusal: str | None, now: datetime) -> CheckState:
    """Returns the state after the hook has answered; `refusal` is the reason if it fails the canary, else None."""
    if refusal is None:
        update = {"result": CheckResult.PASS, "reason": "it passes"}
    else:
        update = {"result": CheckResult.FAIL, "reason": f"it says no: {refusal}"}
    return state.model_copy(update={**update, "at": now, "errors": 0})


def unanswered(state: CheckState, error: str, now: datetime) -> CheckState:
    """Returns the state after a call without an answer that can be judged. A check that failed stays failed, and the
    count of values in a row beyond the bound stays.
    """
    update: dict[str, object] = {"at": now, "errors": state.errors + 1}
    if state.result is not CheckResult.FAIL:
        update |= {"result": CheckResult.ERROR, "reason": error}
    return state.model_copy(update=update)


def is_to_be_told(state: CheckState) -> bool:
    """Returns True for the fourth call in a row without an answer that can be judged: people are notified of it."""
    return state.result is CheckResult.ERROR and state.errors == TOLD_AFTER


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
