"""REST: instances and their samples, rules, alerts."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Body, Query, Response
from pydantic import AwareDatetime

from services.monitor.alert import Alert, AlertState
from services.monitor.alert_book import AlertBook
from services.monitor.rule import DEFAULTS, Rule, RuleBody, RuleName
from services.monitor.sample import Sample, Watched, thinned
from services.monitor.store import SampleStore
from shared.clock import now
from shared.errors import Invalid, NotFound
from shared.models import Page

EXAMPLE = {"metric": "memory", "threshold": 0.9, "clear": 0.8, "for_s": 30, "aborts": False}
SPAN = timedelta(hours=1)  # samples are kept for so long


def samples_router(store: SampleStore) -> APIRouter:
    router = APIRouter(prefix="/instances", tags=["samples"])

    @router.get("", summary="Instances with their last sample")
    async def list_instances(app: str | None = None) -> Page[Watched]:
        """Last started first. An instance that is gone stays for an hour; its sample's time tells."""
        return Page(items=[item for item in await store.instances() if app in (None, item.app)])

    @router.get("/{id}/samples", summary="CPU and memory of an instance over time")
    async def list_samples(
        id: str,
        since: Annotated[AwareDatetime | None, Query(alias="from", description="An hour ago, if absent.")] = None,
        until: Annotated[AwareDatetime | None, Query(alias="to", description="Now, if absent.")] = None,
        step: Annotated[int, Query(ge=1, le=3600, description="Seconds; the highest figures of each step.")] = 2,
    ) -> Page[Sample]:
        """Newest first; they are taken every 2 s."""
        end: datetime = until or now()
        start: datetime = since or end - SPAN
        if start > end:
            raise Invalid("from", "is after `to`; swap them")
        samples = await store.samples(id, start, end)
        if not samples and id not in {item.id for item in await store.instances()}:
            raise NotFound(f"no instance {id} gave a sample within the last hour; GET /instances lists those that did")
        return Page(items=thinned(samples, step)[::-1])

    return router


def alerts_router(book: AlertBook) -> APIRouter:
    router = APIRouter(tags=["alerts"])

    @router.get("/alerts", summary="Alerts, those that are over too")
    async def list_alerts(app: str | None = None, state: AlertState | None = None) -> Page[Alert]:
        """Newest change first; the last 500 that are over. `abort`: whether the proxy has confirmed."""
        alerts = book.alerts()
        return Page(items=[item for item in alerts if app in (None, item.app) and state in (None, item.state)])

    @router.get("/rules", summary="All rules")
    async def list_rules() -> Page[Rule]:
        """By name; `errors`, `health` and `samples` are there without being set."""
        return Page(items=book.rules())

    @router.get("/rules/{name}", summary="One rule")
    async def get_rule(name: RuleName) -> Rule:
        """What is in force."""
        for rule in book.rules():
            if rule.name == name:
                return rule
        raise _not_found(name)

    @router.put("/rules/{name}", summary="Make or replace a rule")
    async def put_rule(name: RuleName, body: Annotated[RuleBody, Body(examples=[EXAMPLE])]) -> Rule:
        """Rules look at canary releases on their way. Replace a default rule by one with `enabled: false` to put it
        out of force.
        """
        rule = Rule(name=name, **body.model_dump())
        await book.put_rule(rule)
        return rule

    @router.delete("/rules/{name}", summary="Delete a rule", status_code=204)
    async def delete_rule(name: RuleName) -> Response:
        """Its open alerts end. A default rule goes back to its default."""
        if name not in {rule.name for rule in book.rules()}:
            raise _not_found(name)
        await book.delete_rule(name)
        return Response(status_code=204)

    return router


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"there is no rule {name}; GET /rules lists those there are, default ones are {', '.join(DEFAULTS)}"
    )
