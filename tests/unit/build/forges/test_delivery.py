"""A delivery's states, and what a fetch makes of it."""

from datetime import timedelta
from typing import Any

import pytest

from services.build.forges.delivery import (
    DELIVERY_TABLE,
    TRIES,
    WebhookDelivery,
    WebhookDeliveryState,
    again,
    became,
    failed_try,
    judged,
    new_delivery,
    wait_s,
)
from services.build.forges.webhook import Notice
from services.build.git.remote_source import Forge
from shared.errors import Conflict
from shared.state import IllegalTransition
from tests.support.build.builds import AT
from tests.support.build.webhooks import COMMIT

S = WebhookDeliveryState
PUSH = Notice("push", "release", COMMIT)
LATER = AT + timedelta(seconds=5)


def delivery(notice: Notice = PUSH, forge_id: str = "d-1", app: str = "notes", **changes: Any) -> WebhookDelivery:
    return new_delivery(app, Forge.GITHUB, forge_id, notice, AT).model_copy(update={"id": "notes-d1", **changes})


@pytest.mark.parametrize("before", S)
@pytest.mark.parametrize("after", S)
def test_every_pair_of_states(before: WebhookDeliveryState, after: WebhookDeliveryState) -> None:
    allowed = (before is S.RECEIVED) != (after is S.RECEIVED)
    assert (after in DELIVERY_TABLE[before]) is allowed
    if allowed:
        assert became(delivery(state=before), after, "why").reason == "why"
    else:
        with pytest.raises(IllegalTransition):
            became(delivery(state=before), after, "why")


def test_what_is_nothing_to_do_is_ignored_at_once() -> None:
    ignored = delivery(Notice("push", "release", ignored="release is deleted"))
    assert (ignored.state, ignored.reason) == (S.IGNORED, "release is deleted")
    assert delivery().waits


@pytest.mark.parametrize(
    ("head", "queued_at", "state", "reason"),
    [
        (COMMIT, LATER, S.QUEUED, "notes-7 builds it"),
        (COMMIT, AT - timedelta(seconds=1), S.FETCHED, "notes-7 was queued for it before"),
        ("3" * 40, LATER, S.QUEUED, "3333333333 is the head of release by now; notes-7 builds it"),
    ],
)
def test_the_head_of_the_branch_is_what_is_built(
    head: str, queued_at: Any, state: WebhookDeliveryState, reason: str
) -> None:
    after = judged(delivery(), head, "notes-7", queued_at)
    assert (after.state, after.reason, after.builds) == (state, reason, ["notes-7"])


def test_a_fetch_that_fails_is_tried_again_a_few_times() -> None:
    tried = delivery()
    waits = []
    while tried.waits:
        tried = failed_try(tried, "no luck")
        waits.append(wait_s(tried.tries))
    assert (tried.state, tried.reason, tried.tries) == (S.FAILED, "given up after 4 tries: no luck", TRIES)
    assert waits[:-1] == [1, 5, 25]


def test_a_person_may_have_it_run_again() -> None:
    asked = again(delivery(state=S.FAILED, tries=4, builds=["notes-1"]), LATER)
    assert (asked.state, asked.tries, asked.asked_at, asked.received_at, asked.builds) == (S.RECEIVED, 0, LATER, AT, [])
    assert again(delivery(), LATER) == delivery()
    with pytest.raises(Conflict, match="notes-d1 has nothing to run again: a ping"):
        again(delivery(Notice("ping", ignored="a ping")), LATER)
