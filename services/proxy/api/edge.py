"""Serves the edge settings of apps."""

from typing import Annotated

from fastapi import APIRouter, Body

from services.proxy.api.rest import CHANGE, App
from services.proxy.control.edge_service import EdgeService
from services.proxy.routes.edge import EdgeSettings

EXAMPLE = {
    "hosts": ["www.example.com", "example.com"],
    "canonical_host": "www.example.com",
    "paths": [{"prefix": "/api", "app": "api", "strip": True}],
}


def edge_router(edge: EdgeService) -> APIRouter:
    routes = APIRouter(prefix="/apps/{app}/edge", tags=["edge"])

    @routes.get("", summary="An app's edge settings")
    async def get_edge(app: App) -> EdgeSettings:
        """Returns the app's further host names and mapped paths, as `PUT` takes them. The manifest's host names and
        `<app>.<domain>` are not among them.
        """
        return edge.settings(app)

    @routes.put("", summary="Set an app's edge settings", responses=CHANGE)
    async def put_edge(app: App, body: Annotated[EdgeSettings, Body(examples=[EXAMPLE])]) -> EdgeSettings:
        """Replaces the settings, and answers when Envoy has accepted them, with host names and prefixes in their normal
        form. Releases do not change them; they are removed with the app. The answer is 404 before the app's first
        release; 409 if another app has one of the host names or the unknown ones, and then names it; 504 if Envoy has
        not confirmed within 5 s, and the request should then be repeated.
        """
        return await edge.put(app, body)

    return routes
