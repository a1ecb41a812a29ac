"""Composition root of the flags service."""

import logging

from fastapi import FastAPI

from services.flags.api import accepts_app_tokens, flags_router, ofrep_router
from services.flags.cache import FlagCache
from services.flags.config import Settings
from services.flags.store import RedisAppUser, RedisFlagStore
from shared.app import configure_logging, create_app, serve
from shared.auth import derived_secret
from shared.loops import Loop
from shared.registry import RedisRegistry
from shared.store import connect

REFRESH_S = 0.2
APP_USER_S = 1.0


def build_app(settings: Settings) -> FastAPI:
    """The service with everything it needs; nothing runs before the app's lifespan starts."""
    token = settings.platform_token()
    redis = connect(settings.redis_connection_url())
    store = RedisFlagStore(redis)
    cache = FlagCache(store)
    app_user = RedisAppUser(redis, derived_secret(token, "redis:app"))
    return create_app(
        "flags",
        settings,
        RedisRegistry(redis),
        description="Feature flags in flagd's format, evaluated over OFREP, mirrored to plain Redis keys.",
        routers=[flags_router(cache, store), ofrep_router(cache)],
        loops=[
            Loop("flags", cache.refresh, every_s=REFRESH_S, stale_s=3.0),
            Loop("app user", app_user.ensure, every_s=APP_USER_S),
        ],
        accepts=accepts_app_tokens(token),
        resources=lambda: redis,
    )


def run() -> None:
    """Runs the service until it is told to end."""
    configure_logging()
    # The evaluator logs an error for each evaluation without a targeting key, as many as apps ask for.
    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
    settings = Settings()
    serve(build_app(settings), settings, "flags")
