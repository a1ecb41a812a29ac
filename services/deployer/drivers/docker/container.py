"""What an instance is as a container: its name, labels and walls, and what the engine's own words say of it. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from services.deployer.drivers.driver import KILLED, InstanceSpec, InstanceStatus, VolumeMount
from shared.host.docker_engine import APP, STACK

INSTANCE = "io.slipway.instance"
ENVIRONMENT = "io.slipway.environment"
TOLD = {APP: "SLIPWAY_APP", ENVIRONMENT: "SLIPWAY_ENVIRONMENT"}
RELEASE = "io.slipway.release"
CREATED = "created"
PIDS = 512
LOGS = {"max-size": "8m", "max-file": "2"}
# What an app ends with that is told to end (0, 143), does not (137), or whose engine vanished under it (255).
TAKEN_DOWN = (0, 137, 143, 255)


@dataclass(frozen=True)
class Stack:
    """Whose containers they are: those of another `id` on the same engine are not touched. All are on `network`."""

    id: str
    network: str

    def container_name(self, instance_id: str) -> str:
        """One instance, one name: the engine itself refuses a second copy."""
        return f"slipway-{self.id}-{instance_id}"

    def volume_name(self, volume: VolumeMount) -> str:
        return f"slipway-{self.id}-{volume.app}-{volume.environment}-{volume.name}"

    def volume_labels(self, volume: VolumeMount) -> dict[str, str]:
        """Whose it is. Its name alone does not tell where names have hyphens."""
        return {STACK: self.id, APP: volume.app, ENVIRONMENT: volume.environment}

    @property
    def label(self) -> str:
        return f"{STACK}={self.id}"

    @property
    def instances(self) -> list[str]:
        """Labels of its instances alone: build's containers, and what a person runs from an image, have the first."""
        return [self.label, INSTANCE]


def creation(spec: InstanceSpec, stack: Stack) -> dict[str, Any]:
    """How the container is made. The image is named by its digest: a tag may be moved. A limit without one for swap
    would be twice as much. `init`: an app without a handler of its own ignores SIGTERM as the first process.
    """
    told = {label: spec.environment.get(name, "") for label, name in TOLD.items()}
    release = spec.environment.get("SLIPWAY_RELEASE", "")
    places = {volume.variable: volume.path for volume in spec.volumes}
    mounts = [{"Type": "volume", "Source": stack.volume_name(volume), "Target": volume.path} for volume in spec.volumes]
    return {
        "image": spec.artifact.digest,
        "name": stack.container_name(spec.id),
        "entrypoint": ["sh", "-c", spec.command] if spec.command else None,
        "environment": {**spec.environment, **places, "PORT": str(spec.port), "SLIPWAY_INSTANCE": spec.id},
        "labels": {STACK: stack.id, INSTANCE: spec.id, RELEASE: release, **told},
        "network": stack.network,
        "mounts": mounts,
        "init": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "pids_limit": PIDS,
        "log_config": {"Type": "json-file", "Config": LOGS},
        "mem_limit": spec.memory,
        "memswap_limit": spec.memory,
    }


def status_of(
    attributes: Mapping[str, Any],
    network: str,
    taken_down_until: datetime | None,
    oom_kills: int,
    was_oom: bool | None,
) -> InstanceStatus:
    """From the engine's inspection of a container that has been started. `taken_down_until`: when the engine was
    started, or the platform stopped, last. `oom_kills`: those that were seen. `was_oom`: whether its last end was seen
    to be one, None if nobody saw it. The engine's own word (`OOMKilled`) is also said of a later kill, because a child
    was killed at the limit long before.
    """
    state, labels = attributes["State"], attributes["Config"]["Labels"]
    running = bool(state["Running"])
    exit_code = None if running else int(state["ExitCode"])
    had_oom = not running and bool(state["OOMKilled"])
    interrupted = not running and not was_oom and _was_taken_down(state, taken_down_until)
    oom_killed = had_oom and exit_code == KILLED and was_oom is not False and not interrupted
    return InstanceStatus(
        id=labels[INSTANCE],
        address=_address(attributes, network) if running else "",
        running=running,
        started_at=moment(state["StartedAt"]),
        exit_code=exit_code,
        interrupted=interrupted,
        oom_killed=oom_killed,
        oom_kills=0 if running else max(oom_kills, int(had_oom)),
    )


def moment(engine_time: str) -> datetime:
    """RFC 3339 with nanoseconds, which are cut to microseconds."""
    return datetime.fromisoformat(engine_time)


def has_started(attributes: Mapping[str, Any]) -> bool:
    """Not so if somebody was cut off between making and starting it, or if it could not be started."""
    return bool(attributes["State"]["Status"] != CREATED)


def memory_limit(attributes: Mapping[str, Any]) -> int:
    return int(attributes["HostConfig"]["Memory"])


def engine_start(networks: Iterable[Mapping[str, Any]]) -> datetime | None:
    """The engine does not say when it was started. But it makes its own network `bridge` anew each time, after it has
    ended what was left of its containers (seen after SIGTERM and SIGKILL); unless containers lived on (`live-restore`):
    what ended meanwhile then ended by itself. None: it has no such network (`--bridge=none`), so nobody knows.
    """
    return next((moment(each["Created"]) for each in networks if each["Name"] == "bridge"), None)


def _address(attributes: Mapping[str, Any], network: str) -> str:
    """Empty while, or because, it is not attached."""
    ip = attributes["NetworkSettings"]["Networks"].get(network, {}).get("IPAddress", "")
    port = next((each[5:] for each in attributes["Config"]["Env"] if each.startswith("PORT=")), "")
    return f"{ip}:{port}" if ip else ""


def _was_taken_down(state: Mapping[str, Any], taken_down_until: datetime | None) -> bool:
    """An engine that starts finds ended what it, or its machine, took down with it."""
    ended_before = taken_down_until is not None and moment(state["FinishedAt"]) <= taken_down_until
    return ended_before and state["ExitCode"] in TAKEN_DOWN
