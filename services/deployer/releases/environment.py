"""Models an environment of an app: settings that override its manifest, and its instances' environment variables."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from shared.manifest import Manifest, Resources
from shared.models import TRACK_OF, Desired, Environment
from shared.state import Table, transition

# The digest of no variables and no secrets, as in instances of versions without encryption: they need no replacement.
NOTHING = "44136fa355b3678a"


@dataclass(frozen=True)
class EnvironmentId:
    """An environment of one app, the target of releases; `str()` gives `<app>/<environment>`."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


class SecretOverride(BaseModel):
    """A secret, whose value only the app receives; `set_at` is the time of its last change."""

    value: SecretStr
    set_at: datetime


class Locked(BaseModel):
    """An encrypted value of a variable or secret. `set_at` is the time of a secret's last change, and None for a
    variable.
    """

    sealed: str = Field(repr=False)
    set_at: datetime | None = None


class EnvironmentState(StrEnum):
    """States what people want of an environment: that it runs, has no instances, or is removed with all that it has."""

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVING = "removing"


ENVIRONMENT_TRANSITIONS: Table[EnvironmentState] = {
    EnvironmentState.RUNNING: frozenset({EnvironmentState.STOPPED, EnvironmentState.REMOVING}),
    EnvironmentState.STOPPED: frozenset({EnvironmentState.RUNNING, EnvironmentState.REMOVING}),
    EnvironmentState.REMOVING: frozenset(),
}


class Lifecycle(BaseModel):
    """The state in which people want the environment, with reason and time, and when they last had it restarted."""

    state: EnvironmentState = EnvironmentState.RUNNING
    reason: str = ""
    since: datetime | None = None
    """Time of the last change of `state`; None: it runs since its first release."""
    has_ended: bool = False
    """True if it is stopped and no instance is left, which an event has said."""
    restarted_at: datetime | None = None
    """Instances that were added earlier are replaced; None: it was never restarted."""
    volumes: list[str] | None = []
    """Names of the volumes that its removal also removes; None: all."""

    @property
    def runs(self) -> bool:
        return self.state is EnvironmentState.RUNNING

    def moved(self, state: EnvironmentState, reason: str, now: datetime) -> "Lifecycle":
        """Returns it in the new state, unchanged if it is in that state. Raises IllegalTransition."""
        if state is self.state:
            return self
        transition(ENVIRONMENT_TRANSITIONS, self.state, state)
        return self.model_copy(update={"state": state, "reason": reason, "since": now, "has_ended": False})


class Override(BaseModel):
    """Settings of an environment that override its manifest; with None, the manifest's value is used."""

    model_config = ConfigDict(hide_input_in_errors=True)

    replicas: int | None = None
    memory: int | None = None
    """Memory limit of each instance, in bytes."""
    variables: dict[str, str] = Field({}, repr=False)
    secrets: dict[str, SecretOverride] = {}
    locked: dict[str, Locked] = {}
    """Variables and secrets that the present key cannot decrypt, by name."""
    configuration: str = NOTHING
    """Digest of variables and secrets; an instance with another digest is replaced."""
    lifecycle: Lifecycle = Lifecycle()

    def all_variables(self) -> dict[str, str]:
        """Returns the environment variables that this override adds, secrets included, by name."""
        return self.variables | {name: secret.value.get_secret_value() for name, secret in self.secrets.items()}

    @property
    def problem(self) -> str:
        """Returns the reason why no instance can be started with this override, and the remedy; empty if one can."""
        if not self.locked:
            return ""
        return (
            f"the values of {', '.join(sorted(self.locked))} cannot be decrypted; restore <home>/key and restart the "
            "deployer, or set them again (or to null)"
        )


def desired(override: Override, resources: Resources) -> Desired:
    """Returns the desired settings: the override, limited to the manifest's bounds, which a commit may have changed."""
    return Desired(
        replicas=_within(override.replicas, resources.replicas, resources.max_replicas),
        memory=_within(override.memory, resources.memory, resources.max_memory),
        variables=override.variables,
    )


def _within(asked: int | None, least: int, most: int) -> int:
    return least if asked is None else min(max(asked, least), most)


@dataclass(frozen=True)
class AppFacts:
    """Addresses and secrets of the platform that all apps of an environment receive."""

    ofrep_endpoint: str
    redis_url: str = field(repr=False)
    flags_tokens: Mapping[Environment, str] = field(repr=False)

    def environment_of(
        self, environment_id: EnvironmentId, release: str, commit: str, variables: Mapping[str, str]
    ) -> dict[str, str]:
        """Returns an instance's environment variables; its driver adds PORT, for processes PATH, HOME and TMPDIR."""
        return {
            **variables,
            "SLIPWAY_APP": environment_id.app,
            "SLIPWAY_ENVIRONMENT": environment_id.environment,
            "SLIPWAY_TRACK": TRACK_OF[environment_id.environment],
            "SLIPWAY_RELEASE": release,
            "SLIPWAY_COMMIT": commit,
            "OFREP_ENDPOINT": self.ofrep_endpoint,
            "FLAGS_TOKEN": self.flags_tokens[environment_id.environment],
            "REDIS_URL": self.redis_url,
        }

    def digest(self, environment: Environment) -> str:
        """Returns a digest of these facts, 16 hex digits; an instance with another digest is replaced."""
        text = "\n".join((self.ofrep_endpoint, self.redis_url, self.flags_tokens[environment]))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sync_body(hosts: Sequence[str], health_of: Manifest, app: str, domain: str) -> dict[str, Any]:
    """Returns the request body of the proxy's `sync` for the app: its host names (`hosts` and its own), and how to
    check its health.
    """
    return {
        "hosts": [*hosts, f"{app}.{domain}"],
        "health": health_of.run.health,
        "health_host": health_host(health_of, app, domain),
    }


def health_host(manifest: Manifest, app: str, domain: str) -> str:
    """Returns the `Host` of the health checks: what the manifest says, else the app's own first host."""
    return manifest.run.health_host or f"{app}.{domain}"
