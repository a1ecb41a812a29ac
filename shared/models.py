"""Defines the data that services exchange: REST bodies, registry entries and events."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, Strict, StringConstraints, model_validator

from shared.manifest import DRAIN_S, Manifest

Item = TypeVar("Item")
AppName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=39)]
Commit = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{40}$")]
BuildId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*-[0-9]+$", max_length=60)]


class Model(BaseModel):
    """Defines what all request bodies share: an unknown field is an error, so that a typing error is noticed, and so is
    a value of another JSON type, as `"5"` or `true` for a number. An Enum's field needs `Strict(False)`, because JSON
    has only its text.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _numbers(cls, data: Any) -> Any:
        return whole_numbers(data)


def whole_numbers(data: Any) -> Any:
    """Returns the fields of an object with whole numbers as int (`5.0` as 5, which is the same number in JSON). Returns
    data that are not an object unchanged.
    """
    if not isinstance(data, dict):
        return data
    return {
        name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in data.items()
    }


class View(BaseModel):
    """Defines what all response bodies and stored data share: unknown fields are ignored, because a newer version may
    have written them.
    """

    model_config = ConfigDict(extra="ignore")


class Page(View, Generic[Item]):
    """Holds a page of a list. `next` is the cursor of the following page, or null on the last one."""

    items: list[Item]
    next: str | None = None


class Environment(StrEnum):
    PRODUCTION = "production"
    CANARY = "canary"


EnvironmentName = Annotated[Environment, Strict(False)]
"""Name of an environment in a request body."""


class Track(StrEnum):
    """Names the groups of an app's instances in its route: production's (`stable`) and the canary's."""

    STABLE = "stable"
    CANARY = "canary"


TRACK_OF = {Environment.PRODUCTION: Track.STABLE, Environment.CANARY: Track.CANARY}


class ServiceRecord(View):
    name: str
    id: str
    url: str
    version: str
    started_at: datetime


class InstanceState(StrEnum):
    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    STOPPED = "stopped"
    UNHEALTHY = "unhealthy"
    FAILED = "failed"


class InstanceRecord(View):
    """Describes an instance in the registry. `address` is `host:port`; `memory_limit` is in bytes."""

    id: str
    release: str
    commit: str
    component: str = "web"
    address: str
    state: InstanceState
    memory_limit: int
    updated_at: datetime
    drain_s: int = Field(DRAIN_S, description="Seconds that it has to end its requests: `run.drain` of its release.")


class Event(View):
    """Reports, as an entry of the stream `events`, that something reached a new state. Further fields depend on
    `type`.
    """

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Kind and state that was reached: `build.failure`, `release.live`.")
    app: str = Field(description="The app that the event is about; empty for flags.")
    at: datetime = Field(description="When the state was reached.")
    id: str = Field("", description="The id of the build, release, instance, rollout, alert, decision or flag.")
    reason: str = Field("", description="Why the state was reached, for people.")
    notify: list[str] = Field([], description="Addresses from the manifest, for messages.")


# --- build ----------------------------------------------------------------------------------------------------------


class BuildState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCESS = "success"
    FAILURE = "failure"
    ERROR = "error"
    CANCELLED = "cancelled"
    SUPERSEDED = "superseded"


class Artifact(View):
    """Names the result of a build that passed; `digest` is `sha256:…`."""

    kind: Literal["directory", "image"]
    ref: str = Field(description="Path in the home (kind `directory`), or the name of an image (kind `image`).")
    digest: str
    built_in: str = Field("", description="Absolute path at which the directory was built; empty for an image.")


class BuildView(View):
    """Holds the fields of `GET /builds/{id}` that other services read; the answer has more."""

    id: str
    app: str
    commit: Commit
    branch: str | None = None
    environment: Environment | None = None
    state: BuildState
    reason: str = ""
    rebuilds: str | None = Field(
        None, description="Release whose artifact is gone, or cannot be run, and whose commit this builds again."
    )
    passed: bool = Field(False, description="True once every gate has passed; only then may the deployer release it.")
    manifest: Manifest | None = None
    artifact: Artifact | None = None
    promotion_refusal: str = Field(
        "",
        description="Only in `GET /builds/{id}`: steps and gates of production that the build was not judged by, and "
        "the remedy; empty if it may be released to production.",
    )


# --- deployer -------------------------------------------------------------------------------------------------------


class ReleaseState(StrEnum):
    PENDING = "pending"
    STARTING = "starting"
    LIVE = "live"
    RETIRED = "retired"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"


