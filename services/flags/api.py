"""REST: flags and their history for people and scripts, OFREP for apps."""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import Field, JsonValue
from starlette.exceptions import HTTPException
from starlette.types import Scope

from services.flags.cache import FlagCache
from services.flags.evaluation import Evaluation, EvaluationError
from services.flags.flag import Change, Definition, Flag, FlagKey, Metadata, Patch, check, merged
from services.flags.store import FlagStore
from shared.auth import derived_secret, same_secret
from shared.clock import now
from shared.errors import NotFound, Problem
from shared.models import Environment, Page, View

ACTOR = "platform"  # there is one token, so one actor
EXAMPLE = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"ends_with": [{"var": "email"}, "@example.com"]}, "on", None]},
    "metadata": {"owner": "notes", "mirror": "featureFlag"},
}
Where = Annotated[Environment | None, Query(description="One environment; every one, if absent.")]
In = Annotated[Environment, Query(description="The environment that is read.")]


class FlagView(Definition):
    key: str
    environment: Environment
    updated_at: datetime


class ChangeView(View):
    """What one change did; `before` is null if the flag was made, `after` if it was deleted."""

    id: str
    at: datetime
    actor: str
    environment: Environment
    before: Definition | None
    after: Definition | None


def flags_router(cache: FlagCache, store: FlagStore) -> APIRouter:
    router = APIRouter(tags=["flags"])

    async def change(key: str, where: Environment | None, decide: Callable[..., Definition | None]) -> list[Change]:
        environments = [where] if where else list(Environment)
        return await cache.change(key, environments, decide, actor=ACTOR, at=now())

    def found(key: str, where: Environment | None) -> FlagView:
        for environment in [where] if where else list(Environment):
            if flag := cache.flags(environment).get(key):
                return _view(flag)
        raise _not_found(key, where)

    @router.get("/flags", summary="All flags of one environment")
    async def list_flags(environment: In = Environment.PRODUCTION) -> Page[FlagView]:
        """Last changed first."""
        return Page(items=[_view(flag) for flag in cache.flags(environment).flags()])

    @router.get("/flags/{key}", summary="One flag")
    async def get_flag(key: FlagKey, environment: In = Environment.PRODUCTION) -> FlagView:
        """Its definition in one environment."""
        return found(key, environment)

    @router.put("/flags/{key}", summary="Make or replace a flag")
    async def put_flag(
        key: FlagKey, body: Annotated[Definition, Body(examples=[EXAMPLE])], environment: Where = None
    ) -> FlagView:
        """flagd's flag definition. Answers with production's, if it was written to every environment."""
        check(body)
        await change(key, environment, lambda current: body)
        return found(key, environment)

    @router.patch("/flags/{key}", summary="Switch a flag")
    async def patch_flag(
        key: FlagKey,
        body: Annotated[Patch, Body(examples=[{"defaultVariant": "on"}, {"state": "DISABLED"}])],
        environment: Where = None,
    ) -> FlagView:
        """Changes what is given, in each environment that has the flag."""

        def decide(current: Definition | None) -> Definition | None:
            if current is None:
                return None
            after = merged(current, body)
            check(after)
            return after

        await change(key, environment, decide)
        return found(key, environment)

    @router.delete("/flags/{key}", summary="Delete a flag", status_code=204)
    async def delete_flag(key: FlagKey, environment: Where = None) -> Response:
        """Its mirrors go with it; its history stays."""
        if not await change(key, environment, lambda current: None):
            raise _not_found(key, environment)
        return Response(status_code=204)

    @router.get("/flags/{key}/history", summary="Who changed a flag, when, and what")
    async def history(
        key: FlagKey,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
        cursor: Annotated[str | None, Query(pattern=r"^\d{1,20}(-\d{1,20})?$", description="`next` of a page.")] = None,
    ) -> Page[ChangeView]:
        """Every environment's changes, newest first; deleted flags have theirs too."""
        entries = await store.history(key, limit=limit, before=cursor)
        if not entries and cursor is None:
            raise NotFound(f"there has never been a flag {key}; GET /flags lists those there are")
        views = [
            ChangeView(
                id=entry_id, **change.model_dump(exclude={"before", "after"}), before=change.before, after=change.after
            )
            for entry_id, change in entries
        ]
        return Page(items=views, next=entries[-1][0] if len(entries) == limit else None)

    return router


def _view(flag: Flag) -> FlagView:
    return FlagView(
        key=flag.key, environment=flag.environment, updated_at=flag.updated_at, **flag.definition.model_dump()
    )


def _not_found(key: str, where: Environment | None) -> NotFound:
    place = where or "any environment"
    return NotFound(f"there is no flag {key} in {place}; GET /flags lists those there are")


# --- OFREP ----------------------------------------------------------------------------------------------------------


