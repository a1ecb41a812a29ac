"""Calls other services: address from the registry, platform token, time-out, and retries where they are safe."""

import asyncio
import contextlib
import logging
import time
from typing import Any

import httpx
from pydantic_core import from_json
from redis.exceptions import RedisError

from shared.config import ServiceName, SharedSettings
from shared.errors import Problem, Unavailable
from shared.registry import Registry
from shared.runtime.backoff import backoff_s

log = logging.getLogger(__name__)

LOOKUP_KEPT_S = 5.0
TRIES = 4


class ServiceClient:
    """Calls one service. The address comes from the registry and is read again after 5 s or after a failed call. If the
    registry has none, or does not answer, the last known address is used, or else the address from the settings. An
    answer with an error raises the Problem in its body; status 503, or no answer, raises Unavailable. In these last two
    cases, GET, PUT, DELETE and calls with `repeatable=True` are retried with back-off, four tries in all, and so may
    arrive twice. Other calls are retried only if no connection was made.
    """

    def __init__(self, name: ServiceName, settings: SharedSettings, registry: Registry, http: httpx.AsyncClient):
        self.name = name
        self._registry = registry
        self._http = http
        self._url = settings.url(name)
        self._token = settings.platform_token()
        self._looked_up_at = float("-inf")

    async def get(self, path: str, *, timeout_s: float = 5.0, repeatable: bool = True, **params: Any) -> Any:
        """Returns the JSON body of the service's answer to `GET path` with the query `params`. `timeout_s` limits each
        try. With `repeatable=False` the call is retried only if no connection was made. Raises the Problem that an
        answer with an error contains, and Unavailable for status 503 or no answer.
        """
        return await self.call("GET", path, params=params or None, timeout_s=timeout_s, repeatable=repeatable)

    async def post(self, path: str, body: Any = None, *, timeout_s: float = 5.0, repeatable: bool = False) -> Any:
        """Returns the JSON body of the service's answer to `POST path` with the JSON `body`. `timeout_s` limits each
        try. With `repeatable=False` the call is retried only if no connection was made. Raises the Problem that an
        answer with an error contains, and Unavailable for status 503 or no answer.
        """
        return await self.call("POST", path, body=body, timeout_s=timeout_s, repeatable=repeatable)

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        params: dict[str, Any] | None = None,
        timeout_s: float = 5.0,
        repeatable: bool | None = None,
    ) -> Any:
        if repeatable is None:
            repeatable = method in ("GET", "PUT", "DELETE")
        failures = 0
        while True:
            try:
                answer = await self._http.request(
                    method,
                    await self._base_url() + path,
                    json=body,
                    params=params,
                    headers={"Authorization": f"Bearer {self._token}"},
                    timeout=timeout_s,
                )
                return _read(answer)
            except (httpx.TransportError, Unavailable) as error:
                failures += 1
                self._looked_up_at = float("-inf")  # the service may have another address now
                unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
                if failures == TRIES or not (repeatable or unsent):
                    if isinstance(error, Unavailable):
                        raise
                    raise Unavailable(f"{self.name} does not answer: {type(error).__name__}") from error
            await asyncio.sleep(backoff_s(failures, first_s=0.05, longest_s=0.5, factor=4))

    async def readiness(self, *, timeout_s: float = 4.0) -> Any:
        """Returns the body of the service's answer to `GET /ready`, whether the service is ready or not. Makes one try.
        Raises Unavailable if there is no answer, or if another program answers.
        """
        try:
            headers = {"Authorization": f"Bearer {self._token}"}
            answer = await self._http.get(await self._base_url() + "/ready", headers=headers, timeout=timeout_s)
        except httpx.TransportError as error:
            self._looked_up_at = float("-inf")
            raise Unavailable(f"{self.name} does not answer: {type(error).__name__}") from error
        if answer.status_code not in (200, 503) or "ready" not in answer.text:
            raise Unavailable(
                f"{self.name} does not answer: another program answered {answer.status_code} to its GET /ready"
            )
        return from_json(answer.content)

    async def _base_url(self) -> str:
        if time.monotonic() - self._looked_up_at > LOOKUP_KEPT_S:
            self._looked_up_at = time.monotonic()
            with contextlib.suppress(RedisError, TimeoutError):
                records = await asyncio.wait_for(self._registry.services(), 1.0)
                self._url = next((r.url for r in reversed(records) if r.name == self.name), self._url)
        return self._url


def _read(answer: httpx.Response) -> Any:
    if answer.is_success:
        return from_json(answer.content) if answer.content else None
    try:
        document = answer.json()
        detail = str(document.pop("detail"))
        extra = {key: value for key, value in document.items() if key not in ("type", "title", "status")}
    except (ValueError, KeyError, AttributeError):
        detail, extra = f"{answer.request.method} {answer.request.url.path} answered {answer.status_code}", {}
    kind = Unavailable if answer.status_code == 503 else Problem
    raise kind(detail, status=answer.status_code, **extra)
