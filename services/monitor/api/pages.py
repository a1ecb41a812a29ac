"""Defines the routes of the HTML pages, whose content comes from caches and stores."""

from datetime import timedelta

from fastapi import APIRouter, Request, Response
from fastapi.responses import HTMLResponse

from services.monitor.alerts.alert import Alert
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.api.alerts import AlertsPage
from services.monitor.api.page_views import MESSAGES_SHOWN, MonitorPages, by_environment, peak
from services.monitor.dispatch.outbox_store import OutboxStore
from services.monitor.notify.notifier_store import NotifierStore
from services.monitor.samples.sample_cache import SampleCache
from services.monitor.samples.sample_store import SampleStore
from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_input import EnvironmentKey
from shared.clock import now
from shared.models import Page
from shared.store import RedisError, redis_words
from shared.web.paging import NameCursor, page_of

SPAN = timedelta(hours=1)
APPS_SHOWN = 20
DECISIONS_SHOWN = 3


def pages_router(pages: MonitorPages, samples: SampleCache, store: SampleStore, policies: PolicyStore) -> APIRouter:
    router = APIRouter(tags=["pages"])

    @router.get("/", response_class=HTMLResponse, summary="Instances as a page")
    async def instances(request: Request, cursor: NameCursor = None) -> HTMLResponse:
        """Shows the instances of 20 apps with memory and CPU over the last hour, and the decisions about their memory.
        `cursor` is the name of the app after which the page begins.
        """
        at = now()
        listed = await samples.instances(at)
        apps = page_of({each.app for each in listed}, str, APPS_SHOWN, cursor, newest_first=False)
        shown = by_environment([each for each in listed if each.app in apps.items], at)
        rows = {row.instance.id: row for environment in shown for row in environment.rows}
        highest = await store.highest(list(rows), at - SPAN, at)
        for name, row in rows.items():
            row.peak = peak(highest[name], [*samples.recent(name), row.instance.sample])
        keys = {EnvironmentKey(each.app, each.environment): each for each in shown}
        for key, decisions in (await policies.newest(list(keys), limit=DECISIONS_SHOWN)).items():
            keys[key].decisions = decisions
        return HTMLResponse(pages.instances(shown, apps.next, request.url.hostname))

    return router


def alerts_page(
    pages: MonitorPages, alerts: ActiveAlerts, silences: NotifierStore, deliveries: OutboxStore
) -> AlertsPage:
    async def page(request: Request, found: Page[Alert] | None) -> Response:
        hostname = request.url.hostname
        if found is not None:
            return HTMLResponse(pages.alert_list(found, request.query_params.multi_items(), hostname))
        at = now()
        try:
            in_force = [silence for silence in await silences.silences() if silence.is_active(at)]
            newest = await deliveries.deliveries(limit=MESSAGES_SHOWN)
        except RedisError as error:  # the alerts are in memory, and one says it, too
            problem = f"{redis_words(error)}: silences and messages cannot be shown."
            return HTMLResponse(pages.alerts(alerts.alerts(), alerts.rules(), [], [], hostname, problem))
        return HTMLResponse(pages.alerts(alerts.alerts(), alerts.rules(), in_force, newest, hostname))

    return page
