"""The app's manifest, `slipway.yml`: its schema. Build reads it from the commit, the deployer from the build."""

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator, model_validator

MIB = 2**20
_SIZE = re.compile(r"^(\d+)([kmg]?)b?$", re.IGNORECASE)
_FACTOR = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}
_PATH = re.compile(r"(/[A-Za-z0-9._-]+)+")
_SYSTEM = {"proc", "sys", "dev", "etc"}
WORKDIR = "/app"  # of a generated Dockerfile: what is mounted there would hide the app


def parse_size(value: Any) -> Any:
    """`64m` → 67108864 (m is MiB); an int passes as bytes. Raises ValueError with the remedy."""
    if isinstance(value, str):
        match = _SIZE.match(value.strip())
        if not match:
            raise ValueError("is not a size; write it like 64m or 1g")
        return int(match[1]) * _FACTOR[match[2].lower()]
    return value


def size(value: float) -> str:
    """Bytes as a person reads them: 67108864 → `64 MiB`."""
    mib = value / MIB
    return f"{mib:.0f} MiB" if mib >= 10 or mib == int(mib) else f"{mib:.1f} MiB"


Size = Annotated[int, BeforeValidator(parse_size), Field(ge=4 * MIB)]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stage(StrEnum):
    BUILD = "build"
    TEST = "test"
    ANALYSIS = "analysis"
    DEPLOY = "deploy"


class Reports(Strict):
    """Paths, relative to the repository's root, of what a step writes."""

    junit: str | None = None
    coverage: str | None = Field(None, description="Cobertura XML or LCOV.")
    sarif: str | None = None

    @field_validator("junit", "coverage", "sarif")
    @classmethod
    def _inside(cls, path: str | None) -> str | None:
        if path is not None and (path.startswith("/") or ".." in path.split("/") or not path.strip()):
            raise ValueError("must be a path inside the repository, without `..`")
        return path


class Step(Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,62}$")
    stage: Stage = Stage.BUILD
    image: str | None = None
    commands: list[str] = Field(min_length=1)
    environment: dict[str, str] = {}
    secrets: list[str] = Field([], description="Names of the app's secrets that it finds in its environment.")
    reports: Reports = Reports()
    timeout: int = Field(600, ge=1, le=7200, description="Seconds.")

    @field_validator("secrets")
    @classmethod
    def _not_variables_too(cls, secrets: list[str], info: ValidationInfo) -> list[str]:
        if both := sorted(set(secrets) & info.data.get("environment", {}).keys()):
            raise ValueError(f"{', '.join(both)} is in environment too; give it in one of them")
        return secrets

    @field_validator("stage")
    @classmethod
    def _not_deploy(cls, stage: Stage) -> Stage:
        if stage is Stage.DEPLOY:
            raise ValueError("deploy is the platform's own stage; a step is of build, test or analysis")
        return stage


class Gates(Strict):
    """Thresholds. None: not asked for. `coverage` and `changed_coverage` in percent, at least; all others: at most."""

    test_failures: int | None = Field(None, ge=0)
    coverage: float | None = Field(None, ge=0, le=100, allow_inf_nan=False)
    changed_coverage: float | None = Field(
        None, ge=0, le=100, allow_inf_nan=False, description="Of the lines changed since the last build that passed."
    )
    findings: int | None = Field(None, ge=0)
    new_findings: int | None = Field(None, ge=0, description="Those that the last build that passed had not.")
    complexity: int | None = Field(None, ge=1)
    function_length: int | None = Field(None, ge=1)
    secrets: int | None = Field(None, ge=0)


class Flaky(Strict):
    """What is done about tests that fail. None: the app's value, else the platform's (1 and 5)."""

    reruns: int | None = Field(None, ge=0, le=1, description="How often a step whose tests fail is run again.")
    at_most: int | None = Field(
        None, ge=0, le=20, description="With more failing tests that are not known as flaky it is not run again."
    )


class Run(Strict):
    command: str | None = Field(None, description="Run by `sh -c`, with $PORT set.")
    port: int = Field(8000, ge=1, le=65535, description="Of the container; a process is told its own PORT.")
    health: str = Field("/up", pattern=r"^/[^\s]*$")


class Resources(Strict):
    memory: Size = 64 * MIB
    max_memory: Size = 512 * MIB
    replicas: int = Field(1, ge=1, le=64)
    max_replicas: int = Field(4, ge=1, le=64)

    @model_validator(mode="after")
    def _bounds(self) -> "Resources":
        if self.memory > self.max_memory:
            raise ValueError("memory is above max_memory; raise max_memory or lower memory")
        if self.replicas > self.max_replicas:
            raise ValueError("replicas is above max_replicas; raise max_replicas or lower replicas")
        return self


class Canary(Strict):
    weight: int = Field(33, ge=0, le=100, description="Percent of new visitors.")


class Volume(Strict):
    """A folder that outlives the app's instances; `path`: where a container has it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")
    path: str

    @field_validator("path")
    @classmethod
    def _own_place(cls, path: str) -> str:
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")):
            raise ValueError(
                "is not a plain absolute path; write it like /data, without `..`, `//` or a `/` at its end"
            )
        if path == WORKDIR or path.split("/")[1] in _SYSTEM:
            raise ValueError(f"is the system's or the app's own; choose another, like /data or {WORKDIR}/data")
        return path


class Manifest(Strict):
    app: str
    steps: list[Step] = []
    gates: Gates = Gates()
    flaky: Flaky = Flaky()
    run: Run = Run()
    hosts: list[
        Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")]
    ] = []
    volumes: list[Volume] = Field([], max_length=8)
    resources: Resources = Field(Resources(), validate_default=True)  # after `volumes`, which its validator looks at
    canary: Canary = Canary()
    notify: list[str] = []

    @field_validator("steps")
    @classmethod
    def _names_differ(cls, steps: list[Step]) -> list[Step]:
        names = [step.name for step in steps]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two steps are named {', '.join(sorted(twice))}; give each its own name")
        return steps

    @field_validator("volumes")
    @classmethod
    def _volumes_differ(cls, volumes: list[Volume]) -> list[Volume]:
        for field in ("name", "path"):
            values = [getattr(volume, field) for volume in volumes]
            if twice := {value for value in values if values.count(value) > 1}:
                raise ValueError(f"two volumes have the {field} {', '.join(sorted(twice))}; give each its own {field}")
        return volumes

    @field_validator("resources")
    @classmethod
    def _one_instance_on_a_volume(cls, resources: Resources, info: ValidationInfo) -> Resources:
        """Two instances that write to the same files would spoil them."""
        if not info.data.get("volumes"):
            return resources
        if resources.replicas > 1:
            raise ValueError("replicas is above 1, but an app with a volume runs as one instance; set replicas to 1")
        if "max_replicas" in resources.model_fields_set and resources.max_replicas > 1:
            raise ValueError(
                "max_replicas is above 1, but an app with a volume runs as one instance; set it to 1 or leave it out"
            )
        return resources.model_copy(update={"max_replicas": 1})
