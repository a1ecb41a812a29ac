"""Creates the FastAPI app of each service: health, readiness, errors, token, metrics, pages, loops."""

import contextlib
import logging
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from shared import __version__
from shared.clock import now
from shared.config import ServiceName, SharedSettings
from shared.errors import Problem
from shared.host.shortage import shortage
from shared.models import ServiceRecord, View
from shared.registry import HEARTBEAT_S, Registry
from shared.runtime.loops import Loop, running
from shared.runtime.shutdown import at_the_end
from shared.security.auth import TokenAuth
from shared.store import redis_unavailable
from shared.web.known_queries import query_check
from shared.web.methods import HeadAsGet, methods_of
from shared.web.openapi import declare_problems
from shared.web.readiness import Check, Readiness, RedisWatch, found, of_every_service
from shared.web.request_log import RequestLog
from shared.web.security_headers import SecurityHeaders, protect

log = logging.getLogger(__name__)

PAGES = Path(__file__).parent / "pages"
PUBLIC = r"/health|/openapi\.json|/docs|/docs/oauth2-redirect|/static/.*|/favicon\.ico"
DOCS = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slipway {service}</title>
<link rel="icon" href="/static/favicon.svg">
<link rel="stylesheet" href="/static/vendor/swagger-ui/swagger-ui.css">
<script src="/static/vendor/swagger-ui/swagger-ui-bundle.js" defer></script>
<script src="/static/docs.js" defer></script>
</head>
<body><div id="swagger-ui"></div></body>
</html>
"""


class Health(View):
    status: Literal["ok"] = "ok"
    service: str
    version: str


def create_app(
    service: ServiceName,
    settings: SharedSettings,
    registry: Registry,
    *,
    description: str,
    routers: Sequence[APIRouter],
    loops: Sequence[Loop] = (),
    checks: dict[str, Check] | None = None,
    warnings: dict[str, Check] | None = None,
    collectors: Sequence[Collector] = (),
    public: str | None = None,
    protocol: str | None = None,
    accepts: Callable[[Scope, str], bool] = lambda scope, token: False,
    resources: Callable[[], contextlib.AbstractAsyncContextManager[Any]] = contextlib.nullcontext,
    at_end: Callable[[], None] = lambda: None,
) -> FastAPI:
    """Returns a service's FastAPI app. `checks`: dependency → function that returns why the dependency fails, or None;
    `GET /ready` calls them. `warnings`: dependency → function that returns what to do about a limit that is nearly
    reached, or None; the service stays ready. Both come in addition to those that all services share (`readiness.py`).
    `collectors`: the service's own metrics. `public`: a regular expression of further paths that need no token.
    `protocol`: a regular expression of the paths of a protocol that others define; these and the public ones may have
    any query keys. `accepts`: returns True for valid tokens other than the platform's. `resources`: a context that is
    entered before the loops start and left after they end. `at_end`: ends open streams; it is called on SIGTERM or
    SIGINT, and again after the loops.
    """
    public_paths = re.compile(f"{PUBLIC}|{public}" if public else PUBLIC)
    open_paths = re.compile(f"{public_paths.pattern}|{protocol}" if protocol else public_paths.pattern)
    record = ServiceRecord(
        name=service, id=secrets.token_hex(4), url=settings.url(service), version=__version__, started_at=now()
    )

    redis = RedisWatch(registry, settings)

    async def heartbeat() -> None:
        await redis.announce(record)

    all_loops = [Loop("heartbeat", heartbeat, every_s=HEARTBEAT_S), *loops]

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with resources():  # left last, because this closes the Redis client
            async with at_the_end(at_end), running(all_loops):
                yield
            with contextlib.suppress(RedisError):
                await registry.withdraw(record)

    app = FastAPI(
        title=f"Slipway {service}",
        version=__version__,
        description=description,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(query_check(lambda request: bool(open_paths.fullmatch(request.url.path))))],
    )
    app.state.metrics = metrics = CollectorRegistry()  # the generator of the docs reads the metrics here
    for collector in collectors:
        metrics.register(collector)
    shared_checks, shared_warnings = of_every_service(settings, redis)
    checks, warnings = shared_checks | (checks or {}), shared_warnings | (warnings or {})
    app.include_router(_platform_router(service, all_loops, checks, warnings, metrics))
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=PAGES / "static"), name="static")

    def is_public(path: str) -> bool:
        return bool(public_paths.fullmatch(path))

    # The middleware that is added last runs first.
    app.add_middleware(HeadAsGet)
    app.add_middleware(
        TokenAuth,
        token=settings.platform_token(),
        is_public=lambda scope: is_public(scope["path"]),
        accepts=accepts,
    )
    app.add_middleware(RequestLog, metrics=metrics)
    app.add_middleware(SecurityHeaders)
    _answer_problems(app)
    app.openapi = lambda: _openapi(app, is_public)  # type: ignore[method-assign]
    return app


def _platform_router(
    service: str,
    loops: Sequence[Loop],
    checks: dict[str, Check],
    warnings: dict[str, Check],
    metrics: CollectorRegistry,
) -> APIRouter:
    router = APIRouter(tags=["platform"])

    @router.get("/health", response_model=Health)
    async def health() -> Health:
        """Answers 200 while the process lives (liveness). Container health checks use it."""
        return Health(service=service, version=__version__)

    @router.get("/ready", response_model=Readiness, responses={503: {"model": Readiness}})
    async def ready(response: Response) -> Readiness:
        """Answers 200 if all loops and dependencies work, else 503 with the problems by name."""
        stale = {f"loop {loop.name}": why for loop in loops if (why := loop.stale())}
        problems = stale | await found(checks)
        response.status_code = 503 if problems else 200
        return Readiness(ready=not problems, problems=problems, warnings=await found(warnings))

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def prometheus() -> Response:
        """Answers with the metrics in Prometheus' text format."""
        return Response(generate_latest(metrics), media_type=CONTENT_TYPE_LATEST)

    @router.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(DOCS.format(service=service))

    return router


