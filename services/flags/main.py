"""Assembles the flags service from its parts according to the settings, and runs it."""

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI

from services.flags.api import flags_router
from services.flags.app_user_store import RedisAppUser
from services.flags.auth import OFREP, TicketInAddress, accepts_app_tokens
from services.flags.cache import FlagCache
from services.flags.config import Settings
from services.flags.import_export_api import import_export_router
from services.flags.importer import Importer, Stores
from services.flags.last_used import LastUsed
from services.flags.ofrep_api import ofrep_router
from services.flags.page import FlagPages
from services.flags.page_api import page_router
from services.flags.store import FlagStore
from services.flags.view import Views
from shared.clock import now
from shared.registry import Registry
from shared.runtime.loops import Loop
from shared.security.auth import derived_secret
from shared.store import connect
from shared.web.app import configure_logging, create_app
from shared.web.server import serve

APP_USER_S = 1.0
LAST_USED_S = 10.0
READ_S = 10.0  # time to read some 20 000 flags on a busy machine


def build_app(settings: Settings) -> FastAPI:
    """Returns the FastAPI app of the flags service with all its parts. Nothing runs until the app's lifespan starts."""
    redis = connect(settings.redis_connection_url())
    app_user = RedisAppUser(redis, derived_secret(settings.platform_token(), "redis:app"))
    user_loop = Loop("app user", app_user.keep, every_s=APP_USER_S)

    def on_mirrors() -> None:
        app_user.mirrors_changed()
        user_loop.wake()  # so that a new mirror can be read at once

    store = FlagStore(redis)
    cache = FlagCache(store, now, on_mirrors)

    @contextlib.asynccontextmanager
    async def stores() -> AsyncIterator[FlagStore]:
        async with connect(settings.redis_connection_url()) as own:
            yield FlagStore(own)

    return assemble(settings, Registry(redis), store, cache, stores, loops=[user_loop], resources=lambda: redis)


def assemble(
    settings: Settings,
    registry: Registry,
    store: FlagStore,
    cache: FlagCache,
    stores: Stores,
    *,
    loops: Sequence[Loop] = (),
    resources: Callable[[], contextlib.AbstractAsyncContextManager[Any]] = contextlib.nullcontext,
) -> FastAPI:
    """Returns the FastAPI app of the flags service for the given store and cache. For each import of a file, `stores`
    opens a store with a connection of its own. `loops` run besides the service's own; `resources` is a context that is
    entered before the loops start and left after they end.
    """
    token = settings.platform_token()
    last_used = LastUsed(store, now)
    views = Views(cache, last_used)
    pages = FlagPages(views, last_used, settings)

    app = create_app(
        "flags",
        settings,
        registry,
        description="Feature flags in flagd's format, evaluated over OFREP, mirrored to plain Redis keys.",
        routers=[
            flags_router(cache, store, views, pages),
            import_export_router(cache, Importer(stores)),
            page_router(cache, views, pages),
            ofrep_router(cache, last_used, token),
        ],
        loops=[
            Loop("flags", cache.follow, every_s=0, stale_s=READ_S),
            Loop("last evaluated", last_used.write, every_s=LAST_USED_S, stale_s=3 * LAST_USED_S),
            *loops,
        ],
        checks={"flags": cache.unread},
        protocol=f"{OFREP}.*",  # a newer SDK may send more
        accepts=accepts_app_tokens(token),
        resources=resources,
        at_end=cache.close,
    )
    app.add_middleware(TicketInAddress)
    return app


def run() -> None:
    """Runs the service until SIGTERM or SIGINT."""
    configure_logging()
    # The evaluator logs an error for each evaluation without a targeting key, which would be one for each request.
    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
    settings = Settings()
    serve(build_app(settings), settings, "flags")