def release_number(release: str) -> int:
    """Returns the number at the end of a release id, which counts up per app: 9 for `notes-r9`; 0 for any other
    text.
    """
    number = release.rpartition("-r")[2]
    return int(number) if number.isdecimal() and len(number) <= 15 else 0


class ReleaseRequest(Model):
    build: BuildId = Field(description="Id of a build that passed every gate, `notes-17`.", examples=["notes-17"])


class ReleaseFailure(View):
    """Describes the failure of an instance, because of which its release failed."""

    instance: str
    reason: str
    at: datetime
    exit_code: int | None = Field(None, description="128 and more: a signal (code - 128) ended it. Null: it ran on.")
    probe: str = Field("", description="Result of the last probe of the health path.")
    log: list[str] = Field(
        [],
        description="First 5 and last 15 lines of its output, without the platform's own probes and with secrets "
        "masked.",
    )


class ReleaseWait(View):
    """Describes how long a starting release has waited for its instances to be ready. The release fails once `waited_s`
    reaches `limit_s`, or `away_s` reaches 600.
    """

    waited_s: float = Field(description="Seconds since its first instance was added, without those of `away_s`.")
    limit_s: float = Field(
        description="The manifest's `run.ready_within`; up to four times that while processes wait for a CPU."
    )
    away_s: float = Field(0, description="Seconds in which a part of the platform was down, which do not count.")
    is_held: bool = Field(False, description="True while a part of the platform is down: waiting then does not count.")


class ReleaseView(View):
    """Describes a release of a build in an environment. `reason` says why it is in its state, or what it waits for.
    `live_at` is null until it goes live, `ended_at` until it ends.
    """

    id: str
    app: str
    environment: Environment
    build: str
    commit: Commit
    state: ReleaseState
    reason: str = ""
    unchanged: bool = Field(False, description="True if the requested build was live already.")
    created_at: datetime
    switched_at: datetime | None = Field(
        None, description="When all its instances got visitors and the old ones began to drain."
    )
    live_at: datetime | None = None
    ended_at: datetime | None = None
    problem: str | None = Field(
        None, description="Why no instance of it can be started, as its artifact is gone, and what is done about it."
    )
    wait: ReleaseWait | None = Field(None, description="The wait for its instances, while it starts.")
    superseded_by: str | None = Field(None, description="The newer release that took its place before it was live.")
    platform_fault: bool = Field(False, description="True if it failed because a part of the platform was down.")
    previous: str | None = Field(None, description="The release that was live before this one.")
    failure: ReleaseFailure | None = Field(
        None, description="The instance's failure because of which the release failed."
    )
    strategy: Literal["start-first", "stop-first"] = "start-first"
    down_s: float | None = Field(
        None, description="Seconds in which stop-first left no instance in the route; null: unknown."
    )
    cut_requests: int = Field(0, description="Requests that `run.drain` was too short for, see `reason`.")


class RetireRequest(Model):
    state: Literal["retired", "rolled_back"]
    reason: str = ""


class Desired(View):
    replicas: int = 1
    memory: int = Field(64 * 2**20, description="Memory limit of each instance, bytes.")
    variables: dict[str, str] = Field({}, repr=False)


class EnvironmentView(View):
    """Holds the fields of `GET /apps/{app}/environments/{env}` that other services read; the answer has more."""

    desired: Desired
    state: str = Field("running", description="What people want of it: `running`, `stopped` or `removing`.")
    reason: str = ""
    problem: str | None = Field(None, description="Reason why no instance can be started, and the remedy.")
    release: ReleaseView | None = None
    instances: list[InstanceRecord] = []


class InstanceStats(View):
    """Holds raw counters of one instance that has not ended. `cpu_seconds` counts from `started_at`. `restarts` and
    `oom_kills` include the instances that this one replaced. `memory_limit`, `working_set`, `min_memory` and
    `max_memory` are in bytes; the limit may be changed between the last two, which are `memory` and `max_memory` of the
    manifest. `memory_pressure` is the percentage of the last 10 s in which processes waited for memory (PSI `some
    avg10`), null if the machine does not report it.
    """

    id: str
    app: str
    environment: Environment
    release: str
    component: str = "web"
    state: InstanceState
    started_at: datetime
    memory_limit: int
    working_set: int
    cpu_seconds: float
    restarts: int
    oom_kills: int
    min_memory: int
    max_memory: int
    memory_pressure: float | None = None
