"""Defines the REST routes that export all flags to a file in flagd's format, and import such a file."""

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.responses import StreamingResponse

from services.flags.auth import actor
from services.flags.cache import FlagCache
from services.flags.import_export import Mode, flagd_file
from services.flags.importer import Importer, ImportView
from shared.clock import now
from shared.models import Environment

ALL = "all"
FILE_EXAMPLE = {
    "flags": {"set-message": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}}
}
File = dict[str, Any]  # the importer checks its values, without delaying other requests


def import_export_router(cache: FlagCache, importer: Importer) -> APIRouter:
    router = APIRouter(tags=["flags"])

    @router.get("/export", response_model=File, summary="Export all flags as a file")
    async def export(
        environment: Annotated[
            Literal["production", "canary", "all"], Query(description="`all`: one file for each environment.")
        ] = "production",
    ) -> StreamingResponse:
        """Returns the flags in flagd's file format; `POST /import` restores them without loss. With `environment=all`,
        returns `{"environments": {"production": …, "canary": …}}`.
        """
        flags = {each: [evaluator.flag for evaluator in cache.flags(each).by_key()] for each in Environment}
        files = {each: flagd_file(flags[each]) for each in Environment}
        text = _together(files) if environment == ALL else files[Environment(environment)]
        return StreamingResponse(text, media_type="application/json")

    @router.post("/import", response_model=ImportView, summary="Import flags from a file")
    async def import_flags(
        request: Request,
        document: Annotated[File, Body(examples=[FILE_EXAMPLE])],
        environment: Annotated[
            Environment,
            Query(description="The environment of a flagd file; a document with `environments` names its own."),
        ] = Environment.PRODUCTION,
        mode: Annotated[Mode, Query(description="`replace` deletes flags that the file does not name.")] = "merge",
        dry_run: Annotated[bool, Query(description="Returns what would change, and writes nothing.")] = False,
    ) -> Response:
        """Imports the file completely or not at all. If it has faults, answers 422 with all of them, each with its path
        (`flags.set-message.targeting.if.0.wat`), and writes nothing. Inserts `$evaluators` where flags refer to them,
        and merges the file's `metadata` into each flag.
        """
        answer = await importer.run(
            document, environment, mode=mode, dry_run=dry_run, actor=actor(request.headers), at=now()
        )
        await cache.show_write()
        return Response(answer, media_type="application/json")

    return router


async def _together(files: Mapping[Environment, AsyncIterator[str]]) -> AsyncIterator[str]:
    start = '{"environments":{'
    for environment, file in files.items():
        yield f'{start}"{environment}":'
        async for part in file:
            yield part
        start = ","
    yield "}}"
