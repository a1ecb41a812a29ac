"""Serves the manifest's JSON schema, for editors."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from shared.manifest import Manifest


def manifest_router() -> APIRouter:
    router = APIRouter(tags=["manifest"])
    text = schema()

    @router.get("/static/slipway.schema.json", response_class=JSONResponse, include_in_schema=False)
    async def manifest_schema() -> JSONResponse:
        """Returns the JSON schema of `slipway.yml`. It needs no token: editors fetch it by its URL."""
        return JSONResponse(text, media_type="application/schema+json", headers={"Cache-Control": "no-cache"})

    return router


def schema() -> dict[str, Any]:
    """Returns the JSON schema of `slipway.yml`, which lacks the rules that span several fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
        "title": "slipway.yml",
    }
