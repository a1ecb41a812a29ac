"""The pages' routes: what they show is gathered here from the books and stores."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.monitor.alert_book import AlertBook
from services.monitor.notifier_store import NotifierStore
from services.monitor.outbox_store import OutboxStore
from services.monitor.page import Pages, places
from services.monitor.policy_look import Place as Where
from services.monitor.policy_store import PolicyStore
from services.monitor.sample import Sample, SampleItem, Watched, item_of
from services.monitor.sample_api import rows_of
from services.monitor.store import SampleStore
from shared.clock import now

SPAN = timedelta(hours=1)
DECISIONS_SHOWN = 10


def pages_router(pages: Pages, samples: SampleStore, policies: PolicyStore) -> APIRouter:
    router = APIRouter(tags=["pages"])

    @router.get("/", response_class=HTMLResponse, summary="Instances as a page")
    async def instances(request: Request) -> HTMLResponse:
        """Every instance with memory and CPU over the last hour, and what was decided about its memory."""
        at = now()
        seen = await samples.instances()
        shown = places(seen, {each.id: await _highest(samples, each, at) for each in seen}, at)
        for place in shown:
            place.decisions = await policies.decisions(Where(place.app, place.environment), limit=DECISIONS_SHOWN)
        return HTMLResponse(pages.instances(shown, request.url.hostname))

    return router


def alerts_page(
    pages: Pages, alerts: AlertBook, silences: NotifierStore, deliveries: OutboxStore
) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        at = now()
        in_force = [silence for silence in await silences.silences() if silence.is_active(at)]
        html = pages.alerts(
            alerts.alerts(), alerts.rules(), in_force, await deliveries.deliveries(), request.url.hostname
        )
        return HTMLResponse(html)

    return page


async def _highest(samples: SampleStore, seen: Watched, at: datetime) -> Sample:
    """The highest figures of the last hour."""
    rows = [item_of(row) for row in await rows_of(samples, samples.samples, seen.id, at - SPAN, at, 60)]
    cpus = [row.cpu for row in rows if row.cpu is not None]
    most: SampleItem | Sample = max(rows, key=lambda row: row.working_set, default=seen.sample)
    return most.model_copy(update={"cpu": max(cpus, default=None)})
