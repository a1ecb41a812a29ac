"""Calls the URLs of apps' own metrics and hooks, and reads their answers. An answer that cannot be judged is an error
of the analysis, never a failure of the canary.
"""

import asyncio
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from math import isfinite
from typing import Any

import httpx
from pydantic_core import from_json, to_json

from services.monitor.notify.message import on_one_line
from shared import __version__
from shared.security.outgoing import AddressGuard, GuardedTransport

CALL_S = 5.0
MOST_BYTES = 64 * 1024
REASON_LONGEST = 300
HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": f"Slipway/{__version__}"}


class CheckError(Exception):
    """Reports that a call gave no answer that can be judged. Its text says why, without secrets."""


class CheckClient:
    """Calls addresses that the guard allows. A call takes at most 5 s and 64 KB, follows no redirect and is not
    repeated. `inner` replaces the network in tests.
    """

    def __init__(
        self, guard: AddressGuard, *, timeout_s: float = CALL_S, inner: httpx.AsyncBaseTransport | None = None
    ) -> None:
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))  # one app's cookie must not go to another's
        self._http = httpx.AsyncClient(
            transport=GuardedTransport(guard, inner), trust_env=False, timeout=timeout_s, cookies=no_cookies
        )
        self._timeout_s = timeout_s

    async def aclose(self) -> None:
        await self._http.aclose()

    async def value(self, url: str, headers: Mapping[str, str]) -> float:
        """Calls a metric's URL and returns its value. Raises CheckError if there is no answer that can be judged."""
        answer = _json(await self._call("GET", url, headers))
        value = answer.get("value") if isinstance(answer, dict) else answer
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise CheckError('answered something other than {"value": <number>}')
        try:
            number = float(value)
        except OverflowError:
            number = float("inf")
        if not isfinite(number):
            raise CheckError("answered a number that is not finite")
        return number

    async def refusal(self, url: str, headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
        """Calls a hook. Returns the reason if its answer fails the canary; None if it passes. Raises CheckError if
        there is no answer that can be judged.
        """
        content = await self._call("POST", url, headers, to_json(body))
        answer = _json(content) if content.strip() else {}
        passes = answer.get("pass", True) if isinstance(answer, dict) else True
        if not isinstance(passes, bool):
            raise CheckError("answered with a `pass` that is neither true nor false")
        if passes:
            return None
        return on_one_line(hidden(str(answer.get("reason") or "it gives no reason"), headers))[:REASON_LONGEST]

    async def _call(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None = None) -> bytes:
        sent = {**HEADERS, **headers, **({"Content-Type": "application/json"} if content is not None else {})}
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http.stream(method, url, headers=sent, content=content) as answer,
            ):
                return await _read(answer)
        except TimeoutError:
            raise CheckError(f"did not answer within {self._timeout_s:g} s") from None
        except httpx.TimeoutException:
            raise CheckError(f"did not answer within {self._timeout_s:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as error:
            words = on_one_line(hidden(f"{type(error).__name__}: {error}", headers))
            raise CheckError(f"could not be called: {words}"[:REASON_LONGEST]) from None


def hidden(text: str, headers: Mapping[str, str]) -> str:
    """Returns the text, which another server wrote, without the values of the headers that were sent to it."""
    for value in sorted(headers.values(), key=len, reverse=True):
        for secret in (value, value.rpartition(" ")[2]):
            if len(secret) >= 4:
                text = text.replace(secret, "****")
    return text


async def _read(answer: httpx.Response) -> bytes:
    if answer.is_redirect:
        raise CheckError("redirects to another address, which is not followed; set that address")
    if not answer.is_success:
        raise CheckError(f"answered {answer.status_code}")
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        raise CheckError("answered compressed, although that was not asked for")
    content = b""
    async for part in answer.aiter_bytes():
        content += part
        if len(content) > MOST_BYTES:
            raise CheckError("answered with more than 64 KB")
    return content


def _json(content: bytes) -> Any:
    try:
        return from_json(content, allow_inf_nan=False)
    except ValueError:
        raise CheckError("answered something other than JSON") from None
