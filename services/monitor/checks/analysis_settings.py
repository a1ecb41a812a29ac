"""Defines an app's own metrics and hooks: as people set them, as they are stored, and as they are shown. Pure."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, Strict, StringConstraints, field_validator, model_validator

from shared.errors import Invalid
from shared.manifest_step import repeated
from shared.models import Model, View

MOST = 10  # metrics, and hooks, of one app
THRESHOLD = 3
NOT_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "content-type", "accept-encoding"})
CheckName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,38}$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,62}$")]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[!-~]([ -~]{0,1998}[!-~])?$")]
CallUrl = Annotated[str, StringConstraints(pattern=r"^https?://[!-~]{1,1990}$")]
Headers = Annotated[
    dict[HeaderName, HeaderValue | None],
    Field(max_length=10, description="Headers of the call. Values are never shown; null keeps the value that is set."),
]


class HookTime(StrEnum):
    """Names the times at which a hook is called."""

    BEFORE = "before"
    """Called until it passes; the first step of the rollout does not end before that."""
    DURING = "during"
    """Called every 60 s while the rollout goes on."""
    AFTER = "after"
    """Called once the rollout has ended, until it answers."""


class _CallBody(Model):
    name: CheckName
    url: CallUrl = Field(description="Address that is called; it must lead to the internet, or be allowed.")
    headers: Headers = Field({})

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"is not an address that can be called: {error}") from error
        if not host:
            raise ValueError("names no host")
        if "@" in parts.netloc or parts.fragment:
            raise ValueError("has a user, a password or a fragment; put credentials into `headers`")
        return url

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @field_validator("headers")
    @classmethod
    def _own_headers(cls, headers: dict[str, str | None]) -> dict[str, str | None]:
        if reserved := sorted(NOT_OURS & {name.lower() for name in headers}):
            raise ValueError(f"{', '.join(reserved)} is set by the platform; leave it out")
        if again := repeated([name.lower() for name in headers]):
            raise ValueError(f"{again} stands there twice")
        return headers


class OwnMetricBody(_CallBody):
    """Sets a metric of the app: `GET` of its URL answers `{"value": 0.98}` or a number. The metric is read every 10 s,
    and fails the canary once `threshold` values in a row were above `at_most` or below `at_least`.
    """

    at_most: float | None = Field(None, allow_inf_nan=False)
    at_least: float | None = Field(None, allow_inf_nan=False)
    threshold: int = Field(THRESHOLD, ge=1, le=100, description="Checks in a row that fail the canary.")

    @model_validator(mode="after")
    def _bounded(self) -> "OwnMetricBody":
        if self.at_most is None and self.at_least is None:
            raise ValueError("nothing says what is good; give at_most, at_least or both")
        if self.at_most is not None and self.at_least is not None and self.at_most < self.at_least:
            raise ValueError("at_most is below at_least, so that no value is good")
        return self


class HookBody(_CallBody):
    """Sets a hook: its URL gets a `POST` with the state of the rollout. 200 with `{"pass": false, "reason": "…"}` fails
    the canary; any other 2xx passes.
    """

    when: Annotated[HookTime, Strict(False)]


class AnalysisBody(Model):
    """Request body of `PUT /apps/{app}/analysis`."""

    metrics: list[OwnMetricBody] = Field([], max_length=MOST)
    hooks: list[HookBody] = Field([], max_length=MOST)

    @model_validator(mode="after")
    def _named_once(self) -> "AnalysisBody":
        for calls in (self.metrics, self.hooks):
            if again := repeated([call.name for call in calls]):
                raise ValueError(f"{again} stands there twice; each metric, and each hook, needs a name of its own")
        return self


class OutsideCall(View):
    """Holds what a stored metric and a stored hook have in common. The values of `headers` are encrypted; in a view for
    people they are null.
    """

    name: str
    url: str
    headers: dict[str, str | None] = Field({})


class OwnMetric(OutsideCall):
    at_most: float | None = None
    at_least: float | None = None
    threshold: int = THRESHOLD

    def breach(self, value: float) -> str | None:
        """Returns which bound the value breaks, as words after the value; None if it breaks none."""
        if self.at_most is not None and value > self.at_most:
            return f"above {self.at_most:g}"
        if self.at_least is not None and value < self.at_least:
            return f"below {self.at_least:g}"
        return None


class Hook(OutsideCall):
    when: HookTime


class AnalysisSettings(View):
    """Holds an app's own metrics and hooks."""

    app: str
    metrics: list[OwnMetric] = Field([])
    hooks: list[Hook] = Field([])
    set_at: datetime

    def shown(self) -> "AnalysisSettings":
        """Returns the settings without the headers' values."""
        metrics = [each.model_copy(update={"headers": dict.fromkeys(each.headers)}) for each in self.metrics]
        hooks = [each.model_copy(update={"headers": dict.fromkeys(each.headers)}) for each in self.hooks]
        return self.model_copy(update={"metrics": metrics, "hooks": hooks})


Call = TypeVar("Call", bound=OutsideCall)


def changed(
    app: str, body: AnalysisBody, before: AnalysisSettings | None, seal: Callable[[str], str], now: datetime
) -> AnalysisSettings:
    """Returns the settings that `body` asks for, with header values encrypted by `seal`. A header without a value keeps
    the value that the metric or hook of the same name has in `before`. Raises Invalid if there is no such value, or if
    it would now be sent to another host.
    """
    metrics = [OwnMetric.model_validate(each.model_dump()) for each in body.metrics]
    hooks = [Hook.model_validate(each.model_dump()) for each in body.hooks]
    return AnalysisSettings(
        app=app,
        metrics=_sealed("metrics", metrics, before.metrics if before else [], seal),
        hooks=_sealed("hooks", hooks, before.hooks if before else [], seal),
        set_at=now,
    )


def _sealed(place: str, calls: Sequence[Call], before: Iterable[Call], seal: Callable[[str], str]) -> list[Call]:
    earlier = {call.name: call for call in before}
    sealed = []
    for number, call in enumerate(calls):
        kept = earlier.get(call.name)
        headers: dict[str, str | None] = {}
        for name, value in call.headers.items():
            field = f"{place}.{number}.headers.{name}"
            headers[name] = seal(value) if value is not None else _kept(field, name, call, kept)
        sealed.append(call.model_copy(update={"headers": headers}))
    return sealed


def _kept(field: str, name: str, call: OutsideCall, before: OutsideCall | None) -> str:
    value = before.headers.get(name) if before else None
    if before is None or value is None:
        raise Invalid(field, "no value is set that could be kept; give one")
    if _origin(before.url) != _origin(call.url):
        raise Invalid(field, "its value was set for another host and is not sent to this one; give it again")
    return value


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme.lower(), parts.netloc.lower()
