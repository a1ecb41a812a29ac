"""Gets certificates for the hosts of apps from a certificate authority, and renews them, in a background loop."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import httpx

from services.proxy.certificates.account_file import AccountFile
from services.proxy.certificates.acme_client import AccountUnknown, AcmeClient, AcmeFailure
from services.proxy.certificates.certificate_check import CheckedCertificate, check_certificate
from services.proxy.certificates.certificate_service import CertificateService
from services.proxy.certificates.renewal import HOUR, ORDERS_PER_HOUR, due_hosts, failed_attempt, recent_orders
from services.proxy.control.control_plane import ControlPlane
from services.proxy.control.envoy_loops import for_each
from services.proxy.routes.certificate import CertificateSource
from services.proxy.visitors.https import CHALLENGES
from shared.errors import Problem

HTTP = 80
AT_A_TIME = 4
CONFIRM_S = 5.0
REACH_S = 5.0
TRIES = 3

Result = TypeVar("Result")


class CertificateIssuer:
    """Orders certificates. An attempt stores what it is about to do first; one that is interrupted is made again. A
    failure is stored in the app's route with the time of the next attempt; the certificate that the host has is served
    meanwhile.
    """

    def __init__(
        self,
        control: ControlPlane,
        certificates: CertificateService,
        client: AcmeClient,
        account: AccountFile,
        port: int = HTTP,
    ) -> None:
        """`port` is the one at which the authority asks hosts for answers."""
        self._control = control
        self._certificates = certificates
        self._client = client
        self._account = account
        self._http = httpx.AsyncClient(verify=False, trust_env=False)  # it is for HTTP alone, and needs no proxy
        self._port = f":{port}" if port != HTTP else ""
        self._threads = ThreadPoolExecutor(AT_A_TIME, thread_name_prefix="acme")
        self._registering = asyncio.Lock()
        self._has_tidied = False

    async def step(self) -> None:
        """Tries to get each certificate that is due, and returns when all attempts have ended."""
        if not self._has_tidied:
            for route in self._control.routes.values():
                self._set_answers(route.app, {})  # those of an interrupted attempt
            self._has_tidied = True
        now = self._control.now()
        due = [(route.app, host) for route in self._control.routes.values() for host in due_hosts(route, now)]
        await for_each(due, self._attempt)

    async def close(self) -> None:
        """Lets go of the threads; one that waits for the authority ends within a minute."""
        await self._http.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _attempt(self, target: tuple[str, str]) -> None:
        app, host = target
        ordered = False
        try:
            self._check_bound(app)
            await self._check_reached(app, host)
            ordered = True
            checked = await self._order(app, host)
        except (AcmeFailure, Problem) as failure:
            if isinstance(failure, AccountUnknown):
                self._account.forget()
            if route := self._control.routes.get(app):
                before, certificate = route.attempts.get(host), route.certificates.get(host)
                why, now = str(failure), self._control.now()
                attempt = failed_attempt(why, before, certificate, now, ordered=ordered)
                self._control.put(route.model_copy(update={"attempts": {**route.attempts, host: attempt}}))
            return
        if route := self._control.routes.get(app):
            self._certificates.store(route, host, checked, CertificateSource.ACME)

    def _check_bound(self, app: str) -> None:
        now = self._control.now()
        if len(orders := recent_orders(self._control.route(app), now)) >= ORDERS_PER_HOUR:
            raise AcmeFailure(
                f"{ORDERS_PER_HOUR} certificates of {app} were ordered within an hour; the next one can be at "
                f"{(orders[0] + HOUR).isoformat()}"
            )

    async def _check_reached(self, app: str, host: str) -> None:
        """Raises AcmeFailure unless a request to the host reaches this Envoy."""
        token, answer = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        async with self._answering(app, {token: answer}):
            for left in reversed(range(TRIES)):  # Envoy's workers follow within milliseconds
                fault = await self._fault(f"http://{host}{self._port}{CHALLENGES}{token}", answer)
                if fault is None:
                    return
                if left:
                    await asyncio.sleep(0.1)
        raise AcmeFailure(
            f"{host} does not lead here ({fault}): point its DNS to this machine, and let port "
            f"{self._port[1:] or HTTP} reach Slipway's public port"
        )

    async def _fault(self, url: str, expected: str) -> str | None:
        """Returns None if the answer is as expected; else what is wrong, without a word of the answer: it may come from
        a server that only the platform can reach.
        """
        try:
            async with asyncio.timeout(REACH_S), self._http.stream("GET", url, follow_redirects=False) as answer:
                if answer.status_code != 200:
                    return f"another server answered with status {answer.status_code}"
                async for part in answer.aiter_bytes():
                    return None if part == expected.encode() else "another server answered"
                return "another server answered"
        except TimeoutError:
            return f"there is no answer within {REACH_S:g} s"
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            return type(error).__name__

    async def _order(self, app: str, host: str) -> CheckedCertificate:
        route, now = self._control.route(app), self._control.now()
        self._control.put(route.model_copy(update={"orders": [*recent_orders(route, now), now]}))
        async with self._registering:
            account = await self._in_thread(lambda: self._account.account(self._client))
        order = await self._in_thread(lambda: self._client.begin(account, host))
        async with self._answering(app, order.answers):
            chain = await self._in_thread(lambda: self._client.finish(order))
        return check_certificate(chain, order.key, host, self._control.now())

    @contextlib.asynccontextmanager
    async def _answering(self, app: str, answers: Mapping[str, str]) -> AsyncIterator[None]:
        """Lets Envoy answer the challenges of the app's hosts during the `async with` block. Raises Problem."""
        self._set_answers(app, {**self._control.route(app).challenges, **answers})
        try:
            await self._control.confirm(app, CONFIRM_S)
            yield
        finally:
            if route := self._control.routes.get(app):
                self._set_answers(app, {key: each for key, each in route.challenges.items() if key not in answers})

    def _set_answers(self, app: str, answers: Mapping[str, str]) -> None:
        route = self._control.route(app)
        self._control.put(route.model_copy(update={"challenges": dict(answers)}))

    async def _in_thread(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)
