"""Defines a step of the manifest: its commands, dependencies, conditions, test services and reports."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Stage(StrEnum):
    BUILD = "build"
    TEST = "test"
    ANALYSIS = "analysis"
    DEPLOY = "deploy"


def repeated(names: list[str]) -> str:
    """Returns the names that occur more than once, separated by commas; an empty text if there are none."""
    return ", ".join(sorted({name for name in names if names.count(name) > 1}))


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


StepName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]{0,62}$")]
Glob = Annotated[str, Field(min_length=1, max_length=200)]
Globs = Annotated[list[Glob], Field(max_length=16), BeforeValidator(_as_list, json_schema_input_type=Glob | list[Glob])]
Environment = Literal["production", "canary"]  # as `shared.models.Environment`, which imports this file
Environments = Annotated[
    list[Environment], BeforeValidator(_as_list, json_schema_input_type=Environment | list[Environment])
]
Variables = Annotated[dict[str, str], Field(description="Environment variables, in addition to the platform's own.")]
SecretNames = Annotated[list[str], Field(description="Names of the app's secrets that become environment variables.")]


ReportPaths = str | Annotated[list[str], Field(min_length=1, max_length=16)]


class Reports(Strict):
    """Reports are files that a step writes for gates: a path relative to the repository's root, a glob (`*` matches any
    text without a `/`, `**` any number of folders), or a list of both. All reports of one kind are added up.
    """

    junit: ReportPaths | None = Field(None, description="JUnit XML, for `test_failures`.")
    coverage: ReportPaths | None = Field(
        None, description="Cobertura XML or LCOV, for `coverage` and `changed_coverage`."
    )
    sarif: ReportPaths | None = Field(None, description="SARIF, for `findings` and `new_findings`.")

    def by_kind(self) -> dict[str, list[str]]:
        """Returns kind → paths and globs, for the kinds of reports that the step writes."""
        return {kind: [files] if isinstance(files, str) else files for kind, files in self if files is not None}

    @field_validator("junit", "coverage", "sarif")
    @classmethod
    def _inside(cls, files: ReportPaths | None) -> ReportPaths | None:
        for path in [files] if isinstance(files, str) else files or []:
            if path.startswith("/") or ".." in path.split("/") or not path.strip():
                raise ValueError("must be a path inside the repository, without `..`")
        return files


class When(Strict):
    """A step runs only if all of its conditions that are given are met."""

    branch: Globs = Field([], description="Branches on which it runs; `*` matches all but a `/`, `**` that too.")
    environment: Environments = Field([], description="Environments for whose builds the step runs.")


class Ready(Strict):
    """A readiness check says when a test service is ready. Without entries, it is the image's HEALTHCHECK; if the image
    has none, it is a connection to the port that the image exposes.
    """

    port: int | None = Field(None, ge=1, le=65535, description="Port of the service in a container; also $<NAME>_PORT.")
    command: str | None = Field(None, min_length=1, description="`sh -c` command that exits with 0 once it is ready.")


class _Equipped(Strict):
    environment: Variables = {}
    secrets: SecretNames = []

    @field_validator("environment")
    @classmethod
    def _are_names(cls, environment: dict[str, str]) -> dict[str, str]:
        for name in environment:
            if not name or "=" in name:
                raise ValueError(f"{name!r} is no name of a variable; use letters, digits and _")
        return environment

    @field_validator("secrets")
    @classmethod
    def _not_variables_too(cls, secrets: list[str], info: ValidationInfo) -> list[str]:
        if both := sorted(set(secrets) & info.data.get("environment", {}).keys()):
            raise ValueError(f"{', '.join(both)} is in environment too; give it in one of them")
        return secrets


class Service(_Equipped):
    """A test service, such as a database, runs at the same time as one step and ends with it."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{0,30}$", description="Its host name, for a step in a container.")
    image: str | None = Field(None, min_length=1, description="Image of the service; needs a platform with containers.")
    command: str | None = Field(
        None,
        min_length=1,
        description="Command that `sh -c` runs instead of the image's own; without containers it gets $PORT.",
    )
    ready: Ready = Field(Ready(), description="Readiness check; the step starts once it passes.")
    timeout: int = Field(60, ge=1, le=600, description="Seconds within which the service must be ready.")


class Step(_Equipped):
    """A step runs commands in the checkout, one after the other, until one fails."""

    name: StepName = Field(description="Name of the step, unique in the manifest.")
    stage: Stage = Field(Stage.BUILD, description="build, then test, then analysis; each waits for the one before.")
    image: str | None = Field(None, description="Image that the step runs in, where steps run in containers.")
    commands: list[str] = Field(min_length=1, description="Commands, each run by an `sh -e -c` of its own.")
    depends_on: list[str] | None = Field(
        None,
        description="Steps that this one waits for, of its own or an earlier stage; it may run at the same time as all "
        "others of its stage. Without it, the step waits for all that stand before it.",
    )
    when: When = Field(When(), description="Conditions under which the step runs.")
    failure: Literal["fail", "ignore"] = Field("fail", description="`ignore`: a failure is shown, but stops nothing.")
    services: list[Service] = Field([], max_length=8, description="Services that are ready before the step starts.")
    reports: Reports = Field(Reports(), description="Report files that the step writes, for gates.")
    timeout: int = Field(600, ge=1, le=7200, description="Seconds after which the step fails.")

    @field_validator("stage")
    @classmethod
    def _not_deploy(cls, stage: Stage) -> Stage:
        if stage is Stage.DEPLOY:
            raise ValueError("deploy is the platform's own stage; a step is of build, test or analysis")
        return stage

    @field_validator("services")
    @classmethod
    def _services_differ(cls, services: list[Service]) -> list[Service]:
        if names := repeated([service.name for service in services]):
            raise ValueError(f"two services are named {names}; give each its own name")
        return services
