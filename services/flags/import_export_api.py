"""REST: export of all flags to a file in flagd's format, and import from one."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request
from pydantic import JsonValue

from services.flags.auth import actor
from services.flags.cache import FlagCache
from services.flags.change import FlagId, Flags, Wanted, changes_of
from services.flags.flag import Change, Definition
from services.flags.import_export import Mode, flagd_file, parse, wanted
from services.flags.store import FlagStore
from shared.clock import now
from shared.models import Environment, View

ALL = "all"
FILE_EXAMPLE = {
    "flags": {"set-message": {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}}
}
File = dict[str, JsonValue]


class ImportedView(View):
    """One flag that the import changed, or would change in a dry run."""

    key: str
    environment: Environment
    what: Literal["made", "changed", "deleted"]
    before: Definition | None
    after: Definition | None


class ImportView(View):
    """Answer of `POST /import`. `unchanged` counts flags of the file that already had that definition."""

    dry_run: bool
    mode: Mode
    at: datetime
    unchanged: int
    items: list[ImportedView]


def import_export_router(cache: FlagCache, store: FlagStore) -> APIRouter:
    router = APIRouter(tags=["flags"])

    @router.get("/export", response_model=File, summary="Export all flags as a file")
    async def export(
        environment: Annotated[
            Literal["production", "canary", "all"], Query(description="`all`: one file for each environment.")
        ] = "production",
    ) -> dict[str, Any]:
        """Returns the flags in flagd's file format; `POST /import` restores them without loss. With `environment=all`,
        returns `{"environments": {"production": …, "canary": …}}`.
        """
        files = {each: flagd_file(cache.flags(each).flags()) for each in Environment}
        return {"environments": files} if environment == ALL else files[Environment(environment)]

    @router.post("/import", summary="Import flags from a file")
    async def import_flags(
        request: Request,
        document: Annotated[File, Body(examples=[FILE_EXAMPLE])],
        environment: Annotated[
            Environment,
            Query(description="The environment of a flagd file; a document with `environments` names its own."),
        ] = Environment.PRODUCTION,
        mode: Annotated[Mode, Query(description="`replace` deletes flags that the file does not name.")] = "merge",
        dry_run: Annotated[bool, Query(description="Returns what would change, and writes nothing.")] = False,
    ) -> ImportView:
        """Imports the file completely or not at all. If it has faults, answers 422 with all of them, each with its path
        (`flags.set-message.targeting.if.0.wat`), and writes nothing. Inserts `$evaluators` where flags refer to them,
        and merges the file's `metadata` into each flag.
        """
        parsed = parse(document, environment)
        at, who = now(), actor(request.headers)

        def decide(flags: Flags) -> Wanted:
            return wanted(parsed, flags, mode)

        if dry_run:
            _, stored = await store.load()
            flags = {FlagId(flag.environment, flag.key): flag for flag in stored}
            changes = changes_of(flags, decide(flags), who, at)
        else:
            changes = await cache.change(None, decide, actor=who, at=at)
        touched = {FlagId(change.environment, change.key) for change in changes}
        return ImportView(
            dry_run=dry_run,
            mode=mode,
            at=at,
            unchanged=len(parsed.definitions.keys() - touched),
            items=[_imported(change) for change in changes],
        )

    return router


def _imported(change: Change) -> ImportedView:
    given = change.model_dump(exclude={"at", "actor", "before", "after"})
    return ImportedView(**given, what=change.kind, before=change.before, after=change.after)
