"""The manifest's schema, for editors."""

from typing import Any

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from shared.manifest import Manifest


def manifest_router() -> APIRouter:
    router = APIRouter(tags=["manifest"])
    text = schema()

    @router.get("/static/slipway.schema.json", response_class=JSONResponse, include_in_schema=False)
    async def manifest_schema() -> JSONResponse:
        """Public, as static files are: editors ask for what `# yaml-language-server: $schema=…` names."""
        return JSONResponse(text, media_type="application/schema+json", headers={"Cache-Control": "no-cache"})

    return router


def schema() -> dict[str, Any]:
    """Of `slipway.yml`. What hangs on several fields (`depends_on`, equal names) is checked by the platform only."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Manifest.model_json_schema(),
        "title": "slipway.yml",
    }
