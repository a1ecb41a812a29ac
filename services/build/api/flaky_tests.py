"""Serves the flaky tests of an app: lists them, and starts and ends their quarantines."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body
from pydantic import Field

from services.build.builds.build_store import BuildStore
from services.build.gates.flaky import QUARANTINE, Quarantine
from services.build.gates.history_store import HistoryStore
from shared.clock import Time
from shared.errors import Invalid
from shared.models import Model, Page
from shared.web.paging import Limit, TimeCursor, page_of, time_key

LONGEST = timedelta(days=90)
EXAMPLE = {"reason": "fails while the mail server is moved", "until": "2026-01-31T00:00:00Z"}


class QuarantineRequest(Model):
    reason: str = Field(min_length=1, max_length=500, description="Reason, which every verdict shows.")
    until: Time | None = Field(
        None, description="End of the quarantine, at most 90 days ahead; null: 14 days from now."
    )
    step: str | None = Field(None, description="Name of a step; null: every step.")


def flaky_tests_router(store: BuildStore, history: HistoryStore, now: Callable[[], datetime]) -> APIRouter:
    router = APIRouter(prefix="/apps/{app}/tests/flaky", tags=["flaky tests"])

    @router.get("", response_model=Page[Quarantine], summary="Flaky tests of an app")
    async def flaky(app: str, limit: Limit = 100, cursor: TimeCursor = None) -> Page[Quarantine]:
        """Lists the tests in quarantine, and those whose quarantine ended in the last 90 days. The one with the latest
        `until` comes first.
        """
        await store.app(app)
        known = (await history.quarantines(app)).values()
        return page_of(known, lambda each: time_key(each.until, each.test), limit, cursor)

    @router.put("/{test:path}", response_model=Quarantine, summary="Quarantine a test")
    async def put(app: str, test: str, body: Annotated[QuarantineRequest, Body(examples=[EXAMPLE])]) -> Quarantine:
        """Puts a test into quarantine until `until`: verdicts list its failures, but these fail no gate. `test` is the
        id that verdicts show, `<class>::<name>`.
        """
        await store.app(app)
        at = now()
        until = body.until or at + QUARANTINE
        if not at < until <= at + LONGEST:
            raise Invalid("until", f"must be between now and {at + LONGEST:%Y-%m-%d}")
        before = (await history.quarantines(app)).get(test)
        quarantine = Quarantine(
            test=test,
            step=body.step,
            until=until,
            reason=body.reason,
            since=before.since if before else at,
            flips=before.flips if before else 0,
        )
        await history.put_quarantine(app, quarantine)
        return quarantine

    @router.delete("/{test:path}", status_code=204, summary="End a quarantine")
    async def delete(app: str, test: str) -> None:
        """Ends the quarantine of the test and removes it from the list of flaky tests. Its failures count from now
        on.
        """
        await store.app(app)
        await history.drop_quarantine(app, test)

    return router
