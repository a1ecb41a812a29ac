"""Defines a delivery: one call of a forge's webhook, its states and its outcome. Pure. A delivery is stored as
`received` before the forge gets its answer. Afterwards one fetch of the app's source serves all deliveries of the app
that wait. Then the head of each branch is built, which may be newer than the delivered commit.
"""

import math
from datetime import datetime, timedelta
from enum import StrEnum

from pydantic import Field

from services.build.forges.webhook import Notice
from services.build.git.remote_source import Forge
from shared.errors import Conflict
from shared.models import View
from shared.runtime.backoff import backoff_s
from shared.state import Table, transition


class WebhookDeliveryState(StrEnum):
    RECEIVED = "received"
    IGNORED = "ignored"
    FETCHED = "fetched"
    QUEUED = "queued"
    FAILED = "failed"


S = WebhookDeliveryState
# From any final state, a person may have the delivery processed again.
DELIVERY_TABLE: Table[WebhookDeliveryState] = {
    S.RECEIVED: frozenset({S.IGNORED, S.FETCHED, S.QUEUED, S.FAILED}),
    S.IGNORED: frozenset({S.RECEIVED}),
    S.FETCHED: frozenset({S.RECEIVED}),
    S.QUEUED: frozenset({S.RECEIVED}),
    S.FAILED: frozenset({S.RECEIVED}),
}
TRIES = 4


class WebhookDelivery(View):
    """Records one call of a forge's webhook; item of `GET /apps/{app}/deliveries`."""

    id: str = Field("", description="Counts up per app: `notes-d12`.")
    app: str
    forge: Forge
    forge_id: str = Field(description="Id that the forge gave the delivery.")
    event: str
    branch: str | None = None
    commit: str | None = None
    before: str | None = Field(None, description="Commit at which the branch was before the push.")
    received_at: datetime
    asked_at: datetime = Field(description="Time of its receipt, or of its last redelivery.")
    state: WebhookDeliveryState = Field(description="`fetched`: the fetch brought no new commit to build.")
    reason: str = ""
    builds: list[str] = Field([], description="Id of the build of the branch's head.")
    tries: int = Field(0, description="Fetches since `asked_at` that failed, or did not bring the commit.")

    @property
    def waits(self) -> bool:
        return self.state is S.RECEIVED

    @property
    def fetch_again_at(self) -> datetime:
        """Returns the earliest time of the next fetch for a delivery whose commit has not yet appeared at the forge:
        `asked_at` itself before the first try, then 1, 6 and 31 s after `asked_at`.
        """
        return self.asked_at + timedelta(seconds=sum(wait_s(tries) for tries in range(1, self.tries + 1)))

    def outran(self, head: str | None, *, in_repository: bool) -> bool:
        """Returns True if a fetch has not brought this push, because the forge's git still lags behind its webhook: the
        branch is missing, is still at the commit before the push, or the delivered commit was not fetched. `head` is
        the branch's commit after the fetch (None if the branch is missing); `in_repository` is True if the delivered
        commit was fetched.
        """
        return head != self.commit and (head is None or head == self.before or not in_repository)


def new_delivery(app: str, forge: Forge, forge_id: str, notice: Notice, now: datetime) -> WebhookDelivery:
    """Returns a new delivery of what `notice` reports, in the state `received`, or `ignored` if there is nothing to
    build.
    """
    return WebhookDelivery(
        app=app,
        forge=forge,
        forge_id=forge_id,
        event=notice.event,
        branch=notice.branch,
        commit=notice.commit,
        before=notice.before,
        received_at=now,
        asked_at=now,
        state=S.IGNORED if notice.ignored else S.RECEIVED,
        reason=notice.ignored,
    )


def became(
    delivery: WebhookDelivery, state: WebhookDeliveryState, reason: str, builds: list[str] | None = None
) -> WebhookDelivery:
    """Returns the delivery in the new state. Raises IllegalTransition if its present state does not allow that."""
    update = {"state": transition(DELIVERY_TABLE, delivery.state, state), "reason": reason, "builds": builds or []}
    return delivery.model_copy(update=update)


def again(delivery: WebhookDelivery, now: datetime) -> WebhookDelivery:
    """Returns the delivery in the state `received`, so that it is processed again; unchanged if it is still waiting.
    Raises Conflict if it is not about a push.
    """
    if delivery.waits:
        return delivery
    if delivery.commit is None:
        raise Conflict(f"{delivery.id} has nothing to run again: {delivery.reason}")
    return became(delivery, S.RECEIVED, "redelivered by hand").model_copy(update={"asked_at": now, "tries": 0})


def failed_try(delivery: WebhookDelivery, reason: str) -> WebhookDelivery:
    """Returns the delivery after a failed fetch: still waiting, or `failed` if it was the fourth try."""
    tries = delivery.tries + 1
    if tries >= TRIES:
        return became(delivery, S.FAILED, f"given up after {tries} tries: {reason}").model_copy(update={"tries": tries})
    return delivery.model_copy(update={"tries": tries, "reason": reason})


def not_seen(delivery: WebhookDelivery, head: str | None, now: datetime) -> WebhookDelivery:
    """Returns the delivery after a fetch that did not bring its commit: still waiting, or `failed` if it was the fourth
    try. A fetch before `fetch_again_at` does not count as a try. `head` is the branch's commit after the fetch; None if
    the branch is missing.
    """
    if now < delivery.fetch_again_at:
        return delivery
    shown = f"shows {delivery.branch} at {head[:10]}" if head else f"shows no branch {delivery.branch}"
    commit = (delivery.commit or "")[:10]
    return failed_try(
        delivery, f"the forge {shown}, not at {commit}: its git lags, or a later push replaced the commit"
    )


def wait_s(tries: int) -> float:
    """Returns the back-off in seconds after `tries` fetches that failed or did not bring the commit: 1, 5, 25."""
    return backoff_s(max(tries, 1), first_s=1.0, longest_s=math.inf, factor=5.0)


def judged(delivery: WebhookDelivery, head: str, build: str, queued_at: datetime) -> WebhookDelivery:
    """Returns the delivery after a fetch that brought its push. It is `queued` if the delivery caused the build, and
    `fetched` if the build was queued before, at `queued_at`. `head` is the branch's commit, `build` the id of that
    commit's build.
    """
    newer = "" if head == delivery.commit else f"{head[:10]} is the head of {delivery.branch} by now; "
    if queued_at >= delivery.asked_at:
        return became(delivery, S.QUEUED, f"{newer}{build} builds it", [build])
    return became(delivery, S.FETCHED, f"{newer}{build} was queued for it before", [build])
