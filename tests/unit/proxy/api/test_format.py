from typing import Any

import pytest

from services.proxy.api.format import Fact, duration, facts, milliseconds, share, share_of

MEASURED: dict[str, Any] = {
    "rule": "errors",
    "metric": "error_share",
    "value": 0.42,
    "threshold": 0.005,
    "words": "answered 21 of 50 requests with 5xx in 10 s",
    "since": "2026-01-01T10:00:00+00:00",
    "seen": {"canary_requests": 50, "canary_p95_ms": 12.3, "seconds": 10.0, "stable_share": 0.02},
    "weight": 33,
    "instances": ["notes-r2-1", "notes-r2-2"],
    "aborts": True,
    "nothing": None,
    "traffic": {"epoch": "e1"},
    "ran_s": 61.5,
}


def test_evidence_as_a_person_reads_it() -> None:
    assert facts(MEASURED) == [
        Fact("Rule", "errors"),
        Fact("Metric", "error share"),
        Fact("Measured", "42 %"),
        Fact("Threshold", "0.5 %"),
        Fact("What was seen", "answered 21 of 50 requests with 5xx in 10 s"),
        Fact("Since", "2026-01-01 10:00:00 UTC"),
        Fact("Canary requests", "50"),
        Fact("Canary p95", "12.3 ms"),
        Fact("Measured over", "10 s"),
        Fact("Stable share", "2 %"),
        Fact("Weight", "33 %"),
        Fact("Instances", "notes-r2-1, notes-r2-2"),
        Fact("Aborts", "yes"),
        Fact("The rollout ran for", "1 min 1 s"),
    ]


def test_what_an_analysis_measured_is_one_line_for_each_track() -> None:
    seen = {
        "verdict": {"result": "fail", "harms": [{"name": "errors", "capital": 120.0}], "requests": {"canary": 5}},
        "step": 0,
        "errors_by_kind": {"stable": {}, "canary": {"status": 5, "gave_up": 1}},
        "weight": 33,
        "left_out": {"forced": 25},
        "sampled_one_in": 1,
        "recognised": 4,
        "hang_limit_ms": 3000.0,
    }
    words = {"rule": "analysis", "metric": "analysis", "value": 1.0, "threshold": 1.0, "words": "errors: 5 of 5"}
    assert facts({**words, "seen": seen}) == [
        Fact("Rule", "analysis"),
        Fact("What was seen", "errors: 5 of 5"),
        Fact("Errors of canary", "status 5, gave up 1"),
        Fact("Weight", "33 %"),
        Fact("Left out", "forced 25"),
        Fact("Hang limit", "3000 ms"),
    ]


@pytest.mark.parametrize(
    ("metric", "text"), [("latency", "2.5 times stable's"), ("cpu", "2.5 % of a core"), ("new", "2.5"), (None, "2.5")]
)
def test_a_figure_has_the_unit_of_its_metric(metric: str | None, text: str) -> None:
    assert Fact("Measured", text) in facts({"metric": metric, "value": 2.5})


def test_what_is_no_time_stays_what_it_is() -> None:
    assert facts({"since": "yesterday", "at": 5}) == [Fact("Since", "yesterday"), Fact("At", "5")]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0 %"), (0.0042, "0.42 %"), (0.096, "9.6 %"), (0.333, "33 %"), (1.0, "100 %")],
)
def test_small_shares_are_not_nothing(value: float | None, text: str) -> None:
    assert share(value) == text


def test_a_share_of_nothing_is_none() -> None:
    assert (share_of(1, 4), share_of(0, 0)) == (0.25, None)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (3.32, "3.32 s"),
        (61.5, "1 min 1 s"),
        (7260, "2 h 1 min"),
        (200_000, "2 days 7 h"),
        (600, "10 min"),
        (7200, "2 h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (0.25, "0.25 ms"), (12.34, "12.3 ms"), (2500.0, "2500 ms")])
def test_milliseconds(value: float | None, text: str) -> None:
    assert milliseconds(value) == text
