"""Implements OFREP, the OpenFeature Remote Evaluation Protocol, version 1, which every OpenFeature SDK supports. It is
specified at https://github.com/open-feature/protocol: service/openapi.yaml, and ADR 8 for the stream.
"""

import contextlib
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Header, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.sse import EventSourceResponse, ServerSentEvent
from openfeature.evaluation_context import EvaluationContext
from pydantic import Field, JsonValue
from starlette.exceptions import HTTPException

from services.flags.auth import TICKET, stream_ticket
from services.flags.cache import FlagCache, marked_stale
from services.flags.evaluation import EvaluationError, FlagEvaluator, as_json, evaluation_context
from services.flags.flag import Metadata
from services.flags.last_used import LastUsed
from services.flags.slices import sliced
from shared.errors import Problem
from shared.models import Environment, View
from shared.store import RedisError

In = Annotated[Environment, Query(description="Used with the platform's token; an app's token selects its own.")]


class OfrepRequest(View):
    context: dict[str, JsonValue] = Field(
        {}, description="`targetingKey` and the attributes that rules use; may be empty."
    )


class OfrepEvaluation(View):
    """Describes the value of a flag. `value` is absent if the flag is disabled or has no default variant; the client
    then uses its own default.
    """

    key: str
    value: JsonValue = None
    variant: str | None
    reason: str
    metadata: Metadata


class OfrepError(View):
    """Describes the error of a request, or of one flag in it. `key` is absent if the whole request for all flags
    failed.
    """

    key: str | None = None
    errorCode: Literal["PARSE_ERROR", "TARGETING_KEY_MISSING", "INVALID_CONTEXT", "GENERAL", "FLAG_NOT_FOUND"]
    errorDetails: str


class EventStream(View):
    """Names the address of a stream of change notifications. Clients open `url` unchanged, for example with
    EventSource. It contains a ticket that gives access only to that stream.
    """

    type: Literal["sse"] = "sse"
    url: str


class OfrepBulk(View):
    flags: list[OfrepEvaluation | OfrepError]
    metadata: Metadata
    eventStreams: list[EventStream]


class OfrepRoute(APIRoute):
    """Answers errors in OFREP's format instead of that of RFC 9457."""

    def get_route_handler(self) -> Callable[[Request], Any]:
        handle = super().get_route_handler()

        async def ofrep(request: Request) -> Response:
            key = request.path_params.get("key")
            try:
                return await handle(request)
            except RequestValidationError as error:
                fault = error.errors()[0]
                code = "PARSE_ERROR" if fault["type"] == "json_invalid" else "INVALID_CONTEXT"
                field = ".".join(str(part) for part in fault["loc"] if part != "body")
                return JSONResponse(EvaluationError(code, f"{field or 'body'}: {fault['msg']}").body(key), 400)
            except HTTPException as error:  # a body that cannot be read: nested too deep, not UTF-8
                return JSONResponse(EvaluationError("PARSE_ERROR", str(error.detail)).body(key), error.status_code)
            except EvaluationError as error:
                return JSONResponse(error.body(key), 404 if error.code == "FLAG_NOT_FOUND" else 400)
            except Problem as problem:
                return JSONResponse(EvaluationError("GENERAL", problem.detail).body(key), problem.status)

        return ofrep


