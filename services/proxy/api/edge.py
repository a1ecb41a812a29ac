"""Serves what is set on an app for its visitors' way to it."""

from typing import Annotated

from fastapi import APIRouter, Body

from services.proxy.api.rest import CHANGE, App
from services.proxy.control.control_plane import ControlPlane
from services.proxy.routes.edge import EdgeSettings

CONFIRM_S = 5.0
EXAMPLE = Body(examples=[{"tls": {"redirect": True, "hsts": 86400}}])


def edge_router(control: ControlPlane) -> APIRouter:
    routes = APIRouter(prefix="/apps/{app}/edge", tags=["edge"])

    @routes.get("", summary="The settings of the app's edge")
    async def get_edge(app: App) -> EdgeSettings:
        """Returns what is set for the way of the app's visitors: HTTPS and its redirect."""
        return control.route(app).edge

    @routes.put("", summary="Set the app's edge", responses=CHANGE)
    async def put_edge(app: App, body: Annotated[EdgeSettings, EXAMPLE]) -> EdgeSettings:
        """Replaces all settings of the app's edge, and answers when Envoy has accepted them; what the body leaves out
        gets its default. They are set on the app, not in a commit, and stay through releases. The answer is 504 if
        Envoy has not confirmed within 5 s; the request may be repeated.
        """
        control.put(control.route(app).model_copy(update={"edge": body}))
        await control.confirm(app, CONFIRM_S)
        return body

    return routes
