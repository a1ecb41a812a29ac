"""An app's own metrics and hooks are refused where they make no sense, and the values of headers never come back."""

from typing import Any

import pytest
from pydantic import ValidationError

from services.monitor.checks.analysis_settings import AnalysisBody, AnalysisSettings, OwnMetric, changed
from shared.errors import Invalid
from tests.support.monitor.analysed import AT

METRIC = {"name": "checkout-rate", "url": "https://metrics.example.com/rate", "at_least": 0.95}
HOOK = {"name": "smoke", "url": "https://ci.example.com/smoke", "when": "before"}


def body(*metrics: dict[str, Any], hooks: tuple[dict[str, Any], ...] = ()) -> AnalysisBody:
    return AnalysisBody.model_validate({"metrics": list(metrics), "hooks": list(hooks)})


def applied(new: AnalysisBody, before: AnalysisSettings | None = None) -> AnalysisSettings:
    return changed("notes", new, before, lambda value: f"sealed {value}", AT)


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"at_least": None}, "nothing says what is good"),
        ({"at_least": 2, "at_most": 1}, "no value is good"),
        ({"at_least": float("nan")}, "finite"),
        ({"name": "Checkout Rate"}, "pattern"),
        ({"url": "ftp://metrics.example.com/"}, "pattern"),
        ({"url": "https:///rate"}, "names no host"),
        ({"url": "https://metrics.example.com:99999/"}, "can be called"),
        ({"url": "https://[::1/"}, "can be called"),
        ({"url": "https://me:secret@metrics.example.com/"}, "put credentials into `headers`"),
        ({"url": "https://metrics.example.com/\r\nX: y"}, "pattern"),
        ({"headers": {"Host": "other.example.com"}}, "set by the platform"),
        ({"headers": {"X-Key": "a\r\nX-Other: b"}}, "pattern"),
        ({"headers": {"X-Key": "a", "x-key": "b"}}, "twice"),
        ({"headers": {"X Key": "a"}}, "pattern"),
        ({"threshold": 0}, "greater than or equal"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValidationError, match=fault):
        body(METRIC | fields)


def test_two_metrics_of_one_name_are_refused() -> None:
    with pytest.raises(ValidationError, match="checkout-rate stands there twice"):
        body(METRIC, METRIC)


def test_a_metric_and_a_hook_may_have_one_name() -> None:
    assert body(METRIC, hooks=(HOOK | {"name": "checkout-rate"},)).hooks[0].name == "checkout-rate"


def test_headers_are_stored_sealed_and_shown_without_a_value() -> None:
    stored = applied(body(METRIC | {"headers": {"X-Key": "secret"}}))

    assert stored.metrics[0].headers == {"X-Key": "sealed secret"}
    assert stored.shown().metrics[0].headers == {"X-Key": None}


def test_a_header_without_a_value_keeps_the_one_that_is_set() -> None:
    before = applied(body(METRIC | {"headers": {"X-Key": "secret"}}))
    after = applied(body(METRIC | {"at_least": 0.9, "headers": {"X-Key": None}}), before)

    assert after.metrics[0].headers == {"X-Key": "sealed secret"}
    assert after.metrics[0].at_least == 0.9


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"url": "https://other.example.com/rate"}, "set for another host"),
        ({"url": "http://metrics.example.com/rate"}, "set for another host"),
        ({"name": "other"}, "no value is set"),
    ],
)
def test_a_kept_header_goes_to_no_other_host(fields: dict[str, Any], fault: str) -> None:
    before = applied(body(METRIC | {"headers": {"X-Key": "secret"}}))
    with pytest.raises(Invalid, match=fault) as refused:
        applied(body(METRIC | fields | {"headers": {"X-Key": None}}), before)
    assert refused.value.extra["errors"][0]["field"] == "metrics.0.headers.X-Key"


@pytest.mark.parametrize(
    ("value", "breach"), [(0.5, None), (0.2, None), (1.0, None), (0.1, "below 0.2"), (1.1, "above 1")]
)
def test_the_bounds_themselves_are_good(value: float, breach: str | None) -> None:
    metric = OwnMetric(name="m", url="https://x.example.com/", at_least=0.2, at_most=1)
    assert metric.breach(value) == breach
