"""A silence mutes the messages that match all of its fields."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from services.monitor.notify.silence import SilenceBody, muting, new_silence

AT = datetime(2026, 1, 1, tzinfo=UTC)


def body(**fields: Any) -> SilenceBody:
    return SilenceBody.model_validate({"duration_s": 60, "reason": "why", **fields})


@pytest.mark.parametrize(
    ("fields", "rule", "is_muted"),
    [
        ({"app": "notes"}, None, True),
        ({"app": "notes"}, "cpu", True),
        ({"app": "other"}, None, False),
        ({"environment": "canary"}, None, True),
        ({"environment": "production"}, None, False),
        ({"app": "notes", "environment": "production"}, None, False),
        ({"rule": "cpu"}, "cpu", True),
        ({"rule": "cpu"}, "memory", False),
        ({"rule": "cpu"}, None, False),  # about alerts only
        ({"app": "other", "rule": "cpu"}, "cpu", False),
    ],
)
def test_all_that_is_given_must_fit(fields: dict[str, Any], rule: str | None, is_muted: bool) -> None:
    silence = new_silence("s1", body(**fields), AT)
    assert (muting([silence], "notes", "canary", rule, AT) == silence) is is_muted


def test_a_silence_ends() -> None:
    silence = new_silence("s1", body(app="notes"), AT)
    assert muting([silence], "notes", "canary", None, AT + timedelta(seconds=59.9))
    assert muting([silence], "notes", "canary", None, AT + timedelta(seconds=60)) is None
    until = new_silence("s2", body(app="notes", duration_s=None, until=AT + timedelta(days=1)), AT)
    assert until.until == AT + timedelta(days=1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "give app, environment or rule"),
        ({"app": "notes", "duration_s": None}, "either duration_s or until"),
        ({"app": "notes", "until": AT}, "either duration_s or until"),
        ({"app": "notes", "reason": ""}, "reason"),
        ({"app": "notes", "duration_s": 0}, "duration_s"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        body(**fields)
