"""Defines the manifest of an app, `slipway.yml`, except for its steps, which are in `manifest_step.py`. Build reads the
manifest from the commit; the deployer gets it with the build.
"""

import re
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic.json_schema import SkipJsonSchema

from shared.canary import Canary
from shared.manifest_step import Reports, Service, Stage, Step, Strict, repeated

__all__ = ["Manifest", "Reports", "Service", "Stage", "Step"]

MIB = 2**20
_SIZE = re.compile(r"^(\d+)([kmg]?)b?$", re.IGNORECASE)
_FACTOR = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SYSTEM = {"proc", "sys", "dev", "etc"}
TCP = "tcp"
HEALTH = rf"^(/[^\s]*|{TCP})?$"
FORWARDED_PROTO = "http"  # Envoy's listeners have no TLS, so visitors' requests and health checks use http
WORKDIR = "/app"  # folder of the app in a generated Dockerfile: a mount there would hide the app


def parse_size(value: Any) -> Any:
    """Returns a size in bytes from a text: 67108864 for `64m` (m is MiB). Returns any value other than a text
    unchanged. Raises ValueError for a text that is not a size.
    """
    if isinstance(value, str):
        match = _SIZE.match(value.strip())
        if not match:
            raise ValueError("is not a size; write it like 64m or 1g")
        return int(match[1]) * _FACTOR[match[2].lower()]
    return value


def size(value: float) -> str:
    """Formats a number of bytes for people: `64 MiB` for 67108864."""
    mib = value / MIB
    return f"{mib:.0f} MiB" if mib >= 10 or mib == int(mib) else f"{mib:.1f} MiB"


LEAST = 4 * MIB
_Written = Annotated[str, Field(pattern=r"^\s*\d+[kmgKMG]?[bB]?\s*$")] | Annotated[int, Field(ge=LEAST)]
Size = Annotated[int, BeforeValidator(parse_size, json_schema_input_type=_Written), Field(ge=LEAST)]


MOST_EXCLUDED = 100
Excluded = Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=MOST_EXCLUDED)]


class Gates(Strict):
    """Gates are thresholds that a commit must keep; null switches a gate off. `coverage`, `changed_coverage` and
    `comment_ratio` are lower bounds, all others upper bounds.
    """

    test_failures: int | None = Field(None, ge=0, description="Number of failed tests in the JUnit reports.")
    coverage: float | None = Field(None, ge=0, le=100, allow_inf_nan=False, description="Percent of covered lines.")
    changed_coverage: float | None = Field(
        None,
        ge=0,
        le=100,
        allow_inf_nan=False,
        description="Percent of covered lines among those changed since the last passed build.",
    )
    findings: int | None = Field(None, ge=0, description="Number of findings in all SARIF reports.")
    new_findings: int | None = Field(None, ge=0, description="Findings that the last passed build did not have.")
    complexity: int | None = Field(None, ge=1, description="Highest cyclomatic complexity of a function.")
    function_length: int | None = Field(None, ge=1, description="Number of lines of the longest function.")
    comment_ratio: float | None = Field(
        None, ge=0, le=1000, allow_inf_nan=False, description="Lines with comments, in percent of the lines of code."
    )
    secrets: int | None = Field(None, ge=0, description="Number of secrets found in the commit's files.")


class Flaky(Strict):
    """These rules say when failed tests are run again. For a field that is null, the value that is set on the app
    applies; if none is set there, the platform's default (1 for `reruns`, 5 for `at_most`).
    """

    reruns: int | None = Field(None, ge=0, le=1, description="How often a step whose tests fail is run again.")
    at_most: int | None = Field(
        None,
        ge=0,
        le=20,
        description="Largest number of failed tests, known flaky ones left out, with which a step is run again.",
    )


_HOST = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*"
Host = Annotated[str, Field(pattern=f"^{_HOST}$")]
HostPattern = Annotated[str, Field(pattern=rf"^(\*\.)?{_HOST}$")]


class HealthCheck(NamedTuple):
    """Describes a health check: a GET of `path`, which passes if the status of the answer is at least 200 and below
    `below`.
    """

    path: str
    """If empty, the check only opens a TCP connection, and `below` is not used."""
    below: int

    def __str__(self) -> str:
        return self.path or TCP


def health_check(health: str) -> HealthCheck:
    """Returns the health check that `run.health` of a manifest asks for; deployer and Envoy use the same. For an empty
    `health`, any answer to `/` with a status from 200 to 499 passes, since the app may have no page there.
    """
    if health == TCP:
        return HealthCheck("", 0)
    return HealthCheck(health, 400) if health else HealthCheck("/", 500)