def _openapi(app: FastAPI, is_public: Callable[[str], bool]) -> dict[str, Any]:
    """Returns the OpenAPI document of the app, made by FastAPI, with every problem that a call may answer. Every
    operation that is not public requires the token.
    """
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        declare_problems(schema, is_public)
        schema["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "SLIPWAY_TOKEN, or `<home>/token`."}
        }
        schema["security"] = [{"token": []}]
        for path, operations in schema["paths"].items():
            if is_public(path):
                for operation in operations.values():
                    operation["security"] = []
        app.openapi_schema = schema
    return app.openapi_schema


def problem_response(problem: Problem) -> JSONResponse:
    """Returns the problem as an RFC 9457 response."""
    return JSONResponse(problem.document(), problem.status, media_type="application/problem+json")


def _answer_problems(app: FastAPI) -> None:
    @app.exception_handler(Problem)
    async def on_problem(request: Request, error: Problem) -> JSONResponse:
        return problem_response(error)

    @app.exception_handler(RedisError)
    async def on_redis_error(request: Request, error: RedisError) -> JSONResponse:
        return problem_response(redis_unavailable(error))

    async def on_shortage(request: Request, error: Exception) -> JSONResponse:
        if (problem := shortage(error)) is None:
            raise error
        log.error("%s %s: %s", request.method, request.url.path, problem.detail, exc_info=error)
        return problem_response(problem)

    for kind in (OSError, MemoryError, RuntimeError):  # RuntimeError: no thread can be started
        app.add_exception_handler(kind, on_shortage)

    @app.exception_handler(HTTPException)
    async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
        response = problem_response(
            Problem(f"{request.method} {request.url.path}: {error.detail}", status=error.status_code)
        )
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(methods_of(app, request.url.path))
        return response

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        # The value is left out, because it may be a secret.
        faults = [
            {
                "field": ".".join(str(part) for part in fault["loc"] if part != "body") or "body",
                "detail": fault["msg"].removeprefix("Value error, "),
            }
            for fault in error.errors()
        ]
        first = f"{faults[0]['field']}: {faults[0]['detail']}" if faults else "the request is not valid"
        return problem_response(Problem(first, status=422, errors=faults))

    @app.exception_handler(Exception)
    async def on_bug(request: Request, error: Exception) -> JSONResponse:
        request_id = getattr(request.state, "request_id", "")
        detail = f"an error of the platform itself; its log has the details under request {request_id}"
        response = problem_response(Problem(detail, status=500, request_id=request_id))
        protect(response.headers)  # this handler's answers bypass the middleware
        return response


def configure_logging() -> None:
    """Configures logging: records go to stderr in one format, from the level SLIPWAY_LOG_LEVEL (default INFO) on."""
    logging.basicConfig(
        level=os.environ.get("SLIPWAY_LOG_LEVEL", "INFO"),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        force=True,
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
