"""Prints, in the launcher's terminal, which services are not ready, and why."""

import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import urlsplit

import httpx

from shared.config import SERVICES, ServiceName, SharedSettings
from shared.host.redis_log import is_damaged, last_words

REDIS_S = 3.0  # after which a Redis that has not started is told
LOOK_S = 10.0
REPAIR = "end this stack (Ctrl-C), and run `make repair-redis`, which cuts off what cannot be read, after a copy"


class ServiceWatch:
    """Asks the services whether they are ready. Until all are ready for the first time, it prints every `report_s`
    seconds those that are not; if Redis does not run, it prints why after 3 s. Later it prints each service that was
    not ready at two checks in a row (`look_s` seconds apart), and when it is ready again. While `is_stopping` returns
    True, no service is asked.
    """

    def __init__(
        self,
        settings: SharedSettings,
        report_s: float,
        is_stopping: Callable[[], bool],
        *,
        look_s: float = LOOK_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._report_s = report_s
        self._is_stopping = is_stopping
        self._look_s = look_s
        self._clock = clock
        self._started = self._reported_at = clock()
        self._looked_at = float("-inf")
        self._waiting: dict[ServiceName, str] = dict.fromkeys(SERVICES, "no answer yet")
        self._told: set[ServiceName] = set()
        self._redis_log = settings.home / "logs" / "redis.log"
        self._logged_before = self._redis_log.stat().st_size if self._redis_log.exists() else 0
        self._redis_words = ""
        self.seconds: float | None = None
        """Seconds until all services were ready for the first time; None until they are."""

    def step(self) -> None:
        """Asks the services, if the time for the next check has come."""
        now = self._clock()
        if self.seconds is None:
            self._begin(now)
        elif now - self._looked_at >= self._look_s:
            self._look(now)

    def _begin(self, now: float) -> None:
        self._waiting = self._unready(self._waiting)
        if self._is_stopping():
            return
        if not self._waiting:
            self.seconds = now - self._started
            self._looked_at = now
            return
        if now - self._started >= REDIS_S:
            self._tell_redis()
        if now - self._reported_at >= self._report_s:
            self._reported_at = now
            for service, why in self._waiting.items():
                _say(f"{service} is not ready after {now - self._started:.0f} s: {why}; see {self._log(service)}")
            _say("still waiting; Ctrl-C ends the stack")

    def _look(self, now: float) -> None:
        self._looked_at = now
        before, self._waiting = self._waiting, self._unready(SERVICES)
        if self._is_stopping():
            return
        for service, why in self._waiting.items():
            if service in before and service not in self._told:
                self._told.add(service)
                self._tell_redis()
                _say(f"{service} is not ready: {why}; see {self._log(service)}")
        for service in self._told - self._waiting.keys():
            self._told.discard(service)
            _say(f"{service} is ready again")

    def _tell_redis(self) -> None:
        words = "" if self._redis_listens() else last_words(self._redis_log, self._logged_before)
        if words and words != self._redis_words:
            self._redis_words = words
            _say(f"Redis does not run; its last words: {words}; see {self._redis_log}")
            if is_damaged(words):
                _say(f"Its data is damaged: {REPAIR}")

    def _redis_listens(self) -> bool:
        try:
            with socket.create_connection((self._settings.host, urlsplit(self._settings.redis_url).port or 6379), 1):
                return True
        except OSError:
            return False

    def _unready(self, services: Iterable[ServiceName]) -> dict[ServiceName, str]:
        """Returns service → reason, for those of the services that are not ready."""
        waiting: dict[ServiceName, str] = {}
        headers = {"Authorization": f"Bearer {self._settings.platform_token()}"}
        with httpx.Client(headers=headers, timeout=2, verify=False) as client:
            for service in services:
                if self._is_stopping():
                    break
                try:
                    answer = client.get(f"{self._settings.url(service)}/ready")
                    if answer.status_code != 200:
                        waiting[service] = _problems(answer.json())
                except (httpx.HTTPError, ValueError) as error:
                    waiting[service] = type(error).__name__
        return waiting

    def _log(self, program: str) -> str:
        return str(self._settings.home / "logs" / f"{program}.log")


def _problems(answer: Mapping[str, Mapping[str, str]]) -> str:
    problems = answer.get("problems", {})
    causes = {name: why for name, why in problems.items() if not name.startswith("loop ")}  # loops fail because of them
    return "; ".join(f"{name}: {why}" for name, why in (causes or problems).items()) or str(answer)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
