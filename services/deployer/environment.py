"""An environment of an app: how many instances, how much memory, which variables, and what an app is told."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel

from shared.errors import Invalid
from shared.manifest import Manifest, Resources
from shared.models import TRACK_OF, Desired, Environment

OWN_NAMES = re.compile(r"SLIPWAY_.*|PORT|PATH|HOME|TMPDIR|OFREP_ENDPOINT|FLAGS_TOKEN|REDIS_URL")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Place:
    """Where releases go: one environment of one app."""

    app: str
    environment: Environment

    def __str__(self) -> str:
        return f"{self.app}/{self.environment}"


class Override(BaseModel):
    """What was asked for besides the manifest. None: as the manifest says. `memory` in bytes."""

    replicas: int | None = None
    memory: int | None = None
    variables: dict[str, str] = {}


def desired(override: Override, resources: Resources) -> Desired:
    """The override, held within the bounds of the manifest that is to run: a later commit may have moved them."""
    return Desired(
        replicas=_within(override.replicas, resources.replicas, resources.max_replicas),
        memory=_within(override.memory, resources.memory, resources.max_memory),
        variables=override.variables,
    )


def _within(asked: int | None, least: int, most: int) -> int:
    return least if asked is None else min(max(asked, least), most)


def check_override(override: Override, manifest: Manifest) -> None:
    """Raises Invalid where the override is not within the manifest's bounds, or names a variable of the platform."""
    resources = manifest.resources
    if manifest.volumes and override.replicas not in (None, 1):
        raise Invalid("replicas", "must be 1: an app with a volume runs as one instance; give up its volumes for more")
    for name, asked, least, most in (
        ("replicas", override.replicas, resources.replicas, resources.max_replicas),
        ("memory", override.memory, resources.memory, resources.max_memory),
    ):
        if asked is not None and not least <= asked <= most:
            bounds = f"from {least} (resources.{name}) to {most} (resources.max_{name})"
            raise Invalid(
                name, f"{asked} is outside the manifest's bounds, {bounds}; change the manifest to go further"
            )
    for variable, value in override.variables.items():
        if not VARIABLE.fullmatch(variable):
            raise Invalid(f"variables.{variable}", "is not a name; use letters, digits and _, no digit first")
        if OWN_NAMES.fullmatch(variable):
            raise Invalid(f"variables.{variable}", "is set by the platform itself; choose another name")
        if "\0" in value:
            raise Invalid(f"variables.{variable}", "holds a NUL character, which no environment can; encode it")


def configuration(wanted: Desired) -> str:
    """A short digest of what an instance can get only by being started; another digest means that it is out of date."""
    text = json.dumps(wanted.variables, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class AppFacts:
    """What the platform tells apps about itself: the same for all apps of an environment."""

    ofrep_endpoint: str
    redis_url: str = field(repr=False)
    flags_tokens: Mapping[Environment, str] = field(repr=False)

    def environment_of(self, place: Place, release: str, commit: str, variables: Mapping[str, str]) -> dict[str, str]:
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


def sync_body(hosts_of: Manifest, health_of: Manifest, app: str, domain: str) -> dict[str, Any]:
    """What the proxy is told of the app."""
    return {"hosts": [*hosts_of.hosts, f"{app}.{domain}"], "health": health_of.run.health}