def ofrep_router(cache: FlagCache, last_used: LastUsed, platform_token: str) -> APIRouter:
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
        """Evaluates one flag. With an app's token, the flag is evaluated for that app's environment, and `environment`
        is ignored.
        """
        where = _environment(request, environment)
        evaluation = cache.evaluate(where, key, asked.context if asked else {})
        last_used.note(where, key)
        return JSONResponse(evaluation.body())

    @router.post(
        "/evaluate/flags",
        response_model=OfrepBulk,
        responses={
            304: {"description": "The ETag in If-None-Match is still current."},
            400: errors[400],
            503: errors[503],
        },
        summary="Evaluate all flags",
    )
    async def evaluate_all(
        request: Request,
        asked: Annotated[OfrepRequest | None, body] = None,
        environment: In = Environment.PRODUCTION,
        if_none_match: Annotated[str | None, Header(description="ETag of an earlier answer.")] = None,
        flag_config_etag: Annotated[
            str | None, Query(alias="flagConfigEtag", description="`etag` in the stream's event.")
        ] = None,
    ) -> Response:
        """Evaluates all flags; a flag that cannot be evaluated has an error in place of its value. The ETag depends on
        the flags and on the context. `eventStreams` has the address of the stream that announces changes.
        """
        where = _environment(request, environment)
        if flag_config_etag and flag_config_etag != cache.snapshot(where).etag:
            with contextlib.suppress(RedisError):  # another copy's event came first
                await cache.refresh()
        context = evaluation_context(asked.context if asked else {})
        text = (await request.body()).decode(errors="replace")
        digest, stale = cache.flags(where).digest, cache.stale
        flags = cache.flags(where).newest_first()  # the flags of the digest, even if flags change during the evaluation
        last_used.note(where)
        parts = [digest, where, str(stale), text]
        parts += await _evaluate_all([each for each in flags if each.depends_on_time], context, stale)
        headers = {"ETag": f'"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:20]}"'}
        if _holds(if_none_match, headers["ETag"]):
            return Response(status_code=304, headers=headers)
        metadata = {"environment": where} | ({"stale": True} if stale else {})
        ticket = stream_ticket(platform_token, where)
        streams = [{"type": "sse", "url": f"{request.base_url}ofrep/v1/stream?{TICKET}={ticket}"}]
        bodies = ",".join(await _evaluate_all(flags, context, stale))
        answer = f'{{"flags":[{bodies}],"metadata":{as_json(metadata)},"eventStreams":{as_json(streams)}}}'
        return Response(answer, headers=headers, media_type="application/json")

    @router.get("/stream", response_class=EventSourceResponse, summary="Follow changes")
    async def stream(
        request: Request,
        environment: In = Environment.PRODUCTION,
        last_event_id: Annotated[str | None, Header(description="Sent by EventSource when it connects again.")] = None,
    ) -> AsyncIterator[ServerSentEvent]:
        """Sends a server-sent event at each change of the environment's flags: `message` with the data `{"type":
        "refetchEvaluation", "etag", "lastModified"}`. The stream begins with the current state, so a client misses no
        change between its evaluation and the stream; a client that sends the current ETag as `Last-Event-ID` does not
        get that first event. A comment every 15 s keeps the connection open. Takes the same token as evaluation, or the
        ticket in `eventStreams`.
        """
        where = _environment(request, environment)
        seen = f'"{last_event_id}"' if last_event_id else None
        while snapshot := await cache.next_snapshot(where, seen):
            seen = snapshot.etag
            yield ServerSentEvent(
                event="message",
                id=snapshot.digest,
                data={"type": "refetchEvaluation", "etag": seen, "lastModified": int(snapshot.since.timestamp())},
            )

    return router


def _holds(if_none_match: str | None, etag: str) -> bool:
    listed = [each.strip().removeprefix("W/") for each in (if_none_match or "").split(",")]
    return etag in listed or listed == ["*"]


async def _evaluate_all(flags: Sequence[FlagEvaluator], context: EvaluationContext, stale: bool) -> list[str]:
    """Evaluates the flags; returns OFREP's body for each as JSON, which is an error body if the evaluation fails. The
    event loop answers other requests between slices of the work.
    """
    bodies = [None if stale else flag.constant for flag in flags]
    async for part in sliced(index for index, body in enumerate(bodies) if body is None):
        for index in part:
            bodies[index] = as_json(_evaluate(flags[index], context, stale))
    return [body for body in bodies if body is not None]


def _evaluate(flag: FlagEvaluator, context: EvaluationContext, stale: bool) -> dict[str, Any]:
    try:
        evaluation = flag.evaluate(context)
    except EvaluationError as error:
        return error.body(flag.flag.key)
    return (marked_stale(evaluation) if stale else evaluation).body()


def _environment(request: Request, asked: Environment) -> Environment:
    """Returns the environment of the app's token or ticket in the request; `asked` if the request has the platform's
    token.
    """
    environment: Environment = getattr(request.state, "environment", asked)
    return environment
