"""Validates and applies a change of an environment: its replicas, memory, variables and secrets. Pure."""

import re
from collections.abc import Mapping
from datetime import datetime

from pydantic import ConfigDict, Field, SecretStr

from services.deployer.releases.environment import Override, SecretOverride
from shared.errors import Invalid
from shared.manifest import Manifest, Size
from shared.models import Model

OWN_NAMES = re.compile(r"SLIPWAY_.*|PORT|PATH|HOME|TMPDIR|OFREP_ENDPOINT|FLAGS_TOKEN|REDIS_URL")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
CAN_BE_HELD = re.compile(r"[^\0\ud800-\udfff]*")
KIB = 2**10
# Linux takes 128 KiB for one variable, and by default 2 MiB for all of them and the command.
VALUE_BYTES = 64 * KIB
ALL_BYTES = 256 * KIB


class EnvironmentPatch(Model):
    """Request body of `PATCH /apps/{app}/environments/{env}`. It changes only the given fields; null removes a variable
    or secret. A secret with the name of a variable replaces that variable, and the other way round.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    replicas: int | None = Field(None, description="Number of instances, within the manifest's bounds.")
    memory: Size | None = Field(
        None, description="Limit of each instance, bytes or `128m`, within the manifest's bounds."
    )
    variables: dict[str, str | None] = Field({}, repr=False, description="The app's environment variables.")
    secrets: dict[str, SecretStr | None] = Field(
        {},
        description="Variables whose values only the app receives. At most 64 KiB each, 256 KiB with all variables.",
    )

    def check_bounds(self, manifest: Manifest) -> None:
        """Raises Invalid if replicas or memory are not within the manifest's bounds."""
        resources = manifest.resources
        if manifest.volumes and self.replicas not in (None, 1):
            remedy = "must be 1: an app with a volume runs as one instance; remove its volumes to run more"
            raise Invalid("replicas", remedy)
        for name, asked, least, most in (
            ("replicas", self.replicas, resources.replicas, resources.max_replicas),
            ("memory", self.memory, resources.memory, resources.max_memory),
        ):
            if asked is not None and not least <= asked <= most:
                bounds = f"from {least} (resources.{name}) to {most} (resources.max_{name})"
                raise Invalid(
                    name, f"{asked} is outside the manifest's bounds, {bounds}; change the manifest to go further"
                )

    def applied(self, to: Override, now: datetime) -> Override:
        """Returns the override with this patch applied. Raises Invalid for a wrong name, and for a value that is too
        long or not allowed in an environment variable; the message never contains the value.
        """
        variables = {name: value for name, value in self.variables.items() if value is not None}
        secrets = {
            name: SecretOverride(value=value, set_at=now) for name, value in self.secrets.items() if value is not None
        }
        _check_each("variables", variables)
        _check_each("secrets", {name: secret.value.get_secret_value() for name, secret in secrets.items()})
        for name in variables.keys() & secrets.keys():
            raise Invalid(f"secrets.{name}", "is given as a variable too; give it as one of them")
        no_variables, no_secrets = self.variables.keys() | secrets.keys(), self.secrets.keys() | variables.keys()
        changed = to.model_copy(
            update={
                "replicas": to.replicas if self.replicas is None else self.replicas,
                "memory": to.memory if self.memory is None else self.memory,
                "variables": {n: v for n, v in to.variables.items() if n not in no_variables} | variables,
                "secrets": {n: s for n, s in to.secrets.items() if n not in no_secrets} | secrets,
                "locked": {
                    n: locked
                    for n, locked in to.locked.items()
                    if n not in (no_variables if locked.set_at is None else no_secrets)
                },
            }
        )
        if variables or secrets:
            _check_all("secrets" if secrets else "variables", changed.all_variables())
        return changed


def _check_each(kind: str, values: Mapping[str, str]) -> None:
    for name, value in values.items():
        field = f"{kind}.{name.encode(errors='replace').decode()}"
        if not NAME.fullmatch(name):
            raise Invalid(field, "is not a name; use letters, digits and _, and do not begin with a digit")
        if OWN_NAMES.fullmatch(name):
            raise Invalid(field, "is set by the platform itself; choose another name")
        if not CAN_BE_HELD.fullmatch(value):
            raise Invalid(field, "contains NUL or half a surrogate pair, which no variable can hold; encode it")
        if (length := len(value.encode())) > VALUE_BYTES:
            raise Invalid(field, f"has {length} bytes, at most {VALUE_BYTES} are allowed; keep it in a file")


def _check_all(kind: str, variables: Mapping[str, str]) -> None:
    length = sum(len(name) + len(value.encode()) for name, value in variables.items())
    if length > ALL_BYTES:
        raise Invalid(
            kind,
            f"variables and secrets would have {length} bytes in total, names included; "
            f"at most {ALL_BYTES} are allowed; remove some, or keep large ones in a file",
        )
