"""Messages about rollouts say what was found in a person's words: figures, since when, how many visitors, where."""

from datetime import timedelta
from typing import Any

import pytest

from services.monitor.analysis.verdict import CanaryVerdict
from services.monitor.notify.analysis_words import lasted
from services.monitor.notify.event_message import notification_of
from services.monitor.notify.message import Message
from services.monitor.notify.subject import Links
from shared.models import Event
from tests.support.monitor.analysed import AT, harm, verdict

LINKS = Links(build="http://build", proxy="http://proxy", monitor="http://monitor")
PAGE = "http://monitor/releases/notes-r9/analysis"


def composed(kind: str, reason: str, /, **fields: Any) -> Message:
    at = AT + timedelta(minutes=5)
    event = Event(type=kind, app="notes", at=at, id="notes-r9", reason=reason, environment="canary", **fields)
    found = notification_of(event, {}, LINKS)
    assert found is not None
    return found.message


def evidence(of: CanaryVerdict, **seen: Any) -> dict[str, Any]:
    """Returns the evidence of an abort as the proxy's event has it."""
    left_out = {"left_out": {"forced": 25}, "recognised": 300, "weight": 33, "step": 0, "sampled_one_in": 1}
    seen = {"verdict": of.model_dump(mode="json"), "opened_at": AT.isoformat(), **left_out, **seen}
    given = {"alert": "analysis:notes-r9", "rule": "analysis", "metric": "analysis", "value": 1.0, "threshold": 1.0}
    return {**given, "words": of.reason, "seen": seen, "ran_s": 250.0, "traffic": {"tracks": {"canary": {"p50_ms": 3}}}}


def test_an_aborted_canary_is_told_with_figures_visitors_and_the_page_and_not_as_a_dump() -> None:
    harms = [harm(capital=140, effect=8.0, bound=14.0), harm("latency", 3, effect=2.0, margin=10, bound=30, unit="%")]
    found = verdict(harms=harms)
    message = composed("rollout.aborted", f"analysis: {found.reason}", evidence=evidence(found), weight=33)

    assert message.subject.startswith("notes canary: notes-r9 was aborted: analysis: errors: 12 of 130 requests")
    assert message.text == (
        "analysis: errors: 12 of 130 requests to the canary failed (9.2 %), 3 of 260 to production (1.2 %)\n\n"
        "The canary had visitors for 4 min 10 s, since 2026-01-01 00:00:00 UTC.\n\n"
        "The canary failed 12 of 130 requests (9.2 %) of 41 visitors, 9 of whom met one; "
        "production failed 3 of 260 requests (1.2 %) of 84 visitors, 3 of whom met one.\n\n"
        "Measured over the same seconds: errors 8 points more than production, at most 14 "
        "(from 0.5 on it is too much).\n\n"
        "Until its answers began: p50 12 ms, production's 10 ms; p90 40 ms, production's 30 ms.\n\n"
        "Its visitors have production again.\n\n"
        "app          notes\n"
        "environment  canary\n"
        "release      notes-r9\n"
        "share        33 %\n"
        "at           2026-01-01 00:05:00 UTC\n\n"
        f"{PAGE}\n"
    )


def test_a_harm_of_all_requests_is_said_once_and_without_an_exponent() -> None:
    found = verdict(harms=[harm(capital=140, effect=100.0, bound=102.4), harm("outage", 20, effect=100.0, margin=25)])
    message = composed("rollout.aborted", f"analysis: {found.reason}", evidence=evidence(found), weight=33)
    assert "errors 100 points more than production, at most 100 (from 0.5 on" in message.text
    assert "outage" not in message.text


def test_a_canary_that_an_own_metric_ends_is_told_with_the_value_and_its_bound() -> None:
    reason = "analysis: own metric rate: 0.91 is below 0.95, 3 times in a row"
    message = composed("rollout.aborted", reason, evidence=evidence(verdict(), own_check=reason), weight=33)
    assert reason in message.subject and PAGE in message.text


def test_a_canary_that_another_rule_ends_has_its_evidence_and_the_page() -> None:
    fields = {"rule": "health", "value": 1, "threshold": 1, "words": "notes-r9-1 is unhealthy"}
    message = composed("rollout.aborted", "health: notes-r9-1 is unhealthy", evidence=fields)
    for line in ("rule         health", f"analysis     {PAGE}", "http://proxy/apps/notes/rollout"):
        assert line in message.text


def test_a_rollout_that_is_held_at_its_end_says_what_is_missing() -> None:
    fields = {"verdict": verdict().model_dump(mode="json"), "opened_at": AT.isoformat(), "weight": 33}
    message = composed("analysis.inconclusive", "60 more requests are needed", **fields)
    assert message.subject == "notes canary: notes-r9 has not passed yet: 60 more requests are needed"
    for text in ("since 2026-01-01 00:00:00 UTC", "of 41 visitors", "Promote it, or abort it", PAGE):
        assert text in message.text


@pytest.mark.parametrize("verdict", [None, {"result": "odd"}, 7])
def test_a_held_rollout_without_a_readable_verdict_is_told_too(verdict: Any) -> None:
    message = composed("analysis.inconclusive", "the monitor has no figures yet", verdict=verdict, weight=33)
    assert "the monitor has no figures yet" in message.text


@pytest.mark.parametrize(
    ("kind", "effect"), [("metric", "does not end before it answers"), ("after", "It is called again")]
)
def test_a_check_without_an_answer_is_no_fault_of_the_canary(kind: str, effect: str) -> None:
    message = composed("analysis.error", "own metric rate answered 503", check="rate", kind=kind)
    assert message.subject == "notes canary: own metric rate answered 503"
    assert "own metric rate answered 503, 4 times in a row" in message.text
    assert "says nothing about the canary, and aborts nothing" in message.text and effect in message.text


def test_a_canary_that_has_passed_is_told_with_the_page() -> None:
    fields = {"passed": True, "promote": "by-hand", "step": 1, "steps": 1, "weight": 33}
    assert PAGE in composed("rollout.progressing", "all steps have ended: no harm", **fields).text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (45.4, "45 s"), (60, "1 min"), (250, "4 min 10 s"), (11_100, "3 h 5 min"), (183_600, "2 d 3 h")],
)
def test_durations_are_said_as_people_do(seconds: float, text: str) -> None:
    assert lasted(seconds) == text