class Run(Strict):
    command: str | None = Field(None, description="Command that starts the app: `sh -c` runs it with $PORT set.")
    command_from: SkipJsonSchema[str | None] = None
    """Files that `command` was inferred from, in words; None if the manifest gives the command. Only Slipway sets this
    field.
    """
    port: int = Field(8000, ge=1, le=65535, description="Port of the app in a container; a process gets its own $PORT.")
    health: str = Field(
        "",
        pattern=HEALTH,
        description="Path that answers 2xx or 3xx once the app can serve, or `tcp`: an open port is enough. Without "
        "it, `/` must answer with a status below 500.",
    )
    health_host: Host | None = Field(
        None, description="`Host` of the health checks. Without it, `<app>.<domain>`, as visitors send it."
    )
    ready_within: int = Field(
        60, ge=1, le=1800, description="Seconds within which a new instance must be ready, and get visitors."
    )


class Resources(Strict):
    memory: Size = Field(64 * MIB, description="Memory limit that an instance starts with: bytes, or a text like 64m.")
    max_memory: Size = Field(512 * MIB, description="Largest memory limit, whether by scaling or by hand.")
    replicas: int = Field(1, ge=1, le=64, description="Number of instances that the app starts with.")
    max_replicas: int = Field(4, ge=1, le=64, description="Largest number of instances, whether by scaling or by hand.")

    @model_validator(mode="after")
    def _bounds(self) -> "Resources":
        if self.memory > self.max_memory:
            raise ValueError("memory is above max_memory; raise max_memory or lower memory")
        if self.replicas > self.max_replicas:
            raise ValueError("replicas is above max_replicas; raise max_replicas or lower replicas")
        return self


class Volume(Strict):
    """A volume is a folder that outlives the app's instances. `path` is its mount point in a container."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="Name of the volume, unique in the app.")
    path: str = Field(description="Absolute path of the mount point, like /data.")

    @field_validator("path")
    @classmethod
    def _own_place(cls, path: str) -> str:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError(
                "is not a plain absolute path; write it like /data, without `..`, `//` or a `/` at its end"
            )
        if path == WORKDIR or path.split("/")[1] in _SYSTEM:
            raise ValueError(f"belongs to the system or holds the app; choose another, like /data or {WORKDIR}/data")
        return path


class Manifest(Strict):
    """The manifest says how Slipway builds, judges and runs a commit of an app."""

    app: str = Field(description="Name of the app, the same as in the URL that it is pushed to.")
    steps: list[Step] = Field([], max_length=100, description="Steps that build, test and analyse each commit.")
    gates: Gates = Field(Gates(), description="Thresholds that a commit must keep; they only tighten the app's own.")
    exclude: Excluded = Field(
        [],
        description="Vendored and generated files, by patterns as in .gitignore, that `complexity` and "
        "`function_length` leave out of later commits of the branch, once this one has passed.",
    )
    flaky: Flaky = Field(Flaky(), description="Rules for running failed tests again.")
    run: Run = Field(Run(), description="The way to run the app.")
    hosts: list[HostPattern] = Field(
        [],
        description="Further host names of the app; `*.example.com` means all that end so. `<app>.<domain>` is always "
        "one.",
    )
    volumes: list[Volume] = Field([], max_length=8, description="Folders that outlive the app's instances.")
    # Defined after `volumes`, because its validator reads them.
    resources: Resources = Field(Resources(), validate_default=True, description="Memory and number of instances.")
    canary: Canary = Field(Canary(), description="Share of visitors that a canary gets, and its steps.")
    notify: list[str] = Field([], description="Addresses that get messages about the app: apprise URLs.")

    @field_validator("steps")
    @classmethod
    def _names_differ(cls, steps: list[Step]) -> list[Step]:
        if names := repeated([step.name for step in steps]):
            raise ValueError(f"two steps are named {names}; give each its own name")
        return steps

    @field_validator("volumes")
    @classmethod
    def _volumes_differ(cls, volumes: list[Volume]) -> list[Volume]:
        for field in ("name", "path"):
            if values := repeated([getattr(volume, field) for volume in volumes]):
                raise ValueError(f"two volumes have the {field} {values}; give each its own {field}")
        return volumes

    @field_validator("resources")
    @classmethod
    def _one_instance_on_a_volume(cls, resources: Resources, info: ValidationInfo) -> Resources:
        """Returns `resources`, with `max_replicas` set to 1 if the app has volumes: two instances that write to the
        same files would corrupt them. Raises ValueError if the manifest asks for more.
        """
        if not info.data.get("volumes"):
            return resources
        if resources.replicas > 1:
            raise ValueError("replicas is above 1, but an app with a volume runs as one instance; set replicas to 1")
        if "max_replicas" in resources.model_fields_set and resources.max_replicas > 1:
            raise ValueError(
                "max_replicas is above 1, but an app with a volume runs as one instance; set it to 1 or leave it out"
            )
        return resources.model_copy(update={"max_replicas": 1})
