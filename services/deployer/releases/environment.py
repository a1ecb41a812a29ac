"""Defines an environment of an app: settings that override its manifest, and the environment variables of its
instances.
"""

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

# The digest without variables and secrets, as versions without encryption stored it; such instances stay.
NOTHING = "44136fa355b3678a"


@dataclass(frozen=True)
class EnvironmentId:
    """Identifies an environment of one app. `str()` gives `<app>/<environment>`."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


class SecretOverride(BaseModel):
    """Holds a secret, whose value only the app receives. `set_at` is the time of its last change."""

    value: SecretStr
    set_at: datetime


class Locked(BaseModel):
    """Holds the encrypted value of a variable or secret. `set_at` is the time of a secret's last change; None for a
    variable.
    """

    sealed: str = Field(repr=False)
    set_at: datetime | None = None


class EnvironmentState(StrEnum):
    """Names what people want of an environment: that it runs, that it has no instances, or that it is removed with
    everything that belongs to it.
    """

    RUNNING = "running"
    STOPPED = "stopped"
    REMOVING = "removing"


ENVIRONMENT_TRANSITIONS: Table[EnvironmentState] = {
    EnvironmentState.RUNNING: frozenset({EnvironmentState.STOPPED, EnvironmentState.REMOVING}),
    EnvironmentState.STOPPED: frozenset({EnvironmentState.RUNNING, EnvironmentState.REMOVING}),
    EnvironmentState.REMOVING: frozenset(),
}


class Lifecycle(BaseModel):
    """Records the state in which people want the environment, with reason and time, and when they last restarted it."""

    state: EnvironmentState = EnvironmentState.RUNNING
    reason: str = ""
    since: datetime | None = None
    """Time of the last change of `state`; None if the environment was never stopped or removed."""
    has_ended: bool = False
    """True if the environment is stopped, no instance is left, and an event has reported that."""
    restarted_at: datetime | None = None
    """Time of the last restart, at which older instances are replaced; None if there was none."""
    volumes: list[str] | None = []
    """Names of the volumes that the removal of the environment also deletes; None stands for all."""

    @property
    def runs(self) -> bool:
        return self.state is EnvironmentState.RUNNING

    def moved(self, state: EnvironmentState, reason: str, now: datetime) -> "Lifecycle":
        """Returns the record with the new state; unchanged if it is already in that state. Raises IllegalTransition if
        the present state does not allow the new one.
        """
        if state is self.state:
            return self
        transition(ENVIRONMENT_TRANSITIONS, self.state, state)
        return self.model_copy(update={"state": state, "reason": reason, "since": now, "has_ended": False})


class Override(BaseModel):
    """Holds settings of an environment that override its manifest. For a setting that is None, the manifest's value is
    used.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    replicas: int | None = None
    memory: int | None = None
    """Memory limit of each instance, in bytes."""
    variables: dict[str, str] = Field({}, repr=False)
    secrets: dict[str, SecretOverride] = {}
    locked: dict[str, Locked] = {}
    """Variables and secrets whose values cannot be decrypted with the present key, by name."""
    configuration: str = NOTHING
    """Digest of variables and secrets. An instance that was started with another digest is replaced."""
    lifecycle: Lifecycle = Lifecycle()

    def all_variables(self) -> dict[str, str]:
        """Returns the environment variables that this override adds, secrets included, by name."""
        return self.variables | {name: secret.value.get_secret_value() for name, secret in self.secrets.items()}

    @property
    def problem(self) -> str:
        """Returns the reason why no instance can be started with this override, with the remedy; empty if one can."""
        if not self.locked:
            return ""
        return (
            f"the values of {', '.join(sorted(self.locked))} cannot be decrypted; restore <home>/key and restart the "
            "deployer, or set them again (or to null)"
        )


def desired(override: Override, resources: Resources) -> Desired:
    """Returns the desired settings: those of the override, or else of the manifest's resources. Overridden values are
    limited to the manifest's bounds, which a later commit may have changed.
    """
    return Desired(
        replicas=_within(override.replicas, resources.replicas, resources.max_replicas),
        memory=_within(override.memory, resources.memory, resources.max_memory),
        variables=override.variables,
    )


def _within(asked: int | None, least: int, most: int) -> int:
    return least if asked is None else min(max(asked, least), most)


@dataclass(frozen=True)
class AppFacts:
    """Holds the addresses and secrets of the platform that all apps of an environment receive."""

    ofrep_endpoint: str
    redis_url: str = field(repr=False)
    flags_tokens: Mapping[Environment, str] = field(repr=False)

    def environment_of(
        self, environment_id: EnvironmentId, release: str, commit: str, variables: Mapping[str, str]
    ) -> dict[str, str]:
        """Returns the environment variables of an instance. Its driver adds PORT and, for processes, PATH, HOME and
        TMPDIR.
        """
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
        """Returns a digest (16 hex digits) of the addresses and secrets that apps of the environment get. An instance
        that was started with another digest is replaced.
        """
        text = "\n".join((self.ofrep_endpoint, self.redis_url, self.flags_tokens[environment]))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def sync_body(hosts: Sequence[str], health_of: Manifest, app: str, domain: str) -> dict[str, Any]:
    """Returns the request body of the proxy's `POST /apps/{app}/sync`: the app's host names (`hosts` and the default
    one, `<app>.<domain>`), and how to check the health of its instances, by the manifest `health_of`.
    """
    return {
        "hosts": [*hosts, f"{app}.{domain}"],
        "health": health_of.run.health,
        "health_host": health_host(health_of, app, domain),
    }


def health_host(manifest: Manifest, app: str, domain: str) -> str:
    """Returns the `Host` header of the health checks: the one in the manifest, else the app's default host name."""
    return manifest.run.health_host or f"{app}.{domain}"
