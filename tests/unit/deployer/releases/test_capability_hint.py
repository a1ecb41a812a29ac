"""The words for a failure that a missing capability may have caused. Lines as programs printed them in containers."""

import pytest

from services.deployer.releases.capability_hint import capability_hint

REFUSALS = [
    '2026/11/29 16:19:32 [emerg] 9#9: chown("/var/lib/nginx/body", 33) failed (1: Operation not permitted)',
    'error: failed switching to "app": operation not permitted',
    "chown: changing ownership of '/srv/x': Operation not permitted",
    "Error: EPERM: operation not permitted, chown '/data'",
]


@pytest.mark.parametrize("line", REFUSALS)
def test_a_refusal_names_what_was_kept(line: str) -> None:
    hint = capability_hint(["starting", line], ("CHOWN", "SETUID"))
    assert hint is not None and "keeps only CHOWN, SETUID" in hint and "USER in the Dockerfile" in hint


@pytest.mark.parametrize("line", REFUSALS)
def test_without_any_it_says_that(line: str) -> None:
    hint = capability_hint([line], ())
    assert hint is not None and "containers run without capabilities" in hint


def test_other_failures_and_processes_are_left_alone() -> None:
    assert capability_hint(["PermissionError: [Errno 13] Permission denied: '/x'", "KeyError: 'EPERMIT'"], ()) is None
    assert capability_hint(REFUSALS, None) is None
    assert capability_hint([], ("CHOWN",)) is None
