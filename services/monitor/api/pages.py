"""Defines the routes of the pages, which get their content from caches and stores."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.api.page_views import MonitorPages, by_environment
from services.monitor.api.samples import rows_of
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.samples.sample import Sample, SampleItem, Watched, item_of
from services.monitor.samples.sample_store import SampleStore
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.clock import now

SPAN = timedelta(hours=1)
DECISIONS_SHOWN = 10


def pages_router(pages: MonitorPages, samples: SampleStore, policies: PolicyStore) -> APIRouter:
    router = APIRouter(tags=["pages"])

    @router.get("/", response_class=HTMLResponse, summary="Instances as a page")
    async def instances(request: Request) -> HTMLResponse:
        """Shows every instance with memory and CPU over the last hour, and the decisions about its memory."""
        at = now()
        listed = await samples.instances()
        shown = by_environment(listed, {each.id: await _highest(samples, each, at) for each in listed}, at)
        for row in shown:
            row.decisions = await policies.decisions(EnvironmentKey(row.app, row.environment), limit=DECISIONS_SHOWN)
        return HTMLResponse(pages.instances(shown, request.url.hostname))

    return router


def alerts_page(
    pages: MonitorPages, alerts: ActiveAlerts, silences: NotifierStore, deliveries: OutboxStore
) -> Callable[[Request], Awaitable[Response]]:
    async def page(request: Request) -> Response:
        at = now()
        in_force = [silence for silence in await silences.silences() if silence.is_active(at)]
        html = pages.alerts(
            alerts.alerts(), alerts.rules(), in_force, await deliveries.deliveries(), request.url.hostname
        )
        return HTMLResponse(html)

    return page


async def _highest(samples: SampleStore, instance: Watched, at: datetime) -> Sample:
    """Returns the instance's sample with the highest memory use of the last hour, with the hour's highest `cpu`."""
    rows = [item_of(row) for row in await rows_of(samples, samples.samples, instance.id, at - SPAN, at, 60)]
    cpus = [row.cpu for row in rows if row.cpu is not None]
    most: SampleItem | Sample = max(rows, key=lambda row: row.working_set, default=instance.sample)
    return most.model_copy(update={"cpu": max(cpus, default=None)})
