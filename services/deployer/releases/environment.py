"""An environment of an app: how many instances, how much memory, which variables and secrets, what an app is told."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.manifest import Manifest, Resources
from shared.models import TRACK_OF, Desired, Environment

# Of neither variables nor secrets: as in instances of versions without a vault, which so need not be replaced.
NOTHING = "44136fa355b3678a"


@dataclass(frozen=True)
class EnvironmentId:
    """Where releases go: one environment of one app."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


class SecretOverride(BaseModel):
    """Shown to nobody but the app. `set_at`: the last time."""

    value: SecretStr
    set_at: datetime


class Locked(BaseModel):
    """A value, encrypted. `set_at`: of a secret, the last time; None: it is a variable's."""

    sealed: str = Field(repr=False)
    set_at: datetime | None = None


class Override(BaseModel):
    """What was asked for besides the manifest. None: as the manifest says. `memory` in bytes. `locked`: variables and
    secrets whose values cannot be decrypted with the key that is there. `configuration`: a short digest of what an
    instance can get only by being started (another one means that it is out of date), as the store read it.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    replicas: int | None = None
    memory: int | None = None
    variables: dict[str, str] = Field({}, repr=False)
    secrets: dict[str, SecretOverride] = {}
    locked: dict[str, Locked] = {}
    configuration: str = NOTHING

    def told(self) -> dict[str, str]:
        """What is in the app's environment by this, by name."""
        return self.variables | {name: secret.value.get_secret_value() for name, secret in self.secrets.items()}

    @property
    def problem(self) -> str:
        """Why no instance can be started with it, and the remedy; empty: it can."""
        if not self.locked:
            return ""
        return (
            f"the values of {', '.join(sorted(self.locked))} cannot be decrypted; restore <home>/key and restart the "
            "deployer, or set them again (or to null)"
        )


def desired(override: Override, resources: Resources) -> Desired:
    """The override, held within the bounds of the manifest that is to run: a later commit may have moved them."""
    return Desired(
        replicas=_within(override.replicas, resources.replicas, resources.max_replicas),
        memory=_within(override.memory, resources.memory, resources.max_memory),
        variables=override.variables,
    )


def _within(asked: int | None, least: int, most: int) -> int:
    return least if asked is None else min(max(asked, least), most)


@dataclass(frozen=True)
class AppFacts:
    """What the platform tells apps about itself: the same for all apps of an environment."""

    ofrep_endpoint: str
    redis_url: str = field(repr=False)
    flags_tokens: Mapping[Environment, str] = field(repr=False)

    def environment_of(
        self, place: EnvironmentId, release: str, commit: str, variables: Mapping[str, str]
    ) -> dict[str, str]:
        """The variables of an instance, but for those that only its driver knows (PORT, PATH, HOME, TMPDIR)."""
        return {
            **variables,
            "SLIPWAY_APP": place.app,
            "SLIPWAY_ENVIRONMENT": place.environment,
            "SLIPWAY_TRACK": TRACK_OF[place.environment],
            "SLIPWAY_RELEASE": release,
            "SLIPWAY_COMMIT": commit,
            "OFREP_ENDPOINT": self.ofrep_endpoint,
            "FLAGS_TOKEN": self.flags_tokens[place.environment],
            "REDIS_URL": self.redis_url,
        }

    def digest(self, environment: Environment) -> str:
        """Another one means that instances were told what does not hold any more."""
        text = "\n".join((self.ofrep_endpoint, self.redis_url, self.flags_tokens[environment]))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sync_body(hosts_of: Manifest, health_of: Manifest, app: str, domain: str) -> dict[str, Any]:
    """What the proxy is told of the app."""
    return {"hosts": [*hosts_of.hosts, f"{app}.{domain}"], "health": health_of.run.health}
