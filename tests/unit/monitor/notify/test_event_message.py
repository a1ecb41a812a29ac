"""Messages are composed about the events that people are notified of, and about no others."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.monitor.notify.event_message import COMPOSERS, notification_of, plain_notification
from services.monitor.notify.message import Message
from services.monitor.notify.release_context import ReleaseContext, addresses, learned
from services.monitor.notify.subject import Links, figure
from shared.models import Event

AT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
LINKS = Links(build="http://build", proxy="http://proxy", monitor="http://monitor")
COMMIT = "c" * 40
CONTEXTS = {
    "notes:canary": ReleaseContext(notify=["a"], commits={"notes-r9": COMMIT}),
    "notes:production": ReleaseContext(notify=["p"]),
}


def event(kind: str, reason: str = "why", **fields: Any) -> Event:
    return Event(**{"type": kind, "app": "notes", "at": AT, "id": "notes-r9", "reason": reason, **fields})


def composed(kind: str, reason: str = "why", **fields: Any) -> Message | None:
    said = notification_of(event(kind, reason, **fields), CONTEXTS, LINKS)
    return said.message if said else None


PRODUCTION, CANARY = {"environment": "production"}, {"environment": "canary"}


@pytest.mark.parametrize(
    ("kind", "reason", "fields", "is_notified"),
    [
        ("build.failure", "gate", {"stage": "test"}, True),
        ("build.failure", "the deployer refused it", {"stage": "deploy"}, True),
        ("build.failure", "release notes-r9 failed: …", {"stage": "deploy", "release": "notes-r9"}, False),
        ("build.failure", "gate", {"stage": "test", "door": True}, False),
        ("build.failure", "gate", {"stage": "test", "rebuilds": "notes-r9"}, False),
        ("artifact.lost", "its artifact is gone", PRODUCTION, False),  # there is an alert
        ("build.error", "the deployer did not answer", {"stage": "deploy", "release": "notes-r9"}, True),
        ("build.success", "live", {"recovered": True}, True),
        ("build.success", "live", {"recovered": False}, False),
        ("build.superseded", "by notes-18", {}, False),
        ("build.cancelled", "by hand", {}, False),
        ("build.running", "", {}, False),
        ("release.failed", "exit 1", CANARY, True),
        ("release.failed", "exit 1", PRODUCTION, True),
        ("release.rolled_back", "exit 1", PRODUCTION, True),
        ("release.rolled_back", "exit 1", CANARY, False),
        ("release.rolled_back", "its rollout was refused: notes-r9 is older", CANARY, True),
        ("release.live", "", PRODUCTION, False),
        ("release.retired", "replaced", PRODUCTION, False),
        ("rollout.aborted", "errors: 30 of 30", {}, True),
        ("rollout.aborted", "superseded", {}, False),
        ("rollout.aborted", "release failed: exit 1", {}, False),
        ("rollout.aborted", "release rolled_back: exit 1", {}, True),
        ("rollout.paused", "promotion failed: notes-r10 failed: exit 1", {}, True),
        ("rollout.paused", "promotion refused: the artifact is gone", {}, True),
        ("rollout.paused", "the deployer does not answer", {}, False),
        ("rollout.paused", "step 1 of 2 waits for a person", {"resumes_by_itself": False}, True),
        ("rollout.paused", "the deployer does not answer", {"resumes_by_itself": True}, False),
        ("rollout.progressing", "", {}, False),
        ("rollout.progressing", "step 2 of 2", {"passed": False, "promote": "by-hand"}, False),
        ("rollout.progressing", "all steps have ended", {"passed": True, "promote": "by-hand"}, True),
        ("rollout.progressing", "all steps have ended", {"passed": True, "promote": "automatic"}, False),
        ("rollout.promoted", "promoted as notes-r10", {}, False),
        ("rollout.promoted", "by hand", {"promote": "by-hand", "step": 1, "steps": 2}, False),
        ("rollout.promoted", "by hand, early", {"promote": "automatic", "step": 1, "steps": 2}, False),
        ("rollout.promoted", "by itself", {"promote": "automatic", "step": 2, "steps": 2}, True),
        ("scaling.decided", "at 90 %", CANARY, True),
        ("alert.firing", "", {}, False),  # told by its group
        ("instance.failed", "exit 1", CANARY, False),
        ("flag.changed", "", {}, False),
    ],
)
def test_what_is_told(kind: str, reason: str, fields: dict[str, Any], is_notified: bool) -> None:
    assert (composed(kind, reason, **fields) is not None) is is_notified


def test_a_rollout_that_waits_says_at_which_step_and_share() -> None:
    reason = "step 1 of 2 waits for a person: POST /apps/notes/rollout/resume"
    message = composed("rollout.paused", reason, weight=5, step=0, steps=2, resumes_by_itself=False, **CANARY)
    assert message is not None
    assert message.subject == f"notes canary: notes-r9 is paused: {reason}"
    assert "1 of 2" in message.text and "5 %" in message.text


def test_a_failed_build_says_where_and_why() -> None:
    message = composed(
        "build.failure", "gate coverage: 61", id="notes-17", branch="dev", commit=COMMIT, excerpt="E  1 == 2"
    )
    assert message is not None
    assert message.subject == "notes: build notes-17 failed on dev: gate coverage: 61"
    for line in (
        "dev",
        COMMIT,
        "First failing lines:\n\n    E  1 == 2",
        "http://build/builds/notes-17",
        "2026-01-01 12:30",
    ):
        assert line in message.text


def test_a_release_that_was_rolled_back_gives_its_evidence() -> None:
    message = composed(
        "release.rolled_back",
        "notes-r9-1: exited",
        **{"environment": "production", "build": "notes-17", "commit": COMMIT, "exit_code": 0},
        probe="refused",
        excerpt="Traceback",
    )
    assert message is not None
    assert message.subject == "notes production: release notes-r9 was rolled back: notes-r9-1: exited"
    for line in ("exit code    0", "probe        refused", COMMIT, "    Traceback", "http://build/builds/notes-17"):
        assert line in message.text


def test_the_proxy_s_evidence_is_told_without_what_is_null_or_too_deep() -> None:
    canary = {"release": "notes-r9", "requests": 100, "errors": 31, "p95_ms": 12.34, "p99_ms": None}
    evidence = {
        **{"alert": "errors:notes-r9", "rule": "errors", "value": 0.31, "words": "answered 31 of 100"},
        **{"seen": {"canary_requests": 100, "seconds": 10.0}, "ran_s": 61.5},
        "traffic": {"epoch": "e1", "share_set": 0.33, "tracks": {"canary": canary, "stable": {"requests": 200}}},
    }
    message = composed("rollout.aborted", "errors: answered 31 of 100", evidence=evidence)
    assert message is not None
    for line in (
        "seen         canary requests 100, seconds 10",
        "canary       release notes-r9, requests 100, errors 31, p95 ms 12.3\n",
        "stable       requests 200",
        "ran s        61.5",
    ):
        assert line in message.text
    assert message.text.count("answered 31 of 100") == 1 and "e1" not in message.text


def test_a_step_of_scaling_tells_each_instance() -> None:
    looks = [
        {"id": f"notes-r9-{number}", "working_set": 60 * 2**20, "limit": 2**26, "growth": None} for number in (1, 2)
    ]
    fields: dict[str, Any] = {"from": 2**26, "to": 2**27, "inputs": looks}
    message = composed("scaling.decided", environment="canary", **fields)
    assert message is not None
    for number in (1, 2):
        assert f"notes-r9-{number}   working set 60 MiB, limit 64 MiB\n" in message.text


def test_an_aborted_rollout_gives_its_evidence_and_both_tracks() -> None:
    evidence = {"rule": "errors", "value": 0.3123, "threshold": 0.05, "words": "answered 31 of 100 with 5xx"}
    traffic = {
        "canary": {"requests": 100, "errors": 31, "latency": {"le_ms": []}},
        "stable": {"requests": 200, "errors": 0},
    }
    message = composed("rollout.aborted", "errors", evidence=evidence, traffic=traffic)
    assert message is not None
    for line in (
        "answered 31 of 100 with 5xx",
        "value        0.312",
        "threshold    0.05",
        "canary       requests 100, errors 31",
        "stable       requests 200, errors 0",
        f"commit       {COMMIT}",
        "environment  canary",
        "http://proxy/apps/notes/rollout",
    ):
        assert line in message.text


@pytest.mark.parametrize("odd", ["a string", 7, None, ["list"], {"nested": {"deeper": {}}}])
def test_evidence_of_another_shape_harms_nothing(odd: Any) -> None:
    assert composed("rollout.aborted", "errors", evidence=odd, traffic=odd) is not None


def test_a_step_of_scaling_gives_both_limits_and_what_it_was_decided_on() -> None:
    inputs = {"working_set": 60 * 2**20, "pressure": 0.5}
    message = composed(
        "scaling.decided", "uses 94 %", environment="production", **{"from": 2**26, "to": 2**27, "inputs": inputs}
    )
    assert message is not None
    assert message.subject == "notes production: scaled from 64 MiB to 128 MiB: uses 94 %"
    assert "working set  60 MiB" in message.text and "pressure     0.5" in message.text


@pytest.mark.parametrize(
    ("value", "text"), [(0.123456, "0.123"), (2**26, "64 MiB"), (31, "31"), (True, "True"), (None, "")]
)
def test_figures(value: Any, text: str) -> None:
    assert figure(value) == text


@pytest.mark.parametrize("kind", COMPOSERS)
def test_a_plain_notification_is_there_for_all_that_is_told(kind: str) -> None:
    plain = plain_notification(event(kind), LINKS)
    assert plain is not None and kind in plain.message.subject
    assert plain_notification(event("release.live"), LINKS) is None


# --- what is known


def test_a_release_tells_its_place_s_addresses_and_commit() -> None:
    new = learned(CONTEXTS, event("release.pending", id="notes-r10", notify=["b"], commit="d" * 40, **CANARY))
    assert new == {"notes:canary": ReleaseContext(notify=["b"], commits={"notes-r9": COMMIT, "notes-r10": "d" * 40})}
    assert learned(CONTEXTS, event("release.live", id="notes-r9", notify=["a"], commit=COMMIT, **CANARY)) == {}
    assert learned(CONTEXTS, event("instance.ready", notify=["b"], **CANARY)) == {}


def test_only_the_last_twenty_commits_are_kept() -> None:
    contexts: dict[str, ReleaseContext] = {}
    for number in range(30):
        contexts |= learned(contexts, event("release.live", id=f"notes-r{number}", commit=COMMIT, **CANARY))
    assert list(contexts["notes:canary"].commits) == [f"notes-r{number}" for number in range(10, 30)]


@pytest.mark.parametrize(
    ("kind", "fields", "people"),
    [
        ("build.failure", {"notify": ["m"]}, ["m"]),
        ("build.failure", {}, ["p"]),  # its manifest could not be read
        ("build.failure", {"environment": "canary"}, ["a"]),
        ("rollout.aborted", {}, ["a"]),
        ("scaling.decided", {"environment": "production"}, ["p"]),
        ("scaling.decided", {"environment": "production", "app": "other"}, []),
    ],
)
def test_whom_the_manifest_names(kind: str, fields: dict[str, Any], people: list[str]) -> None:
    assert addresses(CONTEXTS, event(kind, **fields)) == people