class OfrepRequest(View):
    context: dict[str, JsonValue] = Field({}, description="May be empty; `targetingKey` and whatever rules look at.")


class OfrepEvaluation(View):
    """`value` is absent where the client's own default counts (disabled, or no default variant)."""

    key: str
    value: JsonValue = None
    variant: str | None
    reason: str
    metadata: Metadata


class OfrepError(View):
    key: str
    errorCode: Literal["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL", "FLAG_NOT_FOUND"]
    errorDetails: str


class OfrepBulk(View):
    flags: list[OfrepEvaluation | OfrepError]


class OfrepRoute(APIRoute):
    """Answers what goes wrong as OFREP does, not as RFC 9457."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def ofrep(request: Request) -> Response:
            key = request.path_params.get("key", "")
            try:
                return await handle(request)
            except RequestValidationError as error:
                fault = error.errors()[0]
                code = "PARSE_ERROR" if fault["type"] == "json_invalid" else "INVALID_CONTEXT"
                place = ".".join(str(part) for part in fault["loc"] if part != "body")
                return JSONResponse(_ofrep_error(key, code, f"{place or 'body'}: {fault['msg']}"), 400)
            except HTTPException as error:  # a body that could not be read at all: nested too deep, not UTF-8
                return JSONResponse(_ofrep_error(key, "PARSE_ERROR", str(error.detail)), error.status_code)
            except Problem as problem:
                return JSONResponse(_ofrep_error(key, "GENERAL", problem.detail), problem.status)

        return ofrep


def ofrep_router(cache: FlagCache) -> APIRouter:
    router = APIRouter(prefix="/ofrep/v1", tags=["OFREP"], route_class=OfrepRoute)
    body = Body(examples=[{"context": {"targetingKey": "visitor-1", "email": "ann@example.com"}}])
    errors: dict[int | str, dict[str, Any]] = {status: {"model": OfrepError} for status in (400, 404, 503)}

    @router.post("/evaluate/flags/{key}", response_model=OfrepEvaluation, responses=errors, summary="Evaluate one flag")
    async def evaluate(
        request: Request,
        key: str,
        asked: Annotated[OfrepRequest | None, body] = None,
        environment: In = Environment.PRODUCTION,
    ) -> JSONResponse:
        """OpenFeature Remote Evaluation Protocol. An app's token selects its own environment."""
        answer = _evaluate(cache, _environment(request, environment), key, asked)
        status = {None: 200, "FLAG_NOT_FOUND": 404}.get(answer.get("errorCode"), 400)
        return JSONResponse(answer, status)

    @router.post("/evaluate/flags", response_model=OfrepBulk, responses=errors, summary="Evaluate all flags")
    async def evaluate_all(
        request: Request,
        asked: Annotated[OfrepRequest | None, body] = None,
        environment: In = Environment.PRODUCTION,
    ) -> JSONResponse:
        """As one by one; a flag that cannot be evaluated has its error in its place."""
        where = _environment(request, environment)
        return JSONResponse(
            {"flags": [_evaluate(cache, where, flag.key, asked) for flag in cache.flags(where).flags()]}
        )

    return router


def _evaluate(cache: FlagCache, where: Environment, key: str, asked: OfrepRequest | None) -> dict[str, Any]:
    try:
        return _ofrep(cache.evaluate(where, key, asked.context if asked else {}))
    except EvaluationError as error:
        return _ofrep_error(key, error.code, error.details)


def _ofrep(evaluation: Evaluation) -> dict[str, Any]:
    """`variant` always: OpenFeature's Python provider fails without it."""
    answer = {
        "key": evaluation.key,
        "variant": evaluation.variant,
        "reason": evaluation.reason,
        "metadata": dict(evaluation.metadata),
    }
    return answer if evaluation.variant is None else answer | {"value": evaluation.value}


def _ofrep_error(key: str, code: str, details: str) -> dict[str, Any]:
    return {"key": key, "errorCode": code, "errorDetails": details}


def accepts_app_tokens(platform_token: str) -> Callable[[Scope, str], bool]:
    """For create_app: an app's evaluation token, `<environment>.<secret>`, is good for OFREP and nothing else."""
    tokens = {env: f"{env}.{derived_secret(platform_token, f'flags:{env}')}" for env in Environment}

    def accepts(scope: Scope, given: str) -> bool:
        for environment, token in tokens.items():
            if scope["path"].startswith("/ofrep/") and same_secret(given, token):
                scope.setdefault("state", {})["environment"] = environment
                return True
        return False

    return accepts


def _environment(request: Request, asked: Environment) -> Environment:
    """The environment of the app's token; the platform's token may ask for any."""
    environment: Environment = getattr(request.state, "environment", asked)
    return environment
