"""Defines the REST routes of rules and alerts."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request, Response

from services.monitor.alerts.alert import Alert, AlertState
from services.monitor.alerts.alert_state import ActiveAlerts
from services.monitor.api.page_views import key_of
from services.monitor.rules.rule import DEFAULTS, Rule, RuleBody, RuleName
from shared.errors import NotFound
from shared.models import Environment, Page
from shared.web.pages import wants_page
from shared.web.paging import Limit, NameCursor, TimeCursor, page_of

EXAMPLE = {"metric": "memory", "threshold": 0.9, "clear": 0.8, "for_s": 30, "app": "notes", "aborts": False}


AlertsPage = Callable[[Request, Page[Alert] | None], Awaitable[Response]]


def alerts_router(alerts: ActiveAlerts, page: AlertsPage) -> APIRouter:
    """Returns the router for requests about rules and alerts. `page` answers `GET /alerts` for a browser: with an
    overview, or with the alerts that the query selects.
    """
    router = APIRouter(tags=["alerts"])

    @router.get("/alerts", response_model=Page[Alert], summary="Open and ended alerts")
    async def list_alerts(
        request: Request,
        app: str | None = None,
        environment: Environment | None = None,
        state: AlertState | None = None,
        limit: Limit = 100,
        cursor: TimeCursor = None,
    ) -> Any:
        """Lists alerts, last changed first: all open ones, and the last 500 that have ended. `abort` says whether the
        proxy has confirmed the abort. If `Accept` begins with `text/html`, the answer is a page.
        """
        wanted = (
            alert
            for alert in alerts.alerts()
            if app in (None, alert.app) and environment in (None, alert.environment) and state in (None, alert.state)
        )
        found = page_of(wanted, key_of, limit, cursor)
        if wants_page(request.headers.get("accept")):
            return await page(request, found if request.query_params else None)
        return found

    @router.get("/rules", summary="All rules")
    async def list_rules(limit: Limit = 100, cursor: NameCursor = None) -> Page[Rule]:
        """Lists the rules by name. Default rules are among them even if people have set none."""
        return page_of(alerts.rules(), lambda rule: rule.name, limit, cursor, newest_first=False)

    @router.get("/rules/{name}", summary="One rule")
    async def get_rule(name: RuleName) -> Rule:
        """Returns the rule of this name: the default rule, or what replaced it. The answer is 404 if there is none."""
        for rule in alerts.rules():
            if rule.name == name:
                return rule
        raise _not_found(name)

    @router.put("/rules/{name}", summary="Make or replace a rule")
    async def put_rule(name: RuleName, body: Annotated[RuleBody, Body(examples=[EXAMPLE])]) -> Rule:
        """Creates or replaces the rule. It applies to canaries with an active rollout and to production, unless `app`
        or `environment` restricts that; `aborts` affects canaries only. To disable a default rule, replace it by one
        with `enabled: false`.
        """
        rule = Rule(name=name, **body.model_dump())
        await alerts.put_rule(rule)
        return rule

    @router.delete("/rules/{name}", summary="Delete a rule", status_code=204)
    async def delete_rule(name: RuleName) -> Response:
        """Deletes the rule and ends its open alerts. A default rule gets its default values back."""
        if name not in {rule.name for rule in alerts.rules()}:
            raise _not_found(name)
        await alerts.delete_rule(name)
        return Response(status_code=204)

    return router


def _not_found(name: str) -> NotFound:
    return NotFound(
        f"there is no rule {name}; GET /rules lists those there are, default ones are {', '.join(DEFAULTS)}"
    )
