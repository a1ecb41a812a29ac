"""Defines the REST routes of scaling policies and of the decisions based on them."""

from typing import Annotated

from fastapi import APIRouter, Body

from services.monitor.scaling.policy_store import PolicyStore
from services.monitor.scaling.scaling_decision import Decision
from services.monitor.scaling.scaling_input import EnvironmentKey
from services.monitor.scaling.scaling_policy import Policy, PolicyBody, default_policy
from shared.models import AppName, Environment, Page
from shared.web.paging import Limit, NumberCursor, cut

EXAMPLE = {"enabled": True, "up": 0.9, "up_soon": 0.8, "cooldown_s": 60}


def policies_router(store: PolicyStore) -> APIRouter:
    router = APIRouter(prefix="/policies", tags=["scaling"])

    @router.get("/{app}/{env}", summary="How an environment's memory is scaled")
    async def get_policy(app: AppName, env: Environment) -> Policy:
        """Returns the policy that applies: the default one, which is enabled, if none was set."""
        key = EnvironmentKey(app, env)
        return next((each for each in await store.policies() if each.key == key), default_policy(key))

    @router.put("/{app}/{env}", summary="Set how an environment's memory is scaled")
    async def put_policy(
        app: AppName, env: Environment, body: Annotated[PolicyBody, Body(examples=[EXAMPLE])]
    ) -> Policy:
        """Replaces the policy. It applies within 2 s; a missing field gets its default. The limit itself stays between
        the manifest's `memory` and `max_memory`.
        """
        policy = Policy(app=app, environment=env, **body.model_dump())
        await store.put_policy(policy)
        return policy

    @router.get("/{app}/{env}/decisions", summary="Decisions about an environment's memory")
    async def list_decisions(
        app: AppName,
        env: Environment,
        cursor: NumberCursor = None,
        limit: Limit = 20,
    ) -> Page[Decision]:
        """Lists the last 500 decisions, newest first, including those that changed nothing; `cause` and `reason` say
        why. Successive decisions with the same cause share one entry, with a `count`. The newest entry may be 10 s old.
        """
        found = await store.decisions(EnvironmentKey(app, env), limit=limit + 1, before=cursor)
        return cut(found, limit, lambda decision: decision.number)

    return router
