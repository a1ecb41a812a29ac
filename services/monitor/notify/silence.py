"""Defines silences. While one is active, messages that match it are recorded but not sent; aborts still happen.
Pure.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, Field, model_validator

from services.monitor.rules.rule import RuleName
from shared.models import AppName, Environment, Model, View

LONGEST_S = 30 * 86400


class SilenceBody(Model):
    """Request body of `POST /silences`. The silence mutes messages that match every given field (null matches all).
    With `rule`, it mutes only messages about alerts of that rule. At least one of `app`, `environment` and `rule` is
    required.
    """

    app: AppName | None = None
    environment: Environment | None = None
    rule: RuleName | None = None
    duration_s: float | None = Field(None, gt=0, le=LONGEST_S, description="Seconds from now; give this or `until`.")
    until: AwareDatetime | None = Field(None, description="End of the silence, RFC 3339.")
    reason: str = Field(min_length=1, max_length=500, examples=["we move the database until four"])

    @model_validator(mode="after")
    def _whole(self) -> "SilenceBody":
        if self.app is None and self.environment is None and self.rule is None:
            raise ValueError("nothing says what to mute; give app, environment or rule")
        if (self.duration_s is None) == (self.until is None):
            raise ValueError("give either duration_s or until")
        return self


class Silence(View):
    id: str
    app: str | None
    environment: str | None
    rule: str | None
    reason: str
    created_at: datetime
    until: datetime

    def is_active(self, now: datetime) -> bool:
        return now < self.until


def new_silence(silence_id: str, body: SilenceBody, now: datetime) -> Silence:
    until = body.until or now + timedelta(seconds=body.duration_s or 0)
    same = body.model_dump(include={"app", "environment", "rule", "reason"})
    return Silence(id=silence_id, created_at=now, until=until, **same)


def muting(silences: Iterable[Silence], app: str, environment: str, rule: str | None, now: datetime) -> Silence | None:
    """Returns the active silence that mutes a message about the app's environment; None if there is none. `rule` is the
    rule of the alert, None for a message that is not about an alert.
    """
    for silence in silences:
        fits = (
            silence.app in (None, app) and silence.environment in (None, environment) and silence.rule in (None, rule)
        )
        if fits and silence.is_active(now):
            return silence
    return None
